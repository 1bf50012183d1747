"""From a config and weights to a model with its class names, and the transforms that its images pass."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from mmengine.config import Config
from torch import nn

from densevit.checkpoints.load_report import LoadReport
from densevit.checkpoints.reading import read_file
from densevit.checkpoints.shipped import SHIPPED, is_shipped, near, shipped
from densevit.converters import load_weights
from densevit.engine.config import read_config
from densevit.errors import CheckpointError, ConfigError
from densevit.registry import MODELS

TEST_SCALE = (1333, 800)
"""COCO's customary test size (long, short side), where neither a config nor a checkpoint states one."""


def find_device(device: str | torch.device | None) -> torch.device:
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.zeros(1, device=chosen)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"device {str(device)!r} is not available ({reason}); use 'cpu'.") from None
    return chosen


class Names(NamedTuple):
    """Of the classes of instances (or of the only ones), and of those of pixels where they are others; and the colors
    (red, green, blue) of these."""

    classes: Sequence[str] | None
    semantic_classes: Sequence[str] | None
    palette: Sequence[Sequence[int]] | None


def read_recipe(config: Any, weights: str | os.PathLike | None) -> tuple[Config, str | os.PathLike | None]:
    """The config as read, and the weights that belong to it where it is the name of a shipped model."""
    if isinstance(config, Config):
        return config, weights
    if is_shipped(config):
        recipe, own = shipped(config) if weights is None else (SHIPPED[config].config, weights)
        return read_config(recipe), own
    try:
        return read_config(config), weights
    except ConfigError as error:
        if os.path.exists(config) or not near(config):
            raise
        raise ConfigError(f"{error} Models that come with their weights: {', '.join(SHIPPED)}{near(config)}.") from None


def build_model(config: Config, weights: str | os.PathLike | None) -> tuple[nn.Module, Names, LoadReport]:
    """The config's model with `weights` in it, the class names that they were trained for, and what was loaded."""
    if not weights:
        raise CheckpointError("Predictor needs weights: give the path of a checkpoint (the config has no load_from).")
    if config.get("custom_imports"):
        from mmengine.utils import import_modules_from_strings

        import_modules_from_strings(**config.custom_imports)
    settings = config.model.to_dict() if isinstance(config.model, Config) else dict(config.model)
    content = read_file(weights)
    stored = _names_in(content)
    names = Names(*(there or settings.get(key) for key, there in stored._asdict().items()))
    settings.update({key: there for key, there in zip(names._fields[:2], names, strict=False) if there is not None})
    try:
        model = MODELS.build(settings)
    except ConfigError as error:
        if names.classes is None and "num_classes" in str(error):
            raise CheckpointError(
                f"{weights} does not state its classes, and neither does the config; give their names in the config "
                "as model.classes."
            ) from None
        raise
    return model, names, load_weights(model, content, file=str(weights))


def _names_in(checkpoint: Mapping) -> Names:
    """Class names and colors from a checkpoint's meta: ours, mmdetection 3's and mmdetection 2's way."""
    meta = checkpoint.get("meta")
    locations = [meta.get("dataset_meta"), meta] if isinstance(meta, Mapping) else []
    locations = [location for location in locations if isinstance(location, Mapping)]
    found = [
        next((tuple(location[key]) for location in locations for key in keys if location.get(key)), None)
        for keys in (("classes", "CLASSES"), ("semantic_classes",), ("palette", "PALETTE"))
    ]
    return Names(*found)


def inference_pipeline(config: Config) -> list[Mapping]:
    """The test dataset's transforms without those that load ground truth; loading the image stands first in any
    case."""
    loader = config.get("test_dataloader") or config.get("val_dataloader")
    if loader is None:
        return plain_pipeline(TEST_SCALE)
    steps = [step for step in loader["dataset"]["pipeline"] if not str(step["type"]).startswith("Load")]
    loading = [step for step in loader["dataset"]["pipeline"] if step["type"] == "LoadImage"]
    return [*(loading or [dict(type="LoadImage")]), *steps]


def plain_pipeline(scale: tuple[int, ...] | Mapping[str, Any]) -> list[Mapping]:
    """Load, resize within `scale` (() leaves the size as it is; or arguments of Resize), pack."""
    arguments = scale if isinstance(scale, Mapping) else dict(scale=scale, keep_ratio=True)
    resize = [dict(type="Resize", **arguments)] if scale else []
    return [dict(type="LoadImage"), *resize, dict(type="PackSample")]
