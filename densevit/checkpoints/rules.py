"""Renames the tensors of a foreign file: a list of rules, read from the top, the first that fits wins.

A rule says `Rule("layers.{}.1.{+1}.norm1.*", "block{+1}.{}.norm1.*")`: `{}` is a number that is carried over, `{+1}`
and `{-1}` the same number written one higher or lower on this side, `*` the rest of the name (only at the end). The
n-th braces of both sides belong together. `None` on our side: known, and left out on purpose.

A rule may take several tensors together or make several of one (tuples of names); only then, or where numbers change,
does it need a function: `value` from theirs to ours, `back` from ours to theirs. `invert` turns a table round.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from torch import Tensor

Names = str | tuple[str, ...]
Change = Callable[..., Tensor | tuple[Tensor, ...]]
PLACE = re.compile(r"\{([+-]\d+)?\}|\*")


class Rule(NamedTuple):
    """theirs: pattern(s) of the file; ours: name(s) here, None to leave out; value, back: change of the numbers."""

    theirs: Names
    ours: Names | None
    value: Change | None = None
    back: Change | None = None


class Renamed(NamedTuple):
    """state: the tensors under new names; origin: new name -> its old names; dropped, unknown: old names."""

    state: dict[str, Tensor]
    origin: dict[str, tuple[str, ...]]
    dropped: list[str]
    unknown: list[str]


def _tuple(names: Names) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)


@lru_cache(maxsize=4096)
def _compiled(pattern: str) -> tuple[re.Pattern, tuple[int | None, ...]]:
    """The regular expression of a pattern, and the shift of each of its places (None for the rest)."""
    text, shifts, end = "", [], 0
    for place in PLACE.finditer(pattern):
        text += re.escape(pattern[end : place.start()])
        text += "(.*)" if place.group() == "*" else r"(\d+)"
        shifts.append(None if place.group() == "*" else int(place.group(1) or 0))
        end = place.end()
    return re.compile(text + re.escape(pattern[end:])), tuple(shifts)


def match(pattern: str, key: str) -> tuple[int | str, ...] | None:
    """What stands in the pattern's places, shifts undone; None where the key does not fit."""
    expression, shifts = _compiled(pattern)
    found = expression.fullmatch(key)
    if found is None:
        return None
    places = tuple(
        text if shift is None else int(text) - shift for text, shift in zip(found.groups(), shifts, strict=True)
    )
    return None if any(isinstance(p, int) and p < 0 for p in places) else places


def fill(pattern: str, places: Sequence[int | str]) -> str:
    """The name that a pattern makes of what `match` found."""
    left = iter(places)

    def one(place: re.Match) -> str:
        value = next(left)
        return str(value) if place.group() == "*" else str(value + int(place.group(1) or 0))

    return PLACE.sub(one, pattern)


def rename(state: Mapping[str, Tensor], rules: Iterable[Rule]) -> Renamed:
    """Bring every tensor of `state` under its new name.

    A rule of several old names takes them together, at the first of them; where another is missing the key is unknown.
    """
    rules = list(rules)
    result, used = Renamed({}, {}, [], []), set()
    for key in state:
        if key in used:
            continue
        for rule in rules:
            theirs = _tuple(rule.theirs)
            places = next((p for p in (match(pattern, key) for pattern in theirs) if p is not None), None)
            if places is None:
                continue
            keys = tuple(fill(pattern, places) for pattern in theirs)
            if any(k not in state for k in keys):
                continue
            used.update(keys)
            if rule.ours is None:
                result.dropped.extend(keys)
                break
            values = [state[k] for k in keys]
            if rule.value is not None:
                made = rule.value(*values)
                values = [made] if isinstance(made, Tensor) else list(made)
            for name, value in zip((fill(n, places) for n in _tuple(rule.ours)), values, strict=True):
                result.state[name], result.origin[name] = value, keys
            break
        else:
            result.unknown.append(key)
    return result


def invert(rules: Iterable[Rule]) -> list[Rule]:
    """The table from ours to theirs; what is left out on purpose has no way back."""
    turned = []
    for rule in rules:
        if rule.ours is None:
            continue
        if rule.value is not None and rule.back is None:
            raise ValueError(f"the rule for {rule.theirs!r} changes numbers and says no way back")
        turned.append(Rule(rule.ours, rule.theirs, rule.back, rule.value))
    return turned
