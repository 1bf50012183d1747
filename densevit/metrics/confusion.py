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
"""Value of pixels without truth: they count nowhere, whatever is predicted there."""
VALUES = 256
EXACT = 1 << 24
"""Pixels that cv2 counts exactly at once: its counts are float32."""


def confusion_matrix(truth: Tensor, predicted: Tensor, classes: int, where: str) -> np.ndarray:
    """Pixels of class row in `truth` that are class column in `predicted`.

    Args:
        truth: (H, W) whole numbers, 0 to K - 1, 255 = none.
        predicted: (H, W) on the same device, 0 to K - 1.
        classes: K, at most 255.
        where: the image, for messages.

    Returns:
        (K, K) int64.

    Raises:
        DataError: a class that there is not, in truth or prediction.
    """
    pairs = _pairs(truth, predicted, where)
    rows, columns = pairs.sum(1), pairs.sum(0)
    for value in np.flatnonzero(columns[classes:]) + classes:
        raise _unknown(value, classes, f"the prediction for {where}", "the model was made for another data set")
    for value in np.flatnonzero(rows[classes:IGNORE]) + classes:
        raise _unknown(value, classes, f"gt_semantic of {where}", f"pixels without a class are {IGNORE}")
    return pairs[:classes, :classes]


def _pairs(truth: Tensor, predicted: Tensor, where: str) -> np.ndarray:
    """(256, 256) int64: how many pixels have the value row in truth and column in the prediction."""
    for values, name in ((predicted, f"the prediction for {where}"), (truth, f"gt_semantic of {where}")):
        if values.dtype != torch.uint8 and values.numel():
            low, high = (int(end) for end in values.aminmax())
            if low < 0 or high >= VALUES:
                raise DataError(f"{name} has the class {low if low < 0 else high}; classes are numbers from 0 to 255.")
    if truth.is_cuda:
        counts = torch.bincount((truth.int() * VALUES + predicted.int()).flatten(), minlength=VALUES * VALUES)
        return counts.view(VALUES, VALUES).cpu().numpy()
    maps = [values.to(torch.uint8).contiguous().numpy() for values in (truth, predicted)]
    step = max(1, EXACT // max(1, truth.shape[-1]))
    total = np.zeros((VALUES, VALUES), np.int64)
    for top in range(0, len(maps[0]), step):
        strips = [values[top : top + step] for values in maps]
        total += cv2.calcHist(strips, [0, 1], None, [VALUES, VALUES], [0, VALUES, 0, VALUES]).astype(np.int64)
    return total


def _unknown(value: int, classes: int, what: str, way: str) -> DataError:
    return DataError(f"{what} has the class {value}, where 0 to {classes - 1} are known; {way}.")


def class_figures(matrix: np.ndarray, beta: float = 1.0) -> dict[str, np.ndarray]:
    """The figures of each class, (K,) float64 in 0 to 1 by name; nan where a class has none.

    With r the pixels of a class that are predicted as such, t those in truth and p those in the prediction:
    IoU = r / (t + p - r), Acc = Recall = r / t, Precision = r / p, Dice = 2 r / (t + p) and
    Fscore = (1 + beta^2) Precision Recall / (beta^2 Precision + Recall).

    Args:
        matrix: (K, K), truth in rows.
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
    """The mean over the classes that have a figure, or over all with `nan_as` for those without; nan where none has."""
    values = values[~np.isnan(values)] if nan_as is None else np.nan_to_num(values, nan=nan_as)
    return float(values.mean()) if values.size else math.nan


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, nan where there is no whole."""
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)
