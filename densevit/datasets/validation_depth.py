"""Checking a tree of images and depth maps: every mistake of it on a line of its own, and how far away things are."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from densevit.datasets.depth import DepthDataset
from densevit.datasets.image_dataset import missing_or_empty, spread
from densevit.datasets.io.image import BrokenImage, read_image
from densevit.datasets.validation_semantic import missing_files

FAR = 100.0
"""Meters: maps in which everything is farther away hold another unit, or were taken from the air."""


@dataclass
class DepthReport:
    """What a tree of depth maps holds, and what is wrong with it.

    images: pairs of image and map, of which `decoded` were read. pixels: of the maps read. measured: those with a
    depth. nearest, mean, farthest: meters, of all those pixels. problems and notes: one sentence each.
    """

    location: str
    images: int = 0
    decoded: int = 0
    pixels: int = 0
    measured: int = 0
    nearest: float = 0.0
    mean: float = 0.0
    farthest: float = 0.0
    scale: float = 1.0
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def text(self, most: int = 50) -> str:
        """The report for people; at most so many problems of it."""
        share = f"{100 * (1 - self.measured / self.pixels):.2f} % of them holes" if self.pixels else "none read"
        lines = [
            self.location,
            f"  images       {self.images}, {self.decoded} of them and of their maps read",
            f"  pixels       {self.pixels}, {share}",
            f"  depth        {self.nearest:.3f} to {self.farthest:.3f} m, mean {self.mean:.6f} m "
            f"(meters = number / {self.scale:g})",
        ]
        lines += [f"  note: {note}" for note in self.notes]
        lines += [f"  problem: {problem}" for problem in self.problems[:most]]
        if len(self.problems) > most:
            lines.append(f"  ... and {len(self.problems) - most} problems more")
        return "\n".join(lines if self.problems else [*lines, "  no problem found"])


def check_depth(dataset: DepthDataset, images: int | None = None) -> DepthReport:
    """Read maps and images, in threads: OpenCV decodes outside Python's lock.

    Args:
        dataset: one that was built with `check_files=False`, so that missing files get a line each.
        images: how many to read, spread evenly; None for all.

    Raises:
        DataError: there is nothing that could be checked, such as no folder.
    """
    dataset.full_init()
    entries = spread(dataset, None)
    report = DepthReport(dataset.metainfo["ann_file"], len(entries), scale=dataset.read_depth.scale)
    report.notes += dataset.left_out
    report.problems += missing_files(entries, "depth_path", "Depth map")
    with ThreadPoolExecutor() as pool:
        found = list(pool.map(lambda entry: _read(dataset, entry), spread(dataset, images)))
    report.problems += [problem for _, problem in found if problem]
    maps = [metrics for metrics, _ in found if metrics is not None]
    report.decoded = len(maps)
    if maps:
        pixels, measured, sums, least, most = np.array(maps).T
        report.pixels, report.measured = int(pixels.sum()), int(measured.sum())
        if report.measured:
            report.nearest, report.farthest = float(least.min()), float(most.max())
            report.mean = float(sums.sum() / report.measured)
            unit = dataset.too_near(report.farthest)
            report.problems += [unit] if unit else []
            if report.nearest >= FAR and report.scale == 1:
                report.notes.append(
                    f"no pixel is nearer than {report.nearest:g} m: where the maps' numbers are millimeters, state "
                    "depth_scale=1000 on the dataset"
                )
    return report


def _read(dataset: DepthDataset, entry: dict) -> tuple[tuple | None, str | None]:
    """((pixels, pixels with a depth, sum, least and largest of these in meters), problem) of one pair.

    A file that is missing or empty is somebody else's to report.
    """
    if missing_or_empty([entry[key] for key in ("img_path", "depth_path") if key in entry]):
        return None, None
    if "depth_path" not in entry:
        try:
            read_image(entry["img_path"])
        except BrokenImage as error:
            return None, str(error)
        return None, None
    try:
        depth = dataset.read_depth(entry["depth_path"])
    except BrokenImage as error:
        return None, str(error)
    known = depth[depth > 0]
    ends = (float(known.min()), float(known.max())) if len(known) else (np.inf, 0.0)
    metrics = (depth.size, len(known), known.sum(dtype=np.float64), *ends)
    try:
        dataset.require_pair(entry, depth)
    except BrokenImage as error:
        return metrics, str(error)
    return metrics, None
