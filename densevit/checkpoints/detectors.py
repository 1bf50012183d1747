"""Whole detectors: where a source keeps the parts, and its configuration of the whole.

The parts' names and configurations stand in the tables of their architectures; here they are only put together.
"""

from collections.abc import Callable, Mapping
from typing import Any

from densevit.checkpoints import fpn, pvt, pvt_v2, retinanet
from densevit.checkpoints.settings import NotBuilt, Settings
from densevit.errors import ConfigError

TABLES = {"PVT": pvt.TABLES, "PVTv2": pvt_v2.TABLES, "FPN": fpn.TABLES, "RetinaNetHead": retinanet.TABLES}
"""Our class -> source -> rules."""

PREFIXES = {
    source: {"backbone.": "backbone.", "neck.": "neck.", "bbox_head.": "head."} for source in ("mmdet", "whai362")
}
"""Source -> its prefix of a part -> ours. whai362's detectors are mmdetection's around its own backbone."""

NOT_OURS = ("data_preprocessor.",)
"""Prefixes of what a detector's file may hold beside the network: constants that the configuration gives."""

SOURCES = tuple(dict.fromkeys([*PREFIXES, *(source for tables in TABLES.values() for source in tables)]))
PARTS: dict[tuple[str, str], Callable[[Settings], dict]] = {**pvt.CONFIGS, **pvt_v2.CONFIGS, **fpn.CONFIGS}
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
    settings = Settings(config, "model")
    if source == "timm" and settings.type is None:  # config.json names the model under 'architecture'
        settings.type = settings.left.get("architecture")
    if source in PREFIXES and settings.type == "RetinaNet":
        return _retinanet(source, settings)
    return translate_part(source, settings)


def _retinanet(source: str, model: Settings) -> dict[str, Any]:
    backbone = translate_part(source, model.part("backbone"))
    neck = translate_part(source, model.part("neck"))
    head = model.part("bbox_head")
    if head.type != "RetinaHead":
        raise NotBuilt(f"{head.where}.type is {head.type!r} of {source}, which densevit has no counterpart of.")
    train = model.part("train_cfg") if model.left.get("train_cfg") else model.ignore("train_cfg")
    test = model.part("test_cfg") if model.left.get("test_cfg") else model.ignore("test_cfg")
    head_config = retinanet.from_mmdet(head, train, test)
    preprocessor = _preprocessor(model.part("data_preprocessor", {}))
    model.ignore("init_cfg", "pretrained")
    model.done()
    width = head_config.pop("in_channels")
    if width != neck["out_channels"]:
        raise ConfigError(f"model.bbox_head.in_channels is {width}, but the neck gives {neck['out_channels']}.")
    channels = tuple(backbone["arch"]["embed_dims"][i] for i in backbone["out_indices"])
    if (stated := neck.pop("in_channels")) != channels:
        raise ConfigError(f"model.neck.in_channels are {stated}, but the backbone gives {channels}.")
    stated = head_config.pop("in_strides")
    if len(stated) != neck["num_levels"]:
        raise ConfigError(
            f"model.bbox_head has anchors for {len(stated)} maps, but the neck gives {neck['num_levels']}."
        )
    if stated != _strides(backbone, neck):
        head_config["anchor_strides"] = stated
    return {
        "type": "DensePredictor",
        "data_preprocessor": preprocessor,
        "backbone": backbone,
        "neck": neck,
        "head": head_config,
    }


def _strides(backbone: Mapping[str, Any], neck: Mapping[str, Any]) -> tuple[int, ...]:
    """Strides of the maps that an FPN on a pyramid transformer gives."""
    end = neck.get("end_level", len(backbone["out_indices"]) - 1)
    strides = [4 * 2**i for i in backbone["out_indices"]][neck["start_level"] : end + 1]
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
