"""Large pictures in overlapping tiles: the layout of the tiles, and merging their predictions into one.

Two detections of one class from different views (tiles, or the whole picture at a smaller scale) are merged when their
boxes overlap enough. Where a view's border cuts one off, the other is first clipped to that view, and it is enough that
the cut one lies inside a complete one. A complete detection replaces its cut parts, the better of two complete ones is
kept, and parts without a complete one are united. Detections of one view are never merged.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from densevit.errors import ConfigError
from densevit.inference.prediction import Prediction
from densevit.ops.masks import crop_rle, extent_rle
from densevit.structures import InstanceData

Window = tuple[int, int, int, int]
"""left, top, right, bottom in pixels, right and bottom excluded."""

AGREE = 0.5
"""Least IoU of two boxes that are one object, each as the other's view knows it."""
INSIDE = 0.7
"""Least share of a box that was cut off which lies in a whole one of the same object: slivers have no shape."""
SHOWN = 0.1
"""Least share of the smaller box that the other's view knows: boxes that barely overlap are not compared."""
TOUCH = 0.02
"""A box that ends within this share of its view's side from its border is cut off by it."""


class Tiles:
    """Predicts a large picture in overlapping tiles, and once as a whole where it has objects.

    Args:
        tile: side in pixels.
        overlap: least overlap of neighbors in pixels; None a quarter of a tile.
    """

    def __init__(self, tile: int, overlap: int | None = None) -> None:
        self.tile, self.overlap = tile, overlap

    def predict(
        self,
        predict_crops: Callable[[Iterable[np.ndarray]], Iterator[Prediction]],
        predict_whole: Callable[[], Prediction],
        array: np.ndarray,
        path: str | None,
    ) -> Prediction:
        """One prediction of an image (H, W, 3) uint8 RGB out of those of its tiles.

        Args:
            predict_crops: gives the predictions of images, in their order.
            predict_whole: gives the prediction of the whole image.
            array: the image.
            path: of its file, for the prediction's meta.

        Raises:
            ConfigError: no tiles of that size can be laid, or depth is relative, each tile's on a scale of its own.
        """
        size = array.shape[:2]
        windows = tile_windows(size, self.tile, self.overlap)
        each = predict_crops(array[top:bottom, left:right] for left, top, right, bottom in windows)
        parts = [next(each)]
        if len(windows) > 1 and parts[0].get("depth_kind") == "relative":
            raise ConfigError(
                "relative depth of tiles does not go together, as each has a scale of its own: look at the image as a "
                "whole, or take a model of metric depth."
            )
        parts += each
        meta = dict(img_path=path, ori_shape=size, img_shape=size, scale_factor=(1.0, 1.0))
        merged = Prediction(metainfo={**parts[0].metainfo, **meta})
        merged.set_data({"image": array})
        for name in ("pred_semantic", "pred_depth"):
            if name in parts[0]:
                merged.set_data({name: merge_maps([part.get(name) for part in parts], windows, size)})
        if "pred_instances" in parts[0]:
            if len(windows) > 1:
                parts.append(predict_whole())
                windows.append((0, 0, size[1], size[0]))
            merged.pred_instances = merge_instances([part.pred_instances for part in parts], windows, size)
        return merged


def tile_windows(size: tuple[int, int], tile: int, overlap: int | None = None) -> list[Window]:
    """Tiles over a picture of (height, width), row by row, spread evenly; one is the picture where it is no larger.

    Args:
        tile: side in pixels.
        overlap: least overlap of neighbors in pixels; None a quarter of a tile.

    Raises:
        ConfigError: no tiles can be laid like that.
    """
    overlap = tile // 4 if overlap is None else overlap
    if tile < 16 or not 0 <= overlap < tile:
        raise ConfigError(
            f"tiles of {tile} pixels that overlap by {overlap} cannot be laid; take at least 16 and an overlap from 0 "
            "to less than the tile."
        )
    rows, columns = (_spread(side, tile, overlap) for side in size)
    return [(left, top, right, bottom) for top, bottom in rows for left, right in columns]


def _spread(side: int, tile: int, overlap: int) -> list[tuple[int, int]]:
    """Starts and ends of the tiles along one side."""
    if side <= tile:
        return [(0, side)]
    count = -(-(side - overlap) // (tile - overlap))
    starts = np.linspace(0, side - tile, count).round().astype(int).tolist()
    return [(start, start + tile) for start in starts]


def merge_maps(maps: Sequence[Tensor], windows: Sequence[Window], size: tuple[int, int]) -> Tensor:
    """Maps (h, w) of the tiles as one (H, W): each pixel from the tile whose center is nearest."""
    merged = maps[0].new_zeros(size)
    columns, rows = (_owned(windows, axis, size[1 - axis]) for axis in (0, 1))
    for values, window in zip(maps, windows, strict=True):
        (x1, x2), (y1, y2) = columns[window[0]], rows[window[1]]
        merged[y1:y2, x1:x2] = values[y1 - window[1] : y2 - window[1], x1 - window[0] : x2 - window[0]]
    return merged


def _owned(windows: Sequence[Window], axis: int, side: int) -> dict[int, tuple[int, int]]:
    """Along one axis, start of a tile -> the range of pixels that are nearest to its center."""
    spans = sorted({(window[axis], window[axis + 2]) for window in windows})
    # neighbors' centers are as far apart as their starts, so that they meet in the middle of their overlap
    ends = [(a[1] + b[0]) // 2 for a, b in pairwise(spans)]
    return {span[0]: ends for span, ends in zip(spans, zip([0, *ends], [*ends, side], strict=True), strict=True)}


def merge_instances(parts: Sequence[InstanceData], windows: Sequence[Window], size: tuple[int, int]) -> InstanceData:
    """What was found in each view, in its own pixels, as the objects of the picture of (height, width), best first.

    Args:
        parts: `bboxes`, `labels`, `scores` and maybe `masks` (COCO RLEs) of each view.
        windows: the views; one may be the whole picture.
    """
    views = np.repeat(np.arange(len(parts)), [len(part.labels) for part in parts])
    frames = np.array(windows, np.float32).reshape(-1, 4)[views]  # (N, 4)
    boxes = torch.cat([part.bboxes for part in parts]).float().cpu().numpy() + np.tile(frames[:, :2], 2)
    labels = torch.cat([part.labels for part in parts]).cpu().numpy()
    scores = torch.cat([part.scores for part in parts]).float().cpu().numpy()
    cut = _cut_off(boxes, frames, size)
    groups = _groups(_agreement(boxes, labels, views, frames, cut), scores, views, cut)
    chosen = [max(group, key=lambda i: scores[i]) for group in groups]
    best = InstanceData(
        bboxes=torch.tensor([_around(boxes[group]) for group in groups], dtype=torch.float32).reshape(-1, 4),
        labels=torch.from_numpy(labels[chosen]),
        scores=torch.from_numpy(scores[chosen]),
    )
    if all("masks" in part for part in parts):
        rles = [rle for part in parts for rle in part.masks]
        best.masks = [
            _united([rles[i] for i in group], [windows[views[i]][:2] for i in group], size) for group in groups
        ]
    return best


def _cut_off(boxes: np.ndarray, frames: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(N,) bool: boxes that end at a border of their view that is not the picture's."""
    height, width = size
    near = TOUCH * np.tile(frames[:, 2:] - frames[:, :2], 2)
    inner = frames != np.array([0, 0, width, height], np.float32)
    return (inner & (np.abs(boxes - frames) <= near)).any(1)


def _groups(agree: np.ndarray, scores: np.ndarray, views: np.ndarray, cut: np.ndarray) -> list[list[int]]:
    """Indices of the detections that make up each object, best object first; `agree` (N, N) says which may be one."""
    groups: dict[int, list[int]] = {}  # by the location of a member
    owner = np.full(len(scores), -1)
    # those that are whole first, each part by falling score
    for i in np.lexsort((-scores, cut)).tolist():
        same = np.unique(owner[agree[i] & (owner >= 0)]).tolist()
        if same and not (cut[i] and all(cut[g] for g in same)):
            continue  # a whole one stands for it
        joined, seen = [i], {views[i]}
        for g in same:
            # detections of one view are different objects: a group takes at most one of each view
            if seen.isdisjoint(views[groups[g]]):
                seen.update(views[groups[g]])
                joined += groups.pop(g)
        groups[i] = joined
        owner[joined] = i
    return sorted(groups.values(), key=lambda group: -scores[group].max())


def _agreement(
    boxes: np.ndarray, labels: np.ndarray, views: np.ndarray, frames: np.ndarray, cut: np.ndarray
) -> np.ndarray:
    """(N, N) bool: pairs of one class and of different views that show one object."""
    agree = (labels[:, None] == labels) & (views[:, None] != views)
    for axis in (0, 1):
        agree &= boxes[:, None, axis] < boxes[:, axis + 2]
        agree &= boxes[:, None, axis + 2] > boxes[:, axis]
    i, j = agree.nonzero()
    # a view knows of the others' boxes only what it shows, if its own was cut off
    a = np.where(cut[j, None], _within(boxes[i], frames[j]), boxes[i])
    b = np.where(cut[i, None], _within(boxes[j], frames[i]), boxes[j])
    shared, a, b = _area(_within(a, b)), _area(a), _area(b)
    one = shared >= AGREE * (a + b - shared)
    one |= (shared >= INSIDE * a) & cut[i] & ~cut[j]
    one |= (shared >= INSIDE * b) & cut[j] & ~cut[i]
    whole = _area(boxes)
    agree[i, j] = one & (shared > 0) & (np.maximum(a, b) >= SHOWN * np.minimum(whole[i], whole[j]))
    return agree


def _within(boxes: np.ndarray, windows: np.ndarray) -> np.ndarray:
    """Boxes (..., 4) cut to windows (..., 4)."""
    low, high = np.maximum(boxes[..., :2], windows[..., :2]), np.minimum(boxes[..., 2:], windows[..., 2:])
    return np.concatenate([low, high], axis=-1)


def _area(boxes: np.ndarray) -> np.ndarray:
    return np.clip(boxes[..., 2:] - boxes[..., :2], 0, None).prod(-1)


def _around(boxes: np.ndarray) -> list[float]:
    return [*boxes[:, :2].min(0).tolist(), *boxes[:, 2:].max(0).tolist()]


def _united(rles: Sequence[dict], corners: Sequence[tuple[int, int]], size: tuple[int, int]) -> dict:
    """Masks of views, whose upper left corners are given, as one RLE of the picture."""
    parts = []
    for rle, (left, top) in zip(rles, corners, strict=True):
        part, x, y = extent_rle(rle)
        parts.append((part, x + left, y + top))
    if len(parts) > 1:
        left, top = min(x for _, x, _ in parts), min(y for _, _, y in parts)
        right, bottom = max(x + p.shape[1] for p, x, _ in parts), max(y + p.shape[0] for p, _, y in parts)
        whole = np.zeros((bottom - top, right - left), np.uint8)
        for part, x, y in parts:
            whole[y - top : y - top + part.shape[0], x - left : x - left + part.shape[1]] |= part
        parts = [(whole, left, top)]
    part, left, top = parts[0]
    return crop_rle(part.T.view(bool), left, top, size)
