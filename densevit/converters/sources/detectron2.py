"""detectron2: lazy configurations beside the weights (`config.yaml`, as LazyConfig.save writes it), read as data and
never run, and detectors put together around a pyramid.

Names of classes and functions, and objects that the YAML describes, stay text and dicts; references to other values
(`${..num_classes}`) are resolved.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from densevit.checkpoints.reading import CheckpointFiles
from densevit.converters.architectures import pyramids, rcnn_detectron2
from densevit.converters.config_spec import ConfigReader, UnsupportedModelError, maps_of, translate_part, whole_model
from densevit.converters.source import EmbeddedConfig, Source, prefixes
from densevit.errors import CheckpointError, ConfigError
from densevit.plain_data import PlainLoader, parse_json, parse_yaml, read_text

PYRAMIDS = {"FPN": "bottom_up", "SimpleFeaturePyramid": "net"}
"""Its pyramids -> under which key they have the backbone."""
SUFFIXES = (".yaml", ".yml", ".json")
REFERENCE = re.compile(r"\$\{(\.*)([\w.\[\]]*)\}")
DEPTH = 20
"""References to references that are followed."""


def generalized_rcnn(source: str, model: ConfigReader) -> dict[str, Any]:
    """GeneralizedRCNN around a pyramid."""
    backbone, neck, square = _pyramid(model.part("backbone"))
    head, width, stated = rcnn_detectron2.from_detectron2(model)
    mean, std, order = model.pop("pixel_mean"), model.pop("pixel_std"), model.pop("input_format", "BGR")
    model.ignore("vis_period")
    model.finish()
    channels, strides = maps_of(backbone)
    channels, given = maps_of(neck, in_channels=channels, in_strides=strides)
    if width != channels[0]:
        raise ConfigError(f"model.proposal_generator takes {width} channels, but the pyramid gives {channels[0]}.")
    if stated != given:
        raise ConfigError(f"model.proposal_generator has anchors of strides {stated}, but the pyramid gives {given}.")
    padding = {"size_divisor": max(given[:-1])}
    if neck["type"] != "FPN":
        padding = {"size_divisor": backbone["patch_size"], "square_pad": square}
    prepared = {"mean": tuple(mean), "std": tuple(std), "bgr_to_rgb": order == "RGB", **padding}
    return whole_model(backbone, neck, head, prepared)


def _pyramid(reader: ConfigReader) -> tuple[dict[str, Any], dict[str, Any], int]:
    """FPN or SimpleFeaturePyramid: our backbone, our neck, and the side that batches are padded to."""
    if reader.type not in PYRAMIDS:
        raise UnsupportedModelError(
            f"{reader.where}._target_ is {reader.type!r} of detectron2, which densevit has no counterpart of."
        )
    backbone = translate_part("detectron2", reader.part(PYRAMIDS[reader.type]))
    if reader.type == "FPN":
        return backbone, pyramids.FPN_DETECTRON2(reader), 0
    return backbone, *pyramids.SIMPLE(reader)


def pyramid_alone(source: str, reader: ConfigReader) -> dict[str, Any]:
    """A pyramid without a detector: a model without heads, whose `extract_features` gives the maps."""
    backbone, neck, _ = _pyramid(reader)
    return {"type": "DensePredictor", "backbone": backbone, "neck": neck, "head": {}}


def open_file(files: CheckpointFiles) -> EmbeddedConfig | None:
    """The lazy configuration that the user gives, or that lies beside a file."""
    path = files.config
    if path is None:
        path = None if files.path.is_dir() else files.beside("config.yaml")
        if path is None or "_target_" not in path.read_text(errors="replace"):
            return None
    whole = read_lazy_config(path)
    return EmbeddedConfig("detectron2", whole, str(path), {}, _test_size(whole))


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
        config = parse_json(text) if path.suffix == ".json" else parse_yaml(text, LazyLoader)
    except ValueError as error:
        raise CheckpointError(f"{path} cannot be read: {' '.join(str(error).split())}.") from error
    if isinstance(config, Mapping) and "_target_" in config:  # the model alone
        config = {"model": config}
    if not isinstance(config, Mapping) or not isinstance(config.get("model"), Mapping):
        raise CheckpointError(f"{path} says nothing about a model (no `model`): it is none of detectron2's lazy ones.")
    resolved = {**config, "model": _resolved(config["model"], config, ("model",), str(path))}
    return resolved | {"lazy_config": str(path)}


def _test_size(config: Mapping[str, Any]) -> tuple[int, int] | None:
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


class LazyLoader(PlainLoader):
    """YAML whose Python tags are kept as plain data."""

    def construct_python(self, suffix: str, node: yaml.Node) -> Any:
        """What stands behind a tag: a sequence, a name, or the dict of an object."""
        kind, _, name = suffix.partition(":")
        if kind in ("tuple", "list"):
            return self.construct_sequence(node, deep=True)
        if kind in ("name", "module"):
            return name
        if isinstance(node, yaml.ScalarNode):
            return self.construct_scalar(node)
        construct = self.construct_mapping if isinstance(node, yaml.MappingNode) else self.construct_sequence
        given = construct(node, deep=True)
        if name == "functools.partial" and isinstance(given, dict):
            function, _, arguments, *_ = [*given.get("state", ()), None, None, None]
            return {"_partial_": function, **(arguments or {})}
        return given


LazyLoader.add_multi_constructor("tag:yaml.org,2002:python/", LazyLoader.construct_python)


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
    up, name, inner = len(found.group(1)), found.group(2), whole
    target = location[: len(location) - up] if up else ()
    target += tuple(int(key) if key.isdigit() else key for key in re.findall(r"\w+", name))
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


SOURCE = Source(
    prefixes(
        "backbone.bottom_up.->backbone. backbone.|fpn_->neck. backbone.net.->backbone. backbone.|simfp_->neck. "
        "bottom_up.->backbone. net.->backbone. |fpn_->neck. |simfp_->neck. "  # of a pyramid alone
        "|proposal_generator.->head. |roi_heads.->head."
    ),
    {"GeneralizedRCNN": generalized_rcnn, **dict.fromkeys(PYRAMIDS, pyramid_alone)}, open_file,
)  # fmt: skip
