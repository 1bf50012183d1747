"""Losses of class maps and depth maps."""

import torch
import torch.nn.functional as F
from torch import Tensor


def pixel_cross_entropy(logits: Tensor, target: Tensor, ignore: int = 255) -> Tensor:
    """Mean cross entropy over the pixels of a batch that have a class.

    logits: (B, K, H, W). target: (B, H, W) int64, `ignore` = no class. A scalar, 0 where no pixel has a class.
    """
    total = F.cross_entropy(logits.float(), target, ignore_index=ignore, reduction="sum")
    return total / (target != ignore).sum().clamp(min=1)


def silog_loss(depth: Tensor, target: Tensor, mean_share: float = 0.5, eps: float = 1e-6) -> Tensor:
    """Scale-invariant log error (Eigen et al., arXiv 1406.2283, equation 4), its square root an image, then the mean.

    d = log depth - log truth over the pixels with truth: sqrt(mean(d^2) - mean_share * mean(d)^2).

    depth: (B, H, W) metres, above 0. target: (B, H, W) metres, 0 = none. A scalar; an image without truth gives 0.
    """
    valid = target > 0
    count = valid.sum((1, 2)).clamp(min=1)
    difference = torch.where(valid, depth.float().clamp(min=eps).log() - target.clamp(min=eps).log(), 0.0)
    mean, square = difference.sum((1, 2)) / count, difference.square().sum((1, 2)) / count
    return (square - mean_share * mean.square() + eps).sqrt().mean()
