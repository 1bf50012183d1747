"""ViT: timm's, and the papers' repositories that build on its class (DeiT, DeiT III, MAE)."""

from typing import Any

import torch
from torch import nn

from densevit.converters.architectures.pvt import norm_layer_eps
from densevit.converters.architectures.vit_configs import DIMS, IMAGE, PLAIN, whole_ratio
from densevit.converters.config_spec import ZERO, ConfigReader, ConfigSpec, UnsupportedModelError, add_defaults, same
from densevit.errors import ConfigError
from densevit.registry import check_registered

POOLED = (True, "avg", "avgmax", "max")
"""Values of `global_pool` with which the classifier norms the pooled patches (`fc_norm`) instead of all tokens."""
CLASSES = (
    None, "VisionTransformer", "VisionTransformerDistilled", "DistilledVisionTransformer", "MaskedAutoencoderViT",
    "vit_models",
)  # fmt: skip


def _finish(config: dict[str, Any], reader: ConfigReader) -> None:
    layers = str(reader.pop("block_layers", ""))
    if layers and layers.rsplit(".", 1)[-1] not in ("Block", "Layer_scale_init_Block"):
        raise ConfigError(f"{reader.where}.block_layers is {layers!r}; densevit has Block and Layer_scale_init_Block.")
    start, given = reader.pop("init_scale", 1e-4), reader.pop("init_values", None) or None
    config["layer_scale"] = start if "Layer_scale_init" in layers else given
    distilled = bool(reader.pop("distilled", "Distilled" in str(reader.type)))
    bare = reader.pop("no_embed_class", False) or bool(layers)  # DeiT III's table has no row for the class token
    rows = int(config["class_token"]) + int(distilled) + config["register_tokens"]
    config |= {"distillation_token": distilled, "table_rows": 0 if bare else rows}
    pooled, fc_norm = reader.pop("global_pool", "token") in POOLED, reader.pop("fc_norm", None)
    normed = reader.pop("final_norm", True) and not (pooled if fc_norm is None else fc_norm)
    config["final_norm"] = "last" if normed else None
    config["mlp_bias"] = config["proj_bias"]
    whole_ratio(config)


DROPS = ("drop_rate", "pos_drop_rate", "patch_drop_rate", "proj_drop_rate", "attn_drop_rate")
ARGUMENTS = ConfigSpec(
    "ViT",
    keys={
        **DIMS, **PLAIN, **IMAGE, "norm_layer": ("norm_eps", "eps=1e-6", norm_layer_eps),
        "reg_tokens": ("register_tokens", 0), **same(class_token=True, qkv_bias=True, proj_bias=True),
    },
    constants={"table_antialias": True},
    fixed={
        "in_chans": 3, "pos_embed": "learn", "qk_scale": None, **dict.fromkeys(DROPS, ZERO),
        **dict.fromkeys(("qk_norm", "pre_norm", "scale_attn_norm", "scale_mlp_norm"), False),
    },
    ignored="num_classes weight_init fix_init dynamic_img_size dynamic_img_pad strict_img_size pretrained "
    "pool_include_prefix norm_pix_loss mask_ratio pretrained_cfg init_cfg decoder_embed_dim decoder_depth "
    "decoder_num_heads",
    finish=_finish,
)  # fmt: skip
"""The arguments of timm's VisionTransformer, or of the classes that DeiT and MAE make of it."""


def from_name(reader: ConfigReader) -> dict[str, Any]:
    """config.json: `architecture` is read off the model that timm itself makes of it, without weights."""
    import timm

    name = str(reader.remaining.get("architecture", reader.type)).split(".")[0]
    pool = reader.pop("global_pool", None)
    reader.ignore("num_classes", "num_features")
    known = {"architecture", "pretrained_cfg", "model_args"}
    ConfigReader({k: v for k, v in reader.remaining.items() if k not in known}, reader.where).finish()
    check_registered(reader.remaining.get("model_args", {}), f"{reader.where}.model_args")
    add_defaults(reader)
    if not timm.is_model(name):
        raise ConfigError(f"{reader.where}.architecture is {name!r}, which timm {timm.__version__} does not have.")
    options = {**({"global_pool": pool} if pool else {}), **reader.remaining}
    with torch.device("meta"):
        return read_off(timm.create_model(name, pretrained=False, num_classes=0, **options), name)


def read_off(model: nn.Module, name: str) -> dict[str, Any]:
    """Our configuration of a model of timm's. Raises UnsupportedModelError for one with a part that ViT lacks."""
    block = model.blocks[0]
    parts = (model, model.patch_embed, block, getattr(block, "attn", None), getattr(block, "mlp", None))
    kinds, (*_, attn, mlp) = tuple(type(part).__name__ for part in parts), parts
    eva, gate = kinds[0] == "Eva", kinds[4] in ("GluMlp", "SwiGLU")
    known = (
        kinds[0] in ("VisionTransformer", "VisionTransformerDistilled", "Eva"),
        kinds[1] == "PatchEmbed",
        kinds[2:4] == (("EvaBlock", "EvaAttention") if eva else ("Block", "Attention")),
        kinds[4] == "Mlp" or gate,
    )
    if not all(known) or not _is_plain(model, attn, mlp, eva, gate):
        raise UnsupportedModelError(f"{name} of timm has parts that densevit's ViT does not have ({', '.join(kinds)}).")
    grid, patch = model.patch_embed.grid_size, model.patch_embed.patch_size
    first = mlp.fc1_g if kinds[4] == "SwiGLU" else mlp.fc1
    scale = getattr(block, "gamma_1", None) if eva else getattr(block.ls1, "gamma", None)
    query = attn.qkv if not eva or attn.q_proj is None else attn.q_proj
    config = {
        "type": "ViT", "patch_size": patch[0], "img_size": (grid[0] * patch[0], grid[1] * patch[1]),
        "arch": {
            "embed_dim": model.embed_dim, "depth": len(model.blocks), "num_heads": attn.num_heads,
            "mlp_ratio": mlp.fc2.in_features / model.embed_dim,
        },
        "drop_path_rate": getattr(model.blocks[-1].drop_path2, "drop_prob", 0.0),
        "final_norm": None if isinstance(model.norm, nn.Identity) else "last", "norm_eps": block.norm1.eps,
        "class_token": model.cls_token is not None,
        "distillation_token": getattr(model, "dist_token", None) is not None,
        "register_tokens": 0 if model.reg_token is None else model.reg_token.shape[1],
        "qkv_bias": query.bias is not None or getattr(attn, "q_bias", None) is not None,
        "proj_bias": attn.proj.bias is not None, "mlp_bias": first.bias is not None,
        "mlp": "swiglu" if gate else "gelu", "layer_scale": None if scale is None else 1e-5,
    }  # fmt: skip
    if eva:
        norms = {"attn": attn.norm, "mlp": mlp.norm}
        kept = tuple(part for part, norm in norms.items() if not isinstance(norm, nn.Identity))
        config |= {"key_bias": False, "sub_ln": kept}
    if eva and model.rope is not None:
        rope = model.rope
        config["positions"] = "rotary" if model.pos_embed is None else "table+rotary"
        config["rotary_base"] = rope.temperature
        if type(rope).__name__ == "RotaryEmbeddingCat":
            config["rotary_steps"] = rope.ref_feat_shape[0]
        else:
            config["rotary_coords"] = rope.normalize_coords
    if model.pos_embed is None:
        return config
    rows = model.pos_embed.shape[1] - grid[0] * grid[1]
    return config | {"table_rows": rows, "table_antialias": True}


def _is_plain(model: nn.Module, attn: nn.Module, mlp: nn.Module, eva: bool, gate: bool) -> bool:
    """Whether a model of known classes has none of the options that ViT does not have."""
    absent = [getattr(model, "norm_pre", nn.Identity()), attn.q_norm, attn.k_norm]
    absent += [] if eva and gate else [mlp.norm]
    absent += [] if eva else [attn.norm]
    act = isinstance(mlp.act, nn.SiLU if gate else nn.GELU) and getattr(mlp.act, "approximate", "none") == "none"
    if not act or not all(isinstance(part, nn.Identity) for part in absent) or getattr(attn, "gate", None) is not None:
        return False
    rope = getattr(model, "rope", None)
    return model.pos_embed is not None if rope is None else _is_known_rope(rope)


def _is_known_rope(rope: nn.Module) -> bool:
    """Whether queries and keys are rotated as in DINOv3 or EVA-02."""
    kind = type(rope).__name__
    if rope.temperature is None or rope.grid_offset or rope.grid_indexing != "ij":
        return False
    if kind == "RotaryEmbeddingCat":
        steps = rope.ref_feat_shape
        return not rope.in_pixels and not rope.rotate_half and steps is not None and steps[0] == steps[1]
    return kind == "RotaryEmbeddingDinoV3" and rope.rotate_half


CONFIGS = {**dict.fromkeys(CLASSES, ARGUMENTS), **dict.fromkeys(("vit_*", "deit*", "eva*"), from_name)}
