"""The state of a process's random number generators, as tensors, which checkpoints may hold."""

import contextlib
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch


def get_rng_state() -> dict:
    """The state of Python's, numpy's and torch's generators (and of this process's GPU), as tensors and numbers."""
    version, words, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state()
    state = {
        "python": [version, torch.tensor(words, dtype=torch.int64), gauss],
        "numpy": [name, torch.from_numpy(keys.astype(np.int64)), int(position), int(has_gauss), float(cached)],
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def set_rng_state(
    state: dict, python: Any = random, numpy: Any = np.random, generator: torch.Generator = torch.default_generator
) -> None:
    """Set what `get_rng_state` gave, by default in this process's generators."""
    version, words, gauss = state["python"]
    python.setstate((version, tuple(words.tolist()), gauss))
    name, keys, position, has_gauss, cached = state["numpy"]
    numpy.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    generator.set_state(state["torch"])
    if "cuda" in state and generator is torch.default_generator and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


def check_rng_state(state: dict) -> None:
    """Raises an exception of any type where `set_rng_state` could not set `state`; changes no generator."""
    _, keys, position, *_ = state["numpy"]
    if not 0 <= position <= len(keys):  # numpy would read beyond its words
        raise ValueError(f"position {position}")
    set_rng_state(state, random.Random(), np.random.RandomState(), torch.Generator())
    cuda = state.get("cuda")
    if cuda is not None and (cuda.dtype, cuda.shape) != (torch.uint8, (16,)):
        raise ValueError("state of the GPU's generator")


@contextlib.contextmanager
def preserve_rng_state() -> Iterator[dict]:
    """Runs a block, such as a validation, and restores the RNG state afterwards; gives that state."""
    state = get_rng_state()
    try:
        yield state
    finally:
        set_rng_state(state)


def seed_per_rank(seed: int, rank: int) -> None:
    """Seed each process but the first differently: drop path on two GPUs should not drop the same samples."""
    if rank:
        words = np.random.SeedSequence([seed % 2**63, rank]).generate_state(4, np.uint32)
        random.seed(words.tobytes())
        np.random.seed(words)
        torch.manual_seed(int(words[0]) << 31 | int(words[1]) >> 1)
