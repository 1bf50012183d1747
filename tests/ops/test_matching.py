import pytest
import torch
from parity.case import read_case
from test_boxes import random_boxes

from densevit.ops import matching
from densevit.ops.boxes import pairwise_iou
from densevit.ops.matching import match_by_iou


def brute_force(boxes, ground_truth, pos, neg, min_pos):
    iou = pairwise_iou(ground_truth, boxes)
    index = []
    for j in range(len(boxes)):
        column = iou[:, j]
        best = column.max()
        index.append(int(column.argmax()) if best >= pos else -1 if best < neg else -2)
    for g in range(len(ground_truth)):
        if iou[g].max() >= min_pos:
            for j in range(len(boxes)):
                if iou[g, j] == iou[g].max():
                    index[j] = g
    return index


def test_matching_equals_a_loop_over_boxes():
    boxes, ground_truth = random_boxes(200), random_boxes(9, seed=1)
    got = match_by_iou(boxes, ground_truth, pos_iou=0.5, neg_iou=0.3, min_pos_iou=0.1)
    assert got.index.tolist() == brute_force(boxes, ground_truth, 0.5, 0.3, 0.1)


def test_without_ground_truth_everything_is_background_even_under_an_ignore_region():
    boxes = random_boxes(5)
    got = match_by_iou(boxes, torch.zeros(0, 4), 0.5, 0.4, ignored=boxes, ignore_iof=0.5)
    assert got.index.tolist() == [-1] * 5


def test_boxes_inside_an_ignore_region_do_not_count():
    ground_truth = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [50.0, 50.0, 60.0, 60.0], [80.0, 80.0, 90.0, 90.0]])
    region = torch.tensor([[45.0, 45.0, 65.0, 65.0]])
    got = match_by_iou(boxes, ground_truth, 0.5, 0.4, min_pos_iou=0.5, ignored=region, ignore_iof=0.5)
    assert got.index.tolist() == [0, -2, -1]


def test_places_outside_the_image_are_never_a_ground_truths_best():
    ground_truth = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
    boxes = torch.tensor([[0.0, 0.0, 10.0, 9.0], [0.0, 0.0, 10.0, 6.0]])
    got = match_by_iou(boxes, ground_truth, 0.7, 0.3, min_pos_iou=0.3, valid=torch.tensor([False, True]))
    assert got.index.tolist() == [-2, 0]


def test_assigner_equals_mmdetection(shared):
    case = read_case(shared / "parity", "mmdet_loss_parts")
    x = case.inputs
    indices, labels, overlaps = [], [], []
    for a in case.model["assigners"].values():
        got = match_by_iou(
            x["boxes"],
            x["gt_boxes"],
            a["pos_iou_thr"],
            a["neg_iou_thr"],
            a["min_pos_iou"],
            x["ignored_boxes"],
            a.get("ignore_iof_thr", -1),
            not a.get("ignore_wrt_candidates", True),
            a.get("match_low_quality", True),
            a.get("gt_max_assign_all", True),
        )
        theirs = torch.where(got.index >= 0, got.index + 1, torch.where(got.index == -1, 0, -1))
        indices.append(theirs)
        labels.append(torch.where(got.index >= 0, x["gt_labels"][got.index.clamp(min=0)], -1))
        overlaps.append(got.overlap)
    assert case.error("assign_gt_inds", torch.stack(indices)) == 0
    assert case.error("assign_labels", torch.stack(labels)) == 0
    assert case.error("assign_max_overlaps", torch.stack(overlaps)) < 1e-5


def test_a_ground_truths_best_box_goes_over_to_it_or_stays_with_its_own_best():
    """The second ground truth's best box overlaps the first ground truth more: mmdetection gives it away, detectron2
    does not."""
    ground_truth = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 4.0]])
    boxes = torch.tensor([[0.0, 0.0, 10.0, 8.0], [0.0, 0.0, 10.0, 9.9], [50.0, 50.0, 60.0, 60.0]])
    options = dict(pos_iou=0.9, neg_iou=0.3, min_pos_iou=0.3)
    assert match_by_iou(boxes, ground_truth, **options).index.tolist() == [1, 0, -1]
    assert match_by_iou(boxes, ground_truth, **options, allow_override=False).index.tolist() == [0, 0, -1]


@pytest.mark.parametrize("most", [1, 500, 1100])
@pytest.mark.parametrize(
    "options",
    [
        dict(),
        dict(match_low_quality=False),
        dict(match_all_best=False, allow_override=False),
        dict(ignore_iof=0.3),
        dict(ignore_iof=0.3, ignore_of_region=True, min_pos_iou=0.3),
    ],
)
def test_matching_in_parts_is_matching_at_once(monkeypatch, most, options):
    """Ties across parts too: boxes and ground truth stand twice, and some touch nothing."""
    boxes, ground_truth, regions = random_boxes(60), random_boxes(23, seed=1), random_boxes(31, seed=2)
    boxes, ground_truth = (
        torch.cat((boxes, ground_truth, boxes)),
        torch.cat((ground_truth, ground_truth, ground_truth[:3] + 1e6)),
    )
    given = dict(ignored=regions, valid=torch.arange(len(boxes)) % 7 != 0, pos_iou=0.5, neg_iou=(0.1, 0.4), **options)
    whole = match_by_iou(boxes, ground_truth, **given)
    monkeypatch.setattr(matching, "MOST_PAIRS", most)
    parts = match_by_iou(boxes, ground_truth, **given)
    assert torch.equal(parts.index, whole.index) and torch.equal(parts.overlap, whole.overlap)
    assert (whole.index >= 0).any()
