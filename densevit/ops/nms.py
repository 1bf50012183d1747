"""Non-maximum suppression, class by class."""

import torch
import torchvision
from torch import Tensor

LOOP_FROM = 10_000
"""From this many boxes on, one call a group, on boxes where they lie: shifting so many apart costs more."""
CPU_LOOP_FROM = 300
"""From this many boxes on, a CPU takes one group after the other: one call would compare all pairs, of different groups
too."""


def batched_nms(boxes: Tensor, scores: Tensor, groups: Tensor, iou_threshold: float) -> Tensor:
    """Locations kept, by falling score: a box goes when a better one of its group overlaps it by more than the
    threshold.

    boxes: (N, 4). scores: (N,). groups: (N,) int, classes or levels. Groups are shifted apart by the largest
    coordinate + 1 so that one call serves all, as mmcv does (the shift's rounding is part of the reference's numbers).
    """
    if boxes.numel() == 0:
        return groups.new_zeros(0, dtype=torch.long)
    boxes, scores = boxes.float(), scores.float()
    if len(boxes) < LOOP_FROM:
        boxes = boxes + (groups.to(boxes) * (boxes.max() + 1))[:, None]
        if boxes.is_cuda or len(boxes) < CPU_LOOP_FROM:
            return torchvision.ops.nms(boxes, scores, iou_threshold)
    kept = torch.zeros_like(groups, dtype=torch.bool)
    for group in groups.unique():
        members = (groups == group).nonzero().flatten()
        kept[members[torchvision.ops.nms(boxes[members], scores[members], iou_threshold)]] = True
    keep = kept.nonzero().flatten()
    return keep[scores[keep].sort(descending=True, stable=True).indices]


def best_boxes(
    boxes: Tensor, scores: Tensor, groups: Tensor, nms_iou: float, max_per_image: int, min_size: float
) -> Tensor:
    """Locations kept of one image's candidates, by falling score: those whose sides exceed min_size pixels (below 0:
    all), after `batched_nms`, at most max_per_image of them."""
    if min_size < 0:
        return batched_nms(boxes, scores, groups, nms_iou)[:max_per_image]
    large = ((boxes[:, 2:] - boxes[:, :2]) > min_size).all(1).nonzero().flatten()
    return large[batched_nms(boxes[large], scores[large], groups[large], nms_iou)[:max_per_image]]
