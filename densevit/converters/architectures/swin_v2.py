"""Swin V2: microsoft, timm and transformers. Ours are microsoft's names, with one norm for each returned map."""

from typing import Any

from densevit.archs import SWIN
from densevit.converters.architecture import Architecture
from densevit.converters.architectures.swin import (
    MICROSOFT,
    OFFICIAL,
    OUTPUT_NORMS,
    TIMM,
    TIMM_SPEC,
    TRANSFORMERS,
    classifier_windows,
    finish_transformers,
    pack,
    square_windows,
    transformers_keys,
    unpack,
)  # fmt: skip
from densevit.converters.config_spec import ConfigReader, add_defaults, side_pair
from densevit.converters.key_mapping import KeyRule, ignored

KEYS = {
    "swin": OFFICIAL,
    "timm": TIMM,
    "transformers": transformers_keys(
        "swinv2",
        [
            KeyRule(
                tuple(f"attention.self.{n}.weight" for n in ("query", "key", "value")), "attn.qkv.weight", pack, unpack
            ),
            KeyRule("attention.self.query.bias", "attn.q_bias"),
            KeyRule("attention.self.value.bias", "attn.v_bias"),
            KeyRule("attention.self.logit_scale", "attn.logit_scale"),
            KeyRule("attention.self.continuous_position_bias_mlp.*", "attn.cpb_mlp.*"),
            *ignored("attention.self.relative_position_index", "attention.self.relative_coords_table"),
        ],
    ),
}
AT_192 = {"pretrained_window_sizes": [12, 12, 12, 6]}
NAMED = {
    f"swinv2_{size}_window{name}": {**SWIN[size], **windows}
    for sizes, name, windows in (
        (("tiny", "small", "base"), "8_256", {"window_size": 8, "img_size": 256}),
        (("tiny", "small", "base"), "16_256", {"window_size": 16, "img_size": 256}),
        (("base", "large"), "12_192", {"window_size": 12, "img_size": 192}),
        (("base", "large"), "12to16_192to256", {"window_size": 16, "img_size": 256, **AT_192}),
        (("base", "large"), "12to24_192to384", {"window_size": 24, "img_size": 384, **AT_192}),
    )
    for size in sizes
}


def _pretrained_windows(config: dict[str, Any], reader: ConfigReader) -> None:
    """`pretrained_window_sizes`, a stage each; 0: the model's own windows."""
    stages = len(config["arch"]["depths"])
    sizes = reader.pop("pretrained_window_sizes", [0] * stages)[:stages]
    config["pretrained_window_sizes"] = tuple(tuple(s) if isinstance(s, (list, tuple)) else s for s in sizes)


def _microsoft(config: dict[str, Any], reader: ConfigReader) -> None:
    classifier_windows(config, reader)
    _pretrained_windows(config, reader)


def _timm(config: dict[str, Any], reader: ConfigReader) -> None:
    TIMM_SPEC.finish(config, reader)
    _pretrained_windows(config, reader)


def _transformers(config: dict[str, Any], reader: ConfigReader) -> None:
    """One size of image determines where windows are smaller and do not shift."""
    image = reader.remaining.get("image_size", 224)
    finish_transformers(config, reader)
    config |= square_windows(config, reader, side_pair(image)[0])
    config["output_norm"] = False
    _pretrained_windows(config, reader)


ARCHITECTURE = Architecture(
    "SwinV2", keys=KEYS,
    configs={
        "swin": {"SwinTransformerV2": MICROSOFT.but(type="SwinV2", finish=_microsoft)},
        "timm": dict.fromkeys(
            ("SwinTransformerV2", *NAMED),
            TIMM_SPEC.but(
                type="SwinV2", fixed={"act_layer": "gelu"}, prepare=lambda reader: add_defaults(reader, NAMED),
                finish=_timm,
            ),
        ),
        "transformers": dict.fromkeys(
            ("swinv2", "Swinv2Model", "Swinv2Backbone", "Swinv2ForImageClassification"),
            TRANSFORMERS.but(type="SwinV2", finish=_transformers),
        ),
    },
    tolerated=OUTPUT_NORMS,
)  # fmt: skip
