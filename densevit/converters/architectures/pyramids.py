"""Pyramids of maps: FPN (OpenMMLab, detectron2), ViTDet's simple feature pyramid (detectron2, whose names ours are),
and mmsegmentation's Feature2Pyramid and MultiLevelNeck."""

from typing import Any

from densevit.converters.config_spec import REQUIRED, Architecture, ConfigReader, ConfigSpec, same, unless
from densevit.converters.key_mapping import rules
from densevit.converters.openmmlab import BN_RELU, NO_CONVS

EXTRA = {
    False: "max_pool", True: "conv_on_input", "on_input": "conv_on_input", "on_lateral": "conv_on_lateral",
    "on_output": "conv_on_output",
}  # fmt: skip


def _mmseg_terms(reader: ConfigReader) -> None:
    """`end_level` is the first map that is not used, and extra maps come of the last output by default."""
    if reader.remaining.get("end_level", -1) != -1:
        reader.remaining["end_level"] -= 1
    on_inputs = reader.pop("extra_convs_on_inputs", False)
    if reader.remaining.get("add_extra_convs") is True:
        reader.remaining["add_extra_convs"] = "on_input" if on_inputs else "on_output"


IN_CHANNELS = {"in_channels": ("in_channels", REQUIRED, tuple)}
MMDET = ConfigSpec(
    "FPN",
    keys={
        **IN_CHANNELS, "out_channels": "out_channels", **same(start_level=0), "num_outs": "num_levels",
        "end_level": (None, -1, unless(-1, "end_level")),
        "add_extra_convs": ("extra_levels", False, EXTRA), "relu_before_extra_convs": ("relu_before_extra", False),
    },
    fixed={**NO_CONVS, "act_cfg": None, "upsample_cfg": {"mode": "nearest"}},
    ignored="init_cfg no_norm_on_lateral",  # there is no norm to omit
)  # fmt: skip
LAST_LEVEL = ConfigSpec(accepts="LastLevelMaxPool")
FPN_DETECTRON2 = ConfigSpec(
    "FPN",
    keys={
        "top_block": (None, REQUIRED, LAST_LEVEL), "out_channels": "out_channels",
        "in_features": ("num_levels", REQUIRED, lambda names: len(names) + 1),
    },
    fixed={"norm": "", "fuse_type": "sum", "square_pad": 0},
)  # fmt: skip
"""FPN of detectron2, less its bottom_up."""


def _finish_simple(config: dict[str, Any], reader: ConfigReader) -> tuple[dict[str, Any], int]:
    config["top_level"] = config["top_level"] is not None
    return config, reader.pop("square_pad", 0)


SIMPLE = ConfigSpec(
    "SimpleFeaturePyramid",
    keys={"out_channels": "channels", "scale_factors": "scales", "top_block": ("top_level", None, LAST_LEVEL)},
    constants={"ceil_mode": False}, fixed={"norm": "LN"}, ignored="in_feature", finish=_finish_simple,
)  # fmt: skip
"""SimpleFeaturePyramid, less its net: our neck, and the side that batches are padded to (0: none)."""
SCALES = ((4, 2, 1, 0.5), (2, 1, 0.5, 0.25))


def _known_scales(scales: Any) -> tuple:
    if tuple(scales) not in SCALES:
        raise ValueError("densevit has 4, 2, 1, 0.5 or 2, 1, 0.5, 0.25 there.")
    return tuple(scales)


def _finish_deconv(config: dict[str, Any], reader: ConfigReader) -> None:
    config["in_channels"] = (reader.pop("embed_dim"),) * len(config["scales"])


FEATURE2PYRAMID = ConfigSpec(
    "Feature2Pyramid",
    keys={
        "rescales": ("scales", SCALES[0], _known_scales),
        "norm_cfg": (None, {"type": "SyncBN"}, BN_RELU["norm_cfg"][2]),
    },
    constants={"ceil_mode": False}, ignored="init_cfg", finish=_finish_deconv,
)  # fmt: skip
MULTI_LEVEL = ConfigSpec(
    "MultiLevelNeck",
    keys={**IN_CHANNELS, "out_channels": "channels", "scales": ("scales", (0.5, 1, 2, 4), tuple)},
    constants={"ceil_mode": False}, fixed={"norm_cfg": None, "act_cfg": None}, ignored="init_cfg",
)  # fmt: skip

OPENMMLAB = rules("lateral_convs.{}.conv.->lateral_convs.{}. fpn_convs.{}.conv.->fpn_convs.{}.")
# counts levels by the power of two in their stride
DETECTRON2 = rules("fpn_lateral{+2}.->lateral_convs.{}. fpn_output{+2}.->fpn_convs.{}.")
ARCHITECTURES = (
    Architecture(
        "FPN", {"mmdet": OPENMMLAB, "mmseg": OPENMMLAB, "detectron2": DETECTRON2},
        {"mmdet": {"FPN": MMDET}, "mmseg": {"FPN": MMDET.but(prepare=_mmseg_terms)}},
    ),
    Architecture("SimpleFeaturePyramid", {"detectron2": rules("*")}),
    Architecture(
        "Feature2Pyramid",
        {"mmseg": rules("upsample_4x.0.->up4.first. upsample_4x.1.->up4.norm. upsample_4x.3.->up4.second.")
         + rules("upsample_2x.0.->up2.first.")},
        {"mmseg": {"Feature2Pyramid": FEATURE2PYRAMID}},
    ),
    Architecture(
        "MultiLevelNeck", {"mmseg": rules("lateral_convs.{}.conv.->lateral_convs.{}. convs.{}.conv.->convs.{}.")},
        {"mmseg": {"MultiLevelNeck": MULTI_LEVEL}},
    ),
)  # fmt: skip
