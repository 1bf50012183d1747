"""Depth from one map of a plain vision transformer by plain up-sampling (as SETR's decoder does with classes)."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from densevit.models.heads.dense_head import last_map
from densevit.models.heads.depth_head import DepthHead
from densevit.models.layers.conv_tower import conv_block
from densevit.registry import MODELS


@MODELS.register_module()
class GradualDepthHead(DepthHead):
    """Stages of a 3x3 convolution with batch norm and ReLU and a bilinear doubling of the size, then depth.

    Args:
        in_channels: channels of the one map that comes in.
        in_strides: its stride.
        max_depth: the largest depth that can be predicted, meters.
        channels: of the stages; their number is that of the doublings.
        rest: the other arguments of DepthHead: kind, min_depth, bins, losses, loss_weight, align_corners, init_cfg.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        in_strides: Sequence[float],
        max_depth: float | None = None,
        channels: Sequence[int] = (256, 128, 64, 32),
        **rest: Any,
    ):
        width, stride = last_map(in_channels, in_strides, "GradualDepthHead")
        super().__init__(stride / 2 ** len(channels), channels[-1], max_depth=max_depth, **rest)
        self.stages = nn.ModuleList(conv_block(old, new) for old, new in pairwise([width, *channels]))

    def decode(self, features: Sequence[Tensor]) -> Tensor:
        """features: one map (B, C, h, w). Returns (B, channels[-1], 2^n h, 2^n w) after n stages."""
        (x,) = features
        for stage in self.stages:
            # twice the height and width
            x = F.interpolate(stage(x), scale_factor=2, mode="bilinear", align_corners=self.align_corners)
        return x
