"""Feature Pyramid Network (arXiv 1612.03144).

Shape letters: B batch, C_i, s_i channels and strides of the incoming maps, L number of outgoing maps.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from densevit.errors import ConfigError
from densevit.kernels.conv import Conv2d
from densevit.models.protocols import Neck
from densevit.registry import MODELS

EXTRA_LEVELS = ("max_pool", "conv_on_input", "conv_on_lateral", "conv_on_output")


@MODELS.register_module()
class FPN(BaseModule, Neck):
    """Top-down pyramid: 1x1 laterals, nearest up-sampling to the finer map's exact size, 3x3 output convolutions.

    Args:
        in_channels: channels of the incoming maps, fine to coarse.
        in_strides: their strides.
        out_channels: channels of every outgoing map.
        start_level: first incoming map that is used.
        end_level: last incoming map that is used; None: all that come.
        num_levels: number of outgoing maps; those beyond the incoming ones each halve the one before.
        extra_levels: how the first extra level is made: 'max_pool' (take every second location of the last map: Mask
            R-CNN's P6), or a 3x3 stride-2 convolution on the last incoming map ('conv_on_input': RetinaNet's P6), on
            its lateral or on its output. Later ones are convolutions of the level before.
        relu_before_extra: ReLU before the convolutions of the second and later extra levels.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        in_strides: Sequence[int],
        out_channels: int = 256,
        start_level: int = 0,
        end_level: int | None = None,
        num_levels: int = 5,
        extra_levels: str = "max_pool",
        relu_before_extra: bool = False,
        init_cfg: dict | None = None,
    ):
        super().__init__(init_cfg)
        if extra_levels not in EXTRA_LEVELS:
            raise ConfigError(f"FPN has no extra_levels={extra_levels!r}: choose from {', '.join(EXTRA_LEVELS)}")
        self.used = slice(start_level, None if end_level is None else end_level + 1)
        used, strides = list(in_channels)[self.used], list(in_strides)[self.used]
        if not 0 < len(used) <= num_levels <= 16:
            raise ConfigError(f"FPN: num_levels={num_levels} for {len(used)} incoming maps: take as many, or up to 16")
        self.extra_levels, self.relu_before_extra = extra_levels, relu_before_extra
        self.num_extra = num_levels - len(used)
        self.lateral_convs = nn.ModuleList(nn.Conv2d(channels, out_channels, 1) for channels in used)
        self.fpn_convs = nn.ModuleList(Conv2d(out_channels, out_channels, 3, padding=1) for _ in used)
        if extra_levels != "max_pool":
            channels = used[-1] if extra_levels == "conv_on_input" else out_channels
            for _ in range(self.num_extra):
                self.fpn_convs.append(nn.Conv2d(channels, out_channels, 3, stride=2, padding=1))
                channels = out_channels
        self.out_channels = (out_channels,) * num_levels
        self.out_strides = tuple(strides + [strides[-1] * 2 ** (i + 1) for i in range(self.num_extra)])
        for conv in (*self.lateral_convs, *self.fpn_convs):
            nn.init.xavier_uniform_(conv.weight)
            nn.init.zeros_(conv.bias)

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """features: (B, C_i, H/s_i, W/s_i) each. Returns L maps of `out_channels`."""
        features = features[self.used]
        # (B, out_channels, h_i, w_i)
        laterals = [conv(x) for conv, x in zip(self.lateral_convs, features, strict=True)]
        for i in range(len(laterals) - 1, 0, -1):
            size = laterals[i - 1].shape[2:]
            # to the finer map's exact size, which need not be double
            laterals[i - 1] = laterals[i - 1] + F.interpolate(laterals[i], size=size, mode="nearest")
        outs = [conv(x) for conv, x in zip(self.fpn_convs, laterals, strict=False)]
        if self.extra_levels == "max_pool":
            for _ in range(self.num_extra):
                outs.append(F.max_pool2d(outs[-1], 1, stride=2))  # every second location
            return tuple(outs)
        source = {"conv_on_input": features[-1], "conv_on_lateral": laterals[-1], "conv_on_output": outs[-1]}
        x = source[self.extra_levels]
        for i, conv in enumerate(self.fpn_convs[len(laterals) :]):
            x = conv(F.relu(x) if i and self.relu_before_extra else x)
            outs.append(x)
        return tuple(outs)
