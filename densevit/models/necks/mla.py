"""Multi-level aggregation of a plain vision transformer's maps (SETR-MLA, arXiv 2012.15840, section 3.2)."""

from collections.abc import Sequence

from mmengine.model import BaseModule
from torch import Tensor, nn

from densevit.errors import ConfigError
from densevit.models.layers.conv_tower import ChannelNorm, conv_block
from densevit.models.protocols import Neck
from densevit.registry import MODELS


@MODELS.register_module()
class MLANeck(BaseModule, Neck):
    """LayerNorm and a 1x1 convolution on each map, sums from the deepest on, and a 3x3 convolution on each sum.

    Args:
        in_channels: channels of the incoming maps, shallow to deep, all at one stride.
        in_strides: their strides.
        channels: of each outgoing map.
        norm: of the convolutions, 'BN' or None (then they have a bias).
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        in_strides: Sequence[int],
        channels: int = 256,
        norm: str | None = "BN",
        init_cfg: dict | None = None,
    ):
        super().__init__(init_cfg)
        if len(set(in_strides)) > 1:
            raise ConfigError(f"MLANeck adds maps of one stride, but those that come in have {tuple(in_strides)}")
        self.norms = nn.ModuleList(ChannelNorm(width) for width in in_channels)
        self.lateral_convs = nn.ModuleList(conv_block(width, channels, 1, norm) for width in in_channels)
        self.output_convs = nn.ModuleList(conv_block(channels, channels, 3, norm) for _ in in_channels)
        self.out_channels = (channels,) * len(in_channels)
        self.out_strides = tuple(in_strides)

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """features: maps (B, C_i, h, w), shallow to deep. Returns as many, the one of the deepest map alone first."""
        laterals = [conv(norm(x)) for conv, norm, x in zip(self.lateral_convs, self.norms, features, strict=True)]
        # from the deepest map to the shallowest, each the sum of all deeper ones
        sums = [laterals.pop()]
        while laterals:
            sums.append(sums[-1] + laterals.pop())
        return tuple(conv(x) for conv, x in zip(self.output_convs, sums, strict=True))
