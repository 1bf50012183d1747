"""SemanticMetric: the class of each pixel scored by intersection over union."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmengine.logging import print_log
from torch import Tensor

from densevit.errors import ConfigError, DataError
from densevit.metrics.gathering import PerImageMetric, name_of, record_of
from densevit.metrics.pixel_maps import map_pair
from densevit.registry import METRICS

IGNORE = 255
"""Value of pixels without truth: they count nowhere, whatever is predicted there."""


@METRICS.register_module()
class SemanticMetric(PerImageMetric):
    """IoU and accuracy of `pred_semantic` against `gt_semantic`, from the confusion matrix of the whole data set.

    Gives 'semantic/mIoU', 'semantic/mAcc' and 'semantic/aAcc', all from 0 to 1, and logs a table of the classes. A
    class's IoU is its right pixels / (its pixels in truth + predicted ones - right ones), its accuracy right pixels /
    its pixels in truth; aAcc is the share of right pixels. A class without a pixel in truth and prediction has no IoU,
    one without a pixel in truth no accuracy: the means leave them out.

    The classes are the data set's `semantic_classes`, or its `classes` where it has one kind alone. What is kept
    between batches is three counts a class of each image, and every image counts once, however often a distributed
    sampler repeats it.

    Args:
        prefix: goes before every name.
    """

    default_prefix = "semantic"

    def __init__(self, prefix: str | None = None, collect_device: str = "cpu") -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Count one batch: dicts with `pred_semantic` and `gt_semantic`, see `map_pair`.

        Raises:
            DataError: a class that there is not, in truth or prediction, or maps of different sizes.
        """
        classes = len(self._names())
        for sample in data_samples:
            truth, predicted = map_pair(sample, "semantic", "SemanticMetric")
            where = name_of(sample)
            _check(predicted, classes, f"the prediction for {where}", "the model was made for another data set")
            known = truth != IGNORE
            truth, predicted = truth[known], predicted[known]
            _check(truth, classes, f"gt_semantic of {where}", f"pixels without a class are {IGNORE}")
            matrix = confusion_matrix(truth, predicted, classes)
            areas = torch.stack((matrix.diagonal(), matrix.sum(1), matrix.sum(0)))
            self.results.append({**record_of(sample), "areas": areas.cpu().numpy()})

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """The figures of all images that `process` counted."""
        names = self._names()
        right, true, found = sum((image["areas"] for image in results), np.zeros((3, len(names)), dtype=np.int64))
        if not true.sum():
            raise DataError(f"none of the {len(results)} images has a pixel with a class; check the class maps.")
        iou, accuracy = _ratio(right, true + found - right), _ratio(right, true)
        figures = {
            "mIoU": float(np.nanmean(iou)),
            "mAcc": float(np.nanmean(accuracy)),
            "aAcc": float(right.sum() / true.sum()),
        }
        text = "\n".join(f"{key:<6}{value:>11.6f}" for key, value in figures.items())
        print_log(f"Classes of the pixels of {len(results)} images\n{text}", logger="current")
        print_log("\n" + class_table(names, iou, accuracy, true), logger="current")
        return figures

    def _names(self) -> Sequence[str]:
        meta = self.dataset_meta or {}
        names = meta.get("semantic_classes") or meta.get("classes")
        if not names:
            raise ConfigError("SemanticMetric knows no classes: use a data set whose metainfo states semantic_classes.")
        return names


def confusion_matrix(truth: Tensor, predicted: Tensor, classes: int) -> Tensor:
    """Pixels of class row in `truth` that are class column in `predicted`: two of (N,), 0 to K - 1 -> (K, K) int64."""
    pairs = truth.long() * classes + predicted.long()
    return torch.bincount(pairs, minlength=classes * classes).view(classes, classes)


def class_table(names: Sequence[str], iou: np.ndarray, accuracy: np.ndarray, pixels: np.ndarray) -> str:
    """One line a class with IoU, accuracy and pixels in truth; '-' where a class has no such figure."""
    width = max(len("class"), *map(len, names))
    lines = ["class".ljust(width) + f"{'IoU':>12}{'accuracy':>12}{'pixels':>14}"]
    for name, *figures, count in zip(names, iou, accuracy, pixels, strict=True):
        values = ["-" if np.isnan(value) else f"{value:.6f}" for value in figures]
        lines.append(name.ljust(width) + "".join(f"{value:>12}" for value in values) + f"{count:>14}")
    return "\n".join(lines)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, nan where there is no whole."""
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)


def _check(values: Tensor, classes: int, what: str, way: str) -> None:
    wrong = values[(values < 0) | (values >= classes)]
    if len(wrong):
        raise DataError(f"{what} has the class {int(wrong[0])}, where 0 to {classes - 1} are known; {way}.")
