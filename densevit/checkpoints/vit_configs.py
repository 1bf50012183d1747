"""ViT: the configurations of mmsegmentation and of the papers' repositories."""

from collections.abc import Iterable
from typing import Any

from densevit.checkpoints.pvt import LN_EPS
from densevit.checkpoints.settings import Settings
from densevit.checkpoints.swin_configs import side_pair
from densevit.errors import ConfigError


def arch_of(settings: Settings, *names: str, hidden: int | None = None) -> dict[str, Any]:
    """`arch`. names: what width, depth, heads and the MLP's ratio are called; their defaults are the base size's.

    hidden: the MLP's hidden channels, where the ratio is not what says them.
    """
    values = [settings.take(name, value) for name, value in zip(names, (768, 12, 12, 4), strict=False)]
    ratio = hidden / values[0] if hidden is not None else int(values[0] * values[3]) / values[0]
    return {"embed_dim": values[0], "depth": values[1], "num_heads": values[2], "mlp_ratio": ratio}


def no_dropout(settings: Settings, *keys: str) -> None:
    """densevit's ViT has no dropout."""
    for key in keys:
        settings.expect(key, 0.0, [0])


def outputs_of(settings: Settings, depth: int) -> tuple[int, ...]:
    """`out_indices`: several blocks from 0, or one, -1 the last."""
    given = settings.take("out_indices", -1)
    return (given % depth,) if isinstance(given, int) else tuple(sorted(given))


# ---- mmsegmentation ----------------------------------------------------------------------------------


def mmseg_rest(settings: Settings) -> dict[str, Any]:
    """What VisionTransformer and MAE take alike."""
    settings.expect("in_channels", 3)
    settings.expect("act_cfg", {"type": "GELU"})
    settings.expect("num_fcs", 2)
    settings.expect("patch_norm", False)
    no_dropout(settings, "attn_drop_rate")
    settings.ignore("norm_eval", "pretrained", "init_cfg")
    norm = settings.part("norm_cfg", {"type": "LN"})
    if norm.type != "LN":
        raise ConfigError(f"{norm.where}.type is {norm.type!r}; densevit has LayerNorms ('LN') there.")
    arch = arch_of(settings, "embed_dims", "num_layers", "num_heads", "mlp_ratio")
    config = {
        "type": "ViT",
        "arch": arch,
        "patch_size": settings.take("patch_size", 16),
        "img_size": side_pair(settings.take("img_size", 224)),
        "out_indices": outputs_of(settings, arch["depth"]),
        "drop_path_rate": settings.take("drop_path_rate", 0.0),
        "final_norm": "last" if settings.take("final_norm", False) else None,
        "norm_eps": norm.take("eps", LN_EPS),
    }
    norm.ignore("requires_grad")
    norm.done()
    return config


def from_mmseg(settings: Settings) -> dict[str, Any]:
    """VisionTransformer of mmsegmentation. Its `qkv_bias` is also that of the output projection."""
    config = mmseg_rest(settings)
    no_dropout(settings, "drop_rate")
    settings.expect("patch_pad", "corner")
    settings.expect("out_origin", False)
    settings.expect("pre_norm", False)
    settings.ignore("with_cp", "frozen_exclude")
    bias = settings.take("qkv_bias", True)
    config |= {
        "class_token": settings.take("with_cls_token", True),
        "append_cls_token": settings.take("output_cls_token", False),
        "table_mode": settings.take("interpolate_mode", "bicubic"),
        "keep_table_on_equal_count": True,
        "qkv_bias": bias,
        "proj_bias": bias,
        "patch_bias": settings.take("patch_bias", False),
    }
    settings.done()
    return config


def from_mmseg_mae(settings: Settings) -> dict[str, Any]:
    """MAE of mmsegmentation: a table of positions, and relative ones in each block."""
    config = mmseg_rest(settings)
    config |= {"relative_positions": "bias", "layer_scale": settings.take("init_values", 0.1)}
    settings.done()
    return config


# ---- the papers' repositories ------------------------------------------------------------------------

SIZES = {
    "vit_small": (384, 12, 6, 4),
    "vit_base": (768, 12, 12, 4),
    "vit_large": (1024, 24, 16, 4),
    "vit_so400m": (1152, 27, 18, 3.777777778),
    "vit_huge2": (1280, 32, 20, 4),
    "vit_giant2": (1536, 40, 24, 4),
    "vit_7b": (4096, 40, 32, 3),
}
"""DINOv2's and DINOv3's: width, depth, heads, ratio of the MLP."""


def take_sizes(settings: Settings, ratio: str) -> None:
    """`arch` by its name, as the constructor's own arguments. ratio: what the MLP's is called."""
    name = settings.take("arch", settings.type)
    if name in SIZES:
        for key, value in zip(("embed_dim", "depth", "num_heads", ratio), SIZES[name], strict=True):
            settings.left.setdefault(key, value)
    elif name not in (None, "DinoVisionTransformer"):
        raise ConfigError(f"{settings.where}.arch is {name!r}; densevit knows {', '.join(SIZES)}.")


def swiglu_width(width: int, ratio: float, multiple: int) -> int:
    """Hidden channels of a gated MLP: two thirds of a plain one's, rounded up."""
    return -(-int(int(width * ratio) * 2 / 3) // multiple) * multiple


def from_dinov2(settings: Settings) -> dict[str, Any]:
    """DinoVisionTransformer of facebookresearch/dinov2, whose maps are all normed."""
    take_sizes(settings, "mlp_ratio")
    settings.expect("in_chans", 3)
    settings.ignore("block_chunks", "drop_path_uniform", "num_classes")
    kind = settings.take("ffn_layer", "mlp")
    gate = kind in ("swiglu", "swiglufused")
    if not gate and kind != "mlp":
        raise ConfigError(f"{settings.where}.ffn_layer is {kind!r}; densevit has 'mlp' and 'swiglufused'.")
    width, ratio = settings.left.get("embed_dim", 768), settings.take("mlp_ratio", 4)
    config = {
        "type": "ViT",
        "arch": arch_of(
            settings,
            "embed_dim",
            "depth",
            "num_heads",
            hidden=swiglu_width(width, ratio, 8) if gate else int(width * ratio),
        ),
        "patch_size": settings.take("patch_size", 16),
        "img_size": side_pair(settings.take("img_size", 224)),
        "drop_path_rate": settings.take("drop_path_rate", 0.0),
        "final_norm": "all",
        "register_tokens": settings.take("num_register_tokens", 0),
        "table_antialias": settings.take("interpolate_antialias", False),
        "table_offset": settings.take("interpolate_offset", 0.1),
        "qkv_bias": settings.take("qkv_bias", True),
        "proj_bias": settings.take("proj_bias", True),
        "mlp_bias": settings.take("ffn_bias", True),
        "mlp": "swiglu" if gate else "gelu",
        "layer_scale": settings.take("init_values", None) or None,
    }
    settings.done()
    return config


DINOV3_GATES = {"swiglu": 8, "swiglu32": 32, "swiglu64": 64, "swiglu128": 128}
DINOV3_EPS = {"layernorm": 1e-6, "layernormbf16": 1e-5}


def from_dinov3(settings: Settings) -> dict[str, Any]:
    """DinoVisionTransformer of facebookresearch/dinov3, whose maps are all normed."""
    take_sizes(settings, "ffn_ratio")
    settings.expect("in_chans", 3)
    ends = tuple(settings.take(f"pos_embed_rope_{end}_period", None) for end in ("min", "max"))
    settings.expect("pos_embed_rope_dtype", "fp32")
    settings.ignore(
        *(f"pos_embed_rope_{name}_coords" for name in ("shift", "jitter", "rescale")),
        "untie_global_and_local_cls_norm",
        "device",
    )
    kind, norm = settings.take("ffn_layer", "mlp"), settings.take("norm_layer", "layernorm")
    if kind not in ("mlp", *DINOV3_GATES):
        raise ConfigError(f"{settings.where}.ffn_layer is {kind!r}; densevit has 'mlp', {', '.join(DINOV3_GATES)}.")
    if norm not in DINOV3_EPS:
        raise ConfigError(f"{settings.where}.norm_layer is {norm!r}; densevit has {', '.join(DINOV3_EPS)}.")
    width, ratio = settings.left.get("embed_dim", 768), settings.take("ffn_ratio", 4)
    hidden = swiglu_width(width, ratio, DINOV3_GATES[kind]) if kind in DINOV3_GATES else int(width * ratio)
    config = {
        "type": "ViT",
        "arch": arch_of(settings, "embed_dim", "depth", "num_heads", hidden=hidden),
        "patch_size": settings.take("patch_size", 16),
        "drop_path_rate": settings.take("drop_path_rate", 0.0),
        "final_norm": "all",
        "norm_eps": DINOV3_EPS[norm],
        "register_tokens": settings.take("n_storage_tokens", 0),
        "class_norm": settings.take("untie_cls_and_patch_norms", False),
        "positions": "rotary",
        "rotary_base": settings.take("pos_embed_rope_base", 100.0) if None in ends else ends,
        "rotary_coords": settings.take("pos_embed_rope_normalize_coords", "separate"),
        "qkv_bias": settings.take("qkv_bias", True),
        "key_bias": not settings.take("mask_k_bias", False),
        "proj_bias": settings.take("proj_bias", True),
        "mlp_bias": settings.take("ffn_bias", True),
        "mlp": "swiglu" if kind in DINOV3_GATES else "gelu",
        "layer_scale": settings.take("layerscale_init", None),
    }
    settings.ignore("img_size", "pos_embed_rope_base")
    settings.done()
    return config


def from_rstrudel(settings: Settings) -> dict[str, Any]:
    """The encoder of rstrudel/segmenter; keys that are not the encoder's are left to the caller."""
    no_dropout(settings, "dropout")
    settings.ignore("backbone", "encoder_n_cls", "channels")
    settings.left.setdefault(
        "mlp_ratio", settings.take("d_ff", 4 * settings.left["d_model"]) / settings.left["d_model"]
    )
    return {
        "type": "ViT",
        "arch": arch_of(settings, "d_model", "n_layers", "n_heads", "mlp_ratio"),
        "patch_size": settings.take("patch_size", 16),
        "img_size": side_pair(settings.take("image_size", 224)),
        "drop_path_rate": settings.take("drop_path_rate", 0.0),
        "norm_eps": LN_EPS,
        "distillation_token": settings.take("distilled", False),
        "table_mode": "bilinear",
        "keep_table_on_equal_count": True,
    }


def told_by_names(config: dict[str, Any], source: str, names: Iterable[str]) -> None:
    """What a configuration of ViT leaves open and the file's names say: the class that takes a distillation token is
    not named among its arguments, and mmsegmentation changed the default of `patch_bias` between its versions."""
    part = config if config["type"] == "ViT" else config.get("backbone", {})
    if part.get("type") != "ViT":
        return
    ends = {name.rsplit("backbone.", 1)[-1] for name in names}
    if source == "timm" and "dist_token" in ends and not part.get("distillation_token"):
        part["distillation_token"] = True
        part.pop("table_rows", None)
    if source == "mmseg" and "patch_embed.projection.weight" in ends:
        part["patch_bias"] = "patch_embed.projection.bias" in ends


CONFIGS = {
    ("mmseg", "VisionTransformer"): from_mmseg,
    ("mmseg", "MAE"): from_mmseg_mae,
    **{("dinov2", name): from_dinov2 for name in (None, "DinoVisionTransformer", *SIZES)},
    **{("dinov3", name): from_dinov3 for name in (None, "DinoVisionTransformer", *SIZES)},
}
"""(source, their type) -> our configuration."""
