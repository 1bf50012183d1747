"""UPerNet's fusion of a pyramid into one map (arXiv 1807.10221), as mmsegmentation builds it.

Shape letters: B batch, C_i channels of the incoming maps, P channels of what comes out, S number of pooling scales.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from densevit.kernels.resized_conv import conv_of_resized
from densevit.models.layers.conv_tower import conv_block
from densevit.models.protocols import Neck
from densevit.registry import MODELS


@MODELS.register_module()
class UPerNet(BaseModule, Neck):
    """Pyramid pooling of the coarsest map, a top-down sum, and all levels fused at the finest one's size.

    What comes out is one map at the stride of the finest; a classifier on it is a head, `FCNHead(num_convs=0)`.

    Args:
        in_channels: channels of the incoming maps, fine to coarse.
        in_strides: their strides.
        channels: P, of every map in between and of the one that comes out.
        pool_scales: the coarsest map is averaged in so many rows and columns (PSPNet, arXiv 1612.01105, section 3.2).
        align_corners: of every bilinear resize.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        in_strides: Sequence[int],
        channels: int = 512,
        pool_scales: Sequence[int] = (1, 2, 3, 6),
        align_corners: bool = False,
        init_cfg: dict | None = None,
    ):
        super().__init__(init_cfg)
        *finer, coarsest = in_channels
        self.pool_scales, self.align_corners = tuple(pool_scales), align_corners
        self.pooled_convs = nn.ModuleList(conv_block(coarsest, channels, 1) for _ in pool_scales)
        self.bottleneck = conv_block(coarsest + len(self.pool_scales) * channels, channels)
        self.lateral_convs = nn.ModuleList(conv_block(width, channels, 1) for width in finer)
        self.fpn_convs = nn.ModuleList(conv_block(channels, channels) for _ in finer)
        self.fusion = conv_block(len(in_channels) * channels, channels)
        self.out_channels, self.out_strides = (channels,), (in_strides[0],)

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor]:
        """features: maps (B, C_i, h_i, w_i), fine to coarse. Returns one map (B, P, h_0, w_0)."""
        x = self.pool(features[-1])
        maps = [x]  # coarse to fine
        for lateral, output, feature in zip(
            reversed(self.lateral_convs), reversed(self.fpn_convs), reversed(features[:-1]), strict=True
        ):
            x = lateral(feature) + self.resize(x, feature.shape[2:])  # top-down sum at the finer map's size
            maps.append(output(x))
        return (self.joined(self.fusion, maps[::-1], maps[-1].shape[2:]),)

    def pool(self, x: Tensor) -> Tensor:
        """Pyramid pooling: (B, C, h, w) -> (B, P, h, w)."""
        branches = zip(self.pool_scales, self.pooled_convs, strict=True)
        pooled = [conv(F.adaptive_avg_pool2d(x, scale)) for scale, conv in branches]  # (B, P, scale, scale)
        return self.joined(self.bottleneck, [x, *pooled], x.shape[2:])

    def joined(self, block: nn.Sequential, maps: Sequence[Tensor], size: Sequence[int]) -> Tensor:
        """A block of convolution, norm and ReLU on the maps (B, C_i, h_i, w_i), resized and joined: (B, P, *size)."""
        return block.relu(block.norm(conv_of_resized(block.conv, maps, size, self.align_corners)))

    def resize(self, x: Tensor, size: Sequence[int]) -> Tensor:
        """(B, P, h, w) -> (B, P, *size), bilinear."""
        if x.shape[2:] == tuple(size):
            return x
        return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=self.align_corners)
