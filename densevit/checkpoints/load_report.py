"""What became of every tensor of a file and of every parameter of a model."""

from collections import Counter
from dataclasses import dataclass, field

from densevit.errors import printable

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
