"""PASCAL VOC format: an XML file for each image.

    Annotations/a.xml    JPEGImages/a.jpg    ImageSets/Main/train.txt, val.txt, trainval.txt, test.txt
    train/a.jpg  train/a.xml                 or so

VOC counts pixels from 1, and a box holds its last pixel: xmin=1, xmax=10 are the pixels 0 to 9, x=0 and a width of 10.
A set with a coordinate below 1, or with fractions, was written by a program that counts from 0, and its corners are
taken as they are. What is `difficult` becomes an ignore region (`iscrowd`), as VOC does not score it.
"""

import codecs
import math
import os
import re
from xml.etree import ElementTree
from xml.parsers import expat

from densevit.datasets.class_names import VOC as VOC_SEMANTIC
from densevit.datasets.formats.file_tree import FileTree, image_sizes, order_classes, read_label_bytes
from densevit.datasets.formats.folder_data import OBJECTS, FolderData
from densevit.datasets.formats.splits import ALL, image_sets, split_of_folder
from densevit.errors import DataError

TASK = OBJECTS
CLASSES = VOC_SEMANTIC.split(", ")[1:]
IMAGE_FOLDERS = ("JPEGImages", "images")


def recognize(tree: FileTree) -> str | None:
    """The evidence that a folder is in this format, or None."""
    for path, _ in zip(tree.below(suffixes=[".xml"]), range(5), strict=False):
        with open(tree.path(path), "rb") as file:
            if re.search(rb"<annotation[\s>]", file.read(4096).replace(b"\0", b"")):
                return path
    return None


def read(tree: FileTree) -> FolderData:
    """The images of a folder and their boxes."""
    data = FolderData(tree.root, "voc", evidence="an XML file for each image")
    members = image_sets(tree, ["main"])
    entries, used = [], set()
    for path in tree.below(suffixes=[".xml"]):
        try:
            root = parse_xml(tree.path(path))
        except DataError as error:
            data.problems.append(str(error).rstrip("."))
            continue
        if root.tag != "annotation":
            data.leave_out("XML files that are no annotation", path)
            continue
        image = _image_of(tree, path, (root.findtext("filename") or "").strip())
        if image is None:
            data.leave_out("labels without an image", path)
            continue
        used.add(image)
        entries.append((path, root, image))
    boxes = [_boxes(path, root, data) for path, root, _ in entries]
    sizes = image_sizes([tree.path(image) for *_, image in entries])
    corners = [value for found in boxes for *_, box in found for value in box]
    from_one = all(value == int(value) for value in corners) and min(corners, default=1) >= 1
    data.notes.append(
        "coordinates count from 1 and include the last pixel, VOC's rule"
        if from_one
        else "coordinates count from 0: some lie below 1 or have fractions"
    )
    names = {name for found in boxes for _, name, *_ in found}
    ordered = [n for n in CLASSES if n in names] if names <= set(CLASSES) else order_classes(tree, names)
    order = {name: number for number, name in enumerate(ordered, 1)}
    data.categories = [dict(id=number, name=name) for name, number in order.items()]
    for (path, root, image), found, size in zip(entries, boxes, sizes, strict=True):
        split = _split(path, image, members)
        if split is None:
            data.leave_out("labels that no list of ImageSets names", path)
            continue
        size = data.agreed_size(tree.path(image), size, _stated_size(root))
        if size is None:
            continue
        entry = data.add_image(split, tree.path(image), size)
        for where, name, difficult, (x1, y1, x2, y2) in found:
            box = [x1 - from_one, y1 - from_one, x2 - x1 + from_one, y2 - y1 + from_one]
            data.add_object(split, entry, order[name], where, box, iscrowd=difficult)
    for image in tree.below():
        near = "SegmentationClass" in image or "SegmentationObject" in image
        if image not in used and not near:
            data.leave_out("images without labels", image)
    for part in data.splits.values():
        part.whole = False
    return data


def parse_xml(path: str) -> ElementTree.Element:
    """The root of an XML file. Declared entities, by which a small file grows to gigabytes or names other files, are
    refused.

    Raises:
        DataError: it cannot be read; the sentence says why.
    """
    content = read_label_bytes(path)
    if not content.strip():
        raise DataError(f"{path} is empty: write its annotation again, or remove it.")
    declared = re.match(rb"""<\?xml[^>]*encoding=["']([\w.-]+)["']""", content.removeprefix(codecs.BOM_UTF8).lstrip())
    encoding = declared[1].decode() if declared else "utf-8-sig"
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    try:  # expat itself knows few encodings
        text = content.decode("utf-8-sig" if encoding.lower() in ("utf-8", "utf8") else encoding)
    except (LookupError, UnicodeError):
        raise DataError(f"{path} is not in {encoding}, its encoding: state the right one in its first line.") from None
    builder, parser = ElementTree.TreeBuilder(), expat.ParserCreate("utf-8")

    def refuse(*_: object) -> None:
        raise DataError(f"{path} declares entities, which no annotation needs: remove its DOCTYPE.")

    parser.EntityDeclHandler = refuse
    parser.StartElementHandler, parser.EndElementHandler = builder.start, builder.end
    parser.CharacterDataHandler = builder.data
    try:
        parser.Parse(text.encode("utf-8", "surrogatepass"), True)
        return builder.close()
    except expat.ExpatError as error:
        raise DataError(f"{path} is no whole XML file ({error}): correct it.") from None


def _image_of(tree: FileTree, path: str, filename: str) -> str | None:
    """The image of an annotation: of the name of its file, or else of the name that it states."""
    folder, _, file = path.rpartition("/")
    above = folder.rpartition("/")[0]
    below = re.sub(r"(^|/)annotations(/|$)", r"\1{}\2", folder, flags=re.I)
    locations = [folder, *(below.format(name) for name in IMAGE_FOLDERS if "{}" in below)]
    locations += [f"{above}/{name}".lstrip("/") for name in IMAGE_FOLDERS] + [above]
    filename = filename.replace("\\", "/").rpartition("/")[2]
    for name in filter(None, (file[:-4], filename)):
        for location in locations:
            found = tree.image_named(f"{location}/{name}".lstrip("/"))
            if found:
                return found
    return tree.image_anywhere(filename)


def _split(path: str, image: str, members: dict[str, dict[str, str]]) -> str | None:
    """The split of an image, or None where there are lists and none has it."""
    for base, names in members.items():
        if not base or path.startswith(f"{base}/"):
            stem = os.path.splitext(os.path.basename(image))[0]
            return names.get(stem) or names.get(os.path.basename(image))
    return split_of_folder(image) if split_of_folder(image) != ALL else split_of_folder(path)


def _stated_size(root: ElementTree.Element) -> tuple[int, int] | None:
    """(width, height) that an annotation states; some programs write 0."""
    try:
        width, height = (int(float(root.findtext(f"size/{side}") or 0)) for side in ("width", "height"))
    except (ValueError, OverflowError):
        return None
    return (width, height) if width > 0 and height > 0 else None


def _boxes(path: str, root: ElementTree.Element, data: FolderData) -> list[tuple[str, str, int, list[float]]]:
    """(where, class, difficult, [xmin, ymin, xmax, ymax]) of each object."""
    found = []
    for number, item in enumerate(root.findall("object"), 1):
        where, name = f"{os.path.join(data.folder, path)} object {number}", (item.findtext("name") or "").strip()
        box = item.find("bndbox")
        if box is None or not name:
            data.leave_out("objects without a name or an upright box", where)
            continue
        try:
            corners = [float(box.findtext(key) or "") for key in ("xmin", "ymin", "xmax", "ymax")]
        except ValueError:
            corners = [math.nan]
        if not all(map(math.isfinite, corners)):
            data.problems.append(f"{where} has a bndbox without the four numbers xmin, ymin, xmax, ymax")
            continue
        x1, y1, x2, y2 = corners
        if x1 > x2 or y1 > y2:
            data.remark("boxes with xmin > xmax or ymin > ymax, used with their corners in order", where)
            corners = [min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)]
        found.append((where, name, int((item.findtext("difficult") or "0").strip() == "1"), corners))
    return found
