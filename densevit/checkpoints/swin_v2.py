"""Swin V2: names and configurations of microsoft, timm and transformers.

Ours are microsoft's names, with one norm for each returned map.
"""

from typing import Any

from densevit.checkpoints.rules import Rule
from densevit.checkpoints.settings import Settings
from densevit.checkpoints.swin import OFFICIAL, TIMM, pack, transformers_table, unpack
from densevit.checkpoints.swin_configs import (
    SIZES,
    microsoft_rest,
    side_pair,
    square_maps,
    still_windows,
    timm_rest,
    transformers_rest,
)

TABLES = {
    "microsoft": OFFICIAL,
    "timm": TIMM,
    "transformers": transformers_table(
        "swinv2",
        [
            Rule(
                tuple(f"attention.self.{name}.weight" for name in ("query", "key", "value")),
                "attn.qkv.weight",
                pack,
                unpack,
            ),
            Rule("attention.self.query.bias", "attn.q_bias"),
            Rule("attention.self.value.bias", "attn.v_bias"),
            Rule("attention.self.logit_scale", "attn.logit_scale"),
            Rule("attention.self.continuous_position_bias_mlp.*", "attn.cpb_mlp.*"),
            Rule("attention.self.relative_position_index", None),
            Rule("attention.self.relative_coords_table", None),
        ],
    ),
}

AT_192 = {"pretrained_window_sizes": [12, 12, 12, 6]}
TIMM_NAMED = {
    f"swinv2_{size}_window{name}": {**SIZES[size], **windows}
    for sizes, name, windows in (
        (("tiny", "small", "base"), "8_256", {"window_size": 8, "img_size": 256}),
        (("tiny", "small", "base"), "16_256", {"window_size": 16, "img_size": 256}),
        (("base", "large"), "12_192", {"window_size": 12, "img_size": 192}),
        (("base", "large"), "12to16_192to256", {"window_size": 16, "img_size": 256, **AT_192}),
        (("base", "large"), "12to24_192to384", {"window_size": 24, "img_size": 384, **AT_192}),
    )
    for size in sizes
}


def pretrained_windows(settings: Settings, stages: int) -> tuple:
    """`pretrained_window_sizes`, a stage each; 0: the model's own windows."""
    sizes = settings.take("pretrained_window_sizes", [0] * stages)[:stages]
    return tuple(tuple(size) if isinstance(size, (list, tuple)) else size for size in sizes)


def from_microsoft(settings: Settings) -> dict[str, Any]:
    """SwinTransformerV2 of microsoft, a classifier for one size of image."""
    config = microsoft_rest(settings, 0.1)
    image, stages = settings.take("img_size", 224), len(config["arch"]["depths"])
    config["pretrain_size"] = side_pair(image) if settings.take("ape", False) else None
    config |= still_windows(settings, square_maps(min(side_pair(image)), config["patch_size"], stages))
    config |= {"pretrained_window_sizes": pretrained_windows(settings, stages), "output_norm": False}
    settings.done()
    return {"type": "SwinV2", **config, "out_indices": tuple(range(stages))}


def from_timm(settings: Settings) -> dict[str, Any]:
    """timm's swinv2_*, as v1."""
    config = timm_rest(settings, TIMM_NAMED)
    config["pretrained_window_sizes"] = pretrained_windows(settings, len(config["arch"]["depths"]))
    settings.expect("act_layer", "gelu")
    settings.done()
    return {"type": "SwinV2", **config}


def from_transformers(settings: Settings) -> dict[str, Any]:
    """transformers' `swinv2`: one size of image says where windows are smaller and do not shift."""
    image = settings.left.get("image_size", 224)
    config, _ = transformers_rest(settings)
    stages = len(config["arch"]["depths"])
    config |= still_windows(settings, square_maps(side_pair(image)[0], config["patch_size"], stages))
    config |= {"pretrained_window_sizes": pretrained_windows(settings, stages), "output_norm": False}
    settings.done()
    return {"type": "SwinV2", **config}


CONFIGS = {
    ("microsoft", "SwinTransformerV2"): from_microsoft,
    **{("timm", name): from_timm for name in ("SwinTransformerV2", *TIMM_NAMED)},
    **{
        ("transformers", name): from_transformers
        for name in ("swinv2", "Swinv2Model", "Swinv2Backbone", "Swinv2ForImageClassification")
    },
}
"""(source, their type) -> our configuration."""
