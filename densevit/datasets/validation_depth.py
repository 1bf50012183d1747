"""Checking a dataset of images and depth maps: every mistake on a line of its own, and how far away things are."""

import numpy as np

from densevit.datasets.depth import DepthDataset
from densevit.datasets.image_dataset import missing_or_empty, spread
from densevit.datasets.io.image import BrokenImage, read_image
from densevit.datasets.validation_report import Report, missing_files, read_in_threads

FAR = 100.0
"""Meters: maps in which everything is farther away hold another unit, or were taken from the air."""


def check_depth(dataset: DepthDataset, images: int | None = None) -> Report:
    """Read maps and images.

    Args:
        dataset: one that was built with `check_files=False`, so that missing files get a line each.
        images: how many to read, spread evenly; None for all.

    Returns:
        A report with the stats pixels of the maps read, measured, those with a depth, and nearest, mean and farthest
        depth of these in meters.

    Raises:
        DataError: there is nothing that could be checked, such as no folder.
    """
    dataset.full_init()
    entries, scale = spread(dataset, None), dataset.read_depth.scale
    report = Report(dataset.metainfo["ann_file"], len(entries), notes=[*dataset.left_out])
    report.problems += missing_files(entries, "depth_path", "Depth map")
    found = read_in_threads(lambda entry: _read(dataset, entry), spread(dataset, images))
    report.problems += [problem for _, problem in found if problem]
    maps = [numbers for numbers, _ in found if numbers is not None]
    report.decoded = len(maps)
    pixels, measured, sums, least, most = np.array(maps).reshape(-1, 5).T  # five of (M,)
    total, known = int(pixels.sum()), int(measured.sum())
    nearest, mean, farthest = (least.min(), sums.sum() / known, most.max()) if known else (0.0, 0.0, 0.0)
    report.stats = dict(pixels=total, measured=known, nearest=nearest, mean=mean, farthest=farthest)
    share = f"{100 * (1 - known / total):.2f} % of them holes" if total else "none read"
    report.summary = [
        f"images       {report.images}, {report.decoded} of them and of their maps read",
        f"pixels       {total}, {share}",
        f"depth        {nearest:.3f} to {farthest:.3f} m, mean {mean:.6f} m (meters = number / {scale:g})",
    ]
    if known:
        unit = dataset.too_near(farthest)
        report.problems += [unit] if unit else []
        if nearest >= FAR and scale == 1:
            report.notes.append(
                f"no pixel is nearer than {nearest:g} m: where the maps' numbers are millimeters, state "
                "depth_scale=1000 on the dataset"
            )
    return report


def _read(dataset: DepthDataset, entry: dict) -> tuple[tuple | None, str | None]:
    """((pixels, pixels with a depth, sum, least and largest of these in meters), problem) of one pair; a missing or
    empty file is reported by `missing_files`."""
    numbers = None
    if missing_or_empty([entry[key] for key in ("img_path", "depth_path") if key in entry]):
        return None, None
    try:
        if "depth_path" not in entry:
            read_image(entry["img_path"])
            return None, None
        depth = dataset.read_depth(entry["depth_path"])
        known = depth[depth > 0]
        ends = (float(known.min()), float(known.max())) if len(known) else (np.inf, 0.0)
        numbers = (depth.size, len(known), known.sum(dtype=np.float64), *ends)
        dataset.require_pair(entry, depth)
    except BrokenImage as error:
        return numbers, str(error)
    return numbers, None
