"""Anchor boxes of a feature pyramid (Faster R-CNN, arXiv 1506.01497; RetinaNet, arXiv 1708.02002).

Anchors are centered at (column, row) * stride: not rounded, and not shifted by half a pixel.
Shape letters: A anchors a location, h, w size of a map, N = h w A.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from densevit.ops.caching import by_bytes


def octave_scales(base_scale: float, scales_per_octave: int) -> tuple[float, ...]:
    """RetinaNet's scales: base_scale * 2^(i / scales_per_octave)."""
    return tuple(base_scale * 2 ** (i / scales_per_octave) for i in range(scales_per_octave))


def base_anchors(
    base_size: float,
    scales: Sequence[float],
    ratios: Sequence[float],
    scale_major: bool = True,
    center_offset: float = 0.0,
) -> Tensor:
    """The anchors of the location (0, 0): (A, 4) xyxy pixels, A = len(ratios) * len(scales).

    base_size: side of the anchor of scale 1 and ratio 1 in pixels. ratios: height / width.
    scale_major: ratios outside and scales inside (the scale runs fastest); False turns this round.
    center_offset: center of the anchor in units of base_size.
    """
    scale = torch.tensor(scales, dtype=torch.float32)
    root = torch.tensor(ratios, dtype=torch.float32).sqrt()
    if scale_major:
        widths = (base_size * (1 / root)[:, None] * scale[None, :]).flatten()  # (ratios, scales) -> (A,)
        heights = (base_size * root[:, None] * scale[None, :]).flatten()
    else:
        widths = (base_size * scale[:, None] * (1 / root)[None, :]).flatten()  # (scales, ratios) -> (A,)
        heights = (base_size * scale[:, None] * root[None, :]).flatten()
    center = center_offset * base_size
    return torch.stack(
        (center - 0.5 * widths, center - 0.5 * heights, center + 0.5 * widths, center + 0.5 * heights), 1
    )


def grid_anchors(base: Tensor, size: tuple[int, int], stride: int) -> Tensor:
    """`base` (A, 4) at every location of a map of (h, w): (N, 4), row by row, the anchors of a location together."""
    height, width = size
    y = torch.arange(height, dtype=base.dtype, device=base.device) * stride
    x = torch.arange(width, dtype=base.dtype, device=base.device) * stride
    # (h, w, 4)
    shift = torch.stack((x.expand(height, width), y[:, None].expand(height, width)), dim=-1).repeat(1, 1, 2)
    return (shift[:, :, None] + base).reshape(-1, 4)  # (h, w, A, 4) -> (N, 4)


def valid_anchors(size: tuple[int, int], image: tuple[int, int], stride: int, num_anchors: int) -> Tensor:
    """True where an anchor's location lies on an image of (height, width) inside a larger map (h, w): (N,) bool."""
    rows = torch.arange(size[0]) < math.ceil(image[0] / stride)
    columns = torch.arange(size[1]) < math.ceil(image[1] / stride)
    return (rows[:, None] & columns[None, :]).flatten().repeat_interleave(num_anchors)  # (h, w) -> (N,)


@by_bytes
def pyramid_anchors(
    sizes: tuple[tuple[int, int], ...],
    strides: tuple[int, ...],
    scales: tuple[float, ...],
    ratios: tuple[float, ...],
    device: torch.device,
) -> tuple[Tensor, ...]:
    """The anchors of every level, one (N_l, 4) tensor a level; cached, so do not write into them.

    sizes: (h, w) of each map. A level's base size is its stride.
    """
    with torch.inference_mode(False):  # an inference tensor in the cache could not be used by a later training step
        return tuple(
            grid_anchors(base_anchors(stride, scales, ratios), size, stride).to(device)
            for size, stride in zip(sizes, strides, strict=True)
        )


@by_bytes
def pyramid_valid(
    sizes: tuple[tuple[int, int], ...],
    image: tuple[int, int],
    strides: tuple[int, ...],
    num_anchors: int,
    device: torch.device,
) -> Tensor | None:
    """`valid_anchors` of all levels one after the other: (N,) bool, or None where every anchor is valid; cached."""
    with torch.inference_mode(False):
        levels = [valid_anchors(size, image, stride, num_anchors) for size, stride in zip(sizes, strides, strict=True)]
        valid = torch.cat(levels)
        return None if bool(valid.all()) else valid.to(device)


def usable_anchors(
    anchors: Tensor,
    sizes: tuple[tuple[int, int], ...],
    padded: tuple[int, int] | None,
    image: tuple[int, int],
    strides: tuple[int, ...],
    num_anchors: int,
    allowed_border: float = -1,
) -> Tensor | None:
    """Which anchors (N, 4) of a batch's maps count in training for one of its images: (N,) bool, None where all do.

    padded: (height, width) of the image with its own padding; locations beyond it belong to the batch alone and do not
    count (None: they do). image: the same without padding; anchors that stick out of it by more than allowed_border
    pixels do not count (-1: they do).
    """
    valid = None
    if padded is not None:
        valid = pyramid_valid(sizes, padded, strides, num_anchors, anchors.device)
    if allowed_border < 0:
        return valid
    height, width = image[0] + allowed_border, image[1] + allowed_border
    inside = (anchors[:, :2] >= -allowed_border).all(1) & (anchors[:, 2] < width) & (anchors[:, 3] < height)
    return inside if valid is None else inside & valid
