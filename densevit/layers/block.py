"""The pre-norm transformer block and its MLP."""

from torch import Tensor, nn

from densevit.layers.drop_path import DropPath


class Mlp(nn.Module):
    """Linear, GELU, Linear on tokens (B, N, C)."""

    def __init__(self, dim: int, hidden_dim: int):
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden_dim, dim)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """x: (B, h*w, C); size (h, w) is for MLPs that look at the map."""
        return self.fc2(self.act(self.fc1(x)))


class Block(nn.Module):
    """x + attn(norm1(x)), then x + mlp(norm2(x)), on the tokens of a map.

    attn, mlp: modules called as module(x (B, h*w, C), size (h, w)).
    """

    def __init__(self, dim: int, attn: nn.Module, mlp: nn.Module, drop_path: float = 0.0, eps: float = 1e-6):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=eps)
        self.attn = attn
        self.norm2 = nn.LayerNorm(dim, eps=eps)
        self.mlp = mlp
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """x: (B, h*w, C), size: (h, w)."""
        x = x + self.drop_path(self.attn(self.norm1(x), size))
        return x + self.drop_path(self.mlp(self.norm2(x), size))
