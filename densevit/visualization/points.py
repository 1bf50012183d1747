"""A picture of colored points in space, seen from beside the camera that took them."""

import math

import numpy as np

BEHIND = (96, 84, 76)  # tells white walls and black corners from nothing
MARGIN = 0.04  # of the picture's side


def draw_points(
    points: np.ndarray, colors: np.ndarray, turn: float = 25.0, tilt: float = 15.0, side: int = 800
) -> np.ndarray:
    """Points as seen by a camera that is moved around their middle, all within the picture: the nearest at each pixel,
    about as large as the gaps between neighbors.

    Args:
        points: (N, 3) x right, y down, z forward, from the camera that took them.
        colors: (N, 3) uint8 BGR.
        turn: degrees to the right, tilt: degrees up, of the way around their middle.
        side: longer side of the picture in pixels.

    Returns:
        (H, W, 3) uint8 BGR; blank without points.
    """
    if not len(points):
        return np.full((side * 3 // 4, side, 3), BEHIND, np.uint8)
    points = np.asarray(points, np.float64)
    middle = np.median(points, axis=0)
    distance = max(np.linalg.norm(middle), 1e-9)
    seen = (points - middle) @ _turned(turn, tilt).T + (0, 0, distance)
    before = seen[:, 2] > 0.05 * distance
    seen, colors = seen[before], np.asarray(colors)[before]
    z = seen[:, 2]
    x, y = seen[:, 0] / z, seen[:, 1] / z
    (left, right), (top, bottom) = _ends(x), _ends(y)
    scale = side * (1 - 2 * MARGIN) / max(right - left, bottom - top, 1e-9)
    width, height = (max(16, math.ceil(scale * reach + 2 * MARGIN * side)) for reach in (right - left, bottom - top))
    u = ((x - (left + right) / 2) * scale + width / 2).astype(np.int64)
    v = ((y - (top + bottom) / 2) * scale + height / 2).astype(np.int64)
    # squares that touch if the points were spread evenly over the picture
    size = min(9, max(1, math.ceil(math.sqrt(width * height / len(z)))))
    return _splat(u, v, z, colors, size, (height, width))


def _turned(turn: float, tilt: float) -> np.ndarray:
    """(3, 3): from the first camera's axes to those of one carried to the right and up around what it looks at (y is
    down)."""
    a, b = math.radians(turn), math.radians(tilt)
    aside = np.array([[math.cos(a), 0, math.sin(a)], [0, 1, 0], [-math.sin(a), 0, math.cos(a)]])
    above = np.array([[1, 0, 0], [0, math.cos(b), -math.sin(b)], [0, math.sin(b), math.cos(b)]])
    return above @ aside


def _ends(values: np.ndarray) -> tuple[float, float]:
    """Where most of the values lie: stray points do not shrink the picture."""
    low, high = np.percentile(values, (0.5, 99.5)).tolist()
    return low, high


def _splat(
    u: np.ndarray, v: np.ndarray, z: np.ndarray, colors: np.ndarray, size: int, shape: tuple[int, int]
) -> np.ndarray:
    """Squares of `size` pixels at columns u and rows v, nearer ones over farther ones."""
    height, width = shape
    order = np.argsort(-z, kind="stable")
    u, v, colors = u[order] - size // 2, v[order] - size // 2, colors[order]
    nearest, here = np.full((2, height * width), -1)
    for down in range(size):
        for right in range(size):
            rows, columns = v + down, u + right
            inside = np.flatnonzero((rows >= 0) & (rows < height) & (columns >= 0) & (columns < width))
            here[:] = -1
            here[rows[inside] * width + columns[inside]] = inside  # of several the last stays: the nearest
            np.maximum(nearest, here, out=nearest)
    picture = np.full((height * width, 3), BEHIND, np.uint8)
    hit = nearest >= 0
    picture[hit] = colors[nearest[hit]]
    return picture.reshape(height, width, 3)  # rows of pixels -> (H, W, 3)
