"""Rotary positions: queries and keys are turned by angles that grow with a token's place (arXiv 2104.09864).

Here on both axes, as DINOv3 (arXiv 2508.10104, section 3.2) and EVA-02 (arXiv 2303.11331, section 2) have them. Shape
letters: B batch, N tokens, D channels of a head, P tokens before the patches.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

COORDS = ("separate", "max", "min")


class Rotation(NamedTuple):
    """What `rotate` needs.

    cosines, sines: (N, D), the sines signed. neighbors: the channels 2 i and 2 i + 1 make a pair instead of i and
    i + D / 2.
    """

    cosines: Tensor
    sines: Tensor
    neighbors: bool = False


class RotaryPositions(nn.Module):
    """The angles of a grid's locations, the first half of the pairs for the row and the second for the column.

    Args:
        head_dim: D, a multiple of 4.
        base: the periods rise from 1 to nearly this, in units of half the image's side; or the first and the last.
        coords: the sides that locations are measured by, so that they lie within -1 and 1: each axis by its own
            ('separate'), or both by the longer ('max') or the shorter ('min').
        steps: instead, as in EVA-02, positions count from 0 in radians, so many along each side for any map
            size (the side in patches of the pretraining), and neighboring channels make a pair.
    """

    def __init__(
        self,
        head_dim: int,
        base: float | Sequence[float] = 100.0,
        coords: str = "separate",
        steps: int | None = None,
    ):
        super().__init__()
        self.coords, self.steps = coords, steps
        if isinstance(base, Sequence):
            first, last = base
            periods = first * (last / first) ** torch.linspace(0, 1, head_dim // 4)
        else:
            periods = base ** (2 * torch.arange(head_dim // 4, dtype=torch.float32) / (head_dim // 2))  # (D/4,)
        self.register_buffer("periods", periods)

    def angles(self, size: tuple[int, int]) -> Tensor:
        """(h*w, D): each angle twice, for both channels of a pair."""
        counts = [torch.arange(n, device=self.periods.device, dtype=self.periods.dtype) for n in size]
        if self.steps is not None:
            locations = [count / n * self.steps for count, n in zip(counts, size, strict=True)]
        else:
            sides = {"separate": size, "max": (max(size),) * 2, "min": (min(size),) * 2}[self.coords]
            locations = [2 * ((count + 0.5) / side) - 1 for count, side in zip(counts, sides, strict=True)]
        locations = torch.stack(torch.meshgrid(*locations, indexing="ij"), -1).flatten(0, 1)  # (h*w, 2)
        # (h*w, 2, D/4) -> (h*w, D/2): the row's angles, then the column's
        angles = ((1 if self.steps else 2 * math.pi) * locations[:, :, None] / self.periods).flatten(1)
        return angles.repeat_interleave(2, 1) if self.steps else angles.tile(2)

    def forward(self, size: tuple[int, int], prefix: int) -> Rotation:
        """Of P + h*w tokens; the first `prefix` are left as they are."""
        angles = self.angles(size)
        signs = torch.ones_like(self.periods).repeat(4)
        signs[slice(None, None, 2) if self.steps else slice(len(signs) // 2)] = -1  # of the first channel of each pair
        cosines, still = angles.cos(), angles.new_zeros(prefix, angles.shape[1])  # angle 0 for tokens without a place
        sines = angles.sin() * signs
        return Rotation(torch.cat((still + 1, cosines)), torch.cat((still, sines)), self.steps is not None)


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """x: (..., N, D), turned by what `RotaryPositions` gives."""
    cosines, sines, neighbors = rotation
    # the other channel of each pair, whose sine carries the sign
    others = x.unflatten(-1, (-1, 2)).flip(-1).flatten(-2) if neighbors else x.roll(x.shape[-1] // 2, -1)
    return (x * cosines + others * sines).to(x.dtype)
