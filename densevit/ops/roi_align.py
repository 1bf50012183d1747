"""RoIAlign over a feature pyramid (Mask R-CNN, arXiv 1703.06870; FPN, arXiv 1612.03144, section 4.2).

Shape letters: N regions, L levels, C channels, s side of the pooled map.
"""

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
import torchvision
from torch import Tensor

from densevit.errors import ConfigError
from densevit.ops.cropped_masks import CroppedMasks

LEVEL_RULES = ("finest", "canonical")
MASKS_AT_ONCE = 16


def as_rois(boxes: Sequence[Tensor]) -> Tensor:
    """Boxes (N_i, 4) of each image, one after the other, with the image's number in front: (N, 5)."""
    numbers = [boxes[i].new_full((len(boxes[i]), 1), i) for i in range(len(boxes))]
    return torch.cat((torch.cat(numbers), torch.cat(list(boxes))), dim=1)


def roi_levels(boxes: Tensor, strides: Sequence[int], rule: str = "finest", finest_size: float = 56.0) -> Tensor:
    """Which map each box is read from: (N, 4) -> (N,) int64 in 0 to L - 1; a double side is one level coarser.

    rule: 'finest', boxes up to twice finest_size belong to the first map: floor(log2(sqrt(w h) / finest_size + 1e-6)),
    mmdetection's form; 'canonical', a box of side 224 belongs to the map of stride 16:
    floor(4 + log2(sqrt(w h) / 224 + 1e-8)), detectron2's. For maps from stride 4 on they differ by rounding alone.
    """
    side = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).clamp(min=0).sqrt()
    if rule not in LEVEL_RULES:
        raise ConfigError(f"there is no level_rule {rule!r}: choose from {', '.join(LEVEL_RULES)}")
    if rule == "finest":
        level = torch.floor(torch.log2(side / finest_size + 1e-6))
    else:
        level = torch.floor(4 + torch.log2(side / 224 + 1e-8)) - round(math.log2(strides[0]))
    return level.clamp(0, len(strides) - 1).long()


def multilevel_roi_align(
    maps: Sequence[Tensor],
    strides: Sequence[int],
    rois: Tensor,
    size: int,
    sampling_ratio: int = 0,
    aligned: bool = True,
    level_rule: str = "finest",
    finest_size: float = 56.0,
) -> Tensor:
    """Each region read from the map of its level, bilinearly: (N, C, size, size) float32.

    maps: L of (B, C, h, w), at `strides`. rois: (N, 5) image number, x1, y1, x2, y2 in pixels. sampling_ratio: samples
    a bin and direction; 0: as many as the bin has pixels. aligned: pixel centers lie at half integers.
    A map without regions still gets a gradient (of zero).
    """
    level = roi_levels(rois[:, 1:], strides, level_rule, finest_size)
    order = level.argsort(stable=True)
    counts = torch.bincount(level, minlength=len(maps)).tolist()
    parts = [
        _roi_align(x.float(), part, size, 1.0 / stride, sampling_ratio, aligned)
        for x, stride, part in zip(maps, strides, rois[order].split(counts), strict=True)
    ]
    return torch.cat(parts)[order.argsort()]


def _roi_align(x: Tensor, rois: Tensor, *how) -> Tensor:
    """torchvision's, which uses one thread on a CPU: where nothing is trained each gets a part of the regions."""
    threads = torch.get_num_threads()
    if x.device.type != "cpu" or threads == 1 or len(rois) < 2 * threads or torch.is_grad_enabled():
        return torchvision.ops.roi_align(x, rois, *how)

    def align(part: Tensor) -> Tensor:
        with torch.no_grad():
            return torchvision.ops.roi_align(x, part, *how)

    x = x.contiguous()
    with ThreadPoolExecutor(threads) as pool:
        return torch.cat(list(pool.map(align, rois.chunk(4 * threads))))


def crop_masks(masks: Tensor | CroppedMasks, boxes: Tensor, index: Tensor, size: int) -> Tensor:
    """What of a mask lies in a box, at the resolution of a mask head: (N, size, size) float32 of 0 and 1.

    masks: (G, H, W) bool in the boxes' frame. boxes: (N, 4). index: (N,) int64, the mask of each box. A target is 1
    where RoIAlign of the mask reaches one half.
    """
    if isinstance(masks, CroppedMasks) or len(masks) > len(boxes):  # some of many: a few at a time
        groups = zip(index.split(MASKS_AT_ONCE), boxes.split(MASKS_AT_ONCE), strict=True)
        parts = [crop_masks(masks[i], b, torch.arange(len(i), device=b.device), size) for i, b in groups]
        return torch.cat([boxes.new_zeros((0, size, size)), *parts])
    rois = torch.cat((index[:, None].to(boxes), boxes), dim=1)
    return (torchvision.ops.roi_align(masks[:, None].to(boxes), rois, size, 1.0, 0, True)[:, 0] >= 0.5).to(boxes)
