"""The class of each pixel from the map of `DPTFusion` (DPT, arXiv 2103.13413, section 3)."""

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from densevit.models.heads.dense_head import last_map
from densevit.models.heads.semantic_head import SemanticHead
from densevit.models.layers.conv_tower import conv_block
from densevit.registry import MODELS


@MODELS.register_module()
class DPTHead(SemanticHead):
    """A 3x3 convolution with batch norm and ReLU, dropout, and one logit a class.

    Args:
        in_channels: channels of the one map that comes in.
        in_strides: its stride.
        num_classes: K.
        norm: of the convolution, 'BN' or None.
        doubled: the logits are first enlarged twice with aligned corners (isl-org, transformers), then to the image.
        rest: the other arguments of SemanticHead: dropout, losses, loss_weight, align_corners, init_cfg.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        in_strides: Sequence[float],
        num_classes: int,
        norm: str | None = "BN",
        doubled: bool = False,
        **rest: Any,
    ):
        width, stride = last_map(in_channels, in_strides, "DPTHead")
        super().__init__(stride / 2 if doubled else stride, num_classes, width, **rest)
        self.doubled = doubled
        self.project = conv_block(width, width, 3, norm)

    def decode(self, features: Sequence[Tensor]) -> Tensor:
        """features: one map (B, C, h, w). Returns the same size."""
        return self.project(features[0])

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """features: one map (B, C, h, w). Returns logits (B, K, h, w), or twice the size."""
        logits = super().forward(features)  # (B, K, h, w)
        return F.interpolate(logits, scale_factor=2, mode="bilinear", align_corners=True) if self.doubled else logits
