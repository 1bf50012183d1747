"""What the parts of a head of two stages that read regions have in common: pooling them from the maps."""

from collections.abc import Mapping, Sequence

from mmengine.model import BaseModule
from torch import Tensor

from densevit.errors import merge_options
from densevit.ops.roi_align import multilevel_roi_align

POOLING = dict(levels=4, sampling_ratio=0, aligned=True, level_rule="finest", finest_size=56.0)


class RoIPart(BaseModule):
    """Reads regions from the maps by RoIAlign.

    Args:
        where: for messages, 'box.pooling'.
        in_strides: of the incoming maps.
        pooling: what differs from POOLING: how many of the maps regions are read from, from the finest on (levels; all
            where there are fewer), the side of the pooled map (size), and arguments of
            `ops.roi_align.multilevel_roi_align`.
        size: the side of the pooled map where `pooling` names none.
    """

    def __init__(self, where: str, in_strides: Sequence[int], pooling: Mapping | None, size: int):
        super().__init__()
        self.pooling = merge_options(where, pooling, dict(POOLING, size=size))
        self.strides = tuple(in_strides[: self.pooling.pop("levels")])

    def pool(self, features: Sequence[Tensor], rois: Tensor) -> Tensor:
        """What the maps hold at regions (N, 5) (image number, x1, y1, x2, y2): (N, C, s, s)."""
        return multilevel_roi_align(features[: len(self.strides)], self.strides, rois, **self.pooling)
