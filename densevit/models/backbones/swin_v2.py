"""Swin Transformer V2 (arXiv 2111.09883): cosine attention, norms after the branches, a continuous position bias.

Parameter names follow github.com/microsoft/Swin-Transformer (models/swin_transformer_v2.py), without the classifier.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from densevit.archs import SWIN as ARCHS
from densevit.errors import merge_options
from densevit.kernels.linear import linear
from densevit.kernels.window_partition import WindowConfig
from densevit.models.backbones.pyramid_transformer import look_up_arch
from densevit.models.backbones.window_transformer import PatchMerging, Stage, WindowPyramid, pairs, window_configs
from densevit.models.layers.block import Mlp
from densevit.models.layers.drop_path import DropPath, drop_path_rates
from densevit.models.layers.window_attention import WindowAttention
from densevit.registry import MODELS

SHIFT = dict(size=None, pad_first=True)
LARGEST_SCALE = math.log(100)
"""Where the learned logarithm of the cosines' factor is cut."""


def log_spaced_offsets(window: tuple[int, int], pretrained: tuple[int, int]) -> Tensor:
    """((2h-1)*(2w-1), 2): the offsets down and to the right between locations of a window (section 3.3, equation 4).

    They are measured in half windows of the pretraining (0: of this window), so that a bias learned there carries over.
    """
    axes = []
    for side, before in zip(window, pretrained, strict=True):
        # (2 * side - 1,) in -8 to 8
        steps = torch.arange(1 - side, side, dtype=torch.float32) / max((before or side) - 1, 1) * 8
        axes.append(steps.sign() * (steps.abs() + 1).log2() / 3)
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).flatten(0, 1)  # ((2h-1)*(2w-1), 2), row by row


class CosineAttention(WindowAttention):
    """Window attention by scaled cosines, with a bias that a small network makes of the offset (section 3.2, 3.3)."""

    scale = 1.0

    def __init__(
        self, dim: int, num_heads: int, window_config: WindowConfig, pretrained: tuple[int, int], qkv_bias: bool
    ):
        super().__init__(dim, num_heads, window_config)
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(dim)) if qkv_bias else None
        self.v_bias = nn.Parameter(torch.zeros(dim)) if qkv_bias else None
        self.logit_scale = nn.Parameter(torch.full((num_heads, 1, 1), math.log(10)))
        self.cpb_mlp = nn.Sequential(nn.Linear(2, 512), nn.ReLU(inplace=True), nn.Linear(512, num_heads, bias=False))
        offsets = log_spaced_offsets(window_config.window, pretrained)
        self.register_buffer("relative_coords_table", offsets, persistent=False)

    def project(self, x: Tensor) -> Tensor:
        """Query, key and value in a row: (..., C) -> (..., 3 C)."""
        bias = None  # keys have none
        if self.q_bias is not None:
            bias = torch.cat((self.q_bias, torch.zeros_like(self.q_bias), self.v_bias))
        if type(self.qkv) is nn.Linear:
            return linear(x, self.qkv.weight, bias)
        return self.qkv(x) if bias is None else self.qkv(x) + bias  # such as a quantized layer

    def split(self, packed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(n, N, 3 C) -> queries, keys and values, each (n, heads, N, D); queries carry the factor of the cosines."""
        packed = packed.unflatten(-1, (3, self.num_heads, -1))  # (n, N, 3, heads, D)
        both, value = packed[:, :, :2], packed[:, :, 2].transpose(1, 2)  # (n, N, 2, heads, D)
        factor = self.logit_scale.clamp(max=LARGEST_SCALE).exp().squeeze(2)  # (heads, 1)
        # queries and keys to length 1, so that their product is a cosine
        lengths = torch.linalg.vector_norm(both, dim=-1, keepdim=True).clamp(min=1e-12)
        both = both * (torch.stack((factor, torch.ones_like(factor))) / lengths).to(both.dtype)
        query, key = both.permute(2, 0, 3, 1, 4).unbind(0)  # (n, heads, N, D)
        return query, key, value

    def bias_table(self) -> Tensor:
        """(relative positions, heads), each in (0, 16)."""
        return 16 * self.cpb_mlp(self.relative_coords_table).sigmoid()


class PostNormBlock(nn.Module):
    """x + norm1(attn(x)), then x + norm2(mlp(x)), on the tokens of a map (section 3.2)."""

    def __init__(self, dim: int, attn: nn.Module, mlp: nn.Module, drop_path: float, eps: float):
        super().__init__()
        self.attn, self.norm1 = attn, nn.LayerNorm(dim, eps=eps)
        self.mlp, self.norm2 = mlp, nn.LayerNorm(dim, eps=eps)
        self.drop_path = DropPath(drop_path)
        for norm in (self.norm1, self.norm2):  # a new block passes its input on, which keeps deep models stable
            nn.init.zeros_(norm.weight)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """x: (B, h*w, C), size: (h, w)."""
        x = x + self.drop_path(self.norm1(self.attn(x, size)))
        return x + self.drop_path(self.norm2(self.mlp(x, size)))


@MODELS.register_module()
class SwinV2(WindowPyramid):
    """Swin V2 tiny, small, base or large. Published with windows of 8 and 16, and of 16 and 24 after pretraining at 12.

    Args:
        arch: a row of ARCHS, or a dict of its keys.
        window_size: side of a window in tokens; or one for each stage, a number or (height, width).
        pretrained_window_sizes: windows of the pretraining, a stage each, whose bias carries over; 0: this model's own.
        drop_path_rate: stochastic depth of the last block; the blocks before have less.
        out_indices: stages (0 to 3) whose maps are returned.
        output_norm: whether each returned map has a norm of its own.
        pretrain_size: side (or height and width) in pixels of the images that a table of absolute positions is made
            for; None: no such table, as in all published models.
        qkv_bias: whether the projections to query and value have a bias; that to keys never has.
        patch_size: side of a patch, the stride of the first map.
        patch_norm: whether the patches' tokens are normed.
        shift: what differs from SHIFT, of every other block: its size, given like window_size (None: half a window),
            and whether a map is completed to whole windows before the shift or after it (pad_first).
        norm_eps: eps of all norms.
        with_checkpointing: recompute each block in the backward pass instead of keeping its activations; or the numbers
            of the stages where that is done: the first, of the largest maps, hold most of it.
    """

    def __init__(
        self,
        arch: str | Mapping = "tiny",
        window_size: int | Sequence = 8,
        pretrained_window_sizes: int | Sequence = 0,
        drop_path_rate: float = 0.0,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        output_norm: bool = True,
        pretrain_size: int | Sequence[int] | None = None,
        qkv_bias: bool = True,
        patch_size: int = 4,
        patch_norm: bool = True,
        shift: Mapping | None = None,
        norm_eps: float = 1e-5,
        with_checkpointing: bool | Sequence[int] = False,
        init_cfg: dict | None = None,
    ):
        sizes = look_up_arch("SwinV2", arch, ARCHS)
        depths, heads, ratio = sizes["depths"], sizes["num_heads"], sizes["mlp_ratio"]
        dims = [sizes["embed_dim"] * 2**i for i in range(len(depths))]
        rates = iter(drop_path_rates(drop_path_rate, sum(depths)))
        shift = merge_options("SwinV2's shift", shift, SHIFT)
        how = window_configs(window_size, shift["size"], len(dims), pad_first=shift["pad_first"])
        before = pairs(pretrained_window_sizes, len(dims), "pretrained_window_sizes")
        stages = []
        for i, dim in enumerate(dims):
            blocks = []
            for j in range(depths[i]):
                attn = CosineAttention(dim, heads[i], how[i][j % 2], before[i], qkv_bias)
                blocks.append(PostNormBlock(dim, attn, Mlp(dim, int(dim * ratio)), next(rates), norm_eps))
            stages.append(Stage(blocks, PatchMerging(dim, "after", norm_eps) if i + 1 < len(dims) else None))
        super().__init__(
            stages,
            dims,
            patch_size,
            pretrain_size,
            out_indices,
            patch_norm,
            output_norm,
            norm_eps,
            with_checkpointing,
            init_cfg,
        )
