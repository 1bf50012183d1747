"""Masks on a picture: a translucent fill and an outline that stands out from what lies under it."""

from collections.abc import Sequence

import cv2
import numpy as np
from pycocotools import mask as rle_codec

from densevit.ops.masks import extent_rle
from densevit.visualization.palette import Color, standing_out

FILL = 0.42  # opacity

Mask = dict | np.ndarray


def paint_masks(canvas: np.ndarray, masks: Sequence[Mask], colors: Sequence[Color], line: int) -> None:
    """Paint masks into `canvas`, (H, W, 3) uint8 BGR, the largest first so that none is hidden whole.

    One mask after the other is unpacked, and of each only the part that it covers is touched.

    Args:
        masks: N COCO RLEs or bitmaps (h, w), of the canvas's size or to be stretched to it.
        colors: N, of fill and outline.
        line: width of the outlines in pixels.
    """
    shape = canvas.shape[:2]
    sizes = [_share(mask) for mask in masks]
    for i in np.argsort(sizes)[::-1]:
        window, left, top = _window(masks[i], shape)
        if not window.size:
            continue
        height, width = window.shape
        under = canvas[top : top + height, left : left + width]
        contours, _ = cv2.findContours(window, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE, offset=(left, top))
        edge = standing_out(colors[i], _mean_along(canvas, contours))
        filled = cv2.addWeighted(under, 1 - FILL, np.full_like(under, colors[i]), FILL, 0)
        np.copyto(under, filled, where=window.view(bool)[..., None])
        cv2.drawContours(canvas, contours, -1, edge, line, cv2.LINE_AA)


def _share(mask: Mask) -> float:
    """A mask's share of its image."""
    if isinstance(mask, dict):
        return float(rle_codec.area(mask)) / max(mask["size"][0] * mask["size"][1], 1)
    return float(np.count_nonzero(mask)) / max(mask.size, 1)


def _window(mask: Mask, shape: tuple[int, int]) -> tuple[np.ndarray, int, int]:
    """The covered part of a mask in a picture of `shape`: (h, w) uint8 of 0 and 1, left, top."""
    if isinstance(mask, dict):
        size = tuple(mask["size"])
        part, left, top = extent_rle(mask)
    else:
        size, left, top = mask.shape, 0, 0
        part = mask.astype(np.uint8)
    if not part.size or size == shape:
        return np.ascontiguousarray(part), left, top
    # stretched smoothly, with an empty border so that the edges move by less than a pixel
    part = cv2.copyMakeBorder(part * 255, 1, 1, 1, 1, cv2.BORDER_CONSTANT)
    scale_y, scale_x = shape[0] / size[0], shape[1] / size[1]
    x1, y1 = max(round((left - 1) * scale_x), 0), max(round((top - 1) * scale_y), 0)
    x2 = min(round((left - 1 + part.shape[1]) * scale_x) + 1, shape[1])
    y2 = min(round((top - 1 + part.shape[0]) * scale_y) + 1, shape[0])
    if x2 <= x1 or y2 <= y1:
        return part[:0], 0, 0
    # pixel centers of the picture, in pixels of the part
    inverse = np.array(
        [
            [1 / scale_x, 0, (x1 + 0.5) / scale_x - 0.5 - (left - 1)],
            [0, 1 / scale_y, (y1 + 0.5) / scale_y - 0.5 - (top - 1)],
        ]
    )
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    stretched = cv2.warpAffine(part, inverse, (x2 - x1, y2 - y1), flags=flags, borderValue=0)
    return (stretched >= 128).astype(np.uint8), x1, y1


def _mean_along(canvas: np.ndarray, contours: Sequence[np.ndarray]) -> Color:
    """Mean color of the picture under the outlines."""
    if not contours:
        return 0, 0, 0
    x, y = np.concatenate(contours)[:, 0].T  # (n, 1, 2) points of all contours -> (n,) each
    blue, green, red = canvas[y, x].mean(axis=0)
    return round(float(blue)), round(float(green)), round(float(red))
