"""Metrics over several processes: what each keeps of an image is gathered, counted once, and scored in one place."""

import os
from typing import Any

from mmengine.dist import all_gather_object, broadcast_object_list, is_main_process
from mmengine.evaluator import BaseMetric

from densevit.errors import DataError, UserError


class PerImageMetric(BaseMetric):
    """A metric whose `process` appends one small dict an image to `results`, which `record_of` begins.

    `compute_metrics` gets those of all processes, each image once, however often a distributed sampler repeats it.
    """

    def evaluate(self, size: int) -> dict:
        """Gather every rank's records, score them once, and give all ranks the same figures.

        Instead of BaseMetric's way through a shared temporary folder: that one cuts the list at `size`, which drops
        images where ranks hold unequal shares, and needs a disk that all machines see.
        """
        parts = all_gather_object(self.results)
        self.results = []
        answer: list[Any] = [None]
        if is_main_process():
            try:
                figures = self.compute_metrics(each_image_once([image for part in parts for image in part]))
                answer = [{f"{self.prefix}/{key}": value for key, value in figures.items()}]
            except UserError as error:  # the other ranks must not wait for ever
                answer = [error]
        broadcast_object_list(answer)
        if isinstance(answer[0], UserError):
            raise answer[0]
        return answer[0]


def each_image_once(records: list[dict]) -> list[dict]:
    """The first record of each `img_id`; DataError where files of two names share one."""
    kept: dict[Any, dict] = {}
    for record in records:
        first = kept.setdefault(record["img_id"], record)
        # names alone: machines may keep the data in different folders
        if os.path.basename(first["img_path"] or "") != os.path.basename(record["img_path"] or ""):
            raise DataError(
                f"images {first['img_path']} and {record['img_path']} have the same id {record['img_id']!r}; "
                "a data set has to give each image an img_id of its own."
            )
    return list(kept.values())


def name_of(sample: dict) -> str:
    """The image's file, or its id where it has none, for messages."""
    return str(sample.get("img_path") or f"image {sample['img_id']!r}")


def record_of(sample: dict) -> dict:
    """What says which image a record is about."""
    return {"img_id": sample["img_id"], "img_path": sample.get("img_path")}
