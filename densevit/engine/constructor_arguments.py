"""The classes in the registries and the arguments of their constructors, with the types that they state."""

import ast
import contextlib
import functools
import inspect
import textwrap
import types
import typing
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, Union

import mmengine.registry
from torch import nn

import densevit.registry

UNREAD_KWARGS = {"CheckpointHook": None, "EMAHook": ("MODELS", "ExponentialMovingAverage")}
"""Classes whose `**kwargs` are not for a base class, but for the class named here, or, where that is None, unused."""
NO_TEXT = {int, float, bool, list, tuple, dict, Sequence, Iterable, Mapping}
"""Types of arguments that do not accept a string."""


def registered(registry: str) -> dict[str, Any]:
    """Every class and function of a registry by its name: MMEngine's, then densevit's and those of other projects."""
    root = getattr(mmengine.registry, registry)
    branches = [root, *root.children.values()]
    for branch in branches:
        if branch.scope in densevit.registry.SCOPES:
            branch.import_from_location()
    return {name: kind for branch in branches for name, kind in branch.module_dict.items()}


def find(registry: str, kind: Any) -> Any:
    """What `type=kind` means in a registry, or None.

    Args:
        registry: a registry's name in densevit.registry, 'MODELS'.
        kind: a name, 'scope.name', a path such as 'torchvision.models.resnet18', or a class or function itself.
    """
    if not isinstance(kind, str):
        return kind if callable(kind) else None
    scope, _, name = kind.rpartition(".")
    if scope in ("", *densevit.registry.SCOPES) and name in (known := registered(registry)):
        return known[name]
    if scope:
        with contextlib.suppress(Exception):  # whatever the import of another project raises
            return getattr(mmengine.registry, registry).get(kind)
    return None


@functools.cache
def keyword_arguments(kind: Any) -> tuple[frozenset[str], bool]:
    """The keyword arguments of a function, or of a class and of the bases to which it passes `**kwargs`; and whether it
    takes others as well."""
    found: set[str] = set()
    for function in _constructors(kind):
        try:
            parameters = inspect.signature(function).parameters.values()
        except (TypeError, ValueError):  # not written in Python
            return frozenset(found), True
        found |= {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)} - {"self"}
        rest = next((p.name for p in parameters if p.kind is p.VAR_KEYWORD), None)
        if rest is None:
            break
        if (name := getattr(kind, "__name__", "")) in UNREAD_KWARGS:
            receiver = UNREAD_KWARGS[name]
            return frozenset(found | (keyword_arguments(find(*receiver))[0] if receiver else set())), False
        if not _passes_on(function, rest):
            return frozenset(found), True
    return frozenset(found), False


def annotations(kind: Any) -> dict[str, Any]:
    """The types that a function, or a class and its bases, state for their arguments."""
    found: dict[str, Any] = {}
    for function in reversed(_constructors(kind)):
        for name, annotation in getattr(function, "__annotations__", {}).items():
            with contextlib.suppress(Exception):  # a name that was imported for type checkers alone
                stated = eval(annotation, function.__globals__) if isinstance(annotation, str) else annotation
                found |= {name: stated} if isinstance(stated, Hashable) else {}
    return found


def _constructors(kind: Any) -> list[Callable]:
    """Those of a class and its bases, the class's own first; a function itself."""
    if not inspect.isclass(kind):
        return [kind]
    return [vars(c)["__init__"] for c in kind.__mro__ if "__init__" in vars(c) and c not in (object, nn.Module)]


def _passes_on(constructor: Callable, rest: str) -> bool:
    """Whether `**rest` goes to a base's constructor: `super().__init__(..., **rest)` or `Base.__init__(...)`."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(constructor)))
    except (OSError, TypeError, SyntaxError):
        return False
    calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and getattr(n.func, "attr", "") == "__init__"]
    return any(k.arg is None and getattr(k.value, "id", "") == rest for call in calls for k in call.keywords)


def fits(value: Any, annotation: Any) -> bool:
    """Whether a number, string or None may be an argument of this type; any other value and type is accepted."""
    union = typing.get_origin(annotation) in (Union, types.UnionType)
    members = set(typing.get_args(annotation)) if union else {annotation}
    if isinstance(value, str):
        return str in members or not {typing.get_origin(member) or member for member in members} & NO_TEXT
    if isinstance(value, (int, float)):
        return bool(members - {str, type(None)}) and (
            bool(members & {int, float}) or members != {bool} or value in (0, 1)
        )
    return value is not None or bool(members - {int, float, bool, str})
