import pytest
import tiny
import torch

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
