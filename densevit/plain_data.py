"""Reads JSON, YAML and lists of names as plain data: no code in them is run, and time and memory are bounded."""

import codecs
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

LONGEST_JSON, LONGEST_YAML = 16 << 20, 1 << 20
"""Characters; YAML is read at some 100 kB a second."""
COMMENT = re.compile(r"(^\s*|\s)#(\s.*)?$")
"""From a '#' with blanks around it to the end of the line."""
MOST_NODES = 500_000
"""Values of a YAML file, with its aliases expanded."""


class PlainLoader(yaml.SafeLoader):
    """YAML's plain data, and tuples as MMEngine writes them."""


def _tuple(loader: PlainLoader, node: yaml.Node) -> tuple:
    return tuple(loader.construct_sequence(node, deep=True))


PlainLoader.add_constructor("tag:yaml.org,2002:python/tuple", _tuple)


def entries(value: Any, path: str = "") -> Iterator[tuple[str, dict, str]]:
    """Every entry of nested dictionaries and lists: its dotted path, the dictionary that holds it, and its key."""
    if isinstance(value, dict):
        for key in list(value):
            yield f"{path}{key}", value, key
            yield from entries(value[key], f"{path}{key}.")
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from entries(item, f"{path}{index}.")


def read_text(path: str | Path) -> str:
    """A text file, decoded by its byte order mark, else as UTF-8, else as Latin-1. Raises OSError."""
    return decode_text(Path(path).read_bytes())


def decode_text(content: bytes) -> str:
    """The contents of a text file as `read_text` reads it."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16", errors="replace")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def read_lines(path: str | Path) -> list[str]:
    """The lines of a text file, stripped, without comments and empty lines. Raises OSError."""
    lines = (COMMENT.sub("", line).strip() for line in read_text(path).splitlines())
    return [line for line in lines if line]


def parse_json(text: str) -> Any:
    """JSON as data. Raises ValueError."""
    if len(text) > LONGEST_JSON:
        raise ValueError(f"{len(text):,} characters are more than is read as JSON")
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("its values are nested too deeply") from error


def parse_yaml(text: str, loader: type[yaml.SafeLoader] = PlainLoader) -> Any:
    """YAML as data. Raises ValueError."""
    if len(text) > LONGEST_YAML:
        raise ValueError(f"{len(text):,} characters are more than is read as YAML")
    try:
        reader = loader(text)
        node = reader.get_single_node()
        if node is None:
            return None
        if _count(node, {}) > MOST_NODES:
            raise ValueError(f"with its aliases expanded it has more than {MOST_NODES:,} values")
        return reader.construct_document(node)
    except RecursionError as error:
        raise ValueError("its values are nested too deeply") from error
    except (yaml.YAMLError, TypeError, AttributeError) as error:
        raise ValueError(" ".join(str(error).split())) from error


def _count(node: yaml.Node, known: dict[int, int | None]) -> int:
    """The number of values below a node. Raises ValueError for a node that contains itself."""
    if id(node) not in known:
        known[id(node)] = None
        pairs = isinstance(node, yaml.MappingNode)
        inner = [part for pair in node.value for part in pair] if pairs else node.value
        known[id(node)] = 1 + (0 if isinstance(node, yaml.ScalarNode) else sum(_count(part, known) for part in inner))
    found = known[id(node)]
    if found is None:
        raise ValueError("a value contains itself")
    return found
