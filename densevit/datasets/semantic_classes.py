"""Which classes the pixels of a dataset have, and which value or color of its maps means which.

The dataset's options are turned into one table: value -> class, 255 = no class.
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from densevit.datasets.class_names import IGNORED, KNOWN
from densevit.errors import ConfigError, suggest
from densevit.plain_data import parse_json, read_lines, read_text

MOST = 254
"""Classes that one byte holds beside 255 for none and a value for faults."""
LABELMAP = re.compile(r"(.+?):\s*(\d+\s*,\s*\d+\s*,\s*\d+)?\s*:[^:]*:[^:]*")
Color = tuple[int, int, int]


@dataclass(frozen=True)
class SemanticClasses:
    """The classes of a dataset's pixels.

    source: name or file that they come from, for messages. names: in the order of the classes, from 0. palette: red,
    green and blue of each, or None. values: map value -> class or 255. colors: the same for maps in colors. own: of
    the values those that the dataset itself was stated to have, by a class file or `label_map`.
    """

    source: str
    names: tuple[str, ...]
    palette: tuple[Color, ...] | None
    values: dict[int, int]
    colors: dict[Color, int]
    own: frozenset[int] = frozenset()

    @property
    def label_values(self) -> tuple[int, ...]:
        """The value that each class has in the dataset's own maps: what result maps are written in."""
        found: dict[int, int] = {}
        for value, label in sorted(self.values.items(), key=lambda pair: (pair[0] not in self.own, pair[0])):
            found.setdefault(label, value)
        return tuple(found.get(label, label) for label in range(len(self.names)))


def semantic_classes(
    classes: str | Sequence[str],
    root: str = "",
    reduce_zero_label: bool | None = None,
    label_map: Mapping[Any, Any] | None = None,
) -> SemanticClasses:
    """Names, colors and values from a dataset's options; see SemanticDataset for the arguments.

    Raises:
        ConfigError: an unknown name, a class file that cannot be used, or values that contradict each other.
    """
    if isinstance(classes, str):
        source = classes
        if os.path.splitext(classes)[1] in (".json", ".txt"):
            source, names, palette, ids = _class_file(classes, root)
        elif classes in KNOWN:
            known = KNOWN[classes]
            names, palette = known["names"].split(", "), [tuple(bytes.fromhex(c)) for c in known["colors"].split()]
            ids = known["values"]
        else:
            raise ConfigError(
                f"There are no classes {classes!r}{suggest(classes, KNOWN)}: give {', '.join(map(repr, KNOWN))}, a "
                "class file (.txt or .json) or a list of names."
            )
    else:
        source, names, palette, ids = "the list of classes", list(classes), None, None
    _check_names(source, names)
    own, stated = set(ids or ()), set((ids or {}).values())
    if ids is None:
        ids = {label + bool(reduce_zero_label): label for label in range(len(names))}
    elif reduce_zero_label and ids.get(0, IGNORED) != IGNORED:
        raise ConfigError(f"reduce_zero_label: in {source} the value 0 is the class {names[ids[0]]!r}; leave it out.")
    elif reduce_zero_label is False and ids.get(0) == IGNORED:
        raise ConfigError(
            f"reduce_zero_label=False: in {source} the value 0 has no class; give other maps a class file."
        )
    values = {**({0: IGNORED} if reduce_zero_label else {}), **ids, IGNORED: IGNORED}
    colors: dict[Color, int] = {}
    for label, color in enumerate(palette or ()):
        colors.setdefault(color, label)
    for key, label in (label_map or {}).items():
        value, label = _key(key), _label(label, names, source)
        (colors if isinstance(value, tuple) else values)[value] = label
        if label not in stated:
            own.add(value)
    return SemanticClasses(source, tuple(names), tuple(palette) if palette else None, values, colors, frozenset(own))


def _check_names(source: str, names: list[str]) -> None:
    if not 0 < len(names) <= MOST:
        raise ConfigError(f"{source} has {len(names)} classes: give 1 to {MOST}.")
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ConfigError(f"{source} has the class {twice[0]!r} twice: give each class a name of its own.")


def _class_file(path: str, root: str) -> tuple[str, list[str], list[Color] | None, dict[int, int] | None]:
    """(path, names, colors, value -> class) of a class file; the last two None where it has none."""
    paths = [os.path.abspath(os.path.expanduser(os.path.join(folder, path))) for folder in (root, "")]
    found = next((path for path in paths if os.path.isfile(path)), None)
    if found is None:
        raise ConfigError(f"There is no class file {' or '.join(dict.fromkeys(paths))}: correct `classes`.")
    records = _records(found)
    for index, record in enumerate(records):
        if not isinstance(record, dict) or not isinstance(record.get("name"), str):
            raise ConfigError(f"Class {index} of {found} has no 'name': give names, or records with 'name'.")
    names = [record["name"].strip() for record in records]
    colors, ids = ([record.get(key) for record in records] for key in ("color", "id"))
    palette, values = None, None
    if any(color is not None for color in colors):
        pairs = zip(colors, names, strict=True)
        palette = [_color(color, f"the class {name!r} of {found}") for color, name in pairs]
    if any(value is not None for value in ids):
        if not all(_is_value(value) for value in ids) or len(set(ids)) < len(ids):
            raise ConfigError(f"Class file {found}: give each class an 'id' of its own, 0 to 65535, or none any.")
        values = {value: label for label, value in enumerate(ids)}
    return found, names, palette, values


def _records(path: str) -> list:
    """The entries of a class file: dicts that should have `name` and may have `color` and `id`."""
    try:
        if path.endswith(".txt"):
            return [_line(line) for line in read_lines(path)]
        content = parse_json(read_text(path))
    except (OSError, ValueError) as error:
        raise ConfigError(f"Class file {path} cannot be read: {error}.") from None
    if isinstance(content, list):
        return [dict(name=item) if isinstance(item, str) else item for item in content]
    names, palette = (content.get(key) for key in ("classes", "palette")) if isinstance(content, dict) else (None, None)
    if not isinstance(names, list) or not isinstance(palette, list | None):
        raise ConfigError(f"Class file {path} has no list 'classes' (and 'palette', where there are colors): add it.")
    if palette is not None and len(palette) != len(names):
        raise ConfigError(f"{path} has {len(names)} classes and {len(palette)} colors: give a color to each class.")
    return [dict(name=name, color=color) for name, color in zip(names, palette or [None] * len(names), strict=True)]


def _line(line: str) -> dict:
    """'name', 'name R G B' or CVAT's 'name:R,G,B:parts:actions' of a text file."""
    if labelmap := LABELMAP.fullmatch(line):
        color = labelmap[2] and [int(value) for value in labelmap[2].split(",")]
        return dict(name=labelmap[1], color=color or None)
    words = line.split()
    if len(words) > 3 and all(word.isdigit() for word in words[-3:]):
        return dict(name=" ".join(words[:-3]), color=[int(word) for word in words[-3:]])
    return dict(name=line)


def _color(value: Any, what: str) -> Color:
    if isinstance(value, list | tuple) and len(value) == 3 and all(isinstance(v, int) and 0 <= v < 256 for v in value):
        return tuple(value)
    raise ConfigError(f"The color of {what} is {value!r}: give red, green and blue from 0 to 255.")


def _key(key: Any) -> int | Color:
    """A map value or a color that `label_map` speaks of; texts come from the command line."""
    if isinstance(key, list | tuple):
        return _color(key, "a key of label_map")
    if isinstance(key, str) and key.isdigit():
        key = int(key)
    if _is_value(key):
        return key
    raise ConfigError(f"label_map has the key {key!r}: give map values, 0 to 65535, or colors (red, green, blue).")


def _is_value(value: Any) -> bool:
    return isinstance(value, int) and 0 <= value < 1 << 16


def _label(label: Any, names: Sequence[str], source: str) -> int:
    """A class by number or name, or 255."""
    if isinstance(label, str) and label in names:
        return list(names).index(label)
    if isinstance(label, int) and (0 <= label < len(names) or label == IGNORED):
        return label
    near = suggest(label, names) if isinstance(label, str) else ""
    raise ConfigError(
        f"label_map gives the class {label!r}{near}, which {source} does not have: give a name, 0 to {len(names) - 1}, "
        f"or {IGNORED} for no class."
    )
