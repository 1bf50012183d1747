"""What a training would meet only at its first validation, looked for before its first step."""

import contextlib
import copy
import math
from typing import Any

from mmengine.hooks import EarlyStoppingHook as MMEngineEarlyStoppingHook

from densevit.engine import rng_state
from densevit.engine.checkpointing import CheckpointHook
from densevit.engine.config import config_files
from densevit.errors import ConfigError, DataError, UserError, suggest
from densevit.outputs import inputs_of
from densevit.registry import DATASETS, HOOKS

MOST_MAPS = 2000
"""Depth maps that are looked at, spread evenly, for a pixel that counts."""


@HOOKS.register_module()
class EarlyStoppingHook(MMEngineEarlyStoppingHook):
    """MMEngine's, which knows of the metrics of dense prediction whether more is better, as `save_best` does."""

    _default_greater_keys = CheckpointHook._default_greater_keys
    _default_less_keys = CheckpointHook._default_less_keys


def check_before_training(runner: Any) -> None:
    """Loaders, class tables, outputs and monitored metrics, and one image through validation.

    Raises:
        ConfigError, DataError: what the training or its first validation would end with.
    """
    train, val = runner.train_loop.dataloader, runner.val_loop and runner.val_loop.dataloader
    _check_length("train_dataloader", train)
    _check_monitors(runner)
    if val is None:
        return
    _check_length("val_dataloader", val)
    if getattr(val.batch_sampler, "drop_last", False) and len(val.dataset) % (val.batch_sampler.batch_size or 1):
        raise ConfigError("val_dataloader.drop_last=True leaves images unscored; leave it out.")
    for part in getattr(train.dataset, "datasets", ()):
        _compare_classes(train.dataset, part, "a part of train_dataloader")
    _compare_classes(train.dataset, val.dataset, "val_dataloader")
    test = (runner.cfg.get("test_dataloader") or {}).get("dataset")
    if isinstance(test, dict) and test != (runner.cfg.get("val_dataloader") or {}).get("dataset"):
        built = None
        with contextlib.suppress(UserError, OSError):  # a test set that is not there yet
            built = DATASETS.build(test)
        _compare_classes(train.dataset, built, "test_dataloader")
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


def _compare_classes(train: Any, other: Any, section: str) -> None:
    ours, theirs = (getattr(dataset, "metainfo", None) or {} for dataset in (train, other))
    for key in ("classes", "semantic_classes"):
        a, b = list(ours.get(key) or ()), list(theirs.get(key) or ())
        if a and b and a != b:
            index = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
            names = [repr(table[index]) if index < len(table) else "missing" for table in (a, b)]
            raise DataError(
                f"{key} of {section} ({theirs.get('ann_file')}) are not those of train_dataloader "
                f"({ours.get('ann_file')}): class {index} is {names[1]} and not {names[0]}; state the same `classes`, "
                "in the same order, on both datasets."
            )


def _check_monitors(runner: Any) -> None:
    """The metrics that hooks watch have to be among those that validation gives, where these are known."""
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
    """DataError where no pixel of the depth maps, looked at until one is found, is nearer than `most` meters."""
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
