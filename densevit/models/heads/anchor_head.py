"""What heads of anchors share: where anchors lie, how they are matched, and the deltas that move them.

Shape letters: B images, L levels, h, w size of a level's map, A anchors a place, N anchors of an image over all levels.
"""

from collections.abc import Sequence

import torch
from mmengine.model import BaseModule
from torch import Tensor

from densevit.models.losses.detection import box_regression_loss
from densevit.ops.anchors import pyramid_anchors, usable_anchors
from densevit.ops.matching import match_by_iou
from densevit.structures import DataSample

Sizes = tuple[tuple[int, int], ...]


class AnchorHead(BaseModule):
    """A head of A anchors a place on L levels.

    A subclass sets `strides`, `scales`, `ratios`, `assign` (arguments of `ops.matching.match_by_iou`) with
    `allowed_border` and `in_padding` apart, and `smooth_l1_beta`.
    """

    strides: tuple[int, ...]
    scales: tuple[float, ...]
    ratios: tuple[float, ...]
    in_padding = False

    @property
    def num_anchors(self) -> int:
        """A."""
        return len(self.scales) * len(self.ratios)

    def anchors(self, maps: Sequence[Tensor]) -> tuple[Sizes, tuple[Tensor, ...]]:
        """Sizes of the maps and each level's anchors (N_l, 4)."""
        sizes = tuple((x.shape[2], x.shape[3]) for x in maps)
        return sizes, pyramid_anchors(sizes, self.strides, self.scales, self.ratios, maps[0].device)

    @staticmethod
    def rows(x: Tensor, width: int) -> Tensor:
        """(B, A * width, h, w) -> (B, h w A, width) in float32: a row an anchor, in the order of the anchors."""
        return x.permute(0, 2, 3, 1).reshape(len(x), -1, width).float()

    def match(self, anchors: Tensor, sizes: Sizes, sample: DataSample) -> Tensor:
        """The true box of each anchor of one image (N,) int64: -1 background, -2 does not count."""
        padded = None if self.in_padding else tuple(sample.metainfo.get("pad_shape", sample.img_shape))
        valid = usable_anchors(
            anchors, sizes, padded, sample.img_shape, self.strides, self.num_anchors, self.allowed_border
        )
        ignored = sample.ignored_instances.bboxes if "ignored_instances" in sample else None
        return match_by_iou(anchors, sample.gt_instances.bboxes, ignored=ignored, valid=valid, **self.assign).index

    def box_loss_by_level(self, given: Tensor, wanted: Tensor, locations: Tensor, levels: Sequence[Tensor]) -> Tensor:
        """Smooth L1 of the deltas (P, 4) of positive anchors, summed level by level: (L,).

        locations: (P,), their numbers among the anchors of an image. levels: each level's anchors.
        """
        each = box_regression_loss(given, wanted, self.smooth_l1_beta).sum(1)
        ends = torch.tensor([len(anchors) for anchors in levels], device=locations.device).cumsum(0)
        level = torch.bucketize(locations, ends, right=True)
        return each.new_zeros(len(levels)).index_add(0, level, each)
