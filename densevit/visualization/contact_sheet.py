"""Many pictures on one: rows of titled cells, for ground truth beside prediction."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from densevit.visualization.depth import depth_limits, draw_depth
from densevit.visualization.instances import draw_instances
from densevit.visualization.maps import draw_classes
from densevit.visualization.text import BACKGROUND, FONT, INK

Cell = tuple[np.ndarray, str]

CELL = 400  # pixels, of a sheet's pictures


def contact_sheet(rows: Sequence[Sequence[Cell]], cell: int = CELL, gap: int = 8) -> np.ndarray:
    """Lay titled pictures out in rows.

    Args:
        rows: rows of (picture (H, W, 3) or (H, W) uint8 BGR, title); rows may differ in length.
        cell: longer side of every picture as shown, its proportions kept, in pixels.
        gap: space between cells in pixels.

    Returns:
        (H, W, 3) uint8 BGR. A sheet of no pictures is blank.
    """
    if cell < 16:
        raise ValueError(f"cell must be at least 16 pixels, not {cell}")
    bar = max(14, cell // 14)
    shown = [[(fit(image, cell), title) for image, title in row] for row in rows] or [[]]
    heights = [max([1, *(picture.shape[0] for picture, _ in row)]) for row in shown]
    columns = max([1, *(len(row) for row in shown)])
    shape = (gap + sum(bar + height + gap for height in heights), gap + columns * (cell + gap), 3)
    sheet = np.full(shape, BACKGROUND, np.uint8)
    top = gap
    for row, row_height in zip(shown, heights, strict=True):
        for column, (picture, title) in enumerate(row):
            left = gap + column * (cell + gap)
            _write(sheet[top : top + bar, left : left + cell], title)
            height, width = picture.shape[:2]
            x = left + (cell - width) // 2
            sheet[top + bar : top + bar + height, x : x + width] = picture
        top += bar + row_height + gap
    return sheet


def fit(image: np.ndarray, side: int) -> np.ndarray:
    """`image` as BGR, resized so that its longer side is `side`: averaged when it shrinks, smooth when it grows."""
    if image.ndim == 2:
        image = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
    scale = side / max(image.shape[:2])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)


def enlarged(image: np.ndarray, least: int) -> tuple[np.ndarray, int]:
    """(`image` enlarged by the least whole factor that makes its longer side at least `least` pixels, that factor).

    Names cannot be read on a thumbnail: boxes have to be multiplied by the factor and drawn on the larger picture.
    """
    factor = max(1, -(-least // max(image.shape[:2])))
    if factor > 1:
        image = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
    return image, factor


def side_by_side(cells: Sequence[Cell], gap: int = 8) -> np.ndarray:
    """Titled pictures in one row as they are, their upper edges at one height: (H, W, 3) uint8 BGR."""
    heights, widths = zip(*(picture.shape[:2] for picture, _ in cells), strict=True)
    bar = max(14, min(widths) // 14)
    shape = (bar + max(heights) + gap, gap + sum(width + gap for width in widths), 3)
    sheet, left = np.full(shape, BACKGROUND, np.uint8), gap
    for (picture, title), height, width in zip(cells, heights, widths, strict=True):
        _write(sheet[:bar, left : left + width], title)
        sheet[bar : bar + height, left : left + width] = picture
        left += width + gap
    return sheet


def draw_ground_truth_and_prediction(
    image: np.ndarray,
    sample: Any,
    names: Sequence[str] | None = None,
    score_thr: float = 0.3,
    side: int = CELL,
    semantic_names: Sequence[str] | None = None,
    palette: Sequence[Sequence[int]] | None = None,
) -> list[Cell]:
    """One row for `contact_sheet`: the ground truth, and beside it the predictions; a pair for each kind that there is,
    or of maps without ground truth the prediction alone. Where there is nothing but depth, the image stands first.

    Args:
        image: the original image, (H, W, 3) uint8 BGR.
        sample: DataSample with `gt_instances`, `gt_semantic`, `gt_depth` (frame of the network's input, brought back by
            `scale_factor` and `flip`; or `original_semantic`) and their `pred_*` (frame of the original).
        names: class names of the instances.
        score_thr: predictions below are not drawn.
        side: longer side of the pictures in pixels; that of the sheet's cells, so that names stay sharp there.
        semantic_names: of the semantic classes, for a legend below; None leaves it out.
        palette: (red, green, blue) of the semantic classes.
    """
    picture, cells = fit(image, side), []
    if "gt_instances" in sample and "pred_instances" in sample:
        cells += _instances(picture, side / max(image.shape[:2]), sample, names, score_thr)
    size = picture.shape[1::-1]
    for kind, words in (("semantic", "classes"), ("depth", "depth")):
        if f"pred_{kind}" not in sample:
            continue
        maps = {f"prediction: {words}": sample.get(f"pred_{kind}").cpu().numpy()}
        if f"original_{kind}" in sample:
            maps = {f"ground truth: {words}": sample.get(f"original_{kind}").cpu().numpy(), **maps}
        elif f"gt_{kind}" in sample:
            ground_truth = _original_frame(sample.get(f"gt_{kind}").cpu().numpy(), sample, image.shape[:2])
            maps = {f"ground truth: {words}": ground_truth, **maps}
        maps = {
            title: cv2.resize(m.astype(np.float32), size, interpolation=cv2.INTER_NEAREST) for title, m in maps.items()
        }
        if kind == "semantic":
            look = dict(legend=semantic_names is not None, palette=palette)
            cells += [(draw_classes(picture, m, semantic_names, **look), title) for title, m in maps.items()]
            continue
        if not cells:
            cells.append((picture, "image"))  # which colors of depth hide
        cells += _depths(maps, sample.get("depth_kind") or "metric")
    return cells


def _depths(maps: dict[str, np.ndarray], kind: str) -> list[Cell]:
    """Depth by title, the ground truth first where there is one: in one scale, which the first title states, as far as
    both are meters. A relative prediction has colors of its own."""
    shared, cells = None, []
    for title, values in maps.items():
        if kind == "relative" and title.startswith("prediction"):
            cells.append((draw_depth(values, scale=False, kind=kind), f"{title}, relative: near red, far blue"))
            continue
        if shared is None:
            shared = depth_limits(values)
            title += f", {shared[0]:.1f} to {shared[1]:.1f} m" if shared else ""
        cells.append((draw_depth(values, shared, scale=False), title))
    return cells


def _instances(
    picture: np.ndarray, scale: float, sample: Any, names: Sequence[str] | None, score_thr: float
) -> list[Cell]:
    """The pair of boxes, with masks where there are any, on a picture `scale` times the original."""
    ground_truth, found = sample.gt_instances, sample.pred_instances
    boxes = np.asarray(ground_truth.bboxes.detach().cpu(), np.float64).reshape(-1, 4)  # (N, 4), also of none
    if sample.get("flip", False):
        boxes[:, [0, 2]] = sample.img_shape[1] - boxes[:, [2, 0]]
    boxes /= np.tile(np.asarray(sample.get("scale_factor", (1.0, 1.0)), np.float64)[:2], 2)  # x, y, x, y
    sure = np.asarray(found.scores.detach().cpu()) >= score_thr
    found_boxes, found_scores = (np.asarray(v.detach().cpu(), np.float64)[sure] for v in (found.bboxes, found.scores))
    labels = np.asarray(found.labels.detach().cpu())[sure]
    true_masks = (
        [_unflipped(mask.cpu().numpy(), sample) for mask in ground_truth.masks] if "masks" in ground_truth else None
    )
    masks = [found.masks[i] for i in np.flatnonzero(sure)] if "masks" in found else None
    return [
        (
            draw_instances(picture, boxes * scale, ground_truth.labels, None, names, true_masks),
            f"ground truth: {_objects(len(boxes))}",
        ),
        (
            draw_instances(picture, found_boxes * scale, labels, found_scores, names, masks),
            f"prediction: {_objects(len(labels))} with score >= {score_thr:g}",
        ),
    ]


def _original_frame(values: np.ndarray, sample: Any, shape: tuple[int, int]) -> np.ndarray:
    """A true map without the padding of the network's input, unmirrored, in the original's (height, width)."""
    values = np.ascontiguousarray(_unflipped(values, sample), np.float32)
    return cv2.resize(values, shape[::-1], interpolation=cv2.INTER_NEAREST)


def _unflipped(values: np.ndarray, sample: Any) -> np.ndarray:
    """A true map or mask without the padding of the network's input, unmirrored."""
    height, width = sample.get("img_shape", values.shape)
    values = values[:height, :width]
    return values[:, ::-1] if sample.get("flip", False) else values


def _objects(count: int) -> str:
    return f"{count} object{'s' * (count != 1)}"


def _write(strip: np.ndarray, title: str) -> None:
    """Write `title` into `strip` (a view of the sheet), smaller where it would not fit."""
    height, width = strip.shape[:2]
    title = title.encode("ascii", "replace").decode()
    scale = height / 36
    (text_width, text_height), _ = cv2.getTextSize(title, FONT, scale, 1)
    if text_width > width - 4:
        scale *= max(0.6, (width - 4) / text_width)
    letters = np.ascontiguousarray(strip)
    cv2.putText(letters, title, (2, (height + text_height) // 2), FONT, scale, INK, 1, cv2.LINE_AA)
    strip[:] = letters
