"""Swin and Swin V2: microsoft's two repositories, detectron2, mmdetection, timm and transformers.

Ours are microsoft's names, with one norm for each returned map as in its detection repository.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from torch import Tensor

from densevit.archs import SWIN
from densevit.converters.architectures.pvt import norm_layer_eps
from densevit.converters.config_spec import (
    LN_EPS,
    NO_DROPOUT,
    ZERO,
    Architecture,
    ConfigReader,
    ConfigSpec,
    Tolerated,
    add_defaults,
    indices,
    same,
    side_pair,
)  # fmt: skip
from densevit.converters.key_mapping import KeyRule, joined, rules, within
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


COMPUTED = "!{0}attn.relative_position_index !{0}attn.relative_coords_table !{0}attn_mask "
"""Tensors of a block that follow from the sizes; files hold them all the same."""
OFFICIAL = [
    *rules("!norm. !head. " + COMPUTED.format("layers.{}.blocks.{}.")),
    *rules("absolute_pos_embed", change=(to_table, to_table)), *rules("patch_embed. layers.{}. norm{}."),
]  # fmt: skip
"""microsoft's names for both generations."""
STAGE = COMPUTED.format("blocks.{}.") + "downsample.->layers.{-1}.downsample. blocks.->layers.{}.blocks."
TIMM = [
    *rules("!norm. !head. patch_embed."),
    *(rule for stage in ("layers.{}.", "layers_{}.") for rule in rules(STAGE, stage)),
]  # fmt: skip
"""timm's for both: it merges at the start of a stage, and writes `layers_0` in what it makes with features_only."""
OPENMMLAB = [
    *rules("!stages.{}.blocks.{}.attn.w_msa.relative_position_index absolute_pos_embed patch_embed.norm. norm{}."),
    *rules("patch_embed.projection.->patch_embed.proj."),
    *rules(
        "attn.w_msa.->attn. ffn.layers.0.0.->mlp.fc1. ffn.layers.1.->mlp.fc2. *", "stages.{}.blocks.{}.",
        "layers.{}.blocks.{}.",
    ),
    *rules("stages.{}.downsample.->layers.{}.downsample.", change=(from_unfold, to_unfold)),
]  # fmt: skip
# files have the older names (attention.self.query), models of transformers 5 the newer ones (attention.q_proj)
BLOCK = rules(
    "layernorm_before.->norm1. layernorm_after.->norm2. attention.output.dense.->attn.proj. "
    "attention.o_proj.->attn.proj. intermediate.dense.->mlp.fc1. output.dense.->mlp.fc2. mlp."
)
QKV = joined("attention.self.query|attention.self.key|attention.self.value", "attn.qkv")
V1_BLOCK = (
    QKV
    + joined("attention.q_proj|attention.k_proj|attention.v_proj", "attn.qkv")
    + rules(
        "attention.self.relative_position_bias_table->attn.relative_position_bias_table "
        "attention.relative_position_bias.relative_position_bias_table->attn.relative_position_bias_table "
        "!attention.self.relative_position_index !attention.relative_position_bias.relative_position_index"
    )
)
V2_BLOCK = QKV[:1] + rules(
    "attention.self.query.bias->attn.q_bias attention.self.value.bias->attn.v_bias "
    "attention.self.logit_scale->attn.logit_scale attention.self.continuous_position_bias_mlp.->attn.cpb_mlp. "
    "!attention.self.relative_position_index !attention.self.relative_coords_table"
)


def transformers_keys(prefix: str, block: list[KeyRule]) -> list[KeyRule]:
    """transformers' Swin or Swin V2, whose names begin with `prefix` or not, as the saved model was.

    block: the generation's rules within a block.
    """
    whole = rules(
        "!layernorm. !embeddings.mask_token embeddings.position_embeddings->absolute_pos_embed embeddings.norm."
        "->patch_embed.norm. embeddings.patch_embeddings.projection.->patch_embed.proj. "
        "encoder.layers.{}.downsample.->layers.{}.downsample."
    ) + within([*BLOCK, *block], "encoder.layers.{}.blocks.{}.", "layers.{}.blocks.{}.")
    return [*rules("!classifier. hidden_states_norms.stage{+1}.->norm{}."), *whole, *within(whole, f"{prefix}.")]


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
    "num_heads": ("arch.num_heads", SWIN["tiny"]["num_heads"], list), **same("arch.", mlp_ratio=4),
    **same(patch_size=4, qkv_bias=True, drop_path_rate=0.1),
}  # fmt: skip
"""What all projects have, most under the same names; the defaults are the tiny size's."""


def _stages(config: dict[str, Any]) -> int:
    return len(config["arch"]["depths"])


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
    side = min(side_pair(image)) // config["patch_size"]
    return still_windows(reader, [(side // 2**i,) * 2 for i in range(_stages(config))])


def _outputs(config: dict[str, Any], reader: ConfigReader, flag: str) -> None:
    """A detector's maps and the size that its absolute positions are for. flag: whether it has them."""
    image = reader.pop("pretrain_img_size", 224)
    config["pretrain_size"] = side_pair(image) if reader.pop(flag, False) else None
    config["out_indices"] = indices(reader.pop("out_indices", range(_stages(config))))


def _pretrained_windows(config: dict[str, Any], reader: ConfigReader) -> None:
    """`pretrained_window_sizes`, a stage each; 0: the model's own windows. Swin has none."""
    if config.get("type", "SwinV2") == "SwinV2":
        sizes = reader.pop("pretrained_window_sizes", [0] * _stages(config))[: _stages(config)]
        config["pretrained_window_sizes"] = tuple(tuple(s) if isinstance(s, (list, tuple)) else s for s in sizes)


def _finish_classifier(config: dict[str, Any], reader: ConfigReader) -> None:
    """microsoft's classifiers are for one size of image."""
    image = reader.pop("img_size", 224)
    config["pretrain_size"] = side_pair(image) if reader.pop("ape", False) else None
    config |= square_windows(config, reader, image)
    config |= {"out_indices": tuple(range(_stages(config))), "output_norm": False}
    _pretrained_windows(config, reader)


MICROSOFT = ConfigSpec(
    keys={**ARCH, **same(patch_norm=True), "norm_layer": ("norm_eps", "nn.LayerNorm", norm_layer_eps)},
    fixed={"in_chans": 3, **NO_DROPOUT}, finish=_finish_classifier,
    ignored="num_classes use_checkpoint fused_window_process pretrained init_cfg",
)  # fmt: skip
"""microsoft's classes of both generations, and detectron2's."""


def _microsoft(reader: ConfigReader) -> dict[str, Any]:
    """The detection repository's SwinTransformer, or the classifier's of the same name."""
    spec = MICROSOFT.but(type="Swin", keys=same(qk_scale=None))
    if any(key in reader.remaining for key in ("img_size", "num_classes", "fused_window_process")):
        return spec(reader)
    keys, finish = same(drop_path_rate=0.2, window_size=7), lambda config, reader: _outputs(config, reader, "ape")
    return spec.but(keys=keys, fixed={"frozen_stages": -1}, finish=finish)(reader)


def _finish_mmdet(config: dict[str, Any], reader: ConfigReader) -> None:
    config["merge_norm"] = config["patch_norm"]
    config["norm_eps"] = config["norm_eps"] or LN_EPS
    reader.require("strides", [config["patch_size"]] + [2] * (_stages(config) - 1), [(4, 2, 2, 2)])
    _outputs(config, reader, "use_abs_pos_embed")
    if (channels := reader.pop("in_channels", 3)) != 3:
        config["in_channels"] = channels


MMDET = ConfigSpec(
    "Swin",
    keys={
        **{("embed_dims" if key == "embed_dim" else key): how for key, how in ARCH.items()},
        **same(window_size=7, qk_scale=None, patch_norm=True), "norm_cfg": ("norm_eps", {"type": "LN"}, LAYER_NORM),
    },
    fixed={"frozen_stages": -1, **GELU, **NO_DROPOUT}, ignored="with_cp pretrained convert_weights init_cfg",
    finish=_finish_mmdet,
)  # fmt: skip


def _mmdet(reader: ConfigReader) -> dict[str, Any]:
    """SwinTransformer of mmdetection and mmsegmentation, or microsoft's of that name in their older versions."""
    older = any(key in reader.remaining for key in ("embed_dim", "in_chans", "ape", "use_checkpoint"))
    return (_microsoft if older else MMDET)(reader)


def _finish_timm(config: dict[str, Any], reader: ConfigReader) -> None:
    """Windows and shifts are fixed for the model's size of image."""
    image, stages = reader.pop("img_size", 224), _stages(config)
    config["out_indices"] = indices(reader.pop("out_indices", range(stages)))
    _pretrained_windows(config, reader)
    if reader.pop("always_partition", False):
        config["window_size"] = reader.pop("window_size", 7)
        return
    grid = [side // config["patch_size"] for side in side_pair(image)]
    config |= still_windows(reader, [tuple(-(-side // 2**i) for side in grid) for i in range(stages)])


def _timm(*sizes: tuple[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Named models: patterns of their names, and what is not the size's."""
    return {name.format(size): {**SWIN[size], **given} for name, names, given in sizes for size in names.split()}


AT_192 = {"pretrained_window_sizes": [12, 12, 12, 6]}
NAMED = _timm(
    ("swin_{}_patch4_window7_224", "tiny small base large", {"window_size": 7, "img_size": 224}),
    ("swin_{}_patch4_window12_384", "base large", {"window_size": 12, "img_size": 384}),
    *(
        (f"swin_s3_{name}_224", "tiny", {"depths": [2, 2, depth, 2], "window_size": windows, "img_size": 224})
        for name, depth, windows in (
            ("tiny", 6, [7, 7, 14, 7]), ("small", 18, [14, 14, 14, 7]), ("base", 30, [7, 7, 14, 7]),
        )
    ),
)  # fmt: skip
V2_NAMED = _timm(
    ("swinv2_{}_window8_256", "tiny small base", {"window_size": 8, "img_size": 256}),
    ("swinv2_{}_window16_256", "tiny small base", {"window_size": 16, "img_size": 256}),
    ("swinv2_{}_window12_192", "base large", {"window_size": 12, "img_size": 192}),
    ("swinv2_{}_window12to16_192to256", "base large", {"window_size": 16, "img_size": 256, **AT_192}),
    ("swinv2_{}_window12to24_192to384", "base large", {"window_size": 24, "img_size": 384, **AT_192}),
)
TIMM_CONFIG = ConfigSpec(
    keys=ARCH, constants={"pad_first": False, "output_norm": False, "norm_eps": LN_EPS},
    fixed={"in_chans": 3, "proj_drop_rate": ZERO, **NO_DROPOUT}, finish=_finish_timm,
    ignored="num_classes num_features global_pool features_only pretrained weight_init strict_img_size "
    "dynamic_img_size",
)  # fmt: skip
"""timm's two generations: the arguments of the class, or config.json. A map is shifted before it is completed."""
BESIDE = (
    "model_type transformers_version torch_dtype dtype hidden_size num_layers encoder_stride initializer_range "
    "stage_names id2label label2id problem_type path_norm _name_or_path output_hidden_states output_attentions "
    "return_dict _out_features _out_indices use_cache chunk_size_feed_forward is_encoder_decoder"
)
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


def _finish_transformers(config: dict[str, Any], reader: ConfigReader) -> None:
    """A Backbone chooses its stages. SwinBackbone has a norm for each map and always shifts; Swin's other classes give
    the maps as they are, and do not shift one that is no larger than a window. Swin V2's size of image determines
    where windows are smaller and do not shift."""
    classes, stages = reader.pop("architectures", None) or [reader.type or ""], _stages(config)
    backbone, image = str(classes[0]).endswith("Backbone"), reader.pop("image_size", 224)
    config["pretrain_size"] = side_pair(image) if reader.pop("use_absolute_embeddings", False) else None
    outputs = stages_of(reader, stages)
    config["out_indices"] = outputs if backbone else tuple(range(stages))
    if config["type"] == "Swin":
        config["window_size"] = reader.pop("window_size", 7)
        config["output_norm"] = config["shift_small_maps"] = backbone
    else:
        config |= {**square_windows(config, reader, side_pair(image)[0]), "output_norm": False}
        _pretrained_windows(config, reader)


TRANSFORMERS = ConfigSpec(
    keys=ARCH, ignored=BESIDE, finish=_finish_transformers,
    fixed={
        "num_channels": 3, "hidden_act": "gelu", "layer_norm_eps": LN_EPS, "hidden_dropout_prob": ZERO,
        "attention_probs_dropout_prob": ZERO,
    },
)  # fmt: skip
OF_TRANSFORMERS = ("Model", "Backbone", "ForImageClassification")
OUTPUT_NORMS = Tolerated(new_without_classifier=(r"norm\d+\.(weight|bias)",))
ARCHITECTURES = (
    Architecture(
        "Swin",
        {
            "swin": OFFICIAL, "detectron2": OFFICIAL, "mmdet": OPENMMLAB, "mmseg": OPENMMLAB, "timm": TIMM,
            "transformers": transformers_keys("swin", V1_BLOCK),
        },
        {
            "mmdet": {"SwinTransformer": _mmdet}, "mmseg": {"SwinTransformer": _mmdet},
            "swin": {"SwinTransformer": _microsoft},
            "detectron2": {"SwinTransformer": _microsoft, "D2SwinTransformer": _microsoft},
            "timm": dict.fromkeys(
                ("SwinTransformer", *NAMED),
                TIMM_CONFIG.but(type="Swin", fixed={"head_dim": None}, prepare=lambda r: add_defaults(r, NAMED)),
            ),
            "transformers": dict.fromkeys(
                ("swin", *(f"Swin{end}" for end in OF_TRANSFORMERS)), TRANSFORMERS.but(type="Swin")
            ),
        },
        OUTPUT_NORMS,
    ),
    Architecture(
        "SwinV2",
        {"swin": OFFICIAL, "timm": TIMM, "transformers": transformers_keys("swinv2", V2_BLOCK)},
        {
            "swin": {"SwinTransformerV2": MICROSOFT.but(type="SwinV2")},
            "timm": dict.fromkeys(
                ("SwinTransformerV2", *V2_NAMED),
                TIMM_CONFIG.but(
                    type="SwinV2", fixed={"act_layer": "gelu"}, prepare=lambda r: add_defaults(r, V2_NAMED)
                ),
            ),
            "transformers": dict.fromkeys(
                ("swinv2", *(f"Swinv2{end}" for end in OF_TRANSFORMERS)), TRANSFORMERS.but(type="SwinV2")
            ),
        },
        OUTPUT_NORMS,
    ),
)  # fmt: skip
