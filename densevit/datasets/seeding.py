"""Random state of one item: a pure function of (seed, epoch, index), in any process and order."""

import contextlib
import random
from collections.abc import Iterator

import numpy as np
import torch


@contextlib.contextmanager
def seeded(*key: int) -> Iterator[None]:
    """Seed Python's, numpy's and torch's CPU generators from `key`; put their old states back at the end.

    The old states matter where the data is loaded in the training process itself: drop path and dropout draw from them.
    """
    words = np.random.SeedSequence([int(k) % 2**63 for k in key]).generate_state(8, np.uint32)
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(words.tobytes())
    np.random.seed(words)
    # not torch.manual_seed: that also reseeds (and in a worker wakes up) the GPU's generators
    torch.default_generator.manual_seed(int(words[0]) << 32 | int(words[1]))
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
