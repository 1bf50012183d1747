"""A configuration as Python source that reads back as the same configuration."""

import itertools
import math
from keyword import iskeyword
from typing import Any

WIDTH = 110


def _literal(value: Any) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return f'float("{value}")'
    return repr(value)


def _render(value: Any, indent: int, room: int) -> str:
    """`value` as source; broken over lines, each part indented, where it does not fit into `room` characters."""
    if isinstance(value, dict):
        words = all(isinstance(key, str) and key.isidentifier() and not iskeyword(key) for key in value)
        keys = [f"{key}=" if words else f"{key!r}: " for key in value]
        opening, closing = ("dict(", ")") if words else ("{", "}")
        items = list(zip(keys, value.values(), strict=True))
    elif isinstance(value, (list, tuple)):
        opening, closing = "[]" if isinstance(value, list) else "()"
        items = [("", item) for item in value]
        if isinstance(value, tuple) and len(value) == 1:
            closing = ",)"
    else:
        return _literal(value)
    line = opening + ", ".join(key + _render(item, 0, 10**9) for key, item in items) + closing
    if len(line) <= room:
        return line
    inner = indent + 4
    lines = [" " * inner + key + _render(item, inner, WIDTH - inner - len(key) - 1) + "," for key, item in items]
    return "\n".join([opening, *lines, " " * indent + closing.lstrip(",")])


def config_text(settings: dict) -> str:
    """Python source of a configuration: one assignment for each top-level key.

    Args:
        settings: plain dictionaries, lists, tuples, strings, numbers, booleans and None, as Config.to_dict() gives.
            Anything else is written as its repr.
    """
    lines = [f"{key} = {_render(value, 0, WIDTH - len(key) - 3)}" for key, value in settings.items()]
    return "\n".join(lines) + "\n"


def flat_config_text(name: str) -> str:
    """A shipped recipe with all of its bases as the text of one file, its header first.

    Raises:
        ConfigError: no recipe of this name comes with densevit.
    """
    from densevit.engine.config import config_path, read_config

    path = config_path(name)
    lines = path.read_text(encoding="utf-8").splitlines()
    header = list(itertools.takewhile(lambda line: line.startswith("#"), lines))
    return "\n".join([*header, config_text(read_config(path).to_dict())])
