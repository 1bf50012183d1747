"""ViT: the configurations of mmsegmentation, detectron2, transformers and the papers' repositories, as data."""

from collections.abc import Callable, Mapping
from typing import Any

from densevit.archs import VIT
from densevit.converters.architectures.swin import BESIDE, stages_of
from densevit.converters.config_spec import LN_EPS, ZERO, ConfigReader, ConfigSpec, same, side_pair
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


def finish_ratio(config: dict[str, Any], reader: ConfigReader) -> None:
    """`whole_ratio`, where nothing else is left to do."""
    whole_ratio(config)


def swiglu_width(width: int, ratio: float, multiple: int) -> int:
    """Hidden channels of a gated MLP: two thirds of a plain one's, rounded up."""
    return -(-int(int(width * ratio) * 2 / 3) // multiple) * multiple


PLAIN = same(patch_size=16, drop_path_rate=0.0)
IMAGE = {"img_size": ("img_size", 224, side_pair)}
DIMS = arch_keys("embed_dim", "depth", "num_heads", "mlp_ratio")

# ---- mmsegmentation ----------------------------------------------------------------------------------


def _finish_mmseg(config: dict[str, Any], reader: ConfigReader) -> None:
    whole_ratio(config)
    given, depth = reader.pop("out_indices", -1), config["arch"]["depth"]
    config["out_indices"] = (given % depth,) if isinstance(given, int) else tuple(sorted(given))
    if (bias := config.get("qkv_bias")) is not None:  # is that of the output projection, too
        config["proj_bias"] = bias


MMSEG = ConfigSpec(
    "ViT",
    keys={
        **arch_keys("embed_dims", "num_layers", "num_heads", "mlp_ratio"), **PLAIN, **IMAGE,
        "final_norm": ("final_norm", False, {True: "last", False: None}),
        "norm_cfg": ("norm_eps", {"type": "LN"}, LAYER_NORM),
    },
    fixed={"in_channels": 3, **GELU, "num_fcs": 2, "patch_norm": False, "attn_drop_rate": ZERO},
    ignored="norm_eval pretrained init_cfg", finish=_finish_mmseg,
)  # fmt: skip
MMSEG_MAE = MMSEG.but(keys={"init_values": ("layer_scale", 0.1)}, constants={"relative_positions": "bias"})
MMSEG_VIT = MMSEG.but(
    keys={
        "with_cls_token": ("class_token", True), "output_cls_token": ("append_cls_token", False),
        "interpolate_mode": ("table_mode", "bicubic"), **same(qkv_bias=True, patch_bias=False),
    },
    constants={"keep_pos_embed_if_same_length": True}, ignored="with_cp frozen_exclude",
    fixed={"drop_rate": ZERO, "patch_pad": "corner", "out_origin": False, "pre_norm": False},
)  # fmt: skip

# ---- DINOv2 and DINOv3 -------------------------------------------------------------------------------

SIZES = {
    "vit_small": VIT["small"], "vit_base": VIT["base"], "vit_large": VIT["large"],
    "vit_so400m": dict(embed_dim=1152, depth=27, num_heads=18, mlp_ratio=3.777777778),
    "vit_huge2": dict(embed_dim=1280, depth=32, num_heads=20, mlp_ratio=4),
    "vit_giant2": {**VIT["giant"], "mlp_ratio": 4}, "vit_7b": dict(embed_dim=4096, depth=40, num_heads=32, mlp_ratio=3),
}  # fmt: skip
V3_DIMS = arch_keys("embed_dim", "depth", "num_heads", "ffn_ratio")


def _dino_sizes(names: Mapping[str, Any]) -> Callable[[ConfigReader], None]:
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


DINO = ConfigSpec(
    "ViT", keys={**PLAIN, **same(qkv_bias=True, proj_bias=True), "ffn_bias": ("mlp_bias", True)},
    constants={"final_norm": "all"}, fixed={"in_chans": 3}, finish=_finish_dino,
)  # fmt: skip
"""DinoVisionTransformer, whose maps are all normed."""
DINOV2 = DINO.but(
    keys={
        **DIMS, **IMAGE, "num_register_tokens": ("register_tokens", 0),
        "interpolate_antialias": ("table_antialias", False), "interpolate_offset": ("table_offset", 0.1),
        "ffn_layer": ("mlp", "mlp", {"mlp": None, "swiglu": 8, "swiglufused": 8}),
        "init_values": ("layer_scale", None, lambda value: value or None),
    },
    ignored="block_chunks drop_path_uniform num_classes", prepare=_dino_sizes(DIMS),
)  # fmt: skip


def _finish_dinov3(config: dict[str, Any], reader: ConfigReader) -> None:
    _finish_dino(config, reader)
    ends = tuple(reader.pop(f"pos_embed_rope_{end}_period", None) for end in ("min", "max"))
    config["rotary_base"] = config["rotary_base"] if None in ends else ends
    config["key_bias"] = not config["key_bias"]


DINOV3 = DINO.but(
    keys={
        **V3_DIMS, "n_storage_tokens": ("register_tokens", 0), "untie_cls_and_patch_norms": ("class_norm", False),
        "norm_layer": ("norm_eps", "layernorm", {"layernorm": 1e-6, "layernormbf16": 1e-5}),
        "pos_embed_rope_base": ("rotary_base", 100.0), "mask_k_bias": ("key_bias", False),
        "pos_embed_rope_normalize_coords": ("rotary_coords", "separate"), "layerscale_init": ("layer_scale", None),
        "ffn_layer": ("mlp", "mlp", {"mlp": None, "swiglu": 8, **{f"swiglu{n}": n for n in (32, 64, 128)}}),
    },
    constants={"positions": "rotary"}, fixed={"pos_embed_rope_dtype": "fp32"},
    ignored="pos_embed_rope_shift_coords pos_embed_rope_jitter_coords pos_embed_rope_rescale_coords img_size device "
    "untie_global_and_local_cls_norm",
    prepare=_dino_sizes(V3_DIMS), finish=_finish_dinov3,
)  # fmt: skip

# ---- Segmenter's encoder, and DPT's ------------------------------------------------------------------


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
    fixed={"dropout": ZERO}, ignored="backbone encoder_n_cls channels", prepare=_segmenter_ratio, finish=finish_ratio,
)  # fmt: skip
DPT = ConfigSpec(
    "ViT", keys={**DIMS, **same(patch_size=16), "img_size": ("img_size", 384, side_pair), "hooks": "out_indices"},
    constants={"final_norm": None, "table_mode": "bilinear"},
    ignored="num_classes",  # of the classifier, which is unused
    finish=finish_ratio,
)  # fmt: skip

# ---- detectron2 --------------------------------------------------------------------------------------


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
    if class_of(value or "GELU") != "GELU":
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
        **DIMS, **PLAIN, **same(qkv_bias=True, window_size=0), "pretrain_img_size": ("img_size", 224),
        "norm_layer": ("norm_eps", "LayerNorm", layer_norm), "act_layer": (None, "GELU", gelu),
        "use_abs_pos": ("positions", True, {True: "table", False: None}),
        "window_block_indexes": ("window_blocks", (), tuple), "residual_block_indexes": ("conv_blocks", (), tuple),
    },
    constants={"final_norm": None, "class_token": False}, fixed={"in_chans": 3},
    ignored="rel_pos_zero_init use_act_checkpoint out_feature pretrain_use_cls_token", finish=_finish_detectron2,
)  # fmt: skip
"""Tables of positions are made for `pretrain_img_size`, those of relative positions for `img_size`."""

# ---- transformers ------------------------------------------------------------------------------------


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


HF_ARCH = arch_keys("hidden_size", "num_hidden_layers", "num_attention_heads")
HF_FIXED = {"num_channels": 3, "hidden_dropout_prob": ZERO, "attention_probs_dropout_prob": ZERO}
HF_IMAGE = {"image_size": ("img_size", 224, side_pair), **same(qkv_bias=True)}
HF_SCALE = {"layerscale_value": ("layer_scale", 1.0)}
HF = ConfigSpec(
    "ViT", keys={**HF_ARCH, **PLAIN}, fixed={**HF_FIXED, "attention_dropout": ZERO, "reshape_hidden_states": True},
    ignored=f"{BESIDE} pooler_output_size pooler_act use_mask_token mask_ratio norm_pix_loss is_decoder "
    "decoder_num_attention_heads decoder_hidden_size decoder_num_hidden_layers decoder_intermediate_size",
    finish=_finish_transformers,
)  # fmt: skip


def _family(kind: str, eps: float, keys: Mapping[str, Any], ignored: str = "", **constants: Any) -> ConfigSpec:
    constants = {"kind": kind, "distillation_token": False, "layer_scale": None, **constants}
    return HF.but(keys={"layer_norm_eps": ("norm_eps", eps), **keys}, constants=constants, ignored=ignored)


FAMILIES = {
    "ViT": _family("vit", 1e-12, HF_IMAGE), "DeiT": _family("deit", 1e-12, HF_IMAGE, distillation_token=True),
    "ViTMAE": _family("vit_mae", 1e-12, HF_IMAGE),
    "Dinov2": _family("dinov2", 1e-6, {**same(patch_size=14), **HF_IMAGE, **HF_SCALE}),
    "Dinov2WithRegisters": _family(
        "dinov2_with_registers", 1e-6, {**HF_IMAGE, **HF_SCALE, "num_register_tokens": ("register_tokens", 4)},
        table_antialias=True,
    ),
    "DINOv3ViT": _family(
        "dinov3_vit", 1e-5,
        {
            "hidden_size": ("arch.embed_dim", 384), "num_register_tokens": ("register_tokens", 0),
            "rope_theta": ("rotary_base", 100.0), "query_bias": ("qkv_bias", True), **HF_SCALE,
            **same(value_bias=True, key_bias=False, proj_bias=True, mlp_bias=True),
        },
        "image_size rope_parameters pos_embed_shift pos_embed_jitter pos_embed_rescale", positions="rotary",
    ),
}  # fmt: skip
"""How transformers' classes begin -> the configuration."""
CLASS_ENDS = ("Model", "Backbone", "ForImageClassification", "ForImageClassificationWithTeacher", "ForPreTraining")
"""Of classes that are, or hold, the backbone."""
HF_DPT = ConfigSpec(
    "ViT",
    keys={
        **HF_ARCH, **same(patch_size=16, qkv_bias=True), "image_size": ("img_size", 384, side_pair),
        "backbone_out_indices": ("out_indices", (2, 5, 8, 11), lambda blocks: tuple(sorted(blocks))),
        "layer_norm_eps": ("norm_eps", 1e-12), "intermediate_size": ("hidden", None),
    },
    constants={"final_norm": None, "table_mode": "bilinear"}, fixed={**HF_FIXED, "hidden_act": "gelu"},
    finish=lambda config, _: whole_ratio(config, config.pop("hidden") or 4 * config["arch"]["embed_dim"]),
)  # fmt: skip
"""DPT's own ViT, whose maps are not normed."""
DINO_NAMES = (None, "DinoVisionTransformer", *SIZES)
CONFIGS = {
    "mmseg": {"VisionTransformer": MMSEG_VIT, "MAE": MMSEG_MAE}, "detectron2": {"ViT": DETECTRON2},
    "dinov2": dict.fromkeys(DINO_NAMES, DINOV2), "dinov3": dict.fromkeys(DINO_NAMES, DINOV3),
    "transformers": {
        name: spec
        for start, spec in FAMILIES.items()
        for name in (spec.constants["kind"], *(start + end for end in CLASS_ENDS))
    },
}  # fmt: skip
"""Source -> its type -> the configuration; timm's stand in vit_timm.py."""
