"""Predictions back into the frame of the original image: the only inverse geometry."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from densevit.ops.masks import crop_rle
from densevit.structures import DataSample

STRIP = 1 << 22
"""Pixels of one mask that are sampled at once: some 70 MB."""
GROUP = 1 << 25
"""Logits that are enlarged at once, 134 MB, or those of eight classes: torch takes twice as long over fewer."""


def rescale_boxes(boxes: Tensor, sample: DataSample) -> Tensor:
    """Boxes (N, 4) in pixels of the network's input, in pixels of the original image.

    Undoes the resize by the sample's `scale_factor` (x, y), as mmdetection does: times its inverse, no second clip.
    """
    x, y = sample.metainfo.get("scale_factor", (1.0, 1.0))
    return boxes * boxes.new_tensor((1 / x, 1 / y, 1 / x, 1 / y))


def rescale_map(
    values: Tensor, sample: DataSample, size: Sequence[int] | None = None, align_corners: bool = False
) -> Tensor:
    """A map (K, h, w) in the original image: (K, H0, W0).

    It is resized (bilinear) to the padded network's input `size` (None: it has that size), cut, turned back where the
    image was flipped, and resized to the original image, or to the `window` of it that was predicted: 0 around that.
    """
    values = _resized(values, size or values.shape[1:], align_corners)
    height, width = sample.img_shape[:2]
    values = values[:, :height, :width]  # the padding cut off
    values = values.flip(-1) if sample.get("flip") else values
    height, width = _original_size(sample)
    top, left, rows, columns = sample.get("window", (0, 0, height, width))
    values = _resized(values, (rows, columns), align_corners)
    if (rows, columns) == (height, width):
        return values
    return F.pad(values, (left, width - left - columns, top, height - top - rows))


@torch.no_grad()
def rescale_classes(
    logits: Tensor, sample: DataSample, size: Sequence[int] | None = None, align_corners: bool = False
) -> Tensor:
    """The class of each pixel of the original image, (H0, W0) int64: the arg-max of `rescale_map`, ties to the lower.

    Some classes are enlarged at a time and compared with the best so far: a map of 150 classes of a large photograph
    takes gigabytes, and this little more than one of the classes.

    Args:
        logits: (K, h, w), as in `rescale_map`.
        sample: states what was padding and the original image's size.
        size: of the network's input.
        align_corners: of the resizes.
    """
    height, width = _original_size(sample)
    pixels = max(height * width, math.prod(size or logits.shape[1:]))
    best = classes = None
    logits, group = logits.contiguous(), max(8, GROUP // pixels // 8 * 8)
    for first in range(0, len(logits), group):
        top, index = rescale_map(logits[first : first + group], sample, size, align_corners).max(0)
        if best is None:
            best, classes = top, index
        else:
            better = top > best
            best = torch.where(better, top, best)
            classes = torch.where(better, index + first, classes)
    return classes


@torch.no_grad()
def rescale_probabilities(
    logits: Tensor, sample: DataSample, size: Sequence[int] | None = None, align_corners: bool = False
) -> Tensor:
    """The probability of each class at each pixel of the original image: the softmax of `rescale_map`, (K, H0, W0).

    Made in one piece of memory of that size and little beside. The arguments are those of `rescale_classes`.
    """
    height, width = _original_size(sample)
    shares = logits.new_empty((len(logits), height, width))
    group = max(1, GROUP // max(height * width, math.prod(size or logits.shape[1:])))
    for first in range(0, len(logits), group):
        part = slice(first, first + group)
        shares[part] = rescale_map(logits[part], sample, size, align_corners)
    rows = max(1, GROUP // (len(logits) * width))
    for top in range(0, height, rows):
        strip = shares[:, top : top + rows]  # (K, rows, W0): softmax in place, strip by strip
        strip.copy_(strip.softmax(0))
    return shares


def _original_size(sample: DataSample) -> tuple[int, int]:
    """(H0, W0)."""
    return tuple(int(side) for side in sample.get("ori_shape", sample.img_shape)[:2])


def _resized(values: Tensor, size: Sequence[int], align_corners: bool) -> Tensor:
    """(K, h, w) -> (K, *size), bilinear."""
    if values.shape[1:] == tuple(size):
        return values
    return F.interpolate(values[None], size=tuple(size), mode="bilinear", align_corners=align_corners)[0]


@torch.no_grad()
def rescale_masks(probabilities: Tensor, boxes: Tensor, sample: DataSample, threshold: float = 0.5) -> list[dict]:
    """Masks of fixed size stretched over boxes in the original image: N COCO RLEs dict(size=[H, W], counts=bytes).

    As mmdetection and detectron2 do on CPUs: bilinear at each pixel's center within the box and a pixel around it, no
    pixel of the mask beyond its border, set from `threshold` on; a box without width or height shows its mask's middle,
    as in mmdetection. Always on the CPU, one mask after the other and no larger than its box: memory is bounded by the
    box, not by their number, and every device gives the same pixels.

    Args:
        probabilities: (N, m, m) in 0 to 1.
        boxes: (N, 4) xyxy in pixels of the original image.
        sample: states the original image's size.
        threshold: least probability of a mask's pixels.
    """
    size = _original_size(sample)
    probabilities, boxes = probabilities.detach().float().cpu(), boxes.detach().float().cpu()
    return [_paste(p, box, size, threshold) for p, box in zip(probabilities, boxes, strict=True)]


def _paste(probability: Tensor, box: Tensor, size: tuple[int, int], threshold: float) -> dict:
    """The RLE of one mask (m, m) over one box (4,)."""
    height, width = size
    if not box.isfinite().all():
        return crop_rle(np.empty((0, 0), bool), 0, 0, size)
    left, top = (box[:2].floor() - 1).clamp(min=0).int().tolist()  # a pixel more on each side, clipped to the image
    right, bottom = torch.minimum(box[2:].ceil() + 1, box.new_tensor((width, height))).int().tolist()
    x, y = (_places(*ends) for ends in ((left, right, box[0], box[2]), (top, bottom, box[1], box[3])))
    crop = np.empty((len(x), len(y)), dtype=bool)
    for columns, strip in _strips(x, len(y)):
        # x runs down the grid's rows: what comes out is column by column, as RLE counts
        grid = torch.stack(torch.meshgrid(strip, y, indexing="ij"), dim=-1)
        values = F.grid_sample(probability[None, None], grid[None], mode="bilinear", align_corners=False)[0, 0]
        crop[columns] = (values >= threshold).numpy()
    return crop_rle(crop, left, top, size)


def _places(first: int, last: int, low: Tensor, high: Tensor) -> Tensor:
    """Where the centers of pixels `first` to `last` (excluded) lie in a box's side: -1 at its start, 1 at its end."""
    centers = torch.arange(first, max(first, last), dtype=torch.float32) + 0.5
    locations = (centers - low) / (high - low) * 2 - 1
    return locations.masked_fill_(locations.isinf(), 0)


def _strips(x: Tensor, tall: int) -> Iterator[tuple[slice, Tensor]]:
    """Ranges of columns with about STRIP pixels in each."""
    step = max(1, STRIP // max(tall, 1))
    for start in range(0, len(x) if tall else 0, step):
        yield slice(start, start + step), x[start : start + step]
