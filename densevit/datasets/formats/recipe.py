"""A recipe on a folder of one's own: which of its config values the folder replaces."""

import copy
import hashlib
import json
import os
import re
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from densevit.datasets.formats.folder_data import DEPTH, OBJECTS, SEMANTIC, FolderData
from densevit.errors import ConfigError, DataError

METRICS = {"CocoMetric": OBJECTS, "SemanticMetric": SEMANTIC, "DepthMetric": DEPTH}
DATASETS = {OBJECTS: "CocoDataset", SEMANTIC: "SemanticDataset", DEPTH: "DepthDataset"}
KEPT = ("pipeline", "test_mode", "with_masks", "keep_empty", "seed", "on_broken", "check_files", "max_depth")
"""Arguments of a recipe's dataset that stay; the others say where its own data is and what it holds."""
OWN_PROTOCOL = ("ann_file", "crop")
"""Arguments of a recipe's metric that belong to its own data."""
OWN_STEP = "KBCrop"
"""The transform that does."""


def recipe_task(config: Mapping) -> str:
    """OBJECTS, SEMANTIC or DEPTH: what a recipe learns.

    Raises:
        ConfigError: it learns several, for which no folder has the labels.
    """
    metrics = config.get("val_evaluator") or config.get("test_evaluator") or []
    kinds = [str(m.get("type")).removeprefix("densevit.") for m in (metrics if _is_list(metrics) else [metrics])]
    tasks = {METRICS[kind] for kind in kinds if kind in METRICS}
    if len(tasks) != 1:
        what = f"is about {' and '.join(sorted(tasks))} at once" if tasks else f"has no metric of {', '.join(METRICS)}"
        raise ConfigError(f"The recipe {what}: choose one of boxes, masks, semantic classes or depth for a folder.")
    return tasks.pop()


def dataset_configs(data: FolderData, config: Mapping, depth_scale: float | str | None = None) -> dict[str, Any]:
    """The config values that put a folder in place of a recipe's data: data loaders, metrics, model.

    The recipe's pipelines and batch sizes stay, and class counts follow the data. Annotations that no file of the
    folder has as they are needed are written below the cache ($DENSEVIT_CACHE, else ~/.cache/densevit), named after
    their contents.

    Args:
        config: the recipe's Config, or a dict.
        depth_scale: what stands for one meter in PNG depth maps; None takes the recipe's.

    Returns:
        New values by top-level key; `config` stays as it is.

    Raises:
        ConfigError: the recipe is about other labels.
        DataError: a split is missing, or masks where the recipe needs them.
    """
    task = recipe_task(config)
    if task != data.task:
        raise ConfigError(f"The recipe needs labels for {task}, and {data.folder} has {data.format} ({data.task}).")
    missing = [name for name in ("train", "val") if name not in data.splits]
    if missing:
        raise DataError(f"{data.folder} has no {missing[0]} split, but {', '.join(data.splits)}: add the images of it.")
    changes: dict[str, Any] = {}
    places = {split: _arguments(data, split) for split in data.splits}
    for section in ("train", "val", "test"):
        key = f"{section}_dataloader"
        if config.get(key):
            loader = _plain(config[key])
            arguments = dict(places.get(section) or places["val"])
            if task == DEPTH and not data.settings.get("depth_scale"):
                arguments.update(_depth_scale(loader["dataset"], data, depth_scale))
            loader["dataset"] = _replace(loader["dataset"], arguments, DATASETS[task], data)
            changes[key] = loader
    for key in ("val_evaluator", "test_evaluator"):
        if config.get(key):
            metrics = _plain(config[key])
            for metric in metrics if _is_list(metrics) else [metrics]:
                for name in OWN_PROTOCOL:
                    metric.pop(name, None)
            changes[key] = metrics
    if config.get("model") and data.classes:
        model = _plain(config["model"])
        if _set_class_counts(model, len(data.classes)):
            changes["model"] = model
    return changes


def _plain(value: Any) -> Any:
    """A copy of a config's part as dicts and lists."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else copy.deepcopy(value)


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _replace(dataset: dict, arguments: dict, kind: str, data: FolderData) -> dict:
    """A recipe's dataset on other data; that within one that repeats or balances it."""
    if isinstance(dataset.get("dataset"), dict):
        return dict(dataset, dataset=_replace(dataset["dataset"], arguments, kind, data))
    if dataset.get("datasets"):
        return _replace(dataset["datasets"][0], arguments, kind, data)
    kept = {key: dataset[key] for key in KEPT if key in dataset}
    kept["pipeline"] = [step for step in dataset.get("pipeline", []) if not str(step.get("type")).endswith(OWN_STEP)]
    if kind != "DepthDataset":
        kept.pop("max_depth", None)
    if kind != "CocoDataset":
        kept.pop("with_masks", None)
    if kept.get("with_masks") and not data.has_masks:
        raise DataError(f"{data.folder} has boxes but no masks: choose a recipe of boxes alone, or label masks.")
    prefix = "densevit." if str(dataset.get("type")).startswith("densevit.") else ""
    if str(dataset.get("type")).removeprefix("densevit.") == "ScenesDataset":
        kept["pipeline"] = _loading(dataset, prefix) + kept["pipeline"]
    return dict(type=prefix + kind, **kept, **arguments)


def _loading(dataset: dict, prefix: str) -> list[dict]:
    """What comes before the pipeline of a dataset that renders its images: reading them, bringing them to that size."""
    steps = [dict(type=f"{prefix}LoadImage"), dict(type=f"{prefix}LoadAnnotations")]
    if dataset.get("with_masks"):
        steps[1]["with_masks"] = True
    if any(str(step.get("type")).endswith("Resize") for step in dataset.get("pipeline", [])):
        return steps
    height, width = dataset.get("size", (256, 256))
    resize = dict(type=f"{prefix}Resize", scale=(width, height), keep_ratio=True)
    # in a test pipeline maps are loaded behind Resize: predictions are scored in the original image's frame
    return [steps[0], resize, steps[1]] if dataset.get("test_mode") else [*steps, resize]


def _arguments(data: FolderData, name: str) -> dict[str, Any]:
    """The arguments of a dataset class that say where a split is."""
    split, stored = data.splits[name], f"{os.path.basename(data.folder)}_{name}"
    if data.task == OBJECTS:
        classes = list(data.classes)
        if split.ann_file:
            return dict(
                data_root=data.folder, ann_file=split.ann_file, data_prefix=dict(img=split.image_dir), classes=classes
            )
        root = os.path.commonpath([os.path.dirname(image["file_name"]) for image in split.images])
        images = [dict(image, file_name=os.path.relpath(image["file_name"], root)) for image in split.images]
        content = dict(images=images, annotations=list(split.annotations), categories=data.categories)
        text = json.dumps(content, separators=(",", ":"))
        return dict(data_root=root, ann_file=_cached(text, stored, ".json"), data_prefix=dict(img=""), classes=classes)
    key = "seg" if data.task == SEMANTIC else "depth"
    folders = {"img": split.image_dir, key: split.map_dir}
    found = dict(data_root=data.folder, data_prefix=folders, **data.settings)
    if not split.whole:
        names = (os.path.relpath(image["file_name"], split.image_dir) for image in split.images)
        found["ann_file"] = _cached("\n".join(names) + "\n", stored, ".txt")
    return found


def _depth_scale(dataset: dict, data: FolderData, given: float | str | None) -> dict[str, Any]:
    """The unit of PNG maps, as given or as the recipe's own data has it."""
    while isinstance(dataset.get("dataset"), dict):
        dataset = dataset["dataset"]
    scale = given if given is not None else dataset.get("depth_scale")
    if scale is None and data.settings.get("depth_suffix", "").lower().endswith(".png"):
        raise ConfigError(
            f"Nothing states the unit of the depth maps in {data.folder}: give depth_scale, the number that stands for "
            "one meter, such as 1000 for millimeters."
        )
    return {} if scale is None else dict(depth_scale=scale)


def _set_class_counts(part: Any, count: int) -> bool:
    """Bring every `num_classes` that a model's config states to the data's; whether there is one."""
    if isinstance(part, dict):
        stated = isinstance(part.get("num_classes"), int)
        if stated:
            part["num_classes"] = count
        return any([stated, *(_set_class_counts(value, count) for value in part.values())])
    return any(_set_class_counts(value, count) for value in part) if _is_list(part) else False


def _cached(text: str, name: str, suffix: str) -> str:
    """The file of a text in the cache, which is named after its contents and written once."""
    folder = Path(os.environ.get("DENSEVIT_CACHE") or "~/.cache/densevit").expanduser() / "annotations"
    content = text.encode("utf-8", "surrogatepass")
    name = re.sub(r"[^\w-]+", "_", name)[:60]
    path = folder / f"{name}_{hashlib.sha256(content).hexdigest()[:16]}{suffix}"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        fresh.write_bytes(content)
        os.replace(fresh, path)  # several processes may write the same
    return str(path)
