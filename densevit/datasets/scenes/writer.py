"""Writes scenes to disk as a COCO tree, with class maps in ADE20K's form and depth in NYU's form beside it.

    OUT/train2017/000000000001.jpg          OUT/val2017/000005000001.jpg
    OUT/annotations/instances_train2017.json, instances_val2017.json      boxes, masks
    OUT/semantic/train/NAME.png, val/       8 bits, 0 = not labelled, ids as in classes.txt      semantic
    OUT/depth/train/NAME.png, val/          16 bits, millimeters, 0 = none                       depth
    OUT/classes.txt                         line n names semantic id n
    OUT/scenes.json                         what the folder was made from

All is written into a folder beside OUT first and moved into place when it is whole.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np

from densevit.datasets.scenes.annotations import categories, coco_annotations
from densevit.datasets.scenes.classes import SCENES_VERSION, SEMANTIC_CLASSES
from densevit.datasets.scenes.render import render
from densevit.datasets.scenes.statistics import measure
from densevit.errors import DataError

RECORD = "scenes.json"
MAX_IMAGES = 5_000_000  # ids of val begin above it
_VAL_SEED_STEP = 1_000_003
_CHUNK = 50


@dataclass(frozen=True)
class Settings:
    """All that decides what a folder holds."""

    images: int
    val: int
    seed: int
    size: tuple[int, int]
    labels: tuple[str, ...]
    quality: int = 95
    scenes_version: int = SCENES_VERSION

    def record(self) -> dict:
        """The content of scenes.json, in JSON's own types."""
        return json.loads(json.dumps(asdict(self)))


@dataclass(frozen=True)
class _Job:
    folder: str
    split: str
    seed: int
    start: int
    stop: int
    first_id: int
    settings: Settings


def val_seed(seed: int) -> int:
    """The world that the val part is taken from; far from any seed that a user is likely to count up to."""
    return seed + _VAL_SEED_STEP


def _save(path: Path, image: np.ndarray, options: list[int]) -> None:
    # imencode and write_bytes instead of imwrite, which only returns False on a full disk
    path.write_bytes(cv2.imencode(path.suffix, image, options)[1].tobytes())


def _write_chunk(job: _Job) -> tuple[list[str], list[str], list[np.ndarray]]:
    """Render and write scenes start..stop of one part; JSON text of images and annotations, and measures."""
    cv2.setNumThreads(0)
    folder, labels = Path(job.folder), job.settings.labels
    images, annotations, measures = [], [], []
    for index in range(job.start, job.stop):
        scene = render(job.seed, index, job.settings.size)
        number = job.first_id + index
        name = f"{number:012d}"
        _save(
            folder / f"{job.split}2017" / f"{name}.jpg", scene.image, [cv2.IMWRITE_JPEG_QUALITY, job.settings.quality]
        )
        if "semantic" in labels:
            _save(folder / "semantic" / job.split / f"{name}.png", scene.semantic, [])
        if "depth" in labels:
            millimeters = np.rint(scene.depth * 1000).astype(np.uint16)
            _save(folder / "depth" / job.split / f"{name}.png", millimeters, [])
        if "boxes" in labels:
            height, width = scene.image.shape[:2]
            entry = {"id": number, "file_name": f"{name}.jpg", "height": height, "width": width}
            images.append(json.dumps(entry, separators=(",", ":")))
            annotations += [json.dumps(one, separators=(",", ":")) for one in coco_annotations(scene, number, labels)]
        measures.append(measure(scene))
    return images, annotations, measures


def _run(jobs: list[_Job], workers: int) -> Iterator[tuple[_Job, tuple]]:
    """Results in the order of the jobs."""
    if workers <= 1:
        yield from ((job, _write_chunk(job)) for job in jobs)
        return
    with ProcessPoolExecutor(workers) as pool:
        try:
            yield from zip(jobs, pool.map(_write_chunk, jobs), strict=True)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _write_json(path: Path, split: str, settings: Settings, images: list[str], annotations: list[str]) -> None:
    about = {"description": f"densevit scenes, {split}", "version": str(SCENES_VERSION), "seed": settings.seed}
    with path.open("w") as file:
        file.write('{"info":' + json.dumps(about) + ',"licenses":[],"categories":' + json.dumps(categories()))
        file.write(
            ',\n"images":[\n' + ",\n".join(images) + '\n],\n"annotations":[\n' + ",\n".join(annotations) + "\n]}\n"
        )


def is_written(folder: Path, settings: Settings) -> bool:
    """True where `folder` holds exactly these scenes already."""
    try:
        return json.loads((folder / RECORD).read_text()) == settings.record()
    except (OSError, ValueError):
        return False


def check_target(folder: Path, force: bool) -> None:
    """DataError where writing to `folder` would destroy something that was not asked for."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not (folder / RECORD).is_file():
        raise DataError(f"{folder} exists and is not a folder of scenes, so it is left alone; choose another --out")
    if not force:
        raise DataError(
            f"{folder} holds scenes made with other settings; choose another --out, or replace them with --force"
        )


def write_tree(
    folder: Path,
    settings: Settings,
    workers: int = 1,
    force: bool = False,
    progress: Callable[[int], None] = lambda done: None,
) -> list[np.ndarray]:
    """Write the scenes to `folder` and return `measure` of each train and val scene.

    `progress` is called with the number of scenes written so far. Raises DataError where `folder` holds something else
    (scenes of other settings are replaced with `force`) and OSError where the disk refuses.
    """
    folder = folder.resolve()
    check_target(folder, force)
    parts = [
        ("train", settings.seed, settings.images, 1),
        ("val", val_seed(settings.seed), settings.val, MAX_IMAGES + 1),
    ]
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = folder.with_name(f".{folder.name}.writing-{os.getpid()}")
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        jobs = []
        for split, seed, count, first_id in parts:
            folders = [f"{split}2017", "annotations"]
            folders += [f"{kind}/{split}" for kind in ("semantic", "depth") if kind in settings.labels]
            for name in folders:
                (fresh / name).mkdir(parents=True, exist_ok=True)
            jobs += [
                _Job(str(fresh), split, seed, start, min(start + _CHUNK, count), first_id, settings)
                for start in range(0, count, _CHUNK)
            ]
        texts: dict[str, tuple[list[str], list[str]]] = {split: ([], []) for split, *_ in parts}
        measures: list[np.ndarray] = []
        for job, (images, annotations, measured) in _run(jobs, workers):
            texts[job.split][0].extend(images)
            texts[job.split][1].extend(annotations)
            measures += measured
            progress(len(measures))
        if "boxes" in settings.labels:
            for split, (images, annotations) in texts.items():
                _write_json(fresh / f"annotations/instances_{split}2017.json", split, settings, images, annotations)
        (fresh / "classes.txt").write_text("\n".join(SEMANTIC_CLASSES) + "\n")
        (fresh / RECORD).write_text(json.dumps(settings.record(), indent=1) + "\n")
        _move_into_place(fresh, folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return measures


def _move_into_place(fresh: Path, folder: Path) -> None:
    """Put the finished folder where the old one (checked before) may still be."""
    old = folder.with_name(f".{folder.name}.replaced-{os.getpid()}")
    if folder.exists():
        folder.rename(old)
    try:
        fresh.rename(folder)
    except OSError:
        if old.exists():
            old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)
