"""Linear layers, the one place where their kernel on a CPU is chosen.

torch hands float32 to MKL. Where that does not use all of a processor, as on AMD's, oneDNN's product takes half to nine
tenths of the time; elsewhere they are alike. oneDNN adds the bias and applies the GELU while it writes, also in
bfloat16. What is trained takes a 1x1 convolution, which is oneDNN's too and has a backward pass.

The layers are torch's own, so that tools which replace `nn.Linear` (dynamic quantization, LoRA) find them.

Shape letters: C channels that come, K channels that go.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from densevit.ops.plain import plain_form

HAS_BOTH = torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()
LARGE, LARGE_TRAINED = 2**22, 2**29
"""Multiplications from which on the longer way to oneDNN is paid for; and with a backward pass."""

NUMBERS = 2**22
"""Intermediate numbers that are held at a time where a layer may be taken in parts: about what caches take."""


def apply_linear(layer: nn.Module, x: Tensor, gelu: bool = False) -> Tensor:
    """`layer(x)`, with a GELU after it if `gelu` is set: by way of `linear` where the layer is torch.nn.Linear itself.

    A layer with hooks, and one that took the location of torch's (a quantized one), is called as it is.

    Args:
        layer: from C to K channels.
        x: (..., C).

    Returns:
        Tensor: (..., K).
    """
    if type(layer) is nn.Linear and not layer._forward_hooks and not layer._forward_pre_hooks:
        return linear(x, layer.weight, layer.bias, gelu)
    return F.gelu(layer(x)) if gelu else layer(x)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, gelu: bool = False) -> Tensor:
    """F.linear, and a GELU after it where `gelu` is set. x: (..., C). weight: (K, C). bias: (K,) or None. Returns
    (..., K)."""
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
    if plain_form() or x.device.type != "cpu" or not HAS_BOTH or not torch.backends.mkldnn.enabled:
        out = F.linear(x, weight, bias)
    elif torch.is_grad_enabled():
        large = x.numel() * len(weight) >= LARGE_TRAINED
        out = (_pixelwise if large and dtype == weight.dtype == torch.float32 else F.linear)(x, weight, bias)
    elif dtype in (torch.float32, torch.bfloat16) and x.numel() * len(weight) >= LARGE:
        x, weight, bias = x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
        after = ("gelu", [], "none") if gelu else ("none", [], "")
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, *after)
    else:
        out = F.linear(x, weight, bias)
    return F.gelu(out) if gelu else out


def _pixelwise(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """F.linear as a 1x1 convolution of a channels-last image of one row."""
    pixels = x.reshape(1, 1, -1, x.shape[-1]).permute(0, 3, 1, 2)  # (1, C, 1, rows), channels last in memory
    out = F.conv2d(pixels, weight[:, :, None, None], bias)
    # (1, K, 1, rows) -> (..., K), again a view
    return out.permute(0, 2, 3, 1).reshape(*x.shape[:-1], len(weight))


def parts_of(x: Tensor, rows: int, numbers: int) -> int:
    """How many of the rows made of x are to be taken at a time, where each has so many intermediate `numbers`.

    All of them in the plain form, on other devices than a CPU, where its caches hold them, and where a backward pass
    keeps them anyhow.
    """
    if plain_form() or x.device.type != "cpu" or torch.is_grad_enabled() or rows * numbers <= 2 * NUMBERS:
        return max(rows, 1)
    return max(1, NUMBERS // numbers)
