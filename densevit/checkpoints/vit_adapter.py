"""ViT-Adapter: the names and configurations of czczup/ViT-Adapter.

Ours are the same, but for the ViT's, which stand behind `vit.` and are those of DeiT.
"""

from collections.abc import Iterable
from typing import Any

from densevit.checkpoints.pvt import official_norm_eps
from densevit.checkpoints.rules import Rule
from densevit.checkpoints.settings import Settings
from densevit.checkpoints.swin import within
from densevit.checkpoints.vit import OFFICIAL_BLOCK, in_blocks
from densevit.checkpoints.vit_configs import arch_of, no_dropout
from densevit.errors import ConfigError

PATCH = 16
"""The only patch size that the repository's class runs with."""

_BLOCK = [Rule("gamma1", "ls1.gamma"), Rule("gamma2", "ls2.gamma"), *OFFICIAL_BLOCK]
CZCZUP = [
    Rule("pos_embed", "vit.pos_embed"),
    Rule("patch_embed.proj.*", "vit.patch_embed.proj.*"),
    *(Rule(r.theirs, within("vit.", r.ours), r.value, r.back) for r in in_blocks(_BLOCK)),
    *(
        Rule(f"interactions.{{}}.{name}.ffn.dwconv.dwconv.*", f"interactions.{{}}.{name}.ffn.dwconv.*")
        for name in ("extractor", "extra_extractors.{}")
    ),
    *(Rule(f"{name}*", f"{name}*") for name in ("level_embed", "spm.", "interactions.", "up.")),
    Rule("norm{}.*", "norm{}.*"),
]
TABLES = {"czczup": CZCZUP}


def _each_block(settings: Settings, key: str, default: Any, depth: int) -> list:
    """A setting of every block, stated once or as a list."""
    given = settings.take(key, default)
    if isinstance(given, (list, tuple)) and len(given) != depth:
        raise ConfigError(f"{settings.where}.{key} has {len(given)} entries for {depth} blocks.")
    return list(given) if isinstance(given, (list, tuple)) else [given] * depth


def from_czczup(settings: Settings, code: str | None = None) -> dict[str, Any]:
    """ViTAdapter of the repository's detection or segmentation code, whose forward differs.

    code: which of the two; None: what `version_of_code` says.
    """
    if (code := settings.take("version_of_code", code)) not in ("detection", "segmentation"):
        raise ConfigError(
            f"{settings.where}.version_of_code is {code!r}; the repository's ViTAdapter for 'detection' and that for "
            "'segmentation' give different maps."
        )
    settings.expect("in_chans", 3)
    settings.expect("patch_size", PATCH)
    settings.left.setdefault("norm_layer", "eps=1e-6")
    no_dropout(settings, "drop_rate", "attn_drop_rate")
    settings.ignore("num_classes", "with_cp", "pretrained", "init_cfg")
    arch = arch_of(settings, "embed_dim", "depth", "num_heads", "mlp_ratio")
    side, image = settings.take("pretrain_size", 224), settings.take("img_size", 224)
    if side // PATCH != image // PATCH:
        raise ConfigError(
            f"{settings.where}.img_size is {image}, but pretrain_size is {side}: the table of positions has one size."
        )
    cut = _each_block(settings, "window_attn", False, arch["depth"])
    sides = _each_block(settings, "window_size", 14, arch["depth"])
    windows = {i: sides[i] for i, windowed in enumerate(cut) if windowed}
    vit = {
        "type": "ViT",
        "arch": arch,
        "patch_size": PATCH,
        "img_size": side,
        "drop_path_rate": settings.take("drop_path_rate", 0.0),
        "norm_eps": official_norm_eps(settings),
        "class_token": False,
        "qkv_bias": settings.take("qkv_bias", True),
        "layer_scale": 1.0 if settings.take("layer_scale", code == "detection") else None,
        "window_size": tuple(windows.values()),
        "window_blocks": tuple(windows),
        "window_padding": "keys",
        "conv_blocks": tuple(settings.take("residual_indices", ())),
    }
    config = {
        "type": "ViTAdapter",
        "vit": vit,
        "interaction_indexes": tuple(tuple(pair) for pair in settings.take("interaction_indexes")),
        "use_extra_extractor": settings.take("use_extra_extractor", True),
        "with_cffn": settings.take("with_cffn", True),
        "add_vit_feature": ADDED[code] if settings.take("add_vit_feature", True) else None,
    }
    for key, default in DEFAULTS.items():
        config[key] = settings.take(key, default)
    settings.done()
    return config


ADDED = {"detection": "last", "segmentation": "each"}
DEFAULTS = {
    "conv_inplane": 64,
    "n_points": 4,
    "deform_num_heads": 6,
    "deform_ratio": 1.0,
    "init_values": 0.0,
    "cffn_ratio": 0.25,
}


def told_by_names(config: dict[str, Any], names: Iterable[str]) -> None:
    """What the repository's versions have different defaults for, and the file's names say."""
    part = config if config["type"] == "ViTAdapter" else config.get("backbone", {})
    if part.get("type") == "ViTAdapter" and (names := list(names)):
        part["vit"]["layer_scale"] = 1.0 if any(name.endswith("blocks.0.gamma1") for name in names) else None
        part["with_cffn"] = any(".extractor.ffn." in name for name in names)


CONFIGS = {
    ("czczup", "ViTAdapter"): from_czczup,
    ("mmdet", "ViTAdapter"): lambda settings: from_czczup(settings, "detection"),
    ("mmseg", "ViTAdapter"): lambda settings: from_czczup(settings, "segmentation"),
}
"""(source, their type) -> our configuration. Its whole models are OpenMMLab's."""
