"""Attention to a few locations that each query chooses itself (Deformable DETR, arXiv 2010.04159, section 4.1).

Shape letters: B batch, Q queries, C their channels, M heads, L levels, K points of a query on a level, S locations of
all levels' maps together.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from densevit.errors import ConfigError
from densevit.kernels.linear import apply_linear
from densevit.ops.caching import by_bytes
from densevit.ops.deformable_attention import deformable_attention


class SpatialShapes(NamedTuple):
    """A map over an image: its size (h, w) in locations and the side of a place in pixels."""

    size: tuple[int, int]
    stride: int


class SamplingLocations(NamedTuple):
    """Reference points of the queries on the maps that they attend to.

    centers: (Q, 2), x and y of the queries, 0 at the maps' left or upper border and 1 at the other. sides: (L, 1, 2),
    width and height of the maps. sizes: the same as (h, w).
    """

    centers: Tensor
    sides: Tensor
    sizes: tuple[tuple[int, int], ...]


def sampling_locations(
    queries: Sequence[SpatialShapes], maps: Sequence[SpatialShapes], device: torch.device
) -> SamplingLocations:
    """The centers of the locations of `queries`, all maps one after the other, on `maps`, which cover one image from
    its upper left corner on and have one extent; kept for the sizes used last."""
    return _sampling_locations(tuple(queries), tuple(maps), device)


@by_bytes
def _sampling_locations(
    queries: tuple[SpatialShapes, ...], maps: tuple[SpatialShapes, ...], device: torch.device
) -> SamplingLocations:
    height, width = (side * maps[0].stride for side in maps[0].size)
    centers = []
    for (rows, columns), stride in queries:
        y = (torch.arange(rows, dtype=torch.float64) + 0.5) * stride / height
        x = (torch.arange(columns, dtype=torch.float64) + 0.5) * stride / width
        y, x = torch.meshgrid(y, x, indexing="ij")  # (rows, columns) each
        centers.append(torch.stack((x, y), -1).flatten(0, 1))  # (rows*columns, 2), row by row as the tokens
    sides = torch.tensor([[[columns, rows]] for (rows, columns), _ in maps], dtype=torch.float32)
    sizes = tuple(grid.size for grid in maps)
    return SamplingLocations(torch.cat(centers).float().to(device), sides.to(device), sizes)


class DeformableAttention(nn.Module):
    """Each head of a query mixes `points` samples of each level, at offsets from the query's own place.

    Args:
        dim: C, of queries, features and what comes out.
        levels: L.
        ratio: channels of the values by C.
    """

    def __init__(self, dim: int, num_heads: int, levels: int, points: int = 4, ratio: float = 1.0):
        super().__init__()
        inner = int(dim * ratio)
        if inner % num_heads:
            raise ConfigError(
                f"{dim} channels by {ratio} do not divide among {num_heads} heads of deformable attention"
            )
        self.num_heads, self.levels, self.points = num_heads, levels, points
        self.sampling_offsets = nn.Linear(dim, num_heads * levels * points * 2)
        self.attention_weights = nn.Linear(dim, num_heads * levels * points)
        self.value_proj = nn.Linear(dim, inner)
        self.output_proj = nn.Linear(inner, dim)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Each head looks into a direction of its own, point k at k pixels (in the longer coordinate)."""
        for layer in (self.sampling_offsets, self.attention_weights):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        for layer in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        angles = torch.arange(self.num_heads) * (2 * math.pi / self.num_heads)  # (M,)
        directions = torch.stack((angles.cos(), angles.sin()), -1)
        directions = directions / directions.abs().amax(-1, keepdim=True)  # on the border of a square of side 2
        steps = torch.arange(1, self.points + 1)[:, None]
        offsets = (directions[:, None, None] * steps).expand(-1, self.levels, -1, -1)  # (M, L, K, 2)
        with torch.no_grad():
            self.sampling_offsets.bias.copy_(offsets.flatten())

    def forward(self, query: Tensor, features: Tensor, locations: SamplingLocations) -> Tensor:
        """query: (B, Q, C), features: (B, S, C). Returns (B, Q, C)."""
        shape = (self.num_heads, self.levels, self.points)
        value = apply_linear(self.value_proj, features).unflatten(-1, (self.num_heads, -1))  # (B, S, M, inner / M)
        # locations need more digits than bfloat16 has
        offsets = apply_linear(self.sampling_offsets, query).float().unflatten(-1, (*shape, 2))  # (B, Q, M, L, K, 2)
        # (B, Q, M, L*K): one softmax over the points of all levels, as published
        weights = (
            apply_linear(self.attention_weights, query)
            .unflatten(-1, (self.num_heads, -1))
            .softmax(-1, dtype=torch.float32)
        )
        # (B, Q, M, L, K, 2); offsets are in pixels of a level
        points = locations.centers[:, None, None, None] + offsets / locations.sides
        out = deformable_attention(value, locations.sizes, points, weights.unflatten(-1, shape[1:]))
        return apply_linear(self.output_proj, out)
