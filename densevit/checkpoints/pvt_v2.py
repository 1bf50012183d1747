"""PVT v2: names and configurations of whai362/PVT, mmdetection and timm. Ours are whai362's names."""

from typing import Any

from densevit.checkpoints.pvt import (
    MMDET_EMBED,
    PUBLISHED,
    PVT_SIZES,
    mmdet_blocks,
    mmdet_norm_eps,
    mmdet_rest,
    mmdet_sizes,
    official,
)
from densevit.checkpoints.rules import Rule
from densevit.checkpoints.settings import Settings

TABLES = {
    "whai362": [
        Rule("head.*", None),
        Rule("patch_embed{}.*", "patch_embed{}.*"),
        Rule("block{}.*", "block{}.*"),
        Rule("norm{}.*", "norm{}.*"),
    ],
    "mmdet": [
        *MMDET_EMBED,
        *mmdet_blocks("{}", fc2=4),
        Rule("layers.{}.1.{}.ffn.layers.1.*", "block{+1}.{}.mlp.dwconv.dwconv.*"),
        Rule("layers.{}.2.*", "norm{+1}.*"),
    ],
    # timm writes `stages_0` in the models that it makes with features_only=True
    "timm": [
        Rule("head.*", None),
        Rule("patch_embed.*", "patch_embed1.*"),
        *(
            rule
            for stage in ("stages.{}", "stages_{}")
            for rule in (
                Rule(f"{stage}.downsample.*", "patch_embed{+1}.*"),
                Rule(f"{stage}.blocks.{{}}.mlp.dwconv.*", "block{+1}.{}.mlp.dwconv.dwconv.*"),
                Rule(f"{stage}.blocks.{{}}.*", "block{+1}.{}.*"),
                Rule(f"{stage}.norm.*", "norm{+1}.*"),
            )
        ),
    ],
}
WIDE = {**PUBLISHED, "mlp_ratios": [8, 8, 4, 4]}
NAMED = {
    "pvt_v2_b0": {**WIDE, "embed_dims": [32, 64, 160, 256], "depths": [2, 2, 2, 2]},
    **{f"pvt_v2_b{i}": {**WIDE, "depths": depths} for i, depths in enumerate(PVT_SIZES.values(), 1)},
    "pvt_v2_b2_li": {**WIDE, "depths": PVT_SIZES["small"], "linear": True},
    "pvt_v2_b5": {**WIDE, "depths": [3, 6, 40, 3], "mlp_ratios": [4, 4, 4, 4]},
}


def from_mmdet(settings: Settings) -> dict[str, Any]:
    """PyramidVisionTransformerV2 of mmdetection, which has no linear attention."""
    sizes, rest, eps = mmdet_sizes(settings), mmdet_rest(settings), mmdet_norm_eps(settings)
    settings.expect("strides", [4, 2, 2, 2][: len(sizes["depths"])])
    settings.ignore("pretrain_img_size")  # for position tables, which v2 does not have
    settings.done()
    return {"type": "PVTv2", "arch": {**sizes, "linear": False}, **rest, "norm_eps": eps, "embed_norm_eps": eps}


def from_official(settings: Settings) -> dict[str, Any]:
    """PyramidVisionTransformerV2 of whai362/PVT, or one of its named sizes."""
    config = official(settings, NAMED)
    settings.ignore("img_size")
    config["arch"]["linear"] = bool(settings.take("linear", False))
    settings.done()
    return {"type": "PVTv2", **config}


def from_timm(settings: Settings) -> dict[str, Any]:
    """timm's pvt_v2_*: the arguments of its class, or its config.json (`architecture`, `model_args`)."""
    name = settings.take("architecture", settings.type)
    for key, value in {**NAMED.get(name, {}), **settings.take("model_args", {})}.items():
        settings.left.setdefault(key, value)
    settings.left.pop("norm_layer", None)  # timm's own LayerNorm, eps 1e-6
    defaults = {
        "embed_dims": [64, 128, 256, 512],
        "depths": [3, 4, 6, 3],
        "num_heads": [1, 2, 4, 8],
        "mlp_ratios": [8, 8, 4, 4],
        "sr_ratios": [8, 4, 2, 1],
    }
    arch: dict[str, Any] = {key: list(settings.take(key, value)) for key, value in defaults.items()}
    arch["linear"] = bool(settings.take("linear", False))
    settings.expect("in_chans", 3)
    for key in ("drop_rate", "proj_drop_rate", "attn_drop_rate"):
        settings.expect(key, 0.0, [0])
    outputs = tuple(settings.take("out_indices", (0, 1, 2, 3)))
    config = {
        "type": "PVTv2",
        "arch": arch,
        "qkv_bias": settings.take("qkv_bias", True),
        "drop_path_rate": settings.take("drop_path_rate", 0.0),
        "out_indices": outputs,
        "norm_eps": 1e-6,
        "embed_norm_eps": 1e-5,
    }
    # facts about the pretraining and the classifier that config.json also carries
    settings.ignore("num_classes", "num_features", "global_pool", "pretrained_cfg", "features_only", "pretrained")
    settings.done()
    return config


CONFIGS = {
    ("mmdet", "PyramidVisionTransformerV2"): from_mmdet,
    **{("whai362", name): from_official for name in ("PyramidVisionTransformerV2", *NAMED)},
    **{("timm", name): from_timm for name in ("PyramidVisionTransformerV2", *NAMED)},
}
