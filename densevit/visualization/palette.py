"""One colour a class, for any number of classes; class k has the same colour whatever the number."""

import colorsys
from functools import cache

import numpy as np

Color = tuple[int, int, int]

GOLDEN = 0.6180339887498949  # successive multiples, modulo 1, spread evenly at every length


@cache
def class_color(label: int) -> Color:
    """BGR colour of class `label` (from 0): hues by the golden ratio, three strengths in turn to part near hues."""
    hue = (label * GOLDEN) % 1.0
    value = (1.0, 0.78, 0.9)[label % 3]
    # The saturation moves slowly, so that two hues that come near again after a Fibonacci number of steps differ.
    saturation = 0.95 - 0.5 * ((label * 0.0573) % 1.0)
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return round(255 * blue), round(255 * green), round(255 * red)


def palette(num_classes: int) -> np.ndarray:
    """(num_classes, 3) uint8 BGR, all different up to 2000 classes."""
    return np.array([class_color(k) for k in range(num_classes)], np.uint8).reshape(num_classes, 3)


def text_color(background: Color) -> Color:
    """Black or white, whichever stands out more on `background` (BGR): relative luminance of WCAG 2.1."""
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in background)]
    luminance = 0.0722 * linear[0] + 0.7152 * linear[1] + 0.2126 * linear[2]
    return (0, 0, 0) if (luminance + 0.05) ** 2 > 1.05 * 0.05 else (255, 255, 255)
