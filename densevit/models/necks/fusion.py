"""One fine map out of a pyramid, from the coarsest map on (DPT, arXiv 2103.13413, section 3).

Shape letters: B images, C_i channels and h_i, w_i size of the incoming maps, C channels of the fused ones.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from densevit.errors import ConfigError
from densevit.kernels.conv import Conv2d
from densevit.models.layers.conv_tower import BatchNorm
from densevit.models.protocols import Neck
from densevit.ops.resize import resized_strides
from densevit.registry import MODELS

FITS = ("path", "skip")


class ResidualUnit(nn.Module):
    """x + conv(relu(conv(relu(x)))), each convolution with its norm where there is one."""

    def __init__(self, channels: int, norm: str | None, conv_bias: bool):
        super().__init__()
        self.conv1 = Conv2d(channels, channels, 3, padding=1, bias=conv_bias)
        self.conv2 = Conv2d(channels, channels, 3, padding=1, bias=conv_bias)
        self.norm1 = BatchNorm(channels) if norm else nn.Identity()
        self.norm2 = BatchNorm(channels) if norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> the same."""
        inner = self.norm1(self.conv1(x.relu()))
        return x + self.norm2(self.conv2(inner.relu()))


class FusionBlock(nn.Module):
    """A residual unit on what comes in from the side, one on its sum with the path, a 1x1 convolution, enlargement."""

    def __init__(self, channels: int, norm: str | None, conv_bias: bool, skipped: bool):
        super().__init__()
        self.unit1 = ResidualUnit(channels, norm, conv_bias) if skipped else None
        self.unit2 = ResidualUnit(channels, norm, conv_bias)
        self.out_conv = nn.Conv2d(channels, channels, 1)

    def forward(self, path: Tensor, skip: Tensor | None, size: Sequence[int]) -> Tensor:
        """path, skip: (B, C, h, w), of the coarsest map no skip. Returns (B, C, *size)."""
        if self.unit1 is not None:
            if skip.shape != path.shape:
                skip = F.interpolate(skip, path.shape[2:], mode="bilinear")  # a side that halving did not divide
            path = path + self.unit1(skip)
        # a 1x1 convolution and a bilinear enlargement may change locations; behind it there would be four times the
        # work
        return F.interpolate(self.out_conv(self.unit2(path)), tuple(size), mode="bilinear", align_corners=True)


@MODELS.register_module()
class DPTFusion(BaseModule, Neck):
    """On each map a 3x3 convolution, then fusion blocks from the coarsest map to the finest, and one enlargement more.

    Works on any pyramid: `DPTReassemble`'s, or that of a hierarchical backbone as it is.

    Args:
        in_channels: channels of the incoming maps, fine to coarse.
        in_strides: their strides.
        channels: of all maps inside and of the outgoing one.
        norm: of the residual units' convolutions, 'BN' or None.
        conv_bias: whether these have a bias; None: where they have no norm (isl-org). Depth-Anything always has one,
            mmsegmentation none.
        fit: where twice a map's size is not that of the next finer, the path is enlarged to the finer map's size
            ('path': Depth-Anything) or doubled, and the finer map resized to it ('skip': mmsegmentation, transformers).
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        in_strides: Sequence[int],
        channels: int = 256,
        norm: str | None = None,
        conv_bias: bool | None = None,
        fit: str = "path",
        init_cfg: dict | None = None,
    ):
        super().__init__(init_cfg)
        if norm not in (None, "BN"):
            raise ConfigError(f"DPTFusion has no norm={norm!r}: choose from BN, None")
        if fit not in FITS:
            raise ConfigError(f"DPTFusion has no fit={fit!r}: choose from {', '.join(FITS)}")
        self.fit = fit
        conv_bias = norm is None if conv_bias is None else conv_bias
        self.lateral_convs = nn.ModuleList(Conv2d(c, channels, 3, padding=1, bias=False) for c in in_channels)
        # the coarsest map's first
        self.blocks = nn.ModuleList(FusionBlock(channels, norm, conv_bias, i > 0) for i in range(len(in_channels)))
        self.out_channels = (channels,)
        self.out_strides = resized_strides(in_strides[:1], (2,))

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor]:
        """features: maps (B, C_i, h_i, w_i), fine to coarse. Returns one map, (B, C, 2 * h_0, 2 * w_0)."""
        # (B, C, h_i, w_i), fine to coarse
        maps = [conv(x) for conv, x in zip(self.lateral_convs, features, strict=True)]
        path = maps[-1]
        for block, skip, finer in zip(self.blocks, reversed(maps), [*maps[-2::-1], None], strict=True):
            given = finer is not None and self.fit == "path"
            path = block(path, skip, finer.shape[2:] if given else [2 * side for side in path.shape[2:]])
        return (path,)
