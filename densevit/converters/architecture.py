"""One architecture: names of its tensors and its configurations in each source, and which names may differ."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from densevit.converters.config_spec import ConfigReader
from densevit.converters.key_mapping import Rules


@dataclass(frozen=True)
class Tolerated:
    """Names of ours (regular expressions within the part) that a file and a model need not both have.

    Args:
        new: kinds of what is added to a pretrained network and keeps its initial numbers: a file may lack all names of
            a kind, not some.
        new_without_classifier: the same, of a file whose own last norm was ignored together with its classifier.
        derived: what follows from the configuration, given or not.
        unused: what files have, and a model may be configured to do without.
    """

    new: tuple[str, ...] = ()
    new_without_classifier: tuple[str, ...] = ()
    derived: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()


@dataclass(frozen=True)
class Architecture:
    """One class of ours in the terms of others.

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
