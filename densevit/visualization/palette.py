"""One color a class, for any number of classes; class k has the same color whatever the number."""

import colorsys
from collections.abc import Sequence
from functools import cache

import cv2
import numpy as np

Color = tuple[int, int, int]

GOLDEN = 0.6180339887498949  # successive multiples, modulo 1, spread evenly at every length


@cache
def class_color(label: int) -> Color:
    """BGR color of class `label` (from 0): hues by the golden ratio, three strengths in turn to part near hues."""
    hue = (label * GOLDEN) % 1.0
    value = (1.0, 0.78, 0.9)[label % 3]
    # The saturation moves slowly, so that two hues that come near again after a Fibonacci number of steps differ.
    saturation = 0.95 - 0.5 * ((label * 0.0573) % 1.0)
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return round(255 * blue), round(255 * green), round(255 * red)


def palette(num_classes: int) -> np.ndarray:
    """(num_classes, 3) uint8 BGR, all different up to 2000 classes."""
    # (K, 3), also of none
    return np.array([class_color(k) for k in range(num_classes)], np.uint8).reshape(num_classes, 3)


def instance_colors(labels: Sequence[int]) -> list[Color]:
    """A color for each object, near its class's: the first of a class has that itself, the others shades around it."""
    seen: dict[int, int] = {}
    colors = []
    for label in labels:
        number = seen.get(label, 0)
        seen[label] = number + 1
        colors.append(_shade(class_color(label), number))
    return colors


@cache
def _shade(color: Color, number: int) -> Color:
    """Shade number `number` of a color: hues up to a twelfth of the circle away, lighter and darker in turn."""
    if number == 0:
        return color
    hue, saturation, value = colorsys.rgb_to_hsv(*(c / 255 for c in color[::-1]))
    turn = ((number * GOLDEN) % 1.0 - 0.5) / 6
    # stronger and paler by turns, never so pale or dark that the class's color is lost
    saturation = min(1.0, saturation * (1.0, 0.6, 1.25)[number % 3])
    value = min(1.0, value * (1.0, 1.1, 0.72)[(number + number // 3) % 3])
    red, green, blue = colorsys.hsv_to_rgb((hue + turn) % 1.0, saturation, value)
    return round(255 * blue), round(255 * green), round(255 * red)


def luminance(color: Color) -> float:
    """Relative luminance of a BGR color, 0 to 1 (WCAG 2.1)."""
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in color)]
    return 0.0722 * linear[0] + 0.7152 * linear[1] + 0.2126 * linear[2]


def contrast(a: Color, b: Color) -> float:
    """Contrast ratio of two colors, 1 to 21 (WCAG 2.1)."""
    dark, bright = sorted((luminance(a), luminance(b)))
    return (bright + 0.05) / (dark + 0.05)


def text_color(background: Color) -> Color:
    """Black or white, whichever stands out more on `background` (BGR)."""
    return max(((0, 0, 0), (255, 255, 255)), key=lambda ink: contrast(ink, background))


def standing_out(color: Color, background: Color) -> Color:
    """`color`, mixed with as little white or black as makes its contrast to `background` 3, WCAG's least for shapes."""
    best = color
    for share in (0.0, 0.2, 0.4, 0.6, 0.8):
        for ink in (255, 0):
            mixed = tuple(round(c + (ink - c) * share) for c in color)
            if contrast(mixed, background) >= 3:
                return mixed
            best = max(best, mixed, key=lambda c: contrast(c, background))
    return best


def bgr_copy(image: np.ndarray) -> np.ndarray:
    """A copy (H, W, 3) of a color image or a gray one (H, W)."""
    return cv2.cvtColor(image, cv2.COLOR_GRAY2BGR) if image.ndim == 2 else np.ascontiguousarray(image).copy()
