"""The report of a check of a dataset, whatever it holds, and what all checks look for."""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from densevit.datasets.image_dataset import missing_or_empty


@dataclass
class Report:
    """What a dataset holds, and what is wrong with it.

    source: file or folder. images: of the dataset, of which `decoded` were read. stats: what was counted, by name.
    summary: the same as lines of text. notes: oddities that training deals with. problems: one sentence each.
    """

    source: str
    images: int = 0
    decoded: int = 0
    stats: dict[str, Any] = field(default_factory=dict)
    summary: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def text(self, most: int = 50) -> str:
        """The report for people; at most so many problems of it."""
        lines = [self.source, *(f"  {line}" for line in self.summary), *(f"  note: {note}" for note in self.notes)]
        lines += [f"  problem: {problem}" for problem in self.problems[:most]]
        if len(self.problems) > most:
            lines.append(f"  ... and {len(self.problems) - most} problems more")
        return "\n".join(lines if self.problems else [*lines, "  no problem found"])


def read_in_threads(read: Callable[[Any], Any], entries: Iterable[Any]) -> list[Any]:
    """`read` of each entry; OpenCV decodes outside Python's lock."""
    with ThreadPoolExecutor() as pool:
        return list(pool.map(read, entries))


def missing_files(entries: list[dict], map_key: str, what: str) -> list[str]:
    """A sentence for each file that is missing or empty: images, and the maps of the paths `map_key`, called `what`."""
    problems = []
    for key, kind in (("img_path", "Image"), (map_key, what)):
        for path in missing_or_empty([entry[key] for entry in entries if key in entry]):
            state = "is empty (0 bytes): copy it again" if os.path.isfile(path) else "does not exist: copy it there"
            problems.append(f"{kind} {path} {state}.")
    return problems
