"""Assigning ground-truth boxes to anchors or proposals.

Shape letters: N boxes to be matched, G true boxes, I ignore regions.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from densevit.ops.boxes import pairwise_iof, pairwise_iou

MOST_PAIRS = 1 << 24
"""Overlaps that are held at once: 64 MiB of each of the few tables of them."""


class Matches(NamedTuple):
    """index (N,) int64: number of the matched true box, -1 background, -2 ignored. overlap (N,): best IoU."""

    index: Tensor
    overlap: Tensor


def match_by_iou(
    boxes: Tensor,
    ground_truth: Tensor,
    pos_iou: float,
    neg_iou: float | tuple[float, float],
    min_pos_iou: float = 0.0,
    ignored: Tensor | None = None,
    ignore_iof: float = -1.0,
    ignore_of_region: bool = False,
    match_low_quality: bool = True,
    match_all_best: bool = True,
    allow_override: bool = True,
    valid: Tensor | None = None,
) -> Matches:
    """Match by highest IoU (Faster R-CNN, section 3.1.2), in mmdetection's order and with its corner cases.

    boxes: (N, 4). ground truth: (G, 4). Steps, each over the one before: everything is ignored; IoU below neg_iou (or
    inside [low, high) of a pair) is background; IoU >= pos_iou belongs to the ground truth of highest IoU; with
    match_low_quality each ground truth whose best IoU reaches min_pos_iou takes its best boxes (all that share the best
    IoU, or with match_all_best=False the first), a later ground truth over an earlier one. With min_pos_iou = 0 a
    ground truth that touches nothing takes every box of IoU 0. With allow_override=False such a box becomes positive,
    but belongs to the ground truth of its own highest IoU, as in detectron2.

    ignored: (I, 4); a box of which more than ignore_iof lies inside a region is ignored (with ignore_of_region: more
    than this share of the region lies inside the box). Without a ground truth everything is background, regions or not.
    valid: (N,) bool; boxes outside of it are ignored and never a ground truth's best.
    """
    if len(ground_truth) == 0 or len(boxes) == 0:
        index = boxes.new_full((len(boxes),), -1, dtype=torch.long)
        if valid is not None:
            index = index.masked_fill(~valid, -2)
        return Matches(index, boxes.new_zeros(len(boxes)))

    excluded = None if valid is None else ~valid  # (N,)
    if ignore_iof > 0 and ignored is not None and len(ignored):
        for part in _parts(ignored, len(boxes)):
            share = pairwise_iof(part, boxes) if ignore_of_region else pairwise_iof(boxes, part).T  # (i, N)
            inside = share.amax(0) > ignore_iof
            excluded = inside if excluded is None else excluded | inside

    overlap, best, last, first_row = None, None, None, 0
    for part in _parts(ground_truth, len(boxes)):
        overlaps = pairwise_iou(part, boxes)  # (g, N)
        if excluded is not None:
            overlaps = overlaps.masked_fill(excluded, -1)
        here, row = overlaps.max(dim=0)
        if overlap is None:
            overlap, best = here, row
        else:  # of equal overlaps the first counts
            higher = here > overlap
            overlap, best = torch.where(higher, here, overlap), torch.where(higher, row + first_row, best)
        if match_low_quality:
            best_of_ground_truth, first = overlaps.max(dim=1, keepdim=True)  # (g, 1)
            if match_all_best:
                taken = overlaps == best_of_ground_truth
            else:
                taken = torch.zeros_like(overlaps, dtype=torch.bool).scatter_(1, first, True)
            taken &= best_of_ground_truth >= min_pos_iou
            number = torch.arange(first_row + 1, first_row + len(part) + 1, device=boxes.device)[:, None]
            taker = (taken * number).amax(0) - 1  # -1 where no ground truth takes the box
            last = taker if last is None else torch.maximum(last, taker)
        first_row += len(part)

    low, high = neg_iou if isinstance(neg_iou, (tuple, list)) else (0.0, neg_iou)
    index = torch.full_like(best, -2)
    index = torch.where((overlap >= low) & (overlap < high), -1, index)
    index = torch.where(overlap >= pos_iou, best, index)
    if match_low_quality:
        index = torch.where(last >= 0, last if allow_override else best, index)
    if valid is not None:
        index = index.masked_fill(~valid, -2)
    return Matches(index, overlap)


def _parts(rows: Tensor, columns: int) -> Sequence[Tensor]:
    """`rows` (R, 4) in parts, so that a table of part x columns has at most MOST_PAIRS entries."""
    return rows.split(max(MOST_PAIRS // columns, 1))
