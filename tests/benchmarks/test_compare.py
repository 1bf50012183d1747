"""Outputs that differ are refused before anything is timed."""

import numpy as np
import pytest

from benchmarks.compare import relative_error, require_same
from densevit.errors import ConfigError


def found(seed=0, number=40):
    random = np.random.default_rng(seed)
    corners = random.random((number, 2)) * 300
    boxes = np.concatenate([corners, corners + 20 + random.random((number, 2)) * 100], 1)
    masks = np.zeros((number, 60, 64), bool)
    for i in range(number):
        masks[i, 5 : 20 + i % 30, 3 : 30 + i % 20] = True
    scores, labels = random.random(number), random.integers(0, 5, number)
    return {"boxes_0": boxes, "scores_0": scores, "labels_0": labels, "masks_0": np.packbits(masks, -1)}


def test_the_same_detections_in_another_order_agree():
    ours = {name: value[::-1].copy() for name, value in found().items()}
    assert require_same(ours, found(), "detections", "mmdet") == "100.0% of 40 detections agree"


@pytest.mark.parametrize("name", ["boxes_0", "scores_0", "labels_0", "masks_0"])
def test_detections_that_differ_are_refused(name):
    ours = found()
    ours[name] = ours[name].copy()
    if name == "masks_0":
        ours[name][:3] = 255
    else:
        ours[name][:3] += 1
    with pytest.raises(ConfigError, match=r"ours and mmdet do not give the same.*only 92.5% agree; nothing was timed"):
        require_same(ours, found(), "detections", "mmdet")


def test_a_detection_too_many_counts_too():
    ours = {name: np.concatenate([value, value[:5]]) for name, value in found().items()}
    ours["labels_0"][-5:] = 7
    with pytest.raises(ConfigError, match=r"88.9% agree"):
        require_same(ours, found(), "detections", "mmdet")


def test_nothing_found_is_no_agreement():
    none = found(number=0)
    with pytest.raises(ConfigError, match="finds nothing"):
        require_same(none, none, "detections", "mmdet")


def test_maps_are_held_to_a_thousandth_of_their_largest_value():
    theirs = {"map_0": np.linspace(-4, 2, 60).reshape(3, 20)}
    assert require_same({"map_0": theirs["map_0"] + 0.0039}, theirs, "maps", "timm") == "numbers within 9.8e-04"
    for ours in (theirs["map_0"] + 0.0041, theirs["map_0"] * np.nan, theirs["map_0"].T):
        with pytest.raises(ConfigError, match="map_0 differs by"):
            require_same({"map_0": ours}, theirs, "maps", "timm")
    with pytest.raises(ConfigError, match="outputs differ in kind"):
        require_same({}, theirs, "maps", "timm")


def test_classes_of_pixels_are_held_to_their_logits_and_to_each_other():
    random = np.random.default_rng(0)
    theirs = {"logits": random.random((1, 3, 4, 5)), "pred_0": random.integers(0, 3, (40, 50))}
    words = require_same(theirs, theirs, "classes", "mmseg")
    assert words == "numbers within 0.0e+00, 100.00% of the semantic classes agree"
    wrong = theirs["pred_0"].copy()
    wrong[:2] = 9
    with pytest.raises(ConfigError, match=r"only 95.0% agree"):
        require_same({**theirs, "pred_0": wrong}, theirs, "classes", "mmseg")


def test_an_error_is_relative_to_the_largest_value():
    assert relative_error(np.array([1.0, -3.0]), np.array([1.0, -4.0])) == 0.25
