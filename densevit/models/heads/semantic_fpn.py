"""Semantic FPN: each pixel's class from a feature pyramid (Panoptic FPN, arXiv 1901.02446, section 4.1)."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from densevit.models.heads.semantic_head import SemanticHead
from densevit.models.layers.fused_pyramid import FusedPyramid
from densevit.registry import MODELS


@MODELS.register_module()
class SemanticFPNHead(SemanticHead):
    """The maps of a pyramid merged at the finest one's stride, dropout, and one logit a class.

    Args:
        in_channels: channels of the incoming maps, fine to coarse.
        in_strides: their strides, each double the one before.
        num_classes: K.
        channels: of the merged map.
        rest: the arguments of SemanticHead: dropout, losses, loss_weight, align_corners, init_cfg.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        in_strides: Sequence[int],
        num_classes: int,
        channels: int = 128,
        **rest: Any,
    ):
        super().__init__(in_strides[0], num_classes, channels, **rest)
        self.merge = FusedPyramid(in_channels, in_strides, channels, self.align_corners)

    def decode(self, features: Sequence[Tensor]) -> Tensor:
        """features: maps (B, C_i, h_i, w_i). Returns (B, channels, h_0, w_0)."""
        return self.merge(features)
