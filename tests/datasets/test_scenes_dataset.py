"""Scenes as a dataset without a disk: the same scenes as on disk, and the same whoever loads them."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import densevit.datasets  # noqa: F401
from densevit.datasets.scenes import SEMANTIC_CLASSES, render
from densevit.errors import ConfigError
from densevit.metrics import CocoMetric
from densevit.ops.masks import encode_bitmaps
from densevit.registry import DATASETS
from densevit.structures import InstanceData

FLIP, PACK = dict(type="RandomFlip", prob=0.5), dict(type="PackSample")


def build(pipeline=(PACK,), **changes):
    settings = dict(type="ScenesDataset", images=12, size=(96, 128), pipeline=list(pipeline))
    return DATASETS.build({**settings, **changes})


def test_an_item_holds_all_ground_truth_of_its_scene():
    dataset, scene = build(seed=4), render(4, 3, (96, 128))
    item = dataset[3]
    sample = item["data_samples"]
    assert np.array_equal(item["inputs"].permute(1, 2, 0), scene.image)
    assert np.array_equal(sample.gt_instances.bboxes, scene.boxes)
    assert np.array_equal(sample.gt_instances.labels, scene.labels)
    assert np.array_equal(sample.gt_semantic, scene.semantic.astype(int) - 1)
    assert np.array_equal(sample.gt_depth, scene.depth)
    assert sample.gt_semantic.max() < len(dataset.metainfo["semantic_classes"]) == len(SEMANTIC_CLASSES)
    # an object's class is the same in both numberings
    first = sample.gt_instances
    assert dataset.metainfo["semantic_classes"][: len(dataset.metainfo["classes"])] == dataset.metainfo["classes"]
    visible = scene.masks[0]
    assert (sample.gt_semantic.numpy()[visible] == first.labels[0].item()).all()


def test_transforms_depend_on_seed_epoch_and_index_alone():
    dataset, other = build((FLIP, PACK)), build((FLIP, PACK))
    dataset.seed, other.seed = 5, 6  # as the Runner does
    flips = [[dataset[(i, epoch)]["data_samples"].flip for i in range(12)] for epoch in (0, 1)]
    again = [[dataset[(i, epoch)]["data_samples"].flip for i in reversed(range(12))][::-1] for epoch in (0, 1)]
    assert flips == again
    assert flips[0] != flips[1]
    assert flips[0] != [other[(i, 0)]["data_samples"].flip for i in range(12)]
    state = torch.get_rng_state()
    dataset[(0, 0)]
    assert torch.equal(state, torch.get_rng_state())


def test_a_flipped_scene_has_its_ground_truth_flipped():
    plain, flipped = build()[0]["data_samples"], build((dict(FLIP, prob=1.0), PACK))[0]["data_samples"]
    assert torch.equal(plain.gt_semantic.flip(1), flipped.gt_semantic)
    assert torch.equal(plain.gt_depth.flip(1), flipped.gt_depth)
    assert torch.equal(128 - plain.gt_instances.bboxes[:, 2], flipped.gt_instances.bboxes[:, 0])


def test_masks_come_where_they_are_asked_for_and_move_with_the_picture():
    scene = render(0, 3, (96, 128))
    plain = build(with_masks=True)[3]["data_samples"].gt_instances
    assert plain.masks.dtype == torch.bool and np.array_equal(plain.masks, scene.masks)
    pipeline = (dict(type="Resize", scale=(256, 192)), dict(FLIP, prob=1.0), PACK)
    moved = build(pipeline, with_masks=True)[3]["data_samples"].gt_instances.masks
    assert np.array_equal(moved, scene.masks.repeat(2, axis=1).repeat(2, axis=2)[:, :, ::-1])
    assert "masks" not in build()[3]["data_samples"].gt_instances


@pytest.mark.parametrize("scale", [(128, 96), (200, 150)])
def test_true_masks_as_predictions_reach_full_average_precision(scale):
    dataset = build((dict(type="Resize", scale=scale), PACK), with_masks=True, test_mode=True, images=4)
    metric = CocoMetric(metric=["bbox", "segm"])
    metric.dataset_meta = dataset.metainfo
    for i in range(4):
        scene, sample = render(0, i, (96, 128)), dataset[i]["data_samples"]
        found = InstanceData(bboxes=torch.from_numpy(scene.boxes), labels=torch.from_numpy(scene.labels))
        found.scores, found.masks = torch.ones(len(scene.labels)), encode_bitmaps(scene.masks)
        sample.pred_instances = found
        metric.process(None, [sample.to_dict()])
    metrics = metric.evaluate(4)
    assert metrics["coco/segm_AP"] == pytest.approx(1) and metrics["coco/bbox_AP"] == pytest.approx(1)
    assert metrics["coco/segm_APs"] == pytest.approx(1)


def test_held_out_scenes_are_those_that_are_written_as_val(tmp_path):
    script = Path(__file__).parents[2] / "data" / "make_scenes.py"
    command = [sys.executable, script, "--out", tmp_path / "s", "--images", "1", "--val", "2", "--size", "96"]
    subprocess.run([*command, "--workers", "1"], check=True, capture_output=True)
    dataset = build(size=(96, 96), split="val")
    ground_truth = json.loads((tmp_path / "s/annotations/instances_val2017.json").read_text())
    for i, entry in enumerate(sorted(ground_truth["images"], key=lambda image: image["id"])[:2]):
        sample = dataset[i]["data_samples"]
        stem = Path(entry["file_name"]).stem
        classes = cv2.imread(str(tmp_path / f"s/semantic/val/{stem}.png"), cv2.IMREAD_UNCHANGED)
        assert np.array_equal(sample.gt_semantic, classes.astype(int) - 1)
        boxes = [a["bbox"] for a in ground_truth["annotations"] if a["image_id"] == entry["id"]]
        ours = sample.gt_instances.bboxes
        assert torch.equal(torch.tensor(boxes).float()[:, :2], ours[:, :2])


@pytest.mark.parametrize("wrong", [dict(images=0), dict(seed=-1), dict(size=(32, 96))])
def test_settings_that_cannot_be_are_refused(wrong):
    with pytest.raises(ConfigError, match="ScenesDataset"):
        build(**wrong)
