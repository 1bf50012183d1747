"""A pyramid out of a plain vision transformer's maps, for heads that need one (mmsegmentation's MultiLevelNeck)."""

from collections.abc import Sequence

import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from densevit.errors import ConfigError
from densevit.kernels.conv import Conv2d
from densevit.models.protocols import Neck
from densevit.ops.resize import resized_strides
from densevit.registry import MODELS


@MODELS.register_module()
class MultiLevelNeck(BaseModule, Neck):
    """On each map a 1x1 convolution, a bilinear resize by its own factor and a 3x3 convolution.

    Args:
        in_channels: channels of the incoming maps.
        in_strides: their strides.
        channels: of each outgoing map; None: as many as the first incoming one has.
        scales: factors of the size, fine to coarse; each makes a map. One incoming map serves them all.
        ceil_mode: a side that halving does not divide is rounded up, and the last row or column counts twice; False:
            down, which leaves it out: mmsegmentation's.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        in_strides: Sequence[int],
        channels: int | None = None,
        scales: Sequence[float] = (4, 2, 1, 0.5),
        ceil_mode: bool = True,
        init_cfg: dict | None = None,
    ):
        super().__init__(init_cfg)
        if len(in_channels) not in (1, len(scales)):
            raise ConfigError(
                f"MultiLevelNeck has {len(scales)} scales, but {len(in_channels)} maps come in: give one scale a map"
            )
        channels = channels or in_channels[0]
        strides = list(in_strides) if len(in_strides) > 1 else [in_strides[0]] * len(scales)
        self.scales, self.ceil_mode = tuple(scales), ceil_mode
        self.out_channels = (channels,) * len(scales)
        self.out_strides = resized_strides(strides, scales)
        self.lateral_convs = nn.ModuleList(nn.Conv2d(width, channels, 1) for width in in_channels)
        self.convs = nn.ModuleList(Conv2d(channels, channels, 3, padding=1) for _ in scales)
        for conv in (*self.lateral_convs, *self.convs):
            nn.init.xavier_uniform_(conv.weight)
            nn.init.zeros_(conv.bias)

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """features: maps (B, C_i, h, w). Returns (B, channels, scale * h, scale * w) for each scale."""
        laterals = [conv(x) for conv, x in zip(self.lateral_convs, features, strict=True)]
        if len(laterals) == 1:
            laterals *= len(self.scales)
        return tuple(
            conv(self.resize(x, scale)) for conv, x, scale in zip(self.convs, laterals, self.scales, strict=True)
        )

    def resize(self, x: Tensor, scale: float) -> Tensor:
        """(B, C, h, w) -> (B, C, scale * h, scale * w), bilinear; the step between samples is 1 / scale exactly."""
        if scale == 1:
            return x
        if self.ceil_mode and scale < 1:
            parts = round(1 / scale)
            missing = [-side % parts for side in x.shape[2:]]  # repeat the border, so that halving rounds up
            x = F.pad(x, (0, missing[1], 0, missing[0]), mode="replicate") if any(missing) else x
        elif scale < 1 and min(x.shape[2:]) * scale < 1:
            raise ConfigError(
                f"MultiLevelNeck cannot shrink a map of {x.shape[2]}x{x.shape[3]} by {scale} with ceil_mode=False: "
                f"nothing is left; use larger images or ceil_mode=True"
            )
        return F.interpolate(x, scale_factor=float(scale), mode="bilinear")
