"""Accuracy of class borders: the boundary F of Csurka et al. (BMVC 2013, "What is a good evaluation
measure for semantic segmentation?", section 3), class by class."""

import math

import cv2
import numpy as np

IGNORE = 255
TOLERANCE = 0.0075
"""Of the image's diagonal: how far apart borders may lie that agree, in that paper."""


def boundary_scores(
    ground_truth: np.ndarray, predicted: np.ndarray, classes: int, tolerance: float = TOLERANCE
) -> np.ndarray:
    """The boundary F of each class in one image: (K,) float64 in 0 to 1, nan where the class has no border at all.

    Pixels without ground truth count as unknown in both maps. A pixel is on its class's border where one of its four
    neighbors is known and of another class; the image's edge and unknown regions make no border. With d the distance
    between pixel centers, precision is the share of the predicted border's pixels with a pixel of the class's true
    border at most `tolerance` x the image's diagonal away, recall the same the other way round, and
    F = 2 precision recall / (precision + recall): 0 where only one of the two maps has a border of the class.

    Args:
        ground_truth: (H, W) uint8, 255 = none.
        predicted: (H, W) uint8.
        classes: K.
        tolerance: as a share of the diagonal.
    """
    reach = tolerance * math.hypot(*ground_truth.shape)
    predicted = np.where(ground_truth == IGNORE, np.uint8(IGNORE), predicted)
    borders = [_borders(ground_truth), _borders(predicted)]
    scores = np.full(classes, np.nan)
    for label in np.flatnonzero(sum(np.bincount(border.ravel(), minlength=256) for border in borders)[:classes]):
        true, found = (border == label for border in borders)
        true, found = _cropped(true, found)
        hits = _near(found, true, reach), _near(true, found, reach)
        precision, recall = (hit / count if count else 0.0 for hit, count in hits)
        scores[label] = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    return scores


def _borders(values: np.ndarray) -> np.ndarray:
    """(H, W) uint8: the class where a pixel is on its class's border, 255 elsewhere."""
    on = np.zeros(values.shape, bool)
    for a, b in (((slice(None), slice(1, None)), (slice(None), slice(-1))), ((slice(1, None),), (slice(-1),))):
        change = (values[a] != values[b]) & (values[a] != IGNORE) & (values[b] != IGNORE)
        on[a] |= change
        on[b] |= change
    return np.where(on, values, np.uint8(IGNORE))


def _cropped(*masks: np.ndarray) -> list[np.ndarray]:
    """Masks cut to the least rectangle that holds what any of them has: distances between their pixels stay."""
    both = np.logical_or.reduce(masks)
    rows, columns = np.flatnonzero(both.any(1)), np.flatnonzero(both.any(0))
    return [mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] for mask in masks]


def _near(these: np.ndarray, those: np.ndarray, reach: float) -> tuple[int, int]:
    """(how many of `these` pixels have one of `those` within `reach`, how many they are)."""
    count = int(these.sum())
    if not count or not those.any():
        return 0, count
    away = cv2.distanceTransform((~those).view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return int((away[these] <= reach).sum()), count
