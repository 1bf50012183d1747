"""Which images are for training and which are held out: by the names of folders and lists, or by a seed; and whether
an image is in two splits."""

import filecmp
import json
import os
import random
import re
from collections.abc import Sequence
from itertools import combinations

from densevit.datasets.formats.file_tree import FileTree, read_label_text
from densevit.datasets.formats.folder_data import FolderData, Split
from densevit.errors import DataError
from densevit.plain_data import parse_json

SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""What folders and lists are called -> the split that they hold."""
SPLIT_FOLDER = re.compile(
    rf"(?:images?[-_ ]?)?({'|'.join(SPLIT_NAMES)})(?:[-_ ]?(?:\d+|images?|imgs?|set|data|labels?|masks?))?", re.I
)
ALL = "all"
"""Split of images that no folder and no list assigns to one."""
LISTS = (("train", "train"), ("val", "val"), ("test", "test"), ("trainval", "train"))
"""Lists of ImageSets and their splits; trainval counts where there is no train."""
COMPARED = 100
"""Files of one name and size that are compared byte by byte; where all are equal, so are the others."""
SPLIT_FILE = "densevit_split.json"
"""Where `write_split` puts a split beside the data."""


def split_of_folder(path: str) -> str:
    """The split that the first folder on the way to a file names that names one, or ALL."""
    found = filter(None, map(SPLIT_FOLDER.fullmatch, path.split("/")[:-1]))
    return next((SPLIT_NAMES[match[1].lower()] for match in found), ALL)


def split_of_name(name: str) -> str:
    """The split that a file's name speaks of, such as instances_val2017.json, or ALL."""
    return next((SPLIT_NAMES[word] for word in re.split("[^a-z]+", name.lower()) if word in SPLIT_NAMES), ALL)


def image_sets(tree: FileTree, kinds: Sequence[str]) -> dict[str, dict[str, str]]:
    """VOC's lists: the folder that holds ImageSets -> name of an image -> its split.

    Args:
        kinds: folders in ImageSets, in small letters: 'main', 'segmentation'.
    """
    found: dict[str, dict[str, str]] = {}
    for folder in tree.folders("imagesets", *kinds):
        if "imagesets" not in folder.lower().split("/")[-2:]:
            continue
        base = re.split(r"/?imagesets", folder, flags=re.I)[0]
        names = {name.lower(): name for name in tree.files[folder]}
        for name, split in LISTS:
            if f"{name}.txt" not in names or (name == "trainval" and "train.txt" in names):
                continue
            for line in read_label_text(tree.path(f"{folder}/{names[f'{name}.txt']}")).splitlines():
                line = re.sub(r"\s+-?[01]$", "", line.strip())  # a list of one class has 1 or -1 behind each name
                if line:
                    found.setdefault(base, {}).setdefault(line.replace("\\", "/"), split)
    return found


def complete_splits(data: FolderData, seed: int, val_fraction: float) -> None:
    """Bring the splits into the order train, val, test; where there is none for training or validation, make it."""
    given = {name: part for name, part in data.splits.items() if part.images}
    undecided = given.pop(ALL, None)
    if undecided and "train" in given:
        for image in undecided.images:
            data.leave_out("images in no split", image["file_name"])
    elif undecided:
        given["train"] = undecided
    if "train" in given and "val" not in given:
        stored = os.path.join(data.folder, SPLIT_FILE)
        if os.path.isfile(stored) and undecided:
            given.update(_stored_split(stored, given["train"], data))
        else:
            train, val = make_split(given["train"], seed, val_fraction)
            data.notes.append(
                f"no val split is given: {len(val.images)} of {len(given['train'].images)} images are val (seed {seed})"
            )
            given.update(train=train, val=val)
    data.splits = {name: given[name] for name in ("train", "val", "test") if name in given}


def make_split(part: Split, seed: int, val_fraction: float) -> tuple[Split, Split]:
    """(train, val) of the images of one split: the same ones for the same names, seed and fraction.

    Raises:
        DataError: there is one image alone, so that none is left for training.
    """
    images = sorted(part.images, key=lambda image: image["file_name"])
    if len(images) < 2:
        raise DataError(f"{images[0]['file_name']} is the only image: give two at least, to train and to validate.")
    count = min(max(1, round(val_fraction * len(images))), len(images) - 1)
    chosen = {image["id"] for image in random.Random(seed).sample(images, count)}
    return part.subset({image["id"] for image in images} - chosen), part.subset(chosen)


def write_split(data: FolderData) -> str:
    """Store which image is of which split beside the data, where the folder is read by it from then on; the path.

    Raises:
        DataError: it is there already.
    """
    path = os.path.join(data.folder, SPLIT_FILE)
    names = {
        split: [os.path.relpath(image["file_name"], data.folder).replace(os.sep, "/") for image in part.images]
        for split, part in data.splits.items()
    }
    try:
        with open(path, "x", encoding="utf-8") as file:
            json.dump(names, file, indent=1, ensure_ascii=False)
    except FileExistsError:
        raise DataError(f"{path} is there already: remove it to store another split.") from None
    return path


def _stored_split(path: str, part: Split, data: FolderData) -> dict[str, Split]:
    try:
        content = parse_json(read_label_text(path))
        names = {split: {os.path.join(data.folder, name) for name in content[split]} for split in content}
        unknown = set(names) - {"train", "val", "test"}
    except (ValueError, TypeError, KeyError):
        names, unknown = {}, {"?"}
    if unknown or "train" not in names or "val" not in names:
        raise DataError(f"{path} has no lists train and val of file names: remove it to have a split made.")
    data.notes.append(f"split of {SPLIT_FILE}")
    found = {
        split: part.subset({image["id"] for image in part.images if image["file_name"] in members})
        for split, members in names.items()
    }
    everywhere = set().union(*names.values())
    for image in part.images:
        if image["file_name"] not in everywhere:
            data.leave_out(f"images that {SPLIT_FILE} does not name", image["file_name"])
    return found


def warn_of_leaks(data: FolderData) -> None:
    """Note images that are in two splits: metrics on images that a model was trained on are too high."""
    names = {
        split: {os.path.basename(image["file_name"]): image["file_name"] for image in part.images}
        for split, part in data.splits.items()
    }
    for one, other in combinations(names, 2):
        pairs = {
            name: (names[one][name], names[other][name]) for name in sorted(names[one].keys() & names[other].keys())
        }
        same = [name for name, pair in pairs.items() if os.path.getsize(pair[0]) == os.path.getsize(pair[1])]
        if not all(filecmp.cmp(*pairs[name], shallow=False) for name in same[:COMPARED]):
            same = [name for name in same if filecmp.cmp(*pairs[name], shallow=False)]
        first = ", ".join((same or list(pairs))[:3])
        if same and len(same) == len(names[one]) == len(names[other]):
            data.notes.append(
                f"warning: {other} is identical to {one} ({len(same)} images): metrics on it are too high"
            )
        elif same:
            data.notes.append(
                f"warning: {len(same)} images are in {one} and in {other} ({first}): metrics on {other} are too high"
            )
        elif pairs:
            data.notes.append(
                f"warning: {len(pairs)} file names are in {one} and in {other} ({first}), with other contents"
            )
