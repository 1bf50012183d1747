import pytest
import tiny
import torch
from mmengine.optim import build_optim_wrapper

import densevit.models  # noqa: F401
from densevit.errors import ConfigError
from densevit.registry import MODELS


def build(**changes):
    torch.manual_seed(0)
    return MODELS.build({**tiny.model_config(), **changes})


def test_channels_strides_and_classes_flow_to_their_users():
    model = build()
    assert model.neck.out_strides == (4, 8, 16, 32)
    assert model.head.num_classes == 3
    assert model.head.cls_convs[0].in_channels == 8


def test_a_config_that_contradicts_the_flow_is_refused():
    with pytest.raises(ConfigError, match="in_channels"):
        build(neck=dict(type="FPN", in_channels=(1, 2, 3, 4)))
    with pytest.raises(ConfigError, match="num_classes"):
        build(head=dict(type="RetinaNetHead", num_classes=80))
    with pytest.raises(ConfigError, match="num_classes"):
        build(classes=None)


def test_necks_chain_and_heads_have_names():
    neck = dict(type="FPN", out_channels=8, num_levels=4)
    head = tiny.model_config()["head"]
    model = build(neck=[neck, dict(neck, out_channels=4)], head=dict(near=head, far=head)).train()
    data = model.data_preprocessor(tiny.batch(), True)
    losses = model(**data, mode="loss")
    assert set(losses) == {"near.loss_cls", "near.loss_box", "far.loss_cls", "far.loss_box"}
    assert set(model(data["inputs"])) == {"near", "far"}
    assert "pred_instances" in model.eval()(**data, mode="predict")[0]


def test_validation_gives_predictions_and_the_training_loss():
    model = build().eval()
    with torch.no_grad():
        *samples, last = model.val_step(tiny.batch())
        losses = model(**model.data_preprocessor(tiny.batch()), mode="loss")
    assert len(samples) == 2
    assert list(last.keys()) == ["loss"]
    torch.testing.assert_close(last.loss["loss"], sum(sum(v) for v in losses.values()))


def test_a_training_step_lowers_the_loss():
    model = build().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    history = []
    for _ in range(20):
        losses = model(**model.data_preprocessor(tiny.batch(), True), mode="loss")
        total = sum(sum(v) for v in losses.values())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        history.append(float(total.detach()))
    assert history[-1] < 0.8 * history[0]


AUXILIARY = [
    dict(type="FCNHead", in_index=2, channels=8, losses=dict(type="CrossEntropyLoss", loss_weight=0.4)),
    dict(type="FCNHead", in_index=(1,), neck_index=1, num_convs=0, loss_weight=0.4),
    dict(type="SemanticFPNHead", channels=8, neck_index=1),
]


def test_auxiliary_heads_stand_on_the_maps_that_they_ask_for_and_learn_in_training_alone():
    model = build(auxiliary=AUXILIARY, head=dict(type="SemanticFPNHead", channels=8)).train()
    assert [head.num_classes for head in model.auxiliary] == [3, 3, 3]
    assert model.auxiliary[0].convs[0].conv.in_channels == 24  # the backbone's own
    assert model.auxiliary[1].cls_pred.in_channels == 8  # the FPN's
    assert [head.stride for head in model.auxiliary] == [16, 8, 4]
    data = model.data_preprocessor(tiny.batch(), True)
    losses = model(**data, mode="loss")
    assert list(losses) == ["loss_ce", "aux_0.loss_ce", "aux_1.loss_ce", "aux_2.loss_ce"]
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in model.parameters())
    plain = build(head=dict(type="SemanticFPNHead", channels=8)).eval()
    state = {key: value for key, value in model.state_dict().items() if not key.startswith("auxiliary.")}
    plain.load_state_dict(state)
    model.eval()
    with torch.no_grad():
        torch.testing.assert_close(model(data["inputs"]), plain(data["inputs"]))
        assert list(model.val_step(tiny.batch())[-1].loss) == ["loss_ce", "loss"]
        # the loss of an auxiliary head is that of its logits on its maps
        levels = model.feature_levels(data["inputs"])
        logits = model.auxiliary[1](model.select_auxiliary_features(1, levels))
        found = model(**data, mode="loss")["aux_1.loss_ce"]
        ground_truth = torch.stack([sample.gt_semantic for sample in data["data_samples"]])
        logits = torch.nn.functional.interpolate(logits, ground_truth.shape[1:], mode="bilinear")
        torch.testing.assert_close(
            found, 0.4 * torch.nn.functional.cross_entropy(logits, ground_truth, ignore_index=255), rtol=1e-5, atol=1e-6
        )


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (dict(type="FCNHead", in_index=4), r"auxiliary\[0\].in_index is \(4,\), but there are 4 maps"),
        (dict(type="FCNHead", in_index=2, neck_index=2), r"auxiliary\[0\].neck_index is 2, but there are 1 necks"),
        (dict(type="FCNHead", in_index=2, num_classes=5), r"auxiliary\[0\].num_classes is 5"),
        (dict(type="FCNHead"), "FCNHead looks at one map, but 4 come in"),
    ],
)
def test_an_auxiliary_head_that_fits_nowhere_is_named(head, said):
    with pytest.raises(ConfigError, match=said):
        build(auxiliary=[head])


def test_losses_of_heads_are_balanced_and_auxiliary_ones_added_as_they_are():
    heads = dict(one=dict(type="SemanticFPNHead", channels=8), two=dict(type="FPNDepthHead", channels=8, max_depth=9.0))
    model = build(head=heads, auxiliary=AUXILIARY[:1], loss_weighting=dict(type="UncertaintyWeighting")).train()
    losses = model(**model.data_preprocessor(tiny.batch(), True), mode="loss")
    assert set(losses) == {"one.loss_ce", "one.loss_weighting", "two.loss_silog", "two.loss_weighting", "aux_0.loss_ce"}


def test_frozen_parts_stay_as_they_are_while_the_rest_learns():
    neck = dict(type="UPerNet", channels=8, pool_scales=(1, 2))
    model = build(neck=neck, head=dict(type="FCNHead", num_convs=1, channels=8), frozen=("backbone", "neck")).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    data = model.data_preprocessor(tiny.batch(), True)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    model(**data, mode="loss")["loss_ce"].backward()
    assert all(p.grad is None for part in (model.backbone, model.neck) for p in part.parameters())
    optimizer.step()
    same = {key for key, value in model.state_dict().items() if torch.equal(value, before[key])}
    assert {key for key in before if key.startswith(("backbone.", "neck."))} <= same
    assert not {key for key in before if key.startswith("head.") and "num_batches" not in key} & same


PARTLY = ("backbone.patch_embed", "backbone.pos_embed", "backbone.blocks.0-1", "head.convs")
STILL = ("backbone.patch_embed.", "backbone.pos_embed", "backbone.blocks.0.", "backbone.blocks.1.", "head.convs.")


def test_blocks_and_single_parameters_are_frozen_and_nothing_else():
    """They have no gradient, stand in no group of the optimizer, do not drop and keep their statistics."""
    arch = dict(embed_dim=16, depth=4, num_heads=2, mlp_ratio=2)
    backbone = dict(type="ViT", arch=arch, patch_size=8, img_size=32, drop_path_rate=0.9)
    model = build(backbone=backbone, neck=None, head=dict(type="FCNHead", num_convs=1, channels=8), frozen=PARTLY)
    assert {name for name, p in model.named_parameters() if not p.requires_grad} == {
        name for name, _ in model.named_parameters() if name.startswith(STILL)
    }
    model.train()
    names = dict(model.named_modules())
    assert not any(names[name].training for name in ("backbone.blocks.0", "backbone.blocks.1.drop_path", "head.convs"))
    assert all(names[name].training for name in ("backbone", "backbone.blocks.2.drop_path", "backbone.blocks", "head"))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    optimizer = dict(type="SGD", lr=0.1, weight_decay=0.1)
    wrapper = build_optim_wrapper(model, dict(optimizer=optimizer, paramwise_cfg=dict(norm_decay_mult=0.0)))
    moving = {id(p) for group in wrapper.optimizer.param_groups for p in group["params"]}
    assert moving == {id(p) for name, p in model.named_parameters() if not name.startswith(STILL)}
    torch.manual_seed(1)
    model(**model.data_preprocessor(tiny.batch(), True), mode="loss")["loss_ce"].backward()
    assert all(p.grad is None for name, p in model.named_parameters() if name.startswith(STILL))
    wrapper.step()
    same = {key for key, value in model.state_dict().items() if torch.equal(value, before[key])}
    assert {key for key in before if key.startswith(STILL)} <= same
    assert "backbone.blocks.3.mlp.fc1.weight" not in same
    assert model.state_dict().keys() == before.keys()


@pytest.mark.parametrize(
    ("frozen", "said"),
    [
        ("bakbone", "model has no 'bakbone' .nearest: 'backbone'"),
        (["backbone.block9"], r"model.backbone has no 'block9' .nearest: 'block\d'"),
        (["backbone.block1.0-7"], r"names 'backbone.block1.0-7', but model.backbone.block1 has no '1'"),
        (["backbone.block1.0.norm1.weight.data"], "has no 'data': choose from nothing"),
    ],
)
def test_what_cannot_be_frozen_is_named(frozen, said):
    with pytest.raises(ConfigError, match=said):
        build(frozen=frozen)
