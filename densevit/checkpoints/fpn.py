"""FPN: names and configurations of mmdetection (2.x and 3.x alike) and mmsegmentation, names of detectron2."""

from typing import Any

from densevit.checkpoints.rules import Rule
from densevit.checkpoints.settings import NotBuilt, Settings
from densevit.errors import ConfigError

OPENMMLAB = [
    Rule("lateral_convs.{}.conv.*", "lateral_convs.{}.*"),
    Rule("fpn_convs.{}.conv.*", "fpn_convs.{}.*"),
]
TABLES = {
    "mmdet": OPENMMLAB,
    "mmseg": OPENMMLAB,
    "detectron2": [  # counts levels by the power of two in their stride
        Rule("fpn_lateral{+2}.*", "lateral_convs.{}.*"),
        Rule("fpn_output{+2}.*", "fpn_convs.{}.*"),
    ],
}
EXTRA = {
    False: "max_pool",
    True: "conv_on_input",
    "on_input": "conv_on_input",
    "on_lateral": "conv_on_lateral",
    "on_output": "conv_on_output",
}


def from_mmdet(settings: Settings) -> dict[str, Any]:
    """FPN of mmdetection."""
    channels = list(settings.take("in_channels"))
    extra = settings.take("add_extra_convs", False)
    if extra not in EXTRA:
        raise ConfigError(f"{settings.where}.add_extra_convs is {extra!r}: mmdetection has {list(EXTRA)}.")
    for key in ("conv_cfg", "norm_cfg", "act_cfg"):
        settings.expect(key, None)
    settings.expect("upsample_cfg", {"mode": "nearest"})
    settings.ignore("init_cfg", "no_norm_on_lateral")  # there is no norm to leave out
    config = {
        "type": "FPN",
        "in_channels": tuple(channels),
        "out_channels": settings.take("out_channels"),
        "start_level": settings.take("start_level", 0),
        "num_levels": settings.take("num_outs"),
        "extra_levels": EXTRA[extra],
        "relu_before_extra": settings.take("relu_before_extra_convs", False),
    }
    end = settings.take("end_level", -1)
    if end not in (-1, len(channels) - 1):
        config["end_level"] = end
    settings.done()
    return config


def from_mmseg(settings: Settings) -> dict[str, Any]:
    """FPN of mmsegmentation: `end_level` is the first map that is not used, and extra maps come of the last output
    where nothing else is said."""
    if settings.left.get("end_level", -1) != -1:
        settings.left["end_level"] -= 1
    on_inputs = settings.take("extra_convs_on_inputs", False)
    if settings.left.get("add_extra_convs") is True:
        settings.left["add_extra_convs"] = "on_input" if on_inputs else "on_output"
    return from_mmdet(settings)


def from_detectron2(settings: Settings) -> dict[str, Any]:
    """FPN of detectron2, less its bottom_up."""
    top = settings.part("top_block")
    if top.type != "LastLevelMaxPool":
        raise NotBuilt(f"{top.where}._target_ is {top.type!r}; densevit has LastLevelMaxPool there.")
    top.done()
    settings.expect("norm", "")
    settings.expect("fuse_type", "sum")
    settings.expect("square_pad", 0)
    levels = len(settings.take("in_features"))
    config = {"type": "FPN", "out_channels": settings.take("out_channels"), "num_levels": levels + 1}
    settings.done()
    return config


CONFIGS = {("mmdet", "FPN"): from_mmdet, ("whai362", "FPN"): from_mmdet, ("mmseg", "FPN"): from_mmseg}
