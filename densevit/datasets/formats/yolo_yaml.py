"""YOLO's data.yaml: the classes' names, and where the images of each split are, whatever computer wrote it."""

import os
import re

import yaml

from densevit.datasets.formats.file_tree import IMAGE_SUFFIXES, FileTree, find_class_file, read_label_text
from densevit.datasets.formats.folder_data import FolderData
from densevit.datasets.formats.splits import split_of_folder, split_of_name
from densevit.errors import DataError
from densevit.ops.coco_format import short
from densevit.plain_data import parse_yaml, read_text


def description_file(tree: FileTree) -> str | None:
    """The YAML file in the folder that names classes and splits."""
    for name in tree.files.get("", ()):
        if name.lower().endswith((".yaml", ".yml")):
            text = read_label_text(tree.path(name))
            if re.search(r"^(train|val|test)\s*:", text, re.M) and re.search(r"^(names|nc)\s*:", text, re.M):
                return name
    return None


def parse_description(path: str) -> dict:
    try:
        content = parse_yaml(read_text(path), yaml.BaseLoader)  # every value a text: `no` is a name, not False
    except ValueError as error:
        raise DataError(f"{path} is no YAML that can be read ({error}): correct it.") from None
    if not isinstance(content, dict):
        raise DataError(f"{path} holds no keys such as names, train and val: correct it.")
    return content


def class_names(tree: FileTree, content: dict, description: str | None) -> tuple[dict[int, str] | None, str]:
    """Class index -> name, and the file that has them; None where there is none."""
    source = description and tree.path(description)
    names = content.get("names")
    if not names:
        file = find_class_file(tree)
        if file is None:
            return None, ""
        source = tree.path(file)
        names = [line.strip() for line in read_label_text(source).splitlines() if line.strip()]
    pairs = names.items() if isinstance(names, dict) else enumerate(names) if isinstance(names, list) else ()
    pairs = list(pairs)
    if not pairs or not all(str(key).isdecimal() and isinstance(name, str) for key, name in pairs):
        raise DataError(f"'names' of {source} is {short(names)}: give a list of names, or numbers and names.")
    count = content.get("nc")
    if content.get("names") and count is not None and str(count) != str(len(pairs)):
        raise DataError(f"{source} has nc: {count}, but {len(pairs)} names: correct one of them.")
    return {int(key): name.strip() for key, name in pairs}, source


def images_by_split(tree: FileTree, content: dict, description: str | None, data: FolderData) -> dict[str, list[str]]:
    """Absolute paths of the images of each split."""
    entries = {split: content.get(split) for split in ("train", "val", "test") if content.get(split)}
    if not description:
        lists = [name for name in tree.files.get("", ()) if re.fullmatch(r"(train|val|valid|test)\.txt", name, re.I)]
        entries = {split_of_name(name): name for name in lists}
    found: dict[str, list[str]] = {}
    if entries:
        for split, locations in entries.items():
            for location in locations if isinstance(locations, list) else [locations]:
                try:
                    images = _images_of(tree, str(content.get("path") or ""), str(location), data)
                except DataError:
                    if split == "test":  # often named and not downloaded
                        data.leave_out("splits whose images are not there", f"test ({location})")
                        continue
                    raise
                found.setdefault(split, []).extend(images)
        return {split: list(dict.fromkeys(paths)) for split, paths in found.items()}
    folders = [folder for folder in tree.folders("images") if any(True for _ in tree.below(folder))]
    for path in tree.below():
        if not folders or any(path.startswith(f"{folder}/") for folder in folders):
            found.setdefault(split_of_folder(path), []).append(tree.path(path))
    return found


def _images_of(tree: FileTree, root: str, location: str, data: FolderData) -> list[str]:
    """The images that an entry of data.yaml means: a folder, or a text file that lists them."""
    location, root = (text.replace("\\", "/").rstrip("/") for text in (location, root))
    path = _locate(tree, [os.path.join(tree.root, root), tree.root], f"{root}/{location}", location)
    if path is None:
        raise DataError(
            f"data.yaml of {tree.root} names {location!r}, but there is no {os.path.join(tree.root, root, location)}: "
            "correct the path, or copy the images there."
        )
    inside = _is_inside(tree, path)
    if not inside:
        data.notes.append(f"{path} lies outside the folder")
    if os.path.isdir(path):
        found = tree if inside else FileTree(path)
        return [found.path(image) for image in found.below(path[len(found.root) + 1 :])]
    images = []
    for line in filter(None, map(str.strip, read_text(path).splitlines())):
        name = line.replace("\\", "/")
        image = _locate(tree, [os.path.dirname(path), tree.root], name, name)
        if image is None or not image.lower().endswith(IMAGE_SUFFIXES):
            data.leave_out(f"lines of {os.path.basename(path)} without an image", line)
        else:
            images.append(image)
    return images


def _locate(tree: FileTree, bases: list[str], whole: str, location: str) -> str | None:
    """What a path means: `location` in one of the folders `bases`, or the last parts of `whole` below the folder, where
    Roboflow writes '../train/images', and others a path of their own computer. What lies in the folder comes first."""
    parts = [part for part in whole.split("/") if part not in ("", ".", "..")]
    locations = [os.path.join(base, location) for base in bases]
    locations += [os.path.join(tree.root, *parts[i:]) for i in range(len(parts))]
    there = [os.path.normpath(path) for path in locations if os.path.exists(path)]
    return next((path for path in there if _is_inside(tree, path)), there[0] if there else None)


def _is_inside(tree: FileTree, path: str) -> bool:
    return path == tree.root or path.startswith(f"{tree.root}/")
