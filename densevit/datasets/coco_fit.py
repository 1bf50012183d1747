"""Whether boxes, masks, areas and image sizes of a COCO file belong together: counts and first examples of what does
not."""

import numpy as np
from pycocotools import mask as rle_codec

from densevit.datasets.validation_report import Report
from densevit.ops.coco_file import CocoAnnotation, CocoFile
from densevit.ops.masks import usable_mask

STICKS_OUT = 1.0, 0.01
"""Pixels and share of the image's side that a box or mask may reach beyond it."""
FITS = 0.5
"""IoU of a box and the box around its mask."""


def check_fit(report: Report, coco: CocoFile) -> None:
    """Add to a report, a sentence each, what the annotations that are no crowds have wrong or odd."""
    objects = [a for a in coco.annotations if not a.iscrowd]
    if not objects:
        return
    problems, notes = report.problems, report.notes
    size = np.array([(coco.images[a.image_id].width, coco.images[a.image_id].height) for a in objects], float)
    box, area = np.array([a.bbox for a in objects], float), np.array([a.area for a in objects], float)
    mask, filled = (np.array(column, float) for column in zip(*map(_extent, objects), strict=True))
    corners = np.concatenate([box[:, :2], box[:, :2] + box[:, 2:]], 1)

    def add(kind: list[str], chosen: np.ndarray, sentence: str, ending: str = "") -> None:
        first = ", ".join(repr(objects[i].id) for i in np.flatnonzero(chosen)[:3])
        if first:
            kind.append(f"{chosen.sum()} of {len(objects)} {sentence} in {coco.source} (annotations {first}){ending}.")

    masked = ~np.isnan(filled)
    if masked.any():
        add(notes, ~masked, "objects have no usable mask", ": a model of masks takes them for ignore regions")
    beyond = _beyond(corners, size)
    unlike = masked & (_iou(corners, mask) < FITS)
    # the same four numbers read as x1, y1, x2, y2
    forward = (box[:, 2:] > box[:, :2]).all(1)
    other = (box[:, 2:] - box[:, :2]).prod(1)
    better = np.where(masked, unlike & (_iou(box, mask) >= FITS), abs(area - other) <= 0.01 * area)
    better &= forward & (abs(area - box[:, 2:].prod(1)) > 0.01 * area)
    inside = forward & ~_beyond(box, size)
    if 2 * better.sum() > len(objects) or (inside.all() and 4 * beyond.sum() > len(objects)):
        add(problems, beyond | better, "boxes are corners [x1, y1, x2, y2]", ": write [x, y, width, height]")
    else:
        add(notes, beyond, "boxes reach beyond their image", ": training clips them")
        add(notes, unlike, "boxes do not fit their own masks")
    outside = masked & ((mask[:, :2] >= size) | (mask[:, 2:] <= 0)).any(1)
    add(problems, outside, "masks lie outside their image", ": check its width and height")
    add(notes, masked & ~outside & _beyond(mask, size), "masks reach beyond their image", ": training clips them")
    ratio = area / np.maximum(np.where(masked, filled, box[:, 2:].prod(1)), 1e-9)
    small = abs(area - np.where(masked, filled, area)) <= 16
    add(notes, masked & ~small & ((ratio > 2) | (ratio < 0.5)), "areas are not those of their masks")
    add(notes, ~masked & (ratio > 1.1) & (area > 16), "areas are larger than their boxes")


def _extent(annotation: CocoAnnotation) -> tuple[list[float], float]:
    """The box around a mask, x1, y1, x2, y2, and its pixels; NaN where there is none."""
    mask = usable_mask(annotation.segmentation)
    if isinstance(mask, dict):
        x, y, width, height = rle_codec.toBbox(mask).tolist()
        return [x, y, x + width, y + height], float(rle_codec.area(mask))
    if mask is None:
        return [np.nan] * 4, np.nan
    points = np.concatenate(mask)
    # shoelace formula of each polygon's x (n,) and y (n,)
    pixels = sum(abs(x @ np.roll(y, 1) - y @ np.roll(x, 1)) / 2 for x, y in (part.T for part in mask))
    return [*points.min(0), *points.max(0)], pixels


def _beyond(corners: np.ndarray, size: np.ndarray) -> np.ndarray:
    """(N,) bool: whether boxes (N, 4) reach out of their images (N, 2)."""
    slack = np.maximum(STICKS_OUT[0], STICKS_OUT[1] * size)
    return ((corners[:, :2] < -slack) | (corners[:, 2:] > size + slack)).any(1)


def _iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """IoU of boxes (N, 4) and (N, 4), sides counted as at least a pixel; NaN counts as 1."""
    a, b = (np.concatenate([x[:, :2], np.maximum(x[:, 2:], x[:, :2] + 1)], 1) for x in (a, b))
    shared = (np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])).clip(0).prod(1)
    union = (a[:, 2:] - a[:, :2]).prod(1) + (b[:, 2:] - b[:, :2]).prod(1) - shared
    return np.nan_to_num(shared / union, nan=1.0)
