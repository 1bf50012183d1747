"""One project: where its files keep the parts of a model, what they carry beside the weights, and how it configures
whole models. Nothing of a file is run: configurations are read as data."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from densevit.checkpoints.reading import CheckpointFiles
from densevit.converters.config_spec import ConfigReader

SEGMENTATION_SIZE = (2048, 512)
"""(Long, short) side of ADE20K's test images, where a file of a segmentation model states none."""


class EmbeddedConfig(NamedTuple):
    """What a checkpoint carries.

    source: the project whose terms the configuration is in. config: the model's. where: the configuration's place, for
    messages. dataset: class names and colors, as far as they are there. test_size: (long, short) side of test images,
    () for images as they are, arguments of Resize where it is of another kind, None where the file states none.
    """

    source: str
    config: dict[str, Any]
    where: str
    dataset: Mapping[str, Any] = {}
    test_size: tuple[int, ...] | dict[str, Any] | None = None


class Prefix(NamedTuple):
    """source: prefix of a part in a file; target: prefix of the part here, or the name of its class; kept: what of the
    source's prefix the rules know. `{}` is the number of one of several, carried over."""

    source: str
    target: str
    kept: str = ""


@dataclass(frozen=True)
class Source:
    """One project.

    Args:
        prefixes: where its files keep the parts of a whole model.
        models: its types of whole models ('*': any) -> function of the source's name and the configuration.
        open: what its files carry beside the weights; None where they are not its own, or carry nothing.
        type_key: the key that holds the type in its configurations, if not `type`.
        names: older names of the source.
    """

    prefixes: tuple[Prefix, ...] = ()
    models: Mapping[str, Callable[[str, ConfigReader], dict[str, Any]]] = field(default_factory=dict)
    open: Callable[[CheckpointFiles], EmbeddedConfig | None] | None = None
    type_key: str | None = None
    names: tuple[str, ...] = ()


def prefixes(words: str) -> tuple[Prefix, ...]:
    """Prefixes out of words `source->target`; in `source|kept->target` the rules know what comes after the `|`."""
    pairs = (word.split("->") for word in words.split())
    return tuple(Prefix(theirs.replace("|", ""), ours, theirs.partition("|")[2]) for theirs, ours in pairs)
