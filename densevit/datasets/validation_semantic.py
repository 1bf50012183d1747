"""Checking a dataset of images and class maps: every mistake on a line of its own, and how many pixels have which
class."""

import numpy as np

from densevit.datasets.class_names import IGNORED
from densevit.datasets.image_dataset import missing_or_empty, spread
from densevit.datasets.io.image import BrokenImage, read_image
from densevit.datasets.io.label_map import UNKNOWN, read_values
from densevit.datasets.semantic import SemanticDataset
from densevit.datasets.validation_report import Report, missing_files, read_in_threads


def check_semantic(dataset: SemanticDataset, images: int | None = None) -> Report:
    """Read maps and images.

    Args:
        dataset: one that was built with `check_files=False`, so that missing files get a line each.
        images: how many to read, spread evenly; None for all.

    Returns:
        A report with the stats names, pixels (K,) of each class in the maps read, holders (K,) maps that a class occurs
        in, and ignored, pixels without a class.

    Raises:
        DataError: there is nothing that could be checked, such as no folder.
    """
    dataset.full_init()
    entries, chosen, names = spread(dataset, None), spread(dataset, images), dataset.semantic.names
    report = Report(dataset.metainfo["ann_file"], len(entries), notes=[*dataset.left_out])
    report.problems += missing_files(entries, "seg_path", "Class map")
    found = read_in_threads(lambda entry: _read(dataset, entry), chosen)
    report.problems += [problem for _, problems in found for problem in problems]
    counts = [table for table, _ in found if table is not None]
    report.decoded = len(counts)
    tables = np.array(counts, dtype=np.int64).reshape(-1, 256)  # (M, 256), also of no maps
    pixels = tables.sum(axis=0)
    report.stats = dict(
        names=names,
        pixels=pixels[: len(names)],
        holders=(tables > 0).sum(axis=0)[: len(names)],
        ignored=int(pixels[IGNORED]),
    )
    _summarize(report)
    # a sample may lack classes
    enough = bool(counts) and (len(chosen) == len(entries) or not report.stats["pixels"].any())
    problem = dataset.too_few_classes(pixels, len(counts)) if enough else None
    report.problems += [problem] if problem else []
    return report


def _summarize(report: Report) -> None:
    """Write the lines of text, and a note of the classes that do not occur."""
    names, pixels, holders, ignored = (report.stats[key] for key in ("names", "pixels", "holders", "ignored"))
    known = int(pixels.sum())
    total = known + ignored
    share = f"{100 * ignored / total:.2f} % of them without a class" if total else "none read"
    report.summary = [
        f"images       {report.images}, {report.decoded} of them and of their maps read",
        f"pixels       {total}, {share}",
        f"classes      {len(names)} ({np.count_nonzero(pixels)} found)",
    ]
    if not total:
        return
    width = max(len("class"), *map(len, names))
    report.summary.append(f"  {'class'.ljust(width)}{'pixels':>14}{'share':>10}{'images':>9}")
    for name, count, images in zip(names, pixels, holders, strict=True):
        report.summary.append(f"  {name.ljust(width)}{count:>14}{100 * count / max(known, 1):>8.3f} %{images:>9}")
    unused = [name for name, count in zip(names, pixels, strict=True) if not count]
    if unused:
        report.notes.insert(0, f"{len(unused)} classes occur in none of the maps read: {', '.join(unused)}")


def _read(dataset: SemanticDataset, entry: dict) -> tuple[np.ndarray | None, list[str]]:
    """(pixels by class (256,), problems) of one pair; a missing or empty file is reported by `missing_files`."""
    if missing_or_empty([entry[key] for key in ("img_path", "seg_path") if key in entry]):
        return None, []
    table, problems, size = np.zeros(256, np.int64), [], None
    try:
        if "seg_path" in entry:
            values = read_values(entry["seg_path"])
            classes = dataset.read_map.classify(values, entry["seg_path"])
            table, size = np.bincount(classes.ravel(), minlength=256), classes.shape  # (256,), (H, W)
            if table[UNKNOWN]:
                problems.append(dataset.read_map.unknown_sentence(values, classes, entry["seg_path"]))
        read_image(entry["img_path"], size, f"class map {entry.get('seg_path')} is")
    except BrokenImage as error:
        problems.append(str(error))
    return table, problems
