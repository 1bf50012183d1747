"""Pixel classes laid over the image, with a legend."""

from collections.abc import Sequence

import cv2
import numpy as np

from densevit.visualization.palette import Color, bgr_copy, class_color
from densevit.visualization.text import BACKGROUND, Style, class_name, fitting_text, plate, style_for

IGNORED = 255  # of a class map: no class
MORE = (190, 190, 190)


def draw_classes(
    image: np.ndarray,
    class_map: np.ndarray,
    names: Sequence[str] | None = None,
    opacity: float = 0.5,
    legend: bool = True,
    palette: Sequence[Sequence[int]] | None = None,
) -> np.ndarray:
    """A copy of `image` in the colors of its semantic classes, a line between classes and a legend below.

    The legend names the classes that occur, the largest first, on plates in their colors; those for which a third of
    the picture's height does not suffice are counted.

    Args:
        image: (H, W, 3) or (H, W) uint8, BGR; not changed.
        class_map: (H, W) class numbers from 0; 255 = none, left as the image is.
        names: class names; a number without a name is written as '#number'.
        opacity: of the colors, 0 to 1.
        legend: False leaves it out.
        palette: (red, green, blue) of each class, as a dataset states them; None: `class_color`.

    Returns:
        (H + legend, W, 3) uint8 BGR.
    """
    canvas = bgr_copy(image)
    class_map = np.asarray(class_map).astype(np.int64)
    if class_map.shape != canvas.shape[:2]:
        raise ValueError(f"a class map of shape {class_map.shape} does not lie on an image of {canvas.shape[:2]}")
    height, width = class_map.shape
    style = style_for(height, width)
    labels, inverse, counts = np.unique(class_map, return_inverse=True, return_counts=True)
    kinds = [_color(int(label), palette) for label in labels]
    # (H, W, 3), a color for each pixel's place among `labels`
    colors = np.array(kinds, np.uint8)[inverse.reshape(class_map.shape)]
    mixed = cv2.addWeighted(colors, opacity, canvas, 1 - opacity, 0)
    mixed[_borders(class_map, style.line)] = BACKGROUND
    known = class_map != IGNORED
    canvas[known] = mixed[known]
    if not legend:
        return canvas
    order = [index for index in np.argsort(-counts, kind="stable") if labels[index] != IGNORED]
    entries = [(class_name(names, int(labels[index])), kinds[index]) for index in order]
    return np.vstack([canvas, _legend(entries, width, height // 3, style)])


def _color(label: int, palette: Sequence[Sequence[int]] | None) -> Color:
    """BGR color of a class."""
    if palette is None or label >= len(palette):
        return class_color(label)
    red, green, blue = (int(value) for value in palette[label])
    return blue, green, red


def _borders(class_map: np.ndarray, line: int) -> np.ndarray:
    """(H, W) bool: the pixels along a change of class, `line` // 2 wide and at least one."""
    found = np.zeros(class_map.shape, bool)
    found[:, 1:] |= class_map[:, 1:] != class_map[:, :-1]
    found[1:] |= class_map[1:] != class_map[:-1]
    if line >= 4:
        found = cv2.dilate(found.view(np.uint8), np.ones((line // 2, line // 2), np.uint8)).view(bool)
    return found


def _legend(entries: Sequence[tuple[str, Color]], width: int, room: int, style: Style) -> np.ndarray:
    """Rows of plates on a strip `width` wide and about `room` high, two rows at least."""
    plates = []
    for name, color in entries:
        text, size, rise = fitting_text(name, None, width, style)
        plates.append(plate(text, size, rise, color, style)[:, :width])
    if not plates:
        return np.empty((0, width, 3), np.uint8)
    gap, tall = style.margin, plates[0].shape[0]
    rows: list[list[np.ndarray]] = [[]]
    for one in plates:
        if rows[-1] and _length(rows[-1], gap) + one.shape[1] > width:
            rows.append([])
        rows[-1].append(one)
    most = max(2, room // (tall + gap))
    if len(rows) > most:
        rows = rows[:most]
        while True:
            text, size, rise = fitting_text(f"+{len(plates) - sum(map(len, rows))} more", None, width, style)
            if not rows[-1] or _length(rows[-1], gap) + size[0] <= width:
                break
            rows[-1].pop()
        rows[-1].append(plate(text, size, rise, MORE, style)[:, :width])
    strip = np.full((gap + len(rows) * (tall + gap), width, 3), BACKGROUND, np.uint8)
    for number, row in enumerate(rows):
        top, left = gap + number * (tall + gap), 0
        for one in row:
            strip[top : top + tall, left : left + one.shape[1]] = one
            left += one.shape[1] + gap
    return strip


def _length(row: Sequence[np.ndarray], gap: int) -> int:
    """Where the next plate of a row would begin."""
    return sum(one.shape[1] + gap for one in row)
