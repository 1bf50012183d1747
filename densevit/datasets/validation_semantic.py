"""Checking a tree of images and class maps: every mistake of it on a line of its own, and how much there is of what."""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from densevit.datasets.class_names import IGNORED
from densevit.datasets.image_dataset import missing_or_empty, spread
from densevit.datasets.io.image import BrokenImage, read_image
from densevit.datasets.io.label_map import UNKNOWN, read_values
from densevit.datasets.semantic import SemanticDataset


@dataclass
class SemanticReport:
    """What a tree of class maps holds, and what is wrong with it.

    images: pairs of image and map, of which `decoded` were read. pixels: of each class in the maps read. ignored:
    pixels without a class. holders: maps that a class occurs in. problems and notes: one sentence each.
    """

    location: str
    names: tuple[str, ...]
    images: int = 0
    decoded: int = 0
    pixels: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    holders: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    ignored: int = 0
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def text(self, most: int = 50) -> str:
        """The report for people; at most so many problems of it."""
        total = int(self.pixels.sum()) + self.ignored
        share = f"{100 * self.ignored / total:.2f} % of them without a class" if total else "none read"
        lines = [
            self.location,
            f"  images       {self.images}, {self.decoded} of them and of their maps read",
            f"  pixels       {total}, {share}",
            f"  classes      {len(self.names)} ({np.count_nonzero(self.pixels)} found)",
        ]
        if total:
            width = max(len("class"), *map(len, self.names))
            lines.append(f"    {'class'.ljust(width)}{'pixels':>14}{'share':>10}{'images':>9}")
            for name, count, images in zip(self.names, self.pixels, self.holders, strict=True):
                share = 100 * count / max(int(self.pixels.sum()), 1)
                lines.append(f"    {name.ljust(width)}{count:>14}{share:>8.3f} %{images:>9}")
        unused = [name for name, count in zip(self.names, self.pixels, strict=False) if not count]
        if unused and total:
            lines.append(f"  note: {len(unused)} classes occur in none of the maps read: {', '.join(unused)}")
        lines += [f"  note: {note}" for note in self.notes]
        lines += [f"  problem: {problem}" for problem in self.problems[:most]]
        if len(self.problems) > most:
            lines.append(f"  ... and {len(self.problems) - most} problems more")
        return "\n".join(lines if self.problems else [*lines, "  no problem found"])


def check_semantic(dataset: SemanticDataset, images: int | None = None) -> SemanticReport:
    """Read maps and images, in threads: OpenCV decodes outside Python's lock.

    Args:
        dataset: one that was built with `check_files=False`, so that missing files get a line each.
        images: how many to read, spread evenly; None for all.

    Raises:
        DataError: there is nothing that could be checked, such as no folder.
    """
    dataset.full_init()
    entries = spread(dataset, None)
    report = SemanticReport(dataset.metainfo["ann_file"], dataset.semantic.names, len(entries))
    report.notes += dataset.left_out
    report.problems += missing_files(entries, "seg_path", "Class map")
    chosen = spread(dataset, images)
    with ThreadPoolExecutor() as pool:
        found = list(pool.map(lambda entry: _read(dataset, entry), chosen))
    report.problems += [problem for _, problems in found for problem in problems]
    counts = [table for table, _ in found if table is not None]
    report.decoded = len(counts)
    tables = np.array(counts, dtype=np.int64).reshape(-1, 256)
    pixels, holders = tables.sum(axis=0), (tables > 0).sum(axis=0)
    report.pixels, report.holders = pixels[: len(report.names)], holders[: len(report.names)]
    report.ignored = int(pixels[IGNORED])
    enough = bool(counts) and (len(chosen) == len(entries) or not report.pixels.any())  # a sample may lack classes
    problem = dataset.too_few_classes(pixels, len(counts)) if enough else None
    report.problems += [problem] if problem else []
    return report


def missing_files(entries: list[dict], ground_truth: str, what: str) -> list[str]:
    """A sentence for each file that is missing or empty: images, and maps, the paths `ground_truth`, called `what`."""
    problems = []
    for key, kind in (("img_path", "Image"), (ground_truth, what)):
        for path in missing_or_empty([entry[key] for entry in entries if key in entry]):
            state = "is empty (0 bytes): copy it again" if os.path.isfile(path) else "does not exist: copy it there"
            problems.append(f"{kind} {path} {state}.")
    return problems


def _read(dataset: SemanticDataset, entry: dict) -> tuple[np.ndarray | None, list[str]]:
    """(pixels by class (256,), problems) of one pair; a file that is missing or empty is somebody else's to report."""
    if missing_or_empty([entry["img_path"]]) or missing_or_empty([entry[k] for k in ("seg_path",) if k in entry]):
        return None, []
    table, problems, size = np.zeros(256, np.int64), [], None
    try:
        if "seg_path" in entry:
            values = read_values(entry["seg_path"])
            classes = dataset.read_map.classify(values, entry["seg_path"])
            table, size = np.bincount(classes.ravel(), minlength=256), classes.shape
            if table[UNKNOWN]:
                problems.append(dataset.read_map.unknown_sentence(values, classes, entry["seg_path"]))
        read_image(entry["img_path"], size, f"class map {entry.get('seg_path')} is")
    except BrokenImage as error:
        problems.append(str(error))
    return table, problems
