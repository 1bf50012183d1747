"""Tensors by our names into a model, and what became of every tensor of the file and every parameter of the model."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from densevit.errors import CheckpointError, printable

NAMES_SHOWN = 12
"""Names that one sentence holds; the table has them all."""


@dataclass
class LoadReport:
    """The report of one `load_weights`.

    Attributes:
        scheme: the source of the file's names ('mmdet'); where parts differ, 'backbone: pvt, neck: mmdet'.
        file: the weights.
        loaded: our names that now hold the file's numbers.
        missing: our names that the file has nothing for.
        newly_initialized: our names that the file cannot have (norms of a dense model's maps), with initial numbers.
        unexpected: the file's names that have no counterpart here.
        ignored: the file's names that are known and ignored on purpose (a classifier, computed buffers).
        resized: our name -> (the file's shape, ours), tables that their module resized.
        mismatched: our name -> (the file's shape, ours), of other shape and not loaded.
    """

    scheme: str
    file: str
    loaded: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    newly_initialized: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    resized: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)
    mismatched: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether everything that the model needs was there and everything in the file has a place."""
        return not (self.missing or self.unexpected or self.mismatched)

    def __str__(self) -> str:
        counts = [f"{len(self.loaded)} tensors loaded"]
        for name in ("resized", "ignored", "newly_initialized", "missing", "unexpected", "mismatched"):
            if getattr(self, name):
                counts.append(f"{len(getattr(self, name))} {name.replace('_', ' ')}")
        return printable(f"{self.file} ({self.scheme}): {', '.join(counts)}")

    def table(self) -> str:
        """The whole report: a line a group for what was loaded, a line a name for everything else."""
        lines = [str(self)]
        for group, count in Counter(_group(name) for name in self.loaded).items():
            lines.append(f"  loaded            {group:<24} {count}")
        for name, (theirs, ours) in self.resized.items():
            lines.append(f"  resized           {name:<24} {_shape(theirs)} -> {_shape(ours)}")
        for name, (theirs, ours) in self.mismatched.items():
            lines.append(f"  mismatched        {name:<24} file {_shape(theirs)}, model {_shape(ours)}")
        for kind in ("ignored", "newly_initialized", "missing", "unexpected"):
            lines += [f"  {kind.replace('_', ' '):<17} {name}" for name in getattr(self, kind)]
        return "\n".join(map(printable, lines))

    def error(self) -> str:
        """One sentence that names what does not fit."""
        faults = []
        if self.missing:
            faults.append(f"the file lacks {_listed(self.missing)}")
        if self.unexpected:
            faults.append(f"the model has no place for {_listed(self.unexpected)}")
        if self.mismatched:
            pairs = [f"{k} (file {_shape(a)}, model {_shape(b)})" for k, (a, b) in self.mismatched.items()]
            faults.append(f"of other shape: {_listed(pairs)}")
        return (
            f"{self.file} does not fit this model (read as {self.scheme}): {'; '.join(faults)}; build the model that "
            f"the file belongs to, or load what fits with strict=False."
        )


def _group(name: str) -> str:
    """The first two words of a name: 'backbone.block1', 'neck.fpn_convs'."""
    return ".".join(name.split(".")[:2])


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "scalar"


def _listed(names: list[str]) -> str:
    more = len(names) - NAMES_SHOWN
    return ", ".join(names[:NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")


def load_state(
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
    if strict and not report.complete:
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
