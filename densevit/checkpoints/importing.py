"""import_model: our model from the configuration that a foreign file carries, with its weights."""

import contextlib
import math
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from densevit.checkpoints import vit_adapter
from densevit.checkpoints.carried import open_checkpoint
from densevit.checkpoints.convert import OWN
from densevit.checkpoints.loading import load_weights, state_of
from densevit.checkpoints.pickles import require_size
from densevit.checkpoints.translating import translate
from densevit.checkpoints.vit_configs import told_by_names
from densevit.errors import ConfigError, UserError
from densevit.registry import MODELS, check_registered

LARGEST_SIDE = 1 << 14
"""Of the images that a file may ask for, in pixels."""
A_TENSOR = 1 << 15
"""Bytes that a tensor under construction counts beside its numbers: making it takes time."""


def build(
    source: str, config: Mapping[str, Any], classes: tuple[str, ...] | None = None, names: Collection[str] = ()
) -> nn.Module:
    """Our model of a foreign configuration, with random weights.

    Args:
        source: whose terms the configuration is in: 'mmdet', 'mmseg', 'whai362', 'rstrudel', 'microsoft', 'detectron2',
            'timm', 'transformers', ..., or 'densevit'.
        config: the model's configuration.
        classes: names of the classes, where they are known.
        names: of the tensors that the model is for, which tell what a configuration may leave open.

    Raises:
        ConfigError: a key or a value of the configuration that densevit has nothing for (NotBuilt: a whole model).
    """
    return _build(_ours(source, config, names), classes)


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


def _build(ours: dict[str, Any], classes: tuple[str, ...] | None, size: int | None = None) -> nn.Module:
    """The model; of weights in a file of `size` bytes it takes no more memory than these are worth."""
    ours = dict(ours)
    if ours["type"] == "DensePredictor" and classes is not None and _class_count(ours) in (None, len(classes)):
        ours["classes"] = tuple(classes)
    try:
        with contextlib.nullcontext() if size is None else _Bounded(size):
            return MODELS.build(ours).eval()
    except UserError:
        raise
    except Exception as error:  # whatever a constructor says of values that it does not take
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise ConfigError(f"the model of this configuration cannot be built ({reason}).") from error


def _ours(source: str, config: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """Our configuration of a foreign one (or our own), of registered parts alone: weights come from the file, so that
    nothing is fetched, and what a carried configuration names is never imported."""
    ours = dict(config) if source == OWN else translate(source, config)
    if source != OWN:
        told_by_names(ours, source, names)
        vit_adapter.told_by_names(ours, names)
    ours = _without_init(ours)
    if "type" not in ours:
        raise ConfigError("model.type is missing: state the model's class.")
    check_registered(ours, "model")
    return ours


def _without_init(value: Any) -> Any:
    """The same without `init_cfg` at any depth."""
    if isinstance(value, Mapping):
        return {key: _without_init(item) for key, item in value.items() if key != "init_cfg"}
    return type(value)(map(_without_init, value)) if type(value) in (list, tuple) else value


def import_model(
    path: str | os.PathLike, variant: str | None = None, config: str | os.PathLike | None = None
) -> nn.Module:
    """The model that an old checkpoint describes, with its weights, ready to predict.

    Reads files of mmdetection 3.x (and 2.x), mmsegmentation 1.x (and 0.x) and densevit, which carry their configuration
    as text, folders of timm's and transformers' with `config.json` beside the weights, and of Segmenter's repository
    with `variant.yml`. Files of detectron2 have their configuration beside them (`config.yaml`, as its LazyConfig.save
    writes it). Files of isl-org's DPT and of Depth-Anything carry nothing: names and shapes tell the model. The text is
    read as data and never run; weights are loaded strictly.

    Args:
        path: the checkpoint, or the folder.
        variant: which Depth-Anything a file is that has not its published name, as versions and metric models cannot be
            told apart otherwise: 'depth_anything_v1', 'depth_anything_v2' (taken with a warning where nothing is said)
            or 'depth_anything_v2_metric_20', its largest depth in metres at the end.
        config: detectron2's lazy configuration of the file, as YAML or JSON; None: `config.yaml` beside it.

    Returns:
        nn.Module: in evaluation mode; `classes` holds the names of the classes (None where the file has none),
        `receipt` the account of the weights, `imported_config` our configuration that it was built from, `test_scale`
        the (long, short) side of test images where the file says so, () where they are taken as they are, arguments of
        the transform `Resize` where they are resized in another way.

    Raises:
        CheckpointError: no configuration in the file, or weights that do not fit it.
        ConfigError: a configuration that densevit has no counterpart of; the key is named.
    """
    beside = None if config is None else Path(config).expanduser()
    source, config, content, dataset, where, scale = open_checkpoint(Path(path).expanduser(), variant, beside)
    names = dataset.get("classes", dataset.get("CLASSES"))
    classes = tuple(str(name).strip() for name in names) if isinstance(names, (list, tuple)) and names else None
    tensors = state_of(content, str(path))
    try:
        ours = _ours(source, config, tensors)
        sides = scale.values() if isinstance(scale, Mapping) else [scale or ()]
        if any(not 0 < side <= LARGEST_SIDE for value in sides if isinstance(value, (list, tuple)) for side in value):
            raise ConfigError(f"its test images would be of {scale} pixels; at most {LARGEST_SIDE} a side are taken.")
        model = _build(ours, classes, sum(value.nbytes for value in tensors.values()))
    except ConfigError as error:
        raise type(error)(f"{where}: {error}") from error
    model.receipt = load_weights(model, content, None if source == OWN else source, file=str(path))
    model.classes = getattr(model, "classes", None)
    model.dataset_meta, model.test_scale = dict(dataset), scale
    model.imported_config = ours
    return model


def _class_count(config: Mapping[str, Any]) -> int | None:
    """Classes that a model's one head states; None where it states none."""
    return config["head"].get("num_classes") if isinstance(config.get("head"), Mapping) else None
