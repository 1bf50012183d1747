"""Names of tensors: lists of rules from another project's to ours, read from the top, the first that fits wins.

A rule says `KeyRule("layers.{}.1.{+1}.norm1.*", "block{+1}.{}.norm1.*")`: `{}` is a number that is carried over, `{+1}`
and `{-1}` the same number written one higher or lower on this side, `*` the rest of the name (only at the end). The
n-th braces of both sides belong together. `None` as target: known, and ignored.

A rule may join several tensors or split one (tuples of names); only then, or where numbers change, does it need a
function: `transform` from the source to ours, `inverse` from ours to the source's. `invert` inverts a whole list.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from torch import Tensor

Names = str | tuple[str, ...]
Transform = Callable[..., Tensor | tuple[Tensor, ...]]
WILDCARD = re.compile(r"\{([+-]\d+)?\}|\*")


class KeyRule(NamedTuple):
    """source: pattern(s) of the file; target: name(s) here, None to ignore; transform, inverse: change of numbers."""

    source: Names
    target: Names | None
    transform: Transform | None = None
    inverse: Transform | None = None

    def within(self, source: str = "", target: str = "") -> "KeyRule":
        """The rule with prefixes before its names."""
        return KeyRule(_prefixed(source, self.source), _prefixed(target, self.target), self.transform, self.inverse)


Rules = Sequence[KeyRule] | Callable[[Iterable[str]], Sequence[KeyRule]]
"""A list of rules, or what makes it of the names in a file."""


class Remapped(NamedTuple):
    """state: the tensors under our names; origin: our name -> the file's names; ignored, unknown: the file's names."""

    state: dict[str, Tensor]
    origin: dict[str, tuple[str, ...]]
    ignored: list[str]
    unknown: list[str]


def same(*patterns: str) -> list[KeyRule]:
    """Rules of names that are the same on both sides."""
    return [KeyRule(pattern, pattern) for pattern in patterns]


def ignored(*patterns: str) -> list[KeyRule]:
    """Rules of names that are known and ignored."""
    return [KeyRule(pattern, None) for pattern in patterns]


def renamed(**patterns: str) -> list[KeyRule]:
    """Rules of layers by their names, which the source has on the left."""
    return [KeyRule(f"{source}.*", f"{target}.*") for source, target in patterns.items()]


def match(pattern: str, key: str) -> tuple[int | str, ...] | None:
    """The values of the pattern's wildcards, shifts undone; None where the key does not fit."""
    expression, shifts = _compiled(pattern)
    found = expression.fullmatch(key)
    if found is None:
        return None
    values = tuple(
        text if shift is None else int(text) - shift for text, shift in zip(found.groups(), shifts, strict=True)
    )
    return None if any(isinstance(value, int) and value < 0 for value in values) else values


def fill(pattern: str, values: Sequence[int | str]) -> str:
    """The name that a pattern makes of what `match` found."""
    remaining = iter(values)

    def one(wildcard: re.Match) -> str:
        value = next(remaining)
        return str(value) if wildcard.group() == "*" else str(value + int(wildcard.group(1) or 0))

    return WILDCARD.sub(one, pattern)


def remap(state: Mapping[str, Tensor], rules: Iterable[KeyRule]) -> Remapped:
    """Bring every tensor of `state` under its new name.

    A rule of several names takes them together, at the first of them; where another is missing the key is unknown.
    """
    rules = list(rules)
    result, used = Remapped({}, {}, [], []), set()
    for key in state:
        if key in used:
            continue
        for rule in rules:
            sources = _tuple(rule.source)
            values = next((v for v in (match(pattern, key) for pattern in sources) if v is not None), None)
            if values is None:
                continue
            keys = tuple(fill(pattern, values) for pattern in sources)
            if any(k not in state for k in keys):
                continue
            used.update(keys)
            if rule.target is None:
                result.ignored.extend(keys)
                break
            tensors = [state[k] for k in keys]
            if rule.transform is not None:
                made = rule.transform(*tensors)
                tensors = [made] if isinstance(made, Tensor) else list(made)
            for name, tensor in zip((fill(n, values) for n in _tuple(rule.target)), tensors, strict=True):
                result.state[name], result.origin[name] = tensor, keys
            break
        else:
            result.unknown.append(key)
    return result


def invert(rules: Iterable[KeyRule]) -> list[KeyRule]:
    """The rules from ours to the source's names; what is ignored has no way back."""
    inverted = []
    for rule in rules:
        if rule.target is None:
            continue
        if rule.transform is not None and rule.inverse is None:
            raise ValueError(f"the rule for {rule.source!r} changes numbers and has no inverse")
        inverted.append(KeyRule(rule.target, rule.source, rule.inverse, rule.transform))
    return inverted


def _tuple(names: Names) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)


def _prefixed(prefix: str, names: Names | None) -> Names | None:
    return tuple(prefix + name for name in names) if isinstance(names, tuple) else names and prefix + names


@lru_cache(maxsize=4096)
def _compiled(pattern: str) -> tuple[re.Pattern, tuple[int | None, ...]]:
    """The regular expression of a pattern, and the shift of each of its wildcards (None for the rest of the name)."""
    text, shifts, end = "", [], 0
    for wildcard in WILDCARD.finditer(pattern):
        text += re.escape(pattern[end : wildcard.start()])
        text += "(.*)" if wildcard.group() == "*" else r"(\d+)"
        shifts.append(None if wildcard.group() == "*" else int(wildcard.group(1) or 0))
        end = wildcard.end()
    return re.compile(text + re.escape(pattern[end:])), tuple(shifts)
