"""Convolutions in a row, and LayerNorm over the channels of a map."""

from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from densevit.errors import ConfigError


class ChannelNorm(nn.LayerNorm):
    """Each place of (B, C, H, W) normalised over C (detectron2's "LN")."""

    def __init__(self, channels: int, eps: float = 1e-6):
        super().__init__(channels, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        x = F.layer_norm(x.permute(0, 2, 3, 1), self.normalized_shape, self.weight, self.bias, self.eps)
        return x.permute(0, 3, 1, 2)


NORMS = {None: None, "LN": ChannelNorm, "BN": nn.BatchNorm2d}


def conv_tower(widths: Sequence[int], norm: str | None = None) -> nn.Sequential:
    """3x3 convolutions from widths[0] to widths[1] and so on, each with its norm (then it has no bias) and a ReLU.

    norm: None, 'LN' for ChannelNorm or 'BN' for BatchNorm2d; another one raises ConfigError.
    """
    if norm not in NORMS:
        raise ConfigError(f"a tower of convolutions has no norm={norm!r}: choose from {', '.join(map(str, NORMS))}")
    tower = nn.Sequential()
    for i, (a, b) in enumerate(pairwise(widths)):
        conv = nn.Conv2d(a, b, 3, padding=1, bias=norm is None)
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        if conv.bias is not None:
            nn.init.zeros_(conv.bias)
        tower.append(nn.Sequential())
        tower[i].add_module("conv", conv)
        if norm is not None:
            tower[i].add_module("norm", NORMS[norm](b))
        tower[i].add_module("relu", nn.ReLU(inplace=True))
    return tower
