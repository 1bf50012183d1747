"""FPN: mmdetection (2.x and 3.x alike), mmsegmentation and detectron2."""

from typing import Any

from densevit.converters.architecture import Architecture
from densevit.converters.architectures.simple_feature_pyramid import LAST_LEVEL
from densevit.converters.config_spec import REQUIRED, ConfigReader, ConfigSpec, one_of
from densevit.converters.key_mapping import KeyRule
from densevit.converters.openmmlab import NO_CONVS

OPENMMLAB = [
    KeyRule("lateral_convs.{}.conv.*", "lateral_convs.{}.*"),
    KeyRule("fpn_convs.{}.conv.*", "fpn_convs.{}.*"),
]
EXTRA = {
    False: "max_pool", True: "conv_on_input", "on_input": "conv_on_input", "on_lateral": "conv_on_lateral",
    "on_output": "conv_on_output",
}  # fmt: skip


def _finish(config: dict[str, Any], reader: ConfigReader) -> None:
    end = reader.pop("end_level", -1)
    if end not in (-1, len(config["in_channels"]) - 1):
        config["end_level"] = end


def _mmseg_terms(reader: ConfigReader) -> None:
    """`end_level` is the first map that is not used, and extra maps come of the last output by default."""
    if reader.remaining.get("end_level", -1) != -1:
        reader.remaining["end_level"] -= 1
    on_inputs = reader.pop("extra_convs_on_inputs", False)
    if reader.remaining.get("add_extra_convs") is True:
        reader.remaining["add_extra_convs"] = "on_input" if on_inputs else "on_output"


MMDET = ConfigSpec(
    "FPN",
    keys={
        "in_channels": ("in_channels", REQUIRED, tuple),
        "out_channels": "out_channels",
        "start_level": ("start_level", 0),
        "num_outs": "num_levels",
        "add_extra_convs": ("extra_levels", False, one_of(EXTRA)),
        "relu_before_extra_convs": ("relu_before_extra", False),
    },
    fixed={**NO_CONVS, "act_cfg": None, "upsample_cfg": {"mode": "nearest"}},
    ignored=("init_cfg", "no_norm_on_lateral"),  # there is no norm to omit
    finish=_finish,
)
DETECTRON2 = ConfigSpec(
    "FPN",
    keys={
        "top_block": (None, REQUIRED, LAST_LEVEL),
        "in_features": ("num_levels", REQUIRED, lambda names: len(names) + 1),
        "out_channels": "out_channels",
    },
    fixed={"norm": "", "fuse_type": "sum", "square_pad": 0},
)
"""FPN of detectron2, less its bottom_up."""
ARCHITECTURE = Architecture(
    "FPN",
    keys={
        "mmdet": OPENMMLAB,
        "mmseg": OPENMMLAB,
        "detectron2": [  # counts levels by the power of two in their stride
            KeyRule("fpn_lateral{+2}.*", "lateral_convs.{}.*"),
            KeyRule("fpn_output{+2}.*", "fpn_convs.{}.*"),
        ],
    },
    configs={"mmdet": {"FPN": MMDET}, "pvt": {"FPN": MMDET}, "mmseg": {"FPN": MMDET.but(prepare=_mmseg_terms)}},
)
