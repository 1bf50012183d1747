"""The base of the semantic heads: the classifier, its losses, and each pixel's class.

Shape letters: B images, K classes, h, w size of the head's map, H, W of the batch, H0, W0 of an original image.
"""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from densevit.models.heads.dense_head import DenseHead
from densevit.models.postprocess import rescale_classes, rescale_probabilities
from densevit.structures import DataSample


class SemanticHead(DenseHead):
    """Dropout and one logit a class and location, `cls_pred`, after a subclass's `decode(features)`.

    Args:
        stride: of the map that `forward` gives.
        num_classes: K.
        channels: of the map that `decode` gives; None: a subclass has a classifier of its own and defines `forward`.
        dropout: share of the decoded map's channels that a training step leaves out.
        losses: config of a loss of class maps, or a list of them; None: CrossEntropyLoss.
        loss_weight: factor of them all.
        align_corners: of the bilinear resizes of the logits.
    """

    semantic = True
    target_key, pred_key = "gt_semantic", "pred_semantic"

    def __init__(
        self,
        stride: float,
        num_classes: int,
        channels: int | None,
        dropout: float = 0.1,
        losses: Mapping | Sequence[Mapping] | None = None,
        loss_weight: float = 1.0,
        align_corners: bool = False,
        init_cfg: dict | None = None,
    ):
        super().__init__(stride, losses or dict(type="CrossEntropyLoss"), loss_weight, align_corners, init_cfg)
        self.num_classes = num_classes
        if channels is not None:
            self.dropout = nn.Dropout2d(dropout)
            self.cls_pred = nn.Conv2d(channels, num_classes, 1)
            nn.init.normal_(self.cls_pred.weight, std=0.01)
            nn.init.zeros_(self.cls_pred.bias)

    def decode(self, features: Sequence[Tensor]) -> Tensor:
        """features: maps (B, C_i, h_i, w_i). Returns the map that is classified, (B, channels, h, w)."""
        raise NotImplementedError

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """features: maps (B, C_i, h_i, w_i). Returns logits (B, K, h, w)."""
        return self.cls_pred(self.dropout(self.decode(features)))

    def restore(self, x: Tensor, sample: DataSample, size: tuple[int, int]) -> Tensor:
        """Logits (K, h, w) of one image -> its classes (H0, W0) int64."""
        return rescale_classes(x, sample, size, self.align_corners)

    def tta_scores(self, x: Tensor, sample: DataSample, size: tuple[int, int]) -> Tensor:
        """Logits (K, h, w) of one view of an image -> the probabilities (K, H0, W0)."""
        return rescale_probabilities(x, sample, size, self.align_corners)

    def tta_decide(self, scores: Tensor) -> Tensor:
        """Mean probabilities (K, H0, W0) -> classes (H0, W0) int64."""
        return scores.argmax(0)
