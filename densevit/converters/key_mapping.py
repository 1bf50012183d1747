"""Key mapping: rules from another project's tensor names to densevit's. The first rule that matches is used.

`rules` reads them from words: `source->target` renames, a single name is the same on both sides, `!name` is ignored,
and a dot at the end matches every name with that prefix (`fc.->mlp.fc1.`).

    rules("!head. norm. fpn_lateral{+2}.->lateral_convs.{}.")

`{}` is a number that is kept, `{+1}` and `{-1}` the same number written one higher or lower on this side, `*` the rest
of the name (only at the end). The n-th braces of both sides belong together. `a|b->c` joins tensors, `c->a|b` splits
one. Only then, or where values change, a rule needs functions: `change=(source to target, and its inverse)`.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

Names = tuple[str, ...]
Transform = Callable[..., Tensor | tuple[Tensor, ...]]
WILDCARD = re.compile(r"\{([+-]\d+)?\}|\*")


class KeyRule(NamedTuple):
    """source: patterns of the file; target: names in densevit, None to ignore; transform, inverse: of the values."""

    source: Names
    target: Names | None
    transform: Transform | None = None
    inverse: Transform | None = None


Rules = Sequence[KeyRule] | Callable[[Iterable[str]], Sequence[KeyRule]]
"""A list of rules, or what makes it of the names in a file."""


class Remapped(NamedTuple):
    """state: the tensors under our names; origin: our name -> the file's names; ignored, unknown: the file's names."""

    state: dict[str, Tensor]
    origin: dict[str, Names]
    ignored: list[str]
    unknown: list[str]


def rules(words: str, source: str = "", target: str = "", change: Sequence[Transform | None] = ()) -> list[KeyRule]:
    """Rules out of words (see above), with a prefix before the names of each side."""

    def names(text: str, prefix: str) -> Names:
        return tuple(prefix + (name + "*" if name.endswith(".") else name) for name in text.split("|"))

    found = []
    for word in words.split():
        theirs, arrow, ours = word.removeprefix("!").partition("->")
        theirs, ours = names(theirs, source), names(ours if arrow else theirs, target)
        found.append(KeyRule(theirs, None if word.startswith("!") else ours, *change))
    return found


def within(inner: Iterable[KeyRule], source: str = "", target: str = "") -> list[KeyRule]:
    """Rules with prefixes before their names."""
    return [
        KeyRule(tuple(source + n for n in theirs), ours and tuple(target + n for n in ours), *change)
        for theirs, ours, *change in inner
    ]


def to_linear(weight: Tensor) -> Tensor:
    """A 1x1 convolution's weight (O, I, 1, 1) as a linear layer's (O, I)."""
    return weight.flatten(1)


def to_convolution(weight: Tensor) -> Tensor:
    """The inverse of `to_linear`."""
    return weight[:, :, None, None]


def pack(*parts: Tensor) -> Tensor:
    """Several projections, query, key and value mostly, as one."""
    return torch.cat(parts)


def unpack(packed: Tensor) -> tuple[Tensor, ...]:
    """Three of one; the inverse of `pack`."""
    return packed.chunk(3)


def joined(sources: str, target: str, inverse: Transform = unpack) -> list[KeyRule]:
    """The weights and the biases of several layers (`q|k|v`) as one layer's."""
    layers = sources.split("|")
    words = (f"{'|'.join(f'{layer}.{kind}' for layer in layers)}->{target}.{kind}" for kind in ("weight", "bias"))
    return rules(" ".join(words), change=(pack, inverse))


def linear(source: str, target: str) -> list[KeyRule]:
    """A 1x1 convolution here that is a linear layer there; the other way round with `invert`."""
    weight = rules(f"{source}.weight->{target}.weight", change=(to_convolution, to_linear))
    return weight + rules(f"{source}.bias->{target}.bias")


def match(pattern: str, key: str) -> tuple[int | str, ...] | None:
    """The values of the pattern's wildcards, shifts undone; None where the key does not fit."""
    expression, shifts = _compiled(pattern)
    found = expression.fullmatch(key)
    if found is None:
        return None
    values = tuple(v if s is None else int(v) - s for v, s in zip(found.groups(), shifts, strict=True))
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
    rules, result, used = list(rules), Remapped({}, {}, [], []), set()
    for key in state:
        if key in used:
            continue
        for rule in rules:
            values = next((v for v in (match(pattern, key) for pattern in rule.source) if v is not None), None)
            keys = () if values is None else tuple(fill(pattern, values) for pattern in rule.source)
            if not keys or any(k not in state for k in keys):
                continue
            used.update(keys)
            if rule.target is None:
                result.ignored.extend(keys)
                break
            tensors = [state[k] for k in keys]
            if rule.transform is not None:
                made = rule.transform(*tensors)
                tensors = [made] if isinstance(made, Tensor) else list(made)
            for name, tensor in zip((fill(n, values) for n in rule.target), tensors, strict=True):
                result.state[name], result.origin[name] = tensor, keys
            break
        else:
            result.unknown.append(key)
    return result


def invert(rules: Iterable[KeyRule]) -> list[KeyRule]:
    """The rules from densevit's names to the source's, without ignored names."""
    kept = [rule for rule in rules if rule.target is not None]
    for rule in kept:
        if rule.transform is not None and rule.inverse is None:
            raise ValueError(f"the rule for {rule.source!r} changes numbers and has no inverse")
    return [KeyRule(rule.target, rule.source, rule.inverse, rule.transform) for rule in kept]


@lru_cache(maxsize=4096)
def _compiled(pattern: str) -> tuple[re.Pattern, tuple[int | None, ...]]:
    """The regular expression of a pattern, and the shift of each of its wildcards (None for the rest of the name)."""
    text, shifts, end = "", [], 0
    for wildcard in WILDCARD.finditer(pattern):
        text += re.escape(pattern[end : wildcard.start()]) + ("(.*)" if wildcard.group() == "*" else r"(\d+)")
        shifts.append(None if wildcard.group() == "*" else int(wildcard.group(1) or 0))
        end = wildcard.end()
    return re.compile(text + re.escape(pattern[end:])), tuple(shifts)
