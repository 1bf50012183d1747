"""3x3 convolutions with a quarter of the multiplications (Lavin and Gray, arXiv 1509.09308: F(4x4, 3x3)).

A tile of 6 x 6 pixels and a kernel are polynomials in x and y. Multiplied at 6 x 6 points instead of coefficient by
coefficient, they give 4 x 4 pixels of the outcome for 36 products a channel, not 144. The points are 0, 1, -1, 2, -2
and infinity. Exact but for rounding: about 5e-6 of the largest value in float32, where the plain form has 1e-6.

Shape letters: B images, C channels, K channels of the outcome, H, W size of the map, n, m tiles along y and x.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from densevit.ops.plain import plain_form

STRIP = 6 * 2**20
"""Numbers at all points that are held at a time: a few times what a processor's caches take."""
TILE = (
    (4.0, 0.0, -5.0, 0.0, 1.0, 0.0),
    (0.0, -4.0, -4.0, 1.0, 1.0, 0.0),
    (0.0, 4.0, -4.0, -1.0, 1.0, 0.0),
    (0.0, -2.0, -1.0, 2.0, 1.0, 0.0),
    (0.0, 2.0, -1.0, -2.0, 1.0, 0.0),
    (0.0, 4.0, 0.0, -5.0, 0.0, 1.0),
)
"""Six pixels in a row at the six points."""
KERNEL = (
    (1 / 4, 0.0, 0.0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0.0, 0.0, 1.0),
)
"""A kernel's three taps at the six points, with the factors that interpolation needs."""
PIXELS = (
    (1.0, 1.0, 1.0, 1.0, 1.0, 0.0),
    (0.0, 1.0, -1.0, 2.0, -2.0, 0.0),
    (0.0, 1.0, 1.0, 4.0, 4.0, 0.0),
    (0.0, 1.0, -1.0, 8.0, -8.0, 1.0),
)
"""The four pixels of what stands at the six points."""


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
    if plain_form() or weight.shape[2:] != (3, 3) or x.device.type != "cpu":
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
    """`conv_same` by way of the points, strip by strip of the map; it is not differentiated itself.

    Each strip is five steps, however many channels it has: tiles are cut, brought to the points by one product,
    multiplied, brought back by another product, and laid down. Threads meet at the end of each step, which costs
    milliseconds on a shared machine, so there are few of them.
    """
    many, channels, height, width = x.shape
    n, m = -(-height // 4), -(-width // 4)
    to_points, kernel_to_points, from_points = (torch.tensor(way, dtype=x.dtype) for way in (TILE, KERNEL, PIXELS))
    kernel = torch.kron(kernel_to_points, kernel_to_points) @ weight.reshape(-1, 9).t()  # (36, K*C)
    kernel = kernel.view(36, *weight.shape[:2]).transpose(1, 2)  # (36, C, K)
    to_points, from_points = torch.kron(to_points, to_points), torch.kron(from_points, from_points)
    padded = x.new_zeros(many, 4 * n + 2, 4 * m + 2, channels)
    padded[:, 1 : height + 1, 1 : width + 1] = x.permute(0, 2, 3, 1)
    out = torch.empty((many, len(weight), 4 * n, 4 * m), dtype=x.dtype, memory_format=torch.channels_last)
    by_tile = out.permute(0, 2, 3, 1).unflatten(2, (m, 4)).unflatten(1, (n, 4))  # (B, n, 4, m, 4, K)
    image, row, column, channel = padded.stride()
    rows = max(1, STRIP // (36 * many * m * max(channels, len(weight))))
    for first in range(0, n, rows):
        some = min(rows, n - first)
        tiles = padded[:, 4 * first :].as_strided(
            (6, 6, many, some, m, channels), (row, column, image, 4 * row, 4 * column, channel)
        )
        points = to_points @ tiles.reshape(36, -1)  # (36, B*some*m*C)
        products = torch.bmm(points.view(36, -1, channels), kernel)  # (36, B*some*m, K)
        if bias is not None:
            products[7] += bias  # at the point (1, 1) a number reaches each pixel of the tile once
        pixels = (from_points @ products.flatten(1)).view(4, 4, many, some, m, -1)
        by_tile[:, first : first + some] = pixels.permute(2, 3, 0, 4, 1, 5)
    # a view may not be changed in place where autograd has a part in it: this has the memory and is none
    return out if out.shape[2:] == x.shape[2:] else x.new_empty(0).set_(out[:, :, :height, :width])
