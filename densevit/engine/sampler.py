"""Samplers whose order is a pure function of (seed, epoch), so that a run can resume at any batch."""

import itertools
import math
from collections.abc import Iterable, Iterator, Sized

import torch
from mmengine.dist import get_dist_info
from torch.utils.data import Sampler

from densevit.registry import DATA_SAMPLERS


def interleaved(order: list[int], rank: int, world_size: int) -> list[int]:
    """The images of `order` for process `rank`: every world_size-th, so that the first B of all processes together are
    the first B * world_size of one process. The order is repeated until every process has the same number, which
    collective operations (gradients, loss normalizers) rely on."""
    total = math.ceil(len(order) / world_size) * world_size
    return list(itertools.islice(itertools.cycle(order), rank, total, world_size)) if order else []


@DATA_SAMPLERS.register_module()
class TrainSampler(Sampler):
    """Every image once an epoch, in an order drawn from (seed, epoch).

    A dataset with a `seed` attribute gets (index, epoch) pairs, and its random transforms depend on
    (seed, epoch, index) alone; any other gets indices. An epoch whose images do not divide by the number of
    processes repeats its first ones (at most world_size - 1); the last, smaller batch is kept unless the loader has
    drop_last=True.

    Args:
        dataset: anything with a length.
        shuffle: False keeps the dataset's order in every epoch.
        seed: of the order; the Runner's, the same in all processes.
    """

    def __init__(self, dataset: Sized, shuffle: bool = True, seed: int | None = None) -> None:
        self.dataset, self.shuffle, self.seed = dataset, shuffle, seed or 0
        self.rank, self.world_size = get_dist_info()
        self.pairs = hasattr(dataset, "seed")
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next iteration."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int | tuple[int, int]]:
        order = list(range(len(self.dataset)))
        if self.shuffle:
            # a generator's state is mixed from its seed alone: keep (seed, epoch) apart from (seed + 1, epoch - 1)
            generator = torch.Generator().manual_seed((self.seed * 1_000_003 + self.epoch) % 2**63)
            order = torch.randperm(len(order), generator=generator).tolist()
        mine = interleaved(order, self.rank, self.world_size)
        return iter([(index, self.epoch) for index in mine] if self.pairs else mine)

    def __len__(self) -> int:
        return math.ceil(len(self.dataset) / self.world_size)


@DATA_SAMPLERS.register_module()
class EvalSampler(Sampler):
    """Every image in order, distributed over the processes in turn.

    Where the images do not divide by the number of processes, the first ones are repeated; the evaluator drops these
    again (it sorts the results into the dataset's order and cuts them to its length), so that each image counts once.
    """

    def __init__(self, dataset: Sized, seed: int | None = None) -> None:
        self.dataset = dataset
        self.rank, self.world_size = get_dist_info()

    def __iter__(self) -> Iterator[int]:
        return iter(interleaved(list(range(len(self.dataset))), self.rank, self.world_size))

    def __len__(self) -> int:
        return math.ceil(len(self.dataset) / self.world_size)


class ResumableBatchSampler:
    """A batch sampler that can start at a later batch; images of skipped batches are not loaded.

    Args:
        batches: the batch sampler.
    """

    def __init__(self, batches: Iterable[list]) -> None:
        self.batches = batches
        self.sampler = getattr(batches, "sampler", None)
        self.batch_size = getattr(batches, "batch_size", None)
        self.drop_last = getattr(batches, "drop_last", False)
        # not reset after use: torch's loader makes two iterators when it has workers
        self.skip = 0

    def __iter__(self) -> Iterator[list]:
        return itertools.islice(iter(self.batches), self.skip, None)

    def __len__(self) -> int:
        """Batches of a whole epoch, whatever is skipped."""
        return len(self.batches)
