"""Segmenter's mask transformer (arXiv 2105.05633, section 3.2); parameters are named as in its own repository.

Shape letters: B images, N = h*w locations of the map, K classes, D width of the decoder.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from densevit.errors import ConfigError
from densevit.kernels.linear import apply_linear
from densevit.models.heads.dense_head import last_map
from densevit.models.heads.semantic_head import SemanticHead
from densevit.models.layers.block import Block, Mlp
from densevit.models.layers.drop_path import drop_path_rates
from densevit.models.layers.init import init_linear
from densevit.models.layers.self_attention import SelfAttention
from densevit.models.layers.tokens import to_map, to_tokens
from densevit.registry import MODELS


@MODELS.register_module()
class SegmenterHead(SemanticHead):
    """Blocks over the locations of a map and one learned token a class; a logit is the cosine of the two, then a
    LayerNorm over the classes.

    The linear decoder of the paper is `FCNHead(num_convs=0, dropout=0.0)`.

    Args:
        in_channels: channels of the incoming map, a plain vision transformer's last.
        in_strides: its stride.
        num_classes: K.
        num_layers: blocks.
        embed_dim: D; None: as many as come in.
        num_heads: of the blocks' attention; None: one for 64 channels.
        mlp_ratio: hidden channels of a block's MLP are so many times D.
        drop_path: rate of the last block, rising evenly from 0 at the first.
        norm_eps: of all its LayerNorms.
        rest: the other arguments of SemanticHead: losses, loss_weight, align_corners, init_cfg.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        in_strides: Sequence[int],
        num_classes: int,
        num_layers: int = 2,
        embed_dim: int | None = None,
        num_heads: int | None = None,
        mlp_ratio: float = 4,
        drop_path: float = 0.1,
        norm_eps: float = 1e-5,
        **rest: Any,
    ):
        width, stride = last_map(in_channels, in_strides, "SegmenterHead")
        super().__init__(stride, num_classes, None, **rest)
        dim = embed_dim or width
        num_heads = num_heads or max(dim // 64, 1)
        if dim % num_heads:
            raise ConfigError(f"SegmenterHead: embed_dim {dim} is no multiple of num_heads {num_heads}")
        self.proj_dec = nn.Linear(width, dim)
        self.cls_emb = nn.Parameter(torch.empty(1, num_classes, dim))
        self.blocks = nn.ModuleList(
            Block(dim, SelfAttention(dim, num_heads), Mlp(dim, int(dim * mlp_ratio)), rate, norm_eps)
            for rate in drop_path_rates(drop_path, num_layers)
        )
        self.decoder_norm = nn.LayerNorm(dim, eps=norm_eps)
        self.proj_patch = nn.Parameter(dim**-0.5 * torch.randn(dim, dim))
        self.proj_classes = nn.Parameter(dim**-0.5 * torch.randn(dim, dim))
        self.mask_norm = nn.LayerNorm(num_classes, eps=norm_eps)
        nn.init.trunc_normal_(self.cls_emb, std=0.02)
        self.apply(init_linear)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """features: one map (B, C, h, w). Returns logits (B, K, h, w)."""
        (image,) = features
        size = image.shape[2:]
        x = apply_linear(self.proj_dec, to_tokens(image))  # (B, N, D)
        x = torch.cat([x, self.cls_emb.to(x.dtype).expand(len(x), -1, -1)], dim=1)  # (B, N + K, D)
        for block in self.blocks:
            x = block(x, size)
        # (B, N, D), (B, K, D)
        locations, classes = self.decoder_norm(x).split([x.shape[1] - self.num_classes, self.num_classes], dim=1)
        locations = F.normalize(locations @ self.proj_patch, dim=-1)
        classes = F.normalize(classes @ self.proj_classes, dim=-1)
        return to_map(self.mask_norm(locations @ classes.transpose(1, 2)), size)  # (B, N, K) cosines -> (B, K, h, w)
