"""MViTv2: the paper's repository (facebookresearch/mvit), detectron2 and timm.

Ours are the repository's names, and detectron2's for the norms of the maps.
"""

import math
import re
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any

from densevit.archs import MVIT_V2
from densevit.converters.architectures.vit_configs import gelu, layer_norm
from densevit.converters.config_spec import (
    REQUIRED,
    ZERO,
    Architecture,
    ConfigReader,
    ConfigSpec,
    Tolerated,
    add_defaults,
    same,
    side_pair,
)
from densevit.converters.key_mapping import KeyRule, rules, within
from densevit.errors import ConfigError

# ---- names -------------------------------------------------------------------------------------------

OFFICIAL = rules("!head. patch_embed. blocks.{}. pos_embed cls_token norm.")
BLOCK = rules("shortcut_proj_attn.->proj. shortcut_proj_mlp.->proj. *")


def timm_keys(names: Iterable[str]) -> list[KeyRule]:
    """timm counts the blocks of each stage for itself: how many there are before a stage follows from the names."""
    found = [re.match(r"stages\.(\d+)\.blocks\.(\d+)\.", name) for name in names]
    depths: dict[int, int] = {}
    for stage, block in (map(int, numbers.groups()) for numbers in found if numbers):
        depths[stage] = max(depths.get(stage, 0), block + 1)
    mapping = list(OFFICIAL)
    for stage in depths:
        before = sum(depth for i, depth in depths.items() if i < stage)
        mapping += within(BLOCK, f"stages.{stage}.blocks.{{}}.", f"blocks.{{+{before}}}.")
    return mapping


# ---- configurations ----------------------------------------------------------------------------------


def _each(first: Any) -> list:
    """Channels or heads of each stage, which double."""
    return list(first) if isinstance(first, (list, tuple)) else [first * 2**i for i in range(4)]


def _four_stages(reader: ConfigReader, key: str, starts: list[int], depth: int) -> list[int]:
    """Depths of stages that start at these blocks."""
    depths = [after - before for before, after in pairwise([*starts, depth])]
    if len(depths) != 4 or min(depths) < 1:
        raise ConfigError(
            f"{reader.where}.{key}: stages start at {starts} of {depth} blocks; densevit has four stages."
        )
    return depths


CLASSIFIER = {"window_size": 0, "double_kv_stride": False, "output_norm": "last"}
"""What distinguishes a classifier from a detector's backbone."""
SCALES = tuple(f"scale{i + 2}" for i in range(4))
OPTIONS = {
    "embed_dim": ("arch.embed_dims", 96, _each), "num_heads": ("arch.num_heads", 1, _each),
    **same("arch.", mlp_ratio=4.0), **same(qkv_bias=True, drop_path_rate=0.0, residual_pooling=True),
    "use_abs_pos": ("absolute_positions", False),
}  # fmt: skip
PATCHES = {"patch_kernel": (7, 7), "patch_stride": (4, 4), "patch_padding": (3, 3)}
GROW_IN = {True: "attention", False: "mlp"}


def _finish_detectron2(config: dict[str, Any], reader: ConfigReader) -> None:
    depth, ends = reader.pop("depth", 16), list(reader.pop("last_block_indexes", (0, 2, 11, 15)))
    starts = [0, *(end + 1 for end in ends[:-1])]
    depths = _four_stages(reader, "last_block_indexes", starts, depth)
    if ends[-1] != depth - 1:
        raise ConfigError(f"{reader.where}.last_block_indexes are {ends}: the last stage ends with block {depth - 1}.")
    config["arch"]["depths"] = depths
    image, pretrained = config["img_size"], reader.pop("pretrain_img_size", 224)
    if config["absolute_positions"] and image != pretrained:
        raise ConfigError(
            f"{reader.where}.img_size is {image} and pretrain_img_size {pretrained}; densevit has one size for both."
        )
    features = list(reader.pop("out_features", SCALES))
    if not features or not set(features) <= set(SCALES):
        raise ConfigError(f"{reader.where}.out_features are {features}: choose from {', '.join(SCALES)}.")
    config["out_indices"] = tuple(i for i, name in enumerate(SCALES) if name in features)


DETECTRON2 = ConfigSpec(
    "MViTv2",
    keys={
        **OPTIONS, **same(img_size=224), "adaptive_window_size": ("window_size", 56),
        "adaptive_kv_stride": ("kv_stride", 4), "use_rel_pos": ("relative_positions", True),
        "norm_layer": ("norm_eps", "LayerNorm", layer_norm), "act_layer": (None, "GELU", gelu),
    },
    fixed={"in_chans": 3, **PATCHES, "qkv_pool_kernel": (3, 3)},
    ignored="rel_pos_zero_init use_act_checkpoint pretrain_use_cls_token", finish=_finish_detectron2,
)  # fmt: skip


def _finish_official(config: dict[str, Any], mvit: ConfigReader) -> None:
    depth = mvit.pop("DEPTH", 16)
    strides = _per_block(mvit, "POOL_Q_STRIDE", depth)
    if set(strides) != set(range(depth)) or any(stride not in ((1, 1), (2, 2)) for stride in strides.values()):
        raise ConfigError(
            f"{mvit.where}.POOL_Q_STRIDE is {strides}; densevit's MViTv2 pools the queries of every block, by 1 or 2."
        )
    starts = [0, *(i for i, stride in sorted(strides.items()) if stride == (2, 2))]
    config["arch"] |= {
        "depths": _four_stages(mvit, "POOL_Q_STRIDE", list(dict.fromkeys(starts)), depth),
        "embed_dims": _growing(mvit, "DIM_MUL", mvit.pop("EMBED_DIM", 96), starts),
        "num_heads": _growing(mvit, "HEAD_MUL", mvit.pop("NUM_HEADS", 1), starts),
    }
    config["kv_stride"] = _kv_stride(mvit, strides, starts)


def _per_block(mvit: ConfigReader, key: str, depth: int) -> dict[int, tuple[int, ...]]:
    """What a list of [block, values...] has for each block."""
    rows = {int(row[0]): tuple(row[1:]) for row in mvit.pop(key, [])}
    if not set(rows) <= set(range(depth + 1)):
        raise ConfigError(f"{mvit.where}.{key} is of blocks {sorted(rows)}, but there are {depth}.")
    return rows


def _growing(mvit: ConfigReader, key: str, start: int, starts: list[int]) -> list[int]:
    """Channels or heads of each stage: they are multiplied where a stage starts, and only there."""
    factors = {int(block): factor for block, factor in mvit.pop(key, []) if factor != 1}
    if not set(factors) <= set(starts[1:]):
        raise ConfigError(f"{mvit.where}.{key} multiplies at {sorted(factors)}, but stages start at {starts[1:]}.")
    values = [start]
    for block in starts[1:]:
        value = values[-1] * factors.get(block, 1)
        if value != int(value):
            raise ConfigError(f"{mvit.where}.{key} gives {value} at block {block}; densevit does not round.")
        values.append(int(value))
    return values


def _kv_stride(mvit: ConfigReader, strides: Mapping, starts: list[int]) -> int:
    """Stride of keys and values in the first stage, which halves wherever that of the queries is 2."""
    adaptive = mvit.pop("POOL_KV_STRIDE_ADAPTIVE", None)
    listed = _per_block(mvit, "POOL_KV_STRIDE", len(strides))
    adaptive = listed.get(0, (1, 1)) if adaptive is None else adaptive
    first = int(adaptive[0])
    wanted = {
        block: (max(first >> stage, 1),) * 2
        for stage, (start, end) in enumerate(pairwise([*starts, len(strides)]))
        for block in range(start, end)
    }
    if adaptive[0] != adaptive[1] or math.log2(first) % 1 or (listed and listed != wanted):
        raise ConfigError(
            f"{mvit.where} pools keys by {adaptive} ({listed or 'adaptive'}); densevit's stride of keys is a power of "
            f"two that halves from stage to stage."
        )
    return first


MVIT = ConfigSpec(
    keys={
        "MLP_RATIO": ("arch.mlp_ratio", 4.0),
        "DIM_MUL_IN_ATT": ("grow_in", False, GROW_IN),
        "RESIDUAL_POOLING": ("residual_pooling", False), "REL_POS_SPATIAL": ("relative_positions", False),
        "USE_ABS_POS": ("absolute_positions", False), "CLS_EMBED_ON": ("class_token", False),
        "QKV_BIAS": ("qkv_bias", True), "DROPPATH_RATE": ("drop_path_rate", 0.1),
    },
    fixed={
        "MODE": "conv", "POOL_FIRST": False, "POOL_KVQ_KERNEL": [3, 3],
        **{key.upper(): value for key, value in PATCHES.items()},
    },
    ignored="ZERO_DECAY_POS_CLS REL_POS_ZERO_INIT", finish=_finish_official,
)  # fmt: skip


def _one_crop(config: dict[str, Any], data: ConfigReader) -> int:
    image = data.pop("TRAIN_CROP_SIZE", 224)
    data.require("TEST_CROP_SIZE", image)
    return image


REPOSITORY = ConfigSpec(
    "MViTv2",
    keys={"MVIT": (None, REQUIRED, MVIT), "DATA": ("img_size", {}, ConfigSpec(finish=_one_crop))},
    constants=CLASSIFIER, ignored="MODEL TRAIN TEST SOLVER AUG MIXUP NUM_GPUS OUTPUT_DIR TASK RNG_SEED",
)  # fmt: skip
"""The repository's configuration, `MVIT` and what is beside it."""


def _finish_timm(config: dict[str, Any], reader: ConfigReader) -> None:
    image, kv = config["img_size"], config["kv_stride"]
    if image[0] != image[1] or kv[0] != kv[1]:
        raise ConfigError(f"{reader.where} has img_size {image} and stride_kv_adaptive {kv}; densevit's are square.")
    config |= {"img_size": image[0], "kv_stride": kv[0]}


def _timm_defaults(reader: ConfigReader) -> None:
    add_defaults(reader, NAMED)
    reader.remaining |= dict(reader.pop("cfg", {}))


TIMM = ConfigSpec(
    "MViTv2",
    keys={
        **OPTIONS, "depths": "arch.depths", "img_size": ("img_size", 224, side_pair),
        "stride_kv_adaptive": ("kv_stride", (4, 4)), "expand_attn": ("grow_in", True, GROW_IN),
        "rel_pos_type": ("relative_positions", "spatial", lambda kind: kind == "spatial"),
        "use_cls_token": ("class_token", False), "out_indices": ("out_indices", (0, 1, 2, 3), tuple),
        **same(norm_eps=1e-6),
    },
    constants={**CLASSIFIER, "class_residual": True},
    fixed={
        "in_chans": 3, "drop_rate": ZERO, "mode": "conv", "pool_first": False, "pool_type": "max",
        "norm_layer": "layernorm", "act_layer": "gelu", **PATCHES, "kernel_qkv": (3, 3),
        "stride_q": ((1, 1), (2, 2), (2, 2), (2, 2)), "stride_kv": None,
    },
    ignored="num_classes num_features global_pool features_only pretrained", prepare=_timm_defaults,
    finish=_finish_timm,
)  # fmt: skip
"""timm's: the arguments of its configuration, or config.json."""
SIZES = {
    size: {"depths": arch["depths"], "embed_dim": arch["embed_dims"][0], "num_heads": arch["num_heads"][0]}
    for size, arch in MVIT_V2.items()
}
NAMED = {
    **{f"mvitv2_{size}": sizes for size, sizes in SIZES.items() if size != "huge"},
    **{f"mvitv2_{size}_cls": {**sizes, "use_cls_token": True} for size, sizes in SIZES.items() if size != "tiny"},
    "mvitv2_large": {**SIZES["large"], "expand_attn": False},
}
TOLERATED = Tolerated(new_without_classifier=(r"scale\d+_norm\.(weight|bias)",), unused=(r"norm\..*|cls_token",))
ARCHITECTURES = (
    Architecture(
        "MViTv2", {"mvit": OFFICIAL, "detectron2": [*rules("scale{}_norm."), *OFFICIAL], "timm": timm_keys},
        {
            "detectron2": {"MViT": DETECTRON2}, "mvit": {None: REPOSITORY},
            "timm": dict.fromkeys(("MultiScaleVit", *NAMED), TIMM),
        },
        TOLERATED,
    ),
)  # fmt: skip
