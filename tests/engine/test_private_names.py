"""What other packages keep to themselves is touched in one module, or listed there with the reason."""

import ast
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path

import densevit
from densevit.engine import mmengine_patches

PACKAGE = Path(densevit.__file__).parent
PATCHES = Path(mmengine_patches.__file__)
TREES = {path: ast.parse(path.read_text()) for path in PACKAGE.rglob("*.py") if "configs" not in path.parts}
PUBLIC = {"_fields", "_replace", "_asdict", "_make", "_exit"}
"""Of named tuples, and of `os`: documented."""
MADE_BY_PYTHON = {"_abc_impl", "_backward_cls", "_is_protocol", "_is_runtime_protocol"}
"""Attributes of every class of a kind: abstract ones, autograd functions, protocols."""
KERNELS = ("mkldnn",)
"""Namespaces of torch.ops whose operators have no public names; kernels call them."""
SETTINGS = {"Image.MAX_IMAGE_PIXELS"}
"""Documented settings of other packages."""


def private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name != "_"


def own_names() -> set[str]:
    """Private names that densevit defines: functions, classes, variables and attributes of `self`."""
    found = set()
    for tree in TREES.values():
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                found.add(node.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                found.add(node.id)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                found |= {node.attr} if isinstance(node.value, ast.Name) and node.value.id == "self" else set()
    return found


def foreign_names(tree: ast.Module, own: set[str]) -> Iterator[str]:
    """Private attributes, also by getattr, and imports of names that are none of ours."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            of_kernels = isinstance(node.value, ast.Attribute) and node.value.attr in KERNELS
            yield from [] if of_kernels or node.attr in own else [node.attr]
        elif isinstance(node, ast.ImportFrom) and not (node.module or "").startswith("densevit"):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("getattr", "setattr", "hasattr"):
            name = getattr(node.args[1], "value", None)
            yield from [name] if isinstance(name, str) and name not in own else []


def overridden_names() -> Iterator[tuple[str, str]]:
    """(class, private member) of our classes that override one of another package's class."""
    for path in TREES:
        module = ".".join(("densevit", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
        for kind in vars(importlib.import_module(module)).values():
            if not inspect.isclass(kind) or kind.__module__ != module:
                continue
            others = [base for base in kind.__mro__[1:] if not base.__module__.startswith("densevit")]
            for name in filter(private, vars(kind)):
                if any(name in vars(base) for base in others) and name not in MADE_BY_PYTHON:
                    yield kind.__qualname__, name


def test_private_names_of_other_packages_are_listed_with_their_reason():
    own = own_names() - mmengine_patches.PRIVATE_NAMES.keys() | PUBLIC
    for path, tree in TREES.items():
        used = set(filter(private, foreign_names(tree, own)))
        assert used <= mmengine_patches.PRIVATE_NAMES.keys(), (path, used - mmengine_patches.PRIVATE_NAMES.keys())
    odd = {(kind, name) for kind, name in overridden_names() if name not in mmengine_patches.PRIVATE_NAMES}
    assert not odd


def test_nothing_of_another_package_is_replaced_elsewhere():
    """`package.name = ...`, where `package` was imported."""
    for path, tree in TREES.items():
        imported = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and not (node.module or "").startswith("densevit"):
                imported |= {alias.asname or alias.name for alias in node.names}
            elif isinstance(node, ast.Import):
                imported |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        targets = [n for n in ast.walk(tree) if isinstance(n, ast.Attribute) and not isinstance(n.ctx, ast.Load)]
        replaced = {name for name in map(ast.unparse, targets) if name.split(".")[0] in imported} - SETTINGS
        assert path == PATCHES or not replaced, (path, replaced)


def test_every_listed_name_is_used():
    sources = "".join(path.read_text() for path in TREES if path != PATCHES)
    patches = PATCHES.read_text()
    for name in mmengine_patches.PRIVATE_NAMES:
        assert name in sources or f".{name}" in patches or f"import {name}" in patches, f"{name} is not used: unlist it"
