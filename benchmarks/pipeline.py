"""Images a second and worker through a recipe's training pipeline."""

import os
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import numpy as np

from benchmarks.counterparts import counterpart
from benchmarks.process import SideProcess
from benchmarks.ratios import Ratio, alternate, ratio_of


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
    """Time the training set of a recipe, one item after the other on one thread, as one worker makes them.

    Args:
        config: the recipe.
        data_root: the folder of the data, in place of the recipe's.
        images: items a round, drawn from all; the first round, which also fills the system's cache of files, is left
            out.
        peer: 'mmdet' or 'mmseg', whose pipeline takes the same files.
        peer_model, peer_python, rounds, options: as in `measure_model`.

    Returns:
        The ratio, None without a peer, and our median of seconds an image.

    Raises:
        ConfigError: no such recipe or counterpart. DataError: the files are not there.
    """
    other_name = counterpart(config, peer, peer_model)[0] if peer else None
    common = {"device": "cpu", "seed": 0, "options": dict(options or {})}
    with ExitStack() as stack:
        own = stack.enter_context(SideProcess("densevit data"))
        root = os.fspath(data_root) if data_root is not None else None
        facts = own.ask("open", model=config, data_root=root, **common)
        sides = [own]
        if peer:
            other = stack.enter_context(SideProcess(f"{peer} data", peer_python))
            other.ask("open", model=other_name, **common, **{k: v for k, v in facts.items() if k != "length"})
            sides.append(other)
        for side in sides:
            side.ask("run", images, 0)
        seeds = {id(side): iter(range(1, rounds + 1)) for side in sides}  # the same draws on both sides
        runs = [lambda side=side: side.ask("run", images, next(seeds[id(side)])) for side in sides]
        ours, theirs = alternate(runs[0], runs[1] if peer else None, rounds)
        return (ratio_of(ours, theirs) if peer else None), float(np.median(ours))
