"""Metrics over several processes: the records of all are gathered, each image is counted once, and scored on one
rank."""

import contextlib
import logging
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from mmengine.dist import all_gather_object, broadcast_object_list, is_main_process
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log

from densevit.errors import ConfigError, DataError, UserError
from densevit.outputs import Inputs


class PerImageMetric(BaseMetric):
    """A metric whose `process` appends one small dict an image to `results`, which `record_of` begins.

    `compute_metrics` gets those of all processes, each image once, however often a distributed sampler repeats it. One
    that keeps something else in `results` merges that of all processes in `united`.
    """

    failures: Sequence[str] = ()
    """A sentence of the first results that could not be written."""

    def check_out(self, dataset: Any, option: str, inputs: Inputs) -> None:
        """ConfigError where maps of the dataset's images cannot be written below `out`, or would be over an input."""
        self._open_writer().names.check(dataset, option, inputs)

    @contextlib.contextmanager
    def writing(self, path: str | os.PathLike) -> Iterator[None]:
        """A context for writing results: where it fails, the metrics are computed all the same; see `failures`."""
        try:
            yield
        except (OSError, DataError) as error:
            reason = (error.strerror or str(error)).lower() if isinstance(error, OSError) else str(error)
            if not self.failures:
                self.failures = [f"results could not be written to {path}: {reason.rstrip('.')}"]
                print_log(self.failures[0], "current", logging.ERROR)

    def evaluate(self, size: int) -> dict:
        """Gather every rank's records, score them once, and give all ranks the same metrics.

        Instead of BaseMetric's way through a shared temporary folder: that one cuts the list at `size`, which drops
        images where ranks hold unequal shares, and needs a disk that all machines see.
        """
        parts = all_gather_object(self.results)
        self.results = []
        answer: list[Any] = [None]
        if is_main_process():
            try:
                scores = self.compute_metrics(self.united([kept for part in parts for kept in part]))
                answer = [{f"{self.prefix}/{key}": value for key, value in scores.items()}]
            except UserError as error:  # the other ranks must not wait for ever
                answer = [error]
        broadcast_object_list(answer)
        if isinstance(answer[0], UserError):
            raise answer[0]
        return answer[0]

    def united(self, parts: Sequence[Any]) -> Any:
        """What `compute_metrics` takes, from the `results` of all processes."""
        return drop_duplicates(parts)


class ImageSums:
    """Arrays summed over images, every image once, in memory that does not grow with their number (ids aside).

    A distributed sampler fills its last round up with images that other processes have, too: what the last image of a
    process added is kept apart until it is known that no other process counted it.

    images: id -> file name of all that were added. sums: array by name, the last image's in it only after `united`.
    """

    def __init__(self) -> None:
        self.images: dict[Any, str] = {}
        self.sums: dict[str, np.ndarray] = {}
        self.last: tuple[Any, dict[str, np.ndarray]] | None = None

    def add(self, record: dict, arrays: dict[str, np.ndarray]) -> None:
        """Add one image's arrays; `record` as `record_of` gives it. An image that was added before is left out.

        Raises:
            DataError: another file had that id.
        """
        img_id, name = record["img_id"], os.path.basename(record["img_path"] or "")
        if self._knows(img_id, name):
            return
        if self.last is not None:
            self._plus(self.last[1])
        self.images[img_id] = name
        self.last = (img_id, arrays)

    def _knows(self, img_id: Any, name: str) -> bool:
        _require_same_name(img_id, self.images.get(img_id, name), name)
        return img_id in self.images

    def _plus(self, arrays: dict[str, np.ndarray]) -> None:
        for name, values in arrays.items():
            self.sums[name] = self.sums[name] + values if name in self.sums else values

    @staticmethod
    def united(parts: Sequence["ImageSums"]) -> "ImageSums":
        """The sums of all processes.

        Raises:
            ConfigError: two processes counted an image, and for neither it was the last.
        """
        whole = ImageSums()
        for part in parts:
            whole._plus(part.sums)
            for img_id, name in part.images.items():
                if part.last is not None and img_id == part.last[0]:
                    continue
                if whole._knows(img_id, name):
                    raise ConfigError(
                        f"image {name or img_id} was counted by two processes: take sampler=dict(type='EvalSampler') "
                        "in the data loader, which gives each image to one."
                    )
                whole.images[img_id] = name
        for part in parts:
            if part.last is not None:
                name = part.images[part.last[0]]
                if not whole._knows(part.last[0], name):
                    whole.images[part.last[0]] = name
                    whole._plus(part.last[1])
        return whole


def drop_duplicates(records: list[dict]) -> list[dict]:
    """The first record of each `img_id`; DataError where files of two names share one."""
    kept: dict[Any, dict] = {}
    for record in records:
        first = kept.setdefault(record["img_id"], record)
        _require_same_name(record["img_id"], first["img_path"], record["img_path"])
    return list(kept.values())


def _require_same_name(img_id: Any, known: str | None, path: str | None) -> None:
    """DataError where two files have one id. Names alone count: machines may keep the data in different folders."""
    if os.path.basename(known or "") != os.path.basename(path or ""):
        raise DataError(
            f"images {known} and {path} have the same id {img_id!r}; a dataset has to give each image an img_id of its "
            "own."
        )


def name_of(sample: dict) -> str:
    """The image's file, or its id where it has none, for messages."""
    return str(sample.get("img_path") or f"image {sample['img_id']!r}")


def record_of(sample: dict) -> dict:
    """The id and path of a record's image."""
    return {"img_id": sample["img_id"], "img_path": sample.get("img_path")}
