"""Depth from the map of `DPTFusion`, as in DPT (arXiv 2103.13413) and Depth-Anything (arXiv 2406.09414)."""

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from densevit.kernels.conv import Conv2d
from densevit.models.heads.dense_head import last_map
from densevit.models.heads.depth_head import DepthHead
from densevit.ops.plain import fixed_size
from densevit.registry import MODELS


@MODELS.register_module()
class DPTDepthHead(DepthHead):
    """A 3x3 convolution to half the channels, enlargement to the image's size, a 3x3 convolution and ReLU, depth.

    Args:
        in_channels: channels of the one map that comes in.
        in_strides: its stride.
        kind: what is predicted, see DepthHead: 'relative', 'sigmoid', 'bins' or 'inverse'.
        max_depth: the largest depth of 'sigmoid' and 'bins', meters.
        channels: of the last 3x3 convolution.
        projection: a 3x3 convolution with ReLU before all (transformers' `add_projection`).
        doubled: the map is enlarged twice, whatever the image's size (transformers on patches of 14 pixels).
        rest: the other arguments of DepthHead: min_depth, bins, inverse, losses, loss_weight, align_corners, init_cfg.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        in_strides: Sequence[float],
        kind: str = "relative",
        max_depth: float | None = None,
        channels: int = 32,
        projection: bool = False,
        doubled: bool = False,
        **rest: Any,
    ):
        width, stride = last_map(in_channels, in_strides, "DPTDepthHead")
        self.factor = 2 if doubled else stride
        super().__init__(stride / self.factor, channels, kind, max_depth, **rest)
        self.projection = Conv2d(width, width, 3, padding=1) if projection else None
        self.conv1 = Conv2d(width, width // 2, 3, padding=1)
        self.conv2 = nn.Conv2d(width // 2, channels, 3, padding=1)

    def decode(self, features: Sequence[Tensor]) -> Tensor:
        """features: one map (B, C, h, w). Returns (B, channels, H, W)."""
        (x,) = features
        if self.projection is not None:
            x = self.projection(x).relu()
        x = self.conv1(x)  # (B, C / 2, h, w)
        # with the stride as the factor this is the image's size, also for patches of 14 pixels
        size = [round(side * self.factor) for side in fixed_size(x.shape[2:])]
        return self.conv2(F.interpolate(x, size, mode="bilinear", align_corners=True)).relu()
