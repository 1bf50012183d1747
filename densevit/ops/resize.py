"""Resizing of maps, of the tables that belong to a grid, and of the kernels that belong to a patch."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from densevit.ops.plain import fixed_size


def resize_table(
    table: Tensor,
    grid: tuple[int, int],
    size: tuple[int, int],
    mode: str = "bilinear",
    antialias: bool = False,
    offset: float = 0.0,
) -> Tensor:
    """A position table (1, gh*gw, C) of one grid, for another grid: (1, h*w, C). align_corners is False.

    antialias: as in F.interpolate; with it also enlarging differs (bicubic's coefficient is -0.5 instead of -0.75).
    offset: added to h and w before they are divided by the grid's; the locations are then sampled at steps of exactly
        1 / that factor, as DINOv2 does with 0.1 (github.com/facebookresearch/dinov2). 0: at steps of gh / h, gw / w.
    """
    size = fixed_size(size)
    if tuple(grid) == size:
        return table
    image = table.transpose(1, 2).unflatten(2, tuple(grid))  # (1, C, gh, gw)
    how: dict = {"size": size}
    if offset:
        how = {"scale_factor": [(side + offset) / old for side, old in zip(size, grid, strict=True)]}
    # (1, C, h, w) -> (1, h*w, C)
    return F.interpolate(image, mode=mode, align_corners=False, antialias=antialias, **how).flatten(2).transpose(1, 2)


def resized_strides(strides: Sequence[float], scales: Sequence[float]) -> tuple[int | float, ...]:
    """Strides of maps that are resized by factors; patches of 14 pixels enlarged four times have one of 3.5."""
    quotients = [stride / scale for stride, scale in zip(strides, scales, strict=True)]
    return tuple(int(stride) if stride == int(stride) else stride for stride in quotients)


def resize_kernel(kernel: Tensor, size: tuple[int, int]) -> Tensor:
    """A patch's kernel (O, C, p, q) for patches of `size` (h, w): (O, C, h, w).

    Of all kernels the one that gives a patch enlarged to `size` the value that the old one gave it before, as far as
    one can (FlexiViT, arXiv 2212.08013, section 3.4): the old one by the pseudo-inverse of the enlargement, bicubic.
    """
    old = tuple(kernel.shape[2:])
    if old == tuple(size):
        return kernel
    basis = torch.eye(old[0] * old[1], device=kernel.device).unflatten(1, old)[:, None]  # (p*q, 1, p, q)
    enlarged = F.interpolate(basis, tuple(size), mode="bicubic", align_corners=False, antialias=True)
    inverse = torch.linalg.pinv(enlarged.flatten(1).t())  # (p*q, h*w)
    # (O, C, p*q) -> (O, C, h, w)
    return (kernel.float().flatten(2) @ inverse).unflatten(2, tuple(size)).to(kernel.dtype)
