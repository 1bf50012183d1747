"""Random textures, independent of the class of the surface.

A pattern is a float32 weight in 0..1 that mixes two colors; `u` and `v` are coordinates on the surface, arrays that
broadcast to the shape wanted (a row and a column for a part seen head on, full maps for a plane in perspective).
"""

import functools

import cv2
import numpy as np

_TILE = 256  # a power of two: coordinates wrap with a mask


@functools.lru_cache(maxsize=1)
def _cloud() -> np.ndarray:
    """One (256, 256) float32 tile of seamless many-scale noise in 0..1, the same in every process."""
    rng = np.random.Generator(np.random.PCG64(20))
    total = np.zeros((_TILE, _TILE), np.float32)
    for cells, weight in ((4, 0.3), (16, 0.35), (64, 0.35)):
        coarse = rng.random((cells, cells), dtype=np.float32)
        step = _TILE // cells
        wrapped = np.pad(coarse, 2, mode="wrap")
        fine = cv2.resize(wrapped, None, fx=step, fy=step, interpolation=cv2.INTER_LINEAR)
        total += weight * fine[2 * step : -2 * step, 2 * step : -2 * step]
    low, high = np.quantile(total, (0.02, 0.98))
    return np.clip((total - low) / (high - low), 0, 1).astype(np.float32)


@functools.lru_cache(maxsize=1)
def _grain() -> np.ndarray:
    """A (1024, 1024, 3) float32 tile of unit Gaussian noise: drawing it anew for each image would cost 2 ms."""
    return np.random.Generator(np.random.PCG64(21)).standard_normal((1024, 1024, 3), dtype=np.float32)


def grain(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """(height, width, 3) float32 unit Gaussian noise, a random window of one tile."""
    tile = _grain()
    if height > tile.shape[0] or width > tile.shape[1]:
        tile = np.tile(tile, (-(-height // 1024), -(-width // 1024), 1))
    top = int(rng.integers(0, tile.shape[0] - height + 1))
    left = int(rng.integers(0, tile.shape[1] - width + 1))
    return tile[top : top + height, left : left + width]


def uneven(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """(height, width) float32, about 0..1, very smooth: uneven light."""
    corners = rng.random((3, 3), dtype=np.float32)
    return cv2.resize(corners, (width, height), interpolation=cv2.INTER_CUBIC)


def pattern(rng: np.random.Generator, u: np.ndarray, v: np.ndarray, period: float) -> np.ndarray:
    """A random pattern of about `period` (in the unit of u and v) on the surface coordinates u, v."""
    kind = int(rng.integers(0, 6))
    turn, shift, other = rng.uniform(0, 2 * np.pi), rng.uniform(0, 2 * np.pi), rng.uniform(0, 2 * np.pi)
    k = 2 * np.pi / (period * rng.uniform(0.6, 1.6))
    c, s = np.float32(k * np.cos(turn)), np.float32(k * np.sin(turn))
    shift, other = np.float32(shift), np.float32(other)
    if kind == 0:  # plain
        return np.zeros(np.broadcast_shapes(u.shape, v.shape), np.float32)
    if kind == 1:  # stripes
        return np.clip(3 * np.sin(u * c + v * s + shift) + np.float32(0.5), 0, 1)
    if kind == 2:  # checks
        return np.clip(6 * np.sin(u * c + v * s + shift) * np.sin(u * s - v * c + other) + np.float32(0.5), 0, 1)
    if kind == 3:  # gradient, many periods long
        return np.float32(0.5) + np.float32(0.5) * np.sin((u * c + v * s) * np.float32(0.2) + shift)
    if kind == 4:  # dots
        return np.clip(6 * (np.sin(u * c + shift) * np.sin(v * c + other)) - np.float32(1.5), 0, 1)
    step = np.float32(24 / (period * rng.uniform(0.6, 1.6)))
    tile = _cloud()
    mask = _TILE - 1
    across = (u * step + shift * 40).astype(np.int32) & mask
    down = (v * step + other * 40).astype(np.int32) & mask
    return tile[down, across]


def color(rng: np.random.Generator, count: int) -> np.ndarray:
    """Random BGR colors, (3, count) float32."""
    return rng.uniform(25, 240, (3, count)).astype(np.float32)


def muted(rng: np.random.Generator) -> np.ndarray:
    """A random BGR color of low saturation, for large surfaces."""
    return (rng.uniform(60, 215) + rng.uniform(-35, 35, 3)).astype(np.float32)
