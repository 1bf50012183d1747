"""Boxes with class names and scores on a picture of any size."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np

from densevit.visualization.lettering import Style, class_name, fitting_text, plate, style_for
from densevit.visualization.palette import class_color


class Rect(NamedTuple):
    """A label's place, in pixels, right and bottom excluded."""

    left: int
    top: int
    right: int
    bottom: int

    def overlap(self, other: "Rect") -> int:
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(0, width) * max(0, height)


def draw_instances(
    image: np.ndarray,
    boxes: Any,
    labels: Any,
    scores: Any = None,
    names: Sequence[str] | None = None,
) -> np.ndarray:
    """A copy of `image` with boxes, each with a label 'name 0.87' that stays inside the picture.

    Labels are placed best score first, each where it covers no other label if there is such a place beside its box.

    Args:
        image: (H, W, 3) or (H, W) uint8, BGR; not changed.
        boxes: (N, 4) corners x1, y1, x2, y2 in pixels of `image`; parts outside are cut, boxes of NaN left out.
        labels: (N,) class numbers from 0.
        scores: (N,) or None for truth.
        names: class names; a number without a name is written as '#number'.

    Returns:
        (H, W, 3) uint8 BGR.
    """
    canvas = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR) if image.ndim == 2 else np.ascontiguousarray(image).copy()
    height, width = canvas.shape[:2]
    boxes = _array(boxes, np.float64).reshape(-1, 4)
    labels = _array(labels, np.int64).reshape(-1)
    scores = None if scores is None else _array(scores, np.float64).reshape(-1)
    shown = np.flatnonzero(np.isfinite(boxes).all(1))
    if scores is not None:
        shown = shown[np.argsort(-scores[shown], kind="stable")]
    style = style_for(height, width)
    corners = np.zeros(boxes.shape, np.int64)
    corners[shown] = np.clip(boxes[shown].round(), 0, [width - 1, height - 1, width - 1, height - 1])
    for i in shown[::-1]:  # the best last, on top
        x1, y1, x2, y2 = corners[i].tolist()
        cv2.rectangle(canvas, (x1, y1), (x2, y2), class_color(int(labels[i])), style.line)
    placed: list[Rect] = []
    drawn: list[tuple[Rect, str, int]] = []
    for i in shown:
        score = None if scores is None else scores[i]
        text, text_size, rise = fitting_text(class_name(names, int(labels[i])), score, width, style)
        rect = _place(corners[i].tolist(), text_size, (height, width), style, placed)
        placed.append(rect)
        drawn.append((rect, text, rise))
    for (rect, text, rise), i in zip(reversed(drawn), shown[::-1], strict=True):
        # The picture cuts a plate that is larger than itself.
        size = (rect.right - rect.left, rect.bottom - rect.top)
        canvas[rect.top : rect.bottom, rect.left : rect.right] = plate(
            text, size, rise, class_color(int(labels[i])), style
        )
    return canvas


def _array(values: Any, dtype: type) -> np.ndarray:
    return np.asarray(values.detach().cpu() if hasattr(values, "detach") else values, dtype)


def _candidates(box: list[int], size: tuple[int, int], line: int) -> Iterator[tuple[int, int]]:
    """Left and top of places for a label of `size` at `box`, best first: above, inside, below, then down the sides."""
    x1, y1, x2, y2 = box
    width, height = size
    half = line // 2
    left, right = x1 - half, x2 + half + 1 - width
    for top in (y1 - half - height, y1 - half, y2 + half + 1, y2 + half + 1 - height):
        yield left, top
        yield right, top
    for step in range(1, 6):
        for top in (y1 - half - height * (step + 1), y1 - half + height * step, y2 + half + 1 + height * step):
            yield left, top
            yield right, top


def _place(box: list[int], size: tuple[int, int], shape: tuple[int, int], style: Style, placed: list[Rect]) -> Rect:
    """The first place inside the picture that covers no label placed before, else the one that covers least."""
    height, width = shape
    best, best_cost = None, None
    for left, top in _candidates(box, size, style.line):
        x = max(0, min(left, width - size[0]))
        y = max(0, min(top, height - size[1]))
        rect = Rect(x, y, min(width, x + size[0]), min(height, y + size[1]))
        # A place that had to be pushed back into the picture is fine beside its box and worse far from it.
        cost = sum(rect.overlap(other) for other in placed) + 0.05 * size[1] * abs(y - top) + 0.01 * abs(x - left)
        if best_cost is None or cost < best_cost:
            best, best_cost = rect, cost
        if cost == 0:
            break
    return best
