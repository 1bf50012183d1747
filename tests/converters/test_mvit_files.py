"""MViTv2 of detectron2 and of the paper's repository: configurations in their terms, and their names."""

import pytest
import torch

from densevit.converters import build, load_weights, translate
from densevit.errors import ConfigError

SMALL = {
    "_target_": "detectron2.modeling.backbone.mvit.MViT",
    "embed_dim": 8,
    "depth": 5,
    "last_block_indexes": (0, 1, 3, 4),
    "norm_layer": {"_partial_": "torch.nn.modules.normalization.LayerNorm", "eps": 1e-6},
}
REPOSITORY = {
    "EMBED_DIM": 8,
    "DEPTH": 5,
    "DIM_MUL": [[1, 2.0], [2, 2.0], [4, 2.0]],
    "HEAD_MUL": [[1, 2.0], [2, 2.0], [4, 2.0]],
    "POOL_Q_STRIDE": [[0, 1, 1], [1, 2, 2], [2, 2, 2], [3, 1, 1], [4, 2, 2]],
    "POOL_KV_STRIDE_ADAPTIVE": [4, 4],
    "POOL_KVQ_KERNEL": [3, 3],
    "REL_POS_SPATIAL": True,
    "RESIDUAL_POOLING": True,
    "DIM_MUL_IN_ATT": True,
}


def mvit(**changes) -> dict:
    return {"MVIT": {**REPOSITORY, **changes}, "MODEL": {"NUM_CLASSES": 5}, "DATA": {"TRAIN_CROP_SIZE": 64}}


def test_detectron2s_defaults_are_known():
    config = translate("detectron2", {"_target_": "MViT", "norm_layer": "torch.nn.LayerNorm"})
    backbone = build("detectron2", {"_target_": "MViT"})
    assert config["arch"]["depths"] == [1, 2, 9, 4]
    assert (config["window_size"], config["pooling"]["kv_stride"], config["norm_eps"]) == (56, 4, 1e-5)
    assert backbone.out_channels == (96, 192, 384, 768)


def test_every_option_of_detectron2s_class_arrives():
    config = translate(
        "detectron2",
        {
            **SMALL,
            "img_size": 96,
            "pretrain_img_size": 96,
            "num_heads": 2,
            "adaptive_kv_stride": 2,
            "adaptive_window_size": 0,
            "residual_pooling": False,
            "mlp_ratio": 2.0,
            "qkv_bias": False,
            "drop_path_rate": 0.3,
            "use_abs_pos": True,
            "use_rel_pos": False,
            "rel_pos_zero_init": False,
            "use_act_checkpoint": True,
            "pretrain_use_cls_token": False,
            "out_features": ("scale3", "scale5"),
        },
    )
    assert config == {
        "type": "MViTv2",
        "arch": dict(embed_dims=[8, 16, 32, 64], depths=[1, 1, 2, 1], num_heads=[2, 4, 8, 16], mlp_ratio=2.0),
        "img_size": 96,
        "window_size": 0,
        "pooling": {"kv_stride": 2, "residual": False},
        "relative_positions": False,
        "absolute_positions": True,
        "qkv_bias": False,
        "drop_path_rate": 0.3,
        "out_indices": (1, 3),
        "norm_eps": 1e-6,
    }


def test_a_table_of_detectron2s_loses_the_row_of_the_class_token():
    backbone = build("detectron2", {**SMALL, "use_abs_pos": True})
    theirs = {name: torch.randn_like(value) for name, value in backbone.state_dict().items()}
    theirs["pos_embed"] = torch.randn(1, 1 + 56 * 56, 8)
    report = load_weights(backbone, theirs, "detectron2")
    assert list(report.resized) == ["pos_embed"]
    assert torch.equal(backbone.pos_embed, theirs["pos_embed"][:, 1:])


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        (dict(last_block_indexes=(0, 1, 4)), "last_block_indexes"),
        (dict(last_block_indexes=(0, 1, 3, 3)), "last_block_indexes"),
        (dict(depth=7), "last_block_indexes"),
        (dict(patch_kernel=(3, 3)), "patch_kernel"),
        (dict(qkv_pool_kernel=(1, 1)), "qkv_pool_kernel"),
        (dict(norm_layer={"_partial_": "torch.nn.BatchNorm2d"}), "norm_layer"),
        (dict(out_features=("res2",)), "out_features"),
        (dict(use_abs_pos=True, img_size=96), "pretrain_img_size"),
        (dict(adaptive_windowsize=7), "adaptive_window_size"),
    ],
)
def test_what_densevit_does_not_have_of_detectron2s_is_named(changes, named):
    with pytest.raises(ConfigError, match=named):
        translate("detectron2", {**SMALL, **changes})


def test_strides_of_keys_may_be_listed_block_by_block():
    listed = [[0, 4, 4], [1, 2, 2], [2, 1, 1], [3, 1, 1], [4, 1, 1]]
    adaptive = translate("facebookresearch-mvit", mvit())
    assert translate("facebookresearch-mvit", mvit(POOL_KV_STRIDE_ADAPTIVE=None, POOL_KV_STRIDE=listed)) == adaptive
    assert adaptive["arch"] == dict(
        embed_dims=[8, 16, 32, 64], depths=[1, 1, 2, 1], num_heads=[1, 2, 4, 8], mlp_ratio=4.0
    )
    assert not adaptive["window_size"]
    assert not adaptive["pooling"]["double_kv_stride"]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        (dict(POOL_FIRST=True), "POOL_FIRST"),
        (dict(MODE="max"), "MODE"),
        (dict(POOL_Q_STRIDE=[[1, 2, 2], [2, 2, 2], [4, 2, 2]]), "queries of every block"),
        (dict(POOL_Q_STRIDE=[[i, 1, 1] for i in range(5)]), "four stages"),
        (dict(DIM_MUL=[[3, 2.0]]), "DIM_MUL"),
        (dict(DIM_MUL=[[1, 1.3]]), "does not round"),
        (dict(POOL_KV_STRIDE_ADAPTIVE=[3, 3]), "power of two"),
        (dict(POOL_KV_STRIDE_ADAPTIVE=None, POOL_KV_STRIDE=[[i, 2, 2] for i in range(5)]), "halves"),
        (dict(SEPARATE_QKV=True), "SEPARATE_QKV"),
    ],
)
def test_what_densevit_does_not_have_of_the_repositorys_is_named(changes, named):
    with pytest.raises(ConfigError, match=named):
        translate("facebookresearch-mvit", mvit(**changes))


def test_a_classifier_of_the_repository_starts_a_detector(tmp_path):
    classifier = build("facebookresearch-mvit", mvit(CLS_EMBED_ON=True))
    theirs = {name: torch.randn_like(value) for name, value in classifier.state_dict().items()}
    theirs |= {"head.projection.weight": torch.randn(5, 64), "head.projection.bias": torch.randn(5)}
    detector = build("detectron2", {**SMALL, "img_size": 64})
    file = tmp_path / "MViTv2_T_in1k.pyth"
    torch.save({"epoch": 3, "model_state": theirs, "optimizer_state": {"state": {}}}, file)
    report = load_weights(detector, file)
    assert report.complete
    assert report.newly_initialized == [f"scale{i}_norm.{kind}" for i in (2, 3, 4, 5) for kind in ("weight", "bias")]
    assert {"cls_token", "norm.weight", "norm.bias", "head.projection.weight"} <= set(report.ignored)
