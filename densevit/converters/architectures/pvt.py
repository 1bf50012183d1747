"""PVT: whai362/PVT and mmdetection. Ours are whai362's names, less the class token and the classifier."""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from densevit.archs import PVT
from densevit.converters.architecture import Architecture
from densevit.converters.config_spec import LN_EPS, NO_DROPOUT, ConfigReader, ConfigSpec, indices
from densevit.converters.key_mapping import KeyRule, ignored, same
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


def to_linear(weight: Tensor) -> Tensor:
    """A 1x1 convolution's weight (O, I, 1, 1) as a linear layer's (O, I)."""
    return weight.flatten(1)


def to_convolution(weight: Tensor) -> Tensor:
    """The inverse of `to_linear`."""
    return weight[:, :, None, None]


def with_zero_bias(weight: Tensor) -> tuple[Tensor, Tensor]:
    """mmdetection's `qkv_bias=False` removes the output projection's bias too, where ours has one: of zeros."""
    return weight, weight.new_zeros(len(weight))


def drop_class_row(third: Tensor, fourth: Tensor) -> tuple[Tensor, Tensor]:
    """Stage 4's position table (1, N, C) without its first row, the class token's, where it has one.

    Stage 3's table is twice as high and wide, which distinguishes the two; where sides are odd, a square does.
    """
    rows, above = fourth.shape[1], third.shape[1]
    if 4 * rows != above and (4 * (rows - 1) == above or (_is_square(rows - 1) and not _is_square(rows))):
        fourth = fourth[:, 1:]
    return third, fourth


def _is_square(number: int) -> bool:
    return number > 0 and round(number**0.5) ** 2 == number


def mmdet_keys(index: str, fc2: int) -> list[KeyRule]:
    """mmdetection's patches and blocks. index: how a block's number is written; fc2: of the MLP's second layer."""
    block = same("norm1.*", "norm2.*", "attn.sr.*", "attn.norm.*")
    for kind in ("weight", "bias"):
        parts = (f"attn.q.{kind}", f"attn.kv.{kind}")
        block.append(KeyRule(f"attn.attn.in_proj_{kind}", parts, split_query, pack_query))
    both = ("attn.proj.weight", "attn.proj.bias")
    block.append(KeyRule(("attn.attn.out_proj.weight", "attn.attn.out_proj.bias"), both))
    block.append(KeyRule("attn.attn.out_proj.weight", both, with_zero_bias, lambda weight, bias: weight))
    for number, name in ((0, "fc1"), (fc2, "fc2")):
        block.append(KeyRule(f"ffn.layers.{number}.weight", f"mlp.{name}.weight", to_linear, to_convolution))
        block.append(KeyRule(f"ffn.layers.{number}.bias", f"mlp.{name}.bias"))
    return [
        KeyRule("layers.{}.0.projection.*", "patch_embed{+1}.proj.*"),
        KeyRule("layers.{}.0.norm.*", "patch_embed{+1}.norm.*"),
        *(rule.within(f"layers.{{}}.1.{index}.", "block{+1}.{}.") for rule in block),
    ]


TABLES = ("pos_embed3", "pos_embed4")
KEYS = {
    "pvt": [
        *ignored("cls_token", "norm.*", "head.*"),
        KeyRule(TABLES, TABLES, drop_class_row, lambda *tables: tables),
        *same("pos_embed{}", "patch_embed{}.*", "block{}.*"),
    ],
    "mmdet": [KeyRule("layers.{}.1.0.pos_embed", "pos_embed{+1}"), *mmdet_keys("{+1}", fc2=3)],
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
        "embed_dims": ("arch.embed_dims", 64), "num_heads": ("arch.num_heads", (1, 2, 5, 8)),
        "num_layers": ("arch.depths", (3, 4, 6, 3)), "mlp_ratios": ("arch.mlp_ratios", (8, 8, 4, 4)),
        "sr_ratios": ("arch.sr_ratios", (8, 4, 2, 1)), "qkv_bias": ("qkv_bias", True),
        "drop_path_rate": ("drop_path_rate", 0.1), "out_indices": ("out_indices", (0, 1, 2, 3), indices),
        "norm_cfg": ("norm_eps", None, LAYER_NORM),
    },
    fixed={"in_channels": 3, **GELU, **NO_DROPOUT}, ignored=("pretrained", "convert_weights", "init_cfg"),
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
    first_grid, first_flags = STYLES["PVT"]
    grid = tuple(
        tuple(reader.pop(k, v)) for k, v in zip(("patch_sizes", "strides", "paddings"), first_grid, strict=True)
    )
    keys = ("use_abs_pos_embed", "norm_after_stage", "use_conv_ffn")
    flags = tuple(bool(reader.pop(k, v)) for k, v in zip(keys, first_flags, strict=True))
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


def named(prefix: str, archs: Mapping[str, Mapping], **options: Any) -> dict[str, dict]:
    """The options of named sizes, by their names."""
    options |= {"qkv_bias": True, "norm_layer": "eps=1e-6"}
    return {f"{prefix}_{name}": {**options, **arch} for name, arch in archs.items()}


def finish_official(config: dict[str, Any], reader: ConfigReader) -> None:
    """Stages that are there, and the maps that are given."""
    stages = reader.pop("num_stages", 4)
    config["arch"] = {key: list(values)[:stages] for key, values in config["arch"].items()}
    config["out_indices"] = (stages - 1,) if reader.pop("F4", False) else tuple(range(stages))


OFFICIAL = ConfigSpec(
    keys={
        "embed_dims": ("arch.embed_dims", (64, 128, 256, 512)), "depths": ("arch.depths", (3, 4, 6, 3)),
        "num_heads": ("arch.num_heads", (1, 2, 4, 8)), "mlp_ratios": ("arch.mlp_ratios", (4, 4, 4, 4)),
        "sr_ratios": ("arch.sr_ratios", (8, 4, 2, 1)), "qkv_bias": ("qkv_bias", False),
        "drop_path_rate": ("drop_path_rate", 0.0), "norm_layer": ("norm_eps", "nn.LayerNorm", norm_layer_eps),
    },
    constants={"embed_norm_eps": LN_EPS}, fixed={"in_chans": 3, "qk_scale": None, **NO_DROPOUT},
    ignored=("num_classes", "style", "pretrained", "init_cfg"), finish=finish_official,
)  # fmt: skip
"""What both generations have in whai362/PVT, with its defaults."""
NAMED = named("pvt", PVT, drop_path_rate=0.1, patch_size=4)
PVT_OFFICIAL = OFFICIAL.but(
    type="PVT",
    keys={"img_size": ("pretrain_size", 224), "patch_size": ("patch_size", 16)},
    constants={"ceil_mode": False, "keep_pos_embed_if_same_length": True},
    finish=lambda config, reader: (finish_official(config, reader), _patches_of_4(config, reader))[1],
)


def _patches_of_4(config: dict[str, Any], reader: ConfigReader) -> None:
    if (patch := config.pop("patch_size")) != 4:
        raise ConfigError(f"{reader.where}.patch_size is {patch}; densevit's PVT starts with patches of 4.")


ARCHITECTURE = Architecture(
    "PVT",
    keys=KEYS,
    configs={
        "mmdet": {"PyramidVisionTransformer": MMDET.but(finish=_of_style)},
        "pvt": {
            "PyramidVisionTransformer": PVT_OFFICIAL,
            **{name: PVT_OFFICIAL.but(defaults=options) for name, options in NAMED.items()},
        },
    },
)
