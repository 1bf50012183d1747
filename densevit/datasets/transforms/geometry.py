"""Resize, flip and pad: image, boxes, masks, class map and depth move together.

Class maps and depth are sampled (nearest), never mixed: no pixel gets a class or a distance that was not there, and a
hole in the depth stays a hole. Depth stays in meters whatever the image's size.
"""

import math
from collections.abc import Iterable

import cv2
import numpy as np
from mmcv.transforms import BaseTransform

from densevit.datasets.io.jpeg import LazyJpeg, require_pixels
from densevit.errors import ConfigError
from densevit.ops.masks import flip_mask, pad_mask, resize_mask
from densevit.registry import TRANSFORMS

MAPS = ("gt_semantic", "gt_depth")


def require_unpadded(results: dict, transform: BaseTransform) -> None:
    """ConfigError after Pad, which has to be last: later transforms could not distinguish image and padding."""
    if tuple(results["img"].shape[:2]) != tuple(results["img_shape"]):
        raise ConfigError(f"{type(transform).__name__} stands after Pad in a pipeline: put Pad behind it.")


def keep_ratio_size(size: tuple[int, int], scale: tuple[int, int]) -> tuple[int, int]:
    """Largest (height, width) of the same shape within `scale`, whose order does not matter: long and short side.

    Rounds as mmcv does, half a pixel up; never below one pixel.
    """
    height, width = size
    factor = min(max(scale) / max(size), min(scale) / min(size))
    return max(int(height * float(factor) + 0.5), 1), max(int(width * float(factor) + 0.5), 1)


def covering_size(size: tuple[int, int], scale: tuple[int, int], divisor: int) -> tuple[int, int]:
    """Smallest (height, width) of about the same shape as `size` that covers `scale`, (width, height).

    Each side is rounded to a multiple of `divisor`, half to even, and up where it would fall below its limit.
    """
    factor = max(limit / side for limit, side in zip(scale[::-1], size, strict=True))
    return _multiples((factor * side for side in size), scale[::-1], divisor)


def closest_size(size: tuple[int, int], scale: tuple[int, int], divisor: int) -> tuple[int, int]:
    """(height, width) of about the same shape as `size`, one side that of `scale`, (width, height): the side that is
    changed less by it. Rounded to multiples of `divisor`, half to even."""
    factor = min((limit / side for limit, side in zip(scale[::-1], size, strict=True)), key=_change)
    return _multiples((factor * side for side in size), (divisor, divisor), divisor)


def _change(factor: float) -> float:
    return abs(1 - factor)


def _multiples(sides: Iterable[float], least: Iterable[int], divisor: int) -> tuple[int, int]:
    """Whole multiples nearest to the sides; the next above where that is below `least`."""
    found = []
    for side, limit in zip(sides, least, strict=True):
        near = round(side / divisor) * divisor
        found.append(near if near >= limit else max(math.ceil(side / divisor), 1) * divisor)
    return tuple(found)


def resize(results: dict, size: tuple[int, int], clip_boxes: bool = True, cubic: bool = False) -> dict:
    """Bring everything in `results` to `size` (height, width); cubic: the image by bicubic sampling to float32, which
    may leave 0 to 255."""
    old_size = results["img"].shape[:2]
    (old_h, old_w), (height, width) = old_size, size
    scale = (width / old_w, height / old_h)
    if isinstance(results["img"], LazyJpeg):
        results["img"] = results["img"].resized(size, cubic)
    elif cubic:
        image = results["img"].astype(np.float32)
        results["img"] = cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC)
    else:
        results["img"] = cv2.resize(results["img"], (width, height), interpolation=cv2.INTER_LINEAR)
    results["img_shape"], results["resized"] = (height, width), True
    before = results.get("scale_factor", (1.0, 1.0))
    results["scale_factor"] = (before[0] * scale[0], before[1] * scale[1])
    if "gt_bboxes" in results:
        boxes = results["gt_bboxes"] * np.array(scale * 2, dtype=np.float32)
        results["gt_bboxes"] = clip_to_image(boxes, size) if clip_boxes else boxes
    if "gt_masks" in results:
        results["gt_masks"] = [resize_mask(mask, old_size, size) for mask in results["gt_masks"]]
    for key in MAPS:
        if key in results:
            results[key] = cv2.resize(results[key], (width, height), interpolation=cv2.INTER_NEAREST)
    return results


def clip_to_image(boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Boxes (N, 4) xyxy cut off at the border of an image of `size` (height, width)."""
    height, width = size
    return np.clip(boxes, 0, np.array([width, height, width, height], dtype=boxes.dtype))


def check_scale(scale: tuple[int, int], name: str) -> tuple[int, int]:
    """A `scale` argument as two whole numbers above zero."""
    if not (isinstance(scale, tuple | list) and len(scale) == 2 and all(isinstance(s, int) and s > 0 for s in scale)):
        raise ConfigError(f"{name} takes a scale of two whole numbers above zero such as (1333, 800), not {scale!r}.")
    return tuple(scale)


FITS = {"cover": covering_size, "closest": closest_size}


@TRANSFORMS.register_module()
class Resize(BaseTransform):
    """Resize to a fixed size, or to the largest within it that keeps the shape.

    Args:
        scale: (width, height); with `keep_ratio` the limits of the long and the short side, in any order.
        keep_ratio: keep the shape.
        clip_boxes: cut boxes off at the image's border.
        fit: with `keep_ratio`, 'within' the limits; 'cover': the smallest that covers scale (Depth-Anything);
            'closest': one side that of scale, whichever is changed less by that (DPT).
        divisor: of the sides with 'cover' and 'closest', which are rounded to multiples of it and so keep the shape
            nearly.
        cubic: sample the image by bicubic instead of bilinear interpolation, to float32 numbers that are not rounded.
    """

    fit, divisor, cubic = "within", 1, False

    def __init__(
        self,
        scale: tuple[int, int],
        keep_ratio: bool = True,
        clip_boxes: bool = True,
        fit: str = "within",
        divisor: int = 1,
        cubic: bool = False,
    ) -> None:
        self.scale = check_scale(scale, "Resize")
        self.keep_ratio, self.clip_boxes = keep_ratio, clip_boxes
        if fit not in ("within", *FITS) or (divisor > 1 and (fit == "within" or not keep_ratio)):
            raise ConfigError(
                f"Resize has fit={fit!r} and divisor={divisor!r}: fit is one of within, {', '.join(FITS)}, and a "
                f"divisor goes with keep_ratio and one of the last two."
            )
        self.fit, self.divisor, self.cubic = fit, divisor, cubic

    def transform(self, results: dict) -> dict:
        require_unpadded(results, self)
        return self.resize_to(results, self.scale)

    def resize_to(self, results: dict, scale: tuple[int, int]) -> dict:
        size, old = (scale[1], scale[0]), results["img"].shape[:2]
        if self.keep_ratio and self.fit == "within":
            size = keep_ratio_size(old, scale)
        elif self.keep_ratio:
            size = FITS[self.fit](old, scale, self.divisor)
        return resize(results, size, self.clip_boxes, self.cubic)


@TRANSFORMS.register_module()
class RandomChoiceResize(Resize):
    """Resize to one of several scales (multi-scale training).

    Args:
        scales: those to choose from, each as in `Resize`.
        keep_ratio, clip_boxes: as in `Resize`.
    """

    def __init__(self, scales: list[tuple[int, int]], keep_ratio: bool = True, clip_boxes: bool = True) -> None:
        if not scales:
            raise ConfigError("RandomChoiceResize needs at least one scale.")
        self.scales = [check_scale(scale, "RandomChoiceResize") for scale in scales]
        self.keep_ratio, self.clip_boxes = keep_ratio, clip_boxes

    def transform(self, results: dict) -> dict:
        require_unpadded(results, self)
        return self.resize_to(results, self.scales[np.random.randint(len(self.scales))])


@TRANSFORMS.register_module()
class RandomResize(Resize):
    """Resize to a scale times a random factor (large-scale jitter), or to a scale between two.

    Args:
        scale: one scale, multiplied by a factor from `ratio_range`; or two, of which a long side between the two long
            sides and a short side between the two short sides is drawn.
        ratio_range: lowest and highest factor, with one scale.
        keep_ratio, clip_boxes: as in `Resize`.
    """

    def __init__(
        self,
        scale: tuple[int, int] | list[tuple[int, int]],
        ratio_range: tuple[float, float] | None = None,
        keep_ratio: bool = True,
        clip_boxes: bool = True,
    ) -> None:
        two = bool(scale) and not isinstance(scale[0], int)
        self.limits = [check_scale(s, "RandomResize") for s in (scale if two else [scale])]
        if len(self.limits) > 2 or two == (ratio_range is not None):
            raise ConfigError("RandomResize takes one scale and a ratio_range, or two scales and none.")
        self.ratio_range, self.keep_ratio, self.clip_boxes = ratio_range, keep_ratio, clip_boxes

    def transform(self, results: dict) -> dict:
        require_unpadded(results, self)
        if self.ratio_range is not None:
            factor = np.random.uniform(*self.ratio_range)
            return self.resize_to(results, tuple(max(int(side * factor), 1) for side in self.limits[0]))
        longs, shorts = [max(s) for s in self.limits], [min(s) for s in self.limits]
        drawn = [np.random.randint(min(sides), max(sides) + 1) for sides in (longs, shorts)]
        return self.resize_to(results, tuple(map(int, drawn)))


@TRANSFORMS.register_module()
class RandomFlip(BaseTransform):
    """Mirror left to right.

    Args:
        prob: how often, 0 to 1.
    """

    def __init__(self, prob: float = 0.5) -> None:
        self.prob = prob

    def transform(self, results: dict) -> dict:
        require_pixels(results, self)
        require_unpadded(results, self)
        if np.random.random() >= self.prob:
            return results
        width = results["img"].shape[1]
        results["img"] = cv2.flip(results["img"], 1)
        results["flip"] = not results.get("flip", False)
        if "gt_bboxes" in results:
            x1, y1, x2, y2 = results["gt_bboxes"].T  # (N,) each
            results["gt_bboxes"] = np.stack([width - x2, y1, width - x1, y2], axis=1)
        if "gt_masks" in results:
            results["gt_masks"] = [flip_mask(mask, width) for mask in results["gt_masks"]]
        for key in MAPS:
            if key in results:
                results[key] = cv2.flip(results[key], 1)
        return results


@TRANSFORMS.register_module()
class Pad(BaseTransform):
    """Enlarge at the right and bottom, behind all other geometry; `img_shape` stays the size of the picture itself.

    The preprocessor pads each batch anyway: this is for models that want one fixed size.

    Args:
        size: (width, height) to reach at least; None for none.
        divisor: make both sides a multiple of it.
        value: of the image's new pixels, one number or (b, g, r).
    """

    def __init__(
        self, size: tuple[int, int] | None = None, divisor: int = 1, value: float | tuple[float, float, float] = 0
    ) -> None:
        self.size = check_scale(size, "Pad") if size else (0, 0)
        self.divisor = divisor
        self.value = (value,) * 3 if isinstance(value, int | float) else tuple(value)

    def transform(self, results: dict) -> dict:
        require_pixels(results, self)
        require_unpadded(results, self)
        height, width = results["img"].shape[:2]
        new_w, new_h = (
            -(-max(now, asked) // self.divisor) * self.divisor
            for now, asked in zip((width, height), self.size, strict=True)
        )
        border = (0, new_h - height, 0, new_w - width, cv2.BORDER_CONSTANT)
        results["img"] = cv2.copyMakeBorder(results["img"], *border, value=self.value)
        if "gt_masks" in results:
            results["gt_masks"] = [pad_mask(mask, (new_h, new_w)) for mask in results["gt_masks"]]
        for key, value in zip(MAPS, (255, 0), strict=True):
            if key in results:
                results[key] = cv2.copyMakeBorder(results[key], *border, value=value)
        return results
