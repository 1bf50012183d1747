"""A random, balanced choice of matched boxes for a training step (Faster R-CNN, arXiv 1506.01497, section 3.1.3)."""

import torch
from torch import Tensor


def sample_matches(index: Tensor, num: int, pos_fraction: float) -> Tensor:
    """Which boxes take part: (N,) bool, drawn without leaving the device.

    index: (N,) int64 as `match_by_iou` gives it: >= 0 positive, -1 background, others are never chosen. At most
    num * pos_fraction positives; background fills up to `num`, as far as there is any.
    """
    keys = torch.rand(index.shape, device=index.device)
    positive = _draw(keys.masked_fill(index < 0, -1), min(int(num * pos_fraction), len(index)))
    background = _draw(keys.masked_fill(index != -1, -1), min(num, len(index)), num - positive.sum())
    return positive | background


def _draw(keys: Tensor, most: int, wanted: Tensor | None = None) -> Tensor:
    """The `most` (and no more than `wanted`) highest keys that are not negative: (N,) bool."""
    best, indices = keys.topk(most)
    taken = best >= 0
    if wanted is not None:
        taken &= torch.arange(most, device=keys.device) < wanted
    return torch.zeros_like(keys, dtype=torch.bool).scatter_(0, indices, taken)
