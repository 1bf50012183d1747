"""Checking datasets before hours are spent on them: every mistake of a COCO tree on a line of its own."""

import functools
import os
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from densevit.datasets.coco_file import DOWNLOAD_HINTS, CocoFile, image_file, read_coco
from densevit.datasets.coco_fit import compare
from densevit.datasets.depth import DepthDataset
from densevit.datasets.image_dataset import missing_or_empty
from densevit.datasets.io.image import BrokenImage, read_image
from densevit.datasets.semantic import SemanticDataset
from densevit.datasets.validation_depth import DepthReport, check_depth
from densevit.datasets.validation_semantic import SemanticReport, check_semantic
from densevit.errors import DataError
from densevit.ops.masks import valid_polygons

WITH_MAPS = {"SemanticDataset": (SemanticDataset, check_semantic), "DepthDataset": (DepthDataset, check_depth)}
"""Datasets of images and maps, and what checks them."""
SMALL, MEDIUM = 32**2, 96**2
"""COCO's limits of `area`: small < 32 x 32 <= medium < 96 x 96 <= large."""


@dataclass
class Report:
    """What a COCO tree holds, and what is wrong with it.

    sizes: small, medium and large annotations, without crowds. problems: one sentence each. notes: oddities that
    training deals with.
    """

    ann_file: str
    image_dir: str
    images: int = 0
    annotations: int = 0
    crowds: int = 0
    categories: int = 0
    used_categories: int = 0
    empty_images: int = 0
    sizes: tuple[int, int, int] = (0, 0, 0)
    area: float = 0.0
    decoded: int = 0
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def text(self, most: int = 50) -> str:
        """The report for people; at most so many problems of it."""
        lines = [
            f"{self.ann_file}",
            f"  images       {self.images} ({self.empty_images} without annotations), {self.decoded} of them decoded",
            f"  annotations  {self.annotations} ({self.crowds} crowds), "
            "small / medium / large without crowds {} / {} / {}".format(*self.sizes),
            f"  categories   {self.categories} ({self.used_categories} with annotations)",
        ]
        lines += [f"  note: {note}" for note in self.notes]
        lines += [f"  problem: {problem}" for problem in self.problems[:most]]
        if len(self.problems) > most:
            lines.append(f"  ... and {len(self.problems) - most} problems more")
        return "\n".join(lines if self.problems else [*lines, "  no problem found"])


def check_coco(
    ann_file: str | os.PathLike, image_dir: str | os.PathLike, images: int | None = 0, data_root: str = ""
) -> Report:
    """Check annotations and image files.

    Args:
        ann_file: JSON in COCO's instances format.
        image_dir: folder that its file names are relative to.
        images: how many images to decode, spread evenly over the list; None for all, 0 for a check of seconds.
        data_root: folder that images may lie in, too.

    Raises:
        DataError: `ann_file` cannot be read at all, or there is no folder `image_dir`.
    """
    image_dir = os.path.abspath(os.path.expanduser(image_dir))
    problems: list[str] = []
    coco = read_coco(ann_file, problems.append)
    if not os.path.isdir(image_dir):
        raise DataError(f"There is no image folder {image_dir}: {DOWNLOAD_HINTS}.")
    report = Report(ann_file=coco.path, image_dir=image_dir, problems=problems)
    _count(report, coco)
    _check_boxes(report, coco)
    present = []
    for image in coco.images:
        try:
            path = os.path.join(image_dir, image_file(image, image_dir, data_root))
        except DataError as error:
            problems.append(str(error))
            continue
        if not os.path.isfile(path):
            problems.append(f"Image {path} does not exist.")
        else:
            present.append((path, (image["height"], image["width"])))
    _decode(report, present, images)
    return report


def _annotations(coco: CocoFile) -> Iterator[tuple[dict, dict]]:
    """(image, annotation) pairs."""
    for image in coco.images:
        for annotation in coco.annotations.get(image["id"], []):
            yield image, annotation


def _count(report: Report, coco: CocoFile) -> None:
    report.images, report.annotations = len(coco.images), coco.num_annotations
    report.empty_images = sum(image["id"] not in coco.annotations for image in coco.images)
    report.categories = len(coco.names)
    report.used_categories = len({annotation["category_id"] for _, annotation in _annotations(coco)})
    report.area = sum(annotation["area"] for _, annotation in _annotations(coco))
    report.crowds = sum(annotation["iscrowd"] for _, annotation in _annotations(coco))
    objects = [annotation["area"] for _, annotation in _annotations(coco) if not annotation["iscrowd"]]
    small, below_large = sum(a < SMALL for a in objects), sum(a < MEDIUM for a in objects)
    report.sizes = (small, below_large - small, len(objects) - below_large)
    if not report.annotations:
        report.problems.append(f"{coco.path} has no annotations: there is nothing to learn from it.")
    repeated = [name for name, count in Counter(coco.names.values()).items() if count > 1]
    if repeated:
        report.notes.append(f"several categories are called {', '.join(repeated)}")


def _check_boxes(report: Report, coco: CocoFile) -> None:
    """Faults that training steps over, one by one, because it can: here they are named."""
    left = 0
    for image, annotation in _annotations(coco):
        x, y, w, h = annotation["bbox"]
        name = f"Annotation {annotation['id']!r} in {coco.path}"
        if w < 1 or h < 1 or annotation["area"] <= 0:
            report.problems.append(
                f"{name} has a box below one pixel or no area, {annotation['bbox']}: training leaves it out."
            )
        elif min(x + w, image["width"]) <= max(x, 0) or min(y + h, image["height"]) <= max(y, 0):
            report.problems.append(f"{name} has a box outside its image, {annotation['bbox']}: training leaves it out.")
        else:
            left += not (annotation["iscrowd"] or annotation.get("ignore"))
        segmentation = annotation.get("segmentation")
        if isinstance(segmentation, list) and len(valid_polygons(segmentation)) < len(segmentation):
            report.problems.append(f"{name} has a polygon of an odd count or below three points: masks go without it.")
    problems, notes = compare(coco)
    report.problems += problems
    report.notes += notes

    if report.annotations and not left:
        report.problems.append(f"No object of {coco.path} is left to learn from: all are left out, or ignore regions.")


def _decode(report: Report, present: list[tuple[str, tuple[int, int]]], images: int | None) -> None:
    """Decode a sample, in threads: OpenCV decodes outside Python's lock."""

    def problem(entry: tuple[str, tuple[int, int]]) -> str | None:
        try:
            read_image(*entry)
        except BrokenImage as error:
            return str(error)
        return None

    count = len(present) if images is None else min(images, len(present))
    sample = [present[i * len(present) // count] for i in range(count)]
    with ThreadPoolExecutor() as pool:
        found = list(pool.map(problem, sample))
    report.decoded = count
    report.problems += [sentence for sentence in found if sentence]
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


def check_datasets(config: dict, images: int | None = None) -> list[Report | SemanticReport | DepthReport]:
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
            location = os.path.join(root, dataset["ann_file"]), os.path.join(root, folder)
            checks[repr(location)] = functools.partial(check_coco, *location, images=images, data_root=root)
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


def _of_maps(kind: str, settings: dict, images: int | None) -> Callable[[], SemanticReport | DepthReport]:
    dataset, check = WITH_MAPS[kind]
    return lambda: check(dataset(**settings), images)
