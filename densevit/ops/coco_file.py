"""The one reader of annotations in COCO's instances format, for training, checking and scoring, with every mistake
named.

`read_coco` hands each mistake to `on_problem` as one sentence: training and scoring raise at the first one,
tools/check_data.py collects them all and goes on without the faulty record. Annotations become compact records while
the file is parsed, so that a file of 450 MB takes less memory than its JSON would.
"""

import os
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from densevit.errors import DataError
from densevit.ops.coco_format import (
    FARTHEST,
    box_problem,
    flag,
    identity,
    is_area,
    mask_problem,
    polygons_problem,
    read_json,
    short,
    whole,
)
from densevit.ops.coco_rle import all_broken
from densevit.ops.gc_paused import gc_paused

FIELDS = ("id", "image_id", "category_id", "bbox", "area", "iscrowd", "ignore", "segmentation")


class CocoImage(NamedTuple):
    """An image of the file; where it is read for scoring alone, name and size may be None."""

    id: int | str
    file_name: str | None
    height: int | None
    width: int | None


@dataclass(slots=True)
class CocoAnnotation:
    """One object: bbox as [x, y, width, height].

    segmentation: polygons as lists of numbers, or where a file is not read for scoring as a tuple of the bytes of their
    float64 numbers; or an RLE, or None.
    """

    id: Any
    image_id: Any
    category_id: Any
    bbox: Any
    area: Any
    iscrowd: Any
    ignore: Any
    segmentation: Any

    def to_dict(self) -> dict[str, Any]:
        """The object as COCO's JSON has it, without what is missing."""
        entry = {key: value for key in FIELDS if (value := getattr(self, key)) is not None}
        if type(self.segmentation) is tuple:
            entry["segmentation"] = [array("d", part).tolist() for part in self.segmentation]
        return entry


@dataclass
class CocoFile:
    """Annotations that were checked.

    source: the path, or 'the ground truth' for annotations in memory. images: by id, in the file's order. names:
    category id -> name. annotations: in the file's order.
    """

    source: str
    images: dict[int | str, CocoImage] = field(default_factory=dict)
    names: dict[int | str, str] = field(default_factory=dict)
    annotations: list[CocoAnnotation] = field(default_factory=list)

    def by_image(self) -> dict[int | str, list[CocoAnnotation]]:
        """Image id -> its annotations, for images that have some."""
        groups: dict[int | str, list[CocoAnnotation]] = {}
        for annotation in self.annotations:
            groups.setdefault(annotation.image_id, []).append(annotation)
        return groups


def raise_problem(sentence: str) -> None:
    """The `on_problem` that stops at the first mistake."""
    raise DataError(sentence)


@gc_paused()
def read_coco(
    source: dict | str | os.PathLike,
    on_problem: Callable[[str], None] = raise_problem,
    scoring: bool = False,
    masks: bool = True,
) -> CocoFile:
    """Read and check annotations.

    Args:
        source: the JSON file, or its content.
        on_problem: called with one sentence per mistake; where it returns, the faulty record is left out.
        scoring: accept what scoring can do without: names and sizes of images, ids, boxes and areas of annotations.
        masks: keep segmentations; False: drop a file's polygons once checked, and when scoring all that is not needed.

    Raises:
        DataError: no such file, no JSON, or no lists of images and categories in it, whatever `on_problem` does.
    """
    if isinstance(source, dict):
        coco, content = CocoFile("the ground truth"), source
    else:
        coco = CocoFile(os.path.abspath(os.path.expanduser(source)))
        content = read_json(coco.source, "annotation file", None if scoring else partial(_compact, masks=masks))
    for key in ("images", "categories", "annotations"):
        found = content.get(key, [] if key == "annotations" else None) if isinstance(content, dict) else None
        if not isinstance(found, list):
            raise DataError(f"{coco.source} has no list {key!r}: give a JSON file in COCO's instances format.")

    def report(problem: str) -> None:
        on_problem(f"{problem} in {coco.source}: correct or remove it.")

    for category in content["categories"]:
        if problem := _add_category(coco.names, category, scoring):
            report(problem)
    if not scoring:
        coco.names = dict(sorted(coco.names.items()))
    for index, image in enumerate(content["images"]):
        if problem := _add_image(coco.images, image, index, scoring):
            report(problem)
    if not (coco.images or scoring):
        on_problem(f"{coco.source} lists no images: give an annotation file with at least one.")
    seen: set[int | str] = set()
    for index, annotation in enumerate(content.get("annotations", [])):
        if isinstance(annotation, dict):
            annotation = CocoAnnotation(*map(annotation.get, FIELDS)) if scoring else _record(annotation, masks)
        if not isinstance(annotation, CocoAnnotation):
            report(f"The annotation at index {index} has no 'id', as it is no object")
            continue
        if not scoring:
            annotation.id = identity(annotation.id)
            if annotation.id is None or annotation.id in seen:
                missing = f"The annotation at index {index} has no 'id'"
                report(missing if annotation.id is None else f"Annotation id {annotation.id!r} stands twice")
                continue
            seen.add(annotation.id)
        problem = _annotation_problem(annotation, coco, scoring, masks)
        if problem:
            report(f"Annotation {short(annotation.id)} {problem}")
        else:
            coco.annotations.append(annotation)
    _leave_out_broken_rles(coco, report)
    return coco


def _compact(entry: dict, masks: bool) -> dict | CocoAnnotation:
    """What is kept of a JSON object of the file: of annotations the fields, of images what is used."""
    is_image = "file_name" in entry
    if is_image == ("image_id" in entry) or "images" in entry:  # neither, not distinguishable, or the file as a whole
        return entry
    if is_image:
        return {key: entry[key] for key in ("id", "file_name", "height", "width") if key in entry}
    return _record(entry, masks)


def _record(entry: dict, masks: bool) -> CocoAnnotation:
    """An annotation as a record, its polygons as bytes; a faulty polygon is left as it is, to be reported with its
    id."""
    polygons = entry.get("segmentation")
    if type(polygons) is list and polygons_problem(polygons) is None:
        entry = {**entry, "segmentation": tuple([array("d", part).tobytes() for part in polygons]) if masks else None}
    return CocoAnnotation(*map(entry.get, FIELDS))


def _add_category(names: dict, category: Any, scoring: bool) -> str | None:
    entry = category if isinstance(category, dict) else {}
    number, name = (identity if scoring else whole)(entry.get("id")), entry.get("name")
    if number is None or not (scoring or isinstance(name, str)):
        return f"A category needs a whole-numbered 'id' and a 'name', not {short(category)},"
    if number in names:
        return f"Category id {number!r} stands twice"
    names[number] = str(name)
    return None


def _add_image(images: dict[int | str, CocoImage], image: Any, index: int, scoring: bool) -> str | None:
    """Add an image's entry; or the reason why it is unusable."""
    number = identity(image.get("id")) if isinstance(image, dict) else None
    if number is None:
        return f"The image at index {index} has no 'id'"
    name, given = image.get("file_name"), (image.get("height"), image.get("width"))
    if number in images:
        return f"Image id {number!r} stands twice ({images[number].file_name} and {name})"
    if not (scoring or _is_path(name)):
        return f"Image {number!r} has no 'file_name'"
    height, width = sides = [whole(side) for side in given]
    least = 0 if scoring else 1
    for side, stated in zip(sides, given, strict=True):
        if not (scoring and stated is None) and (side is None or not least <= side <= FARTHEST):
            return (
                f"Image {number!r} needs a width and a height in pixels, not {short(given[1])} and {short(given[0])},"
            )
    images[number] = CocoImage(number, name, height, width)
    return None


def _is_path(name: Any) -> bool:
    try:
        return isinstance(name, str) and name != "" and b"\0" not in os.fsencode(name)
    except UnicodeEncodeError:  # half a character
        return False


def _annotation_problem(annotation: CocoAnnotation, coco: CocoFile, scoring: bool, masks: bool) -> str | None:
    """What makes an annotation unusable, or None; whole numbers written as floats become whole, what is missing is
    filled in."""
    image_id = annotation.image_id
    image = coco.images.get(image_id if type(image_id) is int else identity(image_id))
    if image is None:
        return f"belongs to image {short(annotation.image_id)}, which is not"
    category = (identity if scoring else whole)(annotation.category_id)
    if category not in coco.names:
        return f"has category_id {short(annotation.category_id)}, which is not"
    box, area = annotation.bbox, annotation.area
    if not (scoring and box is None) and (problem := box_problem(box)):
        return problem
    if area is None and not scoring:
        area = annotation.area = box[2] * box[3]
    if area is not None and not is_area(area):
        return f"has the area {short(area)}"
    crowd = flag(annotation.iscrowd)
    if crowd is None:
        return f"has iscrowd {short(annotation.iscrowd)} instead of 0 or 1"
    if flag(annotation.ignore) is None and not scoring:
        return f"has ignore {short(annotation.ignore)} instead of 0 or 1"
    annotation.image_id, annotation.category_id, annotation.iscrowd = image.id, category, crowd
    mask = annotation.segmentation
    if scoring and not (masks or box is None or area is None):
        annotation.segmentation = None
    elif mask is not None and not (scoring and not mask) and type(mask) is not tuple:
        size = [image.height, image.width]
        if scoring and not all(size):
            given = mask.get("size") if isinstance(mask, dict) else None
            if not isinstance(given, list | tuple) or len(given) != 2:
                return f"needs the height and width of image {image.id!r}, which are not stated"
            size = [max(whole(side) or 0, 0) for side in given]
        return mask_problem(mask, size)
    return None


def _leave_out_broken_rles(coco: CocoFile, report: Callable[[str], None]) -> None:
    """Leave out the annotations whose compressed RLEs are not their images'."""
    packed = [
        (i, a.segmentation)
        for i, a in enumerate(coco.annotations)
        if type(a.segmentation) is dict and isinstance(a.segmentation["counts"], str | bytes)
    ]
    broken = {packed[index][0] for index in all_broken([rle for _, rle in packed])}
    for i in sorted(broken):
        number = short(coco.annotations[i].id)
        report(f"Annotation {number} has an RLE whose counts do not add up to its image's pixels")
    coco.annotations = [annotation for i, annotation in enumerate(coco.annotations) if i not in broken]
