"""Masks and maps back in the original image: every pixel the reference code's, in bounded memory."""

import resource

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pycocotools import mask as coco_mask

from densevit.models import postprocess
from densevit.models.postprocess import rescale_classes, rescale_map, rescale_masks
from densevit.structures import DataSample

LIMIT = 2e9


def original(height, width):
    return DataSample(metainfo=dict(ori_shape=(height, width), img_shape=(17, 23), scale_factor=(0.3, 0.4)))


def pasted(probability, box, height, width):
    """One mask sampled on the whole image, then cut to the box and a pixel around it."""
    x0, y0, x1, y1 = box
    grid = []
    for low, high, side in ((x0, x1, width), (y0, y1, height)):
        locations = (torch.arange(side) + 0.5 - low) / (high - low) * 2 - 1
        grid.append(torch.where(locations.isinf(), 0.0, locations))
    grid = torch.stack((grid[0][None].expand(height, width), grid[1][:, None].expand(height, width)), dim=-1)
    values = F.grid_sample(probability[None, None], grid[None], align_corners=False)[0, 0] >= 0.5
    near = torch.zeros(height, width, dtype=torch.bool)
    left, top = (max(int(v.floor()) - 1, 0) for v in (x0, y0))
    right, bottom = (max(int(v.ceil()) + 1, 0) for v in (x1, y1))
    near[top:bottom, left:right] = True
    return (values & near).numpy()


@pytest.mark.parametrize("seed", range(10))
def test_masks_equal_those_sampled_on_the_whole_image_bit_by_bit(seed):
    generator = torch.Generator().manual_seed(seed)
    height, width = torch.randint(20, 150, (2,), generator=generator).tolist()
    corners = torch.rand(20, 2, 2, generator=generator) * 1.6 - 0.3  # some outside, some cut by the border
    boxes = (corners.sort(dim=1).values * torch.tensor([width, height])).flatten(1)
    probabilities = torch.rand(20, 28, 28, generator=generator)
    if seed % 2:  # whole pixels and saturated masks: values on the threshold itself
        boxes, probabilities = boxes.round(), (probabilities > 0.3).float()
    found = rescale_masks(probabilities, boxes, original(height, width))
    some = 0
    for rle, probability, box in zip(found, probabilities, boxes, strict=True):
        expected = pasted(probability, box, height, width)
        assert np.array_equal(coco_mask.decode(rle), expected)
        # the writing too is pycocotools' own
        assert rle == coco_mask.encode(np.asfortranarray(expected.astype(np.uint8)))
        some += expected.any()
    assert some > 5


def test_a_full_mask_over_the_whole_image_and_columns_from_border_to_border():
    ones = torch.ones(2, 28, 28)
    boxes = torch.tensor([[0.0, 0, 30, 20], [5, -3, 9, 26]])
    whole, columns = coco_mask.decode(rescale_masks(ones, boxes, original(20, 30))).transpose(2, 0, 1)
    assert whole.all()
    assert columns[:, 5:9].all() and columns.sum() == 4 * 20


@pytest.mark.parametrize(
    "box", [(-50, -40, -10, -5), (40, 5, 90, 10), (5, 60, 9, 80), (9, 9, 5, 5), (float("nan"), 0, 5, 5)]
)
def test_boxes_outside_inverted_or_of_nan_give_empty_masks(box):
    (rle,) = rescale_masks(torch.ones(1, 28, 28), torch.tensor([box]), original(20, 30))
    assert rle["size"] == [20, 30] and coco_mask.area(rle) == 0


def test_no_masks_and_other_thresholds():
    assert rescale_masks(torch.zeros(0, 28, 28), torch.zeros(0, 4), original(20, 30)) == []
    probabilities, boxes = torch.full((1, 28, 28), 0.4), torch.tensor([[2.0, 3, 12, 13]])
    assert coco_mask.area(rescale_masks(probabilities, boxes, original(20, 30))[0]) == 0
    assert coco_mask.area(rescale_masks(probabilities, boxes, original(20, 30), 0.4)[0]) >= 64


@pytest.mark.slow
def test_a_hundred_masks_of_a_large_photograph_need_little_memory():
    """Measured: 0.2 GB above what stood before, of the 2 GB allowed."""
    torch.manual_seed(0)
    probabilities = F.interpolate(torch.rand(100, 1, 4, 4), (28, 28), mode="bilinear")[:, 0]
    boxes = torch.tensor([[0.0, 0, 6000, 4000]]).repeat(100, 1) + torch.rand(100, 4) * 20 - 10
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = rescale_masks(probabilities, boxes, original(4000, 6000))
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert grown < LIMIT / 4
    assert len(found) == 100 and all(rle["size"] == [4000, 6000] for rle in found)
    assert coco_mask.area(found[0]) > 1e6


def cut(size, img_shape, ori_shape):
    return DataSample(metainfo=dict(batch_input_shape=size, img_shape=img_shape, ori_shape=ori_shape))


@pytest.mark.parametrize("align_corners", [False, True])
def test_a_map_is_resized_to_the_input_cut_and_resized_to_the_original(align_corners):
    x = torch.randn(3, 7, 9)
    found = rescale_map(x, cut((32, 40), (30, 33), (61, 50)), (32, 40), align_corners)
    whole = F.interpolate(x[None], (32, 40), mode="bilinear", align_corners=align_corners)
    want = F.interpolate(whole[:, :, :30, :33], (61, 50), mode="bilinear", align_corners=align_corners)
    torch.testing.assert_close(found, want[0], rtol=0, atol=0)


@pytest.mark.parametrize("group", [1, 20_000 * 8, 1 << 25], ids=["eights", "sixteens", "all"])
def test_classes_found_group_by_group_are_the_argmax_of_all(monkeypatch, group):
    monkeypatch.setattr(postprocess, "GROUP", group)
    torch.manual_seed(0)
    for size, img_shape, ori_shape in (((96, 72), (90, 70), (100, 90)), ((16, 12), (16, 12), (16, 12))):
        x, sample = torch.randn(37, 16, 12), cut(size, img_shape, ori_shape)
        found = rescale_classes(x, sample, size)
        assert found.dtype == torch.int64
        assert torch.equal(found, rescale_map(x, sample, size).argmax(0))
    ties = torch.randint(0, 2, (37, 16, 12)).float()
    found = rescale_classes(ties, cut(size, img_shape, ori_shape))
    assert torch.equal(found, ties.argmax(0))
    assert len(found.unique()) > 2


@pytest.mark.slow
def test_150_classes_of_a_large_photograph_need_little_memory():
    """Measured: 0.8 GB above what stood before; all classes at once take 7 GB."""
    x = torch.randn(150, 16, 16)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = rescale_classes(x, cut((512, 512), (512, 512), (3000, 4000)), (512, 512))
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert found.shape == (3000, 4000) and len(found.unique()) > 100
    assert grown < 1.5e9
