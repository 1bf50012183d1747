"""import_model: our model from the configuration that a foreign file carries, with its weights."""

import json
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from densevit.checkpoints.config_text import ConfigText
from densevit.checkpoints.convert import OWN
from densevit.checkpoints.loading import load_weights, state_of
from densevit.checkpoints.reading import read_file
from densevit.checkpoints.translating import translate
from densevit.checkpoints.vit_configs import told_by_names
from densevit.errors import CheckpointError, ConfigError
from densevit.registry import MODELS


def build(
    source: str, config: Mapping[str, Any], classes: tuple[str, ...] | None = None, names: Collection[str] = ()
) -> nn.Module:
    """Our model of a foreign configuration, with random weights.

    Args:
        source: whose terms the configuration is in: 'mmdet', 'whai362', 'microsoft', 'detectron2', 'timm',
            'transformers', or 'densevit'.
        config: the model's configuration.
        classes: names of the classes, where they are known.
        names: of the tensors that the model is for, which tell what a configuration may leave open.

    Raises:
        ConfigError: a key or a value of the configuration that densevit has nothing for (NotBuilt: a whole model).
    """
    ours = _ours(source, config, names)
    for part in [ours, *(v for v in ours.values() if isinstance(v, dict))]:
        part.pop("init_cfg", None)  # weights come from the file, nothing is fetched
    if ours["type"] == "DensePredictor" and classes is not None and _class_count(ours) in (None, len(classes)):
        ours["classes"] = tuple(classes)
    return MODELS.build(ours).eval()


def _ours(source: str, config: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    if source == OWN:
        return dict(config)
    ours = translate(source, config)
    told_by_names(ours, source, names)
    return ours


def import_model(path: str | os.PathLike) -> nn.Module:
    """The model that an old checkpoint describes, with its weights, ready to predict.

    Reads files of mmdetection 3.x (and 2.x) and of densevit, which carry their configuration as text, and folders of
    timm's and transformers' with `config.json` beside the weights. The text is read as data and never run; weights are
    loaded strictly.

    Args:
        path: the checkpoint, or the folder.

    Returns:
        nn.Module: in evaluation mode; `classes` holds the names of the classes (None where the file has none),
        `receipt` the account of the weights, `imported_config` our configuration that it was built from, `test_scale`
        the (long, short) side of test images where the file says so.

    Raises:
        CheckpointError: no configuration in the file, or weights that do not fit it.
        ConfigError: a configuration that densevit has no counterpart of; the key is named.
    """
    source, config, content, dataset, where, scale = _open(Path(path).expanduser())
    names = dataset.get("classes", dataset.get("CLASSES"))
    classes = tuple(map(str, names)) if isinstance(names, (list, tuple)) and names else None
    tensors = state_of(content, str(path)).keys()
    try:
        model = build(source, config, classes, tensors)
    except ConfigError as error:
        raise type(error)(f"{where}: {error}") from error
    model.receipt = load_weights(model, content, None if source == OWN else source, file=str(path))
    model.classes = getattr(model, "classes", None)
    model.dataset_meta, model.test_scale = dict(dataset), scale
    model.imported_config = _ours(source, config, tensors)
    return model


def _open(path: Path) -> tuple[str, dict, dict, dict, str, tuple[int, int] | None]:
    """(source, the model's configuration, content of the weights' file, data set's facts, place for messages, test
    scale)."""
    if path.is_dir():
        beside, weights = path / "config.json", [path / n for n in ("model.safetensors", "pytorch_model.bin")]
        found = next((file for file in weights if file.is_file()), None)
        if not beside.is_file() or found is None:
            raise CheckpointError(f"{path} has no config.json with model.safetensors or pytorch_model.bin beside it.")
        try:
            config = json.loads(beside.read_text())
        except ValueError as error:
            raise CheckpointError(f"{beside} is no JSON: {error}.") from error
        source = "transformers" if isinstance(config, dict) and "model_type" in config else "timm"
        return source, config, read_file(found), {}, str(beside), None
    content = read_file(path)
    meta = content.get("meta") if isinstance(content.get("meta"), Mapping) else {}
    text = meta.get("cfg", meta.get("config"))
    if not isinstance(text, str):
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
    source = OWN if config.get("type") == "DensePredictor" else "mmdet"
    if source == "mmdet" and "data_preprocessor" not in config:
        config |= _preprocessing_of_2x(saved)
    dataset = meta.get("dataset_meta") or {key: meta[key] for key in ("CLASSES", "classes") if key in meta}
    return source, config, content, dict(dataset), str(path), _test_scale(saved)


def _preprocessing_of_2x(saved: ConfigText) -> dict[str, Any]:
    """mmdetection 2.x normalises and pads within the test pipeline; 3.x in the model's data_preprocessor."""
    by_type = {step.get("type"): step for step in _test_steps(saved)}
    normal, pad = by_type.get("Normalize"), by_type.get("Pad", {})
    if normal is None:
        return {}
    preprocessor = {key: normal[key] for key in ("mean", "std")}
    preprocessor |= {"bgr_to_rgb": normal.get("to_rgb", True), "pad_size_divisor": pad.get("size_divisor", 1)}
    return {"data_preprocessor": {"type": "DetDataPreprocessor", **preprocessor}}


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


def _class_count(config: Mapping[str, Any]) -> int | None:
    """Classes that a detector's one head states; None where it states none."""
    return config["head"].get("num_classes") if isinstance(config.get("head"), Mapping) else None
