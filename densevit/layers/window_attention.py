"""Attention within (shifted) windows, as far as Swin and Swin V2 have it in common.

Shape letters: B batch, C channels, h, w size of the map, N places of a window, W windows of one image, D = C / heads.
"""

import torch
from torch import Tensor, nn

from densevit.layers.attention import attention
from densevit.layers.linear import Linear, parts_of
from densevit.ops.windows import Windowing, cut_of, cut_windows, join_windows, relative_positions


class WindowAttention(nn.Module):
    """Multi-head attention among the tokens of a window, with a bias for their relative position.

    A map is completed to whole windows with zeros before the projections, so that padded keys equal the bias; they
    take part. What the bias is, and how queries and keys are compared, a family says in `project` and `bias_table`.
    """

    scale: float | None = None
    """Of the logits; None: 1 / sqrt(D)."""

    def __init__(self, dim: int, num_heads: int, windowing: Windowing):
        super().__init__()
        self.num_heads, self.windowing = num_heads, windowing
        self.proj = Linear(dim, dim)
        places = relative_positions(windowing.window)
        self.num_places = len(places)
        self.register_buffer("relative_position_index", places.flatten(), persistent=False)

    def project(self, windows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(n, N, C) -> queries, keys and values, each (n, heads, N, D)."""
        raise NotImplementedError

    def bias_table(self) -> Tensor:
        """((2 * height - 1) * (2 * width - 1), heads): the bias of each relative position."""
        raise NotImplementedError

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """x: (B, h*w, C), size: (h, w)."""
        cut = cut_of(self.windowing, len(x), size, x.device)
        windows = cut_windows(x, cut, self.num_places)
        bias = self.bias_table().index_select(0, self.relative_position_index)
        bias = bias.t().unflatten(1, (self.num_places, -1))[None]  # (1, heads, N, N)
        many = parts_of(windows, len(windows), self.num_places * 3 * x.shape[-1])
        done = []
        for first in range(0, len(windows), many):
            part = windows[first : first + many]
            inner = min(max(cut.inner - first, 0), len(part))  # those that the shift did not tear apart come first
            torn = None
            if inner < len(part):
                torn = cut.mask[first + inner - cut.inner : first + len(part) - cut.inner]
            done.append(self.attend(part, bias, inner, torn))
        return join_windows(done[0] if len(done) == 1 else torch.cat(done), cut, len(x))

    def attend(self, windows: Tensor, bias: Tensor, inner: int, torn: Tensor | None) -> Tensor:
        """Attention within each of windows (n, N, C): the same form.

        bias: (1, heads, N, N). inner: how many windows come first that share the bias alone. torn: the masks of the
        others, (n - inner, 1, N, N), None where there are none.
        """
        query, key, value = self.project(windows)
        bias = bias.to(query.dtype)
        groups = []
        if inner:
            some = slice(None, inner)
            groups.append(attention(query[some], key[some], value[some], bias, self.scale))
        if torn is not None:
            some = slice(inner, None)
            groups.append(attention(query[some], key[some], value[some], bias + torn.to(bias.dtype), self.scale))
        groups = [group.transpose(1, 2).flatten(2) for group in groups]  # (n, N, C)
        return self.proj(groups[0] if len(groups) == 1 else torch.cat(groups))
