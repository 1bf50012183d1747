"""The simple feature pyramid of ViTDet (arXiv 2203.16527, section 3): every level from a plain vision transformer's
last map alone.

Shape letters: B images, C channels and s stride of the incoming map, h, w its size.
"""

import math
from collections.abc import Sequence

import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from densevit.errors import ConfigError
from densevit.models.layers.conv_tower import ChannelNorm
from densevit.models.protocols import Neck
from densevit.registry import MODELS

FACTORS = (4, 2, 1, 0.5)


class NormedConv(nn.Conv2d):
    """A convolution that keeps the size, without bias, and a norm over its channels (names of detectron2)."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int):
        super().__init__(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False)
        self.norm = ChannelNorm(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, C, h, w)."""
        return self.norm(super().forward(x))


@MODELS.register_module()
class SimpleFeaturePyramid(BaseModule, Neck):
    """One map enlarged by 2x2 deconvolutions of stride 2 (four times: two, with norm and GELU in between), kept, and
    shrunk by max pooling; on each level a 1x1 and a 3x3 convolution with norms. Names are detectron2's, where a level
    of stride 2^n is called `simfp_n`.

    Args:
        in_channels: channels of the one incoming map.
        in_strides: its stride, a power of two.
        channels: of each outgoing map.
        scales: factor of each level's size, fine to coarse, out of 4, 2, 1, 0.5.
        top_level: whether every other location of the coarsest level makes one more (for the proposals of a detector).
        ceil_mode: pooling rounds a side that it does not divide up; False: down, which leaves the last row or
            column out: detectron2's.

    Raises ConfigError for several maps or a stride that is no power of two.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        in_strides: Sequence[int],
        channels: int = 256,
        scales: Sequence[float] = FACTORS,
        top_level: bool = True,
        ceil_mode: bool = True,
        init_cfg: dict | None = None,
    ):
        super().__init__(init_cfg)
        if len(in_channels) != 1:
            raise ConfigError(
                f"SimpleFeaturePyramid is made of one map, but {len(in_channels)} come in: give the backbone "
                "out_indices of one block, or None for its last"
            )
        if list(scales) != sorted(set(scales) & set(FACTORS), reverse=True) or not scales:
            raise ConfigError(f"SimpleFeaturePyramid has scales {tuple(scales)}: choose from {FACTORS}, in this order")
        strides = [in_strides[0] / scale for scale in scales]
        if not all(stride >= 1 and math.log2(stride).is_integer() for stride in strides):
            raise ConfigError(
                f"SimpleFeaturePyramid makes of a map of stride {in_strides[0]} levels of strides "
                f"{', '.join(f'{stride:g}' for stride in strides)}, which are no powers of two: take patch_size=16 (a "
                "ViT resizes the patch kernel of its weights)"
            )
        self.names = tuple(f"simfp_{round(math.log2(stride))}" for stride in strides)
        for name, scale in zip(self.names, scales, strict=True):
            self.add_module(name, _level(in_channels[0], channels, scale, ceil_mode))
        self.top_level = top_level
        self.out_channels = (channels,) * (len(scales) + top_level)
        self.out_strides = (*map(int, strides), *((2 * int(strides[-1]),) if top_level else ()))

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """features: one map (B, C, h, w). Returns (B, channels, scale * h, scale * w) of each scale, and the top."""
        (x,) = features
        levels = [self.get_submodule(name)(x) for name in self.names]
        if self.top_level:
            levels.append(
                F.max_pool2d(levels[-1], kernel_size=1, stride=2)
            )  # every second location of the coarsest level
        return tuple(levels)


def _level(width: int, channels: int, scale: float, ceil: bool) -> nn.Sequential:
    """One level out of a map of `width` channels."""
    layers: list[nn.Module] = []
    if scale == 4:
        layers = [nn.ConvTranspose2d(width, width // 2, 2, 2), ChannelNorm(width // 2), nn.GELU()]
    if scale > 1:
        layers.append(nn.ConvTranspose2d(width // 2 if layers else width, width // int(scale), 2, 2))
        width //= int(scale)  # channels halve with each doubling of the size
    if scale < 1:
        layers.append(nn.MaxPool2d(2, 2, ceil_mode=ceil))
    return nn.Sequential(*layers, NormedConv(width, channels, 1), NormedConv(channels, channels, 3))
