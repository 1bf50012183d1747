"""Outlines of masks: rings (n, 2) of points."""

import numpy as np

from densevit.ops.masks import decode_rle, outlines


def ring_area(ring: np.ndarray) -> float:
    """Area that a polygon (n, 2) encloses."""
    (x, y), (first, last) = ring.T, ring[[0, -1]]
    return abs(float(x[:-1] @ y[1:] - x[1:] @ y[:-1] + last[0] * first[1] - first[0] * last[1])) / 2


def mask_rings(annotation: dict) -> list[np.ndarray]:
    """The outlines (n, 2) of an annotation's mask, those of holes among them; none where it has no mask."""
    segmentation = annotation.get("segmentation")
    if isinstance(segmentation, dict):
        return [ring.astype(float) for ring in outlines(decode_rle(segmentation))[0]]
    return [
        np.array(part, float).reshape(-1, 2) for part in segmentation or [] if len(part) >= 6 and len(part) % 2 == 0
    ]


def joined_ring(rings: list[np.ndarray]) -> np.ndarray:
    """One ring (n, 2) that encloses what the rings enclose even-odd: along each and back on bridges without width."""
    start = rings[0][:1]
    parts = [rings[0]]
    for ring in rings[1:]:
        parts += [start, ring, ring[:1], start]
    return np.concatenate(parts) if len(rings) > 1 else rings[0]
