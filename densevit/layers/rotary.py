"""Rotary positions: queries and keys are turned by angles that grow with a token's place (arXiv 2104.09864).

Here as DINOv3 has them (arXiv 2508.10104, section 3.2), on both axes. Shape letters: B batch, N tokens, D channels of a
head, P tokens before the patches.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

COORDS = ("separate", "max", "min")


class RotaryPositions(nn.Module):
    """The angles of a grid's places, the first half of the pairs for the row and the second for the column.

    Args:
        head_dim: D, a multiple of 4.
        base: the periods rise from 1 to nearly this, in units of half the image's side; or the first and the last.
        coords: the sides that places are measured by, so that they lie within -1 and 1: each axis by its own
            ('separate'), or both by the longer ('max') or the shorter ('min').
    """

    def __init__(self, head_dim: int, base: float | Sequence[float] = 100.0, coords: str = "separate"):
        super().__init__()
        self.coords = coords
        if isinstance(base, Sequence):
            first, last = base
            periods = first * (last / first) ** torch.linspace(0, 1, head_dim // 4)
        else:
            periods = base ** (2 * torch.arange(head_dim // 4, dtype=torch.float32) / (head_dim // 2))
        self.register_buffer("periods", periods)

    def angles(self, size: tuple[int, int]) -> Tensor:
        """(h*w, D): each angle twice, at i and at i + D / 2, which make a pair."""
        sides = {"separate": size, "max": (max(size),) * 2, "min": (min(size),) * 2}[self.coords]
        places = [
            2 * ((torch.arange(n, device=self.periods.device, dtype=self.periods.dtype) + 0.5) / side) - 1
            for n, side in zip(size, sides, strict=True)
        ]
        places = torch.stack(torch.meshgrid(*places, indexing="ij"), -1).flatten(0, 1)  # (h*w, 2)
        angles = 2 * math.pi * places[:, :, None] / self.periods
        return angles.flatten(1).tile(2)

    def forward(self, size: tuple[int, int], prefix: int) -> tuple[Tensor, Tensor]:
        """Cosines and signed sines (P + h*w, D) for `rotate`; the first `prefix` tokens are left as they are."""
        angles = self.angles(size)
        sines = angles.sin()
        half = angles.shape[1] // 2
        signed = torch.cat((-sines[:, :half], sines[:, half:]), 1)
        cosines, still = angles.cos(), angles.new_zeros(prefix, angles.shape[1])
        return torch.cat((still + 1, cosines)), torch.cat((still, signed))


def rotate(x: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """x: (..., N, D), turned by what `RotaryPositions` gives."""
    cosines, sines = rotation
    return (x * cosines + x.roll(x.shape[-1] // 2, -1) * sines).to(x.dtype)
