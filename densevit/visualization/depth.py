"""Depth as pictures: near is warm (red), far is cold (blue), what has no depth is gray, a scale stands below.

Two kinds: 'metric' is meters; 'relative' is inverse depth up to an unknown scale and shift, larger is nearer, and its
scale has no numbers.
"""

import math

import cv2
import numpy as np

from densevit.visualization.text import BACKGROUND, FONT, INK, Style, fitting_text, plate, style_for

NO_DEPTH = (128, 128, 128)
ENDS = (0.5, 99.5)  # per cent of the pixels: a few stray ones do not stretch a depth map's colors
SPARSE = 0.5  # share of measured pixels below which a laser's points are drawn larger, so that they can be seen

Limits = tuple[float, float]
"""(near, far), the ends of the colors: meters, near < far; relative values have near > far."""


def has_depth(depth: np.ndarray, kind: str = "metric") -> np.ndarray:
    """(H, W) bool: where there is depth. Meters are positive; each finite number is relative depth."""
    measured = np.isfinite(depth)
    return measured if kind == "relative" else measured & (depth > 0)


def depth_limits(depth: np.ndarray, kind: str = "metric") -> Limits | None:
    """Ends of the colors that suit one map, a few pixels aside; None where it has no depth at all."""
    values = np.asarray(depth, np.float64)[has_depth(depth, kind)]
    if not values.size:
        return None
    low, high = np.percentile(values, ENDS).tolist()
    if kind == "relative":
        # a map of one value is halfway between near and far
        half = max(0.0, 1e-6 * max(abs(low), abs(high), 1e-6) - (high - low) / 2)
        return high + half, low - half
    return (low, high) if high > 1.01 * low else (low / 1.05, high * 1.05)


class SmoothedRange:
    """Limits for the frames of a video, one after the other: they follow slowly, so that colors do not flicker.

    Args:
        kind: 'metric' or 'relative'.
        frames: about how many frames the limits take to follow.
    """

    def __init__(self, kind: str = "metric", frames: float = 50) -> None:
        self.kind, self.share, self.now = kind, 1 / max(frames, 1), None

    def __call__(self, depth: np.ndarray) -> Limits | None:
        """The limits for the next frame, (H, W); None as long as no frame had depth."""
        found = depth_limits(depth, self.kind)
        if self.now is None or found is None:
            self.now = self.now or found
        elif self.kind == "metric":  # equal steps for equal ratios, as the colors have them
            self.now = tuple(a * (b / a) ** self.share for a, b in zip(self.now, found, strict=True))
        else:
            self.now = tuple(a + (b - a) * self.share for a, b in zip(self.now, found, strict=True))
        return self.now


def draw_depth(depth: np.ndarray, limits: Limits | None = None, scale: bool = True, kind: str = "metric") -> np.ndarray:
    """Depth in colors: equal steps of color for equal ratios of meters, or for equal steps of relative depth.

    Where few pixels have depth, as a laser's measurements, each colors its neighbors too.

    Args:
        depth: (H, W) meters, of which 0 and what is no positive number = none; or relative depth, see above, of which
            what is no finite number = none.
        limits: the ends of the colors; None takes those of this map, see `depth_limits`.
        scale: whether a bar stands below: with distances in meters, or from 'near' to 'far' without numbers.
        kind: 'metric' or 'relative'.

    Returns:
        (H + bar, W, 3) uint8 BGR.
    """
    depth = np.asarray(depth, np.float64)
    if depth.ndim != 2:
        raise ValueError(f"a depth map is (H, W), not of shape {depth.shape}")
    limits = depth_limits(depth, kind) if limits is None else limits
    measured = has_depth(depth, kind)
    gaps = not measured.all()
    picture = np.full((*depth.shape, 3), NO_DEPTH, np.uint8)
    if limits is not None and measured.any():
        if kind == "metric" and measured.mean() < SPARSE:
            depth = _thickened(depth, measured)
            measured = depth > 0
        picture[measured] = _colors(depth[measured], limits, kind)
    if not scale:
        return picture
    style = style_for(*depth.shape)
    return np.vstack([picture, _scale_bar(limits, gaps, depth.shape[1], style, kind)])


def meter_ticks(near: float, far: float) -> list[float]:
    """Round distances from `near` to `far` in meters: 1, 2, 5, 10, 20, ... or, where fewer than three of these lie
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


def _thickened(depth: np.ndarray, measured: np.ndarray) -> np.ndarray:
    """(H, W): pixels without depth take the nearest depth of the eight around them; 0 = still none."""
    far = np.where(measured, depth, np.inf)
    around = cv2.erode(far, np.ones((3, 3), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=np.inf)
    around = np.where(measured, depth, around)
    return np.where(np.isfinite(around), around, 0)


def _colors(values: np.ndarray, limits: Limits, kind: str) -> np.ndarray:
    """(N,) meters or relative depth -> (N, 3) uint8 BGR."""
    near, far = limits
    if kind == "relative":
        fraction = (near - values) / (near - far)
    else:
        fraction = np.log(np.clip(values, near, far) / near) / math.log(far / near)
    # (N, 1): a picture of one column, for cv2
    warm = np.round(255 * (1 - np.clip(fraction, 0, 1))).astype(np.uint8).reshape(-1, 1)
    return cv2.applyColorMap(warm, cv2.COLORMAP_TURBO).reshape(-1, 3)  # (N, 1, 3) -> (N, 3)


def _scale_bar(limits: Limits | None, gaps: bool, width: int, style: Style, kind: str) -> np.ndarray:
    """The colors from near to far with words below and, where pixels have none, a gray label that says so."""
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
    fractions = np.linspace(0, 1, end)
    shown = near + (far - near) * fractions if kind == "relative" else near * (far / near) ** fractions
    strip[gap : gap + tall, :end] = _colors(shown, limits, kind)
    taken = 0
    for x, words, mark in _words(limits, end, kind):
        (wide, _), _ = cv2.getTextSize(words, FONT, style.scale, style.stroke)
        left = min(max(x - wide // 2, 0), end - wide)
        if left < taken:
            continue
        taken = left + wide + 2 * gap
        half = (style.line - 1) // 2
        if mark:
            strip[gap + tall : gap + tall + thick, max(0, x - half) : x + half + 1] = INK
        origin = (left, gap + tall + thick + gap + letter)
        cv2.putText(strip, words, origin, FONT, style.scale, INK, style.stroke, cv2.LINE_AA)
    return strip


def _words(limits: Limits, end: int, kind: str) -> list[tuple[int, str, bool]]:
    """(pixel, what is written below it, whether it has a mark) along a bar `end` long, from left to right."""
    if kind == "relative":
        return [(0, "near", False), (end - 1, "far", False)]
    near, far = limits
    scale = (end - 1) / math.log(far / near)
    return [(round(scale * math.log(tick / near)), f"{tick:g} m", True) for tick in meter_ticks(near, far)]
