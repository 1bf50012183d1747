"""Checks before the first iteration of what would otherwise fail at the first validation."""

import contextlib
import copy
import math
from typing import Any

from mmengine.hooks import EarlyStoppingHook as MMEngineEarlyStoppingHook

from densevit.engine import rng_state
from densevit.engine.checkpointing import CheckpointHook
from densevit.engine.classes import compare_datasets
from densevit.engine.config import config_files
from densevit.errors import ConfigError, DataError, UserError, suggest
from densevit.kernels.check_compiler import require_compiler
from densevit.outputs import inputs_of
from densevit.registry import DATASETS, HOOKS

MOST_MAPS = 2000
"""The most depth maps that are searched, spread evenly, for a valid pixel."""


@HOOKS.register_module()
class EarlyStoppingHook(MMEngineEarlyStoppingHook):
    """MMEngine's, which knows whether more is better for the metrics of dense prediction, as `save_best` does."""

    _default_greater_keys = CheckpointHook._default_greater_keys
    _default_less_keys = CheckpointHook._default_less_keys


def check_before_training(runner: Any) -> None:
    """Loaders, class tables, outputs and monitored metrics, and one image through validation.

    Raises:
        ConfigError, DataError: the first error that is found.
    """
    train, val = runner.train_loop.dataloader, runner.val_loop and runner.val_loop.dataloader
    compiled = runner.cfg.get("compile")
    if compiled and (compiled is True or compiled.get("backend", "inductor") == "inductor"):
        require_compiler(next(runner.bare_model.parameters()).device)
    _check_length("train_dataloader", train)
    _check_monitors(runner)
    if val is None:
        return
    _check_length("val_dataloader", val)
    if getattr(val.batch_sampler, "drop_last", False) and len(val.dataset) % (val.batch_sampler.batch_size or 1):
        raise ConfigError("val_dataloader.drop_last=True leaves images unscored; leave it out.")
    for part in getattr(train.dataset, "datasets", ()):
        compare_datasets(train.dataset, part, "a part of train_dataloader")
    compare_datasets(train.dataset, val.dataset, "val_dataloader")
    test = (runner.cfg.get("test_dataloader") or {}).get("dataset")
    if isinstance(test, dict) and test != (runner.cfg.get("val_dataloader") or {}).get("dataset"):
        built = None
        with contextlib.suppress(UserError, OSError):  # a test set that does not exist yet
            built = DATASETS.build(test)
        compare_datasets(train.dataset, built, "test_dataloader")
    inputs = inputs_of(runner.cfg, train.dataset, val.dataset, files=config_files(runner.cfg))
    for metric in runner.val_loop.evaluator.metrics:
        if getattr(metric, "out", None) and hasattr(metric, "check_out"):
            metric.check_out(val.dataset, f"out of {type(metric).__name__}", inputs)
    heads = getattr(runner.bare_model, "heads", list)()
    limits = [head.depth_range[1] for _, head in heads if head.depth_range]
    _check_depth(train.dataset, min(limits, default=math.inf))
    scored = [getattr(metric, "max_depth", math.inf) for metric in runner.val_loop.evaluator.metrics]
    _check_depth(val.dataset, min([*limits, *scored], default=math.inf))
    _try_validation(runner)


def _check_length(section: str, loader: Any) -> None:
    if not len(loader):
        raise ConfigError(
            f"{section} yields no batch: {len(loader.dataset)} images in batches of {loader.batch_sampler.batch_size} "
            "with drop_last; lower batch_size or use more images."
        )


def _check_monitors(runner: Any) -> None:
    """The metrics that hooks monitor have to be among those of validation, where these are known."""
    metrics = runner.val_loop.evaluator.metrics if runner.val_loop else ()
    known = [f"{m.prefix}/{name}" for m in metrics for name in getattr(m, "metric_names", list)()]
    complete = all(hasattr(m, "metric_names") for m in metrics)
    for hook in runner.hooks:
        watched = getattr(hook, "monitor", None) or getattr(hook, "save_best", None) or ()
        for name in [watched] if isinstance(watched, str) else watched:
            free = name == "auto" or "loss" in name or "@" in name
            if complete and not free and not any(name == one or name.startswith(f"{one}/") for one in known):
                gives = f"validation gives {', '.join(known)}" if metrics else "there is no validation"
                raise ConfigError(f"{type(hook).__name__} watches {name!r}{suggest(name, known)}, but {gives}.")


def _check_depth(dataset: Any, most: float) -> None:
    """DataError where no pixel of the searched depth maps is nearer than `most` meters."""
    count = 0
    asked = most < math.inf and hasattr(dataset, "get_data_info")
    for index in range(0, len(dataset), len(dataset) // MOST_MAPS + 1) if asked else ():
        entry = dataset.get_data_info(index)
        if "depth_path" not in entry:
            return
        depth, count = entry["read_depth"](entry["depth_path"]), count + 1
        if ((depth > 0) & (depth < most)).any():
            return
    if count:
        raise DataError(
            f"None of {count} depth maps of {dataset.metainfo.get('ann_file')} has a pixel nearer than {most:g} m, and "
            "what is farther is neither learned nor scored: correct depth_scale of the dataset (1000 where its numbers "
            "are millimeters), or max_depth of the head and of DepthMetric."
        )


def _try_validation(runner: Any) -> None:
    """One image of the validation set through the model and into copies of the metrics."""
    from densevit.engine.loops import predicted

    loop = runner.val_loop
    metrics = copy.deepcopy(loop.evaluator.metrics)
    runner.model.eval()
    with rng_state.preserve_rng_state():
        batch = loop.dataloader.collate_fn([loop.dataloader.dataset[0]])
        samples = [sample.to_dict() for sample in predicted(loop, batch, {})]
    for metric in metrics:
        if getattr(metric, "out", None):
            metric.out = None
        metric.process(batch, samples)
