"""RoIAlign over the levels of a pyramid, and the targets of masks."""

import pytest
import torch
import torchvision

from densevit.errors import ConfigError
from densevit.ops.roi_align import as_rois, crop_masks, multilevel_roi_align, roi_levels

STRIDES = (4, 8, 16, 32)


def random_boxes(count: int, size: float = 512.0, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * size * 0.5
    return torch.cat((corner, corner + torch.rand(count, 2, generator=generator) * size * 0.5 + 1), 1)


def test_a_box_of_224_pixels_is_read_at_stride_16_and_a_double_side_one_level_coarser():
    sides = torch.tensor([10.0, 111.0, 113.0, 223.0, 225.0, 447.0, 449.0, 4000.0])
    boxes = torch.stack((sides * 0, sides * 0, sides, sides), 1)
    for rule in ("finest", "canonical"):
        assert roi_levels(boxes, STRIDES, rule).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert roi_levels(boxes, (8, 16), "canonical").tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert roi_levels(boxes, STRIDES, "finest", finest_size=112).tolist() == [0, 0, 0, 0, 1, 1, 2, 3]
    assert roi_levels(boxes.new_tensor([[5.0, 5.0, 5.0, 9.0], [9.0, 9.0, 4.0, 12.0]]), STRIDES).tolist() == [0, 0]
    with pytest.raises(ConfigError, match="canonical"):
        roi_levels(boxes, STRIDES, "canonic")


def test_the_canonical_rule_and_pooling_equal_torchvisions():
    maps = {str(i): torch.randn(2, 3, 512 // s, 512 // s) for i, s in enumerate(STRIDES)}
    boxes = [random_boxes(20), random_boxes(30, seed=1)]
    pool = torchvision.ops.MultiScaleRoIAlign(list(maps), output_size=7, sampling_ratio=2)
    want = pool(maps, boxes, [(512, 512)] * 2)
    got = multilevel_roi_align(
        list(maps.values()), STRIDES, as_rois(boxes), 7, sampling_ratio=2, aligned=False, level_rule="canonical"
    )
    torch.testing.assert_close(got, want)


def test_each_region_is_read_from_its_own_map_and_image():
    """Maps that are constant, a value each: what is pooled says where it was read."""
    maps = [torch.arange(2.0).view(2, 1, 1, 1).expand(2, 1, 256 // s, 256 // s) + 10 * i for i, s in enumerate(STRIDES)]
    boxes = [random_boxes(40, 256), random_boxes(30, 256, seed=3)]
    pooled = multilevel_roi_align(maps, STRIDES, as_rois(boxes), 5)
    want = 10 * roi_levels(torch.cat(boxes), STRIDES).float() + torch.tensor([0.0] * 40 + [1.0] * 30)
    torch.testing.assert_close(pooled, want.view(-1, 1, 1, 1).expand(70, 1, 5, 5))


def test_a_linear_map_is_pooled_to_the_centers_of_the_bins():
    x = torch.arange(64.0).expand(64, 64)
    maps = [torch.stack((x * 4 + 2, x.t() * 4 + 2))[None]]  # the coordinates of the pixels' centers
    pooled = multilevel_roi_align(maps, (4,), torch.tensor([[0.0, 40.0, 60.0, 120.0, 180.0]]), 4)
    torch.testing.assert_close(pooled[0, 0, 0], 40 + 20 * (torch.arange(4) + 0.5))
    torch.testing.assert_close(pooled[0, 1, :, 0], 60 + 30 * (torch.arange(4) + 0.5))


def test_maps_without_regions_get_a_gradient_and_no_regions_are_none():
    maps = [torch.randn(1, 2, 256 // s, 256 // s, requires_grad=True) for s in STRIDES]
    multilevel_roi_align(maps, STRIDES, torch.tensor([[0.0, 1.0, 1.0, 20.0, 20.0]]), 7).sum().backward()
    assert maps[0].grad.abs().sum() > 0
    assert all(x.grad is not None and not x.grad.any() for x in maps[1:])
    assert multilevel_roi_align(maps, STRIDES, torch.zeros(0, 5), 7).shape == (0, 2, 7, 7)
    assert as_rois([torch.zeros(0, 4), torch.ones(2, 4)]).tolist() == [[1.0, 1.0, 1.0, 1.0, 1.0]] * 2


def test_a_mask_target_is_one_where_half_of_a_bin_is_covered():
    masks = torch.zeros(2, 40, 60, dtype=torch.bool)
    masks[0, 10:30, 20:40] = True
    box = torch.tensor([[20.0, 10.0, 40.0, 30.0], [0.0, 0.0, 60.0, 40.0], [20.0, 10.0, 60.0, 30.0]])
    targets = crop_masks(masks, box, torch.tensor([0, 1, 0]), 4)
    assert targets[0].all()
    assert not targets[1].any()
    assert targets[2].tolist() == [[1.0, 1.0, 0.0, 0.0]] * 4
