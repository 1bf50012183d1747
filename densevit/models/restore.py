"""Predictions back into the frame of the original image: the only inverse geometry."""

import torch.nn.functional as F
from torch import Tensor

from densevit.structures import DataSample


def restore_boxes(boxes: Tensor, sample: DataSample) -> Tensor:
    """Boxes (N, 4) in pixels of the network's input, in pixels of the original image.

    Undoes the resize by the sample's `scale_factor` (x, y), as mmdetection does: times its inverse, no second clip.
    """
    x, y = sample.metainfo.get("scale_factor", (1.0, 1.0))
    return boxes * boxes.new_tensor((1 / x, 1 / y, 1 / x, 1 / y))


def restore_map(values: Tensor, sample: DataSample) -> Tensor:
    """A map (K, H, W) of the padded network's input, cut and resized (bilinear) to the original image: (K, H0, W0)."""
    height, width = sample.img_shape
    values = values[:, :height, :width]
    size = tuple(sample.get("ori_shape", sample.img_shape))
    if values.shape[1:] == size:
        return values
    return F.interpolate(values[None], size=size, mode="bilinear")[0]
