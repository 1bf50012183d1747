"""Maps as pictures: pixel classes laid over the image with a legend, depth in colours with a scale in metres."""

import math
from collections.abc import Sequence

import cv2
import numpy as np

from densevit.visualization.lettering import BACKGROUND, FONT, INK, Style, class_name, fitting_text, plate, style_for
from densevit.visualization.palette import Color, class_color

IGNORED = 255  # of a class map: no class
NO_DEPTH = (128, 128, 128)
MORE = (190, 190, 190)
ENDS = (0.5, 99.5)  # per cent of the pixels: a few stray ones do not stretch a depth map's colours


def draw_classes(
    image: np.ndarray,
    class_map: np.ndarray,
    names: Sequence[str] | None = None,
    opacity: float = 0.5,
    legend: bool = True,
    palette: Sequence[Sequence[int]] | None = None,
) -> np.ndarray:
    """A copy of `image` in the colours of its pixels' classes, a line between classes and a legend below.

    The legend names the classes that occur, the largest first, on plates in their colours; those for which a third of
    the picture's height does not suffice are counted.

    Args:
        image: (H, W, 3) or (H, W) uint8, BGR; not changed.
        class_map: (H, W) class numbers from 0; 255 = none, left as the image is.
        names: class names; a number without a name is written as '#number'.
        opacity: of the colours, 0 to 1.
        legend: False leaves it out.
        palette: (red, green, blue) of each class, as a data set states them; None: `class_color`.

    Returns:
        (H + legend, W, 3) uint8 BGR.
    """
    canvas = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR) if image.ndim == 2 else np.ascontiguousarray(image).copy()
    class_map = np.asarray(class_map).astype(np.int64)
    if class_map.shape != canvas.shape[:2]:
        raise ValueError(f"a class map of shape {class_map.shape} does not lie on an image of {canvas.shape[:2]}")
    height, width = class_map.shape
    style = style_for(height, width)
    labels, places, counts = np.unique(class_map, return_inverse=True, return_counts=True)
    kinds = [_color(int(label), palette) for label in labels]
    colors = np.array(kinds, np.uint8)[places.reshape(class_map.shape)]
    mixed = cv2.addWeighted(colors, opacity, canvas, 1 - opacity, 0)
    mixed[_borders(class_map, style.line)] = BACKGROUND
    known = class_map != IGNORED
    canvas[known] = mixed[known]
    if not legend:
        return canvas
    order = [place for place in np.argsort(-counts, kind="stable") if labels[place] != IGNORED]
    entries = [(class_name(names, int(labels[place])), kinds[place]) for place in order]
    return np.vstack([canvas, _legend(entries, width, height // 3, style)])


def draw_depth(depth: np.ndarray, limits: tuple[float, float] | None = None, scale: bool = True) -> np.ndarray:
    """Depth in colours, near = warm (red), far = cold (blue), equal steps of colour for equal ratios of distance.

    Args:
        depth: (H, W) metres; 0 and what is no positive number = none, grey.
        limits: the (near, far) distances of the ends of the colours; None takes those of this map, a few pixels aside.
        scale: whether a bar with distances stands below.

    Returns:
        (H + bar, W, 3) uint8 BGR.
    """
    depth = np.asarray(depth, np.float64)
    if depth.ndim != 2:
        raise ValueError(f"a depth map is (H, W), not of shape {depth.shape}")
    measured = np.isfinite(depth) & (depth > 0)
    if limits is None and measured.any():
        near, far = np.percentile(depth[measured], ENDS).tolist()
        limits = (near, far) if far > 1.01 * near else (near / 1.05, far * 1.05)
    picture = np.full((*depth.shape, 3), NO_DEPTH, np.uint8)
    if limits is not None:
        picture[measured] = _warmth(depth[measured], *limits)
    if not scale:
        return picture
    style = style_for(*depth.shape)
    return np.vstack([picture, _scale_bar(limits, not measured.all(), depth.shape[1], style)])


def metre_ticks(near: float, far: float) -> list[float]:
    """Round distances from `near` to `far` in metres: 1, 2, 5, 10, 20, ... or, where fewer than three of these lie
    between, the multiples of one such number."""
    powers = range(math.floor(math.log10(near)), math.ceil(math.log10(far)) + 1)
    steps = [digit * 10.0**power for power in powers for digit in (1, 2, 5)]
    ticks = [step for step in steps if near <= step <= far]
    if len(ticks) < 3:
        reach = far - near
        powers = range(math.floor(math.log10(reach)) - 1, math.ceil(math.log10(reach)) + 1)
        step = next(s for s in (d * 10.0**p for p in powers for d in (1, 2, 5)) if reach / s <= 8)
        ticks = [step * n for n in range(math.ceil(near / step), math.floor(far / step) + 1)]
    return [float(f"{tick:.6g}") for tick in ticks]


def _color(label: int, palette: Sequence[Sequence[int]] | None) -> Color:
    """BGR colour of a class."""
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


def _warmth(metres: np.ndarray, near: float, far: float) -> np.ndarray:
    """(N,) metres -> (N, 3) uint8 BGR."""
    place = np.log(np.clip(metres, near, far) / near) / math.log(far / near)
    warm = np.round(255 * (1 - place)).astype(np.uint8).reshape(-1, 1)
    return cv2.applyColorMap(warm, cv2.COLORMAP_TURBO).reshape(-1, 3)


def _scale_bar(limits: tuple[float, float] | None, gaps: bool, width: int, style: Style) -> np.ndarray:
    """The colours from near to far with distances below and, where pixels have none, a grey plate that says so."""
    text, (wide, tall), rise = fitting_text("none", None, width, style)
    gap, (_, letter), thick = style.margin, cv2.getTextSize("0", FONT, style.scale, style.stroke)[0], 2 * style.line
    strip = np.full((gap + tall + thick + letter + 2 * gap, width, 3), BACKGROUND, np.uint8)
    end = width
    if gaps:
        strip[gap : gap + tall, max(0, width - wide) :] = plate(text, (min(wide, width), tall), rise, NO_DEPTH, style)
        end = max(0, width - wide - 2 * gap)
    if limits is None or end < 2:
        return strip
    near, far = limits
    strip[gap : gap + tall, :end] = _warmth(near * (far / near) ** np.linspace(0, 1, end), near, far)
    taken = 0
    for tick in metre_ticks(near, far):
        x = round((end - 1) * math.log(tick / near) / math.log(far / near))
        words = f"{tick:g} m"
        (wide, _), _ = cv2.getTextSize(words, FONT, style.scale, style.stroke)
        left = min(max(x - wide // 2, 0), end - wide)
        if left < taken:
            continue
        taken = left + wide + 2 * gap
        half = (style.line - 1) // 2
        strip[gap + tall : gap + tall + thick, max(0, x - half) : x + half + 1] = INK
        origin = (left, gap + tall + thick + gap + letter)
        cv2.putText(strip, words, origin, FONT, style.scale, INK, style.stroke, cv2.LINE_AA)
    return strip
