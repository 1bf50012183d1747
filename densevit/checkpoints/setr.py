"""SETR's neck and heads: names and configurations of mmsegmentation."""

from typing import Any

from densevit.checkpoints.conv_names import NORM_NAMES, conv_blocks
from densevit.checkpoints.mmseg_terms import batch_norm, batch_norm_relu, classifier, layer_norm_eps, plain_relu
from densevit.checkpoints.rules import Rule
from densevit.checkpoints.settings import Settings
from densevit.errors import ConfigError

NECK = {
    "mmseg": [
        Rule("norm.{}.*", "norms.{}.*"),
        *conv_blocks("mmseg", "mla.channel_proj.{}", "lateral_convs.{}"),
        *conv_blocks("mmseg", "mla.feat_extract.{}", "output_convs.{}"),
    ]
}
HEAD = {
    "mmseg": [
        Rule("norm.*", "norm.*"),
        # two convolutions under each number are those of one map (MLA); one alone is a step of one map's
        *(
            Rule(
                tuple(f"up_convs.{{}}.{place}.{theirs}.*" for place in (0, 1)),
                tuple(f"branches.{{}}.{place}.{ours}.*" for place in (0, 1)),
            )
            for theirs, ours in (("conv", "conv"), (NORM_NAMES["mmseg"], "norm"))
        ),
        *conv_blocks("mmseg", "up_convs.{}.0", "branches.0.{}"),
        Rule("conv_seg.*", "classify.*"),
    ]
}
LN = {"type": "LN", "eps": 1e-6}


def _fixed(part: Settings) -> None:
    """LayerNorms of eps 1e-6, the only ones here."""
    if (eps := layer_norm_eps(part, "norm_layer", LN)) != 1e-6:
        raise ConfigError(f"{part.where}.norm_layer has eps {eps}; densevit has 1e-6 there.")


def aggregated(neck: Settings) -> dict[str, Any]:
    """MLANeck."""
    _fixed(neck)
    config = {
        "type": "MLANeck",
        "in_channels": tuple(neck.take("in_channels")),
        "channels": neck.take("out_channels"),
        "norm": batch_norm(neck),
    }
    plain_relu(neck, None)
    neck.ignore("init_cfg")
    neck.done()
    return config


def one_map(head: Settings) -> tuple[None, dict[str, Any]]:
    """SETRUPHead: naive and progressive up-sampling, which differ in numbers alone."""
    _fixed(head)
    batch_norm_relu(head)
    count, kernel = head.take("num_convs", 1), head.take("kernel_size", 3)
    return None, {
        "type": "SETRHead",
        "decoder": "naive" if kernel == 1 else "pup",
        "num_convs": count,
        "kernel_size": kernel,
        "channels": head.take("channels"),
        "up_scale": head.take("up_scale", 4),
        **classifier(head),
    }


def several_maps(head: Settings) -> tuple[None, dict[str, Any]]:
    """SETRMLAHead."""
    batch_norm_relu(head)
    head.ignore("channels")  # those of all maps together
    return None, {
        "type": "SETRHead",
        "decoder": "mla",
        "channels": head.take("mla_channels", 128),
        "up_scale": head.take("up_scale", 4),
        **classifier(head),
    }


CONFIGS = {("mmseg", "MLANeck"): aggregated}
