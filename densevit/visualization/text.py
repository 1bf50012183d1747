"""Text on pictures: sizes that suit a picture, names in cv2's letters, labels in a class's color."""

import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from densevit.visualization.palette import Color, text_color

FONT = cv2.FONT_HERSHEY_SIMPLEX
BACKGROUND, INK = (250, 250, 250), (40, 40, 40)  # beside a picture, and of letters there


SMALLEST = 0.32  # font scale that can be read


class Style(NamedTuple):
    """Sizes in pixels that suit one picture."""

    line: int  # width of a box's line
    scale: float  # cv2's font scale
    stroke: int  # width of a letter's line
    margin: int  # space around a label's text


def style_for(height: int, width: int) -> Style:
    """Lines and letters grow with the picture, so that both look the same once it is shown at one size."""
    size = (height * width) ** 0.5
    style = Style(line=max(1, round(size / 240 + 0.2)), scale=0, stroke=0, margin=0)
    return with_letters(style, max(SMALLEST, size / 1200))


def with_letters(style: Style, scale: float) -> Style:
    """A style with letters of another size."""
    return style._replace(scale=scale, stroke=max(1, round(scale * 1.6)), margin=max(1, round(scale * 5)))


def class_name(names: Sequence[str] | None, label: int) -> str:
    """The class name in letters that cv2's font has: accents dropped, '#number' where nothing is left."""
    name = names[label] if names is not None and 0 <= label < len(names) else ""
    ascii_name = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().strip()
    return ascii_name or f"#{label}"


def fitting_text(name: str, score: float | None, width: int, style: Style) -> tuple[str, tuple[int, int], int]:
    """The longest of 'name score', 'name', 'nam.' that fits a picture `width` wide; its plate's size and its rise."""
    texts = [name if score is None else f"{name} {score:.2f}", name]
    texts += [name[:n] + "." for n in range(len(name) - 1, 0, -1)]
    (_, text_height), below = cv2.getTextSize("Ag", FONT, style.scale, style.stroke)  # plates in a row are equally high
    for text in texts:
        (text_width, _), _ = cv2.getTextSize(text, FONT, style.scale, style.stroke)
        if text_width + 2 * style.margin <= width:
            break
    return text, (text_width + 2 * style.margin, text_height + below + 2 * style.margin), text_height


def plate(text: str, size: tuple[int, int], rise: int, color: Color, style: Style) -> np.ndarray:
    """A plate of `size` (width, height) in `color` with `text` on it, of which no letter leaves the plate."""
    width, height = size
    made = np.full((height, width, 3), color, np.uint8)
    origin = (style.margin, style.margin + rise)
    cv2.putText(made, text, origin, FONT, style.scale, text_color(color), style.stroke, cv2.LINE_AA)
    return made
