"""Images and class maps in sibling folders, for semantic segmentation.

    images/a.jpg  masks/a.png            or images/train/, masks/train/; train/images/, train/masks/; ...
    JPEGImages/  SegmentationClass/  ImageSets/Segmentation/train.txt, val.txt        VOC, CVAT
    classes.txt, labelmap.txt or classes.json                                         names, and colors of the maps

Maps are PNG files of numbers, with a palette or not, or in the colors of the class file; 255 is no class.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from densevit.datasets.class_names import IGNORED, VOC
from densevit.datasets.formats.file_tree import FileTree, find_class_file
from densevit.datasets.formats.folder_data import SEMANTIC, FolderData
from densevit.datasets.formats.map_pairs import find_pairs, read_pairs
from densevit.datasets.io.image import BrokenImage
from densevit.datasets.io.label_map import read_values
from densevit.datasets.semantic_classes import semantic_classes
from densevit.errors import ConfigError

TASK = SEMANTIC
MAP_FOLDERS = (
    "masks?|labels?|annotations?|annot|ann_dir|semantic|seg|segmentations?|segmentationclass(png)?|gt|gtfine|"
    "ground_?truth"
)
"""What folders of maps are called, as a regular expression."""
MAPS_READ = 500
"""Maps whose values are looked at, spread over all."""


def recognize(tree: FileTree) -> str | None:
    """The evidence that a folder is in this format, or None."""
    pairs = find_pairs(tree, MAP_FOLDERS, [".png"])
    return f"images in {pairs[0][0]}/, class maps in {pairs[0][1]}/" if pairs else None


def read(tree: FileTree) -> FolderData:
    """The images of a folder, their class maps, and what the values of the maps mean."""
    pairs = find_pairs(tree, MAP_FOLDERS, [".png"])
    data = FolderData(tree.root, "semantic", SEMANTIC, recognize(tree) or "")
    read_pairs(data, tree, pairs, ["segmentation"])
    if pairs:
        data.settings["seg_suffix"] = pairs[0][2]
        if any(ending != pairs[0][2] for *_, ending in pairs):
            data.problems.append(f"The class maps in {tree.root} end in different ways: give them one ending")
    maps = [image["map"] for part in data.splits.values() for image in part.images]
    try:
        values, colors = _values(maps)
        data.settings.update(_class_settings(tree, data, values, colors))
        names = semantic_classes(**{key: data.settings[key] for key in data.settings if key != "seg_suffix"}).names
        data.categories = [dict(id=index, name=name) for index, name in enumerate(names)]
    except (BrokenImage, ConfigError) as error:
        data.problems.append(str(error).rstrip("."))
    return data


def _values(maps: list[str]) -> tuple[set[int], bool]:
    """The values that the maps hold, and whether some are in colors."""

    def read_one(path: str) -> tuple[set[int], bool]:
        values = read_values(path)
        if values.ndim == 3 and (values != values[..., :1]).any():
            return set(), True
        return set(np.unique(values).tolist()), False

    with ThreadPoolExecutor() as pool:
        found = list(pool.map(read_one, maps[:: max(1, len(maps) // MAPS_READ)]))
    return set().union(*(values for values, _ in found)), any(colored for _, colored in found)


def _class_settings(tree: FileTree, data: FolderData, values: set[int], colors: bool) -> dict:
    """Arguments of SemanticDataset that say what the values mean."""
    file = find_class_file(tree)
    highest = max(values - {IGNORED}, default=0)
    if any(name.lower().startswith("objectinfo150.") for name in tree.files[""]):
        return dict(classes="ade20k")
    if file:
        path = tree.path(file)
        data.notes.append(f"classes of {file}")
        known = semantic_classes(path)
        if not colors and known.own == frozenset() and highest == len(known.names):
            data.notes.append(f"value 0 has no class, as the maps go up to {highest}, the number of classes")
            return dict(classes=path, reduce_zero_label=True)
        return dict(classes=path)
    if colors:
        raise ConfigError(
            f"The class maps of {tree.root} are in colors: add a classes.txt with lines such as 'road 128 64 128'."
        )
    if "SegmentationClass" in data.evidence and highest == len(VOC.split(", ")) - 1:
        return dict(classes="voc")
    if values == {0, IGNORED}:
        data.notes.append("maps of 0 and 255 alone: 255 is the class 'foreground'")
        return dict(classes=["background", "foreground"], label_map={IGNORED: 1})
    data.notes.append("no file names the classes, so they are called by their numbers")
    return dict(classes=[f"class {value}" for value in range(highest + 1)])
