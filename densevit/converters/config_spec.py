"""Architectures and configurations of other projects (sources), as data. A source's key that is not listed is an error.

A `ConfigSpec` lists renamed keys (with the source's defaults, and a function or table that translates the value), fixed
values, ignored keys and constants. Its `finish` function does what is irregular. An `Architecture` holds the specs and
the key rules of one class of densevit.
"""

import copy
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from typing import Any, NamedTuple

import torch

from densevit.converters.key_mapping import Rules
from densevit.errors import ConfigError, suggest
from densevit.registry import MODELS

REQUIRED = object()


class UnsupportedModelError(ConfigError):
    """A model or a part of one that densevit has no counterpart of."""


class ConfigReader:
    """One `dict(type=..., ...)` of another project's configuration.

    Each key is read once; `finish` raises for the first that was not read. `where` is its location, for messages.
    """

    def __init__(self, config: Mapping[str, Any], where: str):
        if not isinstance(config, Mapping):
            raise ConfigError(f"{where} is {config!r}, where a dict of options was expected.")
        self.remaining, self.where, self.known = dict(config), where, ["type"]
        # detectron2 has `_target_`
        self.type_key = "_target_" if "_target_" in config and "type" not in config else "type"
        self.type = self.remaining.pop(self.type_key, None)
        if isinstance(self.type, str):  # 'mmdet.RetinaNet', 'mmdet.models.detectors.retinanet.RetinaNet'
            self.type = self.type.rsplit(".", 1)[-1]

    def pop(self, key: str, default: Any = REQUIRED) -> Any:
        """The value of `key`; without a default it must be there."""
        self.known.append(key)
        if key not in self.remaining and default is REQUIRED:
            raise ConfigError(f"{self.where} lacks {key!r}, which densevit needs to build the same model.")
        return self.remaining.pop(key, default)

    def part(self, key: str, default: Any = REQUIRED) -> "ConfigReader":
        """The reader of the dict under `key`."""
        return ConfigReader(self.pop(key, default), f"{self.where}.{key}")

    def optional(self, key: str) -> "ConfigReader | None":
        """The reader of the dict under `key`; None where there is none, or an empty one."""
        given = self.pop(key, None)
        return ConfigReader(given, f"{self.where}.{key}") if given else None

    def parts(self, key: str) -> "list[ConfigReader]":
        """The readers of the dicts listed under `key`."""
        return [ConfigReader(part, f"{self.where}.{key}[{i}]") for i, part in enumerate(self.pop(key))]

    def of_type(self, *names: str | None) -> "ConfigReader":
        """Itself, if it is of one of these types. Raises UnsupportedModelError."""
        if self.type not in names:
            known = " or ".join(str(name) for name in names if name is not None)
            raise UnsupportedModelError(f"{self.where}.{self.type_key} is {self.type!r}; densevit has {known} there.")
        return self

    def require(self, key: str, default: Any, allowed: Collection[Any] = ()) -> Any:
        """A key that densevit has one value for: anything but the default (or one of `allowed`) is refused."""
        value = self.pop(key, default)
        if not any(_equal(value, other) for other in (default, *allowed)):
            raise ConfigError(f"{self.where}.{key} is {value!r}; densevit has {default!r} there and nothing else.")
        return value

    def ignore(self, *keys: str) -> None:
        """Keys that change nothing about the model."""
        for key in keys:
            self.pop(key, None)

    def finish(self) -> None:
        """Raise ConfigError for the first key that was not read."""
        for key, value in self.remaining.items():
            close = suggest(key, self.known)
            raise ConfigError(f"{self.where} has the key {key!r} (= {value!r}), which densevit does not know{close}.")


class Key(NamedTuple):
    """How one key of the source is translated.

    target: densevit's key, 'arch.depths' for one within a dict; None merges a dict that `translate` returns. default:
    the source's value where the key is absent. translate: the source's value -> densevit's, a function (ValueError: why
    it cannot), a table of values, or a ConfigSpec for the dict under the key (None stays None).
    """

    target: str | None
    default: Any = REQUIRED
    translate: "Callable[[Any], Any] | Mapping[Any, Any] | ConfigSpec | None" = None


class Only(NamedTuple):
    """The values that densevit has for a key: the default first."""

    default: Any
    allowed: Collection[Any]


ZERO = Only(0.0, [0])
NO_DROPOUT = {"drop_rate": ZERO, "attn_drop_rate": ZERO}


@dataclass(frozen=True)
class ConfigSpec:
    """A translation, called with a ConfigReader.

    Args:
        type: our class; None for the options of a part.
        keys: source key -> densevit's key, or (key, default, translate): see `Key` and `same`.
        fixed: source key -> the only value that densevit has there, or `Only` several that mean the same.
        ignored: source keys that do not change the model, separated by spaces.
        constants: densevit's key -> value.
        accepts: the source's types, separated by spaces; others are refused. '' accepts all.
        defaults: the source's options of a named model, where a key is absent.
        prepare: called with the reader first.
        finish: called last, with the translated config and the reader; what it returns, if anything, is the config.
    """

    type: str | None = None
    keys: Mapping[str, str | tuple] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    ignored: str = ""
    constants: Mapping[str, Any] = field(default_factory=dict)
    accepts: str = ""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    prepare: Callable[[ConfigReader], None] | None = None
    finish: Callable[[dict[str, Any], ConfigReader], Any] | None = None

    def __call__(self, reader: ConfigReader) -> Any:
        """The translated config. Raises ConfigError for an unknown key or an unsupported value."""
        if self.accepts:
            reader.of_type(*(None if name == "None" else name for name in self.accepts.split()))
        reader.remaining = {**self.defaults, **reader.remaining}
        if self.prepare is not None:
            self.prepare(reader)
        config = ({"type": self.type} if self.type is not None else {}) | copy.deepcopy(dict(self.constants))
        for theirs, how in self.keys.items():
            key = Key(*((how,) if isinstance(how, str) else how))
            _put(config, key.target, _translated(reader, theirs, key))
        for theirs, value in self.fixed.items():
            reader.require(theirs, *(value if isinstance(value, Only) else (value,)))
        reader.ignore(*self.ignored.split())
        made = self.finish(config, reader) if self.finish is not None else None
        reader.finish()
        return config if made is None else made

    def but(self, **changes: Any) -> "ConfigSpec":
        """The same with some fields exchanged; mappings and ignored keys are added to."""
        for name in ("keys", "fixed", "constants"):
            if name in changes:
                changes[name] = {**getattr(self, name), **changes[name]}
        if "ignored" in changes:
            changes["ignored"] = f"{self.ignored} {changes['ignored']}"
        return replace(self, **changes)


def _translated(reader: ConfigReader, key: str, how: Key) -> Any:
    value, translate = reader.pop(key, how.default), how.translate
    if isinstance(translate, ConfigSpec):
        absent = value is None and how.default is None
        return None if absent else translate(ConfigReader(value, f"{reader.where}.{key}"))
    try:
        if isinstance(translate, Mapping):
            if value not in translate:
                raise ValueError(f"densevit has {', '.join(map(repr, translate))} there.")
            return translate[value]
        return value if translate is None else translate(value)
    except ValueError as error:
        raise ConfigError(f"{reader.where}.{key} is {value!r}; {error}") from None


def _put(config: dict[str, Any], ours: str | None, value: Any) -> None:
    if ours is None:
        config.update(value or {})
        return
    *outer, last = ours.split(".")
    for name in outer:
        config = config.setdefault(name, {})
    config[last] = value


def _equal(a: Any, b: Any) -> bool:
    """Equal, lists and tuples alike."""
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(_equal(x, y) for x, y in zip(a, b, strict=True))
    return a == b and isinstance(a, bool) == isinstance(b, bool)


# ---- architectures -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tolerated:
    """Parameter names (regular expressions, within the part) that a file and a model need not both have.

    Args:
        new: groups of parameters that are added to a pretrained network and keep their initial values; a file may lack
            all names of a group, but not some.
        new_without_classifier: the same, for a file whose last norm was ignored together with its classifier.
        derived: buffers computed from the configuration; a file may have them or not.
        unused: what files have and the model is configured without.
    """

    new: tuple[str, ...] = ()
    new_without_classifier: tuple[str, ...] = ()
    derived: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()


@dataclass(frozen=True)
class Architecture:
    """One class of densevit, and its names and configurations in each source.

    Args:
        name: our class.
        keys: source -> rules of its tensors' names.
        configs: source -> its type ('*' stands for any end) -> a ConfigSpec, or a function in its place.
        tolerated: names that may differ.
        infer_from_keys: completes our configuration (given the source and the names in the file) by what the
            source's leaves open.
    """

    name: str
    keys: Mapping[str, Rules] = field(default_factory=dict)
    configs: Mapping[str, Mapping[str | None, Callable[[ConfigReader], Any]]] = field(default_factory=dict)
    tolerated: Tolerated = Tolerated()
    infer_from_keys: Callable[[dict[str, Any], str, set[str]], None] | None = None


ARCHITECTURES: dict[str, Architecture] = {}
"""By our class; filled by the files of densevit/converters/architectures/."""
ALSO = {"mmdet": "pvt", "mmseg": "pvt", "pvt": "mmdet"}
"""Sources that have parts of another, too: OpenMMLab's older versions around the backbones of PVT's repository."""


def translate_part(source: str, reader: ConfigReader) -> dict[str, Any]:
    """Our configuration of one part. Raises UnsupportedModelError where densevit has no counterpart."""
    for name in (source, ALSO.get(source)):
        for architecture in ARCHITECTURES.values():
            for kind, spec in architecture.configs.get(name, {}).items():
                if kind == reader.type or (kind is not None and "*" in kind and fnmatch(str(reader.type), kind)):
                    return spec(reader)
    raise UnsupportedModelError(
        f"{reader.where}.type is {reader.type!r} of {source}, which densevit has no counterpart of."
    )


def maps_of(part: Mapping[str, Any], **given: Any) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Channels and strides of the maps that our configuration of a part gives, as it publishes them itself. given: what
    a model gives a neck, `in_channels` and `in_strides`."""
    with torch.device("meta"):
        built = MODELS.build(group_options(part), default_args=given)
    return tuple(built.out_channels), tuple(built.out_strides)


# ---- keys and values that many configurations have ---------------------------------------------------

LN_EPS = 1e-5
"""What torch's LayerNorm and mmcv's build_norm_layer have by default."""


def same(within: str = "", **defaults: Any) -> dict[str, tuple]:
    """Keys of one name in the source and in densevit (there with a prefix, as 'arch.'), with the source's defaults."""
    return {name: (within + name, default) for name, default in defaults.items()}


def must_be(wanted: bool) -> Callable[[Any], None]:
    """A flag with one value here, which the source's own default may not be."""

    def check(value: Any) -> None:
        if bool(value) != wanted:
            raise ValueError(f"densevit has {wanted} there.")

    return check


def side_pair(size: Any) -> tuple[int, int]:
    """A side, or (height, width), as (height, width)."""
    sides = tuple(size) if isinstance(size, (list, tuple)) else (size,)
    return (sides[0], sides[-1])


def indices(value: Any) -> tuple[int, ...]:
    """One number, or several in order."""
    return (value,) if isinstance(value, int) else tuple(sorted(value))


def add_defaults(reader: ConfigReader, named: Mapping[str, Mapping] = {}) -> None:
    """Put the options of a named model under those that are given: `architecture`, `model_args` and the image size of
    `pretrained_cfg`, as timm's config.json has them."""
    name = str(reader.pop("architecture", reader.type)).split(".")[0]
    facts, given = reader.pop("pretrained_cfg", {}), dict(reader.pop("model_args", {}))
    if len(facts.get("input_size", ())) == 3:
        given = {"img_size": tuple(facts["input_size"][1:]), **given}
    for key, value in {**named.get(name, {}), **given}.items():
        reader.remaining.setdefault(key, value)


def unless(absent: Any, ours: str) -> Callable[[Any], dict[str, Any]]:
    """A key that is left out where the source's value is `absent`; for a `Key` whose `target` is None."""
    return lambda value: {} if value == absent else {ours: value}


def whole_model(backbone: dict, neck: Any, head: dict, preprocessor: Mapping[str, Any], **rest: Any) -> dict[str, Any]:
    """Our configuration of a whole model."""
    prepared = {"type": "Preprocessor", **preprocessor}
    neck = {} if neck is None else {"neck": neck}
    return {"type": "DensePredictor", "data_preprocessor": prepared, "backbone": backbone, **neck, "head": head, **rest}


# ---- groups: translations name options flat, our constructors take `layer_scale` as `block.layer_scale` -----------


def _table(**groups: str) -> dict[str, tuple[str, str]]:
    """Flat name -> group and name in it, of words 'flat->name' or 'name' by group."""
    pairs = {}
    for group, words in groups.items():
        for word in words.split():
            flat, _, name = word.partition("->")
            pairs[flat] = (group, name or flat)
    return pairs


CODER = "target_means->means target_stds->stds"
LOSS = "smooth_l1_beta class_loss_weight->cls_weight box_loss_weight->box_weight"
RPN = _table(anchors="scales ratios", coder=f"{CODER} limit_shrink", loss=f"{LOSS} divisor")
ROI_BOX = _table(coder=f"{CODER} limit_shrink", loss=f"{LOSS} box_loss->kind")
OPTIONS = {
    "ViT": _table(
        tokens="class_token->cls distillation_token->dist register_tokens->registers append_cls_token->append_cls "
        "class_norm->cls_norm",
        pos_embed="positions->kind table_rows->prefix_rows table_mode->mode table_antialias->antialias "
        "table_offset->offset keep_pos_embed_if_same_length->keep_if_same_length rotary_base->base "
        "rotary_coords->coords rotary_steps->steps",
        rel_pos="relative_positions->kind relative_img_size->img_size",
        windows="window_size->size window_blocks->blocks window_padding->padding conv_blocks",
        block="norm_eps qkv_bias key_bias proj_bias mlp_bias mlp sub_ln layer_scale",
    ),
    "Swin": _table(shift="shift_size->size shift_small_maps->small_maps pad_first"),
    "SwinV2": _table(shift="shift_size->size pad_first"),
    "MViTv2": _table(pooling="kv_stride double_kv_stride residual_pooling->residual class_residual"),
    "RetinaNetHead": _table(
        anchors="octave_base_scale scales_per_octave scales ratios anchor_strides->strides",
        coder=CODER,
        loss=f"focal_gamma focal_alpha {LOSS}",
    ),
}
"""By our class: flat name -> (group, name in it)."""
PARTS = {"rpn": RPN, "box": ROI_BOX, "stages": ROI_BOX}
"""Options of a head of two stages that are themselves such options."""
VALUES = {("positions", "table"): "learned", ("positions", "table+rotary"): "learned+rotary"}


def group_options(config: Any) -> Any:
    """Our configuration, of a part or a whole model, with every option in its group. What is in one already stays."""
    if isinstance(config, (list, tuple)):
        return type(config)(map(group_options, config))
    if not isinstance(config, Mapping):
        return config
    two_stages = str(config.get("type")).endswith("RCNNHead")
    config = {
        key: _grouped(value, PARTS[key]) if two_stages and key in PARTS else group_options(value)
        for key, value in config.items()
    }
    return _grouped(config, OPTIONS.get(config.get("type"), {}))


def _grouped(config: Any, table: Mapping[str, tuple[str, str]]) -> Any:
    if isinstance(config, (list, tuple)):
        return type(config)(_grouped(part, table) for part in config)
    grouped: dict[str, Any] = {}
    for key, value in config.items():
        if key in table:
            group, name = table[key]
            grouped.setdefault(group, {})[name] = VALUES.get((key, value), value) if isinstance(value, str) else value
        elif isinstance(value, Mapping) and isinstance(grouped.get(key), dict):
            grouped[key] |= value
        else:
            grouped[key] = dict(value) if isinstance(value, Mapping) else value
    return grouped
