"""Convolutions and a classifier on one map (FCN, arXiv 1411.4038), as mmsegmentation builds it."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from densevit.models.heads.dense_head import last_map
from densevit.models.heads.semantic_head import SemanticHead
from densevit.models.layers.conv_tower import conv_block, conv_tower
from densevit.registry import MODELS


@MODELS.register_module()
class FCNHead(SemanticHead):
    """The class of each pixel from one map; with no convolutions a linear classifier of each location.

    Args:
        in_channels: channels of the incoming map.
        in_strides: its stride.
        num_classes: K.
        num_convs: convolutions before the classifier, each with norm and ReLU. 0 is the classifier alone: UPerNet's,
            Segmenter's linear decoder, a linear probe.
        channels: of these convolutions.
        kernel_size: theirs.
        concat_input: one more convolution on the incoming map and theirs together.
        norm: of the convolutions, 'BN', 'LN' or None.
        rest: the arguments of SemanticHead: dropout, losses, loss_weight, align_corners, init_cfg.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        in_strides: Sequence[int],
        num_classes: int,
        num_convs: int = 1,
        channels: int = 256,
        kernel_size: int = 3,
        concat_input: bool = False,
        norm: str | None = "BN",
        **rest: Any,
    ):
        width, stride = last_map(in_channels, in_strides, "FCNHead")
        widths = [width] + [channels] * num_convs
        super().__init__(stride, num_classes, channels if concat_input else widths[-1], **rest)
        self.convs = conv_tower(widths, norm, kernel_size)
        self.join = conv_block(width + widths[-1], channels, kernel_size, norm) if concat_input else None

    def decode(self, features: Sequence[Tensor]) -> Tensor:
        """features: one map (B, C, h, w). Returns (B, channels, h, w)."""
        (x,) = features
        decoded = self.convs(x)  # (B, channels, h, w)
        return decoded if self.join is None else self.join(torch.cat([x, decoded], dim=1))
