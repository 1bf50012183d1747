"""SETR's decoders on maps of a plain vision transformer (arXiv 2012.15840, section 3.2), as mmsegmentation builds them.

Shape letters: B images, C channels of the incoming maps, M their number, h, w their size.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from densevit.errors import ConfigError
from densevit.models.heads.dense_head import last_map
from densevit.models.heads.semantic_head import SemanticHead
from densevit.models.layers.conv_tower import ChannelNorm, conv_tower
from densevit.registry import MODELS

DECODERS = {
    "naive": dict(num_convs=1, kernel_size=1, channels=256, up_scale=4),
    "pup": dict(num_convs=4, kernel_size=3, channels=256, up_scale=2),
    "mla": dict(num_convs=2, kernel_size=3, channels=128, up_scale=4),
}
"""The sizes of the published main heads. Auxiliary ones state their own `num_convs` and `up_scale`."""


@MODELS.register_module()
class SETRHead(SemanticHead):
    """Convolutions with batch norm and ReLU, and bilinear enlargements, before the classifier.

    'naive' and 'pup' take one map: LayerNorm of its locations, then each convolution and an enlargement after it.
    'mla' takes several, `MLANeck`'s: convolutions on each, one enlargement, and all of them side by side.

    Args:
        in_channels: channels of the incoming maps.
        in_strides: their strides.
        num_classes: K.
        decoder: 'naive', 'pup' (progressive up-sampling) or 'mla' (multi-level aggregation); it gives what follows.
        num_convs: convolutions, of 'mla' on each map.
        kernel_size: theirs.
        channels: theirs.
        up_scale: factor of each enlargement.
        dropout: share of the channels before the classifier that a training step leaves out.
        rest: the other arguments of SemanticHead: losses, loss_weight, align_corners, init_cfg.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        in_strides: Sequence[int],
        num_classes: int,
        decoder: str = "pup",
        num_convs: int | None = None,
        kernel_size: int | None = None,
        channels: int | None = None,
        up_scale: int | None = None,
        dropout: float = 0.0,
        **rest: Any,
    ):
        if decoder not in DECODERS:
            raise ConfigError(f"SETRHead has no decoder={decoder!r}: choose from {', '.join(DECODERS)}")
        given = dict(num_convs=num_convs, kernel_size=kernel_size, channels=channels, up_scale=up_scale)
        sizes = DECODERS[decoder] | {key: value for key, value in given.items() if value is not None}
        if decoder != "mla":
            last_map(in_channels, in_strides, f"SETRHead(decoder={decoder!r})")
        channels, self.up_scale = sizes["channels"], sizes["up_scale"]
        enlargements = 1 if decoder == "mla" else sizes["num_convs"]  # in 'mla' once behind all convolutions
        stride = in_strides[0] / self.up_scale**enlargements
        super().__init__(stride, num_classes, channels * len(in_channels), dropout, **rest)
        self.norm = ChannelNorm(in_channels[0]) if decoder != "mla" else None
        self.branches = nn.ModuleList(
            conv_tower([width] + [channels] * sizes["num_convs"], "BN", sizes["kernel_size"]) for width in in_channels
        )

    def decode(self, features: Sequence[Tensor]) -> Tensor:
        """features: M maps (B, C, h, w). Returns (B, M * channels, h', w'), before the last enlargement."""
        if self.norm is None:
            # side by side: M * channels
            return torch.cat([conv(x) for conv, x in zip(self.branches, features, strict=True)], dim=1)
        x = self.norm(features[0])
        for i, conv in enumerate(self.branches[0]):
            x = conv(self.up(x) if i else x)
        return x

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """features: M maps (B, C, h, w). Returns logits (B, K, enlarged h, enlarged w).

        The classifier is pointwise and linear, so that it may come before the last enlargement, where
        there are fewer of them; the logits are the same.
        """
        return self.up(super().forward(features))

    def up(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, up_scale * h, up_scale * w)."""
        size = [side * self.up_scale for side in x.shape[2:]]
        return F.interpolate(x, size=size, mode="bilinear", align_corners=self.align_corners)
