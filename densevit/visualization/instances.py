"""Boxes, masks where there are any, class names and scores on a picture of any size."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np

from densevit.visualization.masks import Mask, paint_masks
from densevit.visualization.palette import Color, bgr_copy, instance_colors
from densevit.visualization.text import SMALLEST, Style, class_name, fitting_text, plate, style_for, with_letters

CROWDED = 0.1  # of the picture: what labels may cover in letters of the usual size
MANY = 8  # objects that are smaller than their labels


class Rect(NamedTuple):
    """A label's box in pixels, right and bottom excluded."""

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
    masks: Sequence[Mask] | None = None,
) -> np.ndarray:
    """A copy of `image` with boxes, each with a label 'name 0.87' that stays inside the picture.

    Every object has a shade of its class's color to itself, so that label, box and mask are seen to belong together.
    With masks, boxes are thin. Labels are placed best score first, each where it covers no other label if there is such
    a place beside its box; a line joins one that stands apart to it. The more there are, the smaller the letters, as
    long as these can be read.

    Args:
        image: (H, W, 3) or (H, W) uint8, BGR; not changed.
        boxes: (N, 4) corners x1, y1, x2, y2 in pixels of `image`; parts outside are cut, boxes of NaN left out.
        labels: (N,) class numbers from 0.
        scores: (N,) or None for ground truth.
        names: class names; a number without a name is written as '#number'.
        masks: N COCO RLEs or bitmaps, of the image's size or to be stretched to it.

    Returns:
        (H, W, 3) uint8 BGR.
    """
    canvas = bgr_copy(image)
    height, width = canvas.shape[:2]
    boxes = _array(boxes, np.float64).reshape(-1, 4)  # (N, 4), also of none
    labels = _array(labels, np.int64).reshape(-1)
    scores = None if scores is None else _array(scores, np.float64).reshape(-1)
    shown = np.flatnonzero(np.isfinite(boxes).all(1))
    if scores is not None:
        shown = shown[np.argsort(-scores[shown], kind="stable")]
    style = style_for(height, width)
    corners = np.zeros(boxes.shape, np.int64)
    corners[shown] = np.clip(boxes[shown].round(), 0, [width - 1, height - 1, width - 1, height - 1])
    colors = dict(zip(shown.tolist(), instance_colors(labels[shown].tolist()), strict=True))
    line = style.line
    if masks is not None:
        line = max(1, line // 2)
        paint_masks(canvas, [masks[i] for i in shown], list(colors.values()), line)
    for i in shown[::-1].tolist():  # the best last, on top
        x1, y1, x2, y2 = corners[i].tolist()
        cv2.rectangle(canvas, (x1, y1), (x2, y2), colors[i], line)
    words = [(class_name(names, int(labels[i])), None if scores is None else scores[i]) for i in shown]
    areas = (corners[shown, 2:] - corners[shown, :2]).prod(1)
    texts, style = _fitting_texts(words, areas, (height, width), style)
    # what a label could hide whole
    small = corners[shown[areas < 2 * np.array([size[0] * size[1] for _, size, _ in texts])]]
    placed: list[Rect] = []
    for i, (_, text_size, _) in zip(shown, texts, strict=True):
        placed.append(_place(corners[i].tolist(), text_size, (height, width), style, placed, small))
    for rect, i in zip(placed, shown.tolist(), strict=True):
        _join(canvas, rect, corners[i].tolist(), colors[i], max(1, style.line // 2))
    for rect, (text, _, rise), i in zip(placed[::-1], texts[::-1], shown[::-1].tolist(), strict=True):
        # The picture cuts a plate that is larger than itself.
        size = (rect.right - rect.left, rect.bottom - rect.top)
        canvas[rect.top : rect.bottom, rect.left : rect.right] = plate(text, size, rise, colors[i], style)
    return canvas


def _array(values: Any, dtype: type) -> np.ndarray:
    return np.asarray(values.detach().cpu() if hasattr(values, "detach") else values, dtype)


def _fitting_texts(
    words: Sequence[tuple[str, float | None]], areas: np.ndarray, shape: tuple[int, int], style: Style
) -> tuple[list[tuple[str, tuple[int, int], int]], Style]:
    """Each label's text, plate size and rise, and the style in which the plates leave the picture free.

    Where they would cover much of it, or many objects (of `areas` pixels) are smaller than their labels, letters are
    smaller, and objects smaller than their labels are named without a score.
    """
    height, width = shape
    texts = [fitting_text(name, score, width, style) for name, score in words]
    plates = np.array([size[0] * size[1] for _, size, _ in texts])
    covered, hidden = plates.sum() / (height * width), areas < plates
    if covered <= CROWDED and hidden.sum() <= MANY:
        return texts, style
    style = with_letters(style, min(style.scale, max(SMALLEST, style.scale * min(0.8, (CROWDED / covered) ** 0.5))))
    words = [(name, None if tiny else score) for (name, score), tiny in zip(words, hidden, strict=True)]
    return [fitting_text(name, score, width, style) for name, score in words], style


def _join(canvas: np.ndarray, rect: Rect, box: list[int], color: Color, line: int) -> None:
    """A line from a label that stands apart from its box to the nearest point of the box."""
    x1, y1, x2, y2 = box
    gap = max(y1 - rect.bottom, rect.top - y2, x1 - rect.right, rect.left - x2)
    if gap > (rect.bottom - rect.top) // 3:
        x, y = (rect.left + rect.right) // 2, (rect.top + rect.bottom) // 2
        cv2.line(canvas, (x, y), (min(max(x, x1), x2), min(max(y, y1), y2)), color, line, cv2.LINE_AA)


def _candidates(box: list[int], size: tuple[int, int], line: int) -> Iterator[tuple[int, int]]:
    """Left and top of positions for a label of `size` at `box`, best first: above, inside, below, then down the
    sides."""
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


def _place(
    box: list[int], size: tuple[int, int], shape: tuple[int, int], style: Style, placed: list[Rect], small: np.ndarray
) -> Rect:
    """The first place inside the picture that covers no label placed before and no small box (S, 4), else the one that
    covers least."""
    height, width = shape
    best, best_cost = None, None
    for left, top in _candidates(box, size, style.line):
        x = max(0, min(left, width - size[0]))
        y = max(0, min(top, height - size[1]))
        rect = Rect(x, y, min(width, x + size[0]), min(height, y + size[1]))
        # A position that had to be pushed back into the picture is fine beside its box and worse far from it.
        cost = sum(rect.overlap(other) for other in placed) + 0.05 * size[1] * abs(y - top) + 0.01 * abs(x - left)
        if len(small):
            shared = np.minimum(small[:, 2:], rect[2:]) - np.maximum(small[:, :2], rect[:2])
            cost += 0.3 * float(shared.clip(0).prod(1).sum())
        if best_cost is None or cost < best_cost:
            best, best_cost = rect, cost
        if cost == 0:
            break
    return best
