"""Several processes, with or without GPUs, and the numbers that they share."""

import contextlib
from collections.abc import Callable, Iterator, Mapping

import torch
from mmengine import dist
from torch import Tensor


@contextlib.contextmanager
def without_cuda_devices() -> Iterator[None]:
    """MMEngine's launchers call torch.cuda.set_device, which fails on a machine without GPUs: let it do nothing."""
    set_device = torch.cuda.set_device
    torch.cuda.set_device = lambda *_: None
    try:
        yield
    finally:
        torch.cuda.set_device = set_device


def averaged(values: Mapping[str, Tensor]) -> dict[str, float]:
    """The mean of each value over the processes, as Python floats, with one transfer for all of them.

    Args:
        values: scalars by name, the same names in every process.
    """
    if not values:
        return {}
    device = torch.as_tensor(next(iter(values.values()))).device
    stacked = torch.stack([torch.as_tensor(v).detach().double().mean().to(device) for v in values.values()])
    if dist.get_world_size() > 1:
        dist.all_reduce(stacked, op="mean")
    return dict(zip(values, stacked.tolist(), strict=True))


def gathered(value: object) -> list:
    """`value` of every process, by rank."""
    return dist.all_gather_object(value) if dist.get_world_size() > 1 else [value]


def from_first(value: object) -> object:
    """What the first process holds, in all of them."""
    box = [value]
    if dist.get_world_size() > 1:
        dist.broadcast_object_list(box, src=0)
    return box[0]


def in_all(kinds: type[Exception] | tuple[type[Exception], ...], function: Callable, *args: object) -> None:
    """Call a function in the first process; an exception of these kinds is raised in all of them."""
    failure = None
    if dist.is_main_process():
        try:
            function(*args)
        except kinds as error:
            failure = error
    failure = from_first(failure)
    if failure is not None:
        raise failure
