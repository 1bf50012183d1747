"""Sizes of the published backbones, by family: plain numbers that the backbones and the converters both read."""

_PVT = dict(embed_dims=(64, 128, 320, 512), num_heads=(1, 2, 5, 8), sr_ratios=(8, 4, 2, 1))
_WIDE = dict(_PVT, mlp_ratios=(8, 8, 4, 4))
PVT = {
    "tiny": dict(_WIDE, depths=(2, 2, 2, 2)),
    "small": dict(_WIDE, depths=(3, 4, 6, 3)),
    "medium": dict(_WIDE, depths=(3, 4, 18, 3)),
    "large": dict(_WIDE, depths=(3, 8, 27, 3)),
}
PVT_V2 = {
    "b0": dict(PVT["tiny"], embed_dims=(32, 64, 160, 256), linear=False),
    "b1": dict(PVT["tiny"], linear=False),
    "b2": dict(PVT["small"], linear=False),
    "b2_li": dict(PVT["small"], linear=True),
    "b3": dict(PVT["medium"], linear=False),
    "b4": dict(PVT["large"], linear=False),
    "b5": dict(_PVT, mlp_ratios=(4, 4, 4, 4), depths=(3, 6, 40, 3), linear=False),
}
SWIN = {
    "tiny": dict(embed_dim=96, depths=(2, 2, 6, 2), num_heads=(3, 6, 12, 24), mlp_ratio=4),
    "small": dict(embed_dim=96, depths=(2, 2, 18, 2), num_heads=(3, 6, 12, 24), mlp_ratio=4),
    "base": dict(embed_dim=128, depths=(2, 2, 18, 2), num_heads=(4, 8, 16, 32), mlp_ratio=4),
    "large": dict(embed_dim=192, depths=(2, 2, 18, 2), num_heads=(6, 12, 24, 48), mlp_ratio=4),
}
"""Of both generations."""
VIT = {
    "tiny": dict(embed_dim=192, depth=12, num_heads=3, mlp_ratio=4),
    "small": dict(embed_dim=384, depth=12, num_heads=6, mlp_ratio=4),
    "base": dict(embed_dim=768, depth=12, num_heads=12, mlp_ratio=4),
    "large": dict(embed_dim=1024, depth=24, num_heads=16, mlp_ratio=4),
    "huge": dict(embed_dim=1280, depth=32, num_heads=16, mlp_ratio=4),
    "giant": dict(embed_dim=1536, depth=40, num_heads=24, mlp_ratio=8 / 3),  # DINOv2's, with mlp='swiglu'
}


def _doubling(width: int, heads: int, depths: tuple[int, ...]) -> dict:
    dims, numbers = (tuple(first * 2**i for i in range(4)) for first in (width, heads))
    return dict(embed_dims=dims, depths=depths, num_heads=numbers, mlp_ratio=4)


MVIT_V2 = {
    "tiny": _doubling(96, 1, (1, 2, 5, 2)),
    "small": _doubling(96, 1, (1, 2, 11, 2)),
    "base": _doubling(96, 1, (2, 3, 16, 3)),
    "large": _doubling(144, 2, (2, 6, 36, 4)),
    "huge": _doubling(192, 3, (4, 8, 60, 8)),
}
