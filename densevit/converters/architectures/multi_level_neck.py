"""MultiLevelNeck, a pyramid of a plain transformer's maps: mmsegmentation."""

from densevit.converters.architecture import Architecture
from densevit.converters.config_spec import REQUIRED, ConfigSpec
from densevit.converters.key_mapping import KeyRule

ARCHITECTURE = Architecture(
    "MultiLevelNeck",
    keys={
        "mmseg": [KeyRule("lateral_convs.{}.conv.*", "lateral_convs.{}.*"), KeyRule("convs.{}.conv.*", "convs.{}.*")]
    },
    configs={
        "mmseg": {
            "MultiLevelNeck": ConfigSpec(
                "MultiLevelNeck",
                keys={
                    "in_channels": ("in_channels", REQUIRED, tuple), "out_channels": "channels",
                    "scales": ("scales", (0.5, 1, 2, 4), tuple),
                },
                constants={"ceil_mode": False}, fixed={"norm_cfg": None, "act_cfg": None}, ignored=("init_cfg",),
            )
        }
    },
)  # fmt: skip
