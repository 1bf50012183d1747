"""The first transforms: image and ground truth into the results dict that all others work on.

| key | value |
|---|---|
| `img` | uint8 (H, W, 3) BGR; an `LazyJpeg` between LoadImage(reduced=True) and Resize |
| `img_id`, `img_path` | of the dataset |
| `ori_shape`, `img_shape` | (height, width) of the file, and now, without padding |
| `scale_factor`, `flip` | (x, y) resized / original; flipped left to right |
| `resized` | True behind a Resize |
| `window` | (top, left, height, width) of the original image that is left: behind a KBCrop |
| `gt_bboxes` | (N, 4) float32 xyxy pixels |
| `gt_labels`, `gt_ignore` | (N,) int64; (N,) bool, True for crowds |
| `gt_masks` | list of N: polygons, each (n, 2) float64, an RleMask, or a bitmap (H, W) uint8 |
| `drawn_masks` | (`gt_masks`, their (N, H, W) bool bitmaps) where they are drawn already: those of that very list |
| `gt_semantic` | (H, W) class of each pixel, 255 = ignore |
| `original_semantic` | the same in the original image's frame, for metrics: what is loaded behind a Resize |
| `gt_depth` | (H, W) float32 meters, 0 = no measurement |
| `original_depth` | the same in the original image's frame, as `original_semantic` |
"""

import numpy as np
from mmcv.transforms import BaseTransform

from densevit.datasets.io.depth import depth_size
from densevit.datasets.io.image import BrokenImage, read_image
from densevit.datasets.io.jpeg import open_image
from densevit.datasets.io.label_map import map_size
from densevit.errors import ConfigError
from densevit.ops.masks import RleMask, encode_rle
from densevit.registry import TRANSFORMS

__all__ = ["LoadAnnotations", "LoadImage", "read_image"]


@TRANSFORMS.register_module()
class LoadImage(BaseTransform):
    """Read `img_path`, or take the array that is `img` already, and start the meta information.

    Where the entry says `height` and `width`, or has a class map or a depth map, the image must have that size; see
    `read_image`.

    Args:
        reduced: decode a JPEG only at the `Resize` that follows, at a half, a quarter or an eighth of its size where
            that is no less than what is asked for. Sizes, boxes and maps stay exact; the pixels are smoother.
    """

    def __init__(self, reduced: bool = False) -> None:
        self.reduced = reduced

    def transform(self, results: dict) -> dict:
        if results.get("img") is None:
            size, ground_truth = None, "its annotations were made for"
            if "height" in results:
                size = (results["height"], results["width"])
            elif "seg_path" in results:
                size, ground_truth = map_size(results["seg_path"]), f"class map {results['seg_path']} is"
            elif "depth_path" in results:
                size, ground_truth = depth_size(results["depth_path"]), f"depth map {results['depth_path']} is"
            read = open_image if self.reduced else read_image
            results["img"] = read(results["img_path"], size, ground_truth)
        results.setdefault("img_path", None)
        results.setdefault("img_id", 0)
        results["ori_shape"] = results["img_shape"] = results["img"].shape[:2]
        results["scale_factor"] = (1.0, 1.0)
        results["flip"] = False
        return results


@TRANSFORMS.register_module()
class LoadAnnotations(BaseTransform):
    """The ground truth of a dataset's entry: `gt_bboxes`, `gt_labels`, `gt_ignore` and, if asked for, `gt_masks` of its
    instances, `gt_semantic` of its class map, `gt_depth` of its depth map.

    In a test pipeline it stands behind Resize where there are maps: these stay as they are then and are called
    `original_semantic` and `original_depth`, as predictions are scored in the original image's frame.

    Args:
        with_masks: load masks too; the dataset must hold them (`with_masks=True` there).
    """

    def __init__(self, with_masks: bool = False) -> None:
        self.with_masks = with_masks

    def transform(self, results: dict) -> dict:
        if "bboxes" in results:
            self._load_instances(results)
        for key, name, what in (("seg", "semantic", "class map"), ("depth", "depth", "depth map")):
            path = results.get(f"{key}_path")
            if path is None:
                continue
            values = results["read_map" if key == "seg" else "read_depth"](path)
            if values.shape != tuple(results["ori_shape"]):
                (height, width), (rows, columns) = results["ori_shape"], values.shape
                raise BrokenImage(
                    f"Image {results['img_path']} is {width}x{height} pixels, but {what} {path} is {columns}x{rows}: "
                    "use the images that belong to the annotations."
                )
            whole = results.get("resized") or "window" in results
            results[f"original_{name}" if whole else f"gt_{name}"] = values
        return results

    def _load_instances(self, results: dict) -> None:
        results["gt_bboxes"] = np.array(results["bboxes"], dtype=np.float32).reshape(-1, 4)  # (N, 4), also of none
        results["gt_labels"] = np.array(results["labels"], dtype=np.int64)
        results["gt_ignore"] = np.array(results["ignore"], dtype=bool)
        if self.with_masks:
            if "masks" not in results:
                raise ConfigError(
                    "LoadAnnotations wants masks that its dataset does not hold: set with_masks=True there."
                )
            results["gt_masks"] = [
                RleMask(encode_rle(mask)) if isinstance(mask, dict) else mask for mask in results["masks"]
            ]
