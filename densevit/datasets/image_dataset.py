"""The base of all datasets of image files: reproducible items, broken images, missing files, shared memory."""

import os
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.dataset import BaseDataset
from mmengine.logging import print_log
from torch.utils.data import get_worker_info

from densevit.datasets.io.image import BrokenImage
from densevit.datasets.seeding import seeded
from densevit.errors import ConfigError, DataError

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
        on_broken: 'error', or 'skip': another image takes a broken one's place in training, and that of a broken map.
        check_files: look for every file before the first is read.
        indices: the first so many images, or the indices of those to use.

    Raises:
        DataError: files are missing.
        ConfigError: an unknown `on_broken`.
    """

    checked_before_training = 20_000
    """Images that are read before a training begins, spread evenly, where one that is broken would stop it."""

    def __init__(
        self,
        ann_file: str = "",
        data_root: str = "",
        data_prefix: Mapping[str, str] | None = None,
        pipeline: Sequence[dict | Callable] = (),
        test_mode: bool = False,
        seed: int = 0,
        on_broken: str = "error",
        check_files: bool = True,
        indices: int | Sequence[int] | None = None,
    ) -> None:
        if on_broken not in ("error", "skip"):
            raise ConfigError(f"on_broken of {type(self).__name__} is 'error' or 'skip', not {on_broken!r}.")
        self.seed, self.on_broken, self.check_files = seed, on_broken, check_files
        self._threads_set = False
        self.left_out: list[str] = []
        super().__init__(
            ann_file=ann_file,
            data_root=os.path.abspath(os.path.expanduser(data_root)),
            data_prefix=dict(data_prefix or {"img": ""}),
            indices=indices,
            pipeline=list(pipeline),
            test_mode=test_mode,
        )

    def full_init(self) -> None:
        """Read the annotations into one buffer of bytes, which worker processes share instead of copying."""
        if self._fully_initialized:
            return
        super().full_init()
        # one flag per image, in memory that the workers share: each broken image is reported once
        self._broken = torch.zeros(len(self), dtype=torch.uint8).share_memory_()

    def _get_unserialized_subset(self, indices: int | Sequence[int]) -> list:
        """As mmengine's; DataError for indices beyond the last."""
        try:
            return super()._get_unserialized_subset(indices)
        except IndexError:
            there = f"there are {len(self.data_list)} images"
            raise DataError(f"indices of the dataset name an image beyond the last: {there}.") from None

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


def require_folder(folder: str, kind: str = "image folder", ways_on: str = DOWNLOAD_HINTS) -> None:
    """DataError where a folder, called `kind`, does not exist."""
    if not os.path.isdir(folder):
        raise DataError(f"There is no {kind} {os.path.abspath(folder)}: {ways_on}.")


def left_out_sentence(folder: str | os.PathLike, names: Iterable[str], what: str = "no images by their ending") -> str:
    """Counts and names the files of a folder that are not used; '' where there are none."""
    names = sorted(names)
    if not names:
        return ""
    more = ", ..." if len(names) > 5 else ""
    return f"Not used: {len(names)} of the files in {os.path.abspath(folder)} ({what}): {', '.join(names[:5])}{more}"
