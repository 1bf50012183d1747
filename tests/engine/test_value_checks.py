"""Values of a config are held against what constructors take before anything is built."""

import copy

import pytest
from mmengine.config import ConfigDict

from densevit.engine.config import read_config, shipped_configs
from densevit.engine.config_checks import ConfigChecker, building
from densevit.errors import ConfigError, DataError

BASE = dict(
    train_cfg=dict(by_epoch=True, max_epochs=3, val_interval=1),
    train_dataloader=dict(
        batch_size=2,
        num_workers=0,
        sampler=dict(type="TrainSampler"),
        dataset=dict(type="CocoDataset", ann_file="a.json", pipeline=[dict(type="PackSample")]),
    ),
    optim_wrapper=dict(
        type="OptimWrapper", optimizer=dict(type="AdamW", lr=1e-3, betas=[0.9, 0.999]), clip_grad=dict(max_norm=1.0)
    ),
    param_scheduler=[
        dict(type="LinearLR", start_factor=0.1, by_epoch=False, begin=0, end=4),
        dict(type="MultiStepLR", milestones=[2]),
    ],
    default_hooks=dict(checkpoint=dict(type="CheckpointHook", interval=1, save_best="auto")),
    randomness=dict(seed=3),
    model=dict(
        type="DensePredictor",
        backbone=dict(type="PVTv2", arch="b0", drop_path_rate=0.1),
        head=dict(type="RetinaNetHead", feat_channels=8, stacked_convs=1),
    ),
)


def with_value(path, value):
    location = settings = ConfigDict(copy.deepcopy(BASE))
    *steps, last = path.split(".")
    for step in steps:
        location = location[int(step) if step.isdigit() else step]
    location[last] = value
    return settings


@pytest.mark.parametrize(
    "path, value",
    [
        ("train_cfg.max_epochs", "abc"),
        ("train_cfg.max_epochs", 0),
        ("train_cfg.max_epochs", None),
        ("train_cfg.val_interval", 0),
        ("train_dataloader.batch_size", 0),
        ("train_dataloader.batch_size", "two"),
        ("train_dataloader.num_workers", -1),
        ("train_dataloader.num_workers", "all"),
        ("optim_wrapper.optimizer.lr", "abc"),
        ("optim_wrapper.optimizer.lr", -0.1),
        ("optim_wrapper.optimizer.lr", float("nan")),
        ("optim_wrapper.optimizer.weight_decay", "none"),
        ("optim_wrapper.clip_grad.max_norm", "abc"),
        ("param_scheduler.0.start_factor", "low"),
        ("param_scheduler.1.milestones", "abc"),
        ("optim_wrapper.optimizer.betas", "0.9, 0.99"),
        ("param_scheduler.0.end", float("nan")),
        ("default_hooks.checkpoint.interval", "often"),
        ("default_hooks.checkpoint.interval", 0),
        ("default_hooks.checkpoint.interval", -2),
        ("default_hooks.checkpoint.filename_tmpl", 5),
        ("model.head.feat_channels", 0),
        ("model.head.stacked_convs", -1),
        ("train_dataloader.dataset.pipeline", []),
        ("randomness.seed", -1),
        ("model.backbone.drop_path_rate", 2),
        ("model.backbone.drop_path_rate", -0.1),
        ("model.backbone.drop_path_rate", "some"),
    ],
)
def test_a_value_that_cannot_be_is_named_with_its_place(path, value):
    with pytest.raises(ConfigError, match=path.replace(".", r"\.")):
        ConfigChecker("run.py").check(with_value(path, value))


@pytest.mark.parametrize(
    "path, value",
    [
        ("train_cfg.max_epochs", 3.0),
        ("optim_wrapper.optimizer.lr", 1),
        ("randomness.seed", None),
        ("default_hooks.checkpoint.interval", -1),
        ("model.head.stacked_convs", 0),
    ],
)
def test_values_that_can_be_pass(path, value):
    ConfigChecker("run.py").check(ConfigDict(BASE))
    ConfigChecker("run.py").check(with_value(path, value))


@pytest.mark.parametrize("recipe", shipped_configs())
def test_every_recipe_passes(recipe):
    ConfigChecker(recipe).check(read_config(recipe)._cfg_dict)


def test_what_a_constructor_raises_of_its_arguments_names_the_section():
    for error in (ValueError("odd"), TypeError("odd"), AssertionError("odd"), KeyError("odd")):
        sentence = r"optim_wrapper of the config cannot be built \('?odd'?\)"
        with pytest.raises(ConfigError, match=sentence), building("optim_wrapper"):
            raise error
    with pytest.raises(DataError, match="itself"), building("optim_wrapper"):
        raise DataError("itself")
    with pytest.raises(IndexError), building("optim_wrapper"):  # a fault of ours keeps its traceback
        raise IndexError
