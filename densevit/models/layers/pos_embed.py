"""Tables of positions: one learned vector for each location of a grid, after rows for tokens that have no place."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from densevit.ops.resize import resize_table


class TableResizing(NamedTuple):
    """How a table is brought to another grid.

    mode: 'bicubic', which keeps the norm of the vectors nearly as it is (DeiT, arXiv 2012.12877, section 6), or
        'bilinear', which shrinks it.
    antialias, offset: see `resize_table`.
    keep_on_equal_count: use the table as it is when the number of locations is the same, even where height and width
        differ, as mmsegmentation and Segmenter's repository do.
    """

    mode: str = "bicubic"
    antialias: bool = False
    offset: float = 0.0
    keep_on_equal_count: bool = False


def table_for(table: Tensor, rows: int, grid: tuple[int, int], size: tuple[int, int], how: TableResizing) -> Tensor:
    """The table (1, rows + gh*gw, C) for a map of `size` (h, w): (1, rows + h*w, C); the first `rows` stay."""
    if tuple(grid) == tuple(size) or (how.keep_on_equal_count and grid[0] * grid[1] == size[0] * size[1]):
        return table
    locations = resize_table(table[:, rows:], grid, size, how.mode, how.antialias, how.offset)  # (1, h*w, C)
    return torch.cat((table[:, :rows], locations), 1) if rows else locations


def fit_table(
    table: Tensor, rows: int, grid: tuple[int, int], how: TableResizing, spare: bool = False
) -> Tensor | None:
    """A file's table (1, N, C) as ours (1, rows + gh*gw, C), whatever its own grid (square, or of our size).

    A token that has no row in the file gets zeros: its vector holds the position already. spare: rows of the file that
    we have no token for may be left out. None: the table fits in no such way.
    """
    if table.ndim != 3:
        return None
    counts = (rows, *(n for n in range(7) if n != rows))
    if rows == 0 and spare and table.shape[1] == 1 + grid[0] * grid[1]:
        counts = (1,)  # our locations and a class token's, even where that is a square
    for theirs in counts:
        size = _grid(table.shape[1] - theirs, grid)
        if size is not None:
            break
    else:
        return None
    if theirs > rows and not spare:
        return None
    first = table[:, : min(theirs, rows)]  # (1, tokens that both have, C)
    # zeros for tokens that the file has no row for
    missing = table.new_zeros(1, rows - first.shape[1], table.shape[2])
    locations = resize_table(table[:, theirs:].float(), size, grid, how.mode, how.antialias, how.offset)
    return torch.cat((first, missing, locations.to(table.dtype)), 1)


def _grid(count: int, ours: tuple[int, int]) -> tuple[int, int] | None:
    """The grid of so many locations: ours, a square, or None."""
    side = round(max(count, 0) ** 0.5)
    if count == ours[0] * ours[1]:
        return ours
    return (side, side) if side and side * side == count else None


def sincos_table(grid: tuple[int, int], dim: int) -> Tensor:
    """(1, h*w, dim): sines and cosines of the column, then of the row, as MAE has them (arXiv 2111.06377).

    dim: a multiple of 4; a quarter of it for each of sine and cosine.
    """
    quarter = dim // 4
    frequencies = 10000 ** (-torch.arange(quarter, dtype=torch.float64) / quarter)
    rows, columns = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in grid), indexing="ij")
    parts = []
    for locations in (columns, rows):
        angles = locations.flatten()[:, None] * frequencies  # (h*w, quarter)
        parts += [angles.sin(), angles.cos()]
    return torch.cat(parts, 1).float()[None]  # sin x, cos x, sin y, cos y


def resize_bias_table(table: Tensor, window: tuple[int, int], size: tuple[int, int], extra: int = 0) -> Tensor:
    """A table ((2*h - 1)*(2*w - 1) + extra, heads) of relative positions in a window (h, w), resized bicubically for
    one of `size`; the last `extra` rows stay."""
    if tuple(window) == tuple(size):
        return table
    locations = table[: len(table) - extra]
    image = locations.t().unflatten(1, (2 * window[0] - 1, 2 * window[1] - 1))[None]  # (1, heads, 2h - 1, 2w - 1)
    image = F.interpolate(image, [2 * side - 1 for side in size], mode="bicubic", align_corners=False)
    locations = image[0].flatten(1).t()  # back to one row a relative position
    return torch.cat((locations, table[len(table) - extra :])) if extra else locations


def fit_bias_table(table: Tensor, window: tuple[int, int], extra: int = 0) -> Tensor | None:
    """A file's table of a square window as one of `window`; None where it is no such table."""
    side = round(max(len(table) - extra, 0) ** 0.5)
    if table.ndim != 2 or side % 2 == 0 or side * side != len(table) - extra:
        return None
    return resize_bias_table(table, ((side + 1) // 2,) * 2, window, extra)
