"""load_weights: weights of this project or of others into a model, with a load report."""

import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import NamedTuple

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from densevit.checkpoints.load_report import LoadReport
from densevit.checkpoints.pretrained import resolve
from densevit.checkpoints.reading import read_file, state_of
from densevit.converters.architectures import ARCHITECTURES
from densevit.converters.config_spec import Architecture, Tolerated
from densevit.converters.key_mapping import Remapped, fill, match, remap, rules
from densevit.converters.sources import ALIASES, OWN, SOURCES
from densevit.errors import CheckpointError, suggest
from densevit.registry import WEIGHT_INITIALIZERS

LAYOUTS = tuple(name for name, known in SOURCES.items() if known.prefixes)
"""Sources of whole models."""
IDENTITY = rules("*")
CONSTANT = re.compile(r"data_preprocessor\..*|pixel_mean.*|pixel_std.*")
"""Beside the network of a whole model; the configuration has them."""
LAST_NORM = re.compile(r"(.*\.)?(fc_norm|norm|layernorm)\.weight")
"""The norm before a classifier."""


def load_weights(
    model: nn.Module,
    path_or_state: str | os.PathLike | Mapping,
    source: str | None = None,
    strict: bool = True,
    file: str | None = None,
    new_where_odd: Callable[[], Collection[str]] = tuple,
) -> LoadReport:
    """Load weights in any supported format into `model`, and report what became of each.

    The format is recognized by the names, part by part. A table of positions of another size is resized by its module.
    Nothing of the model changes when the file is refused.

    Args:
        model: a whole model, or a part: a classification file goes into `model.backbone`.
        path_or_state: a file (`.pth`, `.safetensors`, ...; read without running anything in it), or what one holds.
        source: the project that the names come from ('pvt', 'mmdet', 'timm', 'densevit'), instead of recognizing them.
        strict: refuse unless every tensor of the model is in the file and every tensor of the file has a place. What is
            ignored on purpose (classifiers, computed buffers) counts as placed, and what a classifier's file cannot
            have (norms of a dense model's maps) as newly initialized. False: load what fits.
        file: what report and errors call the weights; None: the path.
        new_where_odd: gives the names of the model that keep their initial numbers (newly initialized) where
            the file has them in another shape; asked only where a shape differs.

    Returns:
        LoadReport: `str(report)` is one line, `report.table()` the whole.

    Raises:
        CheckpointError: unreadable or unsafe file, no weights in it, or (strict) anything missing, unexpected or of
            another shape; the error's `load_report` attribute holds the report.
    """
    if isinstance(path_or_state, Mapping):
        content, file = path_or_state, file or "the given state dict"
    else:
        content, file = read_file(path_or_state), file or os.fspath(path_or_state)
    wanted = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    parts = parts_of(model)
    try:
        scheme, remapped = recognize(state_of(content, file, wanted), wanted, parts, source)
    except CheckpointError as error:
        raise CheckpointError(str(error) if file in str(error) else f"{file} {error}") from error
    foreign = {name: " + ".join(remapped.origin[name]) for name in remapped.state if name not in wanted}
    ignored = remapped.ignored + [foreign.pop(name) for name in _unused(model, parts, remapped, list(foreign))]
    new = _new(parts, [key for key in wanted if key not in remapped.state], wanted, ignored)
    report = LoadReport(
        scheme,
        file,
        missing=[key for key in wanted if key not in remapped.state and key not in new],
        newly_initialized=new,
        unexpected=remapped.unknown + list(dict.fromkeys(foreign.values())),
        ignored=ignored,
    )
    return _load_state(model, {k: v for k, v in remapped.state.items() if k in wanted}, report, strict, new_where_odd)


def _load_state(
    model: nn.Module,
    state: dict[str, Tensor],
    report: LoadReport,
    strict: bool,
    new_where_odd: Callable[[], Collection[str]] = tuple,
) -> LoadReport:
    """Load tensors by the model's own names. A table of another size is resized by its module.

    Args:
        report: what became of the file's other names, and what the model lacks.
        strict: refuse anything missing, unexpected or of another shape.
        new_where_odd: see `load_weights`.

    Raises:
        CheckpointError: refused; the error's `load_report` attribute holds the report.
    """
    wanted = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    odd = {k: (tuple(v.shape), wanted[k]) for k, v in state.items() if tuple(v.shape) != wanted[k]}
    for key in (key for key in (new_where_odd() if odd else ()) if odd.pop(key, None)):
        del state[key]
        report.newly_initialized.append(key)
    if strict and (report.missing or report.unexpected):
        report.mismatched = odd
        raise _refused(report)
    if odd:
        report.mismatched = _not_resized(model, state, odd)
        if strict and report.mismatched:
            raise _refused(report)
        state = {key: value for key, value in state.items() if key not in report.mismatched}
    model.load_state_dict(state, strict=False)
    report.resized = {key: shapes for key, shapes in odd.items() if key in state}
    report.loaded = list(state)
    return report


def _not_resized(model: nn.Module, state: Mapping[str, Tensor], odd: Mapping) -> dict:
    """Which tensors of other shape no module resizes. The model is left as it was."""
    before = {key: value.detach().clone() for key, value in model.state_dict().items() if key in odd}
    try:
        model.load_state_dict({key: state[key] for key in odd}, strict=False)
    except RuntimeError as error:  # torch names each tensor that does not fit
        return {key: shapes for key, shapes in odd.items() if f"size mismatch for {key}:" in str(error)}
    finally:
        with torch.no_grad():
            for key, value in model.state_dict().items():
                if key in before:
                    value.copy_(before[key])
    return {}


def _refused(report: LoadReport) -> CheckpointError:
    error = CheckpointError(report.error())
    error.load_report = report
    return error


def parts_of(model: nn.Module) -> dict[str, str]:
    """Prefix of each part -> name of its class; {"": class} for a part alone."""
    if type(model).__name__ != "DensePredictor":
        return {"": type(model).__name__}
    parts = {}
    for name, child in model.named_children():
        if isinstance(child, (nn.ModuleList, nn.ModuleDict)):
            parts |= {f"{name}.{inner}.": type(module).__name__ for inner, module in child.named_children()}
        else:
            parts[f"{name}."] = type(child).__name__
    return parts


# ---- names that may differ ---------------------------------------------------------------------------


def _tolerated(kind: str) -> Tolerated:
    return ARCHITECTURES.get(kind, Architecture(kind)).tolerated


def _fitting(names: Iterable[str], prefix: str, pattern: str) -> list[str]:
    return [n for n in names if n.startswith(prefix) and re.fullmatch(pattern, n.removeprefix(prefix))]


def _unused(model: nn.Module, parts: Mapping[str, str], remapped: Remapped, foreign: list[str]) -> list[str]:
    """Names that the file has and the model is configured without; a module may list more of them."""
    found = [name for name in foreign if not remapped.state[name].numel()]  # no registers are a tensor of none
    for prefix, kind in parts.items():
        for pattern in _tolerated(kind).unused:
            found += _fitting(foreign, prefix, pattern)
        listed = getattr(model.get_submodule(prefix.rstrip(".")), "unused_keys", ())
        found += [name for name in foreign if name.startswith(prefix) and name.removeprefix(prefix) in listed]
    return list(dict.fromkeys(found))


def _new(parts: Mapping[str, str], absent: list[str], wanted: Iterable[str], ignored: list[str]) -> list[str]:
    """Absent names that a file need not have."""
    classifier, found = any(LAST_NORM.fullmatch(key) for key in ignored), []
    for prefix, kind in parts.items():
        known = _tolerated(kind)
        for pattern in known.derived:
            found += _fitting(absent, prefix, pattern)
        for pattern in known.new + (known.new_without_classifier if classifier else ()):
            names = _fitting(wanted, prefix, pattern)
            found += names if set(names) <= set(absent) else []
    return found


# ---- recognizing -------------------------------------------------------------------------------------


class Recognized(NamedTuple):
    """scheme: the source, part by part where they differ; remapped: everything, under our names."""

    scheme: str
    remapped: Remapped


def recognize(
    state: Mapping[str, Tensor], wanted: Mapping[str, tuple[int, ...]], parts: Mapping[str, str], source: str | None
) -> Recognized:
    """Bring a state dict of another project under our names.

    Args:
        state: the file's tensors.
        wanted: the model's names and shapes.
        parts: prefix of each part of the model -> our class's name ({"": "PVT"} for a backbone alone).
        source: of a detector that of the whole; None: whichever fits best.

    Raises:
        CheckpointError: unknown source, or no source's names give the model a single tensor.
    """
    source = ALIASES.get(source, source)
    if source is not None and source not in (*SOURCES, OWN):
        known = ", ".join((*SOURCES, OWN))
        raise CheckpointError(f"there is no source {source!r}{suggest(source, SOURCES)}: {known}.")
    own = {key: value for key, value in state.items() if not CONSTANT.fullmatch(key)}
    as_own = Recognized(OWN, remap(own, IDENTITY))
    as_own.remapped.ignored.extend(key for key in state if key not in own)
    exact = own.keys() == wanted.keys() and all(tuple(own[k].shape) == wanted[k] for k in own)
    if source == OWN or (source is None and exact):
        return as_own
    if list(parts) == [""]:
        candidates = [_best_rules(state, wanted, parts[""], source)]
    else:
        candidates = [_by_parts(state, wanted, parts, name) for name in LAYOUTS if source in (None, name)]
    candidates += [as_own] if source is None else []
    best = min(candidates, key=lambda found: _faults(found.remapped, wanted), default=None)
    if best is None:
        raise CheckpointError(f"densevit has no names of {source!r} detectors: it has {', '.join(LAYOUTS)}.")
    if not wanted.keys() & best.remapped.state.keys():
        raise CheckpointError(
            f"holds no tensor of this model ({_some(wanted)}): its names ({_some(state)}) are those of another model."
        )
    return best


def _prefixes(source: str, ours: str, kind: str) -> list[tuple[str, str]]:
    """Where files of a source keep the part of ours with this prefix and class: prefixes there, and what of them the
    rules know. A part's class counts more than its prefix."""
    known = SOURCES[source].prefixes
    by_class = [(prefix.source, prefix.kept) for prefix in known if prefix.target == kind]
    found = [(prefix, match(prefix.target, ours)) for prefix in known]
    return by_class or [(fill(prefix.source, numbers), prefix.kept) for prefix, numbers in found if numbers is not None]


def _best_rules(
    part: Mapping[str, Tensor], wanted: Mapping, kind: str, source: str | None, first: str | None = None
) -> Recognized:
    """The rules of an architecture that leave fewest names over; ours for a part that has none. Of equals those of the
    source `first` are taken."""
    keys = ARCHITECTURES.get(kind, Architecture(kind)).keys
    names = [source] if source in keys else [*sorted(keys, key=lambda name: name != first), OWN]
    made = {name: keys.get(name, IDENTITY) for name in names}
    found = [Recognized(n, remap(part, r(part) if callable(r) else r)) for n, r in made.items()]
    return min(found, key=lambda recognized: _faults(recognized.remapped, wanted))


def _by_parts(state: Mapping[str, Tensor], wanted: Mapping, parts: Mapping[str, str], source: str) -> Recognized:
    """Split a whole model's state by the prefixes of `source`, of several that fit by the longest, and rename each part
    by itself, by whatever rules fit: OpenMMLab's models are also found around the repositories' own backbones."""
    whole, schemes = Remapped({}, {}, [], []), {}
    found = {ours: _prefixes(source, ours, kind) for ours, kind in parts.items()}
    prefixes = [(theirs, kept, ours) for ours, known in found.items() for theirs, kept in known]
    inside: dict[str, dict[str, str]] = {ours: {} for ours, known in found.items() if known}
    for key in state:
        fitting = [prefix for prefix in prefixes if key.startswith(prefix[0])]
        if fitting:
            theirs, kept, ours = max(fitting, key=lambda prefix: len(prefix[0]))
            inside[ours][kept + key[len(theirs) :]] = key
        else:
            (whole.ignored if CONSTANT.fullmatch(key) else whole.unknown).append(key)
    for ours, names in inside.items():
        needed = {key[len(ours) :]: shape for key, shape in wanted.items() if key.startswith(ours)}
        part = {name: state[key] for name, key in names.items()}
        schemes[ours.rstrip(".")], remapped = _best_rules(part, needed, parts[ours], None, first=source)
        whole.state.update({ours + key: value for key, value in remapped.state.items()})
        whole.origin.update({ours + key: tuple(names[k] for k in keys) for key, keys in remapped.origin.items()})
        whole.ignored.extend(names[key] for key in remapped.ignored)
        whole.unknown.extend(names[key] for key in remapped.unknown)
    several = ", ".join(f"{part}: {name}" for part, name in schemes.items())
    return Recognized(next(iter(schemes.values())) if len(set(schemes.values())) == 1 else several, whole)


def _faults(remapped: Remapped, wanted: Mapping) -> int:
    """How many names are left over on either side."""
    return len(remapped.unknown) + len(wanted.keys() ^ remapped.state.keys())


def _some(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


@WEIGHT_INITIALIZERS.register_module(name="Pretrained", force=True)
class Pretrained:
    """`init_cfg` of a part whose weights come from a file. Loads strictly and logs the load report.

    In a config: `init_cfg=dict(type='Pretrained', checkpoint=URL or file, sha256=..., source=...)` on any part; of a
    file that holds a whole model a backbone takes the backbone, another part the one that `prefix` names. In densevit's
    scope this replaces MMEngine's initializer of that name, which loads what fits, does not report the rest, and lets a
    pickle run.

    Args:
        checkpoint: a file, the name of weights that come with densevit, or an http(s) URL that is fetched once.
        sha256: checksum that the file must have, or its first digits; None: see checkpoints/pretrained.py.
        source: the project that the file's names come from; None recognizes them.
        prefix: of a whole model's file, which part goes here: 'backbone', 'neck', 'head.boxes'. A part whose own names
            do not begin so takes a file without that prefix whole.
        md5: the same as `sha256` of MD5, where that is what is published.
    """

    def __init__(
        self,
        checkpoint: str,
        sha256: str | None = None,
        source: str | None = None,
        prefix: str = "backbone",
        md5: str | None = None,
    ):
        self.init_cfg = dict(checkpoint=checkpoint, sha256=sha256, md5=md5)
        self.source, self.prefix = source, prefix.rstrip(".") + "."

    def __call__(self, module: nn.Module) -> None:
        file = str(path := resolve(self.init_cfg))
        state = state_of(read_file(path), file)
        whole = any(key.startswith(self.prefix) for key in module.state_dict())
        part = {key.removeprefix(self.prefix): value for key, value in state.items() if key.startswith(self.prefix)}
        if part and not whole:
            state, file = part, f"{path}, {self.prefix.rstrip('.')}"
        print_log(f"pretrained: {load_weights(module, state, self.source, file=file)}", "current")
