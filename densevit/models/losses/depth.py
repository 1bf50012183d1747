"""Losses of depth maps, which heads name in their `losses`: called as loss(prediction, ground truth), both (B, H, W).

Ground truth is in meters, 0 = none: such pixels count nowhere. All is computed in float32, and a batch without any
ground truth gives 0 with gradients of 0. A batch is that of all processes together.
Shape letters: B images, H, W size of a map, N = H * W pixels.
"""

import torch
from torch import Tensor, nn

from densevit.errors import ConfigError
from densevit.models.losses.processes import mean_over_processes, sum_over_processes
from densevit.registry import MODELS

TINY = 1e-12
"""Below the square of any difference of logarithms that float32 resolves; keeps the root's slope finite."""
FLAT = 1e-8
"""Variance below which a predicted map counts as flat, and is shifted but no longer stretched."""


@MODELS.register_module()
class SILogLoss(nn.Module):
    """Scale-invariant log error (Eigen et al., arXiv 1406.2283, equation 4), its square root.

    With d = log prediction - log ground truth, in meters: sqrt(mean(d^2) - variance_focus * mean(d)^2).

    Args:
        variance_focus: how much of a common factor is forgiven, 0 to 1: 0.5 in mmsegmentation and Depth-Anything, 0.85
            in BTS (its variance_focus) and AdaBins.
        over: mean over the pixels of each image, then over the images ('image': mmsegmentation), or over all pixels of
            the batch at once ('batch': BTS, AdaBins, Depth-Anything).
        eps: meters; nearer predictions count as this far away.
        loss_weight: factor of the loss; 10 in BTS and AdaBins.
    """

    name = "loss_silog"

    def __init__(self, variance_focus: float = 0.5, over: str = "image", eps: float = 1e-6, loss_weight: float = 1.0):
        super().__init__()
        if not 0 <= variance_focus <= 1:
            raise ConfigError(f"variance_focus of SILogLoss is a share from 0 to 1, not {variance_focus!r}")
        _require("SILogLoss", "over", over, ("image", "batch"))
        self.variance_focus, self.over, self.eps, self.loss_weight = variance_focus, over, eps, loss_weight

    def forward(self, prediction: Tensor, ground_truth: Tensor) -> Tensor:
        """prediction: (B, H, W) meters. ground truth: (B, H, W) meters, 0 = none. A scalar; images without ground truth
        give 0."""
        prediction, ground_truth = _rows(prediction), _rows(ground_truth)
        if self.over == "batch":
            prediction, ground_truth = prediction.reshape(1, -1), ground_truth.reshape(1, -1)  # the batch as one image
        valid = ground_truth > self.eps
        difference = prediction.clamp(min=self.eps).log() - ground_truth.clamp(min=self.eps).log()
        difference = difference.masked_fill(~valid, 0)
        sums = valid.sum(1), difference.sum(1), difference.square().sum(1)  # (B,) each
        count, mean, square = map(sum_over_processes, sums) if self.over == "batch" else sums
        count = count.clamp(min=1)
        mean, square = mean / count, square / count
        left = square - self.variance_focus * mean.square()
        # where nothing is left the slope would be infinite; what is not a number stays so, and is noticed
        return self.loss_weight * torch.where(left <= TINY, 0, left.clamp(min=TINY).sqrt()).mean()


@MODELS.register_module()
class DepthL1Loss(nn.Module):
    """Mean absolute error, in meters, over the pixels of the batch that have ground truth.

    Args:
        loss_weight: factor of the loss.
    """

    name = "loss_l1"

    def __init__(self, loss_weight: float = 1.0):
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, prediction: Tensor, ground_truth: Tensor) -> Tensor:
        """prediction: (B, H, W) meters. ground truth: (B, H, W) meters, 0 = none. A scalar."""
        ground_truth, valid = ground_truth.float(), ground_truth > 0
        error = (prediction.float() - ground_truth).abs().masked_fill(~valid, 0)
        return self.loss_weight * error.sum() / mean_over_processes(valid.sum())


@MODELS.register_module()
class ScaleShiftInvariantLoss(nn.Module):
    """Error of relative inverse depth once scale and shift of each image are out of it, and that of its edges.

    Ranftl et al., "Towards Robust Monocular Depth Estimation" (MiDaS, arXiv 1907.01341), section 5. The ground truth is
    turned into inverse depth, 1 / meters, here. With r the pixels' difference after alignment the loss is the mean over
    all pixels with ground truth in the batch of r^2 / 2 ('least_squares') or |r| ('median'), and `gradient_weight`
    times the sum over the scales of the mean |r(x + 1, y) - r(x, y)| + |r(x, y + 1) - r(x, y)|, in which both pixels
    need ground truth; scale k uses each 2^k-th pixel of rows and columns.

    Args:
        alignment: 'least_squares' stretches and shifts the prediction onto the ground truth (equation 3); 'median'
            takes from both their median and divides by their mean absolute deviation from it (equations 5 and 6; the
            loss of Depth-Anything, arXiv 2401.10891, equation 3).
        gradient_weight: of the gradient term; 0 leaves it out. 0.5 in MiDaS, 2 in Depth-Anything V2.
        scales: of the gradient term.
        loss_weight: factor of the whole.
    """

    name = "loss_ssi"

    def __init__(
        self,
        alignment: str = "least_squares",
        gradient_weight: float = 0.5,
        scales: int = 4,
        loss_weight: float = 1.0,
    ):
        super().__init__()
        _require("ScaleShiftInvariantLoss", "alignment", alignment, ("least_squares", "median"))
        self.alignment, self.gradient_weight, self.scales = alignment, gradient_weight, scales
        self.loss_weight = loss_weight

    def forward(self, prediction: Tensor, ground_truth: Tensor) -> Tensor:
        """prediction: (B, H, W) inverse depth up to scale and shift. ground truth: (B, H, W) meters, 0 = none. A
        scalar."""
        valid = ground_truth > 0
        target = torch.where(valid, ground_truth, 1).float().reciprocal()
        difference = self.aligned_difference(_rows(prediction), _rows(target), valid.flatten(1)).view_as(target)
        error = difference.abs() if self.alignment == "median" else difference.square() / 2  # (B, H, W)
        steps = [2**scale for scale in range(self.scales if self.gradient_weight else 0)]
        counts = [valid.sum()] + [valid[:, ::step, ::step].sum() for step in steps]
        counts = mean_over_processes(torch.stack(counts))
        loss = error.sum() / counts[0]
        for step, count in zip(steps, counts[1:], strict=True):
            edges = _edges(difference[:, ::step, ::step], valid[:, ::step, ::step])
            loss = loss + self.gradient_weight * (edges / count)
        return self.loss_weight * loss

    def aligned_difference(self, prediction: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        """Prediction minus target (B, N) after the alignment of each image, 0 where not `valid` (B, N)."""
        count = valid.sum(1, keepdim=True).clamp(min=1)

        def mean(values: Tensor) -> Tensor:
            return values.masked_fill(~valid, 0).sum(1, keepdim=True) / count

        if self.alignment == "median":
            parts = []
            for values in (prediction, target):
                centered = values - _median(values, valid)
                parts.append(centered / mean(centered.abs()).clamp(min=FLAT**0.5))
            difference = parts[0] - parts[1]
        else:  # scale = covariance / variance and a shift that makes the means equal: the normal equations, centered
            prediction, target = prediction - mean(prediction), target - mean(target)
            scale = mean(prediction * target) / mean(prediction.square()).clamp(min=FLAT)
            difference = scale * prediction - target
        return difference.masked_fill(~valid, 0)


def _edges(difference: Tensor, valid: Tensor) -> Tensor:
    """Sum of the steps between neighbors that both count; a scalar."""
    across = (difference[:, :, 1:] - difference[:, :, :-1]).abs() * (valid[:, :, 1:] & valid[:, :, :-1])
    down = (difference[:, 1:] - difference[:, :-1]).abs() * (valid[:, 1:] & valid[:, :-1])
    return across.sum() + down.sum()


def _median(values: Tensor, valid: Tensor) -> Tensor:
    """The lower median of those of values (B, N) that count, (B, 1); 0 where none does."""
    # NaN stands for what does not count, as nanmedian skips it
    median = values.masked_fill(~valid, torch.nan).nanmedian(1, keepdim=True).values
    return torch.where(valid.any(1, keepdim=True), median, 0)


def _rows(values: Tensor) -> Tensor:
    """(B, H, W) of any float type -> (B, N) float32."""
    return values.float().flatten(1)


def _require(loss: str, argument: str, given: str, known: tuple[str, ...]) -> None:
    if given not in known:
        raise ConfigError(f"{loss} has no {argument}={given!r}: choose from {', '.join(known)}")
