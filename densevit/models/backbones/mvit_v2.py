"""MViTv2 (arXiv 2112.01526): a transformer of four resolutions whose attention pools what it compares.

Parameter names follow github.com/facebookresearch/mvit, the norms of the maps (`scale2_norm`, ...) detectron2. The
classifier has no part in dense prediction and is not here.

Shape letters: B batch, P class token or none, C channels, H, W input size, h, w size of a stage's map.
"""

from collections.abc import Mapping, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from densevit.archs import MVIT_V2 as ARCHS
from densevit.errors import ConfigError, merge_options
from densevit.kernels.linear import apply_linear
from densevit.models.backbones.pyramid_transformer import checkpointed_stages, chosen_stages, look_up_arch
from densevit.models.layers.block import Mlp
from densevit.models.layers.drop_path import DropPath, drop_path_rates
from densevit.models.layers.init import init_linear
from densevit.models.layers.patch_embed import PatchEmbed
from densevit.models.layers.pooling_attention import PoolingAttention, pooled_size
from densevit.models.layers.pos_embed import TableResizing, fit_table
from densevit.models.layers.resize_on_load import resize_on_load
from densevit.models.layers.tokens import to_map, to_tokens
from densevit.models.protocols import Backbone
from densevit.ops.resize import resize_table
from densevit.registry import MODELS

STRIDE = 4
"""Of the first stage's map."""


class PoolingBlock(nn.Module):
    """Attention and MLP, pre-norm; the skip is pooled where the queries are.

    Where channels grow, the skip around the branch that makes them is a projection of what that branch reads: of
    norm1(x) in attention, of norm2(x) in the MLP.
    """

    def __init__(
        self,
        dim: int,
        dim_out: int,
        attn: PoolingAttention,
        attn_dim: int,
        mlp_ratio: float,
        drop_path: float,
        eps: float,
    ):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=eps)
        self.attn = attn
        self.norm2 = nn.LayerNorm(attn_dim, eps=eps)
        self.mlp = Mlp(attn_dim, int(attn_dim * mlp_ratio), out_dim=dim_out)
        self.grows_in_attention, self.grows_in_mlp = dim != attn_dim, attn_dim != dim_out
        if dim != dim_out:
            self.proj = nn.Linear(dim, dim_out)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """x: (B, P + h*w, C), size: (h, w). Returns (B, P + qh*qw, C of the block)."""
        normed = self.norm1(x)
        skip = self.pool_skip(apply_linear(self.proj, normed) if self.grows_in_attention else x, size)
        x = skip + self.drop_path(self.attn(normed, size))
        normed = self.norm2(x)
        skip = apply_linear(self.proj, normed) if self.grows_in_mlp else x
        return skip + self.drop_path(self.mlp(normed, size))

    def pool_skip(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """The largest of 3 x 3 neighbors where the queries have a stride."""
        stride, prefix = self.attn.q_stride, self.attn.prefix
        if stride == 1:
            return x
        # (B, qh*qw, C)
        pooled = to_tokens(F.max_pool2d(to_map(x[:, prefix:], size), stride + 1, stride, (stride + 1) // 2))
        return torch.cat((x[:, :prefix], pooled), 1) if prefix else pooled


@MODELS.register_module()
class MViTv2(BaseModule, Backbone):
    """MViTv2 tiny, small, base, large or huge. The defaults are those of the published detectors.

    Args:
        arch: a row of ARCHS, or a dict of its keys.
        img_size: side in pixels of the images that the tables of positions are made for; they are resized for others.
        window_size: side, in the first stage's tokens, of the windows that attention is confined to; it halves where
            the resolution does, one block later. Of stages 2 to 4 the last block attends to the whole map anyway
            (hybrid window attention, section 4.3). 0: all blocks attend to the whole map.
        pooling: what differs from POOLING. kv_stride: of keys and values in the first stage; it halves from stage to
            stage. double_kv_stride: whether the last blocks of stages 2 and 3 double it, as in detectron2; the paper's
            repository and timm do not. residual: whether attention adds the pooled queries to what it gives.
            class_residual: whether the class token's too, as in timm; they are not in the paper's repository.
        grow_in: where a new stage's channels come from: 'attention', its first block's, or 'mlp', the last of the stage
            before, whose map then has the channels of the next.
        relative_positions: whether attention knows relative positions.
        absolute_positions: whether the patches' tokens have a table of locations.
        class_token: whether a token beside the patches takes part in attention; it needs window_size=0.
        qkv_bias: whether the projections to query, key and value have a bias.
        drop_path_rate: stochastic depth of the last block; the blocks before have less.
        out_indices: stages (0 to 3) whose maps are returned.
        output_norm: 'each': a norm for each returned map, as in detection; 'last': one, of the last stage, as in
            classification; None: none. What is fed forward is not normed.
        norm_eps: eps of all norms.
        with_checkpointing: recompute each block in the backward pass instead of keeping its activations; or the numbers
            of the stages where that is done: the first, of the largest maps, hold most of it.
    """

    def __init__(
        self,
        arch: str | Mapping = "tiny",
        img_size: int = 224,
        window_size: int = 56,
        pooling: Mapping | None = None,
        grow_in: str = "attention",
        relative_positions: bool = True,
        absolute_positions: bool = False,
        class_token: bool = False,
        qkv_bias: bool = True,
        drop_path_rate: float = 0.0,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        output_norm: str | None = "each",
        norm_eps: float = 1e-6,
        with_checkpointing: bool | Sequence[int] = False,
        init_cfg: dict | None = None,
    ):
        super().__init__(init_cfg)
        sizes = look_up_arch("MViTv2", arch, ARCHS)
        dims, depths, heads = sizes["embed_dims"], sizes["depths"], sizes["num_heads"]
        for value, name, known in ((grow_in, "grow_in", GROWTH), (output_norm, "output_norm", NORMS)):
            if value not in known:
                raise ConfigError(f"MViTv2's {name} is {value!r}: choose from {', '.join(map(repr, known))}")
        pooling = merge_options("MViTv2's pooling", pooling, POOLING)
        self.num_stages = len(dims)
        self.checkpointed = checkpointed_stages(with_checkpointing, self.num_stages)
        self.out_indices = chosen_stages(out_indices, self.num_stages)
        self.ends = [sum(depths[: i + 1]) - 1 for i in range(self.num_stages)]
        rates = drop_path_rates(drop_path_rate, sum(depths))
        self.patch_embed = PatchEmbed(3, dims[0], 7, STRIDE)
        self.grid = (img_size // STRIDE,) * 2
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dims[0])) if class_token else None
        rows = self.grid[0] * self.grid[1] + int(class_token)
        self.pos_embed = nn.Parameter(torch.zeros(1, rows, dims[0])) if absolute_positions else None
        if absolute_positions:
            fit = partial(fit_table, rows=int(class_token), grid=self.grid, how=TableResizing(), spare=True)
            resize_on_load(self, "pos_embed", fit)
        self.blocks = nn.ModuleList()
        given = list(dims)  # channels of each stage's last block
        for stage, depth in enumerate(depths):
            if grow_in == "mlp":
                given[stage] = dims[min(stage + 1, self.num_stages - 1)]
            for j in range(depth):
                first, last = stage > 0 and j == 0, stage > 0 and j == depth - 1
                before = stage - 1 if first else stage  # the stage whose resolution the block reads
                dim = dims[before] if grow_in == "attention" else dims[stage]
                # in 'mlp' mode the last block of a stage already gives the next one's channels
                dim_out = given[stage] if j == depth - 1 else dims[stage]
                doubled = pooling["double_kv_stride"] and last and stage < self.num_stages - 1
                stride = max(pooling["kv_stride"] >> stage, 1) << int(doubled)
                attn = PoolingAttention(
                    dim,
                    dims[stage],
                    heads[stage],
                    q_stride=2 if first else 1,
                    kv_stride=stride,
                    window=0 if last else window_size >> before,
                    grid=self.grid[0] >> before if relative_positions else None,
                    residual=pooling["residual"],
                    qkv_bias=qkv_bias,
                    prefix=int(class_token),
                    prefix_residual=pooling["class_residual"],
                    eps=norm_eps,
                )
                rate = rates[len(self.blocks)]
                block = PoolingBlock(dim, dim_out, attn, dims[stage], sizes["mlp_ratio"], rate, norm_eps)
                self.blocks.append(block)
        self.out_channels = tuple(given[i] for i in self.out_indices)
        self.out_strides = tuple(STRIDE * 2**i for i in self.out_indices)
        self.output_norm = output_norm
        if output_norm == "each":
            for i in self.out_indices:
                self.add_module(f"scale{i + 2}_norm", nn.LayerNorm(given[i], eps=norm_eps))
        elif output_norm == "last":
            self.norm = nn.LayerNorm(given[-1], eps=norm_eps)
        self.apply(init_linear)
        for table in (self.cls_token, self.pos_embed):
            if table is not None:
                nn.init.trunc_normal_(table, std=0.02)

    @property
    def num_layers(self) -> int:
        """How many blocks all stages have."""
        return len(self.blocks)

    def layer_of(self, name: str) -> int:
        """Of a parameter: 0 what makes the tokens, i + 1 block i, num_layers + 1 the norms of the maps."""
        first, *rest = name.split(".")
        if first == "blocks":
            return int(rest[0]) + 1
        return self.num_layers + 1 if "norm" in first else 0

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """images: (B, 3, H, W). Returns (B, C_i, ceil(H / s_i), ceil(W / s_i)) for each of out_indices."""
        features, stage = [], 0
        x, size = self.embed(images)
        for i, block in enumerate(self.blocks):
            if stage in self.checkpointed and self.training:
                x = checkpoint(block, x, size, use_reentrant=False)
            else:
                x = block(x, size)
            size = pooled_size(size, block.attn.q_stride)
            if i == self.ends[stage]:
                if stage in self.out_indices:
                    # the class token left out: (B, C_i, h, w)
                    features.append(to_map(self.normed(x, stage)[:, block.attn.prefix :], size))
                if stage == max(self.out_indices):
                    break
                stage += 1
        return tuple(features)

    def embed(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """images: (B, 3, H, W). Returns the tokens (B, P + h*w, C) that the first block reads, and (h, w)."""
        x, size = self.patch_embed(images.contiguous(memory_format=torch.channels_last))
        prefix = 0
        if self.cls_token is not None:
            x, prefix = torch.cat((self.cls_token.expand(len(x), -1, -1).to(x.dtype), x), 1), 1  # (B, 1 + h*w, C)
        if self.pos_embed is not None:
            patches = resize_table(self.pos_embed[:, prefix:], self.grid, size, "bicubic")  # (1, h*w, C)
            x = x + torch.cat((self.pos_embed[:, :prefix], patches), 1)
        return x, size

    def normed(self, tokens: Tensor, stage: int) -> Tensor:
        """A stage's last tokens as its map has them."""
        if self.output_norm == "each":
            return getattr(self, f"scale{stage + 2}_norm")(tokens)
        if self.output_norm == "last" and stage == self.num_stages - 1:
            return self.norm(tokens)
        return tokens


POOLING = dict(kv_stride=4, double_kv_stride=True, residual=True, class_residual=False)
GROWTH = ("attention", "mlp")
NORMS = ("each", "last", None)
