"""Silhouettes, by which the classes differ.

A shape is a list of (outline, slot): outlines are (n, 2) float arrays, x to the right of the middle, y up from the
ground, the longer side about 1; they are painted in order. The slot picks the paint of a part (0..2) or cuts a HOLE.
Proportions vary from one object to the next, within limits that keep every class what it is.
"""

from collections.abc import Callable

import numpy as np

HOLE = -1
Shape = list[tuple[np.ndarray, int]]

_TURN = np.linspace(0.0, 2 * np.pi, 32, endpoint=False)
_CIRCLE = np.stack([np.cos(_TURN), np.sin(_TURN)], axis=1)


def ellipse(x: float, y: float, rx: float, ry: float) -> np.ndarray:
    """Outline of an ellipse around (x, y)."""
    return _CIRCLE * (rx, ry) + (x, y)


def box(left: float, bottom: float, right: float, top: float) -> np.ndarray:
    """Outline of an upright rectangle."""
    return np.array([(left, bottom), (right, bottom), (right, top), (left, top)])


def turned(heights: list[float], radii: list[float], smooth: bool = False) -> np.ndarray:
    """Outline of a turned body: its radius at each height, flipped; `smooth` rounds the course between them."""
    y, r = np.array(heights), np.array(radii)
    if smooth:
        fine = np.linspace(0.0, len(y) - 1.0, 33)
        index = np.clip(fine.astype(int), 0, len(y) - 2)
        part = fine - index
        ease = part * part * (3 - 2 * part)
        y, r = (
            y[index] + (y[index + 1] - y[index]) * part,
            r[index] + (r[index + 1] - r[index]) * ease,
        )
    return np.concatenate([np.stack([r, y], axis=1), np.stack([-r[::-1], y[::-1]], axis=1)])


def ball(rng: np.random.Generator) -> Shape:
    band = rng.uniform(0.08, 0.2)
    bow = np.linspace(-np.arcsin(band / 0.5), np.arcsin(band / 0.5), 7)
    right = np.stack([0.5 * np.cos(bow), 0.5 + 0.5 * np.sin(bow)], axis=1)
    left = right[::-1] * (-1, 1)
    return [(ellipse(0, 0.5, 0.5, 0.5), 0), (np.concatenate([right, left]), int(rng.integers(0, 2)))]


def ring(rng: np.random.Generator) -> Shape:
    inner = rng.uniform(0.24, 0.31)
    return [(ellipse(0, 0.5, 0.5, 0.5), 0), (ellipse(0, 0.5, inner, inner), HOLE)]


def bottle(rng: np.random.Generator) -> Shape:
    body, neck, shoulder = rng.uniform(0.16, 0.21), rng.uniform(0.06, 0.08), rng.uniform(0.48, 0.62)
    outline = turned(
        [0, 0.03, shoulder, shoulder + 0.1, shoulder + 0.16, 0.92, 0.92, 1],
        [body * 0.92, body, body, body * 0.8, neck, neck, neck + 0.025, neck + 0.025],
    )
    cap = turned([0.92, 1], [neck + 0.025, neck + 0.025])
    label = turned([0.12, shoulder - 0.08], [body, body])
    return [(outline, 0), (label, 1), (cap, 2)]


def vase(rng: np.random.Generator) -> Shape:
    foot, belly, waist, lip = (
        rng.uniform(0.13, 0.2),
        rng.uniform(0.32, 0.4),
        rng.uniform(0.1, 0.14),
        rng.uniform(0.22, 0.3),
    )
    outline = turned([0, 0.06, 0.36, 0.74, 1], [foot, foot, belly, waist, lip], smooth=True)
    return [(outline, 0), (turned([0, 0.06], [foot, foot]), 1)]


def mug(rng: np.random.Generator) -> Shape:
    half, top, thick = rng.uniform(0.32, 0.38), rng.uniform(0.82, 0.92), rng.uniform(0.1, 0.13)
    middle, across, up = half - 0.08, rng.uniform(0.3, 0.36), rng.uniform(0.28, 0.32)
    handle = (middle - 0.12, top * 0.52)
    body = box(-half - 0.12, 0, half - 0.12, top)
    body[:2, 0] = (body[:2, 0] + 0.12) * rng.uniform(0.82, 0.96) - 0.12
    rim = box(-half - 0.12, top - 0.1, half - 0.12, top)
    return [
        (ellipse(*handle, across, up), 1),
        (ellipse(*handle, across - thick, up - thick), HOLE),
        (body, 0),
        (rim, 2),
    ]


def _wheels(centers: list[float], radius: float) -> Shape:
    return [(ellipse(x, radius, radius, radius), 2) for x in centers]


def car(rng: np.random.Generator) -> Shape:
    roof, belt, radius = rng.uniform(0.4, 0.46), rng.uniform(0.23, 0.27), rng.uniform(0.095, 0.115)
    front, back = rng.uniform(0.18, 0.26), rng.uniform(-0.4, -0.3)
    bonnet = [(0.5, 0.08), (0.5, belt - 0.05), (front + 0.1, belt)]
    cabin = [(front - 0.08, roof), (back + 0.1, roof), (back - 0.02, belt)]
    body = np.array([(-0.5, 0.08), *bonnet, *cabin, (-0.5, belt - 0.02)])
    glass = np.array(
        [
            (front + 0.03, belt + 0.01),
            (front - 0.1, roof - 0.04),
            (back + 0.13, roof - 0.04),
            (back + 0.05, belt + 0.01),
        ]
    )
    return [(body, 0), (glass, 1), *_wheels([-0.3, 0.3], radius)]


def truck(rng: np.random.Generator) -> Shape:
    load, cab, radius = rng.uniform(0.52, 0.62), rng.uniform(0.36, 0.42), rng.uniform(0.08, 0.1)
    split = rng.uniform(0.16, 0.24)
    cargo = box(-0.5, 0.1, split - 0.04, load)
    front = np.array(
        [(split - 0.04, 0.09), (0.5, 0.09), (0.5, 0.22), (0.42, cab), (split, cab), (split, 0.2), (split - 0.04, 0.2)]
    )
    window = np.array([(split + 0.05, 0.24), (0.45, 0.24), (0.4, cab - 0.03), (split + 0.05, cab - 0.03)])
    return [(cargo, 0), (front, 1), (window, 2), *_wheels([-0.36, -0.16, 0.34], radius)]


def chair(rng: np.random.Generator) -> Shape:
    seat, deep, leg = rng.uniform(0.4, 0.5), rng.uniform(0.28, 0.34), rng.uniform(0.075, 0.1)
    lean = rng.uniform(0.0, 0.1)
    back = np.array([(-deep, seat), (-deep + leg, seat), (-deep + leg - lean, 1), (-deep - lean, 1)])
    return [
        (box(-deep, 0, -deep + leg, seat), 1),
        (box(deep - leg, 0, deep, seat), 1),
        (back, 0),
        (box(-deep, seat - 0.06, deep, seat + 0.06), 0),
    ]


def lamp(rng: np.random.Generator) -> Shape:
    low, top, hem = rng.uniform(0.27, 0.34), rng.uniform(0.1, 0.16), rng.uniform(0.58, 0.66)
    foot, pole = rng.uniform(0.18, 0.24), rng.uniform(0.03, 0.045)
    return [
        (turned([0, 0.05, 0.1], [foot, foot, pole]), 1),
        (turned([0.05, hem + 0.05], [pole, pole]), 1),
        (turned([hem, 1], [low, top]), 0),
    ]


def mushroom(rng: np.random.Generator) -> Shape:
    rim, stem, wide = rng.uniform(0.5, 0.58), rng.uniform(0.11, 0.15), rng.uniform(0.42, 0.5)
    cap = ellipse(0, rim, wide, 1)
    cap = cap[: len(cap) // 2 + 1]
    cap[:, 1] = rim + (cap[:, 1] - rim) * (0.95 - rim)
    return [(turned([0, 0.25, rim + 0.03], [stem * 1.35, stem, stem]), 1), (cap, 0)]


def fir(rng: np.random.Generator) -> Shape:
    trunk, wide = rng.uniform(0.06, 0.09), rng.uniform(0.32, 0.4)
    parts: Shape = [(box(-trunk, 0, trunk, 0.25), 1)]
    for low, high, share in ((0.16, 0.56, 1.0), (0.4, 0.78, 0.76), (0.62, 1.0, 0.54)):
        parts.append((np.array([(-wide * share, low), (wide * share, low), (0, high)]), 0))
    return parts


def star(rng: np.random.Generator) -> Shape:
    inner = rng.uniform(0.2, 0.25)
    radius = np.tile([0.53, inner], 5)
    turn = np.pi / 2 + np.arange(10) * np.pi / 5 + rng.uniform(-0.12, 0.12)
    points = np.stack([radius * np.cos(turn), radius * np.sin(turn)], axis=1)
    points[:, 1] -= points[:, 1].min()
    return [(points, 0)]


# In the order of classes.OBJECT_CLASSES: how to draw the class, and how far it bulges, as a share of its size.
OBJECTS: tuple[tuple[Callable[[np.random.Generator], Shape], float], ...] = (
    (ball, 0.5),
    (ring, 0.13),
    (bottle, 0.19),
    (vase, 0.33),
    (mug, 0.33),
    (car, 0.12),
    (truck, 0.14),
    (chair, 0.05),
    (lamp, 0.2),
    (mushroom, 0.3),
    (fir, 0.2),
    (star, 0.12),
)


def rubble(rng: np.random.Generator) -> Shape:
    """Clutter: a lump without a class."""
    n = int(rng.integers(6, 10))
    turn = (np.arange(n) + rng.uniform(-0.3, 0.3, n)) * 2 * np.pi / n
    points = np.stack([np.cos(turn), np.sin(turn)], axis=1) * rng.uniform(0.28, 0.5, n)[:, None]
    points[:, 1] -= points[:, 1].min()
    return [(points, 0)]
