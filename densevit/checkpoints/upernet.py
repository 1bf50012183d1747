"""UPerNet, its necks for plain vision transformers and FCN's head: names and configurations of mmsegmentation, names of
transformers."""

from typing import Any

from densevit.checkpoints.conv_names import conv_blocks
from densevit.checkpoints.mmseg_terms import batch_norm, batch_norm_relu, classifier, plain_relu
from densevit.checkpoints.rules import Rule
from densevit.checkpoints.settings import NotBuilt, Settings
from densevit.errors import ConfigError

FUSION = {
    source: [
        *conv_blocks(source, "psp_modules.{}.1", "pooled_convs.{}"),
        *conv_blocks(source, "bottleneck", "bottleneck"),
        *conv_blocks(source, "lateral_convs.{}", "lateral_convs.{}"),
        *conv_blocks(source, "fpn_convs.{}", "fpn_convs.{}"),
        *conv_blocks(source, "fpn_bottleneck", "fusion"),
    ]
    for source in ("mmseg", "transformers")
}
FCN = {
    source: [
        *conv_blocks(source, "convs.{}", "convs.{}"),
        *conv_blocks(source, "conv_cat", "join"),
        Rule(f"{name}.*", "classify.*"),
    ]
    for source, name in (("mmseg", "conv_seg"), ("transformers", "classifier"))
}
MULTI_LEVEL = {
    "mmseg": [
        Rule("lateral_convs.{}.conv.*", "lateral_convs.{}.*"),
        Rule("convs.{}.conv.*", "convs.{}.*"),
    ]
}
DECONV = {
    "mmseg": [
        Rule("upsample_4x.0.*", "up4.first.*"),
        Rule("upsample_4x.1.*", "up4.norm.*"),
        Rule("upsample_4x.3.*", "up4.second.*"),
        Rule("upsample_2x.0.*", "up2.first.*"),
    ]
}
POOLED_AND_FUSED = ("psp_modules.", "bottleneck.", "lateral_convs.", "fpn_convs.", "fpn_bottleneck.")
"""First words of what belongs to our UPerNet in a head that also classifies."""


def fused(head: Settings) -> tuple[dict[str, Any], dict[str, Any]]:
    """UPerHead: the neck that fuses, and the head that classifies what comes out."""
    neck = {
        "type": "UPerNet",
        "channels": head.take("channels"),
        "pool_scales": tuple(head.take("pool_scales", (1, 2, 3, 6))),
    }
    batch_norm_relu(head)
    config = {"type": "FCNHead", "num_convs": 0, **classifier(head)}
    if config.get("align_corners"):
        neck["align_corners"] = True
    return neck, config


def fcn(head: Settings) -> tuple[None, dict[str, Any]]:
    """FCNHead."""
    head.expect("dilation", 1)
    count, width = head.take("num_convs", 2), head.take("channels")
    config = {"type": "FCNHead", "num_convs": count, "channels": width, "kernel_size": head.take("kernel_size", 3)}
    config |= {"concat_input": head.take("concat_input", True), "norm": batch_norm(head)}
    plain_relu(head)
    config |= classifier(head)
    if count == 0 and not config["concat_input"]:
        for key in ("channels", "kernel_size", "norm"):  # of convolutions that there are none of
            config.pop(key)
    return None, config


def multi_level(neck: Settings) -> dict[str, Any]:
    """MultiLevelNeck."""
    for key in ("norm_cfg", "act_cfg"):
        neck.expect(key, None)
    config = {
        "type": "MultiLevelNeck",
        "in_channels": tuple(neck.take("in_channels")),
        "channels": neck.take("out_channels"),
        "scales": tuple(neck.take("scales", (0.5, 1, 2, 4))),
        "odd_sizes": "floor",
    }
    neck.ignore("init_cfg")
    neck.done()
    return config


def deconv_pyramid(neck: Settings) -> dict[str, Any]:
    """Feature2Pyramid."""
    scales, width = tuple(neck.take("rescales", (4, 2, 1, 0.5))), neck.take("embed_dim")
    if scales not in ((4, 2, 1, 0.5), (2, 1, 0.5, 0.25)):
        raise NotBuilt(f"{neck.where}.rescales are {scales}; densevit has 4, 2, 1, 0.5 or 2, 1, 0.5, 0.25 there.")
    neck.left.setdefault("norm_cfg", {"type": "SyncBN"})
    if batch_norm(neck) is None:
        raise ConfigError(f"{neck.where}.norm_cfg is None; densevit has batch norm there.")
    neck.ignore("init_cfg")
    neck.done()
    return {"type": "DeconvPyramid", "in_channels": (width,) * len(scales), "scales": scales, "odd_sizes": "floor"}


CONFIGS = {("mmseg", "MultiLevelNeck"): multi_level, ("mmseg", "Feature2Pyramid"): deconv_pyramid}
