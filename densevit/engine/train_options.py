"""What `densevit train` changes in a config: length, learning rate, batch size, frozen parts, tracking."""

import importlib.util
import math
import re
from collections.abc import Sequence
from typing import Any

from densevit.errors import ConfigError

TRACKERS = {
    "tensorboard": ("tensorboard", "TensorboardVisBackend"),
    "wandb": ("wandb", "WandbVisBackend"),
    "mlflow": ("mlflow", "MLflowVisBackend"),
}
"""Package and MMEngine's back end."""
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
BY_LENGTH = ("begin", "end", "T_max", "total_iters", "total_steps")
"""Arguments of a scheduler that count epochs or iterations, beside `milestones`."""


def parse_duration(text: str) -> float:
    """'90', '90s', '30m', '1h30m' -> seconds.

    Raises:
        ConfigError: anything else, or no time at all.
    """
    parts = re.findall(r"(\d+(?:\.\d+)?)([smhd]?)", text)
    seconds = sum(float(number) * UNITS[unit or "s"] for number, unit in parts)
    if "".join(number + unit for number, unit in parts) != text or not seconds > 0:
        raise ConfigError(f"--time {text!r} is no time: write 90s, 30m or 1h30m.")
    return seconds


def set_length(config: Any, epochs: int, images: int | None = None) -> None:
    """Train for so many epochs, with the learning rate schedule stretched or compressed to them.

    Args:
        config: changed in place.
        epochs: passes over the training set.
        images: of the training set, which a recipe that counts iterations needs to know.

    Raises:
        ConfigError: no epoch, or a recipe that counts iterations without `images`.
    """
    if epochs < 1:
        raise ConfigError(f"--epochs {epochs}: give at least 1.")
    loop = config.train_cfg
    if "max_iters" not in loop:
        factor = epochs / loop.max_epochs
        loop.max_epochs, loop.val_interval = epochs, min(loop.get("val_interval", 1), epochs)
        _scale_schedulers(config, factor, by_epoch=True)
        return
    if images is None:
        raise ConfigError("--epochs: this recipe counts iterations; give --data, or train_cfg.max_iters in the config.")
    steps = math.ceil(images / config.train_dataloader.batch_size)
    factor = epochs * steps / loop.max_iters
    loop.max_iters, loop.val_interval = epochs * steps, max(steps, epochs * steps // 10)
    _scale_schedulers(config, factor, by_epoch=False)


def _scale_schedulers(config: Any, factor: float, by_epoch: bool) -> None:
    """Multiply what the schedulers of this unit count. A warmup in iterations before epochs keeps its length."""
    schedulers = config.get("param_scheduler") or []
    for scheduler in schedulers if isinstance(schedulers, list) else [schedulers]:
        if scheduler.get("by_epoch", True) != by_epoch:
            continue
        for key in BY_LENGTH:
            if scheduler.get(key):
                scheduler[key] = max(1, round(scheduler[key] * factor))
        if "milestones" in scheduler:
            scheduler["milestones"] = sorted({max(1, round(step * factor)) for step in scheduler["milestones"]})


def set_time(config: Any, seconds: float) -> None:
    """Train for so many seconds: see `TimeLimitHook`. Validation comes once, at the end."""
    from densevit.engine.time_limit import UNKNOWN

    config.train_cfg = dict(type="IterBasedTrainLoop", max_iters=UNKNOWN, val_interval=UNKNOWN)
    config.param_scheduler = None
    config.log_processor = dict(config.get("log_processor") or {}, by_epoch=False)
    add_hook(config, dict(type="TimeLimitHook", seconds=seconds))
    config.default_hooks.checkpoint.update(by_epoch=False, interval=500)


def set_batch_size(config: Any, batch_size: int) -> None:
    """Images a step and process; the learning rate follows in proportion, where the recipe states its own batch."""
    if batch_size < 1:
        raise ConfigError(f"--batch {batch_size}: give at least 1.")
    config.train_dataloader.batch_size = batch_size
    if config.get("auto_scale_lr"):
        config.auto_scale_lr.enable = True


def set_learning_rate(config: Any, rate: float) -> None:
    """The optimizer's learning rate, which no batch size changes any more."""
    if not rate > 0:
        raise ConfigError(f"--lr {rate:g}: give a number above 0.")
    config.optim_wrapper.optimizer.lr = rate
    if config.get("auto_scale_lr"):
        config.auto_scale_lr.enable = False


def set_workers(config: Any, workers: int) -> None:
    """Processes that load data, in all data loaders."""
    if workers < 0:
        raise ConfigError(f"--workers {workers}: give 0 or more.")
    for name in ("train_dataloader", "val_dataloader", "test_dataloader"):
        if config.get(name):
            config[name].num_workers = workers
            config[name].persistent_workers = workers > 0 and config[name].get("persistent_workers", False)


def freeze(config: Any, parts: Sequence[str]) -> None:
    """Do not train these parts, beside those that the recipe freezes."""
    given = config.model.get("frozen", ())
    config.model.frozen = (*((given,) if isinstance(given, str) else given), *parts)


def stop_early(config: Any, patience: int, metric: str) -> None:
    """End the training after so many validations without a better `metric`."""
    if patience < 1:
        raise ConfigError(f"--early-stop {patience}: give at least 1 validation.")
    add_hook(config, dict(type="EarlyStoppingHook", monitor=metric, patience=patience))


def main_metric(config: Any) -> str:
    """The metric that a recipe's validation is judged by.

    Raises:
        ConfigError: there is none.
    """
    evaluator = config.get("val_evaluator") or {}
    first = evaluator[0] if isinstance(evaluator, list | tuple) else evaluator
    kind = str(first.get("type")).removeprefix("densevit.")
    kinds = first.get("metric", "bbox")
    box_or_mask = "segm" if "segm" in ([kinds] if isinstance(kinds, str) else kinds) else "bbox"
    names = {"CocoMetric": f"coco/{box_or_mask}_AP", "SemanticMetric": "semantic/mIoU", "DepthMetric": "depth/abs_rel"}
    if kind not in names:
        raise ConfigError(f"--early-stop: the recipe has no metric of {', '.join(names)} to watch.")
    return names[kind]


def track(config: Any, name: str) -> None:
    """Send losses and metrics to a tracker as well.

    Raises:
        ConfigError: its package is not installed.
    """
    package, backend = TRACKERS[name]
    if importlib.util.find_spec(package) is None:
        raise ConfigError(f"--track {name} needs the package {package}: pip install {package}.")
    config.visualizer.vis_backends.append(dict(type=backend))


def add_hook(config: Any, hook: dict) -> None:
    """One more custom hook."""
    config.custom_hooks = [*(config.get("custom_hooks") or []), hook]
