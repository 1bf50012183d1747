"""`read_folder`: from a folder of any known format to its images and labels."""

import os
from collections import Counter
from types import ModuleType

from densevit.datasets.formats import coco, depth_maps, labelme, semantic_maps, voc, yolo
from densevit.datasets.formats.file_tree import FileTree
from densevit.datasets.formats.folder_data import OBJECTS, FolderData
from densevit.datasets.formats.splits import ALL, complete_splits, split_of_folder, warn_of_leaks
from densevit.errors import ConfigError, DataError, suggest

FORMATS: dict[str, ModuleType] = {
    "coco": coco,
    "yolo": yolo,
    "voc": voc,
    "labelme": labelme,
    "semantic": semantic_maps,
    "depth": depth_maps,
}
"""Formats by the name that `--format` has."""


def recognize_folder(tree: FileTree, task: str | None = None) -> dict[str, str]:
    """The formats that a folder may be in and the evidence of each.

    Args:
        task: OBJECTS, SEMANTIC or DEPTH: only formats of such labels.
    """
    modules = {name: module for name, module in FORMATS.items() if task in (None, module.TASK)}
    found = {name: module.recognize(tree) for name, module in modules.items()}
    return {name: evidence for name, evidence in found.items() if evidence is not None}


def read_folder(
    folder: str | os.PathLike,
    format: str | None = None,
    task: str | None = None,
    seed: int = 0,
    val_fraction: float = 0.2,
    strict: bool = True,
) -> FolderData:
    """Read the images and labels of a folder, whatever format they are in.

    Args:
        folder: the folder, or a YOLO data.yaml in it.
        format: a name of FORMATS; None looks which one it is.
        task: what the labels are for (OBJECTS, SEMANTIC, DEPTH), where that is known.
        seed, val_fraction: decide which images are held out, where the folder has no val split.
        strict: refuse a folder whose labels have mistakes; False leaves them in `problems`.

    Raises:
        DataError: no such folder, no known format or several, or labels with mistakes.
        ConfigError: an unknown `format`, or one of another task.
    """
    path = os.path.abspath(os.path.expanduser(folder))
    if os.path.isfile(path) and path.lower().endswith((".yaml", ".yml")):
        path, format = os.path.dirname(path), format or "yolo"
    tree = _top_folder(FileTree(path))
    name = format or _only_format(tree, task)
    if name not in FORMATS:
        raise ConfigError(f"There is no format {name!r}{suggest(name, FORMATS)}: give one of {', '.join(FORMATS)}.")
    if task not in (None, FORMATS[name].TASK):
        raise ConfigError(f"The format {name!r} has labels for {FORMATS[name].TASK}, and {task} needs others.")
    data = FORMATS[name].read(tree)
    _check(data, tree)
    if data.problems and strict:
        raise _refusal(data)
    complete_splits(data, seed, val_fraction)
    warn_of_leaks(data)
    return data


def _top_folder(tree: FileTree) -> FileTree:
    """The folder that an archive was unpacked to: the one within, where it is alone and says nothing by its name."""
    inner = [folder for folder in tree.files if folder and "/" not in folder]
    if tree.files[""] or len(inner) != 1 or split_of_folder(f"{inner[0]}/a") != ALL:
        return tree
    if not any(folder.count("/") == 1 for folder in tree.files):  # a folder of images alone
        return tree
    return _top_folder(FileTree(tree.path(inner[0])))


def _only_format(tree: FileTree, task: str | None) -> str:
    found = recognize_folder(tree, task)
    if len(found) == 1:
        return next(iter(found))
    if found:
        ways = " or ".join(f"--format {name} ({evidence})" for name, evidence in found.items())
        raise DataError(f"{tree.root} can be read in {len(found)} ways: choose {ways}.")
    images = sum(True for _ in tree.below())
    wanted = "" if task is None else f" with labels for {task}"
    others = recognize_folder(tree) if task else {}
    there = (
        f"the labels there are {', '.join(others)}"
        if others
        else f"there are {images} images, and no labels that are known"
    )
    raise DataError(
        f"{tree.root} is in no known format{wanted} ({there}): lay it out as docs/data_formats.md shows for "
        f"{', '.join(name for name, module in FORMATS.items() if task in (None, module.TASK))}."
    )


def _check(data: FolderData, tree: FileTree) -> None:
    """DataError for a folder without images, a problem for one without objects or with a class of two numbers."""
    if not any(part.images for part in data.splits.values()):
        if data.problems:
            raise _refusal(data)
        kinds = "; ".join(f"{len(names)} {kind}, such as {names[0]}" for kind, names in data.left_out.items())
        raise DataError(f"{tree.root} has no image with labels ({kinds or data.format}): complete it.")
    twice = [name for name, count in Counter(data.classes).items() if count > 1]
    if twice:
        data.problems.append(f"Several classes of {tree.root} are called {twice[0]!r}")
    if data.task == OBJECTS and not any(part.annotations for part in data.splits.values()) and not data.problems:
        data.problems.append(f"No image in {tree.root} has an object")


def _refusal(data: FolderData) -> DataError:
    """The error of a folder whose labels have mistakes; most say themselves what to do."""
    first, count = data.problems[0], len(data.problems)
    advice = "" if ": " in first else ": correct the labels and read the folder again"
    return DataError(f"{first}{advice}{f' (the first of {count} mistakes)' if count > 1 else ''}.")
