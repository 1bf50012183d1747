"""Reading an annotation file in COCO's instances format, with every mistake named.

`read_coco` hands each mistake to `on_problem` as one sentence: training raises at the first one, tools/check_data.py
collects them all and goes on without the faulty record.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field

from densevit.errors import DataError
from densevit.ops.coco_format import FARTHEST, flag, identity, is_area, is_box, mask_problem, read_json, short, whole
from densevit.ops.coco_rle import all_broken
from densevit.ops.gc_paused import gc_paused

DOWNLOAD_HINTS = (
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


@gc_paused()
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
    for location, image in enumerate(content["images"]):
        _add_image(coco, image, location, seen_images, on_problem)
    if not coco.images:
        on_problem(f"{path} lists no images: give an annotation file with at least one.")
    for location, annotation in enumerate(content.get("annotations", [])):
        problem = _annotation_problem(annotation, location, seen_images, seen_annotations, coco.names)
        if problem:
            on_problem(f"{problem} in {path}: correct or remove it.")
        else:
            coco.annotations.setdefault(annotation["image_id"], []).append(annotation)
    _check_runs(coco, on_problem)
    return coco


def _load(path: str) -> dict:
    if not os.path.exists(path):
        raise DataError(f"{missing_sentence(path)}: {DOWNLOAD_HINTS}.")
    content = read_json(path, "Annotation file")
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


def image_file(image: dict, folder: str, data_root: str) -> str:
    """Path of an image below `folder`, with slashes for Windows' back-slashes where no file is named so.

    Raises:
        DataError: it lies outside both folders, by '..' or as an absolute path.
    """
    name = image["file_name"]
    if "\\" in name and not os.path.exists(os.path.join(folder, name)):
        name = name.replace("\\", "/")
    if name[0] == "/" or ".." in name:
        path = os.path.normpath(os.path.join(folder, name))
        for resolve in (os.path.abspath, os.path.realpath):  # links below the folders are the user's own
            for root in filter(None, (folder, data_root)):
                if os.path.commonpath([resolve(root), resolve(path)]) == resolve(root):
                    return name
        raise DataError(
            f"Image {image['id']!r} has the file_name {name}, which lies outside {os.path.abspath(folder)}: give paths "
            "below it, or set data_prefix to a folder that holds them all."
        )
    return name


def _add_category(coco: CocoFile, category: dict, on_problem: Callable[[str], None]) -> None:
    number = whole(category.get("id")) if isinstance(category, dict) else None
    if number is None or not isinstance(category.get("name"), str):
        on_problem(f"A category of {coco.path} needs a whole-numbered 'id' and a 'name': {short(category)}.")
    elif number in coco.names:
        on_problem(f"Category id {number} stands twice in {coco.path}: give each category an id of its own.")
    else:
        coco.names[number] = category["name"]


def _add_image(coco: CocoFile, image: dict, location: int, seen: dict, on_problem: Callable[[str], None]) -> None:
    problem = _image_problem(image, location, seen)
    if problem:
        on_problem(f"{problem} in {coco.path}: correct or remove it.")
    else:
        seen[image["id"]] = image
        coco.images.append(image)


def _image_problem(image: dict, location: int, seen: dict) -> str | None:
    """What makes an image's entry unusable, or None; whole numbers written as floats become whole."""
    number = identity(image.get("id")) if isinstance(image, dict) else None
    if number is None:
        return f"The image at location {location} has no 'id'"
    name, image["id"] = f"Image {number!r}", number
    if number in seen:
        return f"Image id {number!r} stands twice ({seen[number]['file_name']} and {image.get('file_name')})"
    if not _is_path(image.get("file_name")):
        return f"{name} has no 'file_name'"
    width, height = sides = whole(image.get("width")), whole(image.get("height"))
    if not all(side is not None and 0 < side <= FARTHEST for side in sides):
        given = f"{short(image.get('width'))} and {short(image.get('height'))}"
        return f"{name} needs a width and a height in pixels, not {given},"
    image["width"], image["height"] = width, height
    return None


def _is_path(name: object) -> bool:
    try:
        return isinstance(name, str) and name != "" and b"\0" not in os.fsencode(name)
    except UnicodeEncodeError:  # half a character
        return False


def _annotation_problem(annotation: dict, location: int, images: dict, seen: set, names: dict) -> str | None:
    """What makes an annotation unusable, or None; fills in what is missing, whole numbers written as floats become
    whole."""
    number = identity(annotation.get("id")) if isinstance(annotation, dict) else None
    if number is None:
        return f"The annotation at location {location} has no 'id'"
    name = f"Annotation {number!r}"
    if number in seen:
        return f"Annotation id {number!r} stands twice"
    seen.add(number)
    image_id, category = identity(annotation.get("image_id")), whole(annotation.get("category_id"))
    if image_id not in images:
        return f"{name} belongs to image {short(annotation.get('image_id'))}, which is not"
    if category not in names:
        return f"{name} has category_id {short(annotation.get('category_id'))}, which is not"
    box, segmentation = annotation.get("bbox"), annotation.get("segmentation")
    if not is_box(box):
        if isinstance(box, list) and len(box) == 4 and all(isinstance(x, int | float) for x in box):
            return f"{name} has a bbox with NaN or infinity, or a number beyond {FARTHEST:.0f} pixels, {short(box)},"
        return f"{name} needs a bbox [x, y, width, height] of four numbers, not {short(box)},"
    area = annotation.get("area")
    if area is None:
        area = box[2] * box[3]
    if not is_area(area):
        return f"{name} has the area {short(area)}"
    for key in ("iscrowd", "ignore"):
        if flag(annotation.get(key)) is None:
            return f"{name} has {key} {short(annotation[key])} instead of 0 or 1"
    if segmentation is not None:
        problem = mask_problem(segmentation, [images[image_id]["height"], images[image_id]["width"]])
        if problem:
            return f"{name} {problem}"
    annotation.update(
        id=number, image_id=image_id, category_id=category, area=area, iscrowd=flag(annotation.get("iscrowd"))
    )
    return None


def _check_runs(coco: CocoFile, on_problem: Callable[[str], None]) -> None:
    """Leave out the annotations whose compressed RLEs are not their images'."""
    packed = [a for group in coco.annotations.values() for a in group if isinstance(a.get("segmentation"), dict)]
    packed = [a for a in packed if isinstance(a["segmentation"]["counts"], str)]
    for location in all_broken([a["segmentation"] for a in packed]):
        broken = packed[location]
        on_problem(
            f"Annotation {broken['id']!r} has an RLE whose counts do not add up to its image's pixels in {coco.path}: "
            "correct or remove it."
        )
        coco.annotations[broken["image_id"]].remove(broken)
