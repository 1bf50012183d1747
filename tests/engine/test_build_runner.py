"""From a config to a Runner: what is reported before anything is built."""

import importlib.util

import pytest
from mmengine.config import Config

from densevit.engine.build_runner import _resolve_pretrained, _set_checkpoint_interval, build_runner
from densevit.engine.config import read_config
from densevit.errors import ConfigError


def test_a_tensorboard_that_is_not_installed_is_reported_before_the_data_is_read(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "tensorboard" else find(name, *a))
    config = read_config("pvt_retinanet_scenes", {"tensorboard": True})
    with pytest.raises(ConfigError, match=r"densevit\[tensorboard\]"):
        build_runner(config)


def test_a_config_without_a_model_is_reported(tmp_path):
    path = tmp_path / "empty.py"
    path.write_text("log_level = 'INFO'\n")
    with pytest.raises(ConfigError, match="no model"):
        build_runner(read_config(path))


@pytest.mark.parametrize(
    ("recipe", "wanted"),
    [
        ("pvt_retinanet_coco", (True, 1)),
        ("swin_upernet_ade20k", (False, 16_000)),
        ("pvt_multitask_scenes", (False, 250)),
    ],
)
def test_checkpoints_follow_the_loop_where_a_recipe_says_nothing(recipe, wanted):
    config = read_config(recipe)
    _set_checkpoint_interval(config)
    saving = config.default_hooks.checkpoint
    assert (saving.by_epoch, saving.interval) == wanted


def test_saving_each_epoch_of_a_training_without_epochs_is_refused():
    config = read_config("swin_upernet_ade20k", {"default_hooks.checkpoint.by_epoch": True})
    with pytest.raises(ConfigError, match="saves nothing in a training that counts steps"):
        _set_checkpoint_interval(config)


@pytest.mark.parametrize("adapter", [False, True])
def test_pretrained_weights_go_to_the_backbone_or_to_the_vit_inside_it(tmp_path, adapter):
    (tmp_path / "other.pth").touch()
    first = dict(type="ViT", init_cfg=dict(type="Pretrained", checkpoint="first.pth"))
    config = Config(dict(model=dict(backbone=dict(type="ViTAdapter", vit=first) if adapter else first)))
    _resolve_pretrained(config, str(tmp_path / "other.pth"))
    backbone = config.model.backbone
    assert (backbone.vit if adapter else backbone).init_cfg.checkpoint == str(tmp_path / "other.pth")
    assert not adapter or "init_cfg" not in backbone
