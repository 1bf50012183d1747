"""Pyramid Vision Transformer (arXiv 2102.12122): a transformer that makes a feature pyramid.

Parameter names follow github.com/whai362/PVT (detection/pvt.py). The class token, the last norm and the classifier of
the classification models have no part in dense prediction and are not here.

Shape letters: B batch, C channels, H, W input size, h, w size of a stage's map.
"""

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from densevit.archs import PVT as ARCHS
from densevit.models.backbones.pyramid_transformer import PyramidTransformer, look_up_arch
from densevit.models.layers.block import Block, Mlp
from densevit.models.layers.drop_path import drop_path_rates
from densevit.models.layers.init import init_transformer
from densevit.models.layers.patch_embed import PatchEmbed
from densevit.models.layers.pos_embed import TableResizing, fit_table
from densevit.models.layers.resize_on_load import resize_on_load
from densevit.models.layers.spatial_reduction_attention import SpatialReductionAttention
from densevit.ops.resize import resize_table
from densevit.registry import MODELS


@MODELS.register_module()
class PVT(PyramidTransformer):
    """PVT tiny, small, medium or large.

    Args:
        arch: a row of ARCHS, or a dict of its keys.
        pretrain_size: side (or height and width) in pixels of the images that the position tables are made for.
        qkv_bias: whether the projections to query, key and value have a bias.
        drop_path_rate: stochastic depth of the last block; the blocks before have less.
        out_indices: stages (0 to 3) whose maps are returned.
        norm_eps: eps of the blocks' norms.
        embed_norm_eps: eps of the norms after a patch embedding and a spatial reduction.
        ceil_mode: complete the last patches, so that a map is ceil(size / stride); False leaves them out, as
            the original and mmdetection do. They differ only where a side is no multiple of 32.
        keep_pos_embed_if_same_length: as the original does, stage 1 uses its table without resizing when the number of
            locations is the same, even where height and width differ.
        with_checkpointing: recompute each block in the backward pass instead of keeping its activations; or the numbers
            of the stages where that is done: the first, of the largest maps, hold most of it.
    """

    def __init__(
        self,
        arch: str | Mapping = "tiny",
        pretrain_size: int | Sequence[int] = 224,
        qkv_bias: bool = True,
        drop_path_rate: float = 0.0,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        norm_eps: float = 1e-6,
        embed_norm_eps: float = 1e-5,
        ceil_mode: bool = True,
        keep_pos_embed_if_same_length: bool = False,
        with_checkpointing: bool | Sequence[int] = False,
        init_cfg: dict | None = None,
    ):
        size = look_up_arch("PVT", arch, ARCHS)
        dims, depths = size["embed_dims"], size["depths"]
        super().__init__(dims, out_indices, with_checkpointing, init_cfg)
        self.keep_pos_embed_if_same_length = keep_pos_embed_if_same_length
        sides = (pretrain_size, pretrain_size) if isinstance(pretrain_size, int) else tuple(pretrain_size)
        self.grids = [(sides[0] // (4 * 2**i), sides[1] // (4 * 2**i)) for i in range(len(dims))]
        rates = iter(drop_path_rates(drop_path_rate, sum(depths)))
        channels = 3
        for i, (dim, depth) in enumerate(zip(dims, depths, strict=True)):
            embed = PatchEmbed(channels, dim, 2 if i else 4, norm_eps=embed_norm_eps, ceil_mode=ceil_mode)
            self.add_module(f"patch_embed{i + 1}", embed)
            table = nn.Parameter(torch.zeros(1, self.grids[i][0] * self.grids[i][1], dim))
            self.register_parameter(f"pos_embed{i + 1}", table)
            fit = partial(fit_table, rows=0, grid=self.grids[i], how=TableResizing("bilinear"))
            resize_on_load(self, f"pos_embed{i + 1}", fit)
            blocks = nn.ModuleList()
            for _ in range(depth):
                attn = SpatialReductionAttention(
                    dim, size["num_heads"][i], size["sr_ratios"][i], qkv_bias, eps=embed_norm_eps
                )
                blocks.append(Block(dim, attn, Mlp(dim, int(dim * size["mlp_ratios"][i])), next(rates), norm_eps))
            self.add_module(f"block{i + 1}", blocks)
            channels = dim
        self.apply(init_transformer)
        for i in range(len(dims)):
            nn.init.trunc_normal_(getattr(self, f"pos_embed{i + 1}"), std=0.02)

    def add_position(self, i: int, tokens: Tensor, size: tuple[int, int]) -> Tensor:
        """tokens: (B, h*w, C) of stage i. Its table is resized bilinearly to (h, w)."""
        table = getattr(self, f"pos_embed{i}")
        if i == 1 and self.keep_pos_embed_if_same_length and tokens.shape[1] == table.shape[1]:
            return tokens + table
        return tokens + resize_table(table, self.grids[i - 1], size)
