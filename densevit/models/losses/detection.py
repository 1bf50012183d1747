"""Losses of detection heads, element by element."""

import torch.nn.functional as F
from torch import Tensor


def sigmoid_focal_loss(logits: Tensor, target: Tensor, gamma: float = 2.0, alpha: float = 0.25) -> Tensor:
    """Focal loss of independent classes (RetinaNet, arXiv 1708.02002, equation 5).

    logits: (N, K). target: (N,) int64, K = background (an all-zero row). Returns (N, K), nothing summed.
    """
    classes = logits.shape[1]
    positive = F.one_hot(target, classes + 1)[:, :classes].to(logits)
    probability = logits.sigmoid()
    miss = (1 - probability) * positive + probability * (1 - positive)  # 1 - p_t
    weight = (alpha * positive + (1 - alpha) * (1 - positive)) * miss.pow(gamma)
    return F.binary_cross_entropy_with_logits(logits, positive, reduction="none") * weight


def box_regression_loss(pred: Tensor, target: Tensor, beta: float = 0.0) -> Tensor:
    """Smooth L1 of deltas (Fast R-CNN, arXiv 1504.08083): quadratic below `beta`, plain L1 at beta = 0.

    pred, target: (N, 4). Returns (N, 4), nothing summed.
    """
    return F.smooth_l1_loss(pred, target, reduction="none", beta=beta)
