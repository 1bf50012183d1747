"""Swin Transformer (arXiv 2103.14030): attention within windows that shift from block to block, in a pyramid.

Parameter names follow github.com/microsoft/Swin-Transformer and its detection repository, without the classifier.
"""

from collections.abc import Mapping, Sequence
from functools import partial

from torch import Tensor, nn

from densevit.archs import SWIN as ARCHS
from densevit.errors import merge_options
from densevit.kernels.linear import apply_linear
from densevit.kernels.window_partition import WindowConfig
from densevit.models.backbones.pyramid_transformer import look_up_arch
from densevit.models.backbones.window_transformer import PatchMerging, Stage, WindowPyramid, window_configs
from densevit.models.layers.block import Block, Mlp
from densevit.models.layers.drop_path import drop_path_rates
from densevit.models.layers.pos_embed import fit_bias_table
from densevit.models.layers.resize_on_load import resize_on_load
from densevit.models.layers.window_attention import WindowAttention
from densevit.registry import MODELS

SHIFT = dict(size=None, small_maps=True, pad_first=True)


class RelativePositionBiasAttention(WindowAttention):
    """Window attention with scaled dot products and a learned table of biases (section 3.2, equation 4)."""

    def __init__(self, dim: int, num_heads: int, window_config: WindowConfig, qkv_bias: bool, scale: float | None):
        super().__init__(dim, num_heads, window_config)
        self.scale = scale
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        rows, columns = (2 * side - 1 for side in window_config.window)
        self.relative_position_bias_table = nn.Parameter(self.qkv.weight.new_zeros(rows * columns, num_heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        fit = partial(fit_bias_table, window=window_config.window)
        resize_on_load(self, "relative_position_bias_table", fit)

    def project(self, x: Tensor) -> Tensor:
        """Query, key and value in a row: (..., C) -> (..., 3 C)."""
        return apply_linear(self.qkv, x)

    def bias_table(self) -> Tensor:
        """(relative positions, heads)."""
        return self.relative_position_bias_table


@MODELS.register_module()
class Swin(WindowPyramid):
    """Swin tiny, small, base or large. Published at 224 pixels with windows of 7, and at 384 with windows of 12.

    The defaults are what the detection repositories do; the options below them are for weights of other projects.

    Args:
        arch: a row of ARCHS, or a dict of its keys.
        window_size: side of a window in tokens; or one for each stage, a number or (height, width).
        drop_path_rate: stochastic depth of the last block; the blocks before have less.
        out_indices: stages (0 to 3) whose maps are returned.
        output_norm: whether each returned map has a norm of its own.
        pretrain_size: side (or height and width) in pixels of the images that a table of absolute positions is made
            for; None: no such table, as in all published models.
        qkv_bias: whether the projections to query, key and value have a bias.
        qk_scale: factor of the logits; None: 1 / sqrt(channels of a head).
        patch_size: side of a patch, the stride of the first map.
        patch_norm: whether the patches' tokens are normed.
        merge_norm: whether 2 x 2 tokens are normed before they are merged.
        shift: what differs from SHIFT, of every other block: its size, given like window_size (None: half a window),
            whether maps no larger than a window are shifted too (small_maps), and whether a map is completed to whole
            windows before the shift or after it (pad_first).
        norm_eps: eps of all norms.
        in_channels: channels of an image; two photographs of one place have 6.
        with_checkpointing: recompute each block in the backward pass instead of keeping its activations; or the numbers
            of the stages where that is done: the first, of the largest maps, hold most of it.
    """

    def __init__(
        self,
        arch: str | Mapping = "tiny",
        window_size: int | Sequence = 7,
        drop_path_rate: float = 0.0,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        output_norm: bool = True,
        pretrain_size: int | Sequence[int] | None = None,
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        patch_size: int = 4,
        patch_norm: bool = True,
        merge_norm: bool = True,
        shift: Mapping | None = None,
        norm_eps: float = 1e-5,
        in_channels: int = 3,
        with_checkpointing: bool | Sequence[int] = False,
        init_cfg: dict | None = None,
    ):
        sizes = look_up_arch("Swin", arch, ARCHS)
        depths, heads, ratio = sizes["depths"], sizes["num_heads"], sizes["mlp_ratio"]
        dims = [sizes["embed_dim"] * 2**i for i in range(len(depths))]
        rates = iter(drop_path_rates(drop_path_rate, sum(depths)))
        shift = merge_options("Swin's shift", shift, SHIFT)
        options = dict(shift_small_maps=shift["small_maps"], pad_first=shift["pad_first"])
        how = window_configs(window_size, shift["size"], len(dims), **options)
        stages = []
        for i, dim in enumerate(dims):
            blocks = []
            for j in range(depths[i]):
                attn = RelativePositionBiasAttention(dim, heads[i], how[i][j % 2], qkv_bias, qk_scale)
                blocks.append(Block(dim, attn, Mlp(dim, int(dim * ratio)), next(rates), norm_eps))
            merging = PatchMerging(dim, "before" if merge_norm else "none", norm_eps) if i + 1 < len(dims) else None
            stages.append(Stage(blocks, merging))
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
            in_channels,
        )
