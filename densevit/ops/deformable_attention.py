"""Multi-scale deformable attention in plain PyTorch (Deformable DETR, arXiv 2010.04159, section 4.1).

Shape letters: B batch, Q queries, M heads, L levels, K points of a query on a level, D channels of a head, S indices
of all levels' maps together.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from densevit.errors import ConfigError, suggest
from densevit.ops.plain import plain_form

Sizes = Sequence[tuple[int, int]]


def deformable_attention(
    value: Tensor, sizes: Sizes, points: Tensor, weights: Tensor, form: str | None = None
) -> Tensor:
    """Weighted sums of bilinear samples of the values: (B, Q, M*D), of the values' type.

    The forms are equal up to rounding. On CPUs 'bag' takes a third to an eighth of the time of the others, and it keeps
    no samples, of which there are L*K for each query.

    Args:
        value: (B, S, M, D), the maps of the levels one after the other, row by row.
        sizes: (h, w) of each level.
        points: (B, Q, M, L, K, 2), x and y of the samples: 0 is the left or upper border of a map, 1 the right or
            lower, centers of pixels lie at (i + 0.5) / side; outside of a map the values are zero.
        weights: (B, Q, M, L, K), of the samples.
        form: 'bag', by `embedding_bag`, whose rows are the pixels; 'sample', by `grid_sample`; 'gather', by `gather`
            and arithmetic alone. None: 'gather' where operations are recorded, 'bag' otherwise.

    Raises ConfigError for an unknown form.
    """
    if form is None:
        form = "gather" if plain_form() else "bag"
    if form not in FORMS:
        raise ConfigError(f"deformable_attention has no form {form!r}{suggest(form, FORMS)}: {', '.join(FORMS)}")
    return FORMS[form](value, sizes, points, weights).flatten(2).to(value.dtype)  # (B, Q, M, D) -> (B, Q, M D)


def corners(sizes: Sizes, points: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """The four pixels around each point: their indices among all S, and their parts of the weights, zero for those
    outside of the map. Both (B, Q, M, L*4*K)."""
    indices, parts, start = [], [], 0
    for level, (height, width) in enumerate(sizes):
        x = points[:, :, :, level, :, 0] * width - 0.5
        y = points[:, :, :, level, :, 1] * height - 0.5
        left, top = x.floor(), y.floor()
        right_part, lower_part = x - left, y - top
        left, top = left.long(), top.long()
        for row, down in ((top, 1 - lower_part), (top + 1, lower_part)):
            for column, across in ((left, 1 - right_part), (left + 1, right_part)):
                inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
                indices.append(start + row.clamp(0, height - 1) * width + column.clamp(0, width - 1))
                parts.append(weights[:, :, :, level] * down * across * inside)
        start += height * width
    return torch.cat(indices, -1), torch.cat(parts, -1)


def _by_bag(value: Tensor, sizes: Sizes, points: Tensor, weights: Tensor) -> Tensor:
    """(B, Q, M, D): each sum is a bag of pixels of one image and head."""
    batch, count, heads, _ = value.shape
    indices, parts = corners(sizes, points, weights)
    image = torch.arange(batch, device=indices.device).view(
        -1, 1, 1, 1
    )  # (B, 1, 1, 1), beside indices (B, Q, M, 4 L K)
    head = torch.arange(heads, device=indices.device).view(-1, 1)  # (M, 1)
    rows = ((image * count + indices) * heads + head).flatten(0, 2)  # (B Q M, 4 L K), rows of the values (B S M, D)
    out = F.embedding_bag(rows, value.flatten(0, 2), mode="sum", per_sample_weights=parts.flatten(0, 2).to(value.dtype))
    return out.unflatten(0, parts.shape[:3])  # (B Q M, D) -> (B, Q, M, D)


def _by_sample(value: Tensor, sizes: Sizes, points: Tensor, weights: Tensor) -> Tensor:
    """(B, Q, M, D)."""
    total = 0
    for level, part in enumerate(value.split([height * width for height, width in sizes], 1)):
        maps = part.permute(0, 2, 3, 1).unflatten(3, sizes[level]).flatten(0, 1)  # (B*M, D, h, w)
        grid = (2 * points[:, :, :, level] - 1).transpose(1, 2).flatten(0, 1)  # (B*M, Q, K, 2)
        samples = F.grid_sample(maps.to(grid.dtype), grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        share = weights[:, :, :, level].transpose(1, 2).flatten(0, 1).unsqueeze(1)  # (B*M, 1, Q, K)
        total = total + (samples * share).sum(3)  # (B*M, D, Q)
    return total.unflatten(0, (len(value), -1)).permute(0, 3, 1, 2)  # (B M, D, Q) -> (B, M, D, Q) -> (B, Q, M, D)


def _by_gather(value: Tensor, sizes: Sizes, points: Tensor, weights: Tensor) -> Tensor:
    """(B, Q, M, D)."""
    indices, parts = (x.transpose(1, 2) for x in corners(sizes, points, weights))  # (B, M, Q, L*4*K)
    index = indices.flatten(2).unsqueeze(3).expand(-1, -1, -1, value.shape[3])  # (B, M, 4 Q L K, D)
    pixels = value.transpose(1, 2).gather(2, index).unflatten(2, indices.shape[2:])  # (B, M, Q, L*4*K, D)
    return (parts.unsqueeze(3) @ pixels.to(parts.dtype)).squeeze(3).transpose(1, 2)  # (B, M, Q, D) -> (B, Q, M, D)


FORMS = {"bag": _by_bag, "sample": _by_sample, "gather": _by_gather}
