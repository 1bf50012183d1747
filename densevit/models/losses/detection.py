"""Losses of detection heads, element by element."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from densevit.models.losses.processes import mean_over_processes
from densevit.ops.boxes import box_area

BLOCK = 2**16
"""Logits that are processed together on CPUs."""


def sigmoid_focal_loss(logits: Tensor, target: Tensor, gamma: float = 2.0, alpha: float | Tensor = 0.25) -> Tensor:
    """Focal loss of independent classes (RetinaNet, arXiv 1708.02002, equation 5).

    logits: (N, K). target: (N,) int64, K = background (an all-zero row). alpha: weight of the positives, one for all
    or one a class (K,). Returns (N, K), nothing summed.
    """
    return _FocalLoss.apply(logits, target, gamma, alpha)


class _FocalLoss(torch.autograd.Function):
    """Loss and slope in one go over what a CPU's caches hold, where step by step ten tensors of the logits' size come
    and go, and of which but the slope is kept for the backward pass."""

    @staticmethod
    def forward(ctx, logits: Tensor, target: Tensor, gamma: float, alpha: float | Tensor) -> Tensor:
        loss, slope = torch.empty_like(logits), torch.empty_like(logits)
        rows = max(1, BLOCK // logits.shape[1]) if logits.device.type == "cpu" else max(1, len(logits))
        for x, *out in zip(logits.split(rows), loss.split(rows), slope.split(rows), strict=True):
            _focal_terms(x, 1 - alpha, gamma, *out)  # as if all were background
        location = (target < logits.shape[1]).nonzero().squeeze(1)  # (P,) rows that have a class
        own = target[location]
        weight = alpha[own] if isinstance(alpha, Tensor) and alpha.ndim else alpha
        x = logits[location, own]
        # a positive is a negative whose logit has the other sign
        hit, fall = _focal_terms(-x, weight, gamma, torch.empty_like(x), torch.empty_like(x))
        loss[location, own], slope[location, own] = hit, -fall
        ctx.save_for_backward(slope)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        return grad * ctx.saved_tensors[0], None, None, None


def _focal_terms(x: Tensor, weight: float | Tensor, gamma: float, loss: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
    """weight * sigmoid(x)^gamma * softplus(x), and its derivative, written to `loss` and `slope`."""
    chance, cost = x.sigmoid(), F.softplus(x)
    factor = weight * (chance.square() if gamma == 2 else chance.pow(gamma))
    torch.mul(factor, cost, out=loss)
    torch.mul(factor, cost.mul_(1 - chance).mul_(gamma).add_(chance), out=slope)
    return loss, slope


def box_regression_loss(pred: Tensor, target: Tensor, beta: float = 0.0) -> Tensor:
    """Smooth L1 of deltas (Fast R-CNN, arXiv 1504.08083): quadratic below `beta`, plain L1 at beta = 0.

    pred, target: (N, 4). Returns (N, 4), nothing summed.
    """
    return F.smooth_l1_loss(pred, target, reduction="none", beta=beta)


def giou_loss(pred: Tensor, target: Tensor, eps: float = 1e-6) -> Tensor:
    """1 - generalized IoU (arXiv 1902.09630, algorithm 1) of boxes in pairs: (N, 4), (N, 4) -> (N,) in 0 to 2."""
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


def mask_loss(logits: Tensor, target: Tensor, known: Tensor | None = None) -> Tensor:
    """Binary cross entropy of the true class's mask alone (Mask R-CNN, arXiv 1703.06870, section 3): the mean over the
    masks of all processes.

    logits, target: (P, m, m). known: (P,) bool, which of them count; None: all. Zero, with a gradient, where none does.
    """
    known = target.new_ones(len(target), dtype=torch.bool) if known is None else known
    counted = known[:, None, None].to(logits)
    # masks that do not count have weight 0
    total = F.binary_cross_entropy_with_logits(logits, target, counted, reduction="sum")
    return total / mean_over_processes(known.sum() * target.shape[1:].numel())
