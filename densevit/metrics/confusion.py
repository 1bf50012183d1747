"""The confusion matrix of class maps, and what follows from it.

Shape letters: K classes, H, W size of a map.
"""

import math

import cv2
import numpy as np
import torch
from torch import Tensor

from densevit.errors import DataError

IGNORE = 255
"""Value of pixels without ground truth: they count nowhere, whatever is predicted there. So do those of a value that is
no class."""
VALUES = 256
EXACT = 1 << 24
"""Pixels that cv2 counts exactly at once: its counts are float32."""


def confusion_matrix(ground_truth: Tensor, predicted: Tensor, classes: int, where: str) -> tuple[np.ndarray, int]:
    """Pixels of class row in `ground_truth` that are class column in `predicted`, and how many of unknown ground truth.

    Args:
        ground_truth: (H, W) whole numbers, 0 to K - 1; 255, and what else is no class, = none.
        predicted: (H, W) on the same device, 0 to K - 1.
        classes: K, at most 255.
        where: the image, for messages.

    Returns:
        (K, K) int64, and a number.

    Raises:
        DataError: a class that there is not in the prediction.
    """
    unknown = 0
    if (value := _beyond_bytes(predicted)) is not None:
        raise _unknown(value, classes, where)
    if _beyond_bytes(ground_truth) is not None:
        beyond = (ground_truth < 0) | (ground_truth >= VALUES)
        ground_truth, unknown = ground_truth.masked_fill(beyond, IGNORE), int(beyond.sum())
    pairs = _pairs(ground_truth, predicted)
    for value in np.flatnonzero(pairs.sum(0)[classes:]) + classes:
        raise _unknown(value, classes, where)
    return pairs[:classes, :classes], unknown + int(pairs[classes:IGNORE].sum())


def _pairs(ground_truth: Tensor, predicted: Tensor) -> np.ndarray:
    """(256, 256) int64: how many pixels have the value row in ground truth and column in the prediction."""
    if ground_truth.is_cuda:
        counts = torch.bincount((ground_truth.int() * VALUES + predicted.int()).flatten(), minlength=VALUES * VALUES)
        return counts.view(VALUES, VALUES).cpu().numpy()  # row: ground truth
    maps = [values.to(torch.uint8).contiguous().numpy() for values in (ground_truth, predicted)]
    step = max(1, EXACT // max(1, ground_truth.shape[-1]))
    total = np.zeros((VALUES, VALUES), np.int64)
    for top in range(0, len(maps[0]), step):
        strips = [values[top : top + step] for values in maps]
        total += cv2.calcHist(strips, [0, 1], None, [VALUES, VALUES], [0, VALUES, 0, VALUES]).astype(np.int64)
    return total


def _beyond_bytes(values: Tensor) -> int | None:
    """A value that no byte holds; None where there is none."""
    if values.dtype == torch.uint8 or not values.numel():
        return None
    low, high = (int(end) for end in values.aminmax())
    return low if low < 0 else high if high >= VALUES else None


def _unknown(value: int, classes: int, where: str) -> DataError:
    return DataError(
        f"the prediction for {where} has the class {value}, where 0 to {classes - 1} are known; the model was made for "
        "another dataset."
    )


def per_class_metrics(matrix: np.ndarray, beta: float = 1.0) -> dict[str, np.ndarray]:
    """The metrics of each class, (K,) float64 in 0 to 1 by name; nan where a class has none.

    With r the pixels of a class that are predicted as such, t those in ground truth and p those in the prediction:
    IoU = r / (t + p - r), Acc = Recall = r / t, Precision = r / p, Dice = 2 r / (t + p) and
    Fscore = (1 + beta^2) Precision Recall / (beta^2 Precision + Recall).

    Args:
        matrix: (K, K), ground truth in rows.
        beta: how much more recall weighs than precision.
    """
    right, true, found = matrix.diagonal(), matrix.sum(1), matrix.sum(0)
    precision, recall = _ratio(right, found), _ratio(right, true)
    return {
        "IoU": _ratio(right, true + found - right),
        "Acc": recall,
        "Dice": _ratio(2 * right, true + found),
        "Fscore": _ratio((1 + beta**2) * precision * recall, beta**2 * precision + recall),
        "Precision": precision,
        "Recall": recall,
    }


def mean_of(values: np.ndarray, nan_as: float | None = None) -> float:
    """The mean over the classes that have a value, or over all with `nan_as` for those without; nan where none has."""
    values = values[~np.isnan(values)] if nan_as is None else np.nan_to_num(values, nan=nan_as)
    return float(values.mean()) if values.size else math.nan


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, nan where there is no whole."""
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)
