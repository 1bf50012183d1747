import pytest
import torch
import torchvision
from parity.case import read_case
from test_boxes import random_boxes

from densevit.ops import nms
from densevit.ops.boxes import pairwise_iou
from densevit.ops.nms import batched_nms


def greedy(boxes, scores, groups, threshold):
    iou, kept = pairwise_iou(boxes, boxes), []
    for i in scores.argsort(descending=True).tolist():
        if all(groups[i] != groups[j] or iou[i, j] <= threshold for j in kept):
            kept.append(i)
    return kept


def test_nms_equals_the_greedy_loop_with_and_without_a_call_a_group(monkeypatch):
    boxes = random_boxes(120, side=30.0)
    scores = torch.rand(120, generator=torch.Generator().manual_seed(3))
    groups = torch.arange(120) % 3
    want = greedy(boxes, scores, groups, 0.4)
    assert batched_nms(boxes, scores, groups, 0.4).tolist() == want
    monkeypatch.setattr(nms, "LOOP_FROM", 10)
    assert batched_nms(boxes, scores, groups, 0.4).tolist() == want


def test_nms_of_nothing_and_in_bfloat16():
    assert batched_nms(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.long), 0.5).tolist() == []
    boxes = torch.tensor([[0, 0, 8, 8], [0, 0, 8, 8]], dtype=torch.bfloat16)
    scores = torch.tensor([0.5, 0.75], dtype=torch.bfloat16)
    assert batched_nms(boxes, scores, torch.zeros(2, dtype=torch.long), 0.5).tolist() == [1]


def test_nms_equals_mmcv(shared):
    case = read_case(shared / "parity", "mmdet_loss_parts")
    boxes, scores, groups = (case.inputs[key] for key in ("nms_boxes", "nms_scores", "nms_classes"))
    assert case.error("nms_keep_05", batched_nms(boxes, scores, groups, 0.5)) == 0
    assert case.error("nms_keep_07", batched_nms(boxes, scores, groups, 0.7)) == 0


@pytest.mark.parametrize("count", [40, 900])
def test_one_group_after_the_other_gives_what_one_call_gives(count):
    """Ties of scores and overlaps at the threshold included."""
    generator = torch.Generator().manual_seed(0)
    corner = (torch.rand(count, 2, generator=generator) * 200).round()
    boxes = torch.cat((corner, corner + (torch.rand(count, 2, generator=generator) * 60).round() + 1), 1)
    scores, groups = torch.randint(0, 50, (count,), generator=generator) / 50, torch.arange(count) % 5
    shifted = boxes + (groups * (boxes.max() + 1))[:, None]
    for threshold in (0.3, 0.5, 0.7):
        assert torch.equal(
            batched_nms(boxes, scores, groups, threshold), torchvision.ops.nms(shifted, scores, threshold)
        )
