"""What datasets of images and maps beside them share: finding the pairs by name or in a list, and naming what is
missing."""

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mmengine.logging import print_log

from densevit.datasets.image_dataset import (
    DOWNLOAD_HINTS,
    ImageDataset,
    left_out_sentence,
    missing_or_empty,
    require_folder,
)
from densevit.datasets.io.image import image_endings
from densevit.errors import ConfigError, DataError
from densevit.plain_data import read_lines

IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


class PairedDataset(ImageDataset):
    """A folder of images and one of maps, which a test set may come without.

    A subclass sets `map_key` and `map_name`, and before this constructor `reader`, `img_suffix` and `map_suffix`; it
    defines `require_readable`, and may override `find_items`.

    Args:
        data_prefix: dict(img=folder of the images, <map_key>=folder of the maps).
        options: of ImageDataset.

    Raises:
        ConfigError: another key in data_prefix, or a folder that is needed is not given.
    """

    map_key: str
    """Of the maps' folder in `data_prefix`, of their paths (`<key>_path`), and of the option `<key>_suffix`."""
    map_name: str
    """What messages call a map."""
    reader: tuple[str, Callable]
    """Key of an entry under which stands what reads its map, and that."""
    img_suffix: str | tuple[str, ...]
    map_suffix: str
    checked_before_training = 2_000

    def __init__(self, data_prefix: Mapping[str, str] | None = None, **options: Any) -> None:
        name, key = type(self).__name__, self.map_key
        folders = {part: folder for part, folder in (data_prefix or {}).items() if folder is not None}
        for part in folders:
            if part not in ("img", key):
                raise ConfigError(f"data_prefix of {name} has the keys img and {key}, not {part!r}.")
        if "img" not in folders or not (options.get("test_mode") or key in folders):
            raise ConfigError(
                f"{name} needs data_prefix=dict(img=folder of the images, {key}=folder of the {self.map_name}s)."
            )
        super().__init__(data_prefix=folders, **options)

    def load_data_list(self) -> list[dict]:
        """One dict per image: `img_id`, its name without ending, `img_path` and, where there are maps, their path."""
        folder, maps = self.data_prefix["img"], self.data_prefix.get(self.map_key)
        require_folder(folder)
        if maps is not None:
            require_folder(maps, f"folder of {self.map_name}s")
        self._metainfo.setdefault("ann_file", os.path.abspath(maps or folder))
        items = self.find_items()
        if not items:
            endings = endings_of(self.img_suffix)
            raise DataError(f"There is no image *{endings} in {os.path.abspath(folder)}: {DOWNLOAD_HINTS}.")
        if self.check_files and not (self.on_broken == "skip" and not self.test_mode):
            self._require_files(items)
        classes = self._metainfo.get("classes")
        counted = f", {len(classes)} classes" if classes else ""
        print_log(f"{self._metainfo['ann_file']}: {len(items)} images{counted}", logger="current")
        return items

    def find_items(self) -> list[dict]:
        """The images that a list names, or all, each with the map of its name; notes in `left_out` the files of both
        folders that belong to nothing."""
        folder, maps = self.data_prefix["img"], self.data_prefix.get(self.map_key)
        suffix = self.map_suffix
        found, rest = image_files(folder, self.img_suffix, suffix if maps == folder else None, self.map_name)
        alone = [] if maps is None else files_below(maps)
        alone = [path for path in alone if path.endswith(suffix) and path[: -len(suffix)] not in found]
        sentences = (
            left_out_sentence(folder, rest),
            left_out_sentence(maps or "", alone, f"{self.map_name}s without an image"),
        )
        self.left_out = [sentence for sentence in sentences if sentence]
        for sentence in self.left_out:
            print_log(sentence, logger="current")
        if self.ann_file:
            found = listed_files(self.ann_file, found, folder, endings_of(self.img_suffix))
        items = [dict(img_id=name, img_path=path) for name, path in found.items()]
        if maps is None:
            return items
        return [{**item, f"{self.map_key}_path": item["img_id"] + suffix} for item in items]

    def _require_files(self, items: list[dict]) -> None:
        """DataError where an image or its map is no file or empty."""
        listed = "" if self.map_key == "seg" else " or the list"
        for key, kind in (("img", "images"), (self.map_key, f"{self.map_name}s")):
            paths = [os.path.join(self.data_prefix[key], i[f"{key}_path"]) for i in items if f"{key}_path" in i]
            missing = missing_or_empty(paths)
            if missing:
                raise DataError(
                    f"{len(missing)} of {len(items)} {kind} are missing or empty, the first is "
                    f"{os.path.abspath(missing[0])}: copy them there, correct {self.map_key}_suffix="
                    f"{self.map_suffix!r}{listed} if the maps are called otherwise, or set on_broken='skip' on the "
                    "dataset."
                )

    def get_data_info(self, idx: int) -> dict:
        """Entry of one image, with the absolute paths of its files and what reads its map."""
        info, key = super().get_data_info(idx), f"{self.map_key}_path"
        if key in info:
            info[key] = os.path.join(self.data_prefix[self.map_key], info[key])
            info[self.reader[0]] = self.reader[1]
        return info


def endings_of(suffix: str | tuple[str, ...]) -> str:
    """The endings of images' names, for messages."""
    return suffix if isinstance(suffix, str) else f"({'|'.join(suffix)}{'|...' if suffix == IMAGES else ''})"


def lines_of(path: str) -> list[str]:
    """The lines of a list of names, see `read_lines`; DataError where there is none that can be read."""
    try:
        return read_lines(path)
    except OSError:
        raise DataError(f"There is no list of names {os.path.abspath(path)}: {DOWNLOAD_HINTS}.") from None


def image_files(
    folder: str, suffix: str | tuple[str, ...], not_these: str | None, ground_truth: str
) -> tuple[dict[str, str], list[str]]:
    """Name without ending -> path, both below `folder`, in the order of the paths; and the other files' paths.

    Args:
        suffix: ending or endings of the images' names. IMAGES are all that can be read, where of two of one name that
            with one of these endings is the image.
        not_these: ending of files that are no images, whatever else they end in.
        ground_truth: what an image is paired with, for messages.

    Raises:
        DataError: two images would share one map.
    """
    suffixes = (suffix,) if isinstance(suffix, str) else suffix
    others = image_endings().difference(IMAGES) if suffix == IMAGES else ()
    found: dict[str, str] = {}
    seldom: dict[str, str] = {}
    rest = []
    for path in files_below(folder):
        if not_these and path.endswith(not_these):
            continue
        ending = next((end for end in (*suffixes, *others) if path.lower().endswith(end.lower())), None)
        if ending is None:
            rest.append(path)
            continue
        kind, name = seldom if ending in others else found, path[: -len(ending)]
        if name in kind:
            raise DataError(
                f"{kind[name]} and {path} in {os.path.abspath(folder)} would have the same {ground_truth}: say which "
                "of them are the images with img_suffix, or rename one."
            )
        kind[name] = path
    rest += [path for name, path in seldom.items() if name in found]
    return dict(sorted({**seldom, **found}.items(), key=lambda item: item[1])), rest


def files_below(folder: str) -> Iterator[str]:
    """Paths below `folder` of all files in it and in its folders, but for hidden ones."""
    for parent, inner, files in os.walk(folder, followlinks=True):
        inner.sort()
        for file in files:
            if not file.startswith("."):
                yield os.path.relpath(os.path.join(parent, file), folder)


def listed_files(ann_file: str, found: dict[str, str], folder: str, endings: str) -> dict[str, str]:
    """Those of `found` (see `image_files`) that a list of names speaks of, with or without ending, in its order.

    Raises:
        DataError: there is no list, or no image of a name, which would be called `name + endings` in `folder`.
    """
    listed = {}
    for line in lines_of(ann_file):
        path = line if line in found else os.path.normpath(line.replace("\\", "/"))
        name = path if path in found else os.path.splitext(path)[0]
        if name not in found:
            raise DataError(
                f"{os.path.abspath(ann_file)} names {line!r}, but there is no {line + endings} in "
                f"{os.path.abspath(folder)}: complete the images, or correct the list."
            )
        listed[name] = found[name]
    return listed
