"""The boundary F against loops over all pairs of pixels."""

import math

import numpy as np
import pytest
import torch
from map_samples import map_sample

from densevit.metrics.boundary import boundary_scores
from densevit.registry import METRICS


def border_by_loops(values, label):
    """The pixels (y, x) of a class with a known neighbor of another."""
    found = []
    for y, x in zip(*np.nonzero(values == label), strict=True):
        for j, i in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
            if 0 <= j < values.shape[0] and 0 <= i < values.shape[1] and values[j, i] not in (label, 255):
                found.append((y, x))
                break
    return found


def by_loops(ground_truth, predicted, label, tolerance):
    predicted = np.where(ground_truth == 255, 255, predicted)
    true, found = border_by_loops(ground_truth, label), border_by_loops(predicted, label)
    if not true and not found:
        return math.nan
    reach = tolerance * math.hypot(*ground_truth.shape)

    def share(these, those):
        near = [any(math.dist(a, b) <= reach for b in those) for a in these]
        return sum(near) / len(near) if near else 0.0

    precision, recall = share(found, true), share(true, found)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@pytest.mark.parametrize("tolerance", [0.0, 0.03, 0.1])
@pytest.mark.parametrize("seed", range(4))
def test_loops_over_pairs_of_pixels_give_the_same_scores(seed, tolerance):
    rng = np.random.default_rng(seed)
    ground_truth = np.kron(rng.integers(0, 4, (4, 5)), np.ones((6, 7), int)).astype(np.uint8)
    predicted = np.roll(ground_truth, (1, 2), (0, 1))
    predicted[rng.random(ground_truth.shape) < 0.05] = 4
    ground_truth[rng.random(ground_truth.shape) < 0.05] = 255
    ours = boundary_scores(ground_truth, predicted, 6, tolerance)
    expected = [by_loops(ground_truth, predicted, label, tolerance) for label in range(6)]
    assert math.isnan(expected[5]) and 0 < np.nanmean(expected) < 1
    np.testing.assert_allclose(ours, expected, atol=1e-12)


def test_a_border_moved_by_less_than_the_tolerance_is_met_and_by_more_is_missed():
    ground_truth = np.zeros((60, 80), np.uint8)  # diagonal 100
    ground_truth[:, 40:] = 1
    for shift, score in ((0, 1.0), (2, 1.0), (3, 0.0)):
        moved = np.zeros((60, 80), np.uint8)
        moved[:, 40 + shift :] = 1
        assert boundary_scores(ground_truth, moved, 2, 0.02).tolist() == [score, score]


def test_one_class_everywhere_has_no_border():
    assert np.isnan(boundary_scores(np.zeros((9, 9), np.uint8), np.zeros((9, 9), np.uint8), 2)).all()


def test_the_metric_averages_over_the_images_of_a_class_then_over_classes():
    rng = np.random.default_rng(0)
    metric = METRICS.build(dict(type="SemanticMetric", metric=["mIoU", "mBF"], tolerance=0.05))
    metric.dataset_meta = {"classes": tuple("abcde")}
    scores = []
    for number in range(3):
        ground_truth = np.kron(rng.integers(0, 3 + number, (3, 4)), np.ones((8, 8), int))
        predicted = np.where(rng.random(ground_truth.shape) < 0.1, 0, ground_truth)
        metric.process(None, [map_sample(number, "semantic", *map(torch.from_numpy, (ground_truth, predicted)))])
        scores.append(boundary_scores(ground_truth.astype(np.uint8), predicted.astype(np.uint8), 5, 0.05))
    metrics = metric.evaluate(3)
    assert set(metrics) == {f"semantic/{name}" for name in ("mIoU", "mAcc", "aAcc", "mBF")}
    assert metrics["semantic/mBF"] == pytest.approx(np.nanmean(np.nanmean(scores, 0)))
