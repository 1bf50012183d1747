"""Transforms of `torchvision.transforms.v2` by name, on image, boxes, masks, class map and depth together."""

import inspect
from typing import Any

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from torch import Tensor

from densevit.datasets.io.jpeg import require_pixels
from densevit.datasets.transforms.geometry import require_unpadded
from densevit.errors import ConfigError, suggest
from densevit.ops.masks import rasterize
from densevit.registry import TRANSFORMS

PIXELS_ALONE = ("GaussianBlur", "GaussianNoise", "JPEG")
"""Transforms that move nothing, beside those of torchvision's module of colors."""


@TRANSFORMS.register_module()
class TorchVision(BaseTransform):
    """A transform of `torchvision.transforms.v2`, such as dict(type='TorchVision', name='GaussianBlur', kernel_size=5).

    Boxes, masks, class map and depth follow as tv_tensors: maps are sampled nearest, and pixels that come from outside
    the image have no class and no depth. For training pipelines: predictions are not brought back through it.

    Args:
        name: of the transform. Those that give several images, another dtype or a batch are refused.
        options: of the transform; `interpolation` may be a word, such as 'bilinear'.

    Raises:
        ConfigError: an unknown name or option, or a transform whose image is not uint8 with 3 channels.
    """

    def __init__(self, name: str, **options: Any) -> None:
        from torchvision.transforms import InterpolationMode, v2

        classes = {key: kind for key, kind in vars(v2).items() if inspect.isclass(kind)}
        known = {key: kind for key, kind in classes.items() if issubclass(kind, v2.Transform)}
        if name not in known:
            raise ConfigError(f"torchvision.transforms.v2 has no transform {name!r}{suggest(name, known)}.")
        if isinstance(options.get("interpolation"), str):
            options["interpolation"] = InterpolationMode(options["interpolation"])
        try:
            self.apply = known[name](**options)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"TorchVision: {name} cannot be made with these options: {error}.") from None
        self.name = name
        self.moves = name not in PIXELS_ALONE and not known[name].__module__.endswith("._color")

    def transform(self, results: dict) -> dict:
        require_pixels(results, self)
        require_unpadded(results, self)
        image = torch.from_numpy(np.ascontiguousarray(results["img"][..., ::-1])).permute(2, 0, 1)  # BGR -> (3, H, W)
        labels = self._wrap_labels(results) if self.moves else {}
        moved = self._run({"img": image, **labels})
        # (3, H, W) RGB -> (H, W, 3) BGR
        results["img"] = np.ascontiguousarray(moved.pop("img").permute(1, 2, 0).numpy()[..., ::-1])
        results["img_shape"] = results["img"].shape[:2]
        for key, value in moved.items():
            results[key] = _unwrap(key, value)
        return results

    def _run(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        from torchvision import tv_tensors

        try:
            outputs = self.apply({**inputs, "img": tv_tensors.Image(inputs["img"])})
        except (TypeError, NotImplementedError) as error:  # a transform that takes no boxes or masks
            raise ConfigError(f"TorchVision: {self.name} cannot be applied: {error}.") from None
        image = outputs.get("img") if isinstance(outputs, dict) else None
        if not isinstance(image, Tensor) or image.dtype != torch.uint8 or image.ndim != 3 or len(image) != 3:
            raise ConfigError(
                f"TorchVision: {self.name} does not give one uint8 image with 3 channels; leave it out of the pipeline."
            )
        return outputs

    @staticmethod
    def _wrap_labels(results: dict) -> dict[str, Tensor]:
        """What the results hold of labels, as tv_tensors whose 0 is 'outside the image'."""
        from torchvision import tv_tensors

        size, labels = tuple(results["img"].shape[:2]), {}
        if "gt_bboxes" in results:
            boxes = torch.from_numpy(np.array(results["gt_bboxes"], np.float32)).reshape(-1, 4)
            labels["gt_bboxes"] = tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=size)
        if "gt_masks" in results:
            bitmaps = rasterize(results["gt_masks"], size).astype(np.uint8)  # (N, H, W)
            labels["gt_masks"] = tv_tensors.Mask(torch.from_numpy(bitmaps))
        if "gt_semantic" in results:
            # 255, no class, becomes 0
            labels["gt_semantic"] = tv_tensors.Mask(torch.from_numpy(results["gt_semantic"].astype(np.uint8) + 1))
        if "gt_depth" in results:
            labels["gt_depth"] = tv_tensors.Mask(torch.from_numpy(np.array(results["gt_depth"], np.float32)))
        return labels


def _unwrap(key: str, value: Tensor) -> Any:
    """A moved label in the form that the results dict has."""
    array = value.as_subclass(Tensor).numpy()
    if key == "gt_masks":
        return list(array.astype(np.uint8))
    return array - np.uint8(1) if key == "gt_semantic" else array
