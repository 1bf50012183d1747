"""What a config may name, and which arguments it takes, read off the sources without importing them.

Importing torch takes seconds; a spelling mistake should be told in half of one. So `register_module` is looked for in
the text of the files (densevit's own, MMEngine's, mmcv's transforms, torch's optimizers), and the one class that a
config names is parsed with `ast`: the arguments of its constructor, and of its base classes' where `**kwargs` hands
the rest on to them.
"""

import ast
import dataclasses
import functools
import importlib.util
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# where MMEngine and its family keep the classes of each registry; densevit's own sources are searched for all of them
HOMES = {
    "MODELS": ["mmengine/model"],
    "MODEL_WRAPPERS": ["mmengine/model/wrappers"],
    "WEIGHT_INITIALIZERS": ["mmengine/model/weight_init.py"],
    "DATASETS": ["mmengine/dataset"],
    "DATA_SAMPLERS": ["mmengine/dataset"],
    "FUNCTIONS": ["mmengine/dataset"],
    "TRANSFORMS": ["mmcv/transforms", "mmengine/dataset"],
    "LOOPS": ["mmengine/runner/loops.py"],
    "HOOKS": ["mmengine/hooks"],
    "OPTIM_WRAPPERS": ["mmengine/optim/optimizer"],
    "OPTIM_WRAPPER_CONSTRUCTORS": ["mmengine/optim/optimizer"],
    "OPTIMIZERS": ["torch/optim", "mmengine/optim/optimizer"],
    "PARAM_SCHEDULERS": ["mmengine/optim/scheduler"],
    "METRICS": ["mmengine/evaluator"],
    "EVALUATOR": ["mmengine/evaluator"],
    "VISUALIZERS": ["mmengine/visualization"],
    "VISBACKENDS": ["mmengine/visualization"],
    "LOG_PROCESSORS": ["mmengine/runner/log_processor.py"],
    "RUNNERS": ["mmengine/runner/runner.py"],
}
# bases that live elsewhere than the classes that inherit from them
BASES = {"DataLoader": [], "DistributedDataParallel": [], "BaseModule": ["mmengine/model/base_module.py"]}

_REGISTERED = re.compile(
    r"^@?(\w+)\.register_module\((?P<arguments>[^()]*)\)[ \t]*(?:#.*)?\n(?:@.*\n)*(?:class|def)[ \t]+(?P<name>\w+)"
    r"|^[ \t]*(\w+)\.register_module\((?P<call>[^()]*module=(?P<module>\w+)[^()]*)\)",
    re.MULTILINE,
)
_NAME = re.compile(r"""(?:^\s*|name\s*=\s*)\(?\[?["'](\w+)["']""")
_OPTIMIZER = re.compile(r"^class[ \t]+([A-Z]\w+)\((?:Optimizer|Adam|SGD)\b", re.MULTILINE)
# keyword arguments handed on to another class than a base
DELEGATES = {"EMAHook": ("MODELS", "ExponentialMovingAverage")}
# `**kwargs` that nothing looks at
CLOSED = {"CheckpointHook"}


@dataclasses.dataclass(frozen=True)
class Signature:
    """The keyword arguments of one constructor; `open` where it takes any."""

    name: str
    arguments: frozenset[str]
    open: bool = False


@functools.cache
def _package(name: str) -> Path | None:
    """The folder of a top-level package, found without importing it."""
    spec = importlib.util.find_spec(name)
    return Path(next(iter(spec.submodule_search_locations))) if spec and spec.submodule_search_locations else None


@functools.cache
def _files(location: str) -> tuple[Path, ...]:
    top, _, rest = location.partition("/")
    folder = _package(top)
    if folder is None:
        return ()
    path = folder / rest
    return (path,) if path.suffix == ".py" else tuple(sorted(path.rglob("*.py")))


@functools.cache
def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


@functools.cache
def _parsed(path: Path) -> ast.Module:
    return ast.parse(_text(path))


@functools.cache
def _registered(path: Path) -> tuple[tuple[str, str, str], ...]:
    """(registry, registered name, name in the source) of everything that a file registers."""
    found = []
    for match in _REGISTERED.finditer(_text(path)):
        registry, source = match.group(1) or match.group(4), match.group("name") or match.group("module")
        named = _NAME.search(match.group("arguments") or match.group("call") or "")
        if named or match.group("name") or source[0].isupper():  # not `register_module(module=variable)`
            found.append((registry, named.group(1) if named else source, source))
    return tuple(found)


def module_files(modules: list[str]) -> tuple[Path, ...]:
    """The sources of the modules that a config's `custom_imports` names, found on sys.path without importing them."""
    found: list[Path] = []
    for module in modules:
        for root in sys.path:
            path = Path(root or ".") / module.replace(".", "/")
            if path.with_suffix(".py").is_file():
                found.append(path.with_suffix(".py"))
                break
            if (path / "__init__.py").is_file():
                found += sorted(path.rglob("*.py"))
                break
    return tuple(found)


def _places(registry: str, extra: tuple[Path, ...]) -> Iterator[Path]:
    yield from extra
    yield from _files("densevit/")
    for location in HOMES.get(registry, []):
        yield from _files(location)


def names(registry: str, extra: tuple[Path, ...] = ()) -> list[str]:
    """Every name that a registry is known to hold, for the 'nearest' of a message."""
    found = {name for path in _places(registry, extra) for home, name, _ in _registered(path) if home == registry}
    if registry == "OPTIMIZERS":
        found |= {name for path in _files("torch/optim") for name in _OPTIMIZER.findall(_text(path))}
    return sorted(name for name in found | set(_live(registry)) if not name.startswith("_"))


def _live(registry: str) -> dict[str, Any]:
    """What this process has registered already: classes from a notebook or a test have no file on the search path."""
    found: dict[str, Any] = {}
    for module in ("mmengine.registry", "densevit.registry"):
        branch = getattr(sys.modules.get(module), registry, None)
        found.update(getattr(branch, "_module_dict", {}))
    return found


@functools.cache
def _find(registry: str, name: str, extra: tuple[Path, ...]) -> tuple[Path, str] | None:
    for path in _places(registry, extra):
        for home, registered, source in _registered(path):
            if home == registry and registered == name:
                return path, source
    if registry == "OPTIMIZERS":
        for path in _files("torch/optim"):
            if name in _OPTIMIZER.findall(_text(path)):
                return path, name
    return None


def signature(registry: str, kind: Any, extra: tuple[Path, ...] = ()) -> Signature | None:
    """The constructor of what `type=kind` means in a registry.

    Args:
        registry: a registry's name in densevit.registry, 'MODELS'.
        kind: a name, 'scope.name', or a class or function itself.
        extra: further sources to search first.

    Returns:
        Signature | None: None where nothing of that name is known; open where its arguments cannot be told.
    """
    if not isinstance(kind, str):
        return _of_object(kind)
    name = kind
    if "." in kind:
        scope, _, name = kind.rpartition(".")
        if scope not in ("densevit", "mmengine"):
            return Signature(kind, frozenset(), open=True)  # a class by its full path, or of another project
    found = _find(registry, name, extra)
    if found is None:
        live = _live(registry).get(name)
        return _of_object(live) if live is not None else None
    path, source = found
    arguments, is_open = _arguments(path, source, (registry, extra))
    delegate = signature(*DELEGATES[name]) if name in DELEGATES else None
    if delegate is not None:
        return Signature(name, arguments | delegate.arguments, delegate.open)
    return Signature(name, arguments, is_open and name not in CLOSED)


def _of_object(kind: Any) -> Signature:
    """The same from a live class: its own constructor, and its bases' as long as `**kwargs` hands arguments on."""
    arguments: set[str] = set()
    chain = (
        [c for c in inspect.getmro(kind) if "__init__" in vars(c) and c is not object] if inspect.isclass(kind) else []
    )
    for step in [vars(c)["__init__"] for c in chain] or [kind]:
        try:
            parameters = inspect.signature(step).parameters.values()
        except (TypeError, ValueError):
            return Signature(getattr(kind, "__name__", str(kind)), frozenset(), open=True)
        arguments |= {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)} - {"self"}
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    else:
        return Signature(kind.__name__, frozenset(arguments), open=True)
    return Signature(kind.__name__, frozenset(arguments))


def _definition(path: Path, name: str) -> ast.ClassDef | ast.FunctionDef | None:
    for node in ast.walk(_parsed(path)):
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and node.name == name:
            return node
    return None


def _base_name(path: Path, base: ast.expr) -> tuple[str, bool]:
    """(name of a base class where it is defined, whether that is another file for certain)."""
    if isinstance(base, ast.Attribute):
        return base.attr, True
    name = getattr(base, "id", "")
    for node in ast.walk(_parsed(path)):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return alias.name, True
    return name, False


def _base_file(path: Path, name: str, elsewhere: bool, search: tuple[str, tuple[Path, ...]]) -> Path | None:
    """The file that defines a base class: this one, its neighbors, or the locations of the registry."""
    pattern = re.compile(rf"^class {re.escape(name)}\b", re.MULTILINE)
    locations = [path, *sorted(path.parent.glob("*.py")), *_places(*search)]
    locations += [file for location in BASES.get(name, []) for file in _files(location)]
    return next((file for file in locations if pattern.search(_text(file)) and not (elsewhere and file == path)), None)


def _lineage(path: Path, name: str, search: tuple) -> Iterator[ast.ClassDef | ast.FunctionDef | None]:
    """A class and its bases, depth first, left to right; None for a base whose source is not at hand."""
    node = _definition(path, name)
    yield node
    if isinstance(node, ast.ClassDef):
        for base in node.bases:
            base_name, elsewhere = _base_name(path, base)
            if base_name in ("object", "ABC", "Module", "Generic", "Dataset", "Sampler"):
                continue  # constructors without arguments
            file = _base_file(path, base_name, elsewhere, search)
            if file is None:
                yield None
            else:
                yield from _lineage(file, base_name, search)


def _arguments(path: Path, name: str, search: tuple) -> tuple[frozenset[str], bool]:
    """The keyword arguments of a class's constructor (or of a function), and whether it takes any others."""
    found: set[str] = set()
    for node in _lineage(path, name, search):
        if node is None:
            return frozenset(found), True
        start: Any = node
        if isinstance(node, ast.ClassDef):
            start = next((s for s in node.body if isinstance(s, ast.FunctionDef) and s.name == "__init__"), None)
            if start is None and any("dataclass" in ast.dump(d) for d in node.decorator_list):
                return frozenset(found), True
            if start is None:
                continue
        arguments = start.args
        found |= {a.arg for a in arguments.posonlyargs + arguments.args + arguments.kwonlyargs} - {"self", "cls"}
        if arguments.kwarg is None:
            return frozenset(found), False
        if not _hands_on(start, arguments.kwarg.arg):
            return frozenset(found), True
    return frozenset(found), False


def _hands_on(constructor: ast.FunctionDef, rest: str) -> bool:
    """Whether `**rest` goes to a base's constructor: `super().__init__(..., **rest)` or `Base.__init__(...)`."""
    for call in ast.walk(constructor):
        to_base = isinstance(call, ast.Call) and getattr(call.func, "attr", "") == "__init__"
        if to_base and any(k.arg is None and getattr(k.value, "id", "") == rest for k in call.keywords):
            return True
    return False
