"""Losses of class maps, which heads name in their `losses`.

A value that is none of the K classes is ground truth that the head cannot give: such a pixel has no class and counts
nowhere. Means are over the pixels, or the images, of all processes.

Shape letters: B images, K classes, H, W size of a map. Logits are (B, K, H, W), ground truth (B, H, W) int64.
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from densevit.errors import ConfigError, merge_options
from densevit.models.losses.detection import sigmoid_focal_loss
from densevit.models.losses.processes import mean_over_processes
from densevit.registry import MODELS

OHEM = dict(thresh=None, min_kept=100_000)


class SegmentationLoss(nn.Module):
    """A loss of class maps, called as loss(logits, ground truth). A subclass has `name`, under which it is reported.

    Args:
        avg_non_ignore: mean over the pixels that have a class; False: over all of a batch, mmsegmentation's default.
        ignore_index: the value of the pixels that have none, beside all values that are no class; None: every pixel
            counts, and a value that is no class is the background of losses of each class against all others.
        loss_weight: factor of the loss.
    """

    name: str

    def __init__(self, avg_non_ignore: bool = True, ignore_index: int | None = 255, loss_weight: float = 1.0):
        super().__init__()
        self.avg_non_ignore, self.ignore_index, self.loss_weight = avg_non_ignore, ignore_index, loss_weight

    def known(self, ground_truth: Tensor, classes: int) -> Tensor:
        """Which pixels have one of K `classes`: (B, H, W) bool."""
        if self.ignore_index is None:
            return torch.ones_like(ground_truth, dtype=torch.bool)
        return (ground_truth != self.ignore_index) & _is_class(ground_truth, classes)

    def count(self, known: Tensor) -> Tensor | int:
        """Over how many pixels the mean is taken, at least 1."""
        return mean_over_processes(known.sum() if self.avg_non_ignore else known.numel(), known.device)


@MODELS.register_module()
class CrossEntropyLoss(SegmentationLoss):
    """Cross entropy of exclusive classes; 0 where no pixel of the batch has a class.

    Args:
        avg_non_ignore: as in SegmentationLoss; with class weights it is the sum of the pixels' weights that is divided
            by, in which an ignored pixel counts nothing, or, with False and its value among the classes, the weight of
            that class.
        class_weight: a factor for each class.
        ohem: hard pixels alone (OHEM, arXiv 1604.03540): dict(thresh=None or a probability, min_kept=100000). They are
            those whose true class is less probable than `thresh`, or than `min_kept` pixels an image have it at least;
            without `thresh`, the `min_kept` pixels an image of the highest loss. The divisor stays what it was. Each of
            several processes chooses among its own pixels.
        ignore_index, loss_weight: as in SegmentationLoss.
    """

    name = "loss_ce"

    def __init__(
        self,
        avg_non_ignore: bool = True,
        class_weight: Sequence[float] | None = None,
        ignore_index: int | None = 255,
        loss_weight: float = 1.0,
        ohem: Mapping | None = None,
    ):
        super().__init__(avg_non_ignore, ignore_index, loss_weight)
        self.register_buffer("class_weight", _as_tensor(class_weight), persistent=False)
        self.ohem = None if ohem is None else merge_options("CrossEntropyLoss's ohem", ohem, OHEM)

    def forward(self, logits: Tensor, ground_truth: Tensor) -> Tensor:
        """A scalar."""
        logits, classes = logits.float(), logits.shape[1]
        known = self.known(ground_truth, classes) & _is_class(ground_truth, classes)
        reduction = "sum" if self.ohem is None else "none"
        # cross_entropy skips this value alone, whatever ours is
        target = ground_truth.masked_fill(~known, -100)
        loss = F.cross_entropy(logits, target, self.class_weight, ignore_index=-100, reduction=reduction)
        if self.ohem is not None:
            loss = (loss * self.hard(logits, ground_truth, loss.detach(), known)).sum()
        return self.loss_weight * loss / self.divisor(ground_truth, known)

    def divisor(self, ground_truth: Tensor, known: Tensor) -> Tensor | int:
        """What the sum over the pixels is divided by."""
        if self.class_weight is None:
            return self.count(known)
        table = F.pad(self.class_weight, (0, 1))  # a value beyond the classes weighs nothing
        weights = table[_class_or_last(ground_truth, len(table))]  # (B, H, W)
        if self.avg_non_ignore:
            weights = weights * known
        return mean_over_processes(weights.sum(), least=0) + torch.finfo(torch.float32).eps

    @torch.no_grad()
    def hard(self, logits: Tensor, ground_truth: Tensor, loss: Tensor, known: Tensor) -> Tensor:
        """Which pixels count: (B, H, W) bool. loss: (B, H, W)."""
        kept = self.ohem["min_kept"] * len(ground_truth)
        if self.ohem["thresh"] is None:
            if kept >= ground_truth.numel():
                return known
            locations = loss.masked_fill(~known, -1).flatten().topk(kept, sorted=False).indices
            return torch.zeros_like(known).flatten().index_fill_(0, locations, True).view_as(known) & known
        probability = _of_ground_truth(logits.softmax(1), ground_truth).masked_fill(~known, -torch.inf)
        limit = probability.max()  # of the pixels with a class: where they are fewer than `kept`
        if kept < ground_truth.numel():
            nth = probability.masked_fill(~known, torch.inf).flatten().kthvalue(kept + 1).values
            limit = torch.minimum(limit, nth)
        return known & (probability < limit.clamp(min=self.ohem["thresh"]))


@MODELS.register_module()
class BinaryCrossEntropyLoss(SegmentationLoss):
    """Binary cross entropy of each class against all others; the mean over pixels and classes.

    Its arguments are SegmentationLoss's.
    """

    name = "loss_ce"

    def forward(self, logits: Tensor, ground_truth: Tensor) -> Tensor:
        """A scalar."""
        logits, classes = logits.float(), logits.shape[1]
        known = self.known(ground_truth, classes)
        # (B, K, H, W); the last column, no class, is cut off
        ground_truth = F.one_hot(_class_or_last(ground_truth, classes + 1), classes + 1)[..., :-1].movedim(-1, 1)
        loss = F.binary_cross_entropy_with_logits(logits, ground_truth.to(logits), reduction="none") * known[:, None]
        return self.loss_weight * loss.sum() / (self.count(known) * classes)


@MODELS.register_module()
class DiceLoss(SegmentationLoss):
    """1 - the Dice coefficient of an image over all classes together (V-Net, arXiv 1606.04797); the images' mean.

    Args:
        probability: 'softmax' of the logits, or 'sigmoid'.
        squared: probabilities squared in the denominator, as in V-Net; False: as they are.
        left_out: a class that takes no part, such as a background.
        eps: keeps the quotient finite.
        avg_non_ignore: False counts what is predicted on pixels without a class too, as mmsegmentation does.
        ignore_index, loss_weight: as in SegmentationLoss.
    """

    name = "loss_dice"

    def __init__(
        self,
        probability: str = "softmax",
        squared: bool = True,
        left_out: int | None = None,
        eps: float = 1e-3,
        avg_non_ignore: bool = True,
        ignore_index: int | None = 255,
        loss_weight: float = 1.0,
    ):
        super().__init__(avg_non_ignore, ignore_index, loss_weight)
        if probability not in ("softmax", "sigmoid"):
            raise ConfigError(f"DiceLoss has no probability={probability!r}: choose from softmax, sigmoid")
        self.probability, self.squared, self.left_out, self.eps = probability, squared, left_out, eps

    def forward(self, logits: Tensor, ground_truth: Tensor) -> Tensor:
        """A scalar."""
        return self.loss_weight * self.of_images(logits, ground_truth).mean()

    def of_images(self, logits: Tensor, ground_truth: Tensor) -> Tensor:
        """(B,), without `loss_weight`."""
        logits, classes = logits.float(), logits.shape[1]
        known = self.known(ground_truth, classes)
        scores = logits.sigmoid() if self.probability == "sigmoid" else logits.softmax(1)
        true = known & _is_class(ground_truth, classes)
        if self.left_out is not None:
            true = true & (ground_truth != self.left_out)
        shared = (_of_ground_truth(scores, ground_truth) * true).sum((1, 2))  # (B,)
        if self.avg_non_ignore:
            scores = scores * known[:, None]
        found = scores.square() if self.squared else scores
        # (B,): of all classes together
        found = found.sum((2, 3)).sum(1) - (found[:, self.left_out].sum((1, 2)) if self.left_out is not None else 0)
        if self.squared:
            return 1 - 2 * shared / (found + true.sum((1, 2)) + 2 * self.eps)
        return 1 - (2 * shared + self.eps) / (found + true.sum((1, 2)) + self.eps)


@MODELS.register_module()
class FocalLoss(SegmentationLoss):
    """Focal loss of each class against all others (arXiv 1708.02002, equation 5); the mean over pixels and classes.

    Args:
        gamma: power of what is missing to the right answer.
        alpha: weight of the true class, 1 - alpha of the others; one for all or a list of one a class.
        class_weight: a factor for each class.
        avg_non_ignore, ignore_index, loss_weight: as in SegmentationLoss.
    """

    name = "loss_focal"

    def __init__(
        self,
        gamma: float = 2.0,
        alpha: float | Sequence[float] = 0.5,
        class_weight: Sequence[float] | None = None,
        avg_non_ignore: bool = True,
        ignore_index: int | None = 255,
        loss_weight: float = 1.0,
    ):
        super().__init__(avg_non_ignore, ignore_index, loss_weight)
        self.gamma = gamma
        self.register_buffer("alpha", torch.as_tensor(alpha, dtype=torch.float32), persistent=False)
        self.register_buffer("class_weight", _as_tensor(class_weight), persistent=False)

    def forward(self, logits: Tensor, ground_truth: Tensor) -> Tensor:
        """A scalar."""
        classes = logits.shape[1]
        known = self.known(ground_truth, classes)
        rows = logits.float().movedim(1, -1).flatten(0, 2)  # (B*H*W, K)  # a row a pixel
        loss = sigmoid_focal_loss(rows, _class_or_last(ground_truth, classes + 1).flatten(), self.gamma, self.alpha)
        if self.class_weight is not None:
            loss = loss * self.class_weight
        return self.loss_weight * (loss * known.flatten()[:, None]).sum() / (self.count(known) * classes)


def _as_tensor(weights: Sequence[float] | None) -> Tensor | None:
    return None if weights is None else torch.tensor(weights, dtype=torch.float32)


def _of_ground_truth(values: Tensor, ground_truth: Tensor) -> Tensor:
    """Those of values (B, K, H, W) that belong to the true class, the last one's where there is none: (B, H, W)."""
    return values.gather(1, _class_or_last(ground_truth, values.shape[1])[:, None])[:, 0]  # (B, 1, H, W) -> (B, H, W)


def _is_class(ground_truth: Tensor, classes: int) -> Tensor:
    """Where ground truth is one of the classes 0 to `classes` - 1: of its shape, bool."""
    return (ground_truth >= 0) & (ground_truth < classes)


def _class_or_last(ground_truth: Tensor, classes: int) -> Tensor:
    """Ground truth, with the last of the classes in place of what is none of them."""
    return torch.where(_is_class(ground_truth, classes), ground_truth, classes - 1)
