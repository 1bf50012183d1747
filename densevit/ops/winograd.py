"""3x3 convolutions with a quarter of the multiplications (Lavin and Gray, arXiv 1509.09308: F(4x4, 3x3)).

A tile of 6 x 6 pixels and a kernel are polynomials in x and y. Multiplied at 6 x 6 points instead of coefficient by
coefficient, they give 4 x 4 pixels of the outcome for 36 products a channel, not 144. The points are 0, 1, -1, 2, -2
and infinity. Exact but for rounding: about 5e-6 of the largest value in float32, where the plain form has 1e-6.

Shape letters: B images, C channels, K channels of the outcome, H, W size of the map, n, m tiles along y and x.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

STRIP = 3 * 2**20
"""Numbers at all points that are held at a time: about what a processor's caches take."""
AT_POINTS = (
    (1 / 4, 0.0, 0.0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0.0, 0.0, 1.0),
)
"""A kernel's three taps at the six points, with the factors that interpolation needs."""


def conv_same(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """A convolution of stride 1 that keeps the size, by whichever form is the faster one.

    x: (B, C, H, W). weight: (K, C, k, k), k odd. bias: (K,) or None. Returns (B, K, H, W).
    """
    if winograd_is_faster(x, weight):
        return _Winograd.apply(x, weight, bias) if torch.is_grad_enabled() else winograd(x, weight, bias)
    return F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2)


def winograd_is_faster(x: Tensor, weight: Tensor) -> bool:
    """3x3 in float32 on a CPU: many channels, and a map large enough to pay for the kernel's way to the points and for
    what the last tiles stick out."""
    if weight.shape[2:] != (3, 3) or torch.compiler.is_compiling() or x.device.type != "cpu":
        return False
    if x.dtype != torch.float32 or weight.dtype != torch.float32 or torch.is_autocast_enabled("cpu"):
        return False
    channels = min(weight.shape[:2])
    height, width = x.shape[2:]
    tiles = -(-height // 4) * -(-width // 4)
    return channels >= 128 and len(x) * tiles >= 128 and tiles * 16 <= 1.2 * height * width


class _Winograd(torch.autograd.Function):
    """`winograd` with its backward pass: the gradient of a map is such a convolution too, with the kernel turned."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.bias_sizes = None if bias is None else list(bias.shape)
        return winograd(x, weight, bias).contiguous(memory_format=torch.channels_last)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        for_x, for_weight, for_bias = ctx.needs_input_grad
        of_x = conv_same(grad, weight.flip(2, 3).transpose(0, 1)) if for_x else None
        shape = [1, 1], [1, 1], [1, 1], False, [0, 0], 1  # stride, padding, dilation, not transposed, groups
        _, of_weight, of_bias = torch.ops.aten.convolution_backward(
            grad, x, weight, ctx.bias_sizes, *shape, [False, for_weight, for_bias]
        )
        return of_x, of_weight, of_bias


@torch.no_grad()
def winograd(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`conv_same` by way of the points, strip by strip of the map; it is not differentiated itself."""
    many, channels, height, width = x.shape
    n, m = -(-height // 4), -(-width // 4)
    kernel = _kernel_at_points(weight)
    pixels = x.permute(0, 2, 3, 1)
    out = torch.empty((many, len(weight), 4 * n, 4 * m), dtype=x.dtype, memory_format=torch.channels_last)
    by_tile = out.permute(0, 2, 3, 1)
    rows = max(1, STRIP // (36 * many * m * max(channels, len(weight))))
    for first in range(0, n, rows):
        some = min(rows, n - first)
        tall = 4 * some + 2  # rows of pixels, one above and one below included
        top, bottom = max(4 * first - 1, 0), min(4 * first - 1 + tall, height)
        strip = x.new_zeros(many, tall, 4 * m + 2, channels)
        strip[:, top - (4 * first - 1) : bottom - (4 * first - 1), 1 : width + 1] = pixels[:, top:bottom]

        along_y = x.new_empty(6, many, some, 4 * m + 2, channels)
        _to_points([strip[:, i : i + 4 * some - 3 : 4] for i in range(6)], along_y)
        points = x.new_empty(6, 6, many, some, m, channels)  # first x, then y
        _to_points([along_y[:, :, :, i : i + 4 * m - 3 : 4] for i in range(6)], points)

        products = torch.bmm(points.view(36, -1, channels), kernel).view(6, 6, many, some, m, -1)
        if bias is not None:
            products[1, 1] += bias  # at the point (1, 1) a number reaches each pixel of the tile once
        along_x = x.new_empty(4, 6, many, some, m, len(weight))
        _from_points(products, along_x)
        tiles = by_tile[:, 4 * first : 4 * (first + some)].view(many, some, 4, m, 4, -1).permute(2, 4, 0, 1, 3, 5)
        _from_points(along_x.transpose(0, 1), tiles)
    # a view may not be changed in place where autograd has a part in it: this has the memory and is none
    return out if out.shape[2:] == x.shape[2:] else x.new_empty(0).set_(out[:, :, :height, :width])


def _kernel_at_points(weight: Tensor) -> Tensor:
    """(K, C, 3, 3) -> (36, C, K), the points of x before those of y."""
    along = torch.tensor(AT_POINTS, dtype=weight.dtype)
    both = torch.einsum("ax,by->abyx", along, along).reshape(36, 9)
    return (both @ weight.reshape(-1, 9).t()).view(36, *weight.shape[:2]).transpose(1, 2)


def _to_points(d: Sequence[Tensor], out: Tensor) -> None:
    """Six pixels in a row at the six points: out[i] of each."""
    even, odd = torch.sub(d[4], d[2], alpha=4), torch.sub(d[3], d[1], alpha=4)
    torch.add(even, odd, out=out[1])
    torch.sub(even, odd, out=out[2])
    torch.sub(d[4], d[2], out=even)
    torch.sub(d[3], d[1], out=odd)
    torch.sub(d[5], d[3], out=out[5]).sub_(odd, alpha=4)
    torch.add(even, odd, alpha=2, out=out[3])
    torch.sub(even, odd, alpha=2, out=out[4])
    torch.sub(d[0], d[2], out=out[0])
    torch.add(even, out[0], alpha=4, out=out[0])


def _from_points(p: Tensor, out: Tensor) -> None:
    """The four pixels out[i] of what stands at the six points."""
    even, odd = p[1] + p[2], p[1] - p[2]
    even_2, odd_2 = p[3] + p[4], p[3] - p[4]
    torch.add(even, even_2, out=out[0]).add_(p[0])
    torch.add(odd, odd_2, alpha=2, out=out[1])
    torch.add(even, even_2, alpha=4, out=out[2])
    torch.add(odd, odd_2, alpha=8, out=out[3]).add_(p[5])
