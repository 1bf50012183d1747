"""Attention within (shifted) windows, as far as Swin and Swin V2 have it in common.

Shape letters: B batch, C channels, h, w size of the map, N locations of a window, W windows of one image, D = C /
heads.
"""

import torch
from torch import Tensor, nn

from densevit.kernels.attention import attention
from densevit.kernels.linear import apply_linear, parts_of
from densevit.kernels.window_partition import WindowConfig, relative_positions, window_partition
from densevit.ops.plain import plain_form


class WindowAttention(nn.Module):
    """Multi-head attention among the tokens of a window, with a bias for their relative position.

    A map is completed to whole windows with zeros before the projections, so that padded keys equal the bias; they
    take part. A family defines the bias and how queries and keys are compared in `project`, `split` and
    `bias_table`.
    """

    scale: float | None = None
    """Of the logits; None: 1 / sqrt(D)."""

    def __init__(self, dim: int, num_heads: int, window_config: WindowConfig):
        super().__init__()
        self.num_heads, self.window_config = num_heads, window_config
        self.proj = nn.Linear(dim, dim)
        locations = relative_positions(window_config.window)
        self.num_places = len(locations)
        self.register_buffer("relative_position_index", locations.flatten(), persistent=False)

    def project(self, x: Tensor) -> Tensor:
        """Query, key and value in a row: (..., C) -> (..., 3 C)."""
        raise NotImplementedError

    def split(self, packed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What `project` gives, (n, N, 3 C) -> queries, keys and values, each (n, heads, N, D)."""
        return packed.unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)  # (3, n, heads, N, D)

    def bias_table(self) -> Tensor:
        """((2 * height - 1) * (2 * width - 1), heads): the bias of each relative position."""
        raise NotImplementedError

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """x: (B, h*w, C), size: (h, w)."""
        layout = window_partition(self.window_config, len(x), size, x.device)
        count = layout.shape[0]
        bias = self.bias_table().index_select(0, self.relative_position_index)  # (N*N, heads)
        bias = bias.t().contiguous().unflatten(1, (self.num_places, -1))[None]  # (1, heads, N, N)
        many = parts_of(x, count, self.num_places * 3 * x.shape[-1])
        # Zeros need not be multiplied: what one becomes, all become.
        tokens_alone = not plain_form() and many >= count and layout.padded
        if tokens_alone:
            windows = layout.partition(self.project(x), self.project(x.new_zeros(1, x.shape[-1])))
        else:
            windows = layout.partition(x)
        done = []
        for start in range(0, count, many):
            part = windows[start : start + many]  # (n, N, 3 C), or (n, N, C) before the projection
            inner = min(max(layout.inner - start, 0), len(part))  # windows without a mask come first
            masks = None
            if inner < len(part):
                masks = layout.mask[start + inner - layout.inner : start + len(part) - layout.inner]
            part = self.attend(part if tokens_alone else self.project(part), bias, inner, masks)
            done.append(part if tokens_alone else apply_linear(self.proj, part))
        x = layout.reverse(done[0] if len(done) == 1 else torch.cat(done), len(x))  # (B, h*w, C)
        return apply_linear(self.proj, x) if tokens_alone else x

    def attend(self, packed: Tensor, bias: Tensor, inner: int, masks: Tensor | None) -> Tensor:
        """Attention within each window, of what `project` gives: (n, N, 3 C) -> (n, N, C).

        bias: (1, heads, N, N). inner: how many windows come first that share the bias alone. masks: those of the
        others, (n - inner, 1, N, N), None where there are none.
        """
        query, key, value = self.split(packed)
        bias = bias.to(query.dtype)
        groups = []
        if inner:
            some = slice(None, inner)
            groups.append(attention(query[some], key[some], value[some], bias, self.scale))
        if masks is not None:
            some = slice(inner, None)
            groups.append(attention(query[some], key[some], value[some], bias + masks.to(bias.dtype), self.scale))
        # (n, heads, N, D) -> (n, N, C)
        groups = [group.transpose(1, 2).flatten(2) for group in groups]  # (n, N, C)
        return groups[0] if len(groups) == 1 else torch.cat(groups)
