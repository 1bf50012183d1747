"""Holds the values of a configuration against the types that constructors state, before anything is built."""

import contextlib
import inspect
import math
import re
import types
import typing
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Union

import mmengine.registry
from mmengine.registry import DefaultScope
from torch.utils.data import DataLoader

from densevit.engine.config_checks import ConfigChecker
from densevit.errors import ConfigError

RANGES = (
    (r"(\w+_)?(prob|(drop|dropout|drop_path)(_rate|_ratio)?)", 0, 1),
    (r"batch_size|max_epochs|max_iters|val_interval|prefetch_factor", 1, math.inf),
    (r"num_workers|seed|lr|val_begin|max_norm|clip_value", 0, math.inf),
)
"""Names of settings with the least and the largest value of each."""
NO_TEXT = {int, float, bool, list, tuple, dict, Sequence, Iterable, Mapping}
"""Types of arguments that take no text, unless they say so."""


class ValueChecker(ConfigChecker):
    """Walks through a configuration as `ConfigChecker` does; `check` raises ConfigError at the first value of a wrong
    type or out of its range."""

    def check(self, settings: dict) -> None:
        with DefaultScope.overwrite_default_scope(settings.get("default_scope") or "densevit"):
            for key, value in settings.items():
                self._section(key, value)
        self._ranges("", settings)

    def _arguments(self, path: str, value: dict, registry: str, kind: Any) -> None:
        if isinstance(kind, str):
            with getattr(mmengine.registry, registry).switch_scope_and_registry(value.get("_scope_")) as known:
                kind = known.get(kind)
        self._types(path, value, kind)

    def _loader(self, path: str, loader: Any) -> None:
        super()._loader(path, loader)
        self._types(path, loader, DataLoader)

    def _types(self, path: str, value: dict, kind: Any) -> None:
        stated = _annotations(kind)
        for key, item in value.items():
            if key in stated and not _fits(item, stated[key]):
                wanted = getattr(stated[key], "__name__", None) or str(stated[key]).replace("typing.", "")
                name = getattr(kind, "__name__", kind)
                self._refuse(f"{path}.{key}", f"{path}.{key} is {item!r}, and {name} takes {wanted}", "correct it")

    def _ranges(self, path: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, item in value.items():
                location = f"{path}{key}"
                for pattern, least, largest in RANGES if isinstance(item, (int, float, str)) else ():
                    fits = not isinstance(item, str) and least <= item <= largest
                    if not fits and re.fullmatch(pattern, str(key)):
                        between = f"at least {least}" if largest == math.inf else f"between {least} and {largest}"
                        self._refuse(location, f"{location} is {item!r}, and has to be {between}", "correct it")
                self._ranges(f"{location}.", item)
        elif isinstance(value, (list, tuple)):
            for index, item in enumerate(value):
                self._ranges(f"{path}{index}.", item)
        elif isinstance(value, float) and math.isnan(value):
            self._refuse(path.rstrip("."), f"{path.rstrip('.')} is not a number", "correct it")


def _annotations(kind: Any) -> dict[str, Any]:
    """The types that a function, or a class and its bases, state for their arguments."""
    found: dict[str, Any] = {}
    for step in reversed(kind.__mro__) if inspect.isclass(kind) else (kind,):
        function = step.__dict__.get("__init__") if inspect.isclass(kind) else step
        for name, annotation in getattr(function, "__annotations__", {}).items():
            with contextlib.suppress(Exception):  # a name that was imported for type checkers alone
                stated = eval(annotation, function.__globals__) if isinstance(annotation, str) else annotation
                found |= {name: stated} if isinstance(stated, Hashable) else {}
    return found


def _fits(value: Any, annotation: Any) -> bool:
    """Whether a plain value may be an argument of this type; everything else, and types that are not plain, may."""
    union = typing.get_origin(annotation) in (Union, types.UnionType)
    members = set(typing.get_args(annotation)) if union else {annotation}
    if isinstance(value, str):
        return str in members or not {typing.get_origin(member) or member for member in members} & NO_TEXT
    if isinstance(value, (int, float)):
        return bool(members - {str, type(None)}) and (
            bool(members & {int, float}) or members != {bool} or value in (0, 1)
        )
    return value is not None or bool(members - {int, float, bool, str})


@contextlib.contextmanager
def building(section: str) -> Iterator[None]:
    """What a constructor raises of its arguments becomes a ConfigError that names the section of the config."""
    try:
        yield
    except (ValueError, TypeError, AssertionError, KeyError, ArithmeticError, AttributeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise ConfigError(f"{section} of the config cannot be built ({reason}); correct it.") from error
