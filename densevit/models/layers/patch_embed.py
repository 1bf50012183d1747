"""From a map to the tokens of its patches: what every transformer begins with."""

import torch.nn.functional as F
from torch import Tensor, nn

from densevit.models.layers.tokens import to_tokens


class PatchEmbed(nn.Module):
    """A strided convolution, whose locations are the tokens, and a norm.

    Args:
        in_channels: of the map.
        dim: channels of a token.
        kernel_size: side of a patch.
        stride: from one patch to the next; None: the side of a patch. Patches that overlap reach beyond the border by
            half their side, where zeros are.
        bias: whether the convolution has a bias.
        norm_eps: eps of the norm; None: no norm.
        ceil_mode: complete the last patches with zeros at the right and the bottom; False leaves them out.
    """

    def __init__(
        self,
        in_channels: int,
        dim: int,
        kernel_size: int,
        stride: int | None = None,
        bias: bool = True,
        norm_eps: float | None = None,
        ceil_mode: bool = True,
    ):
        super().__init__()
        overlapping = stride is not None and stride < kernel_size
        self.pad = ceil_mode and not overlapping
        padding = kernel_size // 2 if overlapping else 0
        self.proj = nn.Conv2d(in_channels, dim, kernel_size, stride or kernel_size, padding, bias=bias)
        self.norm = nn.Identity() if norm_eps is None else nn.LayerNorm(dim, eps=norm_eps)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """x: (B, C, H, W). Returns the tokens (B, h*w, dim) and (h, w)."""
        patch = self.proj.stride[0]
        below, right = -x.shape[2] % patch, -x.shape[3] % patch
        if self.pad and (below or right):
            x = F.pad(x, (0, right, 0, below))
        x = self.proj(x)
        return self.norm(to_tokens(x)), tuple(x.shape[2:])
