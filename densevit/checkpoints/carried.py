"""What old checkpoints carry beside their weights: the model's configuration, class names, the size of test images.

Nothing of it is run: configurations are read as data.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from densevit.checkpoints.config_text import ConfigText
from densevit.checkpoints.convert import OWN
from densevit.checkpoints.dpt_configs import PATCH, test_resize
from densevit.checkpoints.dpt_files import SIDE, told_by_shapes
from densevit.checkpoints.dpt_transformers import CONFIGS, resize_of
from densevit.checkpoints.lazy_config import read_lazy_config, size_of_test_images
from densevit.checkpoints.loading import state_of
from densevit.checkpoints.reading import read_file
from densevit.errors import CheckpointError, UserError
from densevit.plain_data import parse_json, parse_yaml, read_text

WHOLE = ("upernet", *CONFIGS)
"""transformers' model_type of whole models."""
SEGMENTATION_SCALE = (2048, 512)
"""(Long, short) side of ADE20K's test images, where a file of a segmentation model says nothing."""


class Carried(NamedTuple):
    """What was found.

    source: whose terms the configuration is in. config: the model's. content: of the file of weights. dataset: class
    names and colours, as far as they are there. where: the configuration's place, for messages. test_scale: (long,
    short) side of test images, () for images as they are, arguments of Resize where it is of another kind, None where
    the file says nothing.
    """

    source: str
    config: dict[str, Any]
    content: dict
    dataset: dict[str, Any]
    where: str
    test_scale: tuple[int, ...] | dict[str, Any] | None


def open_checkpoint(path: Path, variant: str | None = None, config: Path | None = None) -> Carried:
    """Read a file of OpenMMLab's, densevit's, Depth-Anything's, isl-org's or detectron2's, or a folder of
    transformers', timm's or Segmenter's repository.

    variant: of a Depth-Anything, where its file's name does not say it; see `dpt_files`.
    config: detectron2's configuration of the file; None: config.yaml beside it.

    Raises:
        CheckpointError: no configuration there, or nothing that can be read.
    """
    if config is not None or (path.is_file() and _is_detectron2(path)):
        return _lazy(path, config or path.with_name("config.yaml"))
    if not path.is_dir():
        return _file(path, variant)
    beside, variant = path / "config.json", path / "variant.yml"
    names = ("model.safetensors", "pytorch_model.bin") if beside.is_file() else ("checkpoint.pth",)
    found = next((path / name for name in names if (path / name).is_file()), None)
    if found is None or not (beside.is_file() or variant.is_file()):
        raise CheckpointError(
            f"{path} has no config.json with model.safetensors or pytorch_model.bin beside it, and no variant.yml with "
            "checkpoint.pth."
        )
    return _hub_folder(beside, found) if beside.is_file() else _variant_folder(variant, found)


# ---- detectron2 --------------------------------------------------------------------------------------


def _is_detectron2(path: Path) -> bool:
    """Whether a lazy configuration lies beside a file."""
    beside = path.with_name("config.yaml")
    return beside.is_file() and "_target_" in beside.read_text(errors="replace")


def _lazy(path: Path, config: Path) -> Carried:
    whole = read_lazy_config(config)
    return Carried("detectron2", whole, read_file(path), {}, str(config), size_of_test_images(whole))


# ---- OpenMMLab's and our own files -------------------------------------------------------------------


def _file(path: Path, variant: str | None) -> Carried:
    content = read_file(path)
    meta = content.get("meta") if isinstance(content.get("meta"), Mapping) else {}
    text = meta.get("cfg", meta.get("config"))
    if not isinstance(text, str):
        told = _told_by_shapes(path, content, variant)
        if told is not None:
            return told
        raise CheckpointError(
            f"{path} carries no configuration (no text under meta.cfg): build the model from a config and use "
            f"load_weights(model, file)."
        )
    saved = ConfigText(text, str(path))
    if "model" not in saved:
        raise CheckpointError(f"the configuration saved in {path} says nothing about a model.")
    config = saved["model"]
    if not isinstance(config, Mapping):
        raise CheckpointError(f"the configuration saved in {path} has {config!r} as its model.")
    config = dict(config)
    source = "mmseg" if "decode_head" in config else "mmdet"
    if config.get("type") == "DensePredictor":
        source = OWN
    elif "data_preprocessor" not in config:
        config |= _normalising_steps(saved, source)
    names = ("CLASSES", "classes", "PALETTE", "palette")
    dataset = meta.get("dataset_meta") or {key: meta[key] for key in names if key in meta}
    scale = _test_scale(saved)
    if scale is None and source == "mmseg":
        scale = () if _test_steps(saved) else SEGMENTATION_SCALE
    return Carried(source, config, content, dict(dataset), str(path), scale)


def _told_by_shapes(path: Path, content: dict, variant: str | None) -> Carried | None:
    """What a file without configuration holds; None where that is not known either."""
    try:
        found = told_by_shapes(state_of(content, str(path)), path.stem, variant)
    except UserError as error:
        raise type(error)(f"{path} {error}") from error
    if found is None:
        return None
    source, config, resize = found
    return Carried(source, config, content, {}, str(path), resize)


def _normalising_steps(saved: ConfigText, source: str) -> dict[str, Any]:
    """Older OpenMMLab normalises and pads within the test pipeline; newer in the model's data_preprocessor."""
    by_type = {step.get("type"): step for step in _test_steps(saved)}
    normal, divisor = by_type.get("Normalize"), by_type.get("Pad", {}).get("size_divisor", 1)
    if normal is None:
        return {}
    preprocessor = {key: normal[key] for key in ("mean", "std")} | {"bgr_to_rgb": normal.get("to_rgb", True)}
    if source == "mmseg":
        padding = {"type": "SegDataPreProcessor", "test_cfg": {"size_divisor": divisor}}
    else:
        padding = {"type": "DetDataPreprocessor", "pad_size_divisor": divisor}
    return {"data_preprocessor": {**padding, **preprocessor}}


def _test_steps(saved: ConfigText) -> list[Mapping[str, Any]]:
    """The transforms of the test pipeline, those inside MultiScaleFlipAug too; [] where the text has none."""
    try:
        steps = saved.get("test_pipeline") or []
        if not steps and "test_dataloader" in saved:
            steps = saved["test_dataloader"]["dataset"]["pipeline"]
        if not steps and "data" in saved:
            steps = saved["data"]["test"]["pipeline"]
        return [inner for step in steps for inner in (step, *step.get("transforms", ()))]
    except (CheckpointError, KeyError, TypeError, AttributeError):  # said in a way that is not plain data
        return []


def _test_scale(saved: ConfigText) -> tuple[int, int] | None:
    for step in _test_steps(saved):
        scale = step.get("img_scale") or (step.get("type") == "Resize" and step.get("scale"))
        if isinstance(scale, (list, tuple)) and len(scale) == 2 and all(isinstance(side, int) for side in scale):
            return tuple(scale)
    return None


# ---- folders -----------------------------------------------------------------------------------------


def _json(path: Path) -> Any:
    try:
        return parse_json(read_text(path))
    except ValueError as error:
        raise CheckpointError(f"{path} is no JSON: {error}.") from error


def _hub_folder(beside: Path, weights: Path) -> Carried:
    """transformers' or timm's."""
    config = _json(beside)
    source = "transformers" if isinstance(config, dict) and "model_type" in config else "timm"
    dataset, scale = {}, None
    if isinstance(config, dict) and "encoder" in config and "out_channels" in config:  # Depth-Anything V1's
        settings = {"type": "DPT_DINOv2", "kwargs": config}
        return Carried("depth-anything", settings, read_file(weights), {}, str(beside), test_resize(SIDE, PATCH))
    kind = config.get("model_type") if source == "transformers" else None
    if kind == "upernet" or "DPTForSemanticSegmentation" in (config.get("architectures") or []):
        names = config.get("id2label") or {}
        dataset = {"classes": [names[key] for key in sorted(names, key=int)]}
        scale = SEGMENTATION_SCALE
    if kind in WHOLE and (processor := beside.with_name("preprocessor_config.json")).is_file():
        config["image_processor"] = _json(processor)
        scale = resize_of(kind, config["image_processor"]) or scale
    return Carried(source, config, read_file(weights), dataset, str(beside), scale)


def _variant_folder(variant: Path, weights: Path) -> Carried:
    """Segmenter's repository's: variant.yml and checkpoint.pth."""
    try:
        config = parse_yaml(read_text(variant))
    except ValueError as error:
        raise CheckpointError(f"{variant} is no YAML: {error}.") from error
    if not isinstance(config, dict) or "net_kwargs" not in config:
        raise CheckpointError(f"{variant} says nothing about a network (no net_kwargs).")
    kept = {key: config[key] for key in ("net_kwargs", "inference_kwargs") if key in config}
    short = (config.get("inference_kwargs") or {}).get("im_size")
    scale = (4 * short, short) if isinstance(short, int) else SEGMENTATION_SCALE
    return Carried("rstrudel", kept, read_file(weights), {}, str(variant), scale)
