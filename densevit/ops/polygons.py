"""Polygons of masks: lists of float64 arrays (n, 2) of (x, y) pixels, one an outline. Sizes are (height, width)."""

from collections.abc import Sequence

import numpy as np

from densevit.errors import DataError

Polygons = list[np.ndarray]
FAR = 1e9
"""Pixels that a coordinate is cut to before it is clipped, so that nothing overflows."""


def valid_polygons(segmentation: Sequence[Sequence[float] | bytes]) -> Polygons:
    """COCO's [[x1, y1, x2, y2, ...], ...], or the bytes of such numbers, as arrays (n, 2); parts with an odd count or
    below three points are left out."""
    parts = [np.frombuffer(p) if isinstance(p, bytes) else np.asarray(p, dtype=np.float64) for p in segmentation]
    return [part.reshape(-1, 2) for part in parts if part.size >= 6 and part.size % 2 == 0]  # x, y, x, y, ... -> (n, 2)


def clip_polygon(polygon: np.ndarray, width: float, height: float) -> np.ndarray:
    """Part of a polygon inside [0, width] x [0, height]: (m, 2), empty when nothing is left.

    Sutherland and Hodgman, "Reentrant polygon clipping" (1974): one pass per side. A polygon that crosses itself keeps
    its even-odd filling, and one that falls apart stays one ring whose pieces are joined along the window's border,
    where the joints enclose nothing. So invalid outlines need no repair before, and there are no holes after.
    """
    low, high = polygon.min(axis=0), polygon.max(axis=0)
    if low[0] >= width or low[1] >= height or high[0] <= 0 or high[1] <= 0:
        return polygon[:0]
    for axis, limit, side in ((0, 0.0, 1), (0, float(width), -1), (1, 0.0, 1), (1, float(height), -1)):
        outside = side * (limit - polygon[:, axis])  # signed distance beyond this side of the window
        if not (outside > 0).any():
            continue
        following, beyond = np.roll(polygon, -1, axis=0), np.roll(outside, -1)
        crossing = (outside > 0) != (beyond > 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            met = polygon + (outside / (outside - beyond))[:, None] * (following - polygon)
        met[:, axis] = limit
        # each edge gives its start point, if that is inside, and then the point where it meets the side, if it does
        points, keep = np.stack([polygon, met], axis=1), np.stack([outside <= 0, crossing], axis=1)
        polygon = points[keep]
        if len(polygon) < 3:
            return polygon[:0]
    return polygon


def clip_far(polygons: Polygons, size: tuple[int, int]) -> tuple[Polygons, np.ndarray, np.ndarray]:
    """The polygons of three points and more, and their least and largest (x, y).

    Those that reach beyond the image by more than its longer side are clipped there: C code walks along every pixel of
    an edge. DataError for NaN or infinity.
    """
    polygons, side = [part for part in polygons if len(part) >= 3], float(max(size))
    if not polygons:
        return [], np.zeros(2), np.zeros(2)
    points = np.concatenate(polygons)
    low, high = points.min(axis=0), points.max(axis=0)
    if min(low.tolist()) >= -side and max(high.tolist()) <= 2 * side:
        return polygons, low, high
    if not np.isfinite(points).all():
        raise DataError("A polygon has NaN or infinity: tools/check_data.py names it.")
    window = np.array([size[1], size[0]]) + 2 * side
    moved = (np.clip(part, -FAR, FAR) + side for part in polygons)
    return clip_far([clip_polygon(part, *window).clip(0, window) - side for part in moved], size)
