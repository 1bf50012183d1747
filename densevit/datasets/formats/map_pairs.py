"""Images and the maps that belong to them, in sibling folders: images/a.jpg and masks/a.png."""

import os
import re
from collections import Counter
from collections.abc import Sequence

from densevit.datasets.formats.file_tree import FileTree
from densevit.datasets.formats.folder_data import FolderData, Split
from densevit.datasets.formats.splits import ALL, SPLIT_NAMES, image_sets, split_of_folder
from densevit.datasets.paired_dataset import IMAGES

IMAGE_FOLDERS = "images?|imgs?|img_dir|jpegimages|rgb|color|leftimg8bit|photos|pictures|inputs?"
"""What folders of images are called, as a regular expression."""
SAMPLE = 50
"""Images by which the ending of the maps' names is found."""


def find_pairs(tree: FileTree, names: str, suffixes: Sequence[str]) -> list[tuple[str, str, str]]:
    """(folder of images, folder of maps, ending of the maps' names) of sibling folders that belong together.

    Args:
        names: what folders of maps are called, as a regular expression.
        suffixes: what maps end in.
    """
    splits = "|".join(SPLIT_NAMES)
    map_name = re.compile(rf"(?:({splits})[-_]?)?(?:{names})", re.I)
    image_name = re.compile(rf"(?:({splits})[-_]?)?(?:{IMAGE_FOLDERS})|({splits})", re.I)
    pairs = []
    for maps in tree.files:
        parent, _, name = maps.rpartition("/")
        as_maps = map_name.fullmatch(name)
        for images in tree.files if as_maps else ():
            as_images = image_name.fullmatch(images.rpartition("/")[2])
            if os.path.dirname(images) != parent or not as_images or (as_images[1] or as_images[2]) != as_maps[1]:
                continue
            ending = _ending(tree, images, maps, suffixes)
            if ending is not None:
                pairs.append((images, maps, ending))
    return pairs


def _ending(tree: FileTree, images: str, maps: str, suffixes: Sequence[str]) -> str | None:
    """What follows an image's name in its map's name: '.png', '_mask.png'; None where no map belongs to an image."""
    found: Counter = Counter()
    matched = 0
    there = sorted(path[len(maps) + 1 :] for path in tree.below(maps, suffixes))
    for image in sorted(tree.below(images, IMAGES)):
        stem = os.path.splitext(image[len(images) + 1 :])[0]
        endings = [name[len(stem) :] for name in there if name.startswith(stem)]
        found.update(endings)
        matched += bool(endings)
        if matched >= SAMPLE:
            break
    # '.png' before '0.png', which 'a' finds in 'a0.png'
    return min(found, key=lambda ending: (-found[ending], len(ending))) if found else None


def read_pairs(data: FolderData, tree: FileTree, pairs: list[tuple[str, str, str]], lists: Sequence[str] = ()) -> None:
    """Put the images that have a map into the splits of `data`.

    Args:
        lists: folders of ImageSets whose lists say which image is of which split.
    """
    members = image_sets(tree, lists)
    listed = {name: split for names in members.values() for name, split in names.items()}
    for images, maps, ending in pairs:
        there, used = set(tree.below(maps, [ending.lower()])), set()
        for image in tree.below(images, IMAGES):
            stem = os.path.splitext(image[len(images) + 1 :])[0]
            path = f"{maps}/{stem}{ending}"
            if path not in there:
                data.leave_out("images without a map", image)
                continue
            used.add(path)
            split = listed.get(stem) if listed else split_of_folder(image)
            if split is None:
                data.leave_out("images that no list of ImageSets names", image)
                continue
            part = data.splits.setdefault(split, Split(image_dir=tree.path(images), map_dir=tree.path(maps)))
            if part.image_dir != tree.path(images) or part.map_dir != tree.path(maps):
                where = "" if split == ALL else f" of the split {split!r}"
                data.problems.append(f"{tree.root} has images{where} in two folders, {part.image_dir} and {images}")
                break
            entry = dict(id=len(part.images) + 1, file_name=tree.path(image), map=tree.path(path))
            part.images.append(entry)
        for path in sorted(there - used):
            data.leave_out("maps without an image", path)
    for part in data.splits.values():
        inside = sum(True for _ in tree.below(os.path.relpath(part.image_dir, tree.root), IMAGES))
        part.whole = inside == len(part.images)
