"""ViT: the configurations of transformers, which its files keep beside the weights."""

from typing import Any

from densevit.checkpoints.settings import Settings
from densevit.checkpoints.swin_configs import FACTS, side_pair
from densevit.checkpoints.vit_configs import arch_of, no_dropout, swiglu_width
from densevit.errors import ConfigError

FAMILIES = {
    "vit": ("ViT", 1e-12),
    "deit": ("DeiT", 1e-12),
    "vit_mae": ("ViTMAE", 1e-12),
    "dinov2": ("Dinov2", 1e-6),
    "dinov2_with_registers": ("Dinov2WithRegisters", 1e-6),
    "dinov3_vit": ("DINOv3ViT", 1e-5),
}
"""transformers' model_type -> how its classes begin, and eps of its norms where config.json says nothing."""


def classes_of(family: str) -> list[str]:
    """Names of a family's classes that are, or hold, the backbone."""
    ends = ("Model", "Backbone", "ForImageClassification", "ForImageClassificationWithTeacher", "ForPreTraining")
    return [family + end for end in ends]


def from_transformers(settings: Settings) -> dict[str, Any]:
    """transformers' `vit`, `deit`, `vit_mae`, `dinov2`, `dinov2_with_registers` and `dinov3_vit`.

    A Backbone gives the maps of the stages it is told to (stage 1 is the first block), normed unless it says otherwise;
    the other classes give the last, normed.
    """
    classes = settings.take("architectures", None) or [settings.type]
    backbone = str(classes[0]).endswith("Backbone")
    name = settings.take("model_type", settings.type)
    kind = next(kind for kind, (family, _) in FAMILIES.items() if name == kind or str(name) in classes_of(family))
    dino = kind.startswith("dinov")
    settings.expect("num_channels", 3)
    no_dropout(settings, "hidden_dropout_prob", "attention_probs_dropout_prob", "attention_dropout")
    width, ratio = settings.left.get("hidden_size", 384 if kind == "dinov3_vit" else 768), settings.take("mlp_ratio", 4)
    settings.left.setdefault("hidden_size", width)
    gate = settings.take("use_swiglu_ffn", False) or settings.take("use_gated_mlp", False)
    settings.expect("hidden_act", "gelu", ["silu"] if gate else [])
    hidden = settings.take("intermediate_size", 4 * width) if not kind.startswith("dinov2") else int(width * ratio)
    if gate and kind.startswith("dinov2"):
        hidden = swiglu_width(width, ratio, 8)
    arch = arch_of(settings, "hidden_size", "num_hidden_layers", "num_attention_heads", hidden=hidden)
    config = {
        "type": "ViT",
        "arch": arch,
        "patch_size": settings.take("patch_size", 14 if kind == "dinov2" else 16),
        "drop_path_rate": settings.take("drop_path_rate", 0.0),
        "norm_eps": settings.take("layer_norm_eps", FAMILIES[kind][1]),
        "distillation_token": kind == "deit",
        "mlp": "swiglu" if gate else "gelu",
        "layer_scale": settings.take("layerscale_value", 1.0) if dino else None,
    }
    if kind == "dinov3_vit":
        query, value = settings.take("query_bias", True), settings.take("value_bias", True)
        if query != value:
            raise ConfigError(f"{settings.where}.query_bias and value_bias differ; densevit has both or none.")
        config |= {
            "register_tokens": settings.take("num_register_tokens", 0),
            "positions": "rotary",
            "rotary_base": settings.take("rope_theta", 100.0),
            "qkv_bias": query,
            "key_bias": settings.take("key_bias", False),
            "proj_bias": settings.take("proj_bias", True),
            "mlp_bias": settings.take("mlp_bias", True),
        }
        settings.ignore(
            "image_size", "rope_parameters", *(f"pos_embed_{name}" for name in ("shift", "jitter", "rescale"))
        )
    else:
        config |= {
            "img_size": side_pair(settings.take("image_size", 224)),
            "qkv_bias": settings.take("qkv_bias", True),
        }
        if kind == "dinov2_with_registers":
            config |= {"register_tokens": settings.take("num_register_tokens", 4), "table_antialias": True}
    normed = settings.take("apply_layernorm", True)
    outputs = stages_of(settings, arch["depth"])
    if backbone:
        bare = "last" if kind == "dinov3_vit" else None  # DINOv3's norms its last map in any case
        config |= {"out_indices": outputs, "final_norm": "all" if normed else bare}
    settings.expect("reshape_hidden_states", True)
    settings.ignore(*FACTS, *BESIDE)
    settings.done()
    return config


BESIDE = (
    "pooler_output_size", "pooler_act", "use_mask_token", "mask_ratio", "norm_pix_loss", "is_decoder",
    *(f"decoder_{name}" for name in ("num_attention_heads", "hidden_size", "num_hidden_layers", "intermediate_size")),
)  # fmt: skip
"""What a config.json says of heads, decoders and pre-training."""


def stages_of(settings: Settings, depth: int) -> tuple[int, ...]:
    """Blocks (from 0) of `out_features` or `out_indices`, which count from 1."""
    names, indices = settings.take("out_features", None), settings.take("out_indices", None)
    if names is not None:
        indices = [int(str(name).removeprefix("stage")) if name != "stem" else 0 for name in names]
    stages = sorted(i % (depth + 1) for i in (indices or [depth]))
    if stages[0] == 0:
        raise ConfigError(f"{settings.where}.out_features holds 'stem', the bare patches; densevit gives blocks.")
    return tuple(i - 1 for i in stages)


CONFIGS = {
    ("transformers", name): from_transformers
    for kind, (family, _) in FAMILIES.items()
    for name in (kind, *classes_of(family))
}
"""(source, their type) -> our configuration."""
