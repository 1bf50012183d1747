"""ViT: the configurations of mmsegmentation, detectron2, transformers and the papers' repositories, as data."""

from collections.abc import Callable, Mapping
from typing import Any

from densevit.archs import VIT
from densevit.converters.architectures.swin import BESIDE, stages_of
from densevit.converters.config_spec import LN_EPS, ZERO, ConfigReader, ConfigSpec, one_of, side_pair
from densevit.converters.openmmlab import GELU, LAYER_NORM
from densevit.errors import ConfigError


def arch_keys(*names: str) -> dict[str, tuple]:
    """Keys of `arch`: what width, depth, heads (and the MLP's ratio) are called; their defaults are the base size's."""
    return {name: (f"arch.{ours}", VIT["base"][ours]) for name, ours in zip(names, VIT["base"], strict=False)}


def whole_ratio(config: dict[str, Any], hidden: int | None = None) -> dict[str, Any]:
    """The MLP's ratio that gives its hidden channels, a whole number."""
    arch = config["arch"]
    hidden = int(arch["embed_dim"] * arch["mlp_ratio"]) if hidden is None else hidden
    config["arch"] = {**arch, "mlp_ratio": hidden / arch["embed_dim"]}
    return config


def swiglu_width(width: int, ratio: float, multiple: int) -> int:
    """Hidden channels of a gated MLP: two thirds of a plain one's, rounded up."""
    return -(-int(int(width * ratio) * 2 / 3) // multiple) * multiple


PLAIN = {"patch_size": ("patch_size", 16), "drop_path_rate": ("drop_path_rate", 0.0)}
IMAGE = {"img_size": ("img_size", 224, side_pair)}
DIMS = arch_keys("embed_dim", "depth", "num_heads", "mlp_ratio")
NO_HF_DROPOUT = {"hidden_dropout_prob": ZERO, "attention_probs_dropout_prob": ZERO}


def _finish_mmseg(config: dict[str, Any], reader: ConfigReader) -> None:
    whole_ratio(config)
    given, depth = reader.pop("out_indices", -1), config["arch"]["depth"]
    config["out_indices"] = (given % depth,) if isinstance(given, int) else tuple(sorted(given))
    if (bias := config.get("qkv_bias")) is not None:  # is that of the output projection, too
        config["proj_bias"] = bias


MAE_OF_MMSEG = ConfigSpec(
    "ViT",
    keys={
        **arch_keys("embed_dims", "num_layers", "num_heads", "mlp_ratio"), **PLAIN, **IMAGE,
        "final_norm": ("final_norm", False, one_of({True: "last", False: None})),
        "norm_cfg": ("norm_eps", {"type": "LN"}, LAYER_NORM), "init_values": ("layer_scale", 0.1),
    },
    constants={"relative_positions": "bias"},
    fixed={"in_channels": 3, **GELU, "num_fcs": 2, "patch_norm": False, "attn_drop_rate": ZERO},
    ignored=("norm_eval", "pretrained", "init_cfg"), finish=_finish_mmseg,
)  # fmt: skip
VIT_OF_MMSEG = ConfigSpec(
    "ViT",
    keys={
        **{key: how for key, how in MAE_OF_MMSEG.keys.items() if key != "init_values"},
        "with_cls_token": ("class_token", True), "output_cls_token": ("append_cls_token", False),
        "interpolate_mode": ("table_mode", "bicubic"), "qkv_bias": ("qkv_bias", True),
        "patch_bias": ("patch_bias", False),
    },
    constants={"keep_pos_embed_if_same_length": True},
    fixed={**MAE_OF_MMSEG.fixed, "drop_rate": ZERO, "patch_pad": "corner", "out_origin": False, "pre_norm": False},
    ignored=(*MAE_OF_MMSEG.ignored, "with_cp", "frozen_exclude"), finish=_finish_mmseg,
)  # fmt: skip
SIZES = {
    "vit_small": VIT["small"], "vit_base": VIT["base"], "vit_large": VIT["large"],
    "vit_so400m": dict(embed_dim=1152, depth=27, num_heads=18, mlp_ratio=3.777777778),
    "vit_huge2": dict(embed_dim=1280, depth=32, num_heads=20, mlp_ratio=4),
    "vit_giant2": {**VIT["giant"], "mlp_ratio": 4}, "vit_7b": dict(embed_dim=4096, depth=40, num_heads=32, mlp_ratio=3),
}  # fmt: skip
"""DINOv2's and DINOv3's."""


def _dino_sizes(*names: str) -> Callable[[ConfigReader], None]:
    """`arch` by its name, as the constructor's own arguments, which have these names."""

    def prepare(reader: ConfigReader) -> None:
        name = reader.pop("arch", reader.type)
        if name not in SIZES and name not in (None, "DinoVisionTransformer"):
            raise ConfigError(f"{reader.where}.arch is {name!r}; densevit knows {', '.join(SIZES)}.")
        reader.remaining = {**dict(zip(names, SIZES.get(name, {}).values(), strict=False)), **reader.remaining}

    return prepare


def _finish_dino(config: dict[str, Any], reader: ConfigReader) -> None:
    arch, multiple = config["arch"], config["mlp"]
    hidden = swiglu_width(arch["embed_dim"], arch["mlp_ratio"], multiple) if multiple else None
    whole_ratio(config, hidden)["mlp"] = "swiglu" if multiple else "gelu"


DINO = {
    **PLAIN, "qkv_bias": ("qkv_bias", True), "proj_bias": ("proj_bias", True), "ffn_bias": ("mlp_bias", True),
}  # fmt: skip
DINOV2 = ConfigSpec(
    "ViT",
    keys={
        **DIMS, **DINO, **IMAGE, "num_register_tokens": ("register_tokens", 0),
        "interpolate_antialias": ("table_antialias", False), "interpolate_offset": ("table_offset", 0.1),
        "ffn_layer": ("mlp", "mlp", one_of({"mlp": None, "swiglu": 8, "swiglufused": 8})),
        "init_values": ("layer_scale", None, lambda value: value or None),
    },
    constants={"final_norm": "all"}, fixed={"in_chans": 3},
    ignored=("block_chunks", "drop_path_uniform", "num_classes"), prepare=_dino_sizes(*DIMS), finish=_finish_dino,
)  # fmt: skip
"""DinoVisionTransformer of facebookresearch/dinov2, whose maps are all normed."""


def _finish_dinov3(config: dict[str, Any], reader: ConfigReader) -> None:
    _finish_dino(config, reader)
    ends = tuple(reader.pop(f"pos_embed_rope_{end}_period", None) for end in ("min", "max"))
    config["rotary_base"] = config["rotary_base"] if None in ends else ends
    config["key_bias"] = not config["key_bias"]


V3_DIMS = ("embed_dim", "depth", "num_heads", "ffn_ratio")
GATES = {"mlp": None, "swiglu": 8, "swiglu32": 32, "swiglu64": 64, "swiglu128": 128}
DINOV3 = ConfigSpec(
    "ViT",
    keys={
        **arch_keys(*V3_DIMS),
        **DINO,
        "n_storage_tokens": ("register_tokens", 0),
        "norm_layer": ("norm_eps", "layernorm", one_of({"layernorm": 1e-6, "layernormbf16": 1e-5})),
        "untie_cls_and_patch_norms": ("class_norm", False),
        "pos_embed_rope_base": ("rotary_base", 100.0),
        "pos_embed_rope_normalize_coords": ("rotary_coords", "separate"),
        "mask_k_bias": ("key_bias", False),
        "ffn_layer": ("mlp", "mlp", one_of(GATES)),
        "layerscale_init": ("layer_scale", None),
    },
    constants={"final_norm": "all", "positions": "rotary"},
    fixed={"in_chans": 3, "pos_embed_rope_dtype": "fp32"},
    ignored=(
        *(f"pos_embed_rope_{name}_coords" for name in ("shift", "jitter", "rescale")), "img_size", "device",
        "untie_global_and_local_cls_norm",
    ),
    prepare=_dino_sizes(*V3_DIMS),
    finish=_finish_dinov3,
)  # fmt: skip
"""DinoVisionTransformer of facebookresearch/dinov3, whose maps are all normed."""


def _segmenter_ratio(reader: ConfigReader) -> None:
    width = reader.remaining["d_model"]
    reader.remaining.setdefault("mlp_ratio", reader.pop("d_ff", 4 * width) / width)


SEGMENTER = ConfigSpec(
    "ViT",
    keys={
        **arch_keys("d_model", "n_layers", "n_heads", "mlp_ratio"), **PLAIN, "image_size": ("img_size", 224, side_pair),
        "distilled": ("distillation_token", False),
    },
    constants={"norm_eps": LN_EPS, "table_mode": "bilinear", "keep_pos_embed_if_same_length": True},
    fixed={"dropout": ZERO}, ignored=("backbone", "encoder_n_cls", "channels"), prepare=_segmenter_ratio,
    finish=lambda config, reader: whole_ratio(config),
)  # fmt: skip
"""The encoder of rstrudel/segmenter."""
DPT = ConfigSpec(
    keys={
        **DIMS, "patch_size": ("patch_size", 16), "img_size": ("img_size", 384, side_pair), "hooks": ("out_indices",),
    },
    constants={"type": "ViT", "final_norm": None, "table_mode": "bilinear"},
    ignored=("num_classes",),  # of the classifier, which is unused
    finish=lambda config, reader: whole_ratio(config),
)  # fmt: skip
"""isl-org/DPT's."""


def class_of(value: Any) -> str:
    """The last name of a class or a function, which detectron2 writes as text or as a dict."""
    given = value.get("_partial_", value.get("_target_", "")) if isinstance(value, Mapping) else value
    return str(given).rsplit(".", 1)[-1]


def layer_norm(value: Any) -> float:
    """eps of detectron2's `norm_layer`: LayerNorm, or a partial of it."""
    if class_of(value) != "LayerNorm":
        raise ValueError("densevit has LayerNorm and partials of it there.")
    return value.get("eps", LN_EPS) if isinstance(value, Mapping) else LN_EPS


def gelu(value: Any) -> None:
    """detectron2's `act_layer`."""
    if class_of(value) != "GELU":
        raise ValueError("densevit has GELU there.")


def _finish_detectron2(config: dict[str, Any], reader: ConfigReader) -> None:
    whole_ratio(config)
    relative, image = reader.pop("use_rel_pos", False), reader.pop("img_size", 1024)
    config["relative_positions"] = "decomposed" if relative else None
    config["relative_img_size"] = image if relative else None
    config["window_blocks"] = config["window_blocks"] if config["window_size"] else ()


DETECTRON2 = ConfigSpec(
    "ViT",
    keys={
        **DIMS, **PLAIN, "pretrain_img_size": ("img_size", 224), "norm_layer": ("norm_eps", "LayerNorm", layer_norm),
        "act_layer": (None, "GELU", gelu), "use_abs_pos": ("positions", True, one_of({True: "table", False: None})),
        "qkv_bias": ("qkv_bias", True), "window_size": ("window_size", 0),
        "window_block_indexes": ("window_blocks", (), tuple), "residual_block_indexes": ("conv_blocks", (), tuple),
    },
    constants={"final_norm": None, "class_token": False}, fixed={"in_chans": 3},
    ignored=("rel_pos_zero_init", "use_act_checkpoint", "out_feature", "pretrain_use_cls_token"),
    finish=_finish_detectron2,
)  # fmt: skip
"""Tables of positions are made for `pretrain_img_size`, those of relative positions for `img_size`."""


# ---- transformers ------------------------------------------------------------------------------------

FAMILIES = {
    "vit": "ViT", "deit": "DeiT", "vit_mae": "ViTMAE", "dinov2": "Dinov2",
    "dinov2_with_registers": "Dinov2WithRegisters", "dinov3_vit": "DINOv3ViT",
}  # fmt: skip
"""transformers' model_type -> how its classes begin."""


def classes_of(kind: str) -> list[str]:
    """Names of a family's classes that are, or hold, the backbone."""
    ends = ("Model", "Backbone", "ForImageClassification", "ForImageClassificationWithTeacher", "ForPreTraining")
    return [FAMILIES[kind] + end for end in ends]


def _finish_transformers(config: dict[str, Any], reader: ConfigReader) -> None:
    """A Backbone gives the maps of the stages it is configured to (stage 1 is the first block), normed by default; the
    other classes give the last, normed."""
    kind, arch = config.pop("kind"), config["arch"]
    hidden, ratio = reader.pop("intermediate_size", 4 * arch["embed_dim"]), reader.pop("mlp_ratio", 4)
    gate = reader.pop("use_swiglu_ffn", False) or reader.pop("use_gated_mlp", False)
    reader.require("hidden_act", "gelu", ["silu"] if gate else [])
    if kind.startswith("dinov2"):
        hidden = swiglu_width(arch["embed_dim"], ratio, 8) if gate else int(arch["embed_dim"] * ratio)
    whole_ratio(config, hidden)["mlp"] = "swiglu" if gate else "gelu"
    if config.pop("value_bias", config["qkv_bias"]) != config["qkv_bias"]:
        raise ConfigError(f"{reader.where}.query_bias and value_bias differ; densevit has both or none.")
    normed, outputs = reader.pop("apply_layernorm", True), stages_of(reader, arch["depth"])
    if str((reader.pop("architectures", None) or [reader.type])[0]).endswith("Backbone"):
        bare = "last" if kind == "dinov3_vit" else None  # DINOv3's norms its last map in any case
        config |= {"out_indices": outputs, "final_norm": "all" if normed else bare}


HF = ConfigSpec(
    "ViT",
    keys={**arch_keys("hidden_size", "num_hidden_layers", "num_attention_heads"), **PLAIN},
    fixed={"num_channels": 3, **NO_HF_DROPOUT, "attention_dropout": ZERO, "reshape_hidden_states": True},
    ignored=(
        *BESIDE, "pooler_output_size", "pooler_act", "use_mask_token", "mask_ratio", "norm_pix_loss", "is_decoder",
        *(f"decoder_{n}" for n in ("num_attention_heads", "hidden_size", "num_hidden_layers", "intermediate_size")),
    ),
    finish=_finish_transformers,
)  # fmt: skip
HF_IMAGE = {"image_size": ("img_size", 224, side_pair), "qkv_bias": ("qkv_bias", True)}
HF_SCALE = {"layerscale_value": ("layer_scale", 1.0)}


def _family(kind: str, eps: float, distilled: bool = False, **keys: Any) -> ConfigSpec:
    constants = {"kind": kind, "distillation_token": distilled, "layer_scale": None}
    return HF.but(keys={"layer_norm_eps": ("norm_eps", eps), **keys}, constants=constants)


TRANSFORMERS = {
    "vit": _family("vit", 1e-12, **HF_IMAGE), "deit": _family("deit", 1e-12, distilled=True, **HF_IMAGE),
    "vit_mae": _family("vit_mae", 1e-12, **HF_IMAGE),
    "dinov2": _family("dinov2", 1e-6, patch_size=("patch_size", 14), **HF_IMAGE, **HF_SCALE),
    "dinov2_with_registers": _family(
        "dinov2_with_registers", 1e-6, num_register_tokens=("register_tokens", 4), **HF_IMAGE, **HF_SCALE,
    ).but(constants={"table_antialias": True}),
    "dinov3_vit": _family(
        "dinov3_vit", 1e-5, hidden_size=("arch.embed_dim", 384), num_register_tokens=("register_tokens", 0),
        rope_theta=("rotary_base", 100.0), query_bias=("qkv_bias", True), value_bias=("value_bias", True),
        key_bias=("key_bias", False), proj_bias=("proj_bias", True), mlp_bias=("mlp_bias", True), **HF_SCALE,
    ).but(
        constants={"positions": "rotary"},
        ignored=("image_size", "rope_parameters", *(f"pos_embed_{n}" for n in ("shift", "jitter", "rescale"))),
    ),
}  # fmt: skip
"""transformers' model_type -> its configuration."""
DPT_OF_TRANSFORMERS = ConfigSpec(
    keys={
        **arch_keys("hidden_size", "num_hidden_layers", "num_attention_heads"), "patch_size": ("patch_size", 16),
        "image_size": ("img_size", 384, side_pair),
        "backbone_out_indices": ("out_indices", (2, 5, 8, 11), lambda blocks: tuple(sorted(blocks))),
        "layer_norm_eps": ("norm_eps", 1e-12), "qkv_bias": ("qkv_bias", True), "intermediate_size": ("hidden", None),
    },
    constants={"type": "ViT", "final_norm": None, "table_mode": "bilinear"},
    fixed={"num_channels": 3, "hidden_act": "gelu", **NO_HF_DROPOUT},
    finish=lambda config, reader: whole_ratio(config, config.pop("hidden") or 4 * config["arch"]["embed_dim"]),
)  # fmt: skip
"""DPT's own ViT, whose maps are not normed."""
