"""Resizing of maps and of the tables that belong to a grid."""

import torch.nn.functional as F
from torch import Tensor


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
    offset: added to h and w before they are divided by the grid's; the places are then sampled at steps of exactly
        1 / that factor, as DINOv2 does with 0.1 (github.com/facebookresearch/dinov2). 0: at steps of gh / h, gw / w.
    """
    if tuple(grid) == tuple(size):
        return table
    image = table.transpose(1, 2).unflatten(2, tuple(grid))
    how: dict = {"size": tuple(size)}
    if offset:
        how = {"scale_factor": [(side + offset) / old for side, old in zip(size, grid, strict=True)]}
    return F.interpolate(image, mode=mode, align_corners=False, antialias=antialias, **how).flatten(2).transpose(1, 2)
