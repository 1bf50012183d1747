"""From files to metrics: dataset, label rule and metric give what is published beside real data."""

import json

import cv2
import numpy as np
import pytest
import torch
from tiny_semantic import tiny_semantic_dataset

import densevit.datasets  # noqa: F401
from densevit.metrics.semantic import SemanticMetric
from densevit.registry import DATASETS

SCALES = {"as it is": [], "behind a resize": [dict(type="Resize", scale=(200, 100))]}


def build_dataset(classes, root, images, maps, steps=()):
    pipeline = [dict(type="LoadImage"), *steps, dict(type="LoadAnnotations"), dict(type="PackSample")]
    settings = dict(classes=classes, data_prefix=dict(img=images, seg=maps), test_mode=True, pipeline=pipeline)
    dataset = DATASETS.build(tiny_semantic_dataset(root, **settings))
    dataset.full_init()
    return dataset


def metrics(dataset, predict):
    """The metric's metrics and matrix for predictions made by `predict(item number, ground_truth)`."""
    metric = SemanticMetric()
    metric.dataset_meta = dataset.metainfo
    for location in range(len(dataset)):
        sample = dataset[location]["data_samples"]
        ground_truth = sample.get("original_semantic", sample.get("gt_semantic"))
        sample.pred_semantic = torch.from_numpy(predict(location, ground_truth.numpy()))
        metric.process(None, [sample.to_dict()])
    return metric.evaluate(len(dataset))


@pytest.mark.parametrize("steps", SCALES.values(), ids=SCALES)
def test_ade20ks_shift_and_metrics(shared, steps):
    root = shared / "data/ade20k_sample"
    expected = json.loads((root / "expected.json").read_text())
    dataset = build_dataset("ade20k", root, "images", "annotations", steps)
    moved = build_dataset("ade20k", root, "images", "predictions_shifted")
    for location in range(3):
        sample = dataset[location]["data_samples"]
        published, ground_truth = (
            expected["images"][sample.img_id],
            sample.get("original_semantic", sample.get("gt_semantic")),
        )
        assert list(ground_truth.shape) == published["size"][::-1]
        assert int((ground_truth == 255).sum()) == published["unlabelled_pixels"]
        assert (ground_truth.unique()[:-1] + 1).tolist() == published["classes"]
    found = metrics(dataset, lambda location, ground_truth: moved[location]["data_samples"].gt_semantic.numpy())
    assert round(found["semantic/aAcc"], 6) == expected["predictions_shifted"]["pixel_accuracy"]
    assert round(100 * found["semantic/mIoU"], 2) == 56.36 and round(100 * found["semantic/mAcc"], 2) == 66.19
    assert round(found["semantic/mIoU"], 6) == expected["predictions_shifted"]["mean_iou_over_classes_present"]
    # walls that are predicted where there is no class count nowhere
    same = metrics(dataset, lambda location, ground_truth: np.where(ground_truth == 255, 0, ground_truth))
    assert [same[f"semantic/{name}"] for name in ("mIoU", "aAcc", "mAcc")] == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("steps", SCALES.values(), ids=SCALES)
@pytest.mark.parametrize("classes", ["camvid", "info.json"])
def test_camvids_metrics(shared, classes, steps):
    root = shared / "data/camvid_third"
    expected = json.loads((root / "expected.json").read_text())
    dataset = build_dataset(classes, root, "images/test", "labels/test", steps)

    def moved(location, ground_truth):
        called = np.where(ground_truth == 255, 3, ground_truth).astype(np.uint8)
        return cv2.copyMakeBorder(called[:-4, :-7], 4, 0, 7, 0, cv2.BORDER_REPLICATE)

    def bands(location, ground_truth):
        return np.repeat(np.array([0, 1, 3, 3], np.uint8), 90)[:, None].repeat(480, axis=1)

    for predict, name in ((moved, "moved_7_right_4_down"), (bands, "sky_building_road_bands")):
        found = metrics(dataset, predict)
        for metric in ("aAcc", "mIoU", "mAcc"):
            assert round(100 * found[f"semantic/{metric}"], 4) == expected[name][metric]
