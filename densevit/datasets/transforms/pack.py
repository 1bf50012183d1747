"""The last transform: from the results dict to the model's input."""

from collections.abc import Sequence

import numpy as np
import torch
from mmcv.transforms import BaseTransform

from densevit.datasets.io.jpeg import require_pixels
from densevit.datasets.transforms.geometry import clip_to_image
from densevit.ops.cropped_masks import CroppedMasks, too_large
from densevit.ops.masks import rasterize
from densevit.registry import TRANSFORMS
from densevit.structures import DataSample, InstanceData

META_KEYS = ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor", "flip", "window")


@TRANSFORMS.register_module()
class PackSample(BaseTransform):
    """dict(inputs=uint8 (3, H, W) BGR, data_samples=DataSample with the ground truth that the results hold).

    Boxes are clipped to the image, those without area dropped, polygons rasterized. Crowds go to `ignored_instances`.
    `inputs` is a view of the image as it lies in memory (channels last): nothing is copied here.

    Args:
        meta_keys: what of the results becomes meta information, where it is there.
    """

    def __init__(self, meta_keys: Sequence[str] = META_KEYS) -> None:
        self.meta_keys = tuple(meta_keys)

    def transform(self, results: dict) -> dict:
        require_pixels(results, self)
        image = np.ascontiguousarray(results["img"])
        sample = DataSample(metainfo={key: results[key] for key in self.meta_keys if key in results})
        if "gt_bboxes" in results:
            sample.gt_instances, sample.ignored_instances = self._pack_instances(results)
        for key in ("gt_semantic", "original_semantic"):
            if key in results:
                sample.set_field(torch.from_numpy(results[key].astype(np.int64)), key)
        for key in ("gt_depth", "original_depth"):
            if key in results:
                sample.set_field(torch.from_numpy(results[key].astype(np.float32)), key)
        return {"inputs": torch.from_numpy(image).permute(2, 0, 1), "data_samples": sample}  # (H, W, 3) -> (3, H, W)

    def _pack_instances(self, results: dict) -> tuple[InstanceData, InstanceData]:
        boxes = clip_to_image(results["gt_bboxes"], results["img_shape"])
        solid = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        ignore = results.get("gt_ignore", np.zeros(len(boxes), dtype=bool))
        packed = []
        for chosen in (solid & ~ignore, solid & ignore):
            instances = InstanceData(
                bboxes=torch.from_numpy(boxes[chosen]), labels=torch.from_numpy(results["gt_labels"][chosen])
            )
            if "gt_masks" in results:
                instances.masks = _draw(results, chosen)
            packed.append(instances)
        return packed[0], packed[1]


def _draw(results: dict, chosen: np.ndarray) -> torch.Tensor | CroppedMasks:
    """(M, H, W) bool bitmaps of the M instances that `chosen` (N,) marks; none is drawn a second time."""
    masks, size = results["gt_masks"], results["img"].shape[:2]
    drawn_from, bitmaps = results.get("drawn_masks", (None, None))
    # each transform that changes masks makes a list of its own: the bitmaps of an older one are not these
    if drawn_from is masks and bitmaps.shape[1:] == size:
        return torch.from_numpy(bitmaps if chosen.all() else bitmaps[chosen])
    masks = [masks[i] for i in np.flatnonzero(chosen)]
    return CroppedMasks.of(masks, size) if too_large(len(masks), size) else torch.from_numpy(rasterize(masks, size))
