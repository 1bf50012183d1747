"""detectron2's lazy configurations as `LazyConfig.save` writes them (`config.yaml`): read as data, never run.

Names of classes and functions, and objects that the YAML describes, stay text and dicts; references to other values
(`${..num_classes}`) are resolved.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from densevit.errors import CheckpointError
from densevit.plain_data import PlainLoader, parse_json, parse_yaml, read_text

SUFFIXES = (".yaml", ".yml", ".json")
REFERENCE = re.compile(r"\$\{(\.*)([\w.\[\]]*)\}")
DEPTH = 20
"""References to references that are followed."""


def read_lazy_config(path: Path) -> dict[str, Any]:
    """The whole configuration; `model` is one of its keys.

    Raises CheckpointError for a file that is not there, is Python, cannot be read, or says nothing about a model.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such configuration; check the path.")
    if path.suffix not in SUFFIXES:
        raise CheckpointError(
            f"{path} is no YAML or JSON, and what has to be run is not read: save it with detectron2's "
            "LazyConfig.save(config, 'config.yaml'), which training also does."
        )
    try:
        text = read_text(path)
        config = parse_json(text) if path.suffix == ".json" else _yaml(text)
    except ValueError as error:
        raise CheckpointError(f"{path} cannot be read: {' '.join(str(error).split())}.") from error
    if isinstance(config, Mapping) and "_target_" in config:  # the model alone
        config = {"model": config}
    if not isinstance(config, Mapping) or not isinstance(config.get("model"), Mapping):
        raise CheckpointError(f"{path} says nothing about a model (no `model`): it is none of detectron2's lazy ones.")
    resolved = {**config, "model": _resolved(config["model"], config, ("model",), str(path))}
    return resolved | {"lazy_config": str(path)}


def size_of_test_images(config: Mapping[str, Any]) -> tuple[int, int] | None:
    """(Long, short) side of test images, where the configuration says so in numbers."""
    try:
        for step in config["dataloader"]["test"]["mapper"]["augmentations"]:
            if str(step["_target_"]).endswith("ResizeShortestEdge"):
                sides = (step["max_size"], step["short_edge_length"])
                sides = tuple(side[0] if isinstance(side, list) and len(side) == 1 else side for side in sides)
                return sides if all(isinstance(side, int) for side in sides) else None
    except (KeyError, TypeError):
        pass
    return None


def _yaml(text: str) -> Any:
    """YAML whose Python tags are kept as data. Raises ValueError."""

    class Loader(PlainLoader):
        """Builds plain data alone."""

    def python(loader: Loader, suffix: str, node: yaml.Node) -> Any:
        kind, _, name = suffix.partition(":")
        if kind in ("tuple", "list"):
            return loader.construct_sequence(node, deep=True)
        if kind in ("name", "module"):
            return name
        if isinstance(node, yaml.ScalarNode):
            return loader.construct_scalar(node)
        given = (loader.construct_mapping if isinstance(node, yaml.MappingNode) else loader.construct_sequence)(
            node, deep=True
        )
        if name == "functools.partial" and isinstance(given, dict):
            function, _, arguments, *_ = [*given.get("state", ()), None, None, None]
            return {"_partial_": function, **(arguments or {})}
        return given

    Loader.add_multi_constructor("tag:yaml.org,2002:python/", python)
    return parse_yaml(text, Loader)


def _resolved(value: Any, whole: Mapping, location: tuple, file: str, depth: int = 0) -> Any:
    """A value at a place of the whole, with references in it resolved: dots go up from the location, as in
    OmegaConf."""
    if isinstance(value, Mapping):
        return {key: _resolved(inner, whole, (*location, key), file, depth) for key, inner in value.items()}
    if isinstance(value, list):
        return [_resolved(inner, whole, (*location, i), file, depth) for i, inner in enumerate(value)]
    found = REFERENCE.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        return value
    up, name = len(found.group(1)), found.group(2)
    target = location[: len(location) - up] if up else ()
    target += tuple(int(key) if key.isdigit() else key for key in re.findall(r"\w+", name))
    inner: Any = whole
    try:
        if depth > DEPTH or up > len(location):
            raise KeyError(name)
        for key in target:
            inner = inner[key]
    except (KeyError, IndexError, TypeError):
        raise CheckpointError(
            f"{file} has {value!r} at {'.'.join(map(str, location))}, which names nothing in it."
        ) from None
    return _resolved(inner, whole, target, file, depth + 1)
