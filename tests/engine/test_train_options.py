"""What `densevit train` changes in a config, and the training that ends with its time."""

import math
import time

import pytest
from short_runs import write_config

from densevit.engine import train_options
from densevit.engine.build_runner import build_runner
from densevit.engine.config import read_config
from densevit.engine.time_limit import ELAPSED, TimeLimitHook
from densevit.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("45s", 45), ("30m", 1800), ("1h30m", 5400), ("1.5h", 5400), ("2d", 172800)]
)
def test_durations(text, seconds):
    assert train_options.parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "half an hour", "30 m", "-5m", "5x"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ConfigError, match="write 90s, 30m or 1h30m"):
        train_options.parse_duration(text)


def test_epochs_stretch_the_schedule_and_leave_the_warmup():
    config = read_config("pvt_retinanet_coco")  # 12 epochs, milestones 8 and 11
    train_options.set_length(config, 36)
    assert config.train_cfg.max_epochs == 36
    assert config.param_scheduler[1].milestones == [24, 33]
    assert config.param_scheduler[0].end == 500


def test_epochs_of_a_recipe_that_counts_iterations_need_the_number_of_images():
    config = read_config("swin_upernet_ade20k")
    with pytest.raises(ConfigError, match="counts iterations"):
        train_options.set_length(config, 10)
    batch = config.train_dataloader.batch_size
    train_options.set_length(config, 10, images=100 * batch)
    assert config.train_cfg.max_iters == 1000 and config.train_cfg.val_interval == 100
    assert config.param_scheduler[-1].end == 1000
    assert config.param_scheduler[0].end == config.param_scheduler[-1].begin


def test_the_learning_rate_follows_the_batch_unless_it_is_given():
    config = read_config("pvt_retinanet_coco")
    train_options.set_batch_size(config, 4)
    assert config.train_dataloader.batch_size == 4 and config.auto_scale_lr.enable
    train_options.set_learning_rate(config, 3e-4)
    assert config.optim_wrapper.optimizer.lr == 3e-4 and not config.auto_scale_lr.enable


@pytest.mark.parametrize(
    ("recipe", "metric"),
    [
        ("pvt_retinanet_coco", "coco/bbox_AP"),
        ("swin_maskrcnn_coco", "coco/segm_AP"),
        ("vit_upernet_ade20k", "semantic/mIoU"),
        ("vit_dpt_nyu", "depth/abs_rel"),
    ],
)
def test_early_stopping_watches_the_main_metric(recipe, metric):
    config = read_config(recipe)
    train_options.stop_early(config, 3, train_options.main_metric(config))
    assert config.custom_hooks[-1] == dict(type="EarlyStoppingHook", monitor=metric, patience=3)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda config: train_options.set_length(config, 0), "--epochs 0"),
        (lambda config: train_options.set_batch_size(config, 0), "--batch 0"),
        (lambda config: train_options.set_learning_rate(config, 0.0), "--lr 0"),
        (lambda config: train_options.set_workers(config, -1), "--workers -1"),
        (lambda config: train_options.stop_early(config, 0, "coco/bbox_AP"), "--early-stop 0"),
    ],
)
def test_senseless_values_are_refused(change, words):
    with pytest.raises(ConfigError, match=words):
        change(read_config("pvt_retinanet_coco"))


def test_a_tracker_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setattr(train_options.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install wandb"):
        train_options.track(read_config("pvt_retinanet_coco"), "wandb")


def test_the_learning_rate_rises_and_falls_with_the_time():
    hook = TimeLimitHook(100, warmup=0.1, reserve=0.0)
    assert hook.factor(0) == 0
    assert hook.factor(5) == pytest.approx(0.5 * 0.5 * (1 + math.cos(math.pi * 0.05)))
    assert hook.factor(50) == pytest.approx(0.5)
    assert hook.factor(100) == hook.factor(1e6) == pytest.approx(0)


def test_a_training_ends_with_its_time_after_a_validation(tmp_path):
    config = read_config(write_config(tmp_path))
    train_options.set_time(config, 6.0)
    config.work_dir = str(tmp_path / "run")
    runner = build_runner(config)
    start = time.monotonic()
    runner.train()
    assert time.monotonic() - start < 60
    assert runner.iter == runner.max_iters > 1
    assert runner.message_hub.runtime_info[ELAPSED] >= 6.0 * 0.9 * 0.8
    group = runner.optim_wrapper.param_groups[0]
    assert group["lr"] < 0.3 * group["initial_lr"]
    assert (tmp_path / "run" / "last_validated").read_text() == str(runner.iter)
    assert (tmp_path / "run" / f"iter_{runner.iter}.pth").is_file()
