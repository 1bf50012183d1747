"""Semantic FPN: the class of each pixel from a feature pyramid (Panoptic FPN, arXiv 1901.02446, section 4.1)."""

from collections.abc import Sequence

from torch import Tensor, nn

from densevit.layers.merged_pyramid import MergedPyramid
from densevit.models.heads.pixel_maps import PixelMapHead
from densevit.models.losses.pixels import pixel_cross_entropy
from densevit.registry import MODELS


@MODELS.register_module()
class SemanticFPNHead(PixelMapHead):
    """The maps of a pyramid merged at the finest one's stride, dropout, and one logit a class.

    Args:
        in_channels: channels of the incoming maps, fine to coarse.
        in_strides: their strides, each double the one before.
        num_classes: K.
        channels: of the merged map.
        dropout: share of the merged map's channels that a training step leaves out.
        loss_weight: factor of `loss_ce`.
    """

    pixel_classes = True
    truth, result = "gt_semantic", "pred_semantic"

    def __init__(
        self,
        in_channels: Sequence[int],
        in_strides: Sequence[int],
        num_classes: int,
        channels: int = 128,
        dropout: float = 0.1,
        loss_weight: float = 1.0,
        init_cfg: dict | None = None,
    ):
        super().__init__(in_strides, init_cfg)
        self.num_classes, self.loss_weight = num_classes, loss_weight
        self.merge = MergedPyramid(in_channels, in_strides, channels)
        self.dropout = nn.Dropout2d(dropout)
        self.classify = nn.Conv2d(channels, num_classes, 1)
        nn.init.normal_(self.classify.weight, std=0.01)
        nn.init.zeros_(self.classify.bias)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """features: maps (B, C_i, h_i, w_i). Returns logits (B, K, h_0, w_0)."""
        return self.classify(self.dropout(self.merge(features)))

    def map_loss(self, maps: Tensor, truth: Tensor) -> dict[str, Tensor]:
        """maps: logits (B, K, H, W). truth: (B, H, W) classes, 255 = none."""
        return {"loss_ce": self.loss_weight * pixel_cross_entropy(maps, truth)}

    def values(self, logits: Tensor) -> Tensor:
        """(K, H, W) logits -> (H, W) int64 classes."""
        return logits.argmax(0)
