"""Images per second and worker through a recipe's training pipeline."""

import os
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import numpy as np

from benchmarks.process import BackendProcess
from benchmarks.ratios import Ratio, alternate, ratio_of
from benchmarks.reference_models import reference_model


def measure_pipeline(
    config: str,
    data_root: str | os.PathLike | None = None,
    images: int = 100,
    peer: str | None = None,
    peer_model: str | None = None,
    peer_python: str | os.PathLike | None = None,
    rounds: int = 5,
    options: Mapping[str, Any] | None = None,
) -> tuple[Ratio | None, float]:
    """Time the training set of a recipe, item by item on one thread, like one worker of a data loader.

    Args:
        config: the recipe.
        data_root: the folder of the data, overrides the recipe's.
        images: random items of a round; the first round, which fills the file cache, is not counted.
        peer: 'mmdet' or 'mmseg', whose pipeline takes the same files.
        peer_model, peer_python, rounds, options: as in `measure_model`.

    Returns:
        The ratio, None without a peer, and our median of seconds an image.

    Raises:
        ConfigError: no such recipe or counterpart. DataError: the files are not there.
    """
    other_name = reference_model(config, peer, peer_model)[0] if peer else None
    common = {"device": "cpu", "seed": 0, "options": dict(options or {})}
    with ExitStack() as stack:
        own = stack.enter_context(BackendProcess("densevit data"))
        root = os.fspath(data_root) if data_root is not None else None
        facts = own.ask("open", model=config, data_root=root, **common)
        backends = [own]
        if peer:
            other = stack.enter_context(BackendProcess(f"{peer} data", peer_python))
            other.ask("open", model=other_name, **common, **{k: v for k, v in facts.items() if k != "length"})
            backends.append(other)
        for backend in backends:
            backend.ask("run", images, 0)
        seeds = [iter(range(1, rounds + 1)) for _ in backends]  # the same items and augmentations in both
        runs = [lambda b=b, seeds=s: b.ask("run", images, next(seeds)) for b, s in zip(backends, seeds, strict=True)]
        ours, theirs = alternate(runs[0], runs[1] if peer else None, rounds)
        return (ratio_of(ours, theirs) if peer else None), float(np.median(ours))
