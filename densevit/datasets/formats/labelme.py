"""LabelMe format: a JSON file for each image, with polygons, rectangles and circles.

    a.jpg  a.json        or images/a.jpg  labels/a.json, or with folders train and val

Shapes of one label and `group_id` are one object of several parts. Points, lines and bitmaps are left out.
"""

import os
import re

import numpy as np

from densevit.datasets.formats.file_tree import FileTree, image_sizes, order_classes, read_label_text
from densevit.datasets.formats.folder_data import OBJECTS, FolderData
from densevit.datasets.formats.splits import split_of_folder
from densevit.ops.coco_format import is_number, whole
from densevit.plain_data import parse_json

TASK = OBJECTS
LABEL_FOLDERS = ("labels", "annotations", "json", "jsons", "labelme")
IMAGE_DATA = re.compile(r'"imageData"\s*:\s*"[^"]*"\s*,')
"""The image itself, which some files hold as text of many megabytes."""
CIRCLE = np.linspace(0, 2 * np.pi, 64, endpoint=False)
"""Angles of the polygon that stands for a circle."""


def recognize(tree: FileTree) -> str | None:
    """The evidence that a folder is in this format, or None."""
    for path, _ in zip(tree.below(suffixes=[".json"]), range(20), strict=False):
        with open(tree.path(path), "rb") as file:
            content = file.read(1 << 20).replace(b"\0", b"")
        if b'"shapes"' in content and (b'"imagePath"' in content or b'"imageData"' in content):
            return path
    return None


def read(tree: FileTree) -> FolderData:
    """The images of a folder and their shapes."""
    data = FolderData(tree.root, "labelme", evidence="a JSON file of shapes for each image")
    entries, used = [], set()
    for path in tree.below(suffixes=[".json"]):
        try:
            content = parse_json(IMAGE_DATA.sub("", read_label_text(tree.path(path))))
        except ValueError as error:
            data.problems.append(f"{tree.path(path)} is no JSON that can be read ({error})")
            continue
        if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
            data.leave_out("JSON files without shapes", path)
            continue
        image = _image_of(tree, path, content.get("imagePath"))
        if image is None:
            data.leave_out("labels without an image", path)
            continue
        used.add(image)
        entries.append((path, content, image))
    sizes = image_sizes([tree.path(image) for *_, image in entries])
    objects = [_objects(path, content["shapes"], data) for path, content, _ in entries]
    names = order_classes(tree, {name for found in objects for name, *_ in found})
    numbers = {name: number for number, name in enumerate(names, 1)}
    data.categories = [dict(id=number, name=name) for name, number in numbers.items()]
    for (_, content, image), found, size in zip(entries, objects, sizes, strict=True):
        stated = whole(content.get("imageWidth")), whole(content.get("imageHeight"))
        size = data.agreed_size(tree.path(image), size, stated if all(stated) else None)
        if size is None:
            continue
        split = split_of_folder(image)
        entry = data.add_image(split, tree.path(image), size)
        for name, where, kind, rings in found:
            low, high = rings[0].min(0), rings[0].max(0)
            masked = len(rings) > 1 or kind != "rectangle"
            data.add_object(split, entry, numbers[name], where, [*low, *(high - low)], rings if masked else ())
    for image in tree.below():
        if image not in used:
            data.leave_out("images without labels", image)
    return data


def _image_of(tree: FileTree, path: str, stated: object) -> str | None:
    """The image of a label file: where it says, beside it, or in the folder `images`."""
    folder, _, file = path.rpartition("/")
    parts = folder.split("/")
    locations = [folder]
    for location, part in enumerate(parts):
        if part.lower() in LABEL_FOLDERS:
            locations += ["/".join([*parts[:location], *middle, *parts[location + 1 :]]) for middle in (["images"], [])]
    names = [file[:-5]]
    if isinstance(stated, str) and stated:
        stated = stated.replace("\\", "/")
        names = [stated, os.path.basename(stated), *names]
    for name in names:
        for location in locations:
            found = tree.image_named(f"{location}/{name}".lstrip("/"))
            if found:
                return found
    return tree.image_anywhere(os.path.basename(names[0]))


def _objects(path: str, shapes: list, data: FolderData) -> list[tuple[str, str, str, list]]:
    """(class, where, kind of its first shape, polygons) of each object of a label file."""
    found: list[tuple[str, str, str, list]] = []
    groups: dict[tuple, list[np.ndarray]] = {}
    for number, shape in enumerate(shapes, 1):
        where = f"{os.path.join(data.folder, path)} shape {number}"
        try:
            name, kind = shape["label"], shape.get("shape_type") or "polygon"
            points = np.array(shape["points"], float).reshape(-1, 2)
            usable = isinstance(name, str) and name.strip() and all(map(is_number, points.ravel()))
        except (KeyError, TypeError, ValueError, AttributeError):
            usable = False
        if not usable:
            data.problems.append(f"{where} needs a label and points [[x, y], ...] of numbers")
            continue
        ring, name = _ring(kind, points), name.strip()
        if ring is None:
            data.leave_out(f"shapes of the kind {kind}", where)
            continue
        group = shape.get("group_id")
        rings = [] if group is None else groups.setdefault((name, str(group)), [])
        rings.append(ring)
        if len(rings) == 1:
            found.append((name, where, kind, rings))
    return found


def _ring(kind: str, points: np.ndarray) -> np.ndarray | None:
    """The polygon (n, 2) of a shape; None where it encloses nothing that is known."""
    if kind == "polygon" and len(points):
        return points
    if kind == "rectangle" and len(points) >= 2:
        (x1, y1), (x2, y2) = points.min(0), points.max(0)
        return np.array([(x1, y1), (x2, y1), (x2, y2), (x1, y2)])
    if kind == "circle" and len(points) == 2:
        radius = np.linalg.norm(points[1] - points[0])
        return points[0] + radius * np.stack([np.cos(CIRCLE), np.sin(CIRCLE)], 1)
    return None
