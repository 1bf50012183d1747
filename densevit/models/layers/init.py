"""Initial weights of transformers."""

import math

from torch import nn


def init_linear(module: nn.Module) -> None:
    """Linear layers: weights normal (0.02) cut at two sigma, biases 0."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def init_transformer(module: nn.Module) -> None:
    """PVT's: linear layers as `init_linear`, convolutions normal by fan-out."""
    init_linear(module)
    if isinstance(module, nn.Conv2d):
        fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
        nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
        if module.bias is not None:
            nn.init.zeros_(module.bias)
