"""Non-maximum suppression, class by class."""

import torch
import torchvision
from torch import Tensor

LOOP_FROM = 10_000
"""From this many boxes on, one call a class: shifting that many classes apart costs more than it saves."""


def batched_nms(boxes: Tensor, scores: Tensor, groups: Tensor, iou_threshold: float) -> Tensor:
    """Places kept, by falling score: a box goes when a better one of its group overlaps it by more than the threshold.

    boxes: (N, 4). scores: (N,). groups: (N,) int, classes or levels. Groups are shifted apart by the largest
    coordinate + 1 so that one call serves all, as mmcv does (the shift's rounding is part of the reference's numbers).
    """
    if boxes.numel() == 0:
        return groups.new_zeros(0, dtype=torch.long)
    boxes, scores = boxes.float(), scores.float()
    if len(boxes) < LOOP_FROM:
        shift = groups.to(boxes) * (boxes.max() + 1)
        return torchvision.ops.nms(boxes + shift[:, None], scores, iou_threshold)
    kept = []
    for group in groups.unique():
        places = (groups == group).nonzero().flatten()
        kept.append(places[torchvision.ops.nms(boxes[places], scores[places], iou_threshold)])
    keep = torch.cat(kept)
    return keep[scores[keep].sort(descending=True).indices]
