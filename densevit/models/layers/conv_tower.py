"""Convolutions in a row with their norms: LayerNorm over the channels of a map, and batch norm."""

from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from densevit.errors import ConfigError
from densevit.kernels.conv import Conv2d


class ChannelNorm(nn.LayerNorm):
    """Each location of (B, C, H, W) normalized over C (detectron2's "LN")."""

    def __init__(self, channels: int, eps: float = 1e-6):
        super().__init__(channels, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        # (B, H, W, C) and back: a layer norm is over the last axis; views, no copies
        x = F.layer_norm(x.permute(0, 2, 3, 1), self.normalized_shape, self.weight, self.bias, self.eps)
        return x.permute(0, 3, 1, 2)


class BatchNorm(nn.BatchNorm2d):
    """BatchNorm2d that trains on a batch with one value a channel too (one image, pooled to 1x1): by its running mean
    and variance, as there is nothing to measure."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training and x.numel() == x.shape[1]:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(x)


NORMS = {None: None, "LN": ChannelNorm, "BN": BatchNorm}


def conv_block(in_channels: int, out_channels: int, kernel_size: int = 3, norm: str | None = "BN") -> nn.Sequential:
    """A convolution that keeps the size (`conv`), its norm (`norm`; then it has no bias) and a ReLU.

    norm: None, 'LN' for ChannelNorm or 'BN' for BatchNorm; another one raises ConfigError.
    """
    _check(norm)
    conv = Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=norm is None)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    block = nn.Sequential()
    block.add_module("conv", conv)
    if norm is None:
        nn.init.zeros_(conv.bias)
    else:
        block.add_module("norm", NORMS[norm](out_channels))
    block.add_module("relu", nn.ReLU(inplace=True))
    return block


def conv_tower(widths: Sequence[int], norm: str | None = None, kernel_size: int = 3) -> nn.Sequential:
    """Blocks of convolution, norm and ReLU (`conv_block`) from widths[0] to widths[1] and so on."""
    _check(norm)
    return nn.Sequential(*(conv_block(a, b, kernel_size, norm) for a, b in pairwise(widths)))


def _check(norm: str | None) -> None:
    if norm not in NORMS:
        raise ConfigError(f"a convolution has no norm={norm!r}: choose from {', '.join(map(str, NORMS))}")
