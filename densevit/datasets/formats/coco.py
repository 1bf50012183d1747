"""COCO format: one JSON file of instances for a split.

annotations/instances_train2017.json  train2017/  val2017/       COCO's own tree
train/_annotations.coco.json  train/a.jpg  valid/  test/         Roboflow
annotations/instances_default.json  images/                      CVAT
result.json  images/                                             Label Studio
any.json  a.jpg                                                  or so
"""

import codecs
import mmap
import os
import re
from collections.abc import Iterator, Sequence

from densevit.datasets.formats.file_tree import FileTree
from densevit.datasets.formats.folder_data import OBJECTS, FolderData, Split
from densevit.datasets.formats.splits import ALL, split_of_folder, split_of_name
from densevit.errors import DataError
from densevit.ops.coco_file import CocoAnnotation, CocoFile, read_coco

TASK = OBJECTS
ROBOFLOW = "_annotations.coco.json"
KEYS = (b"images", b"annotations", b"categories")
MANY = 50
"""JSON files in one folder: there each belongs to one image."""


def recognize(tree: FileTree) -> str | None:
    """The evidence that a folder is in this format, or None."""
    files = _annotation_files(tree)
    return ", ".join(files[:3]) + (", ..." if len(files) > 3 else "") if files else None


def read(tree: FileTree) -> FolderData:
    """The images of a folder and their objects."""
    files = _annotation_files(tree)
    data = FolderData(tree.root, "coco", evidence=", ".join(files))
    by_split: dict[str, str] = {}
    for path in files:
        split = split_of_folder(path)
        split = split_of_name(os.path.basename(path)) if split == ALL else split
        if split in by_split:
            what = "without a split in their names" if split == ALL else f"of the split {split!r}"
            raise DataError(
                f"{tree.root} has two annotation files {what}, {by_split[split]} and {path}: take one of them away."
            )
        by_split[split] = path
    content = {
        split: read_coco(tree.path(path), lambda sentence: data.problems.append(sentence.rstrip(".")))
        for split, path in by_split.items()
    }
    _merge_categories(data, content, roboflow=any(path.endswith(ROBOFLOW) for path in files))
    used: set[str] = set()
    for split, coco in content.items():
        data.splits[split] = _read_split(tree, data, by_split[split], split, coco, used)
    folders = {part.image_dir for part in data.splits.values()}
    for image in tree.below():
        if image not in used and os.path.dirname(tree.path(image)) in folders:
            data.leave_out("images that no annotation file names", image)
    return data


def _annotation_files(tree: FileTree) -> list[str]:
    """The JSON files in COCO's instances format."""
    found = []
    for folder, names in tree.files.items():
        names = [name for name in names if name.lower().endswith(".json")]
        if folder.count("/") > 2 or len(names) > MANY:
            continue
        known = [name for name in names if name.startswith("instances_") or name == ROBOFLOW]
        paths = [f"{folder}/{name}" if folder else name for name in known or names]
        found += [path for path in paths if _has_instances(tree.path(path))]
    return found


def _has_instances(path: str) -> bool:
    """Whether a JSON file has COCO's lists; of 437 MB this takes about a second."""
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            wide = content[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
            text = content[:].decode("utf-16", "replace").encode() if wide else content
            lists = all(re.search(rb'"%s"\s*:\s*\[' % key, text) for key in KEYS)
            return lists and text.find(b'"segments_info"') < 0  # which panoptic files have
    except (OSError, ValueError):  # an empty file cannot be mapped
        return False


def _merge_categories(data: FolderData, content: dict[str, CocoFile], roboflow: bool) -> None:
    """One list of categories for all splits, by name; the ids are those of train, where there is one."""
    order = sorted(content, key=lambda split: ("train", ALL, "val", "test").index(split))
    names: dict[str, int] = {}
    for split in order:
        coco = content[split]
        if len(set(coco.names.values())) < len(coco.names):
            twice = [name for name in coco.names.values() if list(coco.names.values()).count(name) > 1]
            data.problems.append(f"{coco.source} has two categories called {twice[0]!r}")
        for number, name in coco.names.items():
            free = number if number not in names.values() else max(names.values()) + 1
            names.setdefault(name, free)
    if roboflow and len(names) > 1:
        first = next(iter(names))
        used = {coco.names[a.category_id] for coco in content.values() for a in coco.annotations}
        if names[first] == 0 and first not in used:
            del names[first]
            data.notes.append(f"{first!r}, Roboflow's name of the group, is no class")
    data.categories = [dict(id=number, name=name) for name, number in names.items()]


def _read_split(tree: FileTree, data: FolderData, file: str, split: str, coco: CocoFile, used: set[str]) -> Split:
    """The images of one annotation file that are there, and their annotations."""
    folder = _image_folder(tree, file, split, [image.file_name for image in coco.images.values()])
    part = Split(image_dir=tree.path(folder), ann_file=coco.source)
    ids = {category["name"]: category["id"] for category in data.categories}
    numbers = {number: ids.get(name) for number, name in coco.names.items()}
    # an annotation of id 0 counts as none when COCO's code matches
    renumber = any(a.id == 0 for a in coco.annotations)
    if renumber or any(number != new for number, new in numbers.items() if new is not None):
        part.ann_file = ""
    for image in coco.images.values():
        name = image.file_name.replace("\\", "/")
        path = tree.find(_join(folder, name)) or tree.find(_join(folder, os.path.basename(name)))
        path = path or tree.image_anywhere(os.path.basename(name))
        if path is None:
            data.leave_out("labels without an image", f"{image.file_name} of {file}")
            part.ann_file = ""
            continue
        used.add(path)
        if path != _join(folder, name):
            part.ann_file = ""
        part.images.append(image._replace(file_name=tree.path(path))._asdict())
    there = {image["id"] for image in part.images}
    records = [record for record in coco.annotations if record.image_id in there]
    part.annotations = Annotations(records, numbers, renumber)
    return part


class Annotations(Sequence):
    """COCO's `annotations` of a split, of which each is made a dict when it is asked for: those of COCO take gigabytes.

    Args:
        records: as they were read.
        category_ids: id in the file -> id in FolderData.categories.
        renumber: number the annotations from 1.
    """

    def __init__(self, records: list[CocoAnnotation], category_ids: dict[int, int], renumber: bool) -> None:
        self._records, self._category_ids, self._renumber = records, category_ids, renumber

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> dict:
        index = range(len(self))[index]
        entry = self._records[index].to_dict()
        entry["category_id"] = self._category_ids[entry["category_id"]]
        return entry | {"id": index + 1} if self._renumber else entry


def _image_folder(tree: FileTree, file: str, split: str, names: list[str]) -> str:
    """The folder below which most of the images are found, by their paths or else by their names alone."""
    sample = names[:: max(1, len(names) // 50)]
    folders = list(dict.fromkeys(_likely_folders(tree, file, split)))
    for short in (False, True):
        best, most = "", 0
        for folder in folders:
            paths = (os.path.basename(n.replace("\\", "/")) if short else n for n in sample)
            count = sum(tree.find(_join(folder, path)) is not None for path in paths)
            if count > most:
                best, most = folder, count
        if most:
            return best
    return os.path.dirname(file)


def _likely_folders(tree: FileTree, file: str, split: str) -> Iterator[str]:
    here = os.path.dirname(file)
    above = os.path.dirname(here)
    named = [folder for folder in tree.files if split_of_folder(f"{folder}/a") == split != ALL]
    yield from named
    for folder in (here, above, ""):
        yield folder
        yield _join(folder, "images")
    yield from (folder for folder in tree.files if folder not in named)


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name
