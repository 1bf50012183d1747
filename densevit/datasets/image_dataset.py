"""What every dataset of image files does: reproducible items, broken images, looking for files, memory."""

import os
from abc import abstractmethod
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.dataset import BaseDataset
from mmengine.logging import print_log
from torch.utils.data import get_worker_info

from densevit.datasets.io.image import BrokenImage, image_endings
from densevit.datasets.seeding import seeded
from densevit.errors import ConfigError, DataError
from densevit.plain_data import read_lines

IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
DOWNLOAD_HINTS = "lay the data out there as data/README.md shows, or pass another folder with --data-root"
MAX_TRIES = 100
"""Items tried in place of one that cannot be used, before giving up."""


class ImageDataset(BaseDataset):
    """Image files with their ground truth, in one buffer of bytes that worker processes share.

    An item is `dataset[i]` or, in training, `dataset[(i, epoch)]`: its random transforms depend on (seed, epoch, i)
    alone. A subclass defines `load_data_list`, which fills `_metainfo` and gives one dict per image with `img_id` and
    `img_path` below `data_prefix['img']`, and `require_readable`.

    Args:
        ann_file: file that lists the images, below `data_root` unless absolute; '' where there is none.
        data_root: folder that `ann_file` and `data_prefix` are relative to.
        data_prefix: folders by what lies in them; 'img' are the images.
        pipeline: transforms, as configs or callables.
        test_mode: nothing is random, nothing is skipped.
        seed: first part of each item's random state.
        on_broken: 'error', or 'skip': another image takes a broken one's place in training.
        check_files: look for every file before the first is read.
        indices: the first so many images, or the locations of those to use.

    Raises:
        DataError: files are missing.
        ConfigError: `on_broken` asks for what there is not.
    """

    checked_before_training = 20_000
    """Images that are read before a training begins, spread evenly, where one that is broken would stop it."""

    def __init__(
        self,
        ann_file: str,
        data_root: str,
        data_prefix: dict,
        pipeline: Sequence[dict | Callable],
        test_mode: bool,
        seed: int,
        on_broken: str,
        check_files: bool,
        indices: int | Sequence[int] | None,
    ) -> None:
        if on_broken not in ("error", "skip"):
            raise ConfigError(f"on_broken of {type(self).__name__} is 'error' or 'skip', not {on_broken!r}.")
        self.seed, self.on_broken, self.check_files = seed, on_broken, check_files
        self._threads_set = False
        self.left_out: list[str] = []
        super().__init__(
            ann_file=ann_file,
            data_root=os.path.abspath(os.path.expanduser(data_root)),
            data_prefix=data_prefix,
            indices=indices,
            pipeline=list(pipeline),
            test_mode=test_mode,
        )

    def full_init(self) -> None:
        """Read the annotations into one buffer of bytes, which worker processes share instead of copying."""
        if self._fully_initialized:
            return
        super().full_init()
        # one flag per image, in memory that the workers share: each broken image is reported once, whoever meets it
        self._broken = torch.zeros(len(self), dtype=torch.uint8).share_memory_()

    def _get_unserialized_subset(self, indices: int | Sequence[int]) -> list:
        """As mmengine's; DataError for locations that are not there."""
        try:
            return super()._get_unserialized_subset(indices)
        except IndexError:
            there = f"there are {len(self.data_list)} images"
            raise DataError(f"indices of the dataset name an image beyond the last: {there}.") from None

    def _find_pairs(self, suffix: str, key: str, what: str) -> dict[str, str]:
        """Name -> path of the images that a list speaks of, or of all; notes in `left_out` what of the folders of
        images and of maps, whose names end in `suffix`, belongs to nothing."""
        folder, maps = self.data_prefix["img"], self.data_prefix.get(key)
        found, rest = image_files(folder, self.img_suffix, suffix if maps == folder else None, what)
        alone = [] if maps is None else maps_without_image(maps, suffix, found)
        notes = left_out_sentence(folder, rest), left_out_sentence(maps or "", alone, f"{what}s without an image")
        self.left_out = [note for note in notes if note]
        for note in self.left_out:
            print_log(note, logger="current")
        return listed_files(self.ann_file, found, folder, endings_of(self.img_suffix)) if self.ann_file else found

    @abstractmethod
    def require_readable(self, entry: dict) -> Any:
        """Read the files of one entry of `get_data_info`; BrokenImage where they cannot be used."""

    def check_before_training(self, most: int | None = None) -> list:
        """Read the files of all entries, or so many of them spread evenly (`checked_before_training`).

        Nothing is read where broken images are skipped. Returns what `require_readable` found.

        Raises:
            DataError: the first that cannot be used.
        """
        if self.on_broken == "skip":
            return []
        with ThreadPoolExecutor() as pool:
            return list(pool.map(self.require_readable, spread(self, most or self.checked_before_training)))

    def get_data_info(self, idx: int) -> dict:
        """Entry of one image, with the absolute path of its file."""
        info = super().get_data_info(idx)
        info["img_path"] = os.path.join(self.data_prefix["img"], info["img_path"])
        return info

    def __getitem__(self, key: int | tuple[int, int]) -> dict:
        """Item `i` or `(i, epoch)` after the transforms.

        A training item whose image is broken (`on_broken='skip'`) or whose transforms give None is replaced by another
        one, which again depends on (seed, epoch, i) alone.
        """
        index, epoch = (int(k) for k in key) if isinstance(key, tuple) else (int(key), 0)
        index = range(len(self))[index]
        self._use_one_thread_in_workers()
        if self.test_mode:
            with seeded(self.seed, 0, index):
                data = self.prepare_data(index)
            if data is None:
                raise ConfigError("A transform dropped an image of a test set: leave random crops out of its pipeline.")
            return data
        choice = index
        for attempt in range(MAX_TRIES):
            with seeded(self.seed, epoch, index, attempt):
                if attempt:
                    choice = int(np.random.randint(len(self)))
                try:
                    data = self.prepare_data(choice)
                except BrokenImage as error:
                    if self.on_broken == "error":
                        raise
                    self._note_broken(choice, error)
                    continue
            if data is not None:
                return data
        raise DataError(
            f"{MAX_TRIES} images of {self._metainfo['ann_file']} in a row were broken or had no object left after "
            "cropping: run tools/check_data.py on it."
        )

    def broken_images(self) -> list[str]:
        """Paths of the broken images met so far, by this process and by its workers."""
        return [self.get_data_info(i)["img_path"] for i in torch.nonzero(self._broken).flatten().tolist()]

    def _note_broken(self, index: int, error: BrokenImage) -> None:
        if not self._broken[index]:
            self._broken[index] = 1
            print_log(f"Skipped broken image {int(self._broken.sum())} of {len(self)}: {error}", logger="current")

    def _use_one_thread_in_workers(self) -> None:
        """Workers are the parallelism: OpenCV's own threads would fight over the same cores."""
        if not self._threads_set:
            self._threads_set = True
            if get_worker_info() is not None:
                cv2.setNumThreads(0)
                cv2.ocl.setUseOpenCL(False)


def spread(dataset: BaseDataset, most: int | None) -> list[dict]:
    """The entries of a dataset, or at most so many of them, spread evenly over it."""
    count = len(dataset) if most is None else min(most, len(dataset))
    return [dataset.get_data_info(i * len(dataset) // count) for i in range(count)]


def missing_or_empty(paths: list[str]) -> list[str]:
    """Those of `paths` that are no files or hold nothing; asks for their size only, and reads none."""

    def is_bad(path: str) -> bool:
        try:
            return os.stat(path).st_size == 0
        except OSError:
            return True

    return [path for path in paths if is_bad(path)]


def pair_folders(
    data_prefix: Mapping[str, str] | None, ground_truth: str, what: str, where: str, test_mode: bool
) -> dict[str, str]:
    """The folders of images and of what they are paired with, which a test set may come without.

    Args:
        data_prefix: the argument of the dataset; None and folders that are None count as not given.
        ground_truth: key of the maps' folder; `what` calls them and `where` the dataset in messages.

    Raises:
        ConfigError: another key, or a folder that is needed is not given.
    """
    folders = {key: folder for key, folder in (data_prefix or {}).items() if folder is not None}
    for key in folders:
        if key not in ("img", ground_truth):
            raise ConfigError(f"data_prefix of {where} has the keys img and {ground_truth}, not {key!r}.")
    if "img" not in folders or not (test_mode or ground_truth in folders):
        raise ConfigError(
            f"{where} needs data_prefix=dict(img=folder of the images, {ground_truth}=folder of the {what}s)."
        )
    return folders


def require_folders(folder: str, maps: str | None, what: str) -> None:
    """DataError where the folder of images, or that of the maps called `what`, does not exist."""
    for location, kind in ((folder, "image folder"), (maps, f"folder of {what}s")):
        if location is not None and not os.path.isdir(location):
            raise DataError(f"There is no {kind} {os.path.abspath(location)}: {DOWNLOAD_HINTS}.")


def require_files(items: list[dict], folders: Mapping[str, str], ground_truth: str, what: str, way_on: str) -> None:
    """DataError where an image (`img_path` below folders['img']) or its map (`<ground_truth>_path`) is no file or
    empty.

    Args:
        ground_truth: key of the maps' folder; `what` calls them in the message, which ends in `way_on`.
    """
    for key, kind in (("img", "images"), (ground_truth, f"{what}s")):
        missing = missing_or_empty(
            [os.path.join(folders[key], item[f"{key}_path"]) for item in items if f"{key}_path" in item]
        )
        if missing:
            raise DataError(
                f"{len(missing)} of {len(items)} {kind} are missing or empty, the first is "
                f"{os.path.abspath(missing[0])}: copy them there, {way_on} are called otherwise, or set "
                "on_broken='skip' on the dataset."
            )


def left_out_sentence(folder: str | os.PathLike, names: Iterable[str], what: str = "no images by their ending") -> str:
    """Counts and names the files of a folder that are not used; '' where there are none."""
    names = sorted(names)
    if not names:
        return ""
    more = ", ..." if len(names) > 5 else ""
    return f"Not used: {len(names)} of the files in {os.path.abspath(folder)} ({what}): {', '.join(names[:5])}{more}"


def endings_of(suffix: str | tuple[str, ...]) -> str:
    """The endings of images' names, for messages."""
    return suffix if isinstance(suffix, str) else f"({'|'.join(suffix)}{'|...' if suffix == IMAGES else ''})"


def lines_of(path: str) -> list[str]:
    """The lines of a list of names; see `read_lines`.

    Raises:
        DataError: there is none that can be read.
    """
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
    for location, inner, files in os.walk(folder, followlinks=True):
        inner.sort()
        for file in files:
            if not file.startswith("."):
                yield os.path.relpath(os.path.join(location, file), folder)


def maps_without_image(maps: str, suffix: str, names: Container[str]) -> list[str]:
    """Paths below `maps` of the maps that end in `suffix` and belong to no image of `names`."""
    return [path for path in files_below(maps) if path.endswith(suffix) and path[: -len(suffix)] not in names]


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
