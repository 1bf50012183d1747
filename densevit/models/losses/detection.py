"""Losses of detection heads, element by element."""

import torch
import torch.nn.functional as F
from torch import Tensor

from densevit.ops.boxes import box_area


def sigmoid_focal_loss(logits: Tensor, target: Tensor, gamma: float = 2.0, alpha: float | Tensor = 0.25) -> Tensor:
    """Focal loss of independent classes (RetinaNet, arXiv 1708.02002, equation 5).

    logits: (N, K). target: (N,) int64, K = background (an all-zero row). alpha: weight of the positives, one for all
    or one a class (K,). Returns (N, K), nothing summed.
    """
    classes = logits.shape[1]
    loss = (1 - alpha) * logits.sigmoid().pow(gamma) * F.softplus(logits)  # as if all were background
    column = target.clamp(max=classes - 1)[:, None]
    own = logits.gather(1, column)
    alpha_of_own = alpha[column] if isinstance(alpha, Tensor) and alpha.ndim else alpha
    hit = alpha_of_own * (-own).sigmoid().pow(gamma) * F.softplus(-own)
    return loss.scatter(1, column, torch.where(target[:, None] < classes, hit, loss.gather(1, column)))


def box_regression_loss(pred: Tensor, target: Tensor, beta: float = 0.0) -> Tensor:
    """Smooth L1 of deltas (Fast R-CNN, arXiv 1504.08083): quadratic below `beta`, plain L1 at beta = 0.

    pred, target: (N, 4). Returns (N, 4), nothing summed.
    """
    return F.smooth_l1_loss(pred, target, reduction="none", beta=beta)


def giou_loss(pred: Tensor, target: Tensor, eps: float = 1e-6) -> Tensor:
    """1 - generalised IoU (arXiv 1902.09630, algorithm 1) of boxes in pairs: (N, 4), (N, 4) -> (N,) in 0 to 2."""
    shared = torch.minimum(pred[:, 2:], target[:, 2:]) - torch.maximum(pred[:, :2], target[:, :2])
    shared = shared.clamp(min=0).prod(1)
    union = (box_area(pred) + box_area(target) - shared).clamp(min=eps)
    hull = torch.maximum(pred[:, 2:], target[:, 2:]) - torch.minimum(pred[:, :2], target[:, :2])
    hull = hull.clamp(min=0).prod(1).clamp(min=eps)
    return 1 - (shared / union - (hull - union) / hull)


def object_loss(logits: Tensor, is_object: Tensor) -> Tensor:
    """Binary cross entropy of "here is an object" (Faster R-CNN, arXiv 1506.01497, equation 1).

    logits: (...) any shape. is_object: of the same shape, bool. Returns the same shape, nothing summed.
    """
    return F.binary_cross_entropy_with_logits(logits, is_object.to(logits), reduction="none")


def class_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Cross entropy of exclusive classes. logits: (N, K + 1), the background last. target: (N,) int64. Returns (N,)."""
    return F.cross_entropy(logits, target, reduction="none")


def mask_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Binary cross entropy of the true class's mask alone (Mask R-CNN, arXiv 1703.06870, section 3): the mean.

    logits, target: (P, m, m). Zero, with a gradient, where there is no mask.
    """
    return F.binary_cross_entropy_with_logits(logits, target, reduction="sum") / max(target.numel(), 1)
