"""PVT v2 (arXiv 2106.13797): overlapping patches, a convolution in the MLP instead of position tables.

Parameter names follow github.com/whai362/PVT (detection/pvt_v2.py), without the classifier.
Shape letters: B batch, C channels, H, W input size, h, w size of a stage's map.
"""

from collections.abc import Mapping, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from densevit.archs import PVT_V2 as ARCHS
from densevit.kernels.linear import apply_linear
from densevit.models.backbones.pyramid_transformer import PyramidTransformer, look_up_arch
from densevit.models.layers.block import Block
from densevit.models.layers.drop_path import drop_path_rates
from densevit.models.layers.init import init_transformer
from densevit.models.layers.patch_embed import PatchEmbed
from densevit.models.layers.spatial_reduction_attention import SpatialReductionAttention
from densevit.models.layers.tokens import to_map, to_tokens
from densevit.registry import MODELS


class DepthwiseConv(nn.Module):
    """3 x 3 depth-wise convolution on tokens, which encodes their positions."""

    def __init__(self, dim: int):
        super().__init__()
        self.dwconv = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """x: (B, h*w, C), size: (h, w)."""
        return to_tokens(self.dwconv(to_map(x, size)))


class ConvMlp(nn.Module):
    """Linear, (ReLU in the linear variant,) depth-wise convolution, GELU, linear."""

    def __init__(self, dim: int, hidden_dim: int, linear: bool):
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.early_relu = linear
        self.dwconv = DepthwiseConv(hidden_dim)
        self.fc2 = nn.Linear(hidden_dim, dim)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """x: (B, h*w, C), size: (h, w)."""
        x = apply_linear(self.fc1, x)
        if self.early_relu:
            x = F.relu(x)
        return apply_linear(self.fc2, F.gelu(self.dwconv(x, size)))


@MODELS.register_module()
class PVTv2(PyramidTransformer):
    """PVT v2 b0 to b5 and b2_li.

    Args:
        arch: a row of ARCHS, or a dict of its keys.
        qkv_bias: whether the projections to query, key and value have a bias.
        drop_path_rate: stochastic depth of the last block; the blocks before have less.
        out_indices: stages (0 to 3) whose maps are returned.
        norm_eps: eps of the blocks' norms and of the norm after a stage.
        embed_norm_eps: eps of the norms after a patch embedding and a spatial reduction.
        with_checkpointing: recompute each block in the backward pass instead of keeping its activations; or the numbers
            of the stages where that is done: the first, of the largest maps, hold most of it.
    """

    def __init__(
        self,
        arch: str | Mapping = "b0",
        qkv_bias: bool = True,
        drop_path_rate: float = 0.0,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        norm_eps: float = 1e-6,
        embed_norm_eps: float = 1e-5,
        with_checkpointing: bool | Sequence[int] = False,
        init_cfg: dict | None = None,
    ):
        size = look_up_arch("PVTv2", arch, ARCHS)
        dims, depths, linear = size["embed_dims"], size["depths"], size["linear"]
        super().__init__(dims, out_indices, with_checkpointing, init_cfg)
        rates = iter(drop_path_rates(drop_path_rate, sum(depths)))
        channels = 3
        for i, (dim, depth) in enumerate(zip(dims, depths, strict=True)):
            kernel, stride = (3, 2) if i else (7, 4)
            self.add_module(f"patch_embed{i + 1}", PatchEmbed(channels, dim, kernel, stride, norm_eps=embed_norm_eps))
            blocks = nn.ModuleList()
            for _ in range(depth):
                attn = SpatialReductionAttention(
                    dim, size["num_heads"][i], size["sr_ratios"][i], qkv_bias, linear, embed_norm_eps
                )
                mlp = ConvMlp(dim, int(dim * size["mlp_ratios"][i]), linear)
                blocks.append(Block(dim, attn, mlp, next(rates), norm_eps))
            self.add_module(f"block{i + 1}", blocks)
            self.add_module(f"norm{i + 1}", nn.LayerNorm(dim, eps=norm_eps))
            channels = dim
        self.apply(init_transformer)
