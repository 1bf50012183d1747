"""A random window of the image, with boxes, masks, class map and depth."""

import cv2
import numpy as np
from mmcv.transforms import BaseTransform

from densevit.datasets.class_names import IGNORED
from densevit.datasets.io.jpeg import require_pixels
from densevit.datasets.transforms.geometry import MAPS, clip_to_image, require_unpadded
from densevit.errors import ConfigError
from densevit.ops.cropped_masks import draw_in_parts, too_large
from densevit.ops.masks import bitmap_boxes, crop_mask, rasterize
from densevit.registry import TRANSFORMS

TRIES = 10
"""Windows that are looked at for `cat_max_ratio`."""
INSTANCE_FIELDS = ("gt_bboxes", "gt_labels", "gt_ignore", "gt_masks")


@TRANSFORMS.register_module()
class RandomCrop(BaseTransform):
    """Cut a window out; objects with no area left are dropped.

    Args:
        size: (width, height): pixels for 'absolute', lowest and highest side for 'absolute_range', shares of the image
            for 'relative' and the lowest shares for 'relative_range'.
        size_type: 'absolute', 'absolute_range', 'relative' or 'relative_range', as in mmdetection's RandomCrop.
        allow_empty: keep windows without an object; otherwise another image replaces this one.
        boxes_from_masks: tighten boxes around what is left of their masks; objects whose mask is gone are dropped.
        cat_max_ratio: in a window with a class map no class shall have so large a share of the pixels that have one,
            and more than one class shall be there; up to ten more windows are drawn for it, the last is taken as it is
            (mmsegmentation's rule). 1 takes the first.
    """

    def __init__(
        self,
        size: tuple[float, float],
        size_type: str = "absolute",
        allow_empty: bool = False,
        boxes_from_masks: bool = False,
        cat_max_ratio: float = 1.0,
    ) -> None:
        if size_type not in ("absolute", "absolute_range", "relative", "relative_range"):
            raise ConfigError(
                f"size_type of RandomCrop is absolute, absolute_range, relative or relative_range, not {size_type!r}."
            )
        limit = 1 if size_type.startswith("relative") else float("inf")
        if len(size) != 2 or not all(0 < side <= limit for side in size):
            raise ConfigError(f"RandomCrop cannot cut {size_type} windows of size {size!r}: give (width, height).")
        self.size, self.size_type = tuple(size), size_type
        if not 0 < cat_max_ratio <= 1:
            raise ConfigError(f"cat_max_ratio of RandomCrop is a share above 0 and up to 1, not {cat_max_ratio!r}.")
        self.allow_empty, self.boxes_from_masks, self.cat_max_ratio = allow_empty, boxes_from_masks, cat_max_ratio

    def transform(self, results: dict) -> dict | None:
        require_pixels(results, self)
        require_unpadded(results, self)
        full_h, full_w = results["img"].shape[:2]
        height, width = self._draw_size(full_h, full_w)
        y, x = self._draw_place(results.get("gt_semantic"), full_h - height + 1, full_w - width + 1, (height, width))
        results["img"] = results["img"][y : y + height, x : x + width]
        results["img_shape"] = (height, width)
        for key in MAPS:
            if key in results:
                results[key] = results[key][y : y + height, x : x + width]
        if "gt_bboxes" in results:
            return self._crop_instances(results, int(x), int(y), (height, width))
        return results

    def _draw_place(
        self, classes: np.ndarray | None, rows: int, columns: int, size: tuple[int, int]
    ) -> tuple[int, int]:
        """Upper left corner (y, x) of a window of `size`, of so many `rows` and `columns` where it may begin."""
        corner = np.random.randint(rows), np.random.randint(columns)
        if classes is None or self.cat_max_ratio == 1:
            return corner
        for _ in range(TRIES):
            y, x = corner
            counts = _count_classes(classes[y : y + size[0], x : x + size[1]])
            counts[IGNORED] = 0
            if np.count_nonzero(counts) > 1 and counts.max() / counts.sum() < self.cat_max_ratio:
                break
            corner = np.random.randint(rows), np.random.randint(columns)
        return corner

    def _draw_size(self, full_h: int, full_w: int) -> tuple[int, int]:
        width, height = self.size
        if self.size_type == "absolute_range":
            low, high = sorted(map(int, self.size))
            height = np.random.randint(min(full_h, low), min(full_h, high) + 1)
            width = np.random.randint(min(full_w, low), min(full_w, high) + 1)
        elif self.size_type != "absolute":
            if self.size_type == "relative_range":
                height, width = (share + np.random.random() * (1 - share) for share in (height, width))
            height, width = int(full_h * height + 0.5), int(full_w * width + 0.5)
        return max(min(int(height), full_h), 1), max(min(int(width), full_w), 1)

    def _crop_instances(self, results: dict, x: int, y: int, size: tuple[int, int]) -> dict | None:
        boxes = clip_to_image(results["gt_bboxes"] - np.array([x, y, x, y], dtype=np.float32), size)
        results["gt_bboxes"] = boxes
        _keep(results, (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1]))
        if "gt_masks" in results:
            # only after the selection: no work on masks that are dropped anyway
            results["gt_masks"] = [crop_mask(mask, x, y, size) for mask in results["gt_masks"]]
            if self.boxes_from_masks:
                large = too_large(len(results["gt_masks"]), size)
                parts = list(map(bitmap_boxes, draw_in_parts(results["gt_masks"], size))) if large else None
                bitmaps = None if large else rasterize(results["gt_masks"], size)
                boxes = np.concatenate(parts) if large else bitmap_boxes(bitmaps)
                left = boxes[:, 2] > 0
                results["gt_bboxes"] = np.where(left[:, None], boxes, results["gt_bboxes"])
                kept = left | results["gt_ignore"]
                _keep(results, kept)
                if not large:
                    results["drawn_masks"] = (results["gt_masks"], bitmaps if kept.all() else bitmaps[kept])
        return results if len(results["gt_bboxes"]) or self.allow_empty else None


def _count_classes(classes: np.ndarray) -> np.ndarray:
    """(256,) how many pixels of a window (H, W) uint8 have each class."""
    if classes.dtype != np.uint8 or classes.size >= 1 << 24:  # OpenCV's counts are float32
        return np.bincount(classes.ravel(), minlength=256)
    return cv2.calcHist([classes], [0], None, [256], [0, 256]).ravel().astype(np.int64)  # (256, 1) -> (256,)


def _keep(results: dict, kept: np.ndarray) -> None:
    """Leave only the instances that `kept` (N,) marks."""
    for key in INSTANCE_FIELDS:
        if key in results:
            old = results[key]
            results[key] = [old[i] for i in np.flatnonzero(kept)] if isinstance(old, list) else old[kept]
