"""What several processes have together, so that N of them with b images each give the loss of one with N * b.

The gradients, and the losses that are logged, are averaged over the processes (DistributedDataParallel). So a process
divides its own sum by the mean count of all of them; what is no plain quotient is made of sums over all of them.
With one process nothing is changed.
"""

import torch
import torch.distributed as dist
from torch import Tensor


def mean_over_processes(
    count: Tensor | float, device: torch.device | None = None, least: float = 1
) -> Tensor | int | float:
    """What each process divides its own sum by: the counts of all, together at least `least`, by their number.

    count: one number, or several in a tensor, of this process. device: where such a number is put among several
    processes; of no use to tensors. Every process has to call this, also one that has nothing to count.
    """
    if not _several():
        return count.clamp(min=least) if isinstance(count, Tensor) else max(count, least)
    total = torch.as_tensor(count, device=device).clone()
    dist.all_reduce(total)
    return total.clamp(min=least) / dist.get_world_size()


def sum_over_processes(values: Tensor) -> Tensor:
    """The sum of a tensor over all processes. Its gradient is N times this process's own part of it: the mean over the
    processes is that of the joint batch."""
    if not _several():
        return values
    total = values.detach().clone()
    dist.all_reduce(total)
    return total + (values - values.detach()) * dist.get_world_size()


def _several() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
