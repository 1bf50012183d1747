"""The pre-norm transformer block, its MLPs and the scale of its branches.

Shape letters: B batch, N = h*w tokens of a map of (h, w), C channels.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from densevit.kernels.linear import apply_linear, parts_of
from densevit.models.layers.drop_path import DropPath
from densevit.models.layers.tokens import to_map, to_tokens


class Mlp(nn.Module):
    """Linear, GELU, Linear on tokens (B, N, C). out_dim: channels that it gives; None: C."""

    def __init__(self, dim: int, hidden_dim: int, bias: bool = True, out_dim: int | None = None):
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim, bias=bias)
        self.fc2 = nn.Linear(hidden_dim, out_dim or dim, bias=bias)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """x: (B, h*w, C); size (h, w) is for MLPs with convolutions."""
        tokens = x.flatten(0, -2)  # (B*N, C)
        many = parts_of(x, len(tokens), self.fc1.out_features)
        if many >= len(tokens):
            return self._of(x)
        # so many tokens at a time that the hidden layer stays in the caches
        return torch.cat([self._of(part) for part in tokens.split(many)]).view(*x.shape[:-1], -1)

    def _of(self, x: Tensor) -> Tensor:
        return apply_linear(self.fc2, apply_linear(self.fc1, x, gelu=True))


class SwiGLU(nn.Module):
    """A gated MLP (arXiv 2002.05202): fc2(silu(gate) * value), where fc1 gives the gate and then the value.

    inner_eps: of a norm before fc2 (EVA-02, arXiv 2303.11331); None: no such norm.
    """

    def __init__(self, dim: int, hidden_dim: int, bias: bool = True, inner_eps: float | None = None):
        super().__init__()
        self.fc1 = nn.Linear(dim, 2 * hidden_dim, bias=bias)
        self.norm = None if inner_eps is None else nn.LayerNorm(hidden_dim, eps=inner_eps)
        self.fc2 = nn.Linear(hidden_dim, dim, bias=bias)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """x: (B, N, C)."""
        gate, value = apply_linear(self.fc1, x).chunk(2, -1)  # (B, N, hidden) each
        x = F.silu(gate) * value
        return apply_linear(self.fc2, x if self.norm is None else self.norm(x))


class LayerScale(nn.Module):
    """A learned factor for each channel of a branch (CaiT, arXiv 2103.17239), from `start`."""

    def __init__(self, dim: int, start: float):
        super().__init__()
        self.gamma = nn.Parameter(torch.full((dim,), float(start)))

    def forward(self, x: Tensor) -> Tensor:
        """x: (..., C)."""
        return x * self.gamma


class Block(nn.Module):
    """x + ls1(attn(norm1(x))), then x + ls2(mlp(norm2(x))), on the tokens of a map.

    attn, mlp: modules called as module(x (B, h*w, C), size (h, w)).
    layer_scale: start of the branches' factors; None: none.
    residual: a module on the map (B, C, h, w) after both; None: none.
    """

    def __init__(
        self,
        dim: int,
        attn: nn.Module,
        mlp: nn.Module,
        drop_path: float = 0.0,
        eps: float = 1e-6,
        layer_scale: float | None = None,
        residual: nn.Module | None = None,
    ):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=eps)
        self.attn = attn
        self.ls1 = nn.Identity() if layer_scale is None else LayerScale(dim, layer_scale)
        self.norm2 = nn.LayerNorm(dim, eps=eps)
        self.mlp = mlp
        self.ls2 = nn.Identity() if layer_scale is None else LayerScale(dim, layer_scale)
        self.drop_path = DropPath(drop_path)
        self.residual = residual

    def forward(self, x: Tensor, size: tuple[int, int], *more) -> Tensor:
        """x: (B, h*w, C), size: (h, w), more: handed on to `attn`."""
        x = x + self.drop_path(self.ls1(self.attn(self.norm1(x), size, *more)))
        x = x + self.drop_path(self.ls2(self.mlp(self.norm2(x), size)))
        # the residual branch is made of convolutions, which need the map
        return x if self.residual is None else to_tokens(self.residual(to_map(x, size)))
