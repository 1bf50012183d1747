"""Layers learn at the rates that ViTDet's repository gives them, and the groups survive a resumed run."""

import pytest
import tiny
import torch
from short_runs import losses, train, write_config

from densevit.engine.config import read_config
from densevit.engine.layer_decay import LayerDecayOptimWrapperConstructor, layer_rates
from densevit.errors import ConfigError
from densevit.registry import MODELS

ARCH = dict(embed_dim=16, depth=4, num_heads=2, mlp_ratio=2)


def model_of(backbone: dict) -> torch.nn.Module:
    head = dict(type="FCNHead", channels=4, num_classes=3, in_index=0)
    return MODELS.build(dict(type="DensePredictor", backbone=backbone, head=head))


def groups_of(model, **paramwise) -> dict[str, dict]:
    """Name of each parameter -> its group's settings."""
    optimizer = dict(type="AdamW", lr=1e-4, weight_decay=0.1)
    made = LayerDecayOptimWrapperConstructor(dict(optimizer=optimizer), dict(paramwise))(model).optimizer
    by_id = {id(p): group for group in made.param_groups for p in group["params"]}
    return {name: by_id[id(p)] for name, p in model.named_parameters() if id(p) in by_id}


def rate_in_detectron2(name: str, decay: float, blocks: int) -> float:
    """ViTDet's rule, said once more (Li et al. 2022, appendix; its published recipes)."""
    layer = blocks + 1
    if name.startswith("backbone"):
        if "pos_embed" in name or "patch_embed" in name:
            layer = 0
        elif ".blocks." in name and ".residual." not in name:
            layer = int(name.split(".blocks.")[1].split(".")[0]) + 1
    return decay ** (blocks + 1 - layer)


def test_vits_rates_and_decays_are_detectron2s():
    model = model_of(dict(type="ViT", arch=ARCH, tokens=dict(cls=False), windows=dict(conv_blocks=(1, 3)), img_size=64))
    groups = groups_of(model, decay_rate=0.7, norm_decay_mult=0.0, custom_keys=dict(pos_embed=dict(decay_mult=0.0)))
    assert groups.keys() == {name for name, _ in model.named_parameters()}
    norms = {
        f"{name}.{kind}"
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.LayerNorm | torch.nn.BatchNorm2d)
        for kind in ("weight", "bias")
    }
    assert any(".residual." in name for name in groups)
    for name, group in groups.items():
        assert group["lr"] == pytest.approx(1e-4 * rate_in_detectron2(name, 0.7, 4)), name
        assert group["weight_decay"] == (0.0 if name in norms or "pos_embed" in name else 0.1), name


def test_the_rates_of_custom_keys_are_decayed_too():
    groups = groups_of(
        model_of(dict(type="ViT", arch=ARCH, img_size=64)), decay_rate=0.5, custom_keys=dict(head=dict(lr_mult=10.0))
    )
    assert groups["backbone.blocks.3.attn.qkv.weight"]["lr"] == pytest.approx(0.5e-4)
    assert {group["lr"] for name, group in groups.items() if name.startswith("head")} == {1e-4 * 10.0}


@pytest.mark.parametrize("name", list(tiny.BACKBONES))
def test_every_backbone_says_the_order_of_its_layers(name):
    """From the image on no layer learns faster than one behind it, the first slowest, blocks each at its own rate."""
    model = model_of(dict(type=name, **tiny.BACKBONES[name][0]))
    rates = layer_rates(model, 0.5)
    by_name = {n: rates[id(p)] for n, p in model.backbone.named_parameters()}
    depth = model.backbone.num_layers
    assert min(by_name.values()) == 0.5 ** (depth + 1)
    assert max(by_name.values()) <= 1
    assert {0.5 ** (depth + 1 - i) for i in range(depth + 1)} <= set(by_name.values())


def test_an_adapters_own_modules_learn_at_the_full_rate():
    model = model_of(dict(type="ViTAdapter", **tiny.BACKBONES["ViTAdapter"][0]))
    rates = layer_rates(model, 0.5)
    added = {n: rates[id(p)] for n, p in model.backbone.named_parameters() if not n.startswith("vit.")}
    assert added
    assert set(added.values()) == {1.0}


@pytest.mark.parametrize(
    ("stage", "layer"),
    [
        ("patch_embed.proj.weight", 0),
        ("layers.0.blocks.1.attn.qkv.weight", 2),
        ("layers.0.downsample.reduction.weight", 2),
        ("layers.1.blocks.0.norm1.weight", 3),
        ("layers.3.blocks.0.norm1.weight", 6),
        ("norm3.weight", 7),
    ],
)
def test_swins_layers_count_through_its_stages(stage, layer):
    backbone = MODELS.build(dict(type="Swin", **tiny.BACKBONES["Swin"][0]))
    assert stage in dict(backbone.named_parameters())
    assert backbone.layer_of(stage) == layer


def test_frozen_parameters_are_in_no_group():
    model = model_of(dict(type="ViT", arch=ARCH, img_size=64))
    model.backbone.patch_embed.requires_grad_(False)
    groups = groups_of(model, decay_rate=0.7)
    assert not any("patch_embed" in name for name in groups)
    assert any("blocks.0" in name for name in groups)


@pytest.mark.parametrize("rate", [None, 0, 1.5, "0.7"])
def test_a_rate_that_is_none_is_refused(rate):
    with pytest.raises(ConfigError, match="decay_rate is"):
        LayerDecayOptimWrapperConstructor(dict(optimizer=dict(type="AdamW", lr=1.0)), dict(decay_rate=rate))


def test_a_backbone_without_layers_is_refused():
    with pytest.raises(ConfigError, match="layers of Linear have no order"):
        layer_rates(torch.nn.Linear(2, 2), 0.5)


DECAYED = """
optim_wrapper = dict(type="OptimWrapper", optimizer=dict(type="AdamW", lr=1e-3, weight_decay=0.05),
    constructor="LayerDecayOptimWrapperConstructor", paramwise_cfg=dict(decay_rate=0.5, norm_decay_mult=0.0))
"""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (DECAYED.replace("decay_rate", "decay_rat"), "paramwise_cfg.decay_rat is no setting .* 'decay_rate'"),
        (
            DECAYED.replace("LayerDecayOptimWrapperConstructor", "LayerDecayOptimWrapperConstruktor"),
            "no such constructor .nearest: 'LayerDecayOptimWrapperConstructor'",
        ),
        (
            DECAYED.replace('    constructor="LayerDecayOptimWrapperConstructor", ', ""),
            "paramwise_cfg.decay_rate is no setting of optim_wrapper.paramwise_cfg",
        ),
    ],
)
def test_wrong_keys_are_reported_when_the_config_is_read(tmp_path, text, said):
    config = write_config(tmp_path)
    config.write_text(config.read_text() + text)
    with pytest.raises(ConfigError, match=said):
        read_config(config)


def test_a_resumed_run_keeps_the_groups_and_their_rates(tmp_path):
    """It loses as the unbroken one does, at rates that halve from each of the four blocks to the one before."""
    config = write_config(tmp_path, drop_path=0.0)
    config.write_text(config.read_text() + DECAYED)
    unbroken = train(config, tmp_path / "unbroken", train_cfg__max_epochs=2)
    train(config, tmp_path / "broken", stop_at=5, train_cfg__max_epochs=2)
    resumed = train(config, tmp_path / "broken", resume=True, train_cfg__max_epochs=2)
    assert losses(tmp_path / "broken") == losses(tmp_path / "unbroken")
    for runner in (unbroken, resumed):
        groups = runner.optim_wrapper.optimizer.param_groups
        assert sorted({g["initial_lr"] for g in groups}) == pytest.approx([1e-3 * 0.5**n for n in (5, 4, 3, 2, 1, 0)])
        assert len(groups) <= 12, "groups of equal settings are one"
