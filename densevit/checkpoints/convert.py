"""Brings a state dict under our names: recognises the scheme by its keys, part by part, and applies the tables."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from torch import Tensor

from densevit.checkpoints.architectures import TABLES
from densevit.checkpoints.layouts import NOT_OURS, PREFIXES, SOURCES
from densevit.checkpoints.rules import Renamed, Rule, fill, match, rename
from densevit.errors import CheckpointError, nearest

OWN = "densevit"
IDENTITY = (Rule("*", "*"),)


class Conversion(NamedTuple):
    """scheme: by name of the part where parts differ; renamed: everything, under our names."""

    scheme: str
    renamed: Renamed


def convert(
    state: Mapping[str, Tensor], wanted: Mapping[str, tuple[int, ...]], parts: Mapping[str, str], source: str | None
) -> Conversion:
    """Rename a foreign state dict for a model.

    Args:
        state: the file's tensors.
        wanted: the model's names and shapes.
        parts: prefix of each part of the model -> our class's name ({"": "PVT"} for a backbone alone).
        source: one of SOURCES or OWN, of a detector the one that put it together; None: whichever fits best.

    Raises:
        CheckpointError: unknown source, or no scheme gives the model a single tensor.
    """
    if source is not None and source not in (*SOURCES, OWN):
        raise CheckpointError(f"there is no source {source!r}{nearest(source, SOURCES)}: {', '.join(SOURCES)}, {OWN}.")
    own = {key: value for key, value in state.items() if not key.startswith(NOT_OURS)}
    exact = own.keys() == wanted.keys() and all(tuple(own[k].shape) == wanted[k] for k in own)
    if source == OWN or (source is None and exact):
        return Conversion(OWN, _drop_constants(state, rename(own, IDENTITY)))
    candidates = []
    if list(parts) != [""]:
        layouts = [source] if source is not None else dict.fromkeys(str(p) for p in PREFIXES)
        candidates = [_by_parts(state, wanted, parts, layout) for layout in layouts if layout in PREFIXES]
    else:
        candidates = [_best_table(state, wanted, parts[""], source)]
    if source is None:
        candidates.append(Conversion(OWN, _drop_constants(state, rename(own, IDENTITY))))
    best = min(candidates, key=lambda c: _faults(c.renamed, wanted), default=None)
    if best is None:
        raise CheckpointError(f"densevit has no table for {source!r} detectors: it has {', '.join(PREFIXES)}.")
    if not wanted.keys() & best.renamed.state.keys():
        raise CheckpointError(
            f"holds no tensor of this model ({_some(wanted)}): its names ({_some(state)}) are those of another model."
        )
    return best


def _places(layout: str, ours: str, kind: str) -> list[tuple[str, str]]:
    """Where files of `layout` keep the part of ours with this prefix and class: prefixes there, and what the tables
    know of each. A part's class counts more than its prefix."""
    known = PREFIXES[layout]
    if any(place.ours == kind for place in known):
        return [(place.theirs, place.kept) for place in known if place.ours == kind]
    found = [(place, match(place.ours, ours)) for place in known]
    return [(fill(place.theirs, numbers), place.kept) for place, numbers in found if numbers is not None]


def _best_table(
    part: Mapping[str, Tensor], wanted: Mapping, kind: str, source: str | None, first: str | None = None
) -> Conversion:
    """The table of an architecture that leaves fewest names over; ours stand for a part that has no table. Of equals
    that of the source `first` is taken."""
    tables: dict[str, Iterable[Rule]] = {
        name: rules(part) if callable(rules) else rules for name, rules in TABLES.get(kind, {}).items()
    }
    if first in tables:
        tables = {first: tables[first], **tables}
    if source in tables:
        tables = {source: tables[source]}
    else:
        tables[OWN] = IDENTITY
    made = [Conversion(name, rename(part, rules)) for name, rules in tables.items()]
    return min(made, key=lambda c: _faults(c.renamed, wanted))


def _by_parts(state: Mapping[str, Tensor], wanted: Mapping, parts: Mapping[str, str], layout: str) -> Conversion:
    """Split a whole model's state by the prefixes of `layout`, of several that fit by the longest, and convert each
    part by itself, by whatever table fits: OpenMMLab's models are also found around whai362's own backbones."""
    whole, schemes = Renamed({}, {}, [], []), {}
    places = {ours: _places(layout, ours, kind) for ours, kind in parts.items()}
    prefixes = [(theirs, kept, ours) for ours, found in places.items() for theirs, kept in found]
    inside: dict[str, dict[str, str]] = {ours: {} for ours, found in places.items() if found}
    left = []
    for key in state:
        fitting = [place for place in prefixes if key.startswith(place[0])]
        if not fitting:
            left.append(key)
            continue
        theirs, kept, ours = max(fitting, key=lambda place: len(place[0]))
        inside[ours][kept + key[len(theirs) :]] = key
    for ours, names in inside.items():
        needed = {key[len(ours) :]: shape for key, shape in wanted.items() if key.startswith(ours)}
        part = {name: state[key] for name, key in names.items()}
        schemes[ours.rstrip(".")], renamed = _best_table(part, needed, parts[ours], None, first=layout)
        whole.state.update({ours + key: value for key, value in renamed.state.items()})
        whole.origin.update({ours + key: tuple(names[k] for k in keys) for key, keys in renamed.origin.items()})
        whole.dropped.extend(names[key] for key in renamed.dropped)
        whole.unknown.extend(names[key] for key in renamed.unknown)
    for key in left:
        (whole.dropped if key.startswith(NOT_OURS) else whole.unknown).append(key)
    same = set(schemes.values())
    named = same.pop() if len(same) == 1 else ", ".join(f"{part}: {scheme}" for part, scheme in schemes.items())
    return Conversion(named, whole)


def _drop_constants(state: Mapping[str, Tensor], renamed: Renamed) -> Renamed:
    """Names that `NOT_OURS` left aside, listed as dropped."""
    renamed.dropped.extend(key for key in state if key.startswith(NOT_OURS))
    return renamed


def _faults(renamed: Renamed, wanted: Mapping) -> int:
    """How many names are left over on either side."""
    return len(renamed.unknown) + len(wanted.keys() ^ renamed.state.keys())


def _some(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
