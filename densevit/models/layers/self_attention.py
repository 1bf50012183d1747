"""Attention of every token with every other, of a whole image or of a window (ViT, arXiv 2010.11929).

Shape letters: B batch, N tokens, P tokens before the patches, C channels, D = C / heads, h, w size of the map.
"""

from functools import partial

import torch
from torch import Tensor, nn

from densevit.kernels.attention import attention
from densevit.kernels.linear import apply_linear, linear
from densevit.kernels.window_partition import WindowConfig, relative_positions, window_partition
from densevit.models.layers.decomposed_rel_pos import decomposed_attention, fit_rows
from densevit.models.layers.pos_embed import fit_bias_table, resize_bias_table
from densevit.models.layers.resize_on_load import resize_on_load
from densevit.models.layers.rotary import Rotation, rotate
from densevit.ops.caching import by_bytes


class SelfAttention(nn.Module):
    """Multi-head attention with one projection to query, key and value.

    Args:
        qkv_bias, proj_bias: whether the projections have a bias.
        key_bias: whether the key's third of that bias takes part (in DINOv3 it does not).
        window: side in tokens of windows that the map is cut into. 0: the whole map.
        window_padding: what completes the last windows and takes part unmasked. 'tokens': zeros before the projection,
            so that padded keys equal its bias (ViTDet, arXiv 2203.16527); 'keys': zeros after it (ViT-Adapter, arXiv
            2205.08534).
        inner_eps: eps of a norm before the last projection (EVA-02's sub-norm); None: no such norm.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        qkv_bias: bool = True,
        proj_bias: bool = True,
        key_bias: bool = True,
        window: int = 0,
        window_padding: str = "tokens",
        inner_eps: float | None = None,
    ):
        super().__init__()
        self.num_heads, self.window_padding = num_heads, window_padding
        self.window_config = WindowConfig((window, window), (0, 0)) if window else None
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.norm = None if inner_eps is None else nn.LayerNorm(dim, eps=inner_eps)
        self.proj = nn.Linear(dim, dim, bias=proj_bias)
        mask = None
        if qkv_bias and not key_bias:
            mask = torch.tensor((1.0, 0.0, 1.0)).repeat_interleave(dim)  # (3 C,): query, key, value
        self.register_buffer("bias_mask", mask, persistent=False)

    def forward(self, x: Tensor, size: tuple[int, int], rotation: Rotation | None = None) -> Tensor:
        """x: (B, P + h*w, C), without the P where there are windows; size: (h, w); rotation: see `rotate`."""
        if self.window_config is None:
            return apply_linear(self.proj, self.attend(self.project(x), size, rotation))
        windows = window_partition(self.window_config, len(x), size, x.device)
        # what padding with zero tokens would become, projected once: (1, 3 C)
        fill = self.project(x.new_zeros(1, x.shape[-1])) if windows.padded and self.window_padding == "tokens" else None
        packed = windows.partition(self.project(x), fill)  # (B*W, window*window, 3 C)
        # (B*W, N, C) -> (B, h*w, C), the completed locations cut off
        return apply_linear(self.proj, windows.reverse(self.attend(packed, self.window_config.window), len(x)))

    def project(self, x: Tensor) -> Tensor:
        """Query, key and value in a row: (B, N, C) -> (B, N, 3 C)."""
        if self.bias_mask is None:
            return apply_linear(self.qkv, x)
        return linear(x, self.qkv.weight, self.qkv.bias * self.bias_mask)

    def attend(self, packed: Tensor, size: tuple[int, int], rotation: Rotation | None = None) -> Tensor:
        """Attention among all tokens, of what `project` gives (B, P + h*w, 3 C): (B, P + h*w, C)."""
        packed = packed.unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)  # (3, B, heads, N, D)
        query, key, value = packed.unbind(0)
        if rotation is not None:
            query, key = rotate(packed[:2], rotation).unbind(0)  # both in one pass
        out = self.compare(query, key, value, size).transpose(1, 2).flatten(2)  # (B, N, C)
        return out if self.norm is None else self.norm(out)

    def compare(self, query: Tensor, key: Tensor, value: Tensor, size: tuple[int, int]) -> Tensor:
        """(B, heads, N, D) each -> (B, heads, N, D)."""
        return attention(query, key, value, self.logit_bias(query, size))

    def logit_bias(self, query: Tensor, size: tuple[int, int]) -> Tensor | None:
        """What is added to the logits, broadcast to (B, heads, N, N); query: (B, heads, N, D)."""
        return None


class RelativeSelfAttention(SelfAttention):
    """With a learned bias for the relative position of two patches, and one each for from, to and within the class
    token (BEiT, arXiv 2106.08254; names of github.com/microsoft/unilm/tree/master/beit).

    grid: height and width of the map that the table is made for; it is resized bicubically for others.
    """

    def __init__(self, dim: int, num_heads: int, grid: tuple[int, int], **biases: bool):
        super().__init__(dim, num_heads, **biases)
        self.grid = tuple(grid)
        rows = (2 * grid[0] - 1) * (2 * grid[1] - 1) + 3
        self.relative_position_bias_table = nn.Parameter(torch.zeros(rows, num_heads))
        fit = partial(fit_bias_table, window=self.grid, extra=3)
        resize_on_load(self, "relative_position_bias_table", fit)

    def logit_bias(self, query: Tensor, size: tuple[int, int]) -> Tensor:
        table = resize_bias_table(self.relative_position_bias_table, self.grid, size, extra=3)
        index = relative_places(size, table.device)
        return table[index.flatten()].t().unflatten(1, index.shape)[None].to(query.dtype)  # (1, heads, N, N)


class DecomposedSelfAttention(SelfAttention):
    """With learned terms for the distance of two patches in rows and in columns (ViTDet, arXiv 2203.16527; names of
    detectron2). There are no tokens but the patches.

    grid: height and width of the map, or of the window, that the tables are made for; they are resized linearly for
        others.
    """

    def __init__(self, dim: int, num_heads: int, grid: tuple[int, int], **options):
        super().__init__(dim, num_heads, **options)
        for side, length in zip("hw", grid, strict=True):
            self.register_parameter(f"rel_pos_{side}", nn.Parameter(torch.zeros(2 * length - 1, dim // num_heads)))
            resize_on_load(self, f"rel_pos_{side}", partial(fit_rows, rows=2 * length - 1))

    def compare(self, query: Tensor, key: Tensor, value: Tensor, size: tuple[int, int]) -> Tensor:
        return decomposed_attention(query, key, value, self.rel_pos_h, self.rel_pos_w, size, size)


@by_bytes
def relative_places(size: tuple[int, int], device: torch.device) -> Tensor:
    """(1 + h*w, 1 + h*w): which row of the table belongs to two tokens, the class token first; kept for a few sizes."""
    inner = relative_positions(size, device)  # (h*w, h*w)
    rows = (2 * size[0] - 1) * (2 * size[1] - 1)
    # the table's last three rows: from the class token, to it, within it
    from_class, to_class = inner.new_full((1, len(inner)), rows), inner.new_full((len(inner) + 1, 1), rows + 1)
    to_class = torch.cat((to_class.new_full((1, 1), rows + 2), to_class[1:]))
    return torch.cat((to_class, torch.cat((from_class, inner))), 1)
