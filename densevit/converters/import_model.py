"""import_model: our model from the configuration that a checkpoint of another project carries, with its weights."""

import contextlib
import copy
import math
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from densevit.checkpoints.load_report import LoadReport
from densevit.checkpoints.reading import CheckpointFiles, require_size
from densevit.converters.config_spec import ARCHITECTURES, ConfigReader, group_options, translate_part
from densevit.converters.load_weights import load_weights
from densevit.converters.source import EmbeddedConfig, Source
from densevit.converters.sources import ALIASES, OWN, SOURCES
from densevit.errors import CheckpointError, ConfigError, UserError
from densevit.registry import MODELS, check_registered

LARGEST_SIDE = 1 << 14
"""Of the images that a file may ask for, in pixels."""
A_TENSOR = 1 << 15
"""Bytes that a tensor under construction counts beside its numbers: making it takes time."""


@dataclass
class ImportedModel:
    """What `import_model` found.

    model: in evaluation mode. config: what it was built from. classes: their names, None where the file has none.
    palette: colors (red, green, blue) of the classes, or None. test_size: (long, short) side of test images, () for
    images as they are, arguments of the transform `Resize` where they are resized in another way, None where the file
    states none. load_report: what became of every tensor.
    """

    model: nn.Module
    config: dict[str, Any]
    classes: tuple[str, ...] | None
    palette: Any
    test_size: tuple[int, ...] | dict[str, Any] | None
    load_report: LoadReport


def import_model(
    path: str | os.PathLike, variant: str | None = None, config: str | os.PathLike | None = None
) -> ImportedModel:
    """The model that a checkpoint of another project describes, with its weights, ready to predict.

    Reads files of mmdetection 3.x (and 2.x), mmsegmentation 1.x (and 0.x) and densevit, which carry their configuration
    as text, folders of timm's and transformers' with `config.json` beside the weights, and of Segmenter's repository
    with `variant.yml`. Files of detectron2 have their configuration beside them (`config.yaml`, as its LazyConfig.save
    writes it). Files of isl-org's DPT and of Depth-Anything carry nothing: names and shapes determine the model. The
    text is read as data and never run; weights are loaded strictly.

    Args:
        path: the checkpoint, or the folder.
        variant: which Depth-Anything a file is that has not its published name, as versions and metric models cannot be
            distinguished otherwise: 'depth_anything_v1', 'depth_anything_v2' (taken with a warning by default) or
            'depth_anything_v2_metric_20', its largest depth in meters at the end.
        config: detectron2's lazy configuration of the file, as YAML or JSON; None: `config.yaml` beside it.

    Raises:
        CheckpointError: no configuration in the file, or weights that do not fit it.
        ConfigError: a configuration that densevit has no counterpart of; the key is named.
    """
    files = CheckpointFiles(Path(path).expanduser(), variant, None if config is None else Path(config).expanduser())
    found = open_checkpoint(files)
    names = found.dataset.get("classes", found.dataset.get("CLASSES"))
    classes = tuple(str(name).strip() for name in names) if isinstance(names, (list, tuple)) and names else None
    try:
        ours = configure(found.source, found.config, classes, files.state.keys())
        sides = found.test_size.values() if isinstance(found.test_size, Mapping) else [found.test_size or ()]
        if any(not 0 < side <= LARGEST_SIDE for part in sides if isinstance(part, (list, tuple)) for side in part):
            raise ConfigError(
                f"its test images would be of {found.test_size} pixels; at most {LARGEST_SIDE} a side are taken."
            )
        model = _build(ours, sum(value.nbytes for value in files.state.values()))
    except ConfigError as error:
        raise type(error)(f"{found.where}: {error}") from error
    report = load_weights(model, files.content, None if found.source == OWN else found.source, file=str(path))
    palette = found.dataset.get("palette", found.dataset.get("PALETTE"))
    return ImportedModel(model, ours, getattr(model, "classes", None), palette, found.test_size, report)


def open_checkpoint(files: CheckpointFiles) -> EmbeddedConfig:
    """What a file or a folder carries, in its own project's terms. Raises CheckpointError where it carries nothing."""
    for source in SOURCES.values():
        found = source.open(files) if source.open is not None else None
        if found is not None:
            return found
    if files.path.is_dir():
        raise CheckpointError(
            f"{files.path} has no config.json with model.safetensors or pytorch_model.bin beside it, and no "
            "variant.yml with checkpoint.pth."
        )
    raise CheckpointError(
        f"{files.path} carries no configuration (no text under meta.cfg): build the model from a config and use "
        f"load_weights(model, file)."
    )


def translate(source: str, config: Mapping[str, Any], names: Collection[str] = ()) -> dict[str, Any]:
    """Our configuration of the model that `config` describes in a source's own terms.

    Args:
        source: a project, one of SOURCES.
        config: a part (`type='PyramidVisionTransformer'`) or a whole model (`type='RetinaNet'`).
        names: of the tensors that the model is for, which determine what a configuration may leave open.

    Returns:
        dict: what densevit's MODELS builds.

    Raises:
        UnsupportedModelError: no such model here. ConfigError: a key that is unknown, or a value that densevit lacks.
    """
    source = ALIASES.get(source, source)
    known = SOURCES.get(source, Source())
    lazy = isinstance(config, Mapping) and "lazy_config" in config  # the model is a part of it
    reader = ConfigReader(config["model"] if lazy else config, "model")
    if reader.type is None and known.type_key is not None:
        reader.type = reader.remaining.get(known.type_key)
    ours = known.models.get(reader.type, known.models.get("*", translate_part))(source, reader)
    for part in (ours, ours.get("backbone", {})):
        architecture = ARCHITECTURES.get(part.get("type"))
        if names and architecture is not None and architecture.infer_from_keys is not None:
            architecture.infer_from_keys(part, source, {name.rsplit("backbone.", 1)[-1] for name in names})
    return group_options(ours)


def configure(
    source: str, config: Mapping[str, Any], classes: tuple[str, ...] | None = None, names: Collection[str] = ()
) -> dict[str, Any]:
    """Our configuration of another project's model (or our own: 'densevit'), of registered parts alone: weights come
    from the file, so that nothing is fetched, and what a configuration names is never imported.

    Args:
        classes: names of the classes, where they are known.
        source, config, names: see `translate`, also for what is raised.
    """
    ours = _without_init(config if source == OWN else translate(source, config, names))
    if "type" not in ours:
        raise ConfigError("model.type is missing: state the model's class.")
    check_registered(ours, "model")
    head = ours.get("head")
    count = head.get("num_classes") if isinstance(head, Mapping) else None
    if ours["type"] == "DensePredictor" and classes is not None and count in (None, len(classes)):
        ours["classes"] = tuple(classes)
    return ours


def build(
    source: str, config: Mapping[str, Any], classes: tuple[str, ...] | None = None, names: Collection[str] = ()
) -> nn.Module:
    """Our model of another project's configuration, with random weights; see `configure`."""
    return _build(configure(source, config, classes, names))


def _without_init(value: Any) -> Any:
    """The same without `init_cfg` at any depth."""
    if isinstance(value, Mapping):
        return {key: _without_init(item) for key, item in value.items() if key != "init_cfg"}
    return type(value)(map(_without_init, value)) if type(value) in (list, tuple) else value


class _Bounded(TorchDispatchMode):
    """Counts the memory of the tensors that are made, before they are made: a configuration may ask for any size."""

    def __init__(self, size: int):
        super().__init__()
        self.size, self.taken = size, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs, shape = kwargs or {}, args[0] if args else ()
        if func.overloadpacket.__name__ in ("arange", "linspace"):
            shape = [max(abs(number) for number in args)]
        if isinstance(shape, (list, tuple)) and all(isinstance(side, (int, float)) for side in shape):
            self.taken += A_TENSOR + (4 * math.prod(shape) if str(kwargs.get("device")) != "meta" else 0)
            require_size(self.taken, self.size)
        return func(*args, **kwargs)


def _build(config: dict[str, Any], size: int | None = None) -> nn.Module:
    """The model; of weights in a file of `size` bytes it takes no more memory than these are worth."""
    try:
        with contextlib.nullcontext() if size is None else _Bounded(size):
            return MODELS.build(copy.deepcopy(config)).eval()
    except UserError:
        raise
    except Exception as error:  # whatever a constructor raises for values that it does not take
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise ConfigError(f"the model of this configuration cannot be built ({reason}).") from error
