"""Predictions back into the frame of the original image: the only inverse geometry."""

from torch import Tensor

from densevit.structures import DataSample


def restore_boxes(boxes: Tensor, sample: DataSample) -> Tensor:
    """Boxes (N, 4) in pixels of the network's input, in pixels of the original image.

    Undoes the resize by the sample's `scale_factor` (x, y), as mmdetection does: times its inverse, no second clip.
    """
    x, y = sample.metainfo.get("scale_factor", (1.0, 1.0))
    return boxes * boxes.new_tensor((1 / x, 1 / y, 1 / x, 1 / y))
