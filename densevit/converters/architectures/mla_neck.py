"""SETR's multi-level aggregation: mmsegmentation."""

from densevit.converters.architecture import Architecture
from densevit.converters.config_spec import REQUIRED, ConfigSpec, Only
from densevit.converters.key_mapping import KeyRule
from densevit.converters.openmmlab import BATCH_NORM, LN_6, RELU, RELUS, conv_blocks

ARCHITECTURE = Architecture(
    "MLANeck",
    keys={
        "mmseg": [
            KeyRule("norm.{}.*", "norms.{}.*"), *conv_blocks("mmseg", "mla.channel_proj.{}", "lateral_convs.{}"),
            *conv_blocks("mmseg", "mla.feat_extract.{}", "output_convs.{}"),
        ]
    },
    configs={
        "mmseg": {
            "MLANeck": ConfigSpec(
                "MLANeck",
                keys={
                    **LN_6, "in_channels": ("in_channels", REQUIRED, tuple), "out_channels": "channels",
                    "norm_cfg": ("norm", None, BATCH_NORM),
                },
                fixed={"act_cfg": Only(RELU, RELUS)}, ignored=("init_cfg",), defaults={"act_cfg": None},
            )
        }
    },
)  # fmt: skip
