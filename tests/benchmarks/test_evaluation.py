"""The random dataset of the evaluation benchmark: both evaluators give the same metrics, and none is empty."""

import numpy as np
import pytest

from benchmarks.evaluation import OBJECTS, SIZE, measure_evaluation, random_dataset
from densevit.errors import ConfigError
from densevit.metrics.coco_eval import evaluate_coco


def test_random_detections_give_metrics_of_every_size():
    ground_truth, results = random_dataset(60, 20)
    assert len(ground_truth["annotations"]) == 60 * OBJECTS
    assert len(results) == 60 * 20
    boxes = np.array([entry["bbox"] for entry in ground_truth["annotations"]])
    assert boxes.min() >= 0
    assert (boxes[:, :2] + boxes[:, 2:] <= SIZE[::-1]).all()
    metrics = evaluate_coco(ground_truth, results, ("bbox", "segm"))
    assert min(metrics.values()) >= 0
    assert 0.002 < metrics["segm_AP"] < 0.9


def test_metrics_are_compared_with_pycocotools_before_a_ratio_is_reported():
    ratio = measure_evaluation(20, 10, "pycocotools", rounds=1)
    assert ratio.ours > 0
    assert ratio.theirs > 0
    with pytest.raises(ConfigError, match="does not exist"):
        measure_evaluation(2, 2, "cocotools", rounds=1)
