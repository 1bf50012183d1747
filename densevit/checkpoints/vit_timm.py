"""ViT: the configurations of timm, and of the papers' repositories that build on its class (DeiT, DeiT III, MAE)."""

from typing import Any

import torch
from torch import nn

from densevit.checkpoints.pvt import official_norm_eps
from densevit.checkpoints.settings import NotBuilt, Settings
from densevit.checkpoints.swin_configs import side_pair
from densevit.checkpoints.vit_configs import arch_of, no_dropout
from densevit.errors import ConfigError
from densevit.registry import check_registered

POOLED = (True, "avg", "avgmax", "max")
"""Values of `global_pool` with which the classifier norms the pooled patches (`fc_norm`) instead of all tokens."""


def from_arguments(settings: Settings) -> dict[str, Any]:
    """The arguments of timm's VisionTransformer, or of the classes that DeiT and MAE make of it."""
    settings.left.setdefault("norm_layer", "eps=1e-6")
    settings.expect("in_chans", 3)
    settings.expect("qk_norm", False)
    settings.expect("qk_scale", None)
    settings.expect("pre_norm", False)
    settings.expect("pos_embed", "learn")
    settings.expect("scale_attn_norm", False)
    settings.expect("scale_mlp_norm", False)
    no_dropout(settings, *(f"{name}drop_rate" for name in ("", "pos_", "patch_", "proj_", "attn_")))
    settings.ignore(
        "num_classes", "weight_init", "fix_init", "dynamic_img_size", "dynamic_img_pad", "strict_img_size",
        "pretrained", "pool_include_prefix", "norm_pix_loss", "mask_ratio", "pretrained_cfg", "init_cfg",
        *(f"decoder_{name}" for name in ("embed_dim", "depth", "num_heads")),
    )  # fmt: skip
    layers = str(settings.take("block_layers", ""))
    scaled = "Layer_scale_init" in layers  # DeiT III's, whose table has no row for the class token
    if layers and layers.rsplit(".", 1)[-1] not in ("Block", "Layer_scale_init_Block"):
        raise ConfigError(
            f"{settings.where}.block_layers is {layers!r}; densevit has Block and Layer_scale_init_Block."
        )
    start = settings.take("init_scale", 1e-4)
    distilled = bool(settings.take("distilled", "Distilled" in str(settings.type)))
    tokens, registers = settings.take("class_token", True), settings.take("reg_tokens", 0)
    bare = settings.take("no_embed_class", False) or bool(layers)
    pooled = settings.take("global_pool", "token") in POOLED
    fc_norm = settings.take("fc_norm", None)
    normed = settings.take("final_norm", True) and not (pooled if fc_norm is None else fc_norm)
    bias = settings.take("proj_bias", True)
    config = {
        "type": "ViT",
        "arch": arch_of(settings, "embed_dim", "depth", "num_heads", "mlp_ratio"),
        "patch_size": settings.take("patch_size", 16),
        "img_size": side_pair(settings.take("img_size", 224)),
        "drop_path_rate": settings.take("drop_path_rate", 0.0),
        "final_norm": "last" if normed else None,
        "norm_eps": official_norm_eps(settings),
        "class_token": tokens,
        "distillation_token": distilled,
        "register_tokens": registers,
        "table_rows": 0 if bare else int(tokens) + int(distilled) + registers,
        "table_antialias": True,
        "qkv_bias": settings.take("qkv_bias", True),
        "proj_bias": bias,
        "mlp_bias": bias,
        "layer_scale": start if scaled else settings.take("init_values", None) or None,
    }
    settings.done()
    return config


def from_name(settings: Settings) -> dict[str, Any]:
    """config.json of timm's: `architecture` is read off the model that timm itself makes of it, without weights."""
    import timm

    name = str(settings.take("architecture", settings.type)).split(".")[0]
    facts, given = settings.take("pretrained_cfg", {}), dict(settings.take("model_args", {}))
    check_registered(given, f"{settings.where}.model_args")
    if len(facts.get("input_size", ())) == 3:
        given = {"img_size": tuple(facts["input_size"][1:]), **given}
    if settings.left.get("global_pool"):
        given.setdefault("global_pool", settings.left["global_pool"])
    settings.ignore("global_pool", "num_classes", "num_features")
    settings.done()
    if not timm.is_model(name):
        raise ConfigError(f"{settings.where}.architecture is {name!r}, which timm {timm.__version__} does not know.")
    with torch.device("meta"):
        return read_off(timm.create_model(name, pretrained=False, num_classes=0, **given), name)


def read_off(model: nn.Module, name: str) -> dict[str, Any]:
    """Our configuration of a model of timm's. Raises NotBuilt for one with a part that ViT does not have."""
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
    if not all(known) or not _plain(model, attn, mlp, eva, gate):
        raise NotBuilt(f"{name} of timm has parts that densevit's ViT does not have ({', '.join(kinds)}).")
    dim = model.embed_dim
    grid, patch = model.patch_embed.grid_size, model.patch_embed.patch_size
    first, drop = mlp.fc1_g if kinds[4] == "SwiGLU" else mlp.fc1, getattr(model.blocks[-1].drop_path2, "drop_prob", 0.0)
    hidden = mlp.fc2.in_features
    distilled = getattr(model, "dist_token", None) is not None
    registers = 0 if model.reg_token is None else model.reg_token.shape[1]
    scale = getattr(block, "gamma_1", None) if eva else getattr(block.ls1, "gamma", None)
    query = attn.qkv if not eva or attn.q_proj is None else attn.q_proj
    config = {
        "type": "ViT",
        "arch": {
            "embed_dim": dim,
            "depth": len(model.blocks),
            "num_heads": attn.num_heads,
            "mlp_ratio": hidden / dim,
        },
        "patch_size": patch[0],
        "img_size": (grid[0] * patch[0], grid[1] * patch[1]),
        "drop_path_rate": drop,
        "final_norm": None if isinstance(model.norm, nn.Identity) else "last",
        "norm_eps": block.norm1.eps,
        "class_token": model.cls_token is not None,
        "distillation_token": distilled,
        "register_tokens": registers,
        "qkv_bias": query.bias is not None or getattr(attn, "q_bias", None) is not None,
        "proj_bias": attn.proj.bias is not None,
        "mlp_bias": first.bias is not None,
        "mlp": "swiglu" if gate else "gelu",
        "layer_scale": None if scale is None else 1e-5,
    }
    if eva:
        config |= {"key_bias": False}
        norms = {"attn": attn.norm, "mlp": mlp.norm}
        config |= {"inner_norms": tuple(name for name, norm in norms.items() if not isinstance(norm, nn.Identity))}
    if eva and model.rope is not None:
        rope = model.rope
        config |= {"positions": "rotary" if model.pos_embed is None else "table+rotary"}
        config |= {"rotary_base": rope.temperature}
        if type(rope).__name__ == "RotaryEmbeddingCat":
            config |= {"rotary_steps": rope.ref_feat_shape[0]}
        else:
            config |= {"rotary_coords": rope.normalize_coords}
    if model.pos_embed is None:
        return config
    rows = model.pos_embed.shape[1] - grid[0] * grid[1]
    return config | {"table_rows": rows, "table_antialias": True}


def _plain(model: nn.Module, attn: nn.Module, mlp: nn.Module, eva: bool, gate: bool) -> bool:
    """Whether a model of known classes has none of the options that ViT does not have."""
    absent = [getattr(model, "norm_pre", nn.Identity()), attn.q_norm, attn.k_norm]
    absent += [] if eva and gate else [mlp.norm]
    absent += [] if eva else [attn.norm]
    act = isinstance(mlp.act, nn.SiLU if gate else nn.GELU) and getattr(mlp.act, "approximate", "none") == "none"
    if not act or not all(isinstance(part, nn.Identity) for part in absent) or getattr(attn, "gate", None) is not None:
        return False
    rope = getattr(model, "rope", None)
    return model.pos_embed is not None if rope is None else _turned_alike(rope)


def _turned_alike(rope: nn.Module) -> bool:
    """Whether queries and keys are turned as in DINOv3 or EVA-02."""
    kind = type(rope).__name__
    if rope.temperature is None or rope.grid_offset or rope.grid_indexing != "ij":
        return False
    if kind == "RotaryEmbeddingCat":
        steps = rope.ref_feat_shape
        return not rope.in_pixels and not rope.rotate_half and steps is not None and steps[0] == steps[1]
    return kind == "RotaryEmbeddingDinoV3" and rope.rotate_half


CLASSES = (
    None, "VisionTransformer", "VisionTransformerDistilled", "DistilledVisionTransformer", "MaskedAutoencoderViT",
    "vit_models",
)  # fmt: skip
CONFIGS = {("timm", name): from_arguments for name in CLASSES}
"""(source, their type) -> our configuration; names of models are read by `from_name`."""
