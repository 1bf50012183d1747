"""The base of Swin and Swin V2: patches, stages of windowed blocks, merging of 2 x 2 neighbors between them.

Names are those of github.com/microsoft/Swin-Transformer, with one norm for each returned map (`norm0`, ...), as in its
detection repository. Shape letters: B batch, C channels, h, w size of a stage's map.
"""

from collections.abc import Sequence
from functools import partial
from numbers import Integral

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from densevit.errors import ConfigError
from densevit.kernels.linear import apply_linear
from densevit.kernels.window_partition import WindowConfig
from densevit.models.backbones.pyramid_transformer import checkpointed_stages, chosen_stages
from densevit.models.layers.init import init_linear
from densevit.models.layers.patch_embed import PatchEmbed
from densevit.models.layers.pos_embed import TableResizing, fit_table
from densevit.models.layers.resize_on_load import resize_on_load
from densevit.models.layers.tokens import to_map
from densevit.models.protocols import Backbone
from densevit.ops.plain import plain_form
from densevit.ops.resize import resize_table


class PatchMerging(nn.Module):
    """2 x 2 neighbors become one token: their channels one after the other, (0, 0), (1, 0), (0, 1), (1, 1).

    norm: 'before' the reduction to 2 C, 'after' it, or 'none'.
    """

    def __init__(self, dim: int, norm: str, eps: float):
        super().__init__()
        self.norm_after = norm == "after"
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)
        self.norm = nn.Identity() if norm == "none" else nn.LayerNorm((2 if self.norm_after else 4) * dim, eps=eps)

    def forward(self, x: Tensor, size: tuple[int, int]) -> tuple[Tensor, tuple[int, int]]:
        """x: (B, h*w, C). Returns (B, ceil(h/2)*ceil(w/2), 2 C) and its (h, w)."""
        height, width = size
        x = x.unflatten(1, size)  # (B, h, w, C)
        if plain_form() or height % 2 or width % 2:
            x = F.pad(x, (0, 0, 0, width % 2, 0, height % 2))
        size = (x.shape[1] // 2, x.shape[2] // 2)
        x = x.unflatten(2, (-1, 2)).unflatten(1, (-1, 2))  # (B, h, row, w, column, C)
        # (B, h/2 * w/2, 4 C): column before row, the published order of channels
        x = x.permute(0, 1, 3, 4, 2, 5).flatten(3).flatten(1, 2)
        x = x if self.norm_after else self.norm(x)
        x = apply_linear(self.reduction, x)
        return (self.norm(x) if self.norm_after else x), size


class Stage(nn.Module):
    """The blocks of one resolution, and the merging that follows them (None after the last stage)."""

    def __init__(self, blocks: Sequence[nn.Module], downsample: nn.Module | None):
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.downsample = downsample


class WindowPyramid(BaseModule, Backbone):
    """A family's constructor hands over its stages; see Swin for the arguments."""

    def __init__(
        self,
        stages: Sequence[Stage],
        dims: Sequence[int],
        patch_size: int,
        pretrain_size: int | Sequence[int] | None,
        out_indices: Sequence[int],
        patch_norm: bool,
        output_norm: bool,
        norm_eps: float,
        with_checkpointing: bool | Sequence[int],
        init_cfg: dict | None,
        in_channels: int = 3,
    ):
        super().__init__(init_cfg)
        self.num_stages = len(dims)
        self.checkpointed = checkpointed_stages(with_checkpointing, self.num_stages)
        self.out_indices = chosen_stages(out_indices, self.num_stages)
        self.out_channels = tuple(dims[i] for i in self.out_indices)
        self.out_strides = tuple(patch_size * 2**i for i in self.out_indices)
        self.patch_embed = PatchEmbed(in_channels, dims[0], patch_size, norm_eps=norm_eps if patch_norm else None)
        self.layers = nn.ModuleList(stages)
        self.output_norm = output_norm
        if output_norm:
            for i in self.out_indices:
                self.add_module(f"norm{i}", nn.LayerNorm(dims[i], eps=norm_eps))
        self.grid = None
        if pretrain_size is not None:
            sides = (pretrain_size, pretrain_size) if isinstance(pretrain_size, Integral) else tuple(pretrain_size)
            self.grid = (sides[0] // patch_size, sides[1] // patch_size)
            self.absolute_pos_embed = nn.Parameter(torch.zeros(1, self.grid[0] * self.grid[1], dims[0]))
            nn.init.trunc_normal_(self.absolute_pos_embed, std=0.02)
            fit = partial(fit_table, rows=0, grid=self.grid, how=TableResizing())
            resize_on_load(self, "absolute_pos_embed", fit)
        self.apply(init_linear)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """images: (B, 3, H, W). Returns (B, C_i, ceil(H / s_i), ceil(W / s_i)) for each of out_indices."""
        features = []
        x, size = self.patch_embed(images)
        if self.grid is not None:
            x = x + resize_table(self.absolute_pos_embed, self.grid, size, "bicubic")
        for i, stage in enumerate(self.layers):
            for block in stage.blocks:
                if i in self.checkpointed and self.training:
                    x = checkpoint(block, x, size, use_reentrant=False)
                else:
                    x = block(x, size)
            if i in self.out_indices:
                features.append(to_map(getattr(self, f"norm{i}")(x) if self.output_norm else x, size))
            if i == max(self.out_indices):
                break
            x, size = stage.downsample(x, size)
        return tuple(features)

    @property
    def num_layers(self) -> int:
        """How many blocks all stages have."""
        return sum(len(stage.blocks) for stage in self.layers)

    def layer_of(self, name: str) -> int:
        """Of a parameter: 0 what makes the tokens; blocks count from 1 through all stages, and a merging belongs to the
        block before it (SimMIM's repository, arXiv 2111.09886); num_layers + 1 the norms of the maps."""
        first, *rest = name.split(".")
        if first != "layers":
            return 0 if first in ("patch_embed", "absolute_pos_embed") else self.num_layers + 1
        stage = int(rest[0])
        before = sum(len(s.blocks) for s in self.layers[:stage])  # blocks of the stages before
        return before + (int(rest[2]) + 1 if rest[1] == "blocks" else len(self.layers[stage].blocks))


def pairs(values: int | Sequence, stages: int, what: str) -> list[tuple[int, int]]:
    """(height, width) a stage of a number, or of one number or pair for each stage. Raises ConfigError."""
    each = list(values) if isinstance(values, (list, tuple)) else [values] * stages
    sides = [tuple(value) if isinstance(value, (list, tuple)) else (value, value) for value in each]
    if len(sides) != stages or any(
        len(s) != 2 or not all(isinstance(n, Integral) and n >= 0 for n in s) for s in sides
    ):
        raise ConfigError(
            f"{what} is {values!r}: give a number, or for each of {stages} stages a number or (height, width)"
        )
    return sides


def window_configs(
    window_size: int | Sequence, shift_size: int | Sequence | None, stages: int, **how: bool
) -> list[tuple[WindowConfig, WindowConfig]]:
    """A stage's ways of cutting: that of its even blocks, which do not shift, and that of its odd ones."""
    windows = pairs(window_size, stages, "window_size")
    shifts = [(h // 2, w // 2) for h, w in windows]  # as published: half a window
    if shift_size is not None:
        shifts = pairs(shift_size, stages, "shift_size")
    for window, shift in zip(windows, shifts, strict=True):
        if min(window) < 1 or shift[0] >= window[0] or shift[1] >= window[1]:
            raise ConfigError(f"a window of {window} cannot be shifted by {shift}: the shift is to be smaller")
    both = zip(windows, shifts, strict=True)
    return [(WindowConfig(window, (0, 0), **how), WindowConfig(window, shift, **how)) for window, shift in both]
