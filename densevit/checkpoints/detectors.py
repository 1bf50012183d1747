"""Whole detectors: mmdetection's and detectron2's configurations of the whole.

The parts' names and configurations stand in the tables of their architectures; here they are only put together.
"""

from collections.abc import Callable, Mapping
from typing import Any

from densevit.checkpoints import fpn, rcnn_detectron2, rcnn_mmdet, retinanet, vit_detectron2
from densevit.checkpoints.architectures import maps_of, translate_part
from densevit.checkpoints.settings import NotBuilt, Settings
from densevit.errors import ConfigError


def mmdet_detector(source: str, model: Settings) -> dict[str, Any]:
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


def generalized_rcnn(model: Settings) -> dict[str, Any]:
    """detectron2's GeneralizedRCNN around a pyramid."""
    backbone, neck, square = _pyramid(model.part("backbone"))
    head, width, stated = rcnn_detectron2.from_detectron2(model)
    mean, std, order = model.take("pixel_mean"), model.take("pixel_std"), model.take("input_format", "BGR")
    model.ignore("vis_period")
    model.done()
    channels, given = maps_of(backbone, neck)
    if width != channels[0]:
        raise ConfigError(f"model.proposal_generator takes {width} channels, but the pyramid gives {channels[0]}.")
    if stated != given:
        raise ConfigError(f"model.proposal_generator has anchors of strides {stated}, but the pyramid gives {given}.")
    preprocessor = {"type": "Preprocessor", "mean": tuple(mean), "std": tuple(std), "bgr_to_rgb": order == "RGB"}
    if neck["type"] == "FPN":
        preprocessor["size_divisor"] = max(given[:-1])
    else:
        preprocessor |= {"size_divisor": backbone["patch_size"], "square_pad": square}
    return {
        "type": "DensePredictor",
        "data_preprocessor": preprocessor,
        "backbone": backbone,
        "neck": neck,
        "head": head,
    }


def _pyramid(settings: Settings) -> tuple[dict[str, Any], dict[str, Any], int]:
    """detectron2's FPN or SimpleFeaturePyramid: our backbone, our neck, and the side that batches are padded to."""
    if settings.type not in PYRAMIDS:
        raise NotBuilt(
            f"{settings.where}._target_ is {settings.type!r} of detectron2, which densevit has no counterpart of."
        )
    backbone = translate_part("detectron2", settings.part(PYRAMIDS[settings.type]))
    if settings.type == "FPN":
        return backbone, fpn.from_detectron2(settings), 0
    return backbone, *vit_detectron2.pyramid(settings)


def pyramid_alone(settings: Settings) -> dict[str, Any]:
    """A pyramid of detectron2 without a detector: a model without heads, whose `extract` gives the maps."""
    backbone, neck, _ = _pyramid(settings)
    return {"type": "DensePredictor", "backbone": backbone, "neck": neck, "head": {}}


PYRAMIDS = {"FPN": "bottom_up", "SimpleFeaturePyramid": "net"}
"""detectron2's pyramids -> under which key they have the backbone."""
DETECTORS: dict[str, Callable[[Settings], tuple[dict, int, tuple[int, ...]]]] = {
    "RetinaNet": retinanet.from_mmdet,
    "MaskRCNN": rcnn_mmdet.from_mmdet,
    "CascadeRCNN": rcnn_mmdet.from_mmdet,
}
"""mmdetection's type -> what makes of its settings our head, the channels it is for and the strides of its anchors."""


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
