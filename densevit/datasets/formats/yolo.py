"""YOLO format: a text file for each image, one object a line, `class x y width height` or `class x1 y1 x2 y2 ...` in
shares of the image's sides.

    data.yaml                     names, and where train, val and test are: folders, or lists of images
    images/train/a.jpg            labels/train/a.txt
    train/images/a.jpg            train/labels/a.txt          or so
    a.jpg  a.txt  classes.txt     or so

An image without a label file has no objects, as in ultralytics.
"""

import os
from collections.abc import Iterator
from itertools import islice

import numpy as np

from densevit.datasets.formats.file_tree import CLASS_FILE, FileTree, image_sizes, read_label_text
from densevit.datasets.formats.folder_data import OBJECTS, FolderData, Split
from densevit.datasets.formats.yolo_yaml import class_names, description_file, images_by_split, parse_description
from densevit.ops.coco_format import short

TASK = OBJECTS
BEYOND = 0.01
"""Share of the image's side by which a coordinate may lie outside, as in ultralytics."""


def recognize(tree: FileTree) -> str | None:
    """The evidence that a folder is in this format, or None."""
    description = description_file(tree)
    if description:
        return description
    texts = ((path, read_label_text(tree.path(path)).strip()) for path in tree.below(suffixes=[".txt"])
             if _image_of(tree, path))  # fmt: skip
    for path, text in islice((pair for pair in islice(texts, 1000) if pair[1]), 20):
        if _is_label(text):
            return f"{path} beside an image, with {short(text.splitlines()[0])}"
    return None


def read(tree: FileTree) -> FolderData:
    """The images of a folder and their objects."""
    data = FolderData(tree.root, "yolo")
    description = description_file(tree)
    content = parse_description(tree.path(description)) if description else {}
    data.evidence = description or "images and a text file for each"
    names, source = class_names(tree, content, description)
    keypoints = "kpt_shape" in content
    if keypoints:
        data.notes.append("key points are not used, only their boxes")
    used, highest, rotated = set(), -1, []
    for split, paths in images_by_split(tree, content, description, data).items():
        data.splits[split] = Split(whole=False)
        for path, size in zip(paths, image_sizes(paths), strict=True):
            if data.agreed_size(path, size) is None:
                continue
            image = data.add_image(split, path, size)
            label = next((p for p in _label_files(path) if os.path.isfile(p)), None)
            if label is None:
                data.remark("images without a label file, used as images without objects", path)
                continue
            used.add(label)
            for number, row in _rows(label, data, keypoints):
                where = f"{label} line {number}"
                highest = max(highest, int(row[0]))
                if names is not None and int(row[0]) not in names:
                    data.problems.append(f"{where} has class {int(row[0])}, but {source} names {_range(names)}")
                    continue
                points = row[1:].reshape(-1, 2) * size
                if len(row) == 5:
                    center, sides = points
                    data.add_object(split, image, int(row[0]), where, [*(center - sides / 2), *sides])
                else:
                    rotated.append(len(points) == 4 and _rotated_rectangle(points))
                    data.add_object(split, image, int(row[0]), where, polygons=[points])
    if True in rotated and False not in rotated:
        data.problems.append(
            f"All {len(rotated)} polygons in {tree.root} are rectangles and some are rotated: they are oriented boxes "
            "(OBB), which no model here predicts"
        )
    if names is None:
        names = {index: f"class {index}" for index in range(highest + 1)}
        data.notes.append("no file names the classes, so they are called by their numbers")
    data.categories = [dict(id=index, name=name) for index, name in sorted(names.items())]
    unused = [path for path in tree.below(suffixes=[".txt"]) if tree.path(path) not in used and _in_labels(path)]
    links = {os.path.realpath(path) for path in used} if unused else set()
    for path in unused:
        if os.path.realpath(tree.path(path)) not in links:
            data.leave_out("labels without an image", path)
    return data


def _in_labels(path: str) -> bool:
    *folders, name = path.split("/")
    return "labels" in map(str.lower, folders) and not CLASS_FILE.fullmatch(name)


def _rotated_rectangle(points: np.ndarray) -> bool | None:
    """Whether four points are a rectangle with sloping sides; None where its sides are upright."""
    edges = np.roll(points, -1, 0) - points
    if (np.abs(edges).min(1) < 0.5).all():
        return None
    lengths = np.linalg.norm(edges, axis=1)
    parallelogram = np.abs(edges[:2] + edges[2:]).max() < 0.5
    return bool(parallelogram and abs(edges[0] @ edges[1]) <= 0.02 * lengths[0] * lengths[1] + 0.5 * lengths.max())


def _range(names: dict[int, str]) -> str:
    return f"{len(names)} classes, {min(names)} to {max(names)}" if names else "none"


def _label_files(image: str) -> Iterator[str]:
    """Where the label file of an image may be: in `labels` for the last `images` of its path, or beside it."""
    stem = os.path.splitext(image)[0]
    parts = stem.split("/")
    for location in reversed(range(len(parts) - 1)):
        if parts[location].lower() == "images":
            for name in ("labels", "Labels", "LABELS"):
                yield "/".join([*parts[:location], name, *parts[location + 1 :]]) + ".txt"
            break
    yield f"{stem}.txt"


def _image_of(tree: FileTree, label: str) -> str | None:
    """The image that a text file may belong to."""
    parts = label.split("/")
    for location, part in enumerate(parts[:-1]):
        if part.lower() == "labels":
            found = tree.image_named("/".join([*parts[:location], "images", *parts[location + 1 :]]))
            if found:
                return found
    return tree.image_named(label)


def _is_label(text: str) -> bool:
    try:
        return len([float(word) for word in text.splitlines()[0].split()]) >= 5
    except ValueError:
        return False


def _rows(path: str, data: FolderData, keypoints: bool) -> Iterator[tuple[int, np.ndarray]]:
    """(line number, class and coordinates) of each object of a label file."""
    seen = set()
    for number, line in enumerate(read_label_text(path).splitlines(), 1):
        words = line.split()
        if not words:
            continue
        where = f"{path} line {number}"
        try:
            row = np.array([float(word) for word in words])
        except ValueError:
            data.problems.append(f"{where} is {short(line)}: a line of YOLO has numbers alone")
            continue
        if keypoints:
            row = row[:5]
        if len(row) < 5 or len(row) % 2 == 0:
            data.problems.append(f"{where} has {len(row)} numbers instead of 5 (a box) or 7, 9, ... (a polygon)")
        elif not (row[0] >= 0 and row[0] == row[0] // 1 < 1e6):
            data.problems.append(f"{where} begins with {words[0]} instead of a class number")
        elif not (row[1:] >= -BEYOND).all() or not (row[1:] <= 1 + BEYOND).all():
            worst = words[1 + int(np.argmax(~(np.abs(row[1:] - 0.5) <= 0.5 + BEYOND)))]
            data.problems.append(f"{where} has the coordinate {worst}: YOLO's are shares of the image's sides, 0 to 1")
        elif row.tobytes() in seen:
            data.leave_out("objects that stand twice", where)
        else:
            seen.add(row.tobytes())
            yield number, row
