"""Checking datasets before hours are spent on them: every mistake of a COCO tree on a line of its own."""

import functools
import os
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from densevit.datasets.coco import DOWNLOAD_HINTS, image_file, read_annotations
from densevit.datasets.coco_fit import check_fit
from densevit.datasets.depth import DepthDataset
from densevit.datasets.image_dataset import missing_or_empty, require_folder
from densevit.datasets.io.image import BrokenImage, read_image
from densevit.datasets.semantic import SemanticDataset
from densevit.datasets.validation_depth import check_depth
from densevit.datasets.validation_report import Report, read_in_threads
from densevit.datasets.validation_semantic import check_semantic
from densevit.errors import DataError
from densevit.ops.coco_file import CocoFile
from densevit.ops.polygons import valid_polygons

WITH_MAPS = {"SemanticDataset": (SemanticDataset, check_semantic), "DepthDataset": (DepthDataset, check_depth)}
"""Datasets of images and maps, and what checks them."""
SMALL, MEDIUM = 32**2, 96**2
"""COCO's limits of `area`: small < 32 x 32 <= medium < 96 x 96 <= large."""


def check_coco(
    ann_file: str | os.PathLike, image_dir: str | os.PathLike, images: int | None = 0, data_root: str = ""
) -> Report:
    """Check annotations and image files.

    Args:
        ann_file: JSON in COCO's instances format.
        image_dir: folder that its file names are relative to.
        images: how many images to decode, spread evenly over the list; None for all, 0 for a check of seconds.
        data_root: folder that images may lie in, too.

    Returns:
        A report with the stats annotations, crowds, categories, used_categories, empty_images, sizes (small, medium and
        large annotations, without crowds) and area.

    Raises:
        DataError: `ann_file` cannot be read at all, or there is no folder `image_dir`.
    """
    image_dir = os.path.abspath(os.path.expanduser(image_dir))
    problems: list[str] = []
    coco = read_annotations(ann_file, problems.append)
    require_folder(image_dir, "image folder", DOWNLOAD_HINTS)
    report = Report(coco.source, len(coco.images), problems=problems)
    _count(report, coco)
    _check_boxes(report, coco)
    present = []
    for image in coco.images.values():
        try:
            path = os.path.join(image_dir, image_file(image, image_dir, data_root))
        except DataError as error:
            problems.append(str(error))
            continue
        if not os.path.isfile(path):
            problems.append(f"Image {path} does not exist.")
        else:
            present.append((path, (image.height, image.width)))
    _decode(report, present, images)
    stats = report.stats
    report.summary = [
        f"images       {report.images} ({stats['empty_images']} without annotations), {report.decoded} of them decoded",
        f"annotations  {stats['annotations']} ({stats['crowds']} crowds), "
        "small / medium / large without crowds {} / {} / {}".format(*stats["sizes"]),
        f"categories   {stats['categories']} ({stats['used_categories']} with annotations)",
    ]
    return report


def _count(report: Report, coco: CocoFile) -> None:
    areas = [annotation.area for annotation in coco.annotations if not annotation.iscrowd]
    small, below_large = sum(a < SMALL for a in areas), sum(a < MEDIUM for a in areas)
    report.stats = dict(
        annotations=len(coco.annotations),
        crowds=len(coco.annotations) - len(areas),
        categories=len(coco.names),
        used_categories=len({annotation.category_id for annotation in coco.annotations}),
        empty_images=len(coco.images) - len({annotation.image_id for annotation in coco.annotations}),
        sizes=(small, below_large - small, len(areas) - below_large),
        area=sum(annotation.area for annotation in coco.annotations),
    )
    if not coco.annotations:
        report.problems.append(f"{coco.source} has no annotations: there is nothing to learn from it.")
    repeated = [name for name, count in Counter(coco.names.values()).items() if count > 1]
    if repeated:
        report.notes.append(f"several categories are called {', '.join(repeated)}")


def _check_boxes(report: Report, coco: CocoFile) -> None:
    """Name each fault that training skips."""
    left = 0
    for annotation in coco.annotations:
        (x, y, w, h), image = annotation.bbox, coco.images[annotation.image_id]
        name = f"Annotation {annotation.id!r} in {coco.source}"
        if w < 1 or h < 1 or annotation.area <= 0:
            report.problems.append(
                f"{name} has a box below one pixel or no area, {annotation.bbox}: training leaves it out."
            )
        elif min(x + w, image.width) <= max(x, 0) or min(y + h, image.height) <= max(y, 0):
            report.problems.append(f"{name} has a box outside its image, {annotation.bbox}: training leaves it out.")
        else:
            left += not (annotation.iscrowd or annotation.ignore)
        polygons = annotation.segmentation
        if isinstance(polygons, tuple) and len(valid_polygons(polygons)) < len(polygons):
            report.problems.append(f"{name} has a polygon of an odd count or below three points: masks go without it.")
    check_fit(report, coco)
    if coco.annotations and not left:
        report.problems.append(
            f"No object of {coco.source} is left to learn from: all are left out, or ignore regions."
        )


def _decode(report: Report, present: list[tuple[str, tuple[int, int]]], images: int | None) -> None:
    """Decode a sample of the images that are there."""

    def problem(entry: tuple[str, tuple[int, int]]) -> str | None:
        try:
            read_image(*entry)
        except BrokenImage as error:
            return str(error)
        return None

    count = len(present) if images is None else min(images, len(present))
    sample = [present[i * len(present) // count] for i in range(count)]
    report.decoded = count
    report.problems += filter(None, read_in_threads(problem, sample))
    chosen = {path for path, _ in sample}
    empty = missing_or_empty([path for path, _ in present if path not in chosen])
    report.problems += [f"Image {path} is empty (0 bytes): copy it again." for path in empty]


def require_readable_images(dataset: Any, most: int | None = None) -> None:
    """Read a dataset's files, or so many of them spread evenly: a broken one stops a training before it begins.

    A dataset that skips broken images (`on_broken='skip'`), or that knows no such thing, is left alone; of one that
    repeats or joins others, each of them is read.

    Raises:
        DataError: the first image or map that cannot be used.
    """
    if hasattr(dataset, "check_before_training"):
        dataset.check_before_training(most)
    elif hasattr(dataset, "datasets") or hasattr(dataset, "dataset"):  # several in a row, or one repeated
        for part in getattr(dataset, "datasets", None) or [dataset.dataset]:
            require_readable_images(part, most)


def check_datasets(config: dict, images: int | None = None) -> list[Report]:
    """`check_coco`, `check_semantic` or `check_depth` for each dataset that a config's data loaders name, once each.

    Raises:
        DataError: the config names none that could be checked.
    """
    checks: dict[str, Callable[[], Any]] = {}  # by settings: a dataset of two loaders is read once
    parts = [(config.get(f"{part}_dataloader") or {}).get("dataset", {}) for part in ("train", "val", "test")]
    for dataset in (single for part in parts for single in _single(part)):
        kind = str(dataset.get("type")).removeprefix("densevit.")
        if kind == "CocoDataset":
            root = os.path.expanduser(dataset.get("data_root", ""))
            folder = dataset.get("data_prefix", {}).get("img", "")
            paths = os.path.join(root, dataset["ann_file"]), os.path.join(root, folder)
            checks[repr(paths)] = functools.partial(check_coco, *paths, images=images, data_root=root)
        elif kind in WITH_MAPS:
            known = {key: value for key, value in dataset.items() if key not in ("type", "pipeline", "indices")}
            settings = dict(known, check_files=False, test_mode=True)
            checks.setdefault(repr((kind, sorted(settings.items(), key=str))), _of_maps(kind, settings, images))
    if not checks:
        raise DataError(f"The config names no CocoDataset, {' or '.join(WITH_MAPS)}: there is nothing to check here.")
    return [check() for check in checks.values()]


def _single(dataset: dict) -> Iterator[dict]:
    """The configs of the datasets that one repeats, balances or joins, or its own."""
    inner = [dataset["dataset"]] if "dataset" in dataset else dataset.get("datasets", ())
    if not inner:
        yield dataset
    for part in inner:
        yield from _single(part)


def _of_maps(kind: str, settings: dict, images: int | None) -> Callable[[], Report]:
    dataset, check = WITH_MAPS[kind]
    return lambda: check(dataset(**settings), images)
