"""ViT-Adapter: czczup/ViT-Adapter. Ours are its names, but for the ViT's, which are DeiT's behind `vit.`."""

from typing import Any

from densevit.converters.architectures.pvt import norm_layer_eps
from densevit.converters.architectures.vit import OFFICIAL_BLOCK, in_blocks
from densevit.converters.architectures.vit_configs import whole_ratio
from densevit.converters.config_spec import NO_DROPOUT, REQUIRED, Architecture, ConfigReader, ConfigSpec, same
from densevit.converters.key_mapping import rules, within
from densevit.errors import ConfigError

PATCH = 16
"""The only patch size that the repository's class runs with."""
KEYS = [
    *rules("pos_embed patch_embed.proj.", target="vit."),
    *within(in_blocks(rules("gamma1->ls1.gamma gamma2->ls2.gamma") + OFFICIAL_BLOCK), target="vit."),
    *rules("extractor.ffn.dwconv.dwconv.->extractor.ffn.dwconv.", *("interactions.{}.",) * 2),
    *rules("ffn.dwconv.dwconv.->ffn.dwconv.", *("interactions.{}.extra_extractors.{}.",) * 2),
    *rules("level_embed* spm. interactions. up. norm{}."),
]


def _each_block(reader: ConfigReader, key: str, default: Any, depth: int) -> list:
    """An option of every block, stated once or as a list."""
    given = reader.pop(key, default)
    if isinstance(given, (list, tuple)) and len(given) != depth:
        raise ConfigError(f"{reader.where}.{key} has {len(given)} entries for {depth} blocks.")
    return list(given) if isinstance(given, (list, tuple)) else [given] * depth


def _finish(config: dict[str, Any], reader: ConfigReader) -> None:
    """For the repository's detection or segmentation code, whose forward differs, as `version_of_code` says."""
    version = reader.pop("version_of_code", None)
    if version not in ("detection", "segmentation"):
        raise ConfigError(
            f"{reader.where}.version_of_code is {version!r}; the repository's ViTAdapter for 'detection' and that "
            "for 'segmentation' give different maps."
        )
    vit, image = whole_ratio(config["vit"]), reader.pop("img_size", 224)
    if vit["img_size"] // PATCH != image // PATCH:
        raise ConfigError(
            f"{reader.where}.img_size is {image}, but pretrain_size is {vit['img_size']}: the table of positions "
            "has one size."
        )
    cut = _each_block(reader, "window_attn", False, vit["arch"]["depth"])
    sides = _each_block(reader, "window_size", 14, vit["arch"]["depth"])
    windows = {i: sides[i] for i, windowed in enumerate(cut) if windowed}
    vit |= {"window_size": tuple(windows.values()), "window_blocks": tuple(windows)}
    vit["layer_scale"] = 1.0 if reader.pop("layer_scale", version == "detection") else None
    added = {"detection": "last", "segmentation": "each"}[version]
    config["add_vit_feature"] = added if reader.pop("add_vit_feature", True) else None


VIT_ADAPTER = ConfigSpec(
    "ViTAdapter",
    constants={"vit": {"type": "ViT", "patch_size": PATCH, "class_token": False, "window_padding": "keys"}},
    keys={
        **same("vit.arch.", embed_dim=768, depth=12, num_heads=12, mlp_ratio=4), "pretrain_size": ("vit.img_size", 224),
        **same("vit.", drop_path_rate=0.0, qkv_bias=True), "norm_layer": ("vit.norm_eps", "eps=1e-6", norm_layer_eps),
        "residual_indices": ("vit.conv_blocks", (), tuple),
        "interaction_indexes": ("interaction_indexes", REQUIRED, lambda pairs: tuple(map(tuple, pairs))),
        **same(conv_inplane=64, n_points=4, deform_num_heads=6, deform_ratio=1.0, init_values=0.0, cffn_ratio=0.25),
        **same(use_extra_extractor=True, with_cffn=True),
    },
    fixed={"in_chans": 3, "patch_size": PATCH, **NO_DROPOUT}, ignored="num_classes with_cp pretrained init_cfg",
    finish=_finish,
)  # fmt: skip


def infer_from_keys(part: dict[str, Any], source: str, names: set[str]) -> None:
    """What the repository's versions have different defaults for."""
    part["vit"]["layer_scale"] = 1.0 if any(name.endswith("blocks.0.gamma1") for name in names) else None
    part["with_cffn"] = any(".extractor.ffn." in name for name in names)


CODES = {"vit_adapter": {}, "mmdet": {"version_of_code": "detection"}, "mmseg": {"version_of_code": "segmentation"}}
CONFIGS = {source: {"ViTAdapter": VIT_ADAPTER.but(defaults=code)} for source, code in CODES.items()}
ARCHITECTURES = (Architecture("ViTAdapter", {"vit_adapter": KEYS}, CONFIGS, infer_from_keys=infer_from_keys),)
