"""Boxes as (x1, y1, x2, y2) in pixels: overlap, clipping, and the deltas between an anchor and a box.

Shape letters: N, M numbers of boxes; K classes.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

MAX_LOG_RATIO = abs(math.log(16 / 1000))
"""Largest |dw|, |dh| before exp: a box grows or shrinks at most 62.5 times (Fast R-CNN's clip)."""


def box_area(boxes: Tensor) -> Tensor:
    """Area in square pixels: (..., 4) -> (...)."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def pairwise_intersection(a: Tensor, b: Tensor) -> Tensor:
    """Area of overlap of each pair: (N, 4), (M, 4) -> (N, M)."""
    size = torch.minimum(a[:, None, 2:], b[None, :, 2:]) - torch.maximum(a[:, None, :2], b[None, :, :2])
    return size.clamp_(min=0).prod(-1)


def pairwise_iou(a: Tensor, b: Tensor, eps: float = 1e-6) -> Tensor:
    """Intersection over union of each pair: (N, 4), (M, 4) -> (N, M). A union below `eps` counts as `eps`."""
    shared = pairwise_intersection(a, b)
    return shared / (box_area(a)[:, None] + box_area(b)[None, :] - shared).clamp_(min=eps)


def pairwise_iof(a: Tensor, b: Tensor, eps: float = 1e-6) -> Tensor:
    """Share of each box of `a` that lies inside each box of `b`: (N, 4), (M, 4) -> (N, M)."""
    return pairwise_intersection(a, b) / box_area(a)[:, None].clamp(min=eps)


def clip_boxes(boxes: Tensor, shape: tuple[int, int]) -> Tensor:
    """Boxes cut to an image of (height, width): (..., 4) -> (..., 4)."""
    height, width = shape
    return torch.stack(
        (
            boxes[..., 0].clamp(0, width),
            boxes[..., 1].clamp(0, height),
            boxes[..., 2].clamp(0, width),
            boxes[..., 3].clamp(0, height),
        ),
        dim=-1,
    )


def encode_deltas(anchors: Tensor, boxes: Tensor, means: Sequence[float], stds: Sequence[float]) -> Tensor:
    """Deltas (dx, dy, dw, dh) that turn each anchor into its box (R-CNN, arXiv 1311.2524, appendix C).

    anchors, boxes: (N, 4). Returns (N, 4): shifts in units of the anchor's size, logarithms of the size ratios,
    less `means`, divided by `stds`.
    """
    anchors, boxes = anchors.float(), boxes.float()
    anchor_center = (anchors[:, :2] + anchors[:, 2:]) * 0.5
    anchor_size = anchors[:, 2:] - anchors[:, :2]
    center = (boxes[:, :2] + boxes[:, 2:]) * 0.5
    size = boxes[:, 2:] - boxes[:, :2]
    deltas = torch.cat(((center - anchor_center) / anchor_size, torch.log(size / anchor_size)), dim=1)
    return (deltas - deltas.new_tensor(means)) / deltas.new_tensor(stds)


def decode_deltas(
    anchors: Tensor,
    deltas: Tensor,
    means: Sequence[float],
    stds: Sequence[float],
    shape: tuple[int, int] | None = None,
    limit_shrink: bool = True,
) -> Tensor:
    """The boxes that `deltas` make of `anchors`: the inverse of `encode_deltas`.

    anchors: (N, 4). deltas: (N, 4) or (N, 4 K), one group of four a class. shape: (height, width) to clip to.
    Returns boxes of deltas' shape. |dw| and |dh| are clamped to MAX_LOG_RATIO after `stds` and `means` are undone
    (with limit_shrink=False only from above, as detectron2 and torchvision do).
    """
    groups = deltas.reshape(len(anchors), deltas.shape[1] // 4, 4)  # (N, K, 4)
    groups = groups * groups.new_tensor(stds) + groups.new_tensor(means)
    center = ((anchors[:, :2] + anchors[:, 2:]) * 0.5)[:, None]  # (N, 1, 2)
    size = (anchors[:, 2:] - anchors[:, :2])[:, None]
    new_center = center + size * groups[..., :2]
    half = size * groups[..., 2:].clamp(-MAX_LOG_RATIO if limit_shrink else None, MAX_LOG_RATIO).exp() * 0.5
    boxes = torch.cat((new_center - half, new_center + half), dim=-1)
    if shape is not None:
        boxes = clip_boxes(boxes, shape)
    return boxes.reshape(deltas.shape)  # (N, K, 4) -> (N, 4 K)
