"""Metric depth from a feature pyramid."""

from collections.abc import Sequence

from torch import Tensor, nn

from densevit.layers.merged_pyramid import MergedPyramid
from densevit.models.heads.pixel_maps import PixelMapHead
from densevit.models.losses.pixels import silog_loss
from densevit.registry import MODELS


@MODELS.register_module()
class DepthFPNHead(PixelMapHead):
    """The maps of a pyramid merged at the finest one's stride (as in Semantic FPN), then metres: sigmoid x max_depth.

    Args:
        in_channels: channels of the incoming maps, fine to coarse.
        in_strides: their strides, each double the one before.
        max_depth: the largest depth that can be told, metres.
        channels: of the merged map.
        loss_weight: factor of `loss_silog`.
    """

    truth, result = "gt_depth", "pred_depth"

    def __init__(
        self,
        in_channels: Sequence[int],
        in_strides: Sequence[int],
        max_depth: float,
        channels: int = 128,
        loss_weight: float = 1.0,
        init_cfg: dict | None = None,
    ):
        super().__init__(in_strides[0], init_cfg=init_cfg)
        self.max_depth, self.loss_weight = max_depth, loss_weight
        self.merge = MergedPyramid(in_channels, in_strides, channels)
        self.measure = nn.Conv2d(channels, 1, 1)
        nn.init.normal_(self.measure.weight, std=0.01)
        nn.init.zeros_(self.measure.bias)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """features: maps (B, C_i, h_i, w_i). Returns depth (B, 1, h_0, w_0) in metres."""
        return self.max_depth * self.measure(self.merge(features)).float().sigmoid()

    def map_loss(self, maps: Tensor, truth: Tensor) -> dict[str, Tensor]:
        """maps: depth (B, 1, H, W) metres. truth: (B, H, W) metres, 0 = none."""
        return {"loss_silog": self.loss_weight * silog_loss(maps[:, 0], truth)}
