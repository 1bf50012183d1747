"""A pyramid out of a plain vision transformer's maps by deconvolutions and pooling (as BEiT and MAE segment with).

Shape letters: B images, C_i channels and s_i strides of the incoming maps, h, w their size.
"""

from collections import OrderedDict
from collections.abc import Sequence

import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from densevit.errors import ConfigError
from densevit.models.protocols import Neck
from densevit.ops.resize import resized_strides
from densevit.registry import MODELS

FACTORS = (4, 2, 1, 0.5, 0.25)


@MODELS.register_module()
class Feature2Pyramid(BaseModule, Neck):
    """Each map enlarged by 2x2 deconvolutions of stride 2 (four times: two, with norm and GELU in between), kept, or
    shrunk by max pooling (BEiT, arXiv 2106.08254, its repository's semantic segmentation).

    Args:
        in_channels: channels of the incoming maps, which each keeps.
        in_strides: their strides.
        scales: factor of each map's size, out of 4, 2, 1, 0.5, 0.25.
        ceil_mode: pooling rounds a side that it does not divide up; False: down, which leaves the last row or
            column out: mmsegmentation's.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        in_strides: Sequence[int],
        scales: Sequence[float] = (4, 2, 1, 0.5),
        ceil_mode: bool = True,
        init_cfg: dict | None = None,
    ):
        super().__init__(init_cfg)
        if len(scales) != len(in_channels) or len(set(scales)) != len(scales) or not set(scales) <= set(FACTORS):
            raise ConfigError(
                f"Feature2Pyramid has scales {tuple(scales)} for {len(in_channels)} maps: give each map one of its "
                f"own, out of {', '.join(map(str, FACTORS))}"
            )
        self.scales, self.ceil = tuple(scales), ceil_mode
        for scale, width in zip(scales, in_channels, strict=True):
            if scale > 1:
                self.add_module(f"up{scale}", _enlarge(width, scale))
        self.out_channels = tuple(in_channels)
        self.out_strides = resized_strides(in_strides, scales)

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """features: maps (B, C_i, h, w). Returns (B, C_i, scale * h, scale * w) of each."""
        return tuple(self.resize(x, scale) for x, scale in zip(features, self.scales, strict=True))

    def resize(self, x: Tensor, scale: float) -> Tensor:
        """(B, C, h, w) -> (B, C, scale * h, scale * w)."""
        if scale > 1:
            return self.get_submodule(f"up{scale}")(x)
        # windows that do not overlap
        return x if scale == 1 else F.max_pool2d(x, round(1 / scale), ceil_mode=self.ceil)


def _enlarge(channels: int, scale: int) -> nn.Sequential:
    """Twice or four times the size."""
    layers = OrderedDict(first=nn.ConvTranspose2d(channels, channels, 2, 2))
    if scale == 4:
        layers |= OrderedDict(norm=nn.BatchNorm2d(channels), gelu=nn.GELU())
        layers["second"] = nn.ConvTranspose2d(channels, channels, 2, 2)
    return nn.Sequential(layers)
