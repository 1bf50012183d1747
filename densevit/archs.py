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
    "giant": dict(embed_dim=1536, depth=40, num_heads=24, mlp_ratio=8 / 3),  # DINOv2's, with a gated MLP
}

_DINOV2 = dict(patch_size=14, img_size=518, pos_embed=dict(offset=0.1), block=dict(layer_scale=1e-5))
_DINOV2_REG = dict(_DINOV2, tokens=dict(registers=4), pos_embed=dict(antialias=True))
_DINOV3 = dict(
    tokens=dict(registers=4), pos_embed=dict(kind="rotary"), block=dict(norm_eps=1e-5, key_bias=False, layer_scale=1e-5)
)
_GLOBAL = {
    "base": range(2, 12, 3),
    "large": range(5, 24, 6),
    "huge": range(7, 32, 8),
}  # ViTDet's blocks without windows
VIT_PRESETS = {
    **{f"mae_{size}": dict(VIT[size], pos_embed=dict(kind="sincos")) for size in ("base", "large", "huge")},
    **{f"dinov2_{size}": dict(VIT[size], **_DINOV2) for size in ("small", "base", "large")},
    **{f"dinov2_reg_{size}": dict(VIT[size], **_DINOV2_REG) for size in ("small", "base", "large")},
    "dinov2_giant": dict(VIT["giant"], **(_DINOV2 | dict(block=dict(layer_scale=1e-5, mlp="swiglu")))),
    "dinov2_reg_giant": dict(VIT["giant"], **(_DINOV2_REG | dict(block=dict(layer_scale=1e-5, mlp="swiglu")))),
    **{f"dinov3_{size}": dict(VIT[size], **_DINOV3) for size in ("small", "base", "large")},
    **{
        f"vitdet_{size}": dict(
            VIT[size],
            tokens=dict(cls=False),
            rel_pos=dict(kind="decomposed", img_size=1024),
            windows=dict(size=14, blocks=tuple(i for i in range(VIT[size]["depth"]) if i not in whole)),
        )
        for size, whole in _GLOBAL.items()
    },
}
"""Sizes with the options of published models, which ViT takes by name."""


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
