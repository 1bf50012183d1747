"""Depth from a feature pyramid, merged as in Semantic FPN."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from densevit.models.heads.depth_head import DepthHead
from densevit.models.layers.fused_pyramid import FusedPyramid
from densevit.registry import MODELS


@MODELS.register_module()
class FPNDepthHead(DepthHead):
    """The maps of a pyramid merged at the finest one's stride (as in Semantic FPN), then depth.

    Args:
        in_channels: channels of the incoming maps, fine to coarse.
        in_strides: their strides, each double the one before.
        max_depth: the largest depth that can be predicted, meters.
        channels: of the merged map.
        rest: the other arguments of DepthHead: kind, min_depth, bins, losses, loss_weight, align_corners, init_cfg.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        in_strides: Sequence[int],
        max_depth: float | None = None,
        channels: int = 128,
        **rest: Any,
    ):
        super().__init__(in_strides[0], channels, max_depth=max_depth, **rest)
        self.merge = FusedPyramid(in_channels, in_strides, channels)

    def decode(self, features: Sequence[Tensor]) -> Tensor:
        """features: maps (B, C_i, h_i, w_i). Returns (B, channels, h_0, w_0)."""
        return self.merge(features)
