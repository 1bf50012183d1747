"""The first transforms: image and truth into the results dict that all others work on.

| key | value |
|---|---|
| `img` | uint8 (H, W, 3) BGR |
| `img_id`, `img_path` | of the data set |
| `ori_shape`, `img_shape` | (height, width) of the file, and now, without padding |
| `scale_factor`, `flip` | (x, y) resized / original; mirrored left to right |
| `gt_bboxes` | (N, 4) float32 xyxy pixels |
| `gt_labels`, `gt_ignore` | (N,) int64; (N,) bool, True for crowds |
| `gt_masks` | list of N: polygons, each (n, 2) float64, or a bitmap (H, W) uint8 |
| `gt_semantic` | (H, W) class of each pixel, 255 = ignore |
| `gt_depth` | (H, W) float32 metres, 0 = no measurement |
"""

import numpy as np
from mmcv.transforms import BaseTransform

from densevit.datasets.reading_images import read_image
from densevit.errors import ConfigError
from densevit.ops.masks import decode_rle
from densevit.registry import TRANSFORMS

__all__ = ["LoadAnnotations", "LoadImage", "read_image"]


@TRANSFORMS.register_module()
class LoadImage(BaseTransform):
    """Read `img_path`, or take the array that is `img` already, and start the meta information.

    Where the entry says `height` and `width`, the image must have that size; see `read_image`.
    """

    def transform(self, results: dict) -> dict:
        if results.get("img") is None:
            size = (results["height"], results["width"]) if "height" in results else None
            results["img"] = read_image(results["img_path"], size)
        results.setdefault("img_path", None)
        results.setdefault("img_id", 0)
        results["ori_shape"] = results["img_shape"] = results["img"].shape[:2]
        results["scale_factor"] = (1.0, 1.0)
        results["flip"] = False
        return results


@TRANSFORMS.register_module()
class LoadAnnotations(BaseTransform):
    """Instances of a data set's entry as `gt_bboxes`, `gt_labels`, `gt_ignore` and, if asked for, `gt_masks`.

    Args:
        with_masks: load masks too; the data set must hold them (`with_masks=True` there).
    """

    def __init__(self, with_masks: bool = False) -> None:
        self.with_masks = with_masks

    def transform(self, results: dict) -> dict:
        results["gt_bboxes"] = np.array(results["bboxes"], dtype=np.float32).reshape(-1, 4)
        results["gt_labels"] = np.array(results["labels"], dtype=np.int64)
        results["gt_ignore"] = np.array(results["ignore"], dtype=bool)
        if self.with_masks:
            if "masks" not in results:
                raise ConfigError(
                    "LoadAnnotations wants masks that its data set does not hold: set with_masks=True there."
                )
            results["gt_masks"] = [decode_rle(mask) if isinstance(mask, dict) else mask for mask in results["masks"]]
        return results
