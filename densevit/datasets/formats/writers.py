"""Writing boxes and masks in other formats: COCO, Roboflow's COCO, YOLO, PASCAL VOC and LabelMe."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np

from densevit.datasets.formats.folder_data import OBJECTS, FolderData, Split
from densevit.datasets.formats.rings import joined_ring, mask_rings
from densevit.errors import ConfigError, DataError, suggest

NO_CROWDS = ("yolo", "labelme")
Item = tuple[Path, dict, list[dict]]
"""The image's file below the output folder without ending, COCO's image, its annotations."""


def write_folder(data: FolderData, out: str | os.PathLike, format: str) -> list[str]:
    """Write a folder's images and objects to a new folder in another format.

    Args:
        out: a folder that does not exist yet, or an empty one.
        format: a name of WRITERS.

    Returns:
        Notes of what the format cannot express.

    Raises:
        ConfigError: an unknown format, or labels that are no objects.
        DataError: `out` is no empty folder.
        OSError: the disk refuses; nothing is left behind.
    """
    if format not in WRITERS:
        raise ConfigError(f"Nothing is written as {format!r}{suggest(format, WRITERS)}: give {', '.join(WRITERS)}.")
    if data.task != OBJECTS:
        raise ConfigError(f"{data.folder} holds {data.task} labels: boxes and masks are written in another format.")
    out = Path(os.path.abspath(os.path.expanduser(out)))
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out} is there already and no empty folder: choose another one to write to.")
    notes = ["masks are left out, which VOC's XML files do not hold"] if format == "voc" and data.has_masks else []
    if format in NO_CROWDS:
        objects = {
            name: replace(split, annotations=[a for a in split.annotations if not a["iscrowd"]])
            for name, split in data.splits.items()
        }
        crowds = sum(len(data.splits[name].annotations) - len(split.annotations) for name, split in objects.items())
        notes += [f"{crowds} crowds are left out, which {format} does not know"] if crowds else []
        data = replace(data, splits=objects)
    fresh = out.with_name(f".{out.name}.writing-{os.getpid()}")
    try:
        WRITERS[format](data, fresh)
        if out.exists():
            out.rmdir()
        fresh.rename(out)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return notes


def _copy_images(
    split: Split, folder: Path, label_folder: Path | None = None, taken: set[str] | None = None
) -> Iterator[Item]:
    """Copy a split's images into one folder, under names of their own; gives where the label of each belongs."""
    folder.mkdir(parents=True, exist_ok=True)
    (label_folder or folder).mkdir(parents=True, exist_ok=True)
    annotations: dict = {}
    for annotation in split.annotations:
        annotations.setdefault(annotation["image_id"], []).append(annotation)
    taken = set() if taken is None else taken
    for image in split.images:
        name = Path(image["file_name"]).name
        stem, suffix = os.path.splitext(name)
        if stem.lower() in taken:
            stem = f"{stem}_{image['id']}"
        taken.add(stem.lower())
        shutil.copyfile(image["file_name"], folder / f"{stem}{suffix}")
        yield (
            (label_folder or folder) / stem,
            dict(image, file_name=f"{stem}{suffix}"),
            annotations.get(image["id"], []),
        )


def _write_json(path: Path, content: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, ensure_ascii=False, separators=(",", ":")), encoding="utf-8")


def _write_class_names(data: FolderData, out: Path) -> None:
    """labels.txt: the classes in their order, which the labels themselves do not state."""
    (out / "labels.txt").write_text("".join(f"{name}\n" for name in data.classes), encoding="utf-8")


def write_coco(data: FolderData, out: Path) -> None:
    """annotations/instances_SPLIT.json and SPLIT/."""
    for name, split in data.splits.items():
        images = [image for _, image, _ in _copy_images(split, out / name)]
        _write_json(out / f"annotations/instances_{name}.json", dict(data.coco(name), images=images))


def write_roboflow(data: FolderData, out: Path) -> None:
    """SPLIT/_annotations.coco.json beside the images, 'valid' for val; category 0 is the group's name."""
    group = dict(id=0, name="objects", supercategory="none")
    ids = {category["id"]: number for number, category in enumerate(data.categories, 1)}
    categories = [group, *(dict(c, id=ids[c["id"]], supercategory="objects") for c in data.categories)]
    for name, split in data.splits.items():
        folder = out / ("valid" if name == "val" else name)
        images = [image for _, image, _ in _copy_images(split, folder)]
        annotations = [dict(a, category_id=ids[a["category_id"]]) for a in split.annotations]
        _write_json(
            folder / "_annotations.coco.json", dict(images=images, annotations=annotations, categories=categories)
        )


def write_yolo(data: FolderData, out: Path) -> None:
    """data.yaml, images/SPLIT and labels/SPLIT. Objects with a mask are polygons: parts and holes become one ring."""
    numbers = {category["id"]: number for number, category in enumerate(data.categories)}
    for name, split in data.splits.items():
        for path, image, annotations in _copy_images(split, out / f"images/{name}", out / f"labels/{name}"):
            size = np.array([image["width"], image["height"]], float)
            lines = []
            for annotation in annotations:
                rings = mask_rings(annotation)
                x, y, width, height = annotation["bbox"]
                points = joined_ring(rings) if rings else np.array([[x + width / 2, y + height / 2], [width, height]])
                shares = np.clip(points / size, 0, 1) if rings else points / size
                lines.append(" ".join([str(numbers[annotation["category_id"]]), *(f"{v:.9g}" for v in shares.ravel())]))
            Path(f"{path}.txt").write_text("".join(f"{line}\n" for line in lines))
    names = "".join(f"  {number}: {json.dumps(name, ensure_ascii=False)}\n" for number, name in enumerate(data.classes))
    splits = "".join(f"{name}: images/{name}\n" for name in data.splits)
    (out / "data.yaml").write_text(f"path: .\n{splits}names:\n{names}", encoding="utf-8")


def write_voc(data: FolderData, out: Path) -> None:
    """Annotations/, JPEGImages/ and ImageSets/Main/SPLIT.txt: boxes in whole pixels from 1; crowds are `difficult`."""
    names = {category["id"]: category["name"] for category in data.categories}
    taken: set[str] = set()
    for split_name, split in data.splits.items():
        stems = []
        for path, image, annotations in _copy_images(split, out / "JPEGImages", out / "Annotations", taken):
            objects = ""
            for annotation in annotations:
                x, y, width, height = annotation["bbox"]
                left, top = round(x) + 1, round(y) + 1
                corners = left, top, max(round(x + width), left), max(round(y + height), top)
                tags = zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True)
                box = "".join(f"<{tag}>{value}</{tag}>" for tag, value in tags)
                objects += (
                    f"  <object><name>{escape(names[annotation['category_id']])}</name>"
                    f"<difficult>{annotation['iscrowd']}</difficult><bndbox>{box}</bndbox></object>\n"
                )
            size = f"<width>{image['width']}</width><height>{image['height']}</height><depth>3</depth>"
            Path(f"{path}.xml").write_text(
                f"<annotation>\n  <filename>{escape(image['file_name'])}</filename>\n  <size>{size}</size>\n{objects}"
                "</annotation>\n",
                encoding="utf-8",
            )
            stems.append(path.name)
        (out / "ImageSets/Main").mkdir(parents=True, exist_ok=True)
        (out / f"ImageSets/Main/{split_name}.txt").write_text("".join(f"{s}\n" for s in stems), encoding="utf-8")
    _write_class_names(data, out)


def write_labelme(data: FolderData, out: Path) -> None:
    """SPLIT/a.json beside each image: polygons, of several parts by `group_id`, and rectangles."""
    names = {category["id"]: category["name"] for category in data.categories}
    for split_name, split in data.splits.items():
        for path, image, annotations in _copy_images(split, out / split_name):
            shapes = []
            for annotation in annotations:
                rings, kind = mask_rings(annotation), "polygon"
                holes = isinstance(annotation.get("segmentation"), dict)
                rings = [joined_ring(rings)] if rings and holes else rings
                if not rings:
                    x, y, width, height = annotation["bbox"]
                    rings, kind = [np.array([[x, y], [x + width, y + height]])], "rectangle"
                group = annotation["id"] if len(rings) > 1 else None
                label = names[annotation["category_id"]]
                shapes += [
                    dict(label=label, points=r.tolist(), group_id=group, shape_type=kind, flags={}) for r in rings
                ]
            size = dict(imageHeight=image["height"], imageWidth=image["width"])
            content = dict(
                version="5.4.1", flags={}, shapes=shapes, imagePath=image["file_name"], imageData=None, **size
            )
            _write_json(path.with_name(f"{path.name}.json"), content)
    _write_class_names(data, out)


WRITERS: dict[str, Callable[[FolderData, Path], None]] = {
    "coco": write_coco,
    "roboflow": write_roboflow,
    "yolo": write_yolo,
    "voc": write_voc,
    "labelme": write_labelme,
}
