"""PVT v1: names and configurations of whai362/PVT and mmdetection.

Ours are whai362's names, less the class token and what only classification needs.
"""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from densevit.checkpoints.rules import Rule
from densevit.checkpoints.settings import Settings
from densevit.errors import ConfigError

LN_EPS = 1e-5
"""What torch's LayerNorm and mmcv's build_norm_layer take where nothing is said."""


def split_query(packed: Tensor) -> tuple[Tensor, Tensor]:
    """nn.MultiheadAttention's packed projection (3C, ...) into query (C, ...) and key with value (2C, ...)."""
    dim = packed.shape[0] // 3
    return packed[:dim], packed[dim:]


def pack_query(query: Tensor, key_value: Tensor) -> Tensor:
    """The way back of `split_query`."""
    return torch.cat((query, key_value))


def to_linear(weight: Tensor) -> Tensor:
    """A 1x1 convolution's weight (O, I, 1, 1) as a linear layer's (O, I)."""
    return weight.flatten(1)


def to_convolution(weight: Tensor) -> Tensor:
    """The way back of `to_linear`."""
    return weight[:, :, None, None]


def with_zero_bias(weight: Tensor) -> tuple[Tensor, Tensor]:
    """mmdetection's `qkv_bias=False` removes the output projection's bias too, where ours keeps one: of zeros."""
    return weight, weight.new_zeros(len(weight))


def drop_class_row(third: Tensor, fourth: Tensor) -> tuple[Tensor, Tensor]:
    """Stage 4's position table (1, N, C) without its first row, the class token's, where it has one.

    Stage 3's table is twice as high and wide, which tells the two apart; where sides are odd, a square does.
    """
    places, above = fourth.shape[1], third.shape[1]
    if 4 * places != above and (4 * (places - 1) == above or (_is_square(places - 1) and not _is_square(places))):
        fourth = fourth[:, 1:]
    return third, fourth


def _is_square(number: int) -> bool:
    return number > 0 and round(number**0.5) ** 2 == number


def mmdet_blocks(index: str, fc2: int) -> list[Rule]:
    """mmdetection's blocks. index: how a block's number is written; fc2: place of the MLP's second layer."""
    theirs, ours = f"layers.{{}}.1.{index}", "block{+1}.{}"
    rules = [Rule(f"{theirs}.{name}.*", f"{ours}.{name}.*") for name in ("norm1", "norm2", "attn.sr", "attn.norm")]
    for kind in ("weight", "bias"):
        packed = f"{theirs}.attn.attn.in_proj_{kind}"
        parts = (f"{ours}.attn.q.{kind}", f"{ours}.attn.kv.{kind}")
        rules.append(Rule(packed, parts, split_query, pack_query))
    out, proj = f"{theirs}.attn.attn.out_proj", f"{ours}.attn.proj"
    both = (f"{proj}.weight", f"{proj}.bias")
    rules.append(Rule((f"{out}.weight", f"{out}.bias"), both))
    rules.append(Rule(f"{out}.weight", both, with_zero_bias, lambda weight, bias: weight))
    for place, name in ((0, "fc1"), (fc2, "fc2")):
        layer, linear = f"{theirs}.ffn.layers.{place}", f"{ours}.mlp.{name}"
        rules.append(Rule(f"{layer}.weight", f"{linear}.weight", to_linear, to_convolution))
        rules.append(Rule(f"{layer}.bias", f"{linear}.bias"))
    return rules


MMDET_EMBED = [
    Rule("layers.{}.0.projection.*", "patch_embed{+1}.proj.*"),
    Rule("layers.{}.0.norm.*", "patch_embed{+1}.norm.*"),
]
TABLES = {
    "whai362": [
        Rule("cls_token", None),
        Rule("norm.*", None),
        Rule("head.*", None),
        Rule(("pos_embed3", "pos_embed4"), ("pos_embed3", "pos_embed4"), drop_class_row, lambda *tables: tables),
        Rule("pos_embed{}", "pos_embed{}"),
        Rule("patch_embed{}.*", "patch_embed{}.*"),
        Rule("block{}.*", "block{}.*"),
    ],
    "mmdet": [
        *MMDET_EMBED,
        Rule("layers.{}.1.0.pos_embed", "pos_embed{+1}"),
        *mmdet_blocks("{+1}", fc2=3),
    ],
}


def mmdet_norm_eps(settings: Settings) -> float:
    """eps of `norm_cfg`, one for all of mmdetection's norms here."""
    given = settings.take("norm_cfg", None)
    norm = Settings({"type": "LN", "eps": 1e-6} if given is None else given, f"{settings.where}.norm_cfg")
    if norm.type != "LN":
        raise ConfigError(f"{norm.where}.type is {norm.type!r}; densevit has LayerNorms ('LN') there.")
    eps = norm.take("eps", LN_EPS)
    norm.ignore("requires_grad")
    norm.done()
    return eps


def mmdet_sizes(settings: Settings) -> dict[str, list]:
    """`arch` from mmdetection's arguments, with mmdetection's defaults."""
    heads = list(settings.take("num_heads", [1, 2, 5, 8]))
    stages, width = settings.take("num_stages", 4), settings.take("embed_dims", 64)
    sizes = {
        "embed_dims": [width * number for number in heads],
        "depths": list(settings.take("num_layers", [3, 4, 6, 3])),
        "num_heads": heads,
        "mlp_ratios": list(settings.take("mlp_ratios", [8, 8, 4, 4])),
        "sr_ratios": list(settings.take("sr_ratios", [8, 4, 2, 1])),
    }
    for key, values in sizes.items():
        if len(values) < stages or (key != "mlp_ratios" and len(values) != stages):
            raise ConfigError(f"{settings.where}: {key} has {len(values)} values for {stages} stages.")
        sizes[key] = values[:stages]
    return sizes


def mmdet_rest(settings: Settings) -> dict[str, Any]:
    """What both generations take alike: drop path, outputs, bias; and what densevit has one value for."""
    settings.expect("in_channels", 3)
    settings.expect("act_cfg", {"type": "GELU"})
    for key in ("drop_rate", "attn_drop_rate"):
        settings.expect(key, 0.0, [0])
    settings.ignore("pretrained", "convert_weights", "init_cfg")
    indices = settings.take("out_indices", (0, 1, 2, 3))
    return {
        "qkv_bias": settings.take("qkv_bias", True),
        "drop_path_rate": settings.take("drop_path_rate", 0.1),
        "out_indices": tuple(sorted(indices)) if isinstance(indices, (list, tuple)) else (indices,),
    }


def from_mmdet(settings: Settings) -> dict[str, Any]:
    """PyramidVisionTransformer of mmdetection: PVT, or PVTv2 where it is told to be one."""
    sizes, rest, eps = mmdet_sizes(settings), mmdet_rest(settings), mmdet_norm_eps(settings)
    stages = len(sizes["depths"])
    defaults = {"patch_sizes": [4, 2, 2, 2], "strides": [4, 2, 2, 2], "paddings": [0, 0, 0, 0]}
    grid = tuple(tuple(settings.take(key, value)) for key, value in defaults.items())
    style = tuple(
        bool(settings.take(key, value))
        for key, value in (("use_abs_pos_embed", True), ("norm_after_stage", False), ("use_conv_ffn", False))
    )
    pretrain = settings.take("pretrain_img_size", 224)
    size = pretrain[0] if isinstance(pretrain, (list, tuple)) and len(pretrain) == 1 else pretrain
    settings.done()
    shared = {"arch": sizes, **rest, "norm_eps": eps, "embed_norm_eps": eps}
    first = tuple(tuple(values[:stages]) for values in ((4, 2, 2, 2), (4, 2, 2, 2), (0, 0, 0, 0)))
    if (grid, style) == (first, (True, False, False)):
        return {"type": "PVT", **shared, "pretrain_size": size, "odd_sizes": "drop"}
    second = tuple(tuple(values[:stages]) for values in ((7, 3, 3, 3), (4, 2, 2, 2), (3, 1, 1, 1)))
    if (grid, style) == (second, (False, True, True)):
        return {"type": "PVTv2", **shared, "arch": {**sizes, "linear": False}}
    raise ConfigError(
        f"{settings.where} is a mixture of PVT and PVT v2 that densevit has no model of (patch_sizes, strides, "
        f"paddings {grid}; use_abs_pos_embed, norm_after_stage, use_conv_ffn {style})."
    )


PVT_SIZES = {"tiny": [2, 2, 2, 2], "small": [3, 4, 6, 3], "medium": [3, 4, 18, 3], "large": [3, 8, 27, 3]}
PUBLISHED = {"embed_dims": [64, 128, 320, 512], "num_heads": [1, 2, 5, 8], "qkv_bias": True, "norm_layer": "eps=1e-6"}
NAMED = {f"pvt_{name}": {**PUBLISHED, "mlp_ratios": [8, 8, 4, 4], "depths": d} for name, d in PVT_SIZES.items()}


def official_norm_eps(settings: Settings) -> float:
    """eps out of `norm_layer`, which is text: 'partial(nn.LayerNorm, eps=1e-6)'."""
    text = str(settings.take("norm_layer", "nn.LayerNorm"))
    found = re.search(r"eps\s*=\s*([0-9.eE+-]+)", text)
    if found is None and "LayerNorm" not in text:
        raise ConfigError(f"{settings.where}.norm_layer is {text!r}; densevit has LayerNorms there.")
    return float(found.group(1)) if found else LN_EPS


def official(settings: Settings, named: Mapping[str, Mapping]) -> dict[str, Any]:
    """What both generations of whai362/PVT take alike, with that repository's defaults.

    named: arguments behind a type such as 'pvt_small', whose drop path is 0.1 in detection.
    """
    if settings.type in named:
        settings.left = {"drop_path_rate": 0.1, **named[settings.type], **settings.left}
    settings.expect("in_chans", 3)
    settings.expect("qk_scale", None)
    for key in ("drop_rate", "attn_drop_rate"):
        settings.expect(key, 0.0, [0])
    settings.ignore("num_classes", "style", "pretrained", "init_cfg", "patch_size")
    stages = settings.take("num_stages", 4)
    defaults = {
        "embed_dims": [64, 128, 256, 512],
        "depths": [3, 4, 6, 3],
        "num_heads": [1, 2, 4, 8],
        "mlp_ratios": [4, 4, 4, 4],
        "sr_ratios": [8, 4, 2, 1],
    }
    arch = {key: list(settings.take(key, value))[:stages] for key, value in defaults.items()}
    last_alone = settings.take("F4", False)
    return {
        "arch": arch,
        "qkv_bias": settings.take("qkv_bias", False),
        "drop_path_rate": settings.take("drop_path_rate", 0.0),
        "out_indices": (stages - 1,) if last_alone else tuple(range(stages)),
        "norm_eps": official_norm_eps(settings),
        "embed_norm_eps": LN_EPS,
    }


def from_official(settings: Settings) -> dict[str, Any]:
    """PyramidVisionTransformer of whai362/PVT, or one of its named sizes."""
    patch = settings.left.get("patch_size", 4 if settings.type in NAMED else 16)
    if patch != 4:
        raise ConfigError(f"{settings.where}.patch_size is {patch}; densevit's PVT starts with patches of 4.")
    config = official(settings, NAMED)
    size = settings.take("img_size", 224)
    settings.done()
    return {
        "type": "PVT",
        **config,
        "pretrain_size": size if isinstance(size, int) else tuple(size),
        "odd_sizes": "drop",
        "keep_table_on_equal_count": True,
    }


CONFIGS = {
    ("mmdet", "PyramidVisionTransformer"): from_mmdet,
    **{("whai362", name): from_official for name in ("PyramidVisionTransformer", *NAMED)},
}
