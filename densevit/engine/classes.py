"""Class names and their number: of data, of models and of checkpoints."""

import inspect
from typing import Any

import torch
from torch import nn

from densevit.engine.constructor_arguments import find
from densevit.errors import CheckpointError, ConfigError, DataError
from densevit.plain_data import entries
from densevit.registry import MODELS


def dataset_meta(content: dict) -> dict:
    """The dataset's description in a checkpoint of ours or of MMEngine's family, older ones included."""
    meta = content.get("meta")
    meta = meta if isinstance(meta, dict) else {}
    found = meta.get("dataset_meta") or {"classes": meta.get("CLASSES")}
    return {key.lower(): value for key, value in found.items()}


def compare_classes(file: str, stored: dict, present: dict, way_on: str = "test it on") -> None:
    """The classes that a checkpoint was trained on must be the dataset's, in the same order.

    Raises:
        CheckpointError: they are not; the first difference is named.
    """
    for key, word in (("classes", "class"), ("cat_ids", "category id")):
        ours, theirs = stored.get(key), present.get(key)
        if ours is None or theirs is None:
            continue
        # mmsegmentation's ADE20K has a class 'bed '
        ours = [name.strip() if isinstance(name, str) else name for name in ours]
        if ours == list(theirs):
            continue
        data = present.get("ann_file", "the dataset")
        if len(ours) != len(theirs):
            raise CheckpointError(
                f"{file} was trained on {len(ours)} classes and {data} has {len(theirs)}: {way_on} the dataset it was "
                f"trained for, or train on this one."
            )
        index = next(i for i, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b)
        raise CheckpointError(
            f"{file} was trained with {ours[index]!r} as {word} {index}, where {data} has {theirs[index]!r}: "
            f"{way_on} the dataset it was trained for."
        )


def compare_datasets(train: Any, other: Any, section: str) -> None:
    """The classes of another dataset must be those of the training's, in the same order.

    Raises:
        DataError: they are not; `section` of the config and the first difference are named.
    """
    ours, theirs = (getattr(dataset, "metainfo", None) or {} for dataset in (train, other))
    for key in ("classes", "semantic_classes"):
        a, b = list(ours.get(key) or ()), list(theirs.get(key) or ())
        if a and b and a != b:
            index = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
            names = [repr(table[index]) if index < len(table) else "missing" for table in (a, b)]
            raise DataError(
                f"{key} of {section} ({theirs.get('ann_file')}) are not those of train_dataloader "
                f"({ours.get('ann_file')}): class {index} is {names[1]} and not {names[0]}; state the same `classes`, "
                "in the same order, on both datasets."
            )


def pass_classes(cfg: Any, metainfo: dict) -> None:
    """Give the dataset's class names to the model; a number of classes in the config must be theirs."""
    classes = metainfo.get("classes")
    if classes is None:
        return
    for path, part, key in entries(cfg.model, "model."):
        if key == "num_classes" and isinstance(stated := part[key], int) and stated != len(classes):
            names = ", ".join(map(str, classes[:3]))
            raise ConfigError(
                f"{path} is {stated}, but the dataset {metainfo.get('ann_file', '')} has {len(classes)} classes "
                f"({names}, ...); leave {path} out, or use the dataset that it is about."
            )
    kind = find("MODELS", cfg.model["type"])
    for key in ("classes", "semantic_classes"):
        if metainfo.get(key) is not None and (kind is None or key in inspect.signature(kind).parameters):
            cfg.model[key] = tuple(metainfo[key])


def sized_by_classes(config: Any, model: nn.Module) -> list[str]:
    """Names of a model's weights whose shape depends on the number of classes: it is another with one more."""
    with torch.device("meta"):
        larger = MODELS.build(_one_class_more(config)).state_dict()
    return [name for name, value in model.state_dict().items() if larger[name].shape != value.shape]


def _one_class_more(config: Any) -> Any:
    if isinstance(config, (list, tuple)):
        return [_one_class_more(item) for item in config]
    if not isinstance(config, dict):
        return config
    larger = {key: _one_class_more(value) for key, value in config.items()}
    larger |= {key: [*larger[key], "one more"] for key in ("classes", "semantic_classes") if larger.get(key)}
    return larger | ({"num_classes": larger["num_classes"] + 1} if larger.get("num_classes") else {})
