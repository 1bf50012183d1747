"""What the time of an evaluation is measured on: both sides score it alike, and it is no empty case."""

import numpy as np
import pytest

from benchmarks.evaluation import OBJECTS, SIZE, draw, measure_evaluation
from densevit.errors import ConfigError
from densevit.metrics.coco_eval import evaluate_coco


def test_drawn_truth_and_detections_are_a_case_with_figures_of_every_size():
    truth, results = draw(60, 20)
    assert len(truth["annotations"]) == 60 * OBJECTS
    assert len(results) == 60 * 20
    boxes = np.array([entry["bbox"] for entry in truth["annotations"]])
    assert boxes.min() >= 0
    assert (boxes[:, :2] + boxes[:, 2:] <= SIZE[::-1]).all()
    figures = evaluate_coco(truth, results, ("bbox", "segm"))
    assert min(figures.values()) >= 0
    assert 0.002 < figures["segm_AP"] < 0.9


def test_figures_are_compared_with_pycocotools_before_a_ratio_is_told():
    ratio = measure_evaluation(20, 10, "pycocotools", rounds=1)
    assert ratio.ours > 0
    assert ratio.theirs > 0
    with pytest.raises(ConfigError, match="does not exist"):
        measure_evaluation(2, 2, "cocotools", rounds=1)
