"""Builds data loaders from their configs."""

import functools
from typing import Any

import torch
from mmengine.dataset import worker_init_fn
from mmengine.dist import get_rank, get_world_size
from mmengine.registry import DATA_SAMPLERS, DATASETS, FUNCTIONS
from torch.utils.data import BatchSampler, DataLoader

from densevit.engine.interruption import shield_worker
from densevit.engine.malloc import keep_freed_memory
from densevit.engine.mmengine_patches import first_of
from densevit.engine.sampler import ResumableBatchSampler
from densevit.errors import ConfigError


def build_dataloader(dataloader: Any, seed: int | None = None) -> DataLoader:
    """A DataLoader from its config, as MMEngine's Runner builds it, with three differences: it has its own generator
    and so does not change the training's RNG state, it can start at any batch without loading those before, and a
    dataset that is built already is neither copied nor built again.

    Args:
        dataloader: a config, whose `dataset` may be built already; a DataLoader is given back as it is.
        seed: of the sampler, and of a dataset that has a `seed`.

    Raises:
        ConfigError: it has no sampler.
    """
    if isinstance(dataloader, DataLoader):
        return dataloader
    settings = dict(dataloader)
    if "sampler" not in settings:
        raise ConfigError(
            "a data loader has no sampler: state sampler=dict(type='TrainSampler'), or type='EvalSampler' in a "
            "validation or test loader."
        )
    dataset = settings.pop("dataset")
    if isinstance(dataset, dict):
        dataset = DATASETS.build(dataset)
    if hasattr(dataset, "full_init"):
        dataset.full_init()
    if hasattr(dataset, "seed") and seed is not None:
        dataset.seed = seed
    workers, size = settings.get("num_workers", 0), settings.pop("batch_size", 1)
    per_epoch = settings.pop("num_batch_per_epoch", None)
    if per_epoch is not None:
        dataset = first_of(dataset, per_epoch * size * get_world_size())
    sampler = _build(DATA_SAMPLERS, settings.pop("sampler"), dataset=dataset, seed=seed)
    batches = settings.pop("batch_sampler", None)
    if batches is None:
        batches = BatchSampler(sampler, size, settings.pop("drop_last", False))
    else:
        batches = _build(DATA_SAMPLERS, batches, sampler=sampler, batch_size=size)
    collate = _function(settings.pop("collate_fn", dict(type="pseudo_collate")))
    quiet = settings.pop("disable_subprocess_warning", False)
    begin = functools.partial(
        _begin_worker, num_workers=workers, rank=get_rank(), seed=seed or 0, disable_subprocess_warning=quiet
    )
    given = settings.pop("worker_init_fn", None)
    if not workers:  # meant for workers, and an error or a warning of torch's without them
        for key in ("persistent_workers", "prefetch_factor"):
            settings.pop(key, None)
    return DataLoader(
        dataset,
        batch_sampler=ResumableBatchSampler(batches),
        collate_fn=collate,
        worker_init_fn=begin if given is None else _function(given),
        generator=torch.Generator().manual_seed(seed or 0),
        **settings,
    )


def _begin_worker(worker_id: int, **settings: Any) -> None:
    shield_worker()
    keep_freed_memory()
    worker_init_fn(worker_id, **settings)


def _build(registry: Any, config: Any, **known: Any) -> Any:
    return registry.build(dict(config), default_args=known) if isinstance(config, dict) else config


def _function(config: Any) -> Any:
    """A function from its config: a name in the FUNCTIONS registry and further arguments."""
    if not isinstance(config, dict):
        return config
    rest = {key: value for key, value in config.items() if key != "type"}
    kind = config["type"]
    return functools.partial(FUNCTIONS.get(kind) if isinstance(kind, str) else kind, **rest)
