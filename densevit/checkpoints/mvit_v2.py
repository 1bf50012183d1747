"""MViTv2: names and configurations of the paper's repository (facebookresearch/mvit), detectron2 and timm.

Ours are the repository's names, and detectron2's for the norms of the maps.
"""

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from densevit.checkpoints.pvt import LN_EPS
from densevit.checkpoints.rules import Rule
from densevit.checkpoints.settings import Settings
from densevit.errors import ConfigError

OFFICIAL = [
    Rule("head.*", None),
    *(Rule(name, name) for name in ("patch_embed.*", "blocks.{}.*", "pos_embed", "cls_token", "norm.*")),
]
DETECTRON2 = [Rule("scale{}_norm.*", "scale{}_norm.*"), *OFFICIAL]


def timm_rules(names: Iterable[str]) -> list[Rule]:
    """timm counts the blocks of each stage for itself: how many there are before a stage is told by the names."""
    places = [re.match(r"stages\.(\d+)\.blocks\.(\d+)\.", name) for name in names]
    depths: dict[int, int] = {}
    for stage, block in (map(int, place.groups()) for place in places if place):
        depths[stage] = max(depths.get(stage, 0), block + 1)
    rules = list(OFFICIAL)
    for stage in depths:
        ours = f"blocks.{{+{sum(depth for i, depth in depths.items() if i < stage)}}}"
        theirs = f"stages.{stage}.blocks.{{}}"
        rules += [Rule(f"{theirs}.shortcut_proj_{branch}.*", f"{ours}.proj.*") for branch in ("attn", "mlp")]
        rules.append(Rule(f"{theirs}.*", f"{ours}.*"))
    return rules


TABLES = {"facebookresearch-mvit": OFFICIAL, "detectron2": DETECTRON2, "timm": timm_rules}
FRESH = r"scale\d+_norm\.(weight|bias)"
UNUSED = r"norm\..*|cls_token"
SIZES = {
    "tiny": {"depths": (1, 2, 5, 2)},
    "small": {"depths": (1, 2, 11, 2)},
    "base": {"depths": (2, 3, 16, 3)},
    "large": {"depths": (2, 6, 36, 4), "embed_dim": 144, "num_heads": 2},
    "huge": {"depths": (4, 8, 60, 8), "embed_dim": 192, "num_heads": 3},
}
TIMM_NAMED = {
    **{f"mvitv2_{size}": sizes for size, sizes in SIZES.items() if size != "huge"},
    **{f"mvitv2_{size}_cls": {**sizes, "use_cls_token": True} for size, sizes in SIZES.items() if size != "tiny"},
}
TIMM_NAMED["mvitv2_large"] = {**SIZES["large"], "expand_attn": False}
CLASSIFIER = {"window_size": 0, "double_kv_stride": False, "output_norm": "last"}
"""What sets a classifier apart from a detector's backbone."""


def from_detectron2(settings: Settings) -> dict[str, Any]:
    """detectron2's MViT."""
    settings.expect("in_chans", 3)
    settings.expect("patch_kernel", (7, 7))
    settings.expect("patch_stride", (4, 4))
    settings.expect("patch_padding", (3, 3))
    settings.expect("qkv_pool_kernel", (3, 3))
    settings.expect("act_layer", None, _spellings("GELU", "torch.nn.GELU", "torch.nn.modules.activation.GELU"))
    settings.ignore("rel_pos_zero_init", "use_act_checkpoint", "pretrain_use_cls_token")
    depth, ends = settings.take("depth", 16), list(settings.take("last_block_indexes", (0, 2, 11, 15)))
    depths = [after - before for before, after in zip([-1, *ends], ends, strict=False)]
    if not ends or min(depths) < 1 or ends[-1] != depth - 1:
        raise ConfigError(
            f"{settings.where}.last_block_indexes are {ends}: densevit's stages end one after the other, the last with "
            f"block {depth - 1}."
        )
    if len(depths) != 4:
        raise ConfigError(f"{settings.where}.last_block_indexes are {ends}; densevit's MViTv2 has four stages.")
    image, pretrained = settings.take("img_size", 224), settings.take("pretrain_img_size", 224)
    absolute = settings.take("use_abs_pos", False)
    if absolute and image != pretrained:
        raise ConfigError(
            f"{settings.where}.img_size is {image} and pretrain_img_size {pretrained}; densevit has one size for both."
        )
    features = list(settings.take("out_features", tuple(f"scale{i + 2}" for i in range(4))))
    known = [f"scale{i + 2}" for i in range(4)]
    if not features or not set(features) <= set(known):
        raise ConfigError(f"{settings.where}.out_features are {features}: choose from {', '.join(known)}.")
    config = {
        "type": "MViTv2",
        "arch": _arch(settings, depths),
        "img_size": image,
        "window_size": settings.take("adaptive_window_size", 56),
        "kv_stride": settings.take("adaptive_kv_stride", 4),
        "residual_pooling": settings.take("residual_pooling", True),
        "relative_positions": settings.take("use_rel_pos", True),
        "absolute_positions": absolute,
        "qkv_bias": settings.take("qkv_bias", True),
        "drop_path_rate": settings.take("drop_path_rate", 0.0),
        "out_indices": tuple(i for i, name in enumerate(known) if name in features),
        "norm_eps": _norm_eps(settings),
    }
    settings.done()
    return config


def _norm_eps(settings: Settings) -> float:
    """eps out of `norm_layer`, a class or a partial of one as lazy configurations write it."""
    norm = settings.take("norm_layer", "torch.nn.LayerNorm")
    given = norm if isinstance(norm, Mapping) else {"_target_": norm}
    name = given.get("_partial_", given.get("_target_", ""))
    if not str(name).endswith("LayerNorm"):
        raise ConfigError(f"{settings.where}.norm_layer is {norm!r}; densevit has LayerNorms there.")
    return given.get("eps", LN_EPS)


def _spellings(*names: str) -> tuple:
    """A class as lazy configurations write it."""
    return (*names, *({"_target_": name} for name in names))


def _arch(settings: Settings, depths: Iterable[int]) -> dict[str, Any]:
    """`arch` of the first stage's width and heads, which double."""
    width, heads, depths = settings.take("embed_dim", 96), settings.take("num_heads", 1), list(depths)
    return {
        "embed_dims": list(width) if _is_list(width) else [width * 2**i for i in range(len(depths))],
        "depths": depths,
        "num_heads": list(heads) if _is_list(heads) else [heads * 2**i for i in range(len(depths))],
        "mlp_ratio": settings.take("mlp_ratio", 4.0),
    }


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple))


def from_official(settings: Settings) -> dict[str, Any]:
    """The repository's configuration, `MVIT` and what stands beside it."""
    mvit, data = settings.part("MVIT"), settings.part("DATA", {})
    settings.ignore("MODEL", "TRAIN", "TEST", "SOLVER", "AUG", "MIXUP", "NUM_GPUS", "OUTPUT_DIR", "TASK", "RNG_SEED")
    image = data.take("TRAIN_CROP_SIZE", 224)
    if (test := data.take("TEST_CROP_SIZE", image)) != image:
        raise ConfigError(f"{data.where}.TEST_CROP_SIZE is {test} and TRAIN_CROP_SIZE {image}; densevit has one size.")
    settings.done()
    mvit.expect("MODE", "conv")
    mvit.expect("POOL_FIRST", False)
    mvit.expect("PATCH_KERNEL", [7, 7])
    mvit.expect("PATCH_STRIDE", [4, 4])
    mvit.expect("PATCH_PADDING", [3, 3])
    mvit.expect("POOL_KVQ_KERNEL", [3, 3])
    mvit.ignore("ZERO_DECAY_POS_CLS", "REL_POS_ZERO_INIT")
    depth = mvit.take("DEPTH", 16)
    strides = _per_block(mvit, "POOL_Q_STRIDE", depth)
    if set(strides) != set(range(depth)) or any(stride not in ((1, 1), (2, 2)) for stride in strides.values()):
        raise ConfigError(
            f"{mvit.where}.POOL_Q_STRIDE is {strides}; densevit's MViTv2 pools the queries of every block, by 1 or 2."
        )
    starts = [0, *(i for i, stride in sorted(strides.items()) if stride == (2, 2))]
    if len(set(starts)) != 4:
        raise ConfigError(f"{mvit.where}.POOL_Q_STRIDE halves at {starts[1:]}; densevit's MViTv2 has four stages.")
    arch = {
        "embed_dims": _growing(mvit, "DIM_MUL", mvit.take("EMBED_DIM", 96), starts),
        "depths": [after - before for before, after in zip(starts, [*starts[1:], depth], strict=True)],
        "num_heads": _growing(mvit, "HEAD_MUL", mvit.take("NUM_HEADS", 1), starts),
        "mlp_ratio": mvit.take("MLP_RATIO", 4.0),
    }
    config = {
        "type": "MViTv2",
        "arch": arch,
        "img_size": image,
        **CLASSIFIER,
        "kv_stride": _kv_stride(mvit, strides, starts),
        "grow_in": "attention" if mvit.take("DIM_MUL_IN_ATT", False) else "mlp",
        "residual_pooling": mvit.take("RESIDUAL_POOLING", False),
        "relative_positions": mvit.take("REL_POS_SPATIAL", False),
        "absolute_positions": mvit.take("USE_ABS_POS", False),
        "class_token": mvit.take("CLS_EMBED_ON", False),
        "qkv_bias": mvit.take("QKV_BIAS", True),
        "drop_path_rate": mvit.take("DROPPATH_RATE", 0.1),
    }
    mvit.done()
    return config


def _per_block(mvit: Settings, key: str, depth: int) -> dict[int, tuple[int, ...]]:
    """What a list of [block, values...] says of each block."""
    rows = {int(row[0]): tuple(row[1:]) for row in mvit.take(key, [])}
    if not set(rows) <= set(range(depth + 1)):
        raise ConfigError(f"{mvit.where}.{key} speaks of blocks {sorted(rows)}, but there are {depth}.")
    return rows


def _growing(mvit: Settings, key: str, start: int, starts: list[int]) -> list[int]:
    """Channels or heads of each stage: they are multiplied where a stage starts, and only there."""
    factors = {int(block): factor for block, factor in mvit.take(key, []) if factor != 1}
    if not set(factors) <= set(starts[1:]):
        raise ConfigError(f"{mvit.where}.{key} multiplies at {sorted(factors)}, but stages start at {starts[1:]}.")
    values = [start]
    for block in starts[1:]:
        value = values[-1] * factors.get(block, 1)
        if value != int(value):
            raise ConfigError(f"{mvit.where}.{key} gives {value} at block {block}; densevit does not round.")
        values.append(int(value))
    return values


def _kv_stride(mvit: Settings, strides: Mapping, starts: list[int]) -> int:
    """Stride of keys and values in the first stage, which halves wherever that of the queries is 2."""
    adaptive = mvit.take("POOL_KV_STRIDE_ADAPTIVE", None)
    listed = _per_block(mvit, "POOL_KV_STRIDE", len(strides))
    if adaptive is None:
        adaptive = listed.get(0, (1, 1))
    first = int(adaptive[0])
    wanted = {
        block: (max(first >> stage, 1),) * 2
        for stage, (start, end) in enumerate(zip(starts, [*starts[1:], len(strides)], strict=True))
        for block in range(start, end)
    }
    if adaptive[0] != adaptive[1] or math.log2(first) % 1 or (listed and listed != wanted):
        raise ConfigError(
            f"{mvit.where} pools keys by {adaptive} ({listed or 'adaptive'}); densevit's stride of keys is a power of "
            f"two that halves from stage to stage."
        )
    return first


def from_timm(settings: Settings) -> dict[str, Any]:
    """timm's mvitv2_*: the arguments of its configuration, or its config.json (`architecture`, `model_args`)."""
    name = str(settings.take("architecture", settings.type)).split(".")[0]
    facts, given = settings.take("pretrained_cfg", {}), dict(settings.take("model_args", {}))
    if len(facts.get("input_size", ())) == 3:
        given = {"img_size": facts["input_size"][1:], **given}
    for key, value in {**TIMM_NAMED.get(name, {}), **given, **dict(settings.take("cfg", {}))}.items():
        settings.left.setdefault(key, value)
    settings.expect("in_chans", 3)
    settings.expect("drop_rate", 0.0, [0])
    settings.expect("mode", "conv")
    settings.expect("pool_first", False)
    settings.expect("pool_type", "max")
    settings.expect("norm_layer", "layernorm")
    settings.expect("act_layer", "gelu")
    for key, value in (("patch_kernel", 7), ("patch_stride", 4), ("patch_padding", 3), ("kernel_qkv", 3)):
        settings.expect(key, (value, value))
    settings.expect("stride_q", ((1, 1), (2, 2), (2, 2), (2, 2)))
    settings.expect("stride_kv", None)
    settings.ignore("num_classes", "num_features", "global_pool", "features_only", "pretrained")
    image, kv = settings.take("img_size", 224), settings.take("stride_kv_adaptive", (4, 4))
    sides = tuple(image) if _is_list(image) else (image, image)
    if sides[0] != sides[1] or kv[0] != kv[1]:
        raise ConfigError(f"{settings.where} has img_size {image} and stride_kv_adaptive {kv}; densevit's are square.")
    config = {
        "type": "MViTv2",
        "arch": _arch(settings, settings.take("depths")),
        "img_size": sides[0],
        **CLASSIFIER,
        "kv_stride": kv[0],
        "grow_in": "attention" if settings.take("expand_attn", True) else "mlp",
        "residual_pooling": settings.take("residual_pooling", True),
        "relative_positions": settings.take("rel_pos_type", "spatial") == "spatial",
        "absolute_positions": settings.take("use_abs_pos", False),
        "class_token": settings.take("use_cls_token", False),
        "class_residual": True,
        "qkv_bias": settings.take("qkv_bias", True),
        "drop_path_rate": settings.take("drop_path_rate", 0.0),
        "out_indices": tuple(settings.take("out_indices", (0, 1, 2, 3))),
        "norm_eps": settings.take("norm_eps", 1e-6),
    }
    settings.done()
    return config


CONFIGS = {
    ("detectron2", "MViT"): from_detectron2,
    ("facebookresearch-mvit", None): from_official,
    **{("timm", name): from_timm for name in ("MultiScaleVit", *TIMM_NAMED)},
}
"""(source, their type) -> our configuration."""
