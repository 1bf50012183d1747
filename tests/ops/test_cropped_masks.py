"""CroppedMasks against the whole bitmaps, through what a training step does with masks."""

import numpy as np
import pytest
import torch

from densevit.datasets.transforms.pack import PackSample
from densevit.datasets.transforms.random_crop import RandomCrop
from densevit.metrics.samples_to_coco import ground_truth_objects
from densevit.models.preprocessor import Preprocessor
from densevit.ops import cropped_masks, roi_align
from densevit.ops.cropped_masks import CroppedMasks, marked

SIZE = (60, 90)


def results(count=40):
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 50, (count, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(1, 40, (count, 2))], 1).astype(np.float32)
    masks = [[np.array([[x1, y1], [x2, y1], [x2, y2]], float)] for x1, y1, x2, y2 in boxes]
    masks[3] = []
    ignore = np.arange(count) % 5 == 0
    return dict(
        img=np.zeros((*SIZE, 3), np.uint8), img_shape=SIZE, ori_shape=SIZE, gt_bboxes=boxes, gt_masks=masks,
        gt_labels=np.zeros(count, np.int64), gt_ignore=ignore, img_id=1, flip=True,
    )  # fmt: skip


@pytest.fixture
def pairs(monkeypatch):
    """A packed sample with whole bitmaps, and the same with cropped ones."""
    whole = PackSample().transform(results())
    monkeypatch.setattr(cropped_masks, "MOST_BYTES", 5000)
    return whole, PackSample().transform(results())


def test_cropped_masks_draw_what_is_asked_for(pairs):
    for name in ("gt_instances", "ignored_instances"):
        whole, cropped = (packed["data_samples"].get(name).masks for packed in pairs)
        assert isinstance(cropped, CroppedMasks) and cropped.shape == tuple(whole.shape) and len(cropped) == len(whole)
        for index in (slice(None), slice(2, 5), torch.tensor([4, 0, 4]), [1], 2, torch.zeros(0, dtype=torch.long)):
            assert torch.equal(cropped[index], whole[index])
        assert cropped.pixels.numel() < whole.numel() / 3
        index = torch.arange(len(whole)).repeat(2)
        assert torch.equal(marked(cropped, index), marked(whole, index))


def test_targets_of_padded_masks_are_the_same_bits(pairs):
    model = Preprocessor(size_divisor=64)
    targets = []
    for packed in pairs:
        batch = model({"inputs": [packed["inputs"]], "data_samples": [packed["data_samples"]]}, training=True)
        instances = batch["data_samples"][0].gt_instances
        assert tuple(instances.masks.shape[1:]) == (64, 128)
        index = torch.from_numpy(np.random.default_rng(1).integers(0, len(instances), 70))
        boxes = instances.bboxes[index] + torch.linspace(-3, 3, 70)[:, None]
        many, few, none = (roi_align.crop_masks(instances.masks, boxes[:n], index[:n], 28) for n in (70, 20, 0))
        assert torch.equal(many[:20], few) and none.shape == (0, 28, 28)
        targets.append(many)
    assert torch.equal(*targets) and targets[0].any()


def test_ground_truth_of_the_samples_is_the_same(pairs):
    first, second = (ground_truth_objects(packed["data_samples"].to_dict())["masks"] for packed in pairs)
    assert first == second and len(first) == 40


def test_boxes_from_masks_are_the_same_in_parts(monkeypatch):
    found = []
    for most in (1 << 28, 5000):
        monkeypatch.setattr(cropped_masks, "MOST_BYTES", most)
        np.random.seed(0)
        out = RandomCrop((50, 40), boxes_from_masks=True).transform(dict(results(), flip=False))
        found.append(out["gt_bboxes"])
        assert ("drawn_masks" in out) == (most > 5000)
    assert np.array_equal(*found) and len(found[0]) > 5
