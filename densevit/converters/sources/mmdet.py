"""mmdetection: checkpoints with their configuration as text, and detectors put together of parts."""

from collections.abc import Callable, Mapping
from typing import Any

from densevit.checkpoints.config_text import ConfigText
from densevit.checkpoints.embedded_config import CheckpointFiles, EmbeddedConfig
from densevit.converters.architectures import maps_of, rcnn_mmdet, retinanet, translate_part
from densevit.converters.config_spec import ConfigReader, Only
from densevit.converters.openmmlab import PREPROCESSOR
from densevit.converters.source import Prefix, Source
from densevit.errors import CheckpointError, ConfigError

SEGMENTATION_SIZE = (2048, 512)
"""(Long, short) side of ADE20K's test images, where a file of a segmentation model states none."""
DETECTORS: dict[str, Callable[[ConfigReader], tuple[dict, int, tuple[int, ...]]]] = {
    "RetinaNet": retinanet.from_mmdet,
    "MaskRCNN": rcnn_mmdet.from_mmdet,
    "CascadeRCNN": rcnn_mmdet.from_mmdet,
}
"""mmdetection's type -> what makes our head, the channels it is for and the strides of its anchors."""
PADDED = PREPROCESSOR.but(
    keys={"pad_size_divisor": ("size_divisor", 1)},
    fixed={"pad_value": Only(0, [0.0])},
    ignored=("pad_mask", "mask_pad_value", "pad_seg", "seg_pad_value", "boxtype2tensor"),
    accepts=(None, "DetDataPreprocessor", "BaseDataPreprocessor"),
)


# ---- what a checkpoint carries -----------------------------------------------------------------------


def open_file(files: CheckpointFiles) -> EmbeddedConfig | None:
    """The configuration text of OpenMMLab's files, old and new, and of densevit's own."""
    if files.path.is_dir() or (saved := files.config_text) is None:
        return None
    where = str(files.path)
    if "model" not in saved:
        raise CheckpointError(f"the configuration saved in {where} has no model.")
    config = saved["model"]
    if not isinstance(config, Mapping):
        raise CheckpointError(f"the configuration saved in {where} has {config!r} as its model.")
    config, source = dict(config), "mmseg" if "decode_head" in config else "mmdet"
    if config.get("type") == "DensePredictor":
        source = "densevit"
    elif "data_preprocessor" not in config:
        config |= _normalizing_steps(saved, source)
    names = ("CLASSES", "classes", "PALETTE", "palette")
    dataset = files.meta.get("dataset_meta") or {key: files.meta[key] for key in names if key in files.meta}
    size = _test_size(saved)
    if size is None and source == "mmseg":
        size = () if _test_steps(saved) else SEGMENTATION_SIZE
    return EmbeddedConfig(source, config, where, dict(dataset), size)


def _normalizing_steps(saved: ConfigText, source: str) -> dict[str, Any]:
    """Older OpenMMLab normalizes and pads within the test pipeline; newer in the model's data_preprocessor."""
    by_type = {step.get("type"): step for step in _test_steps(saved)}
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


def _test_size(saved: ConfigText) -> tuple[int, int] | None:
    for step in _test_steps(saved):
        scale = step.get("img_scale") or (step.get("type") == "Resize" and step.get("scale"))
        if isinstance(scale, (list, tuple)) and len(scale) == 2 and all(isinstance(side, int) for side in scale):
            return tuple(scale)
    return None


# ---- detectors ---------------------------------------------------------------------------------------


def detector(source: str, model: ConfigReader) -> dict[str, Any]:
    """A detector around a backbone of `source`'s or its own."""
    backbone = translate_part(source, model.part("backbone"))
    neck = translate_part(source, model.part("neck"))
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
    return {
        "type": "DensePredictor",
        "data_preprocessor": preprocessor,
        "backbone": backbone,
        "neck": neck,
        "head": head,
    }


PREFIXES = (
    Prefix("backbone.", "backbone."), Prefix("neck.", "neck."), Prefix("bbox_head.", "head."),
    Prefix("rpn_head.", "head.", "rpn_head."), Prefix("roi_head.", "head.", "roi_head."),
)  # fmt: skip
MODELS = dict.fromkeys(DETECTORS, detector)
SOURCE = Source(PREFIXES, MODELS, open_file)
