"""What one project's file says: where its weights keep the parts of a model, and how it configures whole models."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from densevit.checkpoints.embedded_config import CheckpointFiles, EmbeddedConfig
from densevit.converters.config_spec import ConfigReader

Assembly = Callable[[str, ConfigReader], dict[str, Any]]
"""The source's name and its configuration of a whole model -> ours."""


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
        models: its types of whole models -> what makes ours of their configuration.
        open: what its files carry beside the weights; None where they are not its own, or carry nothing.
        type_key: where its configurations name their type, if not under `type`.
        names: older names of the source.
    """

    prefixes: tuple[Prefix, ...] = ()
    models: Mapping[str, Assembly] = field(default_factory=dict)
    open: Callable[[CheckpointFiles], EmbeddedConfig | None] | None = None
    type_key: str | None = None
    names: tuple[str, ...] = ()
