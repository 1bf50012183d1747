"""PVT and PVT v2: whai362/PVT, mmdetection and timm. Ours are whai362's names, less the class token and classifier."""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from densevit.archs import PVT, PVT_V2
from densevit.converters.config_spec import (
    LN_EPS,
    NO_DROPOUT,
    Architecture,
    ConfigReader,
    ConfigSpec,
    add_defaults,
    indices,
    same,
)
from densevit.converters.key_mapping import KeyRule, invert, linear, rules, within
from densevit.converters.openmmlab import GELU, LAYER_NORM
from densevit.errors import ConfigError

# ---- names -------------------------------------------------------------------------------------------


def split_query(packed: Tensor) -> tuple[Tensor, Tensor]:
    """nn.MultiheadAttention's packed projection (3C, ...) into query (C, ...) and key with value (2C, ...)."""
    dim = packed.shape[0] // 3
    return packed[:dim], packed[dim:]


def pack_query(query: Tensor, key_value: Tensor) -> Tensor:
    """The inverse of `split_query`."""
    return torch.cat((query, key_value))


def with_zero_bias(weight: Tensor) -> tuple[Tensor, Tensor]:
    """mmdetection's `qkv_bias=False` removes the output projection's bias too, where ours has one: of zeros."""
    return weight, weight.new_zeros(len(weight))


def drop_class_row(third: Tensor, fourth: Tensor) -> tuple[Tensor, Tensor]:
    """Stage 4's position table (1, N, C) without its first row, the class token's, where it has one.

    Stage 3's table is twice as high and wide, which distinguishes the two; where sides are odd, a square does.
    """

    def is_square(number: int) -> bool:
        return number > 0 and round(number**0.5) ** 2 == number

    rows, above = fourth.shape[1], third.shape[1]
    if 4 * rows != above and (4 * (rows - 1) == above or (is_square(rows - 1) and not is_square(rows))):
        fourth = fourth[:, 1:]
    return third, fourth


def mmdet_keys(index: str, fc2: int) -> list[KeyRule]:
    """mmdetection's patches and blocks. index: how a block's number is written; fc2: of the MLP's second layer."""
    block = [
        *rules("norm1. norm2. attn.sr. attn.norm."),
        *rules("attn.attn.in_proj_weight->attn.q.weight|attn.kv.weight", change=(split_query, pack_query)),
        *rules("attn.attn.in_proj_bias->attn.q.bias|attn.kv.bias", change=(split_query, pack_query)),
        *rules("attn.attn.out_proj.weight|attn.attn.out_proj.bias->attn.proj.weight|attn.proj.bias"),
        *rules(
            "attn.attn.out_proj.weight->attn.proj.weight|attn.proj.bias", change=(with_zero_bias, lambda w, bias: w)
        ),
        *invert([*linear("mlp.fc1", "ffn.layers.0"), *linear("mlp.fc2", f"ffn.layers.{fc2}")]),
    ]
    patches = rules("layers.{}.0.projection.->patch_embed{+1}.proj. layers.{}.0.norm.->patch_embed{+1}.norm.")
    return patches + within(block, f"layers.{{}}.1.{index}.", "block{+1}.{}.")


KEYS = {
    "pvt": [
        *rules("!cls_token !norm. !head."),
        *rules("pos_embed3|pos_embed4", change=(drop_class_row, lambda *tables: tables)),
        *rules("pos_embed{} patch_embed{}. block{}."),
    ],
    "mmdet": [*rules("layers.{}.1.0.pos_embed->pos_embed{+1}"), *mmdet_keys("{+1}", fc2=3)],
}
V2_KEYS = {
    "pvt": rules("!head. patch_embed{}. block{}. norm{}."),
    "mmdet": [
        *mmdet_keys("{}", fc2=4),
        *rules("layers.{}.1.{}.ffn.layers.1.->block{+1}.{}.mlp.dwconv.dwconv. layers.{}.2.->norm{+1}."),
    ],
    "timm": rules("!head. patch_embed.->patch_embed1.")
    + [
        rule
        for stage in ("stages.{}.", "stages_{}.")  # the latter in models made with features_only=True
        for rule in rules("downsample.->patch_embed{+1}. blocks.{}.mlp.dwconv.->block{+1}.{}.mlp.dwconv.dwconv.", stage)
        + rules("blocks.{}.->block{+1}.{}. norm.->norm{+1}.", stage)
    ],
}

# ---- configurations ----------------------------------------------------------------------------------


def norm_layer_eps(text: Any) -> float:
    """eps out of `norm_layer`, which is text: 'partial(nn.LayerNorm, eps=1e-6)'."""
    found = re.search(r"eps\s*=\s*([0-9.eE+-]+)", str(text))
    if found is None and "LayerNorm" not in str(text):
        raise ValueError("densevit has LayerNorms there.")
    return float(found.group(1)) if found else LN_EPS


def _finish_mmdet(config: dict[str, Any], reader: ConfigReader) -> None:
    arch, stages = config["arch"], reader.pop("num_stages", 4)
    arch["embed_dims"] = [arch["embed_dims"] * number for number in arch["num_heads"]]
    for key, values in arch.items():
        if len(values) < stages or (key != "mlp_ratios" and len(values) != stages):
            raise ConfigError(f"{reader.where}: {key} has {len(values)} values for {stages} stages.")
        arch[key] = list(values[:stages])
    config["norm_eps"] = config["embed_norm_eps"] = config["norm_eps"] or 1e-6


MMDET = ConfigSpec(
    keys={
        "num_layers": ("arch.depths", (3, 4, 6, 3)), "norm_cfg": ("norm_eps", None, LAYER_NORM),
        **same("arch.", embed_dims=64, num_heads=(1, 2, 5, 8), mlp_ratios=(8, 8, 4, 4), sr_ratios=(8, 4, 2, 1)),
        **same(qkv_bias=True, drop_path_rate=0.1), "out_indices": ("out_indices", (0, 1, 2, 3), indices),
    },
    fixed={"in_channels": 3, **GELU, **NO_DROPOUT}, ignored="pretrained convert_weights init_cfg",
    finish=_finish_mmdet,
)  # fmt: skip
"""What both generations have in mmdetection, with its defaults."""
STYLES = {
    "PVT": (((4, 2, 2, 2), (4, 2, 2, 2), (0, 0, 0, 0)), (True, False, False)),
    "PVTv2": (((7, 3, 3, 3), (4, 2, 2, 2), (3, 1, 1, 1)), (False, True, True)),
}
"""patch_sizes, strides, paddings; use_abs_pos_embed, norm_after_stage, use_conv_ffn."""


def _of_style(config: dict[str, Any], reader: ConfigReader) -> dict[str, Any]:
    """mmdetection's PyramidVisionTransformer is PVT, or PVTv2 by its options."""
    _finish_mmdet(config, reader)
    grid, flags = STYLES["PVT"]
    grid = tuple(tuple(reader.pop(k, v)) for k, v in zip(("patch_sizes", "strides", "paddings"), grid, strict=True))
    keys = ("use_abs_pos_embed", "norm_after_stage", "use_conv_ffn")
    flags = tuple(bool(reader.pop(k, v)) for k, v in zip(keys, flags, strict=True))
    stages, size = len(config["arch"]["depths"]), reader.pop("pretrain_img_size", 224)
    styles = {(tuple(v[:stages] for v in given), style): kind for kind, (given, style) in STYLES.items()}
    kind = styles.get((grid, flags))
    if kind is None:
        raise ConfigError(
            f"{reader.where} is a mixture of PVT and PVT v2 that densevit has no model of (patch_sizes, strides, "
            f"paddings {grid}; use_abs_pos_embed, norm_after_stage, use_conv_ffn {flags})."
        )
    if kind == "PVTv2":
        config["arch"]["linear"] = False
        return {"type": kind, **config}
    size = size[0] if isinstance(size, (list, tuple)) and len(size) == 1 else size
    return {"type": kind, **config, "pretrain_size": size, "ceil_mode": False}


def _finish_mmdet_v2(config: dict[str, Any], reader: ConfigReader) -> None:
    _finish_mmdet(config, reader)
    reader.require("strides", (4, 2, 2, 2)[: len(config["arch"]["depths"])])
    config["arch"]["linear"] = False  # mmdetection has no linear attention


def _named(prefix: str, archs: Mapping[str, Mapping], **options: Any) -> dict[str, dict]:
    """The options of named sizes, by their names."""
    options |= {"qkv_bias": True, "norm_layer": "eps=1e-6"}
    return {f"{prefix}_{name}": {**options, **arch} for name, arch in archs.items()}


def _finish_official(config: dict[str, Any], reader: ConfigReader) -> None:
    """Stages that are there, and the maps that are given."""
    stages, linear_attention = reader.pop("num_stages", 4), config["arch"].pop("linear", None)
    config["arch"] = {key: list(values)[:stages] for key, values in config["arch"].items()}
    config["out_indices"] = (stages - 1,) if reader.pop("F4", False) else tuple(range(stages))
    if linear_attention is not None:
        config["arch"]["linear"] = linear_attention
    elif (patch := config.pop("patch_size")) != 4:
        raise ConfigError(f"{reader.where}.patch_size is {patch}; densevit's PVT starts with patches of 4.")


OFFICIAL = ConfigSpec(
    keys={
        **same("arch.", embed_dims=(64, 128, 256, 512), depths=(3, 4, 6, 3), num_heads=(1, 2, 4, 8)),
        **same("arch.", mlp_ratios=(4, 4, 4, 4), sr_ratios=(8, 4, 2, 1)), **same(qkv_bias=False, drop_path_rate=0.0),
        "norm_layer": ("norm_eps", "nn.LayerNorm", norm_layer_eps),
    },
    constants={"embed_norm_eps": LN_EPS}, fixed={"in_chans": 3, "qk_scale": None, **NO_DROPOUT},
    ignored="num_classes style pretrained init_cfg", finish=_finish_official,
)  # fmt: skip
"""What both generations have in whai362/PVT, with its defaults."""
V1 = OFFICIAL.but(
    type="PVT", keys={"img_size": ("pretrain_size", 224), **same(patch_size=16)},
    constants={"ceil_mode": False, "keep_pos_embed_if_same_length": True},
)  # fmt: skip
V2 = OFFICIAL.but(type="PVTv2", keys={"linear": ("arch.linear", False, bool)}, ignored="img_size patch_size")
NAMED, V2_NAMED = _named("pvt", PVT, drop_path_rate=0.1, patch_size=4), _named("pvt_v2", PVT_V2)
"""timm's too; whai362's drop path is 0.1."""
TIMM = ConfigSpec(
    "PVTv2",
    keys={
        **{key: how for key, how in V2.keys.items() if key != "norm_layer"}, **same(qkv_bias=True),
        **same("arch.", mlp_ratios=(8, 8, 4, 4)), "out_indices": ("out_indices", (0, 1, 2, 3), tuple),
    },
    constants={"norm_eps": 1e-6, "embed_norm_eps": LN_EPS},
    fixed={"in_chans": 3, "proj_drop_rate": NO_DROPOUT["drop_rate"], **NO_DROPOUT},
    ignored="norm_layer num_classes num_features global_pool features_only pretrained img_size",
    prepare=lambda reader: add_defaults(reader, V2_NAMED),
)  # fmt: skip
MMDET_V2 = MMDET.but(type="PVTv2", ignored="pretrain_img_size", finish=_finish_mmdet_v2)
ARCHITECTURES = (
    Architecture(
        "PVT", KEYS,
        {
            "mmdet": {"PyramidVisionTransformer": MMDET.but(finish=_of_style)},
            "pvt": {
                "PyramidVisionTransformer": V1, **{name: V1.but(defaults=size) for name, size in NAMED.items()},
            },
        },
    ),
    Architecture(
        "PVTv2", V2_KEYS,
        {
            "mmdet": {"PyramidVisionTransformerV2": MMDET_V2},
            "pvt": {
                "PyramidVisionTransformerV2": V2,
                **{name: V2.but(defaults={"drop_path_rate": 0.1, **size}) for name, size in V2_NAMED.items()},
            },
            "timm": dict.fromkeys(("PyramidVisionTransformerV2", *V2_NAMED), TIMM),
        },
    ),
)  # fmt: skip
