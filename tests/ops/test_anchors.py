import torch
from parity.case import read_case

from densevit.ops.anchors import (
    base_anchors,
    grid_anchors,
    octave_scales,
    pyramid_anchors,
    pyramid_valid,
    valid_anchors,
)

CPU = torch.device("cpu")


def test_base_anchors_have_the_asked_areas_and_ratios():
    anchors = base_anchors(8, octave_scales(4, 3), (0.5, 1.0, 2.0))
    width, height = (anchors[:, 2:] - anchors[:, :2]).unbind(1)
    torch.testing.assert_close(height / width, torch.tensor([0.5, 1.0, 2.0]).repeat_interleave(3))
    torch.testing.assert_close((width * height).sqrt(), 32 * 2 ** (torch.arange(3) / 3).repeat(3))
    torch.testing.assert_close(anchors[:, :2], -anchors[:, 2:])  # centered at (0, 0), not rounded


def test_grid_runs_row_by_row_with_the_anchors_of_a_place_together():
    base = torch.tensor([[-1.0, -1.0, 1.0, 1.0], [-2.0, -2.0, 2.0, 2.0]])
    loop = [base[a] + torch.tensor([x, y, x, y]) * 8 for y in range(3) for x in range(2) for a in range(2)]
    torch.testing.assert_close(grid_anchors(base, (3, 2), 8), torch.stack(loop))


def test_valid_places_are_those_that_touch_the_image():
    valid = valid_anchors((4, 5), (17, 25), 8, 2).view(4, 5, 2)
    assert valid[:3, :4].all()
    assert valid.sum() == 3 * 4 * 2
    assert pyramid_valid(((4, 5),), (32, 40), (8,), 2, CPU) is None  # all valid


def test_cached_anchors_can_be_trained_with_after_inference_mode():
    with torch.inference_mode():
        anchors = pyramid_anchors(((3, 7),), (16,), (1.5,), (1.0,), CPU)[0]
    weight = torch.ones(4, requires_grad=True)
    (anchors * weight).sum().backward()
    assert weight.grad is not None


def test_anchors_equal_mmdetection(shared):
    case = read_case(shared / "parity", "mmdet_loss_parts")
    maps = {name: tuple(map(tuple, sizes)) for name, sizes in case.model["featmap_sizes"].items()}
    spec = case.model["anchor_generators"]
    retina = pyramid_anchors(
        maps["retina"], tuple(spec["retina"]["strides"]), octave_scales(4, 3), (0.5, 1.0, 2.0), CPU
    )
    rpn = pyramid_anchors(maps["rpn"], tuple(spec["rpn"]["strides"]), (8,), (0.5, 1.0, 2.0), CPU)
    valid = pyramid_valid(maps["rpn"], (192, 250), tuple(spec["rpn"]["strides"]), 3, CPU)
    m = spec["minor"]
    minor = [
        grid_anchors(base_anchors(base, m["scales"], m["ratios"], m["scale_major"], m["center_offset"]), size, stride)
        for base, size, stride in zip(m["base_sizes"], maps["minor"], m["strides"], strict=True)
    ]
    assert case.error("anchors_retina", torch.cat(retina)) < 1e-5
    assert case.error("anchors_rpn", torch.cat(rpn)) < 1e-5
    assert case.error("anchor_valid_rpn", valid) == 0
    assert case.error("anchors_minor", torch.cat(minor)) < 1e-5
