"""A training begins from a checkpoint of another number of classes: all fits but the classifier, which is named."""

import re

import pytest
import torch
from short_runs import train, write_config
from tiny import HEADS, model_config

from densevit.converters import load_weights
from densevit.engine.classes import sized_by_classes
from densevit.errors import CheckpointError
from densevit.registry import MODELS

# what of each head is sized by its classes
CLASSIFIERS = {
    "RetinaNetHead": {"retina_cls"},
    "MaskRCNNHead": {"box.cls_pred", "box.bbox_pred", "mask.logits"},
    "SemanticFPNHead": {"cls_pred"},
    "SegmenterHead": {"cls_emb", "mask_norm"},
}


def model_of(head, classes):
    config = model_config(classes)
    settings = {k: v for k, v in HEADS[head][0].items() if k not in ("num_classes", "in_channels", "in_strides")}
    config["head"] = dict(type=head, **settings)
    if head == "SegmenterHead":
        config["head"]["in_index"] = [0]
    return config, MODELS.build(config)


@pytest.mark.parametrize("head", CLASSIFIERS)
def test_all_is_loaded_but_what_is_sized_by_the_classes(head):
    before = model_of(head, 3)[1].state_dict()
    config, model = model_of(head, 5)
    own = {name: value.clone() for name, value in model.state_dict().items()}
    names = sized_by_classes(config, model)
    assert {re.sub(r"^head\.|\.(weight|bias)$", "", name) for name in names} == CLASSIFIERS[head]
    with pytest.raises(CheckpointError, match="of other shape"):
        load_weights(model, before)
    report = load_weights(model, before, new_where_odd=lambda: names)
    assert report.newly_initialized == names and not report.mismatched
    for name, value in model.state_dict().items():
        assert torch.equal(value, own[name] if name in names else before[name]), name


def test_other_differences_of_shape_stay_an_error():
    before = dict(model_of("RetinaNetHead", 3)[1].state_dict())
    config, model = model_of("RetinaNetHead", 5)
    name = "head.retina_reg.weight"
    before[name] = before[name][:4]
    names = sized_by_classes(config, model)
    with pytest.raises(CheckpointError, match=name):
        load_weights(model, before, new_where_odd=lambda: names)


def test_the_log_names_the_new_classifier(tmp_path):
    few, many = (tmp_path / name for name in ("few", "many"))
    few.mkdir(), many.mkdir()
    train(write_config(few), few / "run", train_cfg__max_epochs=1)
    config = write_config(many, classes=5)
    runner = train(config, many / "run", stop_at=1, load_from=str(few / "run/epoch_1.pth"))
    text = next((many / "run").glob("*/*.log")).read_text()
    assert "has nothing that fits: head.retina_cls.weight, head.retina_cls.bias" in text
    assert runner.bare_model.head.num_classes == 5
    with pytest.raises(CheckpointError):
        train(config, many / "other", stop_at=1, load_from=str(config))
