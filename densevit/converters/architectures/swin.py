"""Swin: microsoft's two repositories, detectron2, mmdetection, timm and transformers.

Ours are microsoft's names, with one norm for each returned map as in its detection repository.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from densevit.archs import SWIN
from densevit.converters.architecture import Architecture, Tolerated
from densevit.converters.architectures.pvt import norm_layer_eps
from densevit.converters.config_spec import (
    LN_EPS,
    NO_DROPOUT,
    ZERO,
    ConfigReader,
    ConfigSpec,
    add_defaults,
    indices,
    side_pair,
)
from densevit.converters.key_mapping import KeyRule, ignored, renamed, same
from densevit.converters.openmmlab import GELU, LAYER_NORM
from densevit.errors import ConfigError

# ---- names -------------------------------------------------------------------------------------------


def to_table(table: Tensor) -> Tensor:
    """Absolute positions as a table (1, h*w, C), also where they are a map (1, C, h, w)."""
    return table.flatten(2).transpose(1, 2) if table.ndim == 4 else table


def from_unfold(weight: Tensor) -> Tensor:
    """Merging's last dimension (..., C, row, column), as mmdetection unfolds it, into ours (..., column, row, C)."""
    return weight.unflatten(-1, (-1, 2, 2)).movedim(-3, -1).transpose(-3, -2).flatten(-3)


def to_unfold(weight: Tensor) -> Tensor:
    """The inverse of `from_unfold`."""
    return weight.unflatten(-1, (2, 2, -1)).transpose(-3, -2).movedim(-1, -3).flatten(-3)


def pack(*parts: Tensor) -> Tensor:
    """Query, key and value projections as one."""
    return torch.cat(parts)


def unpack(packed: Tensor) -> tuple[Tensor, ...]:
    """The inverse of `pack`."""
    return packed.chunk(3)


CLASSIFIER = ignored("norm.*", "head.*")
COMPUTED = ("attn.relative_position_index", "attn.relative_coords_table", "attn_mask")
"""Tensors of a block that follow from the sizes; files hold them all the same."""
OFFICIAL = [
    *CLASSIFIER,
    *ignored(*(f"layers.{{}}.blocks.{{}}.{name}" for name in COMPUTED)),
    KeyRule("absolute_pos_embed", "absolute_pos_embed", to_table, to_table),
    *same("patch_embed.*", "layers.{}.*", "norm{}.*"),
]
"""microsoft's names for both generations."""
TIMM = [
    *CLASSIFIER,
    *same("patch_embed.*"),
    *(
        rule.within(stage)
        for stage in ("layers.{}.", "layers_{}.")
        for rule in (
            *ignored(*(f"blocks.{{}}.{name}" for name in COMPUTED)),
            KeyRule("downsample.*", "layers.{-1}.downsample.*"),
            KeyRule("blocks.*", "layers.{}.blocks.*"),
        )
    ),
]
"""timm's for both: it merges at the start of a stage, and writes `layers_0` in what it makes with features_only."""
OPENMMLAB = [
    *ignored("stages.{}.blocks.{}.attn.w_msa.relative_position_index"),
    *same("absolute_pos_embed", "patch_embed.norm.*", "norm{}.*"),
    KeyRule("patch_embed.projection.*", "patch_embed.proj.*"),
    KeyRule("stages.{}.blocks.{}.attn.w_msa.*", "layers.{}.blocks.{}.attn.*"),
    KeyRule("stages.{}.blocks.{}.ffn.layers.0.0.*", "layers.{}.blocks.{}.mlp.fc1.*"),
    KeyRule("stages.{}.blocks.{}.ffn.layers.1.*", "layers.{}.blocks.{}.mlp.fc2.*"),
    KeyRule("stages.{}.blocks.*", "layers.{}.blocks.*"),
    KeyRule("stages.{}.downsample.*", "layers.{}.downsample.*", from_unfold, to_unfold),
]
BLOCK = renamed(
    **{
        "layernorm_before": "norm1", "layernorm_after": "norm2", "attention.output.dense": "attn.proj",
        "intermediate.dense": "mlp.fc1", "output.dense": "mlp.fc2",
    }
)  # fmt: skip
"""transformers' names within a block of either generation."""


def transformers_keys(prefix: str, block: list[KeyRule]) -> list[KeyRule]:
    """transformers' Swin or Swin V2, whose names begin with `prefix` or not, as the saved model was.

    block: the generation's rules within a block.
    """
    rules = [
        *ignored("layernorm.*", "embeddings.mask_token"),
        KeyRule("embeddings.position_embeddings", "absolute_pos_embed"),
        KeyRule("embeddings.patch_embeddings.projection.*", "patch_embed.proj.*"),
        KeyRule("embeddings.norm.*", "patch_embed.norm.*"),
        KeyRule("encoder.layers.{}.downsample.*", "layers.{}.downsample.*"),
        *(rule.within("encoder.layers.{}.blocks.{}.", "layers.{}.blocks.{}.") for rule in (*BLOCK, *block)),
    ]
    return [
        *ignored("classifier.*"),
        KeyRule("hidden_states_norms.stage{+1}.*", "norm{}.*"),
        *(rule.within(start) for start in ("", f"{prefix}.") for rule in rules),
    ]


TRANSFORMERS_BLOCK = [
    # files have the older names (attention.self.query), models of transformers 5 the newer ones (attention.q_proj)
    *(
        KeyRule(tuple(f"attention.{name}.{kind}" for name in names), f"attn.qkv.{kind}", pack, unpack)
        for names in (("self.query", "self.key", "self.value"), ("q_proj", "k_proj", "v_proj"))
        for kind in ("weight", "bias")
    ),
    KeyRule("attention.o_proj.*", "attn.proj.*"),
    *same("mlp.*"),
    *(
        KeyRule(f"attention.{owner}.relative_position_{kind}", ours)
        for owner in ("self", "relative_position_bias")
        for kind, ours in (("bias_table", "attn.relative_position_bias_table"), ("index", None))
    ),
]
KEYS = {
    "swin": OFFICIAL, "detectron2": OFFICIAL, "mmdet": OPENMMLAB, "mmseg": OPENMMLAB, "timm": TIMM,
    "transformers": transformers_keys("swin", TRANSFORMERS_BLOCK),
}  # fmt: skip
OUTPUT_NORMS = Tolerated(new_without_classifier=(r"norm\d+\.(weight|bias)",))

# ---- configurations ----------------------------------------------------------------------------------


def first_width(dim: Any) -> int:
    """The first stage's channels, also where all are listed."""
    if not isinstance(dim, (list, tuple)):
        return dim
    if any(b != 2 * a for a, b in pairwise(dim)):
        raise ValueError("densevit's Swin doubles its channels at each stage.")
    return dim[0]


ARCH = {
    "embed_dim": ("arch.embed_dim", 96, first_width), "depths": ("arch.depths", SWIN["tiny"]["depths"], list),
    "num_heads": ("arch.num_heads", SWIN["tiny"]["num_heads"], list), "mlp_ratio": ("arch.mlp_ratio", 4),
    "patch_size": ("patch_size", 4), "qkv_bias": ("qkv_bias", True), "drop_path_rate": ("drop_path_rate", 0.1),
}  # fmt: skip
"""What all projects have, most under the same names; the defaults are the tiny size's."""


def still_windows(reader: ConfigReader, maps: Sequence[tuple[int, int]]) -> dict[str, Any]:
    """Windows and shifts where a project fixes them for one size of image: no window is larger than the stage's map,
    and one that covers it does not shift.

    maps: height and width of each stage's map, as the project counts them.
    """
    given = reader.pop("window_size", 7)
    pair = isinstance(given, (list, tuple)) and len(given) == 2  # timm's (height, width) of all stages
    each = [given] * len(maps) if pair or not isinstance(given, (list, tuple)) else list(given)
    windows, shifts = [], []
    for sides, window in zip(maps, map(side_pair, each), strict=True):
        window = tuple(min(two) for two in zip(sides, window, strict=True))
        windows.append(window)
        shifts.append(tuple(0 if side <= w else w // 2 for side, w in zip(sides, window, strict=True)))
    return {"window_size": tuple(windows), "shift_size": tuple(shifts)}


def square_windows(config: dict[str, Any], reader: ConfigReader, image: Any) -> dict[str, Any]:
    """The same of a square image, incomplete patches left out."""
    side, stages = min(side_pair(image)) // config["patch_size"], len(config["arch"]["depths"])
    return still_windows(reader, [(side // 2**i,) * 2 for i in range(stages)])


def classifier_windows(config: dict[str, Any], reader: ConfigReader) -> None:
    """microsoft's classifiers are for one size of image."""
    image = reader.pop("img_size", 224)
    config["pretrain_size"] = side_pair(image) if reader.pop("ape", False) else None
    config |= square_windows(config, reader, image)
    config |= {"out_indices": tuple(range(len(config["arch"]["depths"]))), "output_norm": False}


MICROSOFT = ConfigSpec(
    keys={**ARCH, "patch_norm": ("patch_norm", True), "norm_layer": ("norm_eps", "nn.LayerNorm", norm_layer_eps)},
    fixed={"in_chans": 3, **NO_DROPOUT},
    ignored=("num_classes", "use_checkpoint", "fused_window_process", "pretrained", "init_cfg"),
    finish=classifier_windows,
)  # fmt: skip
"""microsoft's classes of both generations, and detectron2's."""


def _microsoft(reader: ConfigReader) -> dict[str, Any]:
    """The detection repository's SwinTransformer, or the classifier's of the same name."""
    spec = MICROSOFT.but(type="Swin", keys={"qk_scale": ("qk_scale", None)})
    if any(key in reader.remaining for key in ("img_size", "num_classes", "fused_window_process")):
        return spec(reader)
    keys = {"drop_path_rate": ("drop_path_rate", 0.2), "window_size": ("window_size", 7)}
    return spec.but(keys=keys, fixed={"frozen_stages": -1}, finish=_detector_outputs)(reader)


def _detector_outputs(config: dict[str, Any], reader: ConfigReader) -> None:
    image, stages = reader.pop("pretrain_img_size", 224), len(config["arch"]["depths"])
    config["pretrain_size"] = side_pair(image) if reader.pop("ape", False) else None
    config["out_indices"] = indices(reader.pop("out_indices", range(stages)))


def _finish_mmdet(config: dict[str, Any], reader: ConfigReader) -> None:
    config["merge_norm"], stages = config["patch_norm"], len(config["arch"]["depths"])
    config["norm_eps"] = config["norm_eps"] or LN_EPS
    reader.require("strides", [config["patch_size"]] + [2] * (stages - 1), [(4, 2, 2, 2)])
    image = reader.pop("pretrain_img_size", 224)
    config["pretrain_size"] = side_pair(image) if reader.pop("use_abs_pos_embed", False) else None
    config["out_indices"] = indices(reader.pop("out_indices", range(stages)))
    if (channels := reader.pop("in_channels", 3)) != 3:
        config["in_channels"] = channels


MMDET = ConfigSpec(
    "Swin",
    keys={
        **{("embed_dims" if key == "embed_dim" else key): how for key, how in ARCH.items()},
        "window_size": ("window_size", 7), "qk_scale": ("qk_scale", None), "patch_norm": ("patch_norm", True),
        "norm_cfg": ("norm_eps", {"type": "LN"}, LAYER_NORM),
    },
    fixed={"frozen_stages": -1, **GELU, **NO_DROPOUT}, ignored=("with_cp", "pretrained", "convert_weights", "init_cfg"),
    finish=_finish_mmdet,
)  # fmt: skip


def _mmdet(reader: ConfigReader) -> dict[str, Any]:
    """SwinTransformer of mmdetection and mmsegmentation, or microsoft's of that name in their older versions."""
    older = any(key in reader.remaining for key in ("embed_dim", "in_chans", "ape", "use_checkpoint"))
    return (_microsoft if older else MMDET)(reader)


def _timm_windows(config: dict[str, Any], reader: ConfigReader) -> None:
    """Windows and shifts are fixed for the model's size of image."""
    image, stages = reader.pop("img_size", 224), len(config["arch"]["depths"])
    config["out_indices"] = indices(reader.pop("out_indices", range(stages)))
    if reader.pop("always_partition", False):
        config["window_size"] = reader.pop("window_size", 7)
        return
    grid = [side // config["patch_size"] for side in side_pair(image)]
    config |= still_windows(reader, [tuple(-(-side // 2**i) for side in grid) for i in range(stages)])


TIMM_SPEC = ConfigSpec(
    keys=ARCH,
    constants={"pad_first": False, "output_norm": False, "norm_eps": LN_EPS},
    fixed={"in_chans": 3, "proj_drop_rate": ZERO, **NO_DROPOUT},
    ignored=(
        "num_classes", "num_features", "global_pool", "features_only", "pretrained", "weight_init", "strict_img_size",
        "dynamic_img_size",
    ),
    finish=_timm_windows,
)  # fmt: skip
"""timm's two generations: the arguments of the class, or config.json. A map is shifted before it is completed."""
NAMED = {
    **{
        f"swin_{size}_patch4_window{window}_{side}": {**SWIN[size], "window_size": window, "img_size": side}
        for sizes, window, side in ((SWIN, 7, 224), (("base", "large"), 12, 384))
        for size in sizes
    },
    **{
        f"swin_s3_{size}_224": {**SWIN["tiny"], "depths": depths, "window_size": windows, "img_size": 224}
        for size, depths, windows in (
            ("tiny", [2, 2, 6, 2], [7, 7, 14, 7]),
            ("small", [2, 2, 18, 2], [14, 14, 14, 7]),
            ("base", [2, 2, 30, 2], [7, 7, 14, 7]),
        )
    },
}
BESIDE = (
    "model_type", "transformers_version", "torch_dtype", "dtype", "hidden_size", "num_layers", "encoder_stride",
    "initializer_range", "stage_names", "id2label", "label2id", "problem_type", "path_norm", "_name_or_path",
    "output_hidden_states", "output_attentions", "return_dict", "_out_features",
    "_out_indices", "use_cache", "chunk_size_feed_forward", "is_encoder_decoder",
)  # fmt: skip
"""What a config.json of transformers' holds beside the network."""


def stages_of(reader: ConfigReader, count: int) -> tuple[int, ...]:
    """Stages or blocks (from 0) of transformers' `out_features` or `out_indices`, which count from 1; else the last."""
    names, given = reader.pop("out_features", None), reader.pop("out_indices", None)
    if names is not None:
        given = [int(str(name).removeprefix("stage")) if name != "stem" else 0 for name in names]
    stages = sorted(i % (count + 1) for i in (given or [count]))
    if stages[0] == 0:
        raise ConfigError(f"{reader.where}.out_features holds 'stem', the bare patches; densevit gives stages.")
    return tuple(i - 1 for i in stages)


def finish_transformers(config: dict[str, Any], reader: ConfigReader) -> bool:
    """Positions and outputs of both generations. Returns whether it is a backbone, which chooses its stages."""
    classes = reader.pop("architectures", None) or [reader.type or ""]
    backbone, stages = str(classes[0]).endswith("Backbone"), len(config["arch"]["depths"])
    image = reader.pop("image_size", 224)
    config["pretrain_size"] = side_pair(image) if reader.pop("use_absolute_embeddings", False) else None
    outputs = stages_of(reader, stages)
    config["out_indices"] = outputs if backbone else tuple(range(stages))
    return backbone


def _transformers(config: dict[str, Any], reader: ConfigReader) -> None:
    """SwinBackbone has a norm for each map and always shifts; the other classes give the maps as they are, and do not
    shift one that is no larger than a window."""
    config["output_norm"] = config["shift_small_maps"] = finish_transformers(config, reader)


TRANSFORMERS = ConfigSpec(
    keys=ARCH,
    fixed={
        "num_channels": 3, "hidden_act": "gelu", "layer_norm_eps": LN_EPS, "hidden_dropout_prob": ZERO,
        "attention_probs_dropout_prob": ZERO,
    },
    ignored=BESIDE, finish=finish_transformers,
)  # fmt: skip
TIMM_CONFIG = TIMM_SPEC.but(type="Swin", fixed={"head_dim": None}, prepare=lambda reader: add_defaults(reader, NAMED))
ARCHITECTURE = Architecture(
    "Swin",
    keys=KEYS,
    configs={
        "mmdet": {"SwinTransformer": _mmdet},
        "mmseg": {"SwinTransformer": _mmdet},
        "swin": {"SwinTransformer": _microsoft},
        "detectron2": {"SwinTransformer": _microsoft, "D2SwinTransformer": _microsoft},
        "timm": dict.fromkeys(("SwinTransformer", *NAMED), TIMM_CONFIG),
        "transformers": dict.fromkeys(
            ("swin", "SwinModel", "SwinBackbone", "SwinForImageClassification"),
            TRANSFORMERS.but(type="Swin", keys={"window_size": ("window_size", 7)}, finish=_transformers),
        ),
    },
    tolerated=OUTPUT_NORMS,
)
