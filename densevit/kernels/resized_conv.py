"""A convolution over maps that are first resized and joined, without resizing them.

Each tap of a convolution is a product with a matrix over the channels and commutes with a resize, which is one over the
locations. So a small map is multiplied by all taps at its own size; enlarging and shifting then are two products with
small matrices, one along y and one along x. A map of half the size takes a quarter of the work.

Shape letters: B images, C channels of a map, P channels of the outcome, h, w size of a map, H, W of the outcome, k
side of the kernel.
"""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from densevit.kernels.winograd import conv_same
from densevit.ops.caching import by_bytes
from densevit.ops.plain import plain_form

BLOCK = 128
"""Side in locations of what is made at a time where nothing is trained."""


def conv_of_resized(conv: nn.Conv2d, maps: Sequence[Tensor], size: Sequence[int], align_corners: bool) -> Tensor:
    """conv(cat([bilinear resize of x to `size` for x in maps], dim=1)): (B, P, H, W).

    Args:
        conv: of stride 1, which keeps the size.
        maps: (B, C_i, h_i, w_i).
        size: H, W.
        align_corners: of the resizes.
    """
    size = tuple(size)
    if plain_form() or maps[0].device.type != "cpu":
        maps = [F.interpolate(x, size=size, mode="bilinear", align_corners=align_corners) for x in maps]
        return conv(torch.cat(maps, dim=1))
    kernels = conv.weight.split([x.shape[1] for x in maps], dim=1)  # each map's part of the kernel: (P, C_i, k, k)
    whole = [i for i, x in enumerate(maps) if tuple(x.shape[2:]) == size]
    out = None
    if whole:
        joined = torch.cat([maps[i] for i in whole], dim=1) if len(whole) > 1 else maps[whole[0]]
        kernel = torch.cat([kernels[i] for i in whole], dim=1) if len(whole) > 1 else kernels[whole[0]]
        out = conv_same(joined, kernel, conv.bias)
    for i, x in enumerate(maps):
        if i not in whole:
            out = _add_resized(out, x, kernels[i], size, align_corners)
    return out if whole or conv.bias is None else out + conv.bias[:, None, None]


def _add_resized(out: Tensor | None, x: Tensor, kernel: Tensor, size: tuple[int, int], align_corners: bool) -> Tensor:
    """out + conv(resize(x)) of one map (B, C, h, w) and its kernel (P, C, k, k): (B, P, H, W), channels last in memory.

    Where nothing is trained `out` itself is added to, on a CPU block by block: each sees a few locations of x alone.
    """
    many, channels, h, w = x.shape
    taps = kernel.shape[2]
    to_y = shifted_resize(h, size[0], taps, align_corners, x.dtype, x.device)  # (H, k, h)
    to_x = shifted_resize(w, size[1], taps, align_corners, x.dtype, x.device)  # (W, k, w)
    tokens, kernel = x.permute(0, 2, 3, 1), kernel.permute(2, 1, 3, 0).flatten(2)  # (k_y, C, k_x * P)
    whole = torch.is_grad_enabled()
    part = None
    for rows, above, below in [(slice(None), 0, h)] if whole else _blocks(to_y):
        weights = to_y[rows, :, above:below].flatten(1)  # (rows, k_y * seen)
        # (B, 1, seen * w, C), against kernels (k_y, C, k_x * P)
        seen = tokens[:, above:below].reshape(many, 1, -1, channels)
        products = (seen @ kernel).reshape(many, weights.shape[1], -1)  # (B, k_y * h, w * k_x * P)
        strip = torch.bmm(weights.expand(many, -1, -1), products)
        strip = strip.view(many * len(weights), w, -1)  # (B * rows, w, k_x * P)
        for columns, left, right in [(slice(None), 0, w)] if whole else _blocks(to_x):
            locations = to_x[columns, :, left:right].transpose(1, 2).flatten(1)  # in the order of `strip`: w, then k_x
            taken = strip[:, left:right].reshape(len(strip), locations.shape[1], -1)
            part = torch.bmm(locations.expand(len(strip), -1, -1), taken)  # (B * rows, columns, P)
            part = part.unflatten(0, (many, -1)).permute(0, 3, 1, 2)  # (B, P, rows, columns)
            if not whole:
                if out is None:
                    out = part.new_zeros(many, *size, part.shape[1]).permute(0, 3, 1, 2)
                out[:, :, rows, columns] += part
    return out if not whole else part if out is None else out + part


def _blocks(resize: Tensor) -> Iterator[tuple[slice, int, int]]:
    """Ranges of the outgoing locations of matrices (new, taps, old), and for each the incoming ones that it sees."""
    for first in range(0, len(resize), BLOCK):
        some = slice(first, first + BLOCK)
        seen = resize[some].abs().amax((0, 1)).nonzero()
        yield some, int(seen[0]), int(seen[-1]) + 1


@by_bytes
def shifted_resize(
    old: int, new: int, taps: int, align_corners: bool, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """The matrices (new, taps, old) that resize a side of `old` locations bilinearly to `new` and then look at the
    location `tap - taps // 2` further; beyond the border is 0. Kept for a few sizes."""
    locations = torch.eye(old, dtype=torch.float64 if dtype == torch.float64 else torch.float32)
    resize = F.interpolate(locations[None], size=new, mode="linear", align_corners=align_corners)[0].T
    padded = F.pad(resize, (0, 0, taps // 2, taps // 2))  # zeros beyond the border, as the convolution pads
    return torch.stack([padded[tap : tap + new] for tap in range(taps)], dim=1).to(device, dtype)
