"""Whole detectors: where a source keeps the parts, and its configuration of the whole.

The parts' names and configurations stand in the tables of their architectures; here they are only put together.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch

from densevit.checkpoints import (
    fpn,
    pvt,
    pvt_v2,
    rcnn,
    rcnn_detectron2,
    rcnn_mmdet,
    retinanet,
    swin,
    swin_configs,
    swin_v2,
)
from densevit.checkpoints.settings import NotBuilt, Settings
from densevit.errors import ConfigError
from densevit.registry import MODELS

TABLES = {
    "PVT": pvt.TABLES,
    "PVTv2": pvt_v2.TABLES,
    "Swin": swin.TABLES,
    "SwinV2": swin_v2.TABLES,
    "FPN": fpn.TABLES,
    "RetinaNetHead": retinanet.TABLES,
    "MaskRCNNHead": rcnn.MASK_RCNN_TABLES,
    "CascadeHead": rcnn.CASCADE_TABLES,
}
"""Our class -> source -> rules."""

FRESH = {"Swin": r"norm\d+\.(weight|bias)", "SwinV2": r"norm\d+\.(weight|bias)"}
"""Our class -> names that a classifier's file has nothing for by nature: the norms of a dense model's maps."""


class Place(NamedTuple):
    """theirs: prefix of a part in a file; ours: prefix of the part here; kept: what of theirs the tables know."""

    theirs: str
    ours: str
    kept: str = ""


_MMDET = (
    Place("backbone.", "backbone."),
    Place("neck.", "neck."),
    Place("bbox_head.", "head."),
    Place("rpn_head.", "head.", "rpn_head."),
    Place("roi_head.", "head.", "roi_head."),
)
_DETECTRON2 = (
    Place("backbone.bottom_up.", "backbone."),
    Place("backbone.fpn_", "neck.", "fpn_"),
    Place("proposal_generator.", "head.", "proposal_generator."),
    Place("roi_heads.", "head.", "roi_heads."),
)
PREFIXES = {"mmdet": _MMDET, "whai362": _MMDET, "detectron2": _DETECTRON2}
"""Source -> where its files keep the parts. whai362's detectors are mmdetection's around its own backbone."""

NOT_OURS = ("data_preprocessor.", "pixel_mean", "pixel_std")
"""Prefixes of what a detector's file may hold beside the network: constants that the configuration gives."""

MMDET = ("mmdet", "whai362")
"""Sources whose detectors are configured in mmdetection's terms."""

SOURCES = tuple(dict.fromkeys([*PREFIXES, *(source for tables in TABLES.values() for source in tables)]))
PARTS: dict[tuple[str, str], Callable[[Settings], dict]] = {
    **pvt.CONFIGS,
    **pvt_v2.CONFIGS,
    **swin_configs.CONFIGS,
    **swin_v2.CONFIGS,
    **fpn.CONFIGS,
}
"""(source, their type) -> our configuration of the part."""


def translate_part(source: str, settings: Settings) -> dict[str, Any]:
    """Our configuration of one part. Raises NotBuilt where densevit has no counterpart."""
    known = PARTS.get((source, settings.type))
    if known is None and source == "mmdet":  # mmdetection 2.x around whai362's own backbones
        known = PARTS.get(("whai362", settings.type))
    if known is None:
        raise NotBuilt(f"{settings.where}.type is {settings.type!r} of {source}, which densevit has no counterpart of.")
    return known(settings)


def translate(source: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Our configuration of the model that `config` describes in `source`'s own terms.

    Args:
        source: whose terms these are, one of SOURCES.
        config: a part (`type='PyramidVisionTransformer'`) or a whole detector (`type='RetinaNet'`).

    Returns:
        dict: what densevit's MODELS builds.

    Raises:
        NotBuilt: no such model here (yet). ConfigError: a key that is unknown, or a value that densevit does not have.
    """
    if source == "detectron2" and "lazy_config" in config:  # a lazy configuration: the model is a part of it
        config = config["model"]
    settings = Settings(config, "model")
    if source == "timm" and settings.type is None:  # config.json names the model under 'architecture'
        settings.type = settings.left.get("architecture")
    if source == "transformers" and settings.type is None:
        settings.type = settings.left.get("model_type")
    if source in MMDET and settings.type in DETECTORS:
        return _detector(source, settings)
    if source == "detectron2" and settings.type == "GeneralizedRCNN":
        return _generalized_rcnn(settings)
    return translate_part(source, settings)


def _detector(source: str, model: Settings) -> dict[str, Any]:
    backbone = translate_part(source, model.part("backbone"))
    neck = translate_part(source, model.part("neck"))
    head, width, stated_strides = DETECTORS[model.type](model)
    preprocessor = _preprocessor(model.part("data_preprocessor", {}))
    model.ignore("init_cfg", "pretrained")
    model.done()
    if width != neck["out_channels"]:
        raise ConfigError(f"model's head has in_channels {width}, but the neck gives {neck['out_channels']}.")
    channels, strides = maps_of(backbone)
    if (stated := neck.pop("in_channels")) != channels:
        raise ConfigError(f"model.neck.in_channels are {stated}, but the backbone gives {channels}.")
    if len(stated_strides) != neck["num_levels"]:
        raise ConfigError(
            f"model's head has anchors for {len(stated_strides)} maps, but the neck gives {neck['num_levels']}."
        )
    if stated_strides != (given := _strides(strides, neck)):
        if "rpn" in head:
            raise ConfigError(f"model.rpn_head has anchors of strides {stated_strides}, but the neck gives {given}.")
        head["anchor_strides"] = stated_strides
    return {
        "type": "DensePredictor",
        "data_preprocessor": preprocessor,
        "backbone": backbone,
        "neck": neck,
        "head": head,
    }


def _generalized_rcnn(model: Settings) -> dict[str, Any]:
    """detectron2's GeneralizedRCNN around an FPN."""
    neck = model.part("backbone")
    if neck.type != "FPN":
        raise NotBuilt(f"{neck.where}._target_ is {neck.type!r} of detectron2, which densevit has no counterpart of.")
    backbone = translate_part("detectron2", neck.part("bottom_up"))
    neck = fpn.from_detectron2(neck)
    head, width, stated = rcnn_detectron2.from_detectron2(model)
    mean, std, order = model.take("pixel_mean"), model.take("pixel_std"), model.take("input_format", "BGR")
    model.ignore("vis_period")
    model.done()
    if width != neck["out_channels"]:
        raise ConfigError(f"model.proposal_generator takes {width} channels, but the FPN gives {neck['out_channels']}.")
    if stated != (given := _strides(maps_of(backbone)[1], {"start_level": 0, **neck})):
        raise ConfigError(f"model.proposal_generator has anchors of strides {stated}, but the FPN gives {given}.")
    preprocessor = {"type": "Preprocessor", "mean": tuple(mean), "std": tuple(std), "size_divisor": max(given[:-1])}
    preprocessor["bgr_to_rgb"] = order == "RGB"
    return {
        "type": "DensePredictor",
        "data_preprocessor": preprocessor,
        "backbone": backbone,
        "neck": neck,
        "head": head,
    }


DETECTORS: dict[str, Callable[[Settings], tuple[dict, int, tuple[int, ...]]]] = {
    "RetinaNet": retinanet.from_mmdet,
    "MaskRCNN": rcnn_mmdet.from_mmdet,
    "CascadeRCNN": rcnn_mmdet.from_mmdet,
}
"""mmdetection's type -> what makes of its settings our head, the channels it is for and the strides of its anchors."""


def maps_of(backbone: Mapping[str, Any]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Channels and strides of the maps that our configuration of a backbone gives, as it publishes them itself."""
    with torch.device("meta"):
        built = MODELS.build(dict(backbone))
    return tuple(built.out_channels), tuple(built.out_strides)


def _strides(given: tuple[int, ...], neck: Mapping[str, Any]) -> tuple[int, ...]:
    """Strides of the maps that an FPN on maps of the strides `given` makes."""
    strides = list(given[neck["start_level"] : neck.get("end_level", len(given) - 1) + 1])
    while len(strides) < neck["num_levels"]:
        strides.append(strides[-1] * 2)
    return tuple(strides)


def _preprocessor(settings: Settings) -> dict[str, Any]:
    """DetDataPreprocessor; without one nothing is normalised or padded."""
    if settings.type not in (None, "DetDataPreprocessor", "BaseDataPreprocessor"):
        raise NotBuilt(f"{settings.where}.type is {settings.type!r}, which densevit has no counterpart of.")
    flips = bool(settings.take("bgr_to_rgb", False)) or bool(settings.take("rgb_to_bgr", False))
    settings.expect("pad_value", 0, [0.0])
    settings.ignore("pad_mask", "mask_pad_value", "pad_seg", "seg_pad_value", "boxtype2tensor", "non_blocking")
    settings.expect("batch_augments", None)
    mean, std = settings.take("mean", None), settings.take("std", None)
    config = {
        "type": "Preprocessor",
        "mean": tuple(mean) if mean is not None else (0.0, 0.0, 0.0),
        "std": tuple(std) if std is not None else (1.0, 1.0, 1.0),
        "bgr_to_rgb": flips,
        "size_divisor": settings.take("pad_size_divisor", 1),
    }
    settings.done()
    return config
