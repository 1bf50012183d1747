"""ViTDet as detectron2's lazy configurations state it: the backbone ViT, and the simple feature pyramid behind it."""

from collections.abc import Mapping
from typing import Any

from densevit.checkpoints.settings import NotBuilt, Settings
from densevit.checkpoints.vit_configs import arch_of
from densevit.errors import ConfigError

TORCH_EPS = 1e-5
"""eps of torch's LayerNorm, which detectron2's ViT has where nothing is said."""


def norm_eps(settings: Settings) -> float:
    """eps of `norm_layer`, a LayerNorm or a partial of it."""
    given = settings.take("norm_layer", "LayerNorm")
    name = given if isinstance(given, str) else given.get("_partial_", "") if isinstance(given, Mapping) else ""
    if name.rsplit(".", 1)[-1] != "LayerNorm":
        raise ConfigError(f"{settings.where}.norm_layer is {given!r}; densevit has LayerNorm and partials of it there.")
    return TORCH_EPS if isinstance(given, str) else given.get("eps", TORCH_EPS)


def gelu_only(settings: Settings) -> None:
    """`act_layer` is GELU."""
    given = settings.take("act_layer", "GELU")
    if not isinstance(given, str) or given.rsplit(".", 1)[-1] != "GELU":
        raise ConfigError(f"{settings.where}.act_layer is {given!r}; densevit has GELU there.")


def from_detectron2(settings: Settings) -> dict[str, Any]:
    """ViT. Its tables of positions are made for `pretrain_img_size`, those of relative positions for `img_size`."""
    settings.expect("in_chans", 3)
    gelu_only(settings)
    settings.ignore("rel_pos_zero_init", "use_act_checkpoint", "out_feature", "pretrain_use_cls_token")
    arch = arch_of(settings, "embed_dim", "depth", "num_heads", "mlp_ratio")
    window, blocks = settings.take("window_size", 0), tuple(settings.take("window_block_indexes", ()))
    relative = settings.take("use_rel_pos", False)
    config = {
        "type": "ViT",
        "arch": arch,
        "patch_size": settings.take("patch_size", 16),
        "img_size": settings.take("pretrain_img_size", 224),
        "drop_path_rate": settings.take("drop_path_rate", 0.0),
        "final_norm": None,
        "norm_eps": norm_eps(settings),
        "class_token": False,
        "positions": "table" if settings.take("use_abs_pos", True) else None,
        "relative_positions": "decomposed" if relative else None,
        "relative_img_size": settings.take("img_size", 1024) if relative else None,
        "qkv_bias": settings.take("qkv_bias", True),
        "window_size": window,
        "window_blocks": blocks if window else (),
        "conv_blocks": tuple(settings.take("residual_block_indexes", ())),
    }
    settings.ignore("img_size")
    settings.done()
    return config


def pyramid(settings: Settings) -> tuple[dict[str, Any], int]:
    """SimpleFeaturePyramid, less its net. Returns our neck, and the side that batches are padded to (0: none)."""
    settings.expect("norm", "LN")
    settings.ignore("in_feature")
    top = settings.take("top_block", None)
    if top is not None:
        top = Settings(top, f"{settings.where}.top_block")
        if top.type != "LastLevelMaxPool":
            raise NotBuilt(f"{top.where}._target_ is {top.type!r}; densevit has LastLevelMaxPool there.")
        top.done()
    config = {
        "type": "SimplePyramid",
        "channels": settings.take("out_channels"),
        "scales": tuple(settings.take("scale_factors")),
        "top_level": top is not None,
        "odd_sizes": "floor",
    }
    square = settings.take("square_pad", 0)
    settings.done()
    return config, square


CONFIGS = {("detectron2", "ViT"): from_detectron2}
"""(source, their type) -> our configuration."""
