"""Images and depth maps in sibling folders.

    images/a.jpg  depth/a.png            or images/train/, depth/train/; train/images/, train/depth/; ...

Maps are PNG files of 16 bits, whose unit the recipe or `depth_scale` states, or NPY or EXR files in meters.
"""

from densevit.datasets.formats.file_tree import FileTree
from densevit.datasets.formats.folder_data import DEPTH, FolderData
from densevit.datasets.formats.map_pairs import find_pairs, read_pairs

TASK = DEPTH
MAP_FOLDERS = "depths?|depth_?maps?|gt_depth|depth_gt"
"""What folders of maps are called, as a regular expression."""
MAP_SUFFIXES = (".png", ".npy", ".exr")


def recognize(tree: FileTree) -> str | None:
    """The evidence that a folder is in this format, or None."""
    pairs = find_pairs(tree, MAP_FOLDERS, MAP_SUFFIXES)
    return f"images in {pairs[0][0]}/, depth maps in {pairs[0][1]}/" if pairs else None


def read(tree: FileTree) -> FolderData:
    """The images of a folder and their depth maps."""
    pairs = find_pairs(tree, MAP_FOLDERS, MAP_SUFFIXES)
    data = FolderData(tree.root, "depth", DEPTH, recognize(tree) or "")
    read_pairs(data, tree, pairs)
    if pairs:
        data.settings["depth_suffix"] = pairs[0][2]
        if any(ending != pairs[0][2] for *_, ending in pairs):
            data.problems.append(f"The depth maps in {tree.root} end in different ways: give them one ending")
    return data
