"""Reading an annotation file in COCO's instances format, with every mistake named.

`read_coco` hands each mistake to `on_problem` as one sentence: training raises at the first one, tools/check_data.py
collects them all and goes on without the faulty record.
"""

import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field

from densevit.errors import DataError
from densevit.ops.garbage import garbage_collection_off

WAYS_ON = (
    "lay the COCO tree out there as data/README.md shows, or pass another tree, for example "
    "`--data-root data/scenes` (made by `python data/make_scenes.py`)"
)


@dataclass
class CocoFile:
    """What an annotation file holds.

    images: dicts with at least id, file_name, height and width, in the file's order.
    names: category id -> name, by rising id.
    annotations: image id -> its annotations, in the file's order; each has id, category_id, bbox, area and iscrowd.
    """

    path: str
    images: list[dict] = field(default_factory=list)
    names: dict[int, str] = field(default_factory=dict)
    annotations: dict[int | str, list[dict]] = field(default_factory=dict)

    @property
    def num_annotations(self) -> int:
        return sum(map(len, self.annotations.values()))


def raise_problem(sentence: str) -> None:
    """The `on_problem` of training: stop at the first mistake."""
    raise DataError(sentence)


@garbage_collection_off()
def read_coco(path: str | os.PathLike, on_problem: Callable[[str], None] = raise_problem) -> CocoFile:
    """Read and check an annotation file.

    Args:
        path: the JSON file.
        on_problem: called with one sentence per mistake; where it returns, the faulty record is left out.

    Raises:
        DataError: no such file, no JSON, or no lists of images and categories in it, whatever `on_problem` does.
    """
    path = os.path.abspath(os.path.expanduser(path))
    content = _load(path)
    coco = CocoFile(path)
    for category in content["categories"]:
        _add_category(coco, category, on_problem)
    coco.names = dict(sorted(coco.names.items()))
    seen_images, seen_annotations = {}, set()
    for place, image in enumerate(content["images"]):
        _add_image(coco, image, place, seen_images, on_problem)
    if not coco.images:
        on_problem(f"{path} lists no images: give an annotation file with at least one.")
    for place, annotation in enumerate(content.get("annotations", [])):
        problem = _annotation_problem(annotation, place, seen_images, seen_annotations, coco.names)
        if problem:
            on_problem(f"{problem} in {path}: mend or remove it.")
        else:
            coco.annotations.setdefault(annotation["image_id"], []).append(annotation)
    return coco


def _load(path: str) -> dict:
    if not os.path.exists(path):
        raise DataError(f"{missing_sentence(path)}: {WAYS_ON}.")
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
    except json.JSONDecodeError as error:
        where = f"at line {error.lineno}, column {error.colno}" if os.path.getsize(path) else "(0 bytes)"
        raise DataError(f"Annotation file {path} is no valid JSON {where}: it is incomplete, copy it again.") from None
    except UnicodeDecodeError:
        raise DataError(f"Annotation file {path} is not text: give a JSON file in COCO's format.") from None
    except OSError as error:
        raise DataError(f"Annotation file {path} cannot be read: {error.strerror}.") from None
    for key in ("images", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise DataError(f"Annotation file {path} has no list {key!r}: give a JSON file in COCO's instances format.")
    if not isinstance(content.get("annotations", []), list):
        raise DataError(f"'annotations' of {path} is no list: give a JSON file in COCO's instances format.")
    return content


def missing_sentence(path: str) -> str:
    """Name the first folder on the way to `path` that is missing, or the file itself."""
    parent = os.path.dirname(path)
    if os.path.isdir(parent):
        return f"There is no annotation file {path}"
    while not os.path.isdir(os.path.dirname(parent)):
        parent = os.path.dirname(parent)
    return f"There is no folder {parent} (looked for {path})"


def _add_category(coco: CocoFile, category: dict, on_problem: Callable[[str], None]) -> None:
    if not isinstance(category, dict) or not _is_whole(category.get("id")) or not isinstance(category.get("name"), str):
        on_problem(f"A category of {coco.path} needs a whole-numbered 'id' and a 'name': {_short(category)}.")
    elif category["id"] in coco.names:
        on_problem(f"Category id {category['id']} stands twice in {coco.path}: give each category an id of its own.")
    else:
        coco.names[category["id"]] = category["name"]


def _add_image(coco: CocoFile, image: dict, place: int, seen: dict, on_problem: Callable[[str], None]) -> None:
    problem = _image_problem(image, place, seen)
    if problem:
        on_problem(f"{problem} in {coco.path}: mend or remove it.")
    else:
        seen[image["id"]] = image
        coco.images.append(image)


def _image_problem(image: dict, place: int, seen: dict) -> str | None:
    if not isinstance(image, dict) or not _is_id(image.get("id")):
        return f"The image at place {place} has no 'id'"
    name = f"Image {image['id']!r}"
    if image["id"] in seen:
        return f"Image id {image['id']!r} stands twice ({seen[image['id']]['file_name']} and {image.get('file_name')})"
    if not isinstance(image.get("file_name"), str) or not image["file_name"]:
        return f"{name} has no 'file_name'"
    if not all(_is_whole(image.get(side)) and image[side] > 0 for side in ("width", "height")):
        return f"{name} needs a width and a height in pixels, not {image.get('width')!r} and {image.get('height')!r},"
    return None


def _annotation_problem(annotation: dict, place: int, images: dict, seen: set, names: dict) -> str | None:
    """What makes an annotation unusable, or None; fills in a missing area and iscrowd."""
    if not isinstance(annotation, dict) or not _is_id(annotation.get("id")):
        return f"The annotation at place {place} has no 'id'"
    name = f"Annotation {annotation['id']!r}"
    if annotation["id"] in seen:
        return f"Annotation id {annotation['id']!r} stands twice"
    seen.add(annotation["id"])
    image_id, category = annotation.get("image_id"), annotation.get("category_id")
    if not _is_id(image_id) or image_id not in images:
        return f"{name} belongs to image {image_id!r}, which is not"
    if not _is_whole(category) or category not in names:
        return f"{name} has category_id {category!r}, which is not"
    box = annotation.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
        return f"{name} needs a bbox [x, y, width, height] of four numbers, not {_short(box)},"
    if not all(map(math.isfinite, box)):
        return f"{name} has a bbox with NaN or infinity, {box},"
    area = annotation.setdefault("area", box[2] * box[3])
    if not _is_number(area) or not math.isfinite(area):
        return f"{name} has the area {_short(area)}"
    if annotation.setdefault("iscrowd", 0) not in (0, 1):
        return f"{name} has iscrowd {_short(annotation['iscrowd'])} instead of 0 or 1"
    problem = _segmentation_problem(annotation.get("segmentation"), images[image_id])
    return f"{name} {problem}" if problem else None


def _segmentation_problem(segmentation: list | dict | None, image: dict) -> str | None:
    if segmentation is None:
        return None
    if isinstance(segmentation, list):
        try:  # a sum finds every bad number at the speed of C: COCO's polygons have fifty million
            sums = [sum(part) for part in segmentation]
        except TypeError:
            return "has a polygon that is no list of numbers"
        return None if all(map(math.isfinite, sums)) else "has a polygon with NaN or infinity"
    size = [image["height"], image["width"]]
    if not isinstance(segmentation, dict) or not isinstance(segmentation.get("counts"), list | str):
        return "has a segmentation that is neither polygons nor RLE"
    if segmentation.get("size") != size:
        return f"has an RLE of size {_short(segmentation.get('size'))}, while its image is {size}"
    counts = segmentation["counts"]
    if isinstance(counts, list) and not (all(map(_is_whole, counts)) and sum(counts) == size[0] * size[1]):
        return f"has an RLE whose counts do not add up to its image's {size[0] * size[1]} pixels"
    return None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_id(value: object) -> bool:
    return isinstance(value, int | str) and not isinstance(value, bool)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
