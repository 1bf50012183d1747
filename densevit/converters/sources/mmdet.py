"""mmdetection: checkpoints with their configuration as text, and detectors put together of parts."""

from collections.abc import Callable, Mapping
from typing import Any

from densevit.checkpoints.reading import CheckpointFiles
from densevit.converters.architectures import maps_of, rcnn_mmdet, retinanet, translate_part
from densevit.converters.config_spec import ConfigReader, Only, whole_model
from densevit.converters.config_text import ConfigText
from densevit.converters.openmmlab import PREPROCESSOR
from densevit.converters.source import (
    SEGMENTATION_SIZE,
    EmbeddedConfig,
    Source,
    prefixes,
)  # fmt: skip
from densevit.errors import CheckpointError, ConfigError

PADDED = PREPROCESSOR.but(
    keys={"pad_size_divisor": ("size_divisor", 1)}, fixed={"pad_value": Only(0, [0.0])},
    ignored="pad_mask mask_pad_value pad_seg seg_pad_value boxtype2tensor",
    accepts="None DetDataPreprocessor BaseDataPreprocessor",
)  # fmt: skip


def open_file(files: CheckpointFiles) -> EmbeddedConfig | None:
    """The configuration text of OpenMMLab's files, old and new, and of densevit's own."""
    meta = {} if files.path.is_dir() or files.config is not None else files.content.get("meta")
    meta = meta if isinstance(meta, Mapping) else {}
    text, where = meta.get("cfg", meta.get("config")), str(files.path)
    if not isinstance(text, str):
        return None
    saved = ConfigText(text, where)
    if "model" not in saved:
        raise CheckpointError(f"the configuration saved in {where} has no model.")
    config = saved["model"]
    if not isinstance(config, Mapping):
        raise CheckpointError(f"the configuration saved in {where} has {config!r} as its model.")
    config, source, steps = dict(config), "mmseg" if "decode_head" in config else "mmdet", _test_steps(saved)
    if config.get("type") == "DensePredictor":
        source = "densevit"
    elif "data_preprocessor" not in config:
        config |= _normalizing_steps(steps, source)
    names = ("CLASSES", "classes", "PALETTE", "palette")
    dataset = meta.get("dataset_meta") or {key: meta[key] for key in names if key in meta}
    size = _test_size(steps)
    if size is None and source == "mmseg":
        size = () if steps else SEGMENTATION_SIZE
    return EmbeddedConfig(source, config, where, dict(dataset), size)


def _normalizing_steps(steps: list[Mapping[str, Any]], source: str) -> dict[str, Any]:
    """Older OpenMMLab normalizes and pads within the test pipeline; newer in the model's data_preprocessor."""
    by_type = {step.get("type"): step for step in steps}
    normal, divisor = by_type.get("Normalize"), by_type.get("Pad", {}).get("size_divisor", 1)
    if normal is None:
        return {}
    padding = {"type": "DetDataPreprocessor", "pad_size_divisor": divisor}
    if source == "mmseg":
        padding = {"type": "SegDataPreProcessor", "test_cfg": {"size_divisor": divisor}}
    normal = {key: normal[key] for key in ("mean", "std")} | {"bgr_to_rgb": normal.get("to_rgb", True)}
    return {"data_preprocessor": {**padding, **normal}}


def _test_steps(saved: ConfigText) -> list[Mapping[str, Any]]:
    """The transforms of the test pipeline, those inside MultiScaleFlipAug too; [] where the text has none."""
    try:
        steps = saved.get("test_pipeline") or []
        if not steps and "test_dataloader" in saved:
            steps = saved["test_dataloader"]["dataset"]["pipeline"]
        if not steps and "data" in saved:
            steps = saved["data"]["test"]["pipeline"]
        return [inner for step in steps for inner in (step, *step.get("transforms", ()))]
    except (CheckpointError, KeyError, TypeError, AttributeError):  # written in a way that is not plain data
        return []


def _test_size(steps: list[Mapping[str, Any]]) -> tuple[int, int] | None:
    for step in steps:
        scale = step.get("img_scale") or (step.get("type") == "Resize" and step.get("scale"))
        if isinstance(scale, (list, tuple)) and len(scale) == 2 and all(isinstance(side, int) for side in scale):
            return tuple(scale)
    return None


def one_stage(model: ConfigReader) -> tuple[dict[str, Any], int, tuple[int, ...]]:
    """RetinaNet's head, of the detector's bbox_head, train_cfg and test_cfg; see `rcnn_mmdet.from_mmdet`."""
    head = model.part("bbox_head")
    train, test = (model.optional(key) or head.optional(key) for key in ("train_cfg", "test_cfg"))
    head.ignore("train_cfg", "test_cfg")
    config = retinanet.HEAD(head)
    config |= {} if train is None else {"assign": retinanet.TRAIN(train)}
    config |= {} if test is None else {"test": retinanet.TEST_CONFIG(test)}
    return config, config.pop("in_channels"), config.pop("in_strides")


DETECTORS: dict[str, Callable[[ConfigReader], tuple[dict, int, tuple[int, ...]]]] = {
    "RetinaNet": one_stage, "MaskRCNN": rcnn_mmdet.from_mmdet, "CascadeRCNN": rcnn_mmdet.from_mmdet,
}  # fmt: skip
"""mmdetection's type -> what makes our head, the channels it is for and the strides of its anchors."""


def detector(source: str, model: ConfigReader) -> dict[str, Any]:
    """A detector around a backbone of `source`'s or its own."""
    backbone, neck = (translate_part(source, model.part(key)) for key in ("backbone", "neck"))
    head, width, stated_strides = DETECTORS[model.type](model)
    preprocessor = PADDED(model.part("data_preprocessor", {}))
    model.ignore("init_cfg", "pretrained")
    model.finish()
    if width != neck["out_channels"]:
        raise ConfigError(f"model's head has in_channels {width}, but the neck gives {neck['out_channels']}.")
    channels, strides = maps_of(backbone)
    if (stated := neck.pop("in_channels")) != channels:
        raise ConfigError(f"model.neck.in_channels are {stated}, but the backbone gives {channels}.")
    levels = neck["num_levels"]
    if len(stated_strides) != levels:
        raise ConfigError(f"model's head has anchors for {len(stated_strides)} maps, but the neck gives {levels}.")
    given = list(strides[neck["start_level"] : neck.get("end_level", len(strides) - 1) + 1])
    given = (*given, *(given[-1] * 2 ** (i + 1) for i in range(levels - len(given))))
    if stated_strides != given:
        if "rpn" in head:
            raise ConfigError(f"model.rpn_head has anchors of strides {stated_strides}, but the neck gives {given}.")
        head["anchor_strides"] = stated_strides
    return whole_model(backbone, neck, head, preprocessor)


PREFIXES = prefixes("backbone.->backbone. neck.->neck. bbox_head.->head. |rpn_head.->head. |roi_head.->head.")
MODELS = dict.fromkeys(DETECTORS, detector)
SOURCE = Source(PREFIXES, MODELS, open_file)
