"""The attention of PVT and PVT v2, whose keys and values come from a smaller map.

Shape letters: B batch, N queries, M keys, C channels, D = C / heads, h, w size of the map.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from densevit.kernels.attention import attention
from densevit.kernels.linear import apply_linear
from densevit.models.layers.tokens import to_map, to_tokens


class SpatialReductionAttention(nn.Module):
    """Attention whose keys and values come from a reduced map (PVT, arXiv 2102.12122, section 3.3).

    sr_ratio: the map is reduced sr_ratio times by a strided convolution; 1: not at all.
    linear: reduce to 7 x 7 by average pooling instead, for any size (PVT v2, arXiv 2106.13797, section 3.1).
    """

    def __init__(
        self, dim: int, num_heads: int, sr_ratio: int, qkv_bias: bool = True, linear: bool = False, eps: float = 1e-5
    ):
        super().__init__()
        self.num_heads, self.sr_ratio, self.linear = num_heads, sr_ratio, linear
        self.q = nn.Linear(dim, dim, bias=qkv_bias)
        self.kv = nn.Linear(dim, 2 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)
        if linear:
            self.sr = nn.Conv2d(dim, dim, 1)
        elif sr_ratio > 1:
            self.sr = nn.Conv2d(dim, dim, sr_ratio, stride=sr_ratio)
        if linear or sr_ratio > 1:
            self.norm = nn.LayerNorm(dim, eps=eps)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """x: (B, h*w, C), size: (h, w)."""
        query = apply_linear(self.q, x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # (B, heads, N, D)
        kv = apply_linear(self.kv, self.reduce(x, size)).unflatten(-1, (2, self.num_heads, -1))  # (B, M, 2, heads, D)
        key, value = kv.permute(2, 0, 3, 1, 4).unbind(0)  # (B, heads, M, D)
        # heads side by side again: (B, heads, N, D) -> (B, N, C)
        return apply_linear(self.proj, attention(query, key, value).transpose(1, 2).flatten(2))

    def reduce(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """The tokens that keys and values are made of: (B, h*w, C) -> (B, M, C)."""
        if self.linear:
            return F.gelu(self.norm(to_tokens(self.sr(F.adaptive_avg_pool2d(to_map(x, size), 7)))))  # (B, 49, C)
        if self.sr_ratio == 1:
            return x
        image = to_map(x, size)  # (B, C, h, w)
        missing = [max(self.sr_ratio - side, 0) for side in size]
        if any(missing):  # a map smaller than the kernel
            image = F.pad(image, (0, missing[1], 0, missing[0]))
        return self.norm(to_tokens(self.sr(image)))
