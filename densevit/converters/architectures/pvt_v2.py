"""PVT v2: whai362/PVT, mmdetection and timm. Ours are whai362's names."""

from typing import Any

from densevit.archs import PVT_V2
from densevit.converters.architecture import Architecture
from densevit.converters.architectures.pvt import MMDET, OFFICIAL, finish_official, mmdet_keys, named
from densevit.converters.config_spec import ZERO, ConfigReader, ConfigSpec, add_defaults
from densevit.converters.key_mapping import KeyRule, ignored, same

KEYS = {
    "pvt": [*ignored("head.*"), *same("patch_embed{}.*", "block{}.*", "norm{}.*")],
    "mmdet": [
        *mmdet_keys("{}", fc2=4), KeyRule("layers.{}.1.{}.ffn.layers.1.*", "block{+1}.{}.mlp.dwconv.dwconv.*"),
        KeyRule("layers.{}.2.*", "norm{+1}.*"),
    ],
    "timm": [
        *ignored("head.*"), KeyRule("patch_embed.*", "patch_embed1.*"),
        *(
            rule.within(stage)
            for stage in ("stages.{}.", "stages_{}.")  # the latter in models made with features_only=True
            for rule in (
                KeyRule("downsample.*", "patch_embed{+1}.*"),
                KeyRule("blocks.{}.mlp.dwconv.*", "block{+1}.{}.mlp.dwconv.dwconv.*"),
                KeyRule("blocks.{}.*", "block{+1}.{}.*"), KeyRule("norm.*", "norm{+1}.*"),
            )
        ),
    ],
}  # fmt: skip
NAMED = named("pvt_v2", PVT_V2)
"""timm's too; whai362's drop path is 0.1."""


def _finish_mmdet(config: dict[str, Any], reader: ConfigReader) -> None:
    MMDET.finish(config, reader)
    reader.require("strides", (4, 2, 2, 2)[: len(config["arch"]["depths"])])
    config["arch"]["linear"] = False  # mmdetection has no linear attention


def _finish_official(config: dict[str, Any], reader: ConfigReader) -> None:
    linear = bool(reader.pop("linear", False))
    finish_official(config, reader)
    config["arch"]["linear"] = linear


V2_OFFICIAL = OFFICIAL.but(type="PVTv2", ignored=("img_size", "patch_size"), finish=_finish_official)
TIMM = ConfigSpec(
    "PVTv2",
    keys={
        "embed_dims": ("arch.embed_dims", (64, 128, 256, 512)), "depths": ("arch.depths", (3, 4, 6, 3)),
        "num_heads": ("arch.num_heads", (1, 2, 4, 8)), "mlp_ratios": ("arch.mlp_ratios", (8, 8, 4, 4)),
        "sr_ratios": ("arch.sr_ratios", (8, 4, 2, 1)), "linear": ("arch.linear", False, bool),
        "qkv_bias": ("qkv_bias", True), "drop_path_rate": ("drop_path_rate", 0.0),
        "out_indices": ("out_indices", (0, 1, 2, 3), tuple),
    },
    constants={"norm_eps": 1e-6, "embed_norm_eps": 1e-5},
    fixed={"in_chans": 3, "drop_rate": ZERO, "proj_drop_rate": ZERO, "attn_drop_rate": ZERO},
    ignored=("norm_layer", "num_classes", "num_features", "global_pool", "features_only", "pretrained", "img_size"),
    prepare=lambda reader: add_defaults(reader, NAMED),
)  # fmt: skip
ARCHITECTURE = Architecture(
    "PVTv2",
    keys=KEYS,
    configs={
        "mmdet": {
            "PyramidVisionTransformerV2": MMDET.but(type="PVTv2", ignored=("pretrain_img_size",), finish=_finish_mmdet)
        },
        "pvt": {
            "PyramidVisionTransformerV2": V2_OFFICIAL,
            **{name: V2_OFFICIAL.but(defaults={"drop_path_rate": 0.1, **options}) for name, options in NAMED.items()},
        },
        "timm": dict.fromkeys(("PyramidVisionTransformerV2", *NAMED), TIMM),
    },
)
