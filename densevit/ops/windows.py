"""Cutting a map into (shifted) windows and joining them again: where each token goes, and which may not see each other.

Shape letters: B batch, C channels, h, w size of a map, N places of a window, W windows of one image.
"""

from operator import index
from typing import NamedTuple

import torch
from torch import Tensor

from densevit.ops.caching import by_bytes

APART = -100.0
"""Added to the logits between places of a shifted window that are not neighbours in the image."""


class Windowing(NamedTuple):
    """How maps are cut.

    window: height and width of a window, in tokens. shift: how far the windows are moved down and to the right.
    shift_small_maps: whether they are also moved on a map whose shorter side is no longer than the window.
    pad_first: whether the map is completed to whole windows before the shift or after it. The two differ only on maps
        that are no multiple of the window.
    """

    window: tuple[int, int]
    shift: tuple[int, int]
    shift_small_maps: bool = True
    pad_first: bool = True


class Cut(NamedTuple):
    """The places of one size of map. Windows come before images: window 0 of all images, then window 1 of all.

    Those that need no mask come first.

    places: (W*B*N,) the token of the flattened (B*h*w) map that stands at each place of the windows.
    back: (B*h*w,) the place among the windows of each token of the map.
    empty: places that hold no token (padding), or None.
    inner: how many of the W*B windows need no mask.
    mask: (W*B - inner, 1, N, N) for the others: 0, or APART between places that may not see each other; None without.
    """

    places: Tensor
    back: Tensor
    empty: Tensor | None
    inner: int
    mask: Tensor | None


def _axis(side: int, window: int, shift: int, pad_first: bool) -> tuple[Tensor, Tensor]:
    """Along one side: the token at each place (-1: none), and the band of each place that is not torn apart."""
    padded = -(-side // window) * window
    place = torch.arange(padded)
    if pad_first:
        token = (place + shift) % padded
        token[token >= side] = -1
    else:
        token = (place + shift) % side
        token[side:] = -1
    band = (place >= padded - window).int() + (place >= padded - shift).int() if shift else torch.zeros_like(place)
    return token.view(-1, window), band.view(-1, window)


def cut_of(windowing: Windowing, batch: int, size: tuple[int, int], device: torch.device) -> Cut:
    """The places of a batch of maps of `size` (h, w); kept for the sizes used last.

    In a graph of torch.compile they are constants, so that each size of image has a graph.
    """
    return _cut_of(windowing, index(batch), (index(size[0]), index(size[1])), device)


@torch.compiler.assume_constant_result
def _cut_of(windowing: Windowing, batch: int, size: tuple[int, int], device: torch.device) -> Cut:
    return _cut(windowing, batch, size, device)


@by_bytes
def _cut(windowing: Windowing, batch: int, size: tuple[int, int], device: torch.device) -> Cut:
    (height, width), window, shift = size, windowing.window, windowing.shift
    if not windowing.shift_small_maps and min(size) <= min(window):
        shift = (0, 0)
    # also a first call within inference_mode gives tensors that a later training step may save
    with torch.inference_mode(False), torch.no_grad():
        rows, row_bands = _axis(height, window[0], shift[0], windowing.pad_first)
        columns, column_bands = _axis(width, window[1], shift[1], windowing.pad_first)
        tokens = rows[:, None, :, None] * width + columns[None, :, None, :]  # (rows, columns, window, window)
        tokens[(rows < 0)[:, None, :, None] | (columns < 0)[None, :, None, :]] = -1
        bands = row_bands[:, None, :, None] * 3 + column_bands[None, :, None, :]
        tokens, bands = tokens.flatten(2).flatten(0, 1), bands.flatten(2).flatten(0, 1)  # (W, N)
        torn = (bands != bands[:, :1]).any(1)
        order = torn.long().argsort(stable=True)
        tokens, bands = tokens[order], bands[order[len(order) - int(torn.sum()) :]]

        images = torch.arange(batch)[None, :, None] * (height * width)
        places = torch.where(tokens[:, None] < 0, -1, tokens[:, None] + images).flatten()  # (W*B*N,)
        empty = (places < 0).nonzero().flatten()
        back = torch.empty(batch * height * width, dtype=torch.long)
        full = (places >= 0).nonzero().flatten()
        back[places[full]] = full
        apart = (bands[:, :, None] != bands[:, None, :]).float() * APART
        mask = apart.repeat_interleave(batch, 0).unsqueeze(1)
        return Cut(
            places.clamp(min=0).to(device),
            back.to(device),
            empty.to(device) if len(empty) else None,
            (len(order) - len(bands)) * batch,
            mask.to(device) if len(mask) else None,
        )


def cut_windows(x: Tensor, cut: Cut, places: int, fill: Tensor | None = None) -> Tensor:
    """(B, h*w, C) -> (W*B, N, C). places: N. fill: (C,), what stands where there is no token; None: zeros."""
    windows = x.flatten(0, 1).index_select(0, cut.places)
    if cut.empty is not None and fill is None:
        windows.index_fill_(0, cut.empty, 0.0)
    elif cut.empty is not None:
        windows.index_copy_(0, cut.empty, fill.expand(len(cut.empty), -1))
    return windows.unflatten(0, (-1, places))


def join_windows(windows: Tensor, cut: Cut, batch: int) -> Tensor:
    """(W*B, N, C) -> (B, h*w, C); what stands where there is no token is left out."""
    return windows.flatten(0, 1).index_select(0, cut.back).unflatten(0, (batch, -1))


def relative_positions(window: tuple[int, int]) -> Tensor:
    """(N, N): which of the (2h-1)*(2w-1) rows of a table of relative positions belongs to two places of a window."""
    rows, columns = torch.meshgrid(torch.arange(window[0]), torch.arange(window[1]), indexing="ij")
    down = rows.flatten()[:, None] - rows.flatten()[None, :] + window[0] - 1
    right = columns.flatten()[:, None] - columns.flatten()[None, :] + window[1] - 1
    return down * (2 * window[1] - 1) + right
