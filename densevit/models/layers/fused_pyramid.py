"""Panoptic FPN's decoder (arXiv 1901.02446, section 4.1): all maps brought to the finest one's size and added up."""

from collections.abc import Sequence
from math import log2

import torch.nn.functional as F
from torch import Tensor, nn

from densevit.errors import ConfigError
from densevit.kernels.conv import Conv2d


def conv_norm_relu(in_channels: int, out_channels: int) -> nn.Sequential:
    """3x3 convolution without bias, batch norm, ReLU."""
    norm = nn.BatchNorm2d(out_channels)
    return nn.Sequential(Conv2d(in_channels, out_channels, 3, padding=1, bias=False), norm, nn.ReLU(inplace=True))


class FusedPyramid(nn.Module):
    """On each map convolutions, each followed by a doubling of the size until it is the finest map's; then their sum.

    Args:
        in_channels: channels of the incoming maps, fine to coarse.
        in_strides: their strides, each a power of two times the first.
        channels: of the sum.
        align_corners: of the bilinear resizes.
    """

    def __init__(
        self, in_channels: Sequence[int], in_strides: Sequence[int], channels: int, align_corners: bool = False
    ):
        super().__init__()
        self.align_corners = align_corners
        # how often each map is doubled to reach the finest
        doublings = [log2(stride / in_strides[0]) for stride in in_strides]
        if any(n != int(n) or n < 0 for n in doublings):
            raise ConfigError(
                f"a pyramid of strides {tuple(in_strides)} cannot be merged: each is to be double the last"
            )
        self.branches = nn.ModuleList(
            nn.ModuleList(conv_norm_relu(width if i == 0 else channels, channels) for i in range(max(1, int(count))))
            for width, count in zip(in_channels, doublings, strict=True)
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """features: maps (B, C_i, h_i, w_i), fine to coarse. Returns (B, channels, h_0, w_0)."""
        merged = self.branches[0][0](features[0])
        size = merged.shape[2:]
        for branch, x in zip(self.branches[1:], features[1:], strict=True):
            for conv in branch:
                x = F.interpolate(conv(x), scale_factor=2, mode="bilinear", align_corners=self.align_corners)
            if x.shape[2:] != size:  # a side that is no multiple of the coarse stride
                x = F.interpolate(x, size=size, mode="bilinear", align_corners=self.align_corners)
            merged = merged + x
        return merged
