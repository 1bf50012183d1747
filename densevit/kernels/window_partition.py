"""Cutting a map into (shifted) windows and joining them again: where each token goes, and which may not see each other.

Shape letters: B batch, C channels, h, w size of a map, N tokens of a window, W windows of one image, rows, columns how
many windows lie below and beside each other.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from densevit.ops.caching import by_bytes
from densevit.ops.plain import plain_form

MASK_VALUE = -100.0
"""Added to the logits between tokens of a shifted window that are not neighbors in the image."""


class WindowConfig(NamedTuple):
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

    def shift_of(self, size: tuple[int, int]) -> tuple[int, int]:
        """The shift on a map of `size`."""
        return (0, 0) if not self.shift_small_maps and min(size) <= min(self.window) else self.shift


class Windows(NamedTuple):
    """The windows of a batch of maps of one size, in memory one after the other.

    Those that need no mask come first, then window by window those of all images.

    tokens: (W*B*N,) the token of the flattened (B*h*w) map that stands at each position of the windows.
    back: (B*h*w,) the position among the windows of each token of the map.
    empty: positions that hold no token (padding), or None.
    inner: how many of the W*B windows need no mask.
    mask: (W*B - inner, 1, N, N) for the others: 0, or MASK_VALUE between tokens that may not see each other; None
        without.
    shape: W*B and N.
    """

    tokens: Tensor
    back: Tensor
    empty: Tensor | None
    inner: int
    mask: Tensor | None
    shape: tuple[int, int]

    @property
    def padded(self) -> bool:
        """Whether some positions hold no token."""
        return self.empty is not None

    def partition(self, x: Tensor, fill: Tensor | None = None) -> Tensor:
        """(B, h*w, C) -> (W*B, N, C). fill: (1, C), what stands where there is no token; None: zeros."""
        windows = x.flatten(0, 1).index_select(0, self.tokens)
        if self.padded and fill is None:
            windows.index_fill_(0, self.empty, 0.0)
        elif self.padded:
            windows.index_copy_(0, self.empty, fill.expand(len(self.empty), -1))
        return windows.unflatten(0, self.shape)

    def reverse(self, windows: Tensor, batch: int) -> Tensor:
        """(W*B, N, C) -> (B, h*w, C); what stands where there is no token is left out."""
        return windows.flatten(0, 1).index_select(0, self.back).unflatten(0, (batch, -1))


class PlainWindows:
    """The same by padding, rolling and reshaping alone, for any program that the operations are recorded for: image by
    image, windows from left to right and from top to bottom, a mask for each where there is a shift."""

    def __init__(self, window_config: WindowConfig, batch: int, size: tuple[int, int], device: torch.device) -> None:
        self.window_config, self.size, self.shift = window_config, size, window_config.shift_of(size)
        self.below, self.right = (-side % n for side, n in zip(size, window_config.window, strict=True))
        self.rows, self.columns = (-(-side // n) for side, n in zip(size, window_config.window, strict=True))
        count = batch * self.rows * self.columns
        self.shape = (count, window_config.window[0] * window_config.window[1])
        shifted = self.shift != (0, 0)
        self.inner = 0 if shifted else count
        self.mask = self._mask(device).repeat(batch, 1, 1, 1) if shifted else None
        self.padded = True  # a recorded program pads by what its input needs

    def partition(self, x: Tensor, fill: Tensor | None = None) -> Tensor:
        """As `Windows.partition`, (B, h*w, C) -> (B*W, N, C)."""
        x = x.unflatten(1, self.size)  # (B, h, w, C)
        padding, shift = (0, 0, 0, self.right, 0, self.below), tuple(-n for n in self.shift)
        if not self.window_config.pad_first:
            x = F.pad(x.roll(shift, (1, 2)), padding)
        else:
            x = F.pad(x, padding).roll(shift, (1, 2))
        if fill is not None:
            there = F.pad(x.new_ones(1, *self.size, 1), padding)
            there = there.roll(shift, (1, 2)) if self.window_config.pad_first else there
            x = torch.where(there > 0, x, fill)
        (high, wide), channels = self.window_config.window, x.shape[-1]
        x = x.reshape(-1, self.rows, high, self.columns, wide, channels)
        return x.permute(0, 1, 3, 2, 4, 5).reshape(-1, high * wide, channels)

    def reverse(self, windows: Tensor, batch: int) -> Tensor:
        """As `Windows.reverse`, (B*W, N, C) -> (B, h*w, C)."""
        (high, wide), channels = self.window_config.window, windows.shape[-1]
        x = windows.reshape(batch, self.rows, self.columns, high, wide, channels).permute(0, 1, 3, 2, 4, 5)
        x = x.reshape(batch, self.rows * high, self.columns * wide, channels)
        if self.window_config.pad_first:
            x = x.roll(self.shift, (1, 2))
        x = x[:, : self.size[0], : self.size[1]]
        if not self.window_config.pad_first:
            x = x.roll(self.shift, (1, 2))
        return x.reshape(batch, -1, channels)

    def _mask(self, device: torch.device) -> Tensor:
        """(W, 1, N, N)."""
        (high, wide), (down, right) = self.window_config.window, self.shift
        rows, columns = (
            _bands(n * side, side, by, device) for n, side, by in ((self.rows, high, down), (self.columns, wide, right))
        )
        bands = (rows[:, None] * 3 + columns).reshape(self.rows, high, self.columns, wide)
        bands = bands.permute(0, 2, 1, 3).reshape(-1, 1, high * wide)  # (W, 1, N)
        return (bands[..., None, :] != bands[..., None]).float() * MASK_VALUE


def _bands(padded: int, window: int, shift: int, device: torch.device | None = None) -> Tensor:
    """(padded,): along one side, the band of each position that the shift does not tear apart."""
    position = torch.arange(padded, device=device)
    if not shift:
        return torch.zeros_like(position)
    return (position >= padded - window).long() + (position >= padded - shift).long()


def _axis(side: int, window: int, shift: int, pad_first: bool) -> tuple[Tensor, Tensor]:
    """Along one side, window by window: the token at each position (-1: none), and its band."""
    padded = -(-side // window) * window
    position = torch.arange(padded)
    if pad_first:
        token = (position + shift) % padded
        token[token >= side] = -1
    else:
        token = (position + shift) % side
        token[side:] = -1
    return token.view(-1, window), _bands(padded, window, shift).view(-1, window)


def window_partition(
    window_config: WindowConfig, batch: int, size: tuple[int, int], device: torch.device
) -> Windows | PlainWindows:
    """The windows of a batch of maps of `size` (h, w); kept for the sizes used last."""
    if plain_form():
        return PlainWindows(window_config, batch, size, device)
    return _windows(window_config, batch, size, device)


@by_bytes
def _windows(window_config: WindowConfig, batch: int, size: tuple[int, int], device: torch.device) -> Windows:
    (height, width), window, shift = size, window_config.window, window_config.shift_of(size)
    rows, row_bands = _axis(height, window[0], shift[0], window_config.pad_first)
    columns, column_bands = _axis(width, window[1], shift[1], window_config.pad_first)
    tokens = rows[:, None, :, None] * width + columns[None, :, None, :]  # (rows, columns, window, window)
    tokens[(rows < 0)[:, None, :, None] | (columns < 0)[None, :, None, :]] = -1
    bands = row_bands[:, None, :, None] * 3 + column_bands[None, :, None, :]
    tokens, bands = tokens.flatten(2).flatten(0, 1), bands.flatten(2).flatten(0, 1)  # (W, N)
    torn = (bands != bands[:, :1]).any(1)
    order = torn.long().argsort(stable=True)
    tokens, bands = tokens[order], bands[order[len(order) - int(torn.sum()) :]]

    images = torch.arange(batch)[None, :, None] * (height * width)
    tokens = torch.where(tokens[:, None] < 0, -1, tokens[:, None] + images)  # (W, B, N)
    shape, tokens = (tokens.shape[0] * batch, tokens.shape[2]), tokens.flatten()
    empty = (tokens < 0).nonzero().flatten()
    back = torch.empty(batch * height * width, dtype=torch.long)
    full = (tokens >= 0).nonzero().flatten()
    back[tokens[full]] = full
    apart = (bands[:, :, None] != bands[:, None, :]).float() * MASK_VALUE
    mask = apart.repeat_interleave(batch, 0).unsqueeze(1)
    return Windows(
        tokens.clamp(min=0).to(device),
        back.to(device),
        empty.to(device) if len(empty) else None,
        (len(order) - len(bands)) * batch,
        mask.to(device) if len(mask) else None,
        shape,
    )


def relative_positions(window: tuple[int, int], device: torch.device | None = None) -> Tensor:
    """(N, N): which of the (2h-1)*(2w-1) rows of a table of relative positions belongs to two tokens of a window."""
    axes = (torch.arange(side, device=device) for side in window)
    rows, columns = (axis.flatten() for axis in torch.meshgrid(*axes, indexing="ij"))
    down = rows[:, None] - rows[None, :] + window[0] - 1
    right = columns[:, None] - columns[None, :] + window[1] - 1
    return down * (2 * window[1] - 1) + right
