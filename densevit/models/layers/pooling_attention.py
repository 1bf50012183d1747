"""Attention among pooled queries, keys and values (MViTv2, arXiv 2112.01526, sections 3.1, 4.1 and 4.3).

Shape letters: B batch, P tokens before the patches (a class token or none), C channels, D = C / heads, h, w size of the
map before, qh, qw of the queries', kh, kw of the keys', W windows of an image.
"""

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from densevit.errors import ConfigError
from densevit.kernels.attention import attention
from densevit.kernels.linear import apply_linear, linear
from densevit.kernels.window_partition import WindowConfig, window_partition
from densevit.models.layers.decomposed_rel_pos import decomposed_attention, fit_rows
from densevit.models.layers.resize_on_load import resize_on_load
from densevit.models.layers.tokens import to_map, to_tokens

Size = tuple[int, int]


def pooled_size(size: Size, stride: int) -> Size:
    """Size of a map of `size` after pooling: the last, incomplete locations count."""
    return (-(-size[0] // stride), -(-size[1] // stride))


class PoolingAttention(nn.Module):
    """Multi-head attention whose queries, keys and values are pooled by strided depth-wise convolutions of 3 x 3.

    The heads share the convolutions and the norms after them. Names are those of github.com/facebookresearch/mvit.

    Args:
        dim_out: channels of queries, keys, values and of what is returned.
        q_stride, kv_stride: of the pooling; the map that is returned is that of the queries.
        window: side, in tokens of the map before, of windows that the pooled maps are cut into; they are completed with
            zeros, and such keys take part. 0: the whole map.
        grid: side of the (square) map that the tables of relative positions are made for; they are resized for others.
            None: no such positions.
        residual: whether the pooled queries are added to what attention gives.
        prefix: P. They are not pooled and have no positions.
        prefix_residual: whether the queries of the prefix are added, too.

    Raises:
        ConfigError: a window that is no multiple of the strides, or windows where there is a prefix.
    """

    def __init__(
        self,
        dim: int,
        dim_out: int,
        num_heads: int,
        q_stride: int = 1,
        kv_stride: int = 1,
        window: int = 0,
        grid: int | None = None,
        residual: bool = True,
        qkv_bias: bool = True,
        prefix: int = 0,
        prefix_residual: bool = False,
        eps: float = 1e-6,
    ):
        super().__init__()
        if window % q_stride or window % kv_stride:
            raise ConfigError(
                f"a window of {window} tokens is no multiple of the strides of queries ({q_stride}) and keys "
                f"({kv_stride}): choose one that is, or 0 for none."
            )
        if window and prefix:
            raise ConfigError("a class token and windows do not go together: choose window_size=0 or no class token.")
        self.num_heads, self.q_stride, self.kv_stride = num_heads, q_stride, kv_stride
        self.prefix, self.residual, self.prefix_residual = prefix, residual, prefix_residual
        self.q_window, self.kv_window = window // q_stride, window // kv_stride
        self.q_windowing, self.kv_windowing = (WindowConfig((n, n), (0, 0)) for n in (self.q_window, self.kv_window))
        self.qkv = nn.Linear(dim, 3 * dim_out, bias=qkv_bias)
        self.proj = nn.Linear(dim_out, dim_out)
        width = dim_out // num_heads
        for name, stride in (("q", q_stride), ("k", kv_stride), ("v", kv_stride)):
            self.add_module(f"pool_{name}", nn.Conv2d(width, width, 3, stride, padding=1, groups=width, bias=False))
            self.add_module(f"norm_{name}", nn.LayerNorm(width, eps=eps))
        self.has_positions = grid is not None
        if grid is not None:
            rows = 2 * max(grid // q_stride, grid // kv_stride) - 1  # distances from -(n - 1) to n - 1
            for side in "hw":
                table = nn.Parameter(torch.zeros(rows, width))
                nn.init.trunc_normal_(table, std=0.02)
                self.register_parameter(f"rel_pos_{side}", table)
                resize_on_load(self, f"rel_pos_{side}", partial(fit_rows, rows=rows))

    def forward(self, x: Tensor, size: Size) -> Tensor:
        """x: (B, P + h*w, C), size: (h, w). Returns (B, P + qh*qw, C)."""
        query, key, value = (
            self.pool(part, size, getattr(self, f"pool_{name}"), getattr(self, f"norm_{name}"))
            for part, name in zip(self.project(x), "qkv", strict=True)
        )
        q_size, kv_size = pooled_size(size, self.q_stride), pooled_size(size, self.kv_stride)
        if not self.q_window:
            out = self.attend(query, key, value, q_size, kv_size)
        else:
            q_windows = window_partition(self.q_windowing, len(x), q_size, x.device)
            kv_windows = window_partition(self.kv_windowing, len(x), kv_size, x.device)
            # (B*W, qh*qw or kh*kw, C)
            parts = (q_windows.partition(query), kv_windows.partition(key), kv_windows.partition(value))
            out = self.attend(*parts, self.q_windowing.window, self.kv_windowing.window)
            out = q_windows.reverse(out, len(x))  # (B, qh*qw, C)
        if self.residual:
            if self.prefix and not self.prefix_residual:
                # the class token's own query is not added
                query = torch.cat((torch.zeros_like(query[:, : self.prefix]), query[:, self.prefix :]), 1)
            out = out + query
        return apply_linear(self.proj, out)

    def project(self, x: Tensor) -> Sequence[Tensor]:
        """(B, P + h*w, C) -> three of (B, P + h*w, C_out)."""
        if type(self.qkv) is not nn.Linear:  # such as a quantized layer
            return apply_linear(self.qkv, x).chunk(3, -1)
        # three products and not one: a convolution copies what is a slice of a wider map
        biases = (None,) * 3 if self.qkv.bias is None else self.qkv.bias.chunk(3)
        return [linear(x, weight, bias) for weight, bias in zip(self.qkv.weight.chunk(3), biases, strict=True)]

    def pool(self, x: Tensor, size: Size, conv: nn.Conv2d, norm: nn.LayerNorm) -> Tensor:
        """(B, P + h*w, C) -> (B, P + qh*qw, C), pooled and normed head by head."""
        weight = conv.weight.repeat(self.num_heads, 1, 1, 1)  # (C, 1, 3, 3): the heads share one kernel a channel
        pooled = F.conv2d(to_map(x[:, self.prefix :], size), weight, None, conv.stride, 1, groups=len(weight))
        tokens = to_tokens(pooled)
        if self.prefix:
            tokens = torch.cat((x[:, : self.prefix], tokens), 1)
        # the norm is over the channels of one head: (B, N, heads, D)
        return norm(tokens.unflatten(-1, (self.num_heads, -1))).flatten(-2)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, q_size: Size, kv_size: Size) -> Tensor:
        """Attention of the tokens (B, P + qh*qw, C) of a map or a window with those of another (B, P + kh*kw, C)."""
        # (B, heads, N, D)
        query, key, value = (part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for part in (query, key, value))
        if self.has_positions:
            tables = (self.rel_pos_h, self.rel_pos_w)
            out = decomposed_attention(query, key, value, *tables, q_size, kv_size, self.prefix)
        else:
            out = attention(query, key, value)
        return out.transpose(1, 2).flatten(2)  # (B, N, C)
