"""Losses of class maps, which heads name in their `losses`.

A value that is none of the K classes is ground truth that the head cannot give: such a pixel has no class and counts
nowhere. Means are over the pixels, or the images, of all processes.

Shape letters: B images, K classes, H, W size of a map. Logits are (B, K, H, W), truths (B, H, W) int64.
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from densevit.errors import ConfigError, fill_options
from densevit.models.losses.detection import sigmoid_focal_loss
from densevit.models.losses.processes import mean_over_processes
from densevit.registry import MODELS

AVERAGES = ("known", "all")
OHEM = dict(thresh=None, min_kept=100_000)


class PixelLoss(nn.Module):
    """A loss of class maps, called as loss(logits, truth). A subclass has `name`, under which it is reported.

    Args:
        average: over the pixels that have a class ('known'), or over all of a batch ('all': mmsegmentation's default).
        ignore_index: the value of the pixels that have none, beside all values that are no class; None: every pixel
            counts, and a value that is no class is the background of losses of each class against all others.
        loss_weight: factor of the loss.
    """

    name: str

    def __init__(self, average: str = "known", ignore_index: int | None = 255, loss_weight: float = 1.0):
        super().__init__()
        if average not in AVERAGES:
            raise ConfigError(f"{type(self).__name__} has no average={average!r}: choose from {', '.join(AVERAGES)}")
        self.average, self.ignore_index, self.loss_weight = average, ignore_index, loss_weight

    def known(self, truth: Tensor, classes: int) -> Tensor:
        """Which pixels have one of K `classes`: (B, H, W) bool."""
        if self.ignore_index is None:
            return torch.ones_like(truth, dtype=torch.bool)
        return (truth != self.ignore_index) & _is_class(truth, classes)

    def count(self, known: Tensor) -> Tensor | int:
        """Over how many pixels the mean is taken, at least 1."""
        return mean_over_processes(known.sum() if self.average == "known" else known.numel(), known.device)


@MODELS.register_module()
class CrossEntropyLoss(PixelLoss):
    """Cross entropy of exclusive classes; 0 where no pixel of the batch has a class.

    Args:
        average: as in PixelLoss; with class weights it is the sum of the pixels' weights that is divided by, in which
            an ignored pixel counts nothing, or, with 'all' and its value among the classes, the weight of that class.
        class_weight: a factor for each class.
        ohem: hard pixels alone (OHEM, arXiv 1604.03540): dict(thresh=None or a probability, min_kept=100000). They are
            those whose true class is less probable than `thresh`, or than `min_kept` pixels an image have it at least;
            without `thresh`, the `min_kept` pixels an image of the highest loss. The divisor stays what it was. Each of
            several processes chooses among its own pixels.
        ignore_index, loss_weight: as in PixelLoss.
    """

    name = "loss_ce"

    def __init__(
        self,
        average: str = "known",
        class_weight: Sequence[float] | None = None,
        ignore_index: int | None = 255,
        loss_weight: float = 1.0,
        ohem: Mapping | None = None,
    ):
        super().__init__(average, ignore_index, loss_weight)
        self.register_buffer("class_weight", _as_tensor(class_weight), persistent=False)
        self.ohem = None if ohem is None else fill_options("CrossEntropyLoss's ohem", ohem, OHEM)

    def forward(self, logits: Tensor, truth: Tensor) -> Tensor:
        """A scalar."""
        logits, classes = logits.float(), logits.shape[1]
        known = self.known(truth, classes) & _is_class(truth, classes)
        reduction = "sum" if self.ohem is None else "none"
        target = truth.masked_fill(~known, -100)
        loss = F.cross_entropy(logits, target, self.class_weight, ignore_index=-100, reduction=reduction)
        if self.ohem is not None:
            loss = (loss * self.hard(logits, truth, loss.detach(), known)).sum()
        return self.loss_weight * loss / self.divisor(truth, known)

    def divisor(self, truth: Tensor, known: Tensor) -> Tensor | int:
        """What the sum over the pixels is divided by."""
        if self.class_weight is None:
            return self.count(known)
        table = F.pad(self.class_weight, (0, 1))  # a value beyond the classes weighs nothing
        weights = table[_class_or_last(truth, len(table))]
        if self.average == "known":
            weights = weights * known
        return mean_over_processes(weights.sum(), least=0) + torch.finfo(torch.float32).eps

    @torch.no_grad()
    def hard(self, logits: Tensor, truth: Tensor, loss: Tensor, known: Tensor) -> Tensor:
        """Which pixels count: (B, H, W) bool. loss: (B, H, W)."""
        kept = self.ohem["min_kept"] * len(truth)
        if self.ohem["thresh"] is None:
            if kept >= truth.numel():
                return known
            places = loss.masked_fill(~known, -1).flatten().topk(kept, sorted=False).indices
            return torch.zeros_like(known).flatten().index_fill_(0, places, True).view_as(known) & known
        probability = _of_truth(logits.softmax(1), truth).masked_fill(~known, -torch.inf)
        limit = probability.max()  # of the pixels with a class: where they are fewer than `kept`
        if kept < truth.numel():
            nth = probability.masked_fill(~known, torch.inf).flatten().kthvalue(kept + 1).values
            limit = torch.minimum(limit, nth)
        return known & (probability < limit.clamp(min=self.ohem["thresh"]))


@MODELS.register_module()
class BinaryCrossEntropyLoss(PixelLoss):
    """Binary cross entropy of each class against all others; the mean over pixels and classes.

    Its arguments are PixelLoss's.
    """

    name = "loss_ce"

    def forward(self, logits: Tensor, truth: Tensor) -> Tensor:
        """A scalar."""
        logits, classes = logits.float(), logits.shape[1]
        known = self.known(truth, classes)
        truth = F.one_hot(_class_or_last(truth, classes + 1), classes + 1)[..., :-1].movedim(-1, 1)
        loss = F.binary_cross_entropy_with_logits(logits, truth.to(logits), reduction="none") * known[:, None]
        return self.loss_weight * loss.sum() / (self.count(known) * classes)


@MODELS.register_module()
class DiceLoss(PixelLoss):
    """1 - the Dice coefficient of an image over all classes together (V-Net, arXiv 1606.04797); the images' mean.

    Args:
        probability: 'softmax' of the logits, or 'sigmoid'.
        squared: probabilities squared in the denominator, as in V-Net; False: as they are.
        left_out: a class that takes no part, such as a background.
        eps: keeps the quotient finite.
        average: 'all' counts what is predicted on pixels without a class too, as mmsegmentation does.
        ignore_index, loss_weight: as in PixelLoss.
    """

    name = "loss_dice"

    def __init__(
        self,
        probability: str = "softmax",
        squared: bool = True,
        left_out: int | None = None,
        eps: float = 1e-3,
        average: str = "known",
        ignore_index: int | None = 255,
        loss_weight: float = 1.0,
    ):
        super().__init__(average, ignore_index, loss_weight)
        if probability not in ("softmax", "sigmoid"):
            raise ConfigError(f"DiceLoss has no probability={probability!r}: choose from softmax, sigmoid")
        self.probability, self.squared, self.left_out, self.eps = probability, squared, left_out, eps

    def forward(self, logits: Tensor, truth: Tensor) -> Tensor:
        """A scalar."""
        return self.loss_weight * self.of_images(logits, truth).mean()

    def of_images(self, logits: Tensor, truth: Tensor) -> Tensor:
        """(B,), without `loss_weight`."""
        logits, classes = logits.float(), logits.shape[1]
        known = self.known(truth, classes)
        scores = logits.sigmoid() if self.probability == "sigmoid" else logits.softmax(1)
        true = known & _is_class(truth, classes)
        if self.left_out is not None:
            true = true & (truth != self.left_out)
        shared = (_of_truth(scores, truth) * true).sum((1, 2))
        if self.average == "known":
            scores = scores * known[:, None]
        found = scores.square() if self.squared else scores
        found = found.sum((2, 3)).sum(1) - (found[:, self.left_out].sum((1, 2)) if self.left_out is not None else 0)
        if self.squared:
            return 1 - 2 * shared / (found + true.sum((1, 2)) + 2 * self.eps)
        return 1 - (2 * shared + self.eps) / (found + true.sum((1, 2)) + self.eps)


@MODELS.register_module()
class FocalLoss(PixelLoss):
    """Focal loss of each class against all others (arXiv 1708.02002, equation 5); the mean over pixels and classes.

    Args:
        gamma: power of what is missing to the right answer.
        alpha: weight of the true class, 1 - alpha of the others; one for all or a list of one a class.
        class_weight: a factor for each class.
        average, ignore_index, loss_weight: as in PixelLoss.
    """

    name = "loss_focal"

    def __init__(
        self,
        gamma: float = 2.0,
        alpha: float | Sequence[float] = 0.5,
        class_weight: Sequence[float] | None = None,
        average: str = "known",
        ignore_index: int | None = 255,
        loss_weight: float = 1.0,
    ):
        super().__init__(average, ignore_index, loss_weight)
        self.gamma = gamma
        self.register_buffer("alpha", torch.as_tensor(alpha, dtype=torch.float32), persistent=False)
        self.register_buffer("class_weight", _as_tensor(class_weight), persistent=False)

    def forward(self, logits: Tensor, truth: Tensor) -> Tensor:
        """A scalar."""
        classes = logits.shape[1]
        known = self.known(truth, classes)
        rows = logits.float().movedim(1, -1).flatten(0, 2)  # (B*H*W, K)
        loss = sigmoid_focal_loss(rows, _class_or_last(truth, classes + 1).flatten(), self.gamma, self.alpha)
        if self.class_weight is not None:
            loss = loss * self.class_weight
        return self.loss_weight * (loss * known.flatten()[:, None]).sum() / (self.count(known) * classes)


def _as_tensor(weights: Sequence[float] | None) -> Tensor | None:
    return None if weights is None else torch.tensor(weights, dtype=torch.float32)


def _of_truth(values: Tensor, truth: Tensor) -> Tensor:
    """Those of values (B, K, H, W) that belong to the true class, the last one's where there is none: (B, H, W)."""
    return values.gather(1, _class_or_last(truth, values.shape[1])[:, None])[:, 0]


def _is_class(truth: Tensor, classes: int) -> Tensor:
    """Where ground truth is one of the classes 0 to `classes` - 1: of its shape, bool."""
    return (truth >= 0) & (truth < classes)


def _class_or_last(truth: Tensor, classes: int) -> Tensor:
    """Ground truth, with the last of the classes in place of what is none of them."""
    return torch.where(_is_class(truth, classes), truth, classes - 1)
