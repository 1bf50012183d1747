"""Bitmaps of thousands of objects on one image, each stored only within its box."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from densevit.ops.masks import Mask, bitmap_boxes, rasterize

MOST_BYTES = 1 << 28
"""Of bitmaps of one image that are held whole."""


def too_large(count: int, size: tuple[int, int]) -> bool:
    """Whether so many bitmaps of (height, width) are not to be held whole."""
    return count * size[0] * size[1] > MOST_BYTES


def draw_in_parts(masks: Sequence[Mask], size: tuple[int, int]) -> Iterator[np.ndarray]:
    """`rasterize` of some masks at a time."""
    step = max(MOST_BYTES // 4 // (size[0] * size[1]), 1)
    for start in range(0, len(masks), step):
        yield rasterize(masks[start : start + step], size)


class CroppedMasks:
    """N masks of a common size; `masks[index]` draws those asked for: (n, H, W) bool, on the device of `pixels`.

    Args:
        pixels: bool, of all the objects' windows one after the other.
        windows: x1, y1, x2, y2 of each in whole pixels; empty for an empty mask.
        size: (height, width).
    """

    def __init__(self, pixels: Tensor, windows: np.ndarray, size: tuple[int, int]) -> None:
        self.pixels, self.windows, self.size = pixels, windows, tuple(size)
        areas = (windows[:, 2:] - windows[:, :2]).prod(1)
        self.ends = np.cumsum(areas)

    @classmethod
    def of(cls, masks: Sequence[Mask], size: tuple[int, int]) -> "CroppedMasks":
        """Masks as transforms have them, drawn some at a time."""
        windows, pixels = [], [np.zeros(0, bool)]
        for bitmaps in draw_in_parts(masks, size):
            windows.append(bitmap_boxes(bitmaps).astype(np.int64))
            pixels += [
                b[y1:y2, x1:x2].ravel() for b, (x1, y1, x2, y2) in zip(bitmaps, windows[-1].tolist(), strict=True)
            ]
        return cls(torch.from_numpy(np.concatenate(pixels)), np.concatenate(windows), size)

    def __len__(self) -> int:
        return len(self.windows)

    @property
    def shape(self) -> tuple[int, int, int]:
        return len(self), *self.size

    def __getitem__(self, index: Any) -> Tensor:
        if isinstance(index, Tensor):
            index = index.cpu().numpy()
        chosen = np.arange(len(self))[index]
        bitmaps = torch.zeros((chosen.size, *self.size), dtype=torch.bool, device=self.pixels.device)
        for bitmap, i in zip(bitmaps, chosen.ravel().tolist(), strict=True):
            x1, y1, x2, y2 = self.windows[i].tolist()
            start = int(self.ends[i]) - (x2 - x1) * (y2 - y1)
            bitmap[y1:y2, x1:x2] = self.pixels[start : int(self.ends[i])].view(y2 - y1, x2 - x1)  # (h, w) window
        return bitmaps if chosen.ndim else bitmaps[0]

    def to(self, *args: Any, **kwargs: Any) -> "CroppedMasks":
        return CroppedMasks(self.pixels.to(*args, **kwargs), self.windows, self.size)

    def pad(self, size: tuple[int, int]) -> "CroppedMasks":
        """Enlarged to (height, width) at the right and bottom."""
        return CroppedMasks(self.pixels, self.windows, size)


def marked(masks: Tensor | CroppedMasks, index: Tensor) -> Tensor:
    """Whether masks have a pixel: (n,) bool of those of `index` (n,)."""
    if isinstance(masks, CroppedMasks):
        return torch.from_numpy(masks.windows[:, 2] > masks.windows[:, 0]).to(index.device)[index]
    return masks.flatten(1).any(1)[index]  # (G, H W) -> (G,)
