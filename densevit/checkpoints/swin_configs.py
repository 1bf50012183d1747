"""Swin: the configurations of microsoft's two repositories, detectron2, mmdetection, timm and transformers."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from densevit.checkpoints.pvt import LN_EPS, mmdet_norm_eps, official_norm_eps
from densevit.checkpoints.settings import Settings
from densevit.errors import ConfigError

SIZES = {
    "tiny": {"embed_dim": 96, "depths": [2, 2, 6, 2], "num_heads": [3, 6, 12, 24]},
    "small": {"embed_dim": 96, "depths": [2, 2, 18, 2], "num_heads": [3, 6, 12, 24]},
    "base": {"embed_dim": 128, "depths": [2, 2, 18, 2], "num_heads": [4, 8, 16, 32]},
    "large": {"embed_dim": 192, "depths": [2, 2, 18, 2], "num_heads": [6, 12, 24, 48]},
}
TIMM_NAMED = {
    **{
        f"swin_{size}_patch4_window{window}_{side}": {**SIZES[size], "window_size": window, "img_size": side}
        for sizes, window, side in ((SIZES, 7, 224), (("base", "large"), 12, 384))
        for size in sizes
    },
    **{
        f"swin_s3_{size}_224": {**SIZES["tiny"], "depths": depths, "window_size": windows, "img_size": 224}
        for size, depths, windows in (
            ("tiny", [2, 2, 6, 2], [7, 7, 14, 7]),
            ("small", [2, 2, 18, 2], [14, 14, 14, 7]),
            ("base", [2, 2, 30, 2], [7, 7, 14, 7]),
        )
    },
}


def arch_of(settings: Settings, width: str = "embed_dim") -> dict[str, Any]:
    """`arch` from the arguments that all projects call alike; their defaults are the tiny size's."""
    dim = settings.take(width, 96)
    depths = list(settings.take("depths", SIZES["tiny"]["depths"]))
    if isinstance(dim, (list, tuple)):  # timm
        if any(b != 2 * a for a, b in pairwise(dim)):
            raise ConfigError(f"{settings.where}.{width} is {dim}; densevit's Swin doubles its channels at each stage.")
        dim = dim[0]
    return {
        "embed_dim": dim,
        "depths": depths,
        "num_heads": list(settings.take("num_heads", SIZES["tiny"]["num_heads"])),
        "mlp_ratio": settings.take("mlp_ratio", 4),
    }


def side_pair(size: Any) -> tuple[int, int]:
    """A side, or (height, width), as (height, width)."""
    sides = tuple(size) if isinstance(size, (list, tuple)) else (size,)
    return (sides[0], sides[-1])


def still_windows(settings: Settings, maps: Sequence[tuple[int, int]]) -> dict[str, Any]:
    """Windows and shifts where a project fixes them for one size of image: no window is larger than the stage's map,
    and one that covers it does not shift.

    maps: height and width of each stage's map, as the project counts them.
    """
    given = settings.take("window_size", 7)
    pair = isinstance(given, (list, tuple)) and len(given) == 2  # timm's (height, width) of all stages
    each = [given] * len(maps) if pair or not isinstance(given, (list, tuple)) else list(given)
    windows, shifts = [], []
    for sides, window in zip(maps, map(side_pair, each), strict=True):
        window = tuple(min(two) for two in zip(sides, window, strict=True))
        windows.append(window)
        shifts.append(tuple(0 if side <= w else w // 2 for side, w in zip(sides, window, strict=True)))
    return {"window_size": tuple(windows), "shift_size": tuple(shifts)}


def square_maps(side: int, patch: int, stages: int) -> list[tuple[int, int]]:
    """Each stage's map of a square image, incomplete patches left out."""
    return [(side // patch // 2**i,) * 2 for i in range(stages)]


def no_dropout(settings: Settings, *more: str) -> None:
    """densevit's Swin has no dropout."""
    for key in ("drop_rate", "attn_drop_rate", *more):
        settings.expect(key, 0.0, [0])


def microsoft_rest(settings: Settings, drop_path: float) -> dict[str, Any]:
    """What microsoft's classes and detectron2's take alike."""
    settings.expect("in_chans", 3)
    no_dropout(settings)
    settings.ignore("num_classes", "use_checkpoint", "fused_window_process", "pretrained", "init_cfg")
    return {
        "arch": arch_of(settings),
        "patch_size": settings.take("patch_size", 4),
        "qkv_bias": settings.take("qkv_bias", True),
        "patch_norm": settings.take("patch_norm", True),
        "drop_path_rate": settings.take("drop_path_rate", drop_path),
        "norm_eps": official_norm_eps(settings),
    }


def outputs_of(settings: Settings, stages: int) -> tuple[int, ...]:
    """`out_indices`; all stages where nothing is said."""
    indices = settings.take("out_indices", range(stages))
    return tuple(sorted(indices)) if not isinstance(indices, int) else (indices,)


def from_microsoft(settings: Settings) -> dict[str, Any]:
    """SwinTransformer of microsoft: the detection repository's (detectron2's is the same), or the classifier.

    The classifier is for one size of image: no window is larger than its map, and one that covers it does not shift.
    """
    classifier = any(key in settings.left for key in ("img_size", "num_classes", "fused_window_process"))
    config = microsoft_rest(settings, 0.1 if classifier else 0.2)
    config["qk_scale"] = settings.take("qk_scale", None)
    stages = len(config["arch"]["depths"])
    image = settings.take("img_size" if classifier else "pretrain_img_size", 224)
    config["pretrain_size"] = side_pair(image) if settings.take("ape", False) else None
    if classifier:
        config |= still_windows(settings, square_maps(min(side_pair(image)), config["patch_size"], stages))
        config |= {"out_indices": tuple(range(stages)), "output_norm": False}
    else:
        settings.expect("frozen_stages", -1)
        config |= {"window_size": settings.take("window_size", 7), "out_indices": outputs_of(settings, stages)}
    settings.done()
    return {"type": "Swin", **config}


def from_mmdet(settings: Settings) -> dict[str, Any]:
    """SwinTransformer of mmdetection and mmsegmentation, or microsoft's own of that name in their older versions."""
    if any(key in settings.left for key in ("embed_dim", "in_chans", "ape", "use_checkpoint")):
        return from_microsoft(settings)
    settings.expect("act_cfg", {"type": "GELU"})
    settings.expect("frozen_stages", -1)
    no_dropout(settings)
    settings.ignore("with_cp", "pretrained", "convert_weights", "init_cfg")
    settings.left.setdefault("norm_cfg", {"type": "LN"})
    arch, patch, norm = (
        arch_of(settings, "embed_dims"),
        settings.take("patch_size", 4),
        settings.take("patch_norm", True),
    )
    stages = len(arch["depths"])
    settings.expect("strides", [patch] + [2] * (stages - 1), [(4, 2, 2, 2)])
    image = settings.take("pretrain_img_size", 224)
    config = {
        "type": "Swin",
        "arch": arch,
        "window_size": settings.take("window_size", 7),
        "patch_size": patch,
        "qkv_bias": settings.take("qkv_bias", True),
        "qk_scale": settings.take("qk_scale", None),
        "patch_norm": norm,
        "merge_norm": norm,
        "drop_path_rate": settings.take("drop_path_rate", 0.1),
        "out_indices": outputs_of(settings, stages),
        "pretrain_size": side_pair(image) if settings.take("use_abs_pos_embed", False) else None,
        "norm_eps": mmdet_norm_eps(settings),
    }
    if (channels := settings.take("in_channels", 3)) != 3:
        config["in_channels"] = channels
    settings.done()
    return config


def from_timm(settings: Settings) -> dict[str, Any]:
    """timm's swin_*: the arguments of its class, or its config.json (`architecture`, `model_args`)."""
    config = timm_rest(settings, TIMM_NAMED)
    settings.expect("head_dim", None)
    settings.done()
    return {"type": "Swin", **config}


def timm_rest(settings: Settings, named: dict[str, dict]) -> dict[str, Any]:
    """What timm's two generations take alike. Windows and shifts are fixed for the model's size of image, and a map is
    shifted before it is completed."""
    name = settings.take("architecture", settings.type)
    facts = settings.take("pretrained_cfg", {})
    given = settings.take("model_args", {})
    if len(facts.get("input_size", ())) == 3:
        given = {"img_size": facts["input_size"][1:], **given}
    for key, value in {**named.get(str(name).split(".")[0], {}), **given}.items():
        settings.left.setdefault(key, value)
    settings.expect("in_chans", 3)
    no_dropout(settings, "proj_drop_rate")
    settings.ignore("num_classes", "num_features", "global_pool", "features_only", "pretrained", "weight_init")
    settings.ignore("strict_img_size", "dynamic_img_size")
    arch, patch, image = arch_of(settings), settings.take("patch_size", 4), settings.take("img_size", 224)
    stages = len(arch["depths"])
    if settings.take("always_partition", False):
        windows = {"window_size": settings.take("window_size", 7)}
    else:
        grid = [side // patch for side in side_pair(image)]
        windows = still_windows(settings, [tuple(-(-side // 2**i) for side in grid) for i in range(stages)])
    return {
        "arch": arch,
        **windows,
        "pad_first": False,
        "patch_size": patch,
        "qkv_bias": settings.take("qkv_bias", True),
        "drop_path_rate": settings.take("drop_path_rate", 0.1),
        "out_indices": outputs_of(settings, stages),
        "output_norm": False,
        "norm_eps": LN_EPS,
    }


def from_transformers(settings: Settings) -> dict[str, Any]:
    """transformers' `swin`: SwinBackbone has a norm for each map and always shifts; its other classes give the maps as
    they are, and do not shift one that is no larger than a window."""
    config, backbone = transformers_rest(settings)
    config["window_size"] = settings.take("window_size", 7)
    settings.done()
    return {"type": "Swin", **config, "output_norm": backbone, "shift_small_maps": backbone}


FACTS = (
    "model_type", "transformers_version", "torch_dtype", "dtype", "hidden_size", "num_layers", "encoder_stride",
    "initializer_range", "stage_names", "id2label", "label2id", "problem_type", "path_norm", "_name_or_path",
    "output_hidden_states", "output_attentions", "return_dict", "_out_features",
    "_out_indices", "use_cache", "chunk_size_feed_forward", "is_encoder_decoder",
)  # fmt: skip
"""What a config.json says beside the network."""


def transformers_rest(settings: Settings) -> tuple[dict[str, Any], bool]:
    """What transformers' two generations take alike, and whether it is a backbone, which chooses its stages."""
    classes = settings.take("architectures", None) or [settings.type or ""]
    backbone = str(classes[0]).endswith("Backbone")
    settings.expect("num_channels", 3)
    settings.expect("hidden_act", "gelu")
    settings.expect("layer_norm_eps", LN_EPS)
    for key in ("hidden_dropout_prob", "attention_probs_dropout_prob"):
        settings.expect(key, 0.0, [0])
    settings.ignore(*FACTS)
    arch, image = arch_of(settings), settings.take("image_size", 224)
    stages = len(arch["depths"])
    named, indices = settings.take("out_features", None), settings.take("out_indices", None)
    outputs = tuple(range(stages))
    if backbone:
        if named is not None:
            indices = [int(str(name).removeprefix("stage")) if name != "stem" else 0 for name in named]
        outputs = tuple(sorted(i - 1 for i in (indices if indices is not None else [stages])))
        if min(outputs) < 0:
            raise ConfigError(f"{settings.where}.out_features holds 'stem', the bare patches; densevit gives stages.")
    return {
        "arch": arch,
        "patch_size": settings.take("patch_size", 4),
        "qkv_bias": settings.take("qkv_bias", True),
        "drop_path_rate": settings.take("drop_path_rate", 0.1),
        "pretrain_size": side_pair(image) if settings.take("use_absolute_embeddings", False) else None,
        "out_indices": outputs,
    }, backbone


CONFIGS = {
    ("mmdet", "SwinTransformer"): from_mmdet,
    ("mmseg", "SwinTransformer"): from_mmdet,
    ("microsoft", "SwinTransformer"): from_microsoft,
    ("detectron2", "SwinTransformer"): from_microsoft,
    ("detectron2", "D2SwinTransformer"): from_microsoft,
    **{("timm", name): from_timm for name in ("SwinTransformer", *TIMM_NAMED)},
    **{
        ("transformers", name): from_transformers
        for name in ("swin", "SwinModel", "SwinBackbone", "SwinForImageClassification")
    },
}
"""(source, their type) -> our configuration."""
