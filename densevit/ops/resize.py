"""Resizing of maps and of the tables that belong to a grid."""

import torch.nn.functional as F
from torch import Tensor


def resize_table(table: Tensor, grid: tuple[int, int], size: tuple[int, int], mode: str = "bilinear") -> Tensor:
    """A position table (1, gh*gw, C) of one grid, for another grid: (1, h*w, C). align_corners is False."""
    if tuple(grid) == tuple(size):
        return table
    image = table.transpose(1, 2).unflatten(2, tuple(grid))
    return F.interpolate(image, size=tuple(size), mode=mode, align_corners=False).flatten(2).transpose(1, 2)
