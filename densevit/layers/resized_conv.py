"""A convolution over maps that are first resized and joined, without resizing them.

Each tap of a convolution is a product with a matrix over the channels and commutes with a resize, which is one over the
places. So a small map is multiplied by all taps at its own size; enlarging and shifting then are two products with
small matrices, one along y and one along x. A map of half the size takes a quarter of the work.

Shape letters: B images, C channels of a map, P channels of the outcome, h, w size of a map, H, W of the outcome, k
side of the kernel.
"""

from collections.abc import Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from densevit.ops.winograd import conv_same


def conv_of_resized(conv: nn.Conv2d, maps: Sequence[Tensor], size: Sequence[int], align_corners: bool) -> Tensor:
    """conv(cat([bilinear resize of x to `size` for x in maps], dim=1)): (B, P, H, W).

    Args:
        conv: of stride 1, which keeps the size.
        maps: (B, C_i, h_i, w_i).
        size: H, W.
        align_corners: of the resizes.
    """
    size = tuple(size)
    kernels = conv.weight.split([x.shape[1] for x in maps], dim=1)
    whole = [i for i, x in enumerate(maps) if tuple(x.shape[2:]) == size]
    out = None
    if whole:
        joined = torch.cat([maps[i] for i in whole], dim=1) if len(whole) > 1 else maps[whole[0]]
        kernel = torch.cat([kernels[i] for i in whole], dim=1) if len(whole) > 1 else kernels[whole[0]]
        out = conv_same(joined, kernel, conv.bias)
    for i, x in enumerate(maps):
        if i in whole:
            continue
        part = _shifted_sum(x, kernels[i], size, align_corners)
        if out is None and conv.bias is not None:
            part = part + conv.bias[:, None, None]
        out = part if out is None else out + part
    return out


def _shifted_sum(x: Tensor, kernel: Tensor, size: tuple[int, int], align_corners: bool) -> Tensor:
    """conv(resize(x)) of one map (B, C, h, w) and its kernel (P, C, k, k): (B, P, H, W), channels last in memory."""
    many, channels, h, w = x.shape
    taps = kernel.shape[2]
    to_y = shifted_resize(h, size[0], taps, align_corners, x.dtype, x.device)
    to_x = shifted_resize(w, size[1], taps, align_corners, x.dtype, x.device)
    tokens = x.permute(0, 2, 3, 1).reshape(many, 1, h * w, channels)
    products = tokens @ kernel.permute(2, 1, 3, 0).flatten(2)  # (B, k_y, h * w, k_x * P)
    rows = torch.bmm(to_y.flatten(1).expand(many, -1, -1), products.reshape(many, taps * h, -1))  # (B, H, w * k_x * P)
    rows = rows.reshape(many * size[0], w * taps, -1)
    columns = to_x.transpose(1, 2).flatten(1).expand(many * size[0], -1, -1)  # in the order of `rows`: w, then k_x
    return torch.bmm(columns, rows).unflatten(0, (many, size[0])).permute(0, 3, 1, 2)


@torch.compiler.assume_constant_result
def shifted_resize(
    old: int, new: int, taps: int, align_corners: bool, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """The matrices (new, taps, old) that resize a side of `old` places bilinearly to `new` and then look at the place
    `tap - taps // 2` further; beyond the border is 0. Kept for a few sizes."""
    return _shifted_resize(old, new, taps, align_corners, dtype, device)


@lru_cache(maxsize=64)
def _shifted_resize(
    old: int, new: int, taps: int, align_corners: bool, dtype: torch.dtype, device: torch.device
) -> Tensor:
    # also a first call within inference_mode gives a tensor that a later training step may save
    with torch.inference_mode(False), torch.no_grad():
        places = torch.eye(old, dtype=torch.float64 if dtype == torch.float64 else torch.float32)
        resize = F.interpolate(places[None], size=new, mode="linear", align_corners=align_corners)[0].T
        padded = F.pad(resize, (0, 0, taps // 2, taps // 2))
        return torch.stack([padded[tap : tap + new] for tap in range(taps)], dim=1).to(device, dtype)
