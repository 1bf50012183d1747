"""Values and errors of several processes."""

import contextlib
from collections.abc import Callable, Iterator, Mapping

import torch
from mmengine import dist
from torch import Tensor

from densevit.errors import UserError


def reduce_mean(values: Mapping[str, Tensor]) -> dict[str, float]:
    """The mean of each value over the processes, as Python floats, with one transfer for all of them.

    Args:
        values: scalars by name, the same names in every process.
    """
    if not values:
        return {}
    device = torch.as_tensor(next(iter(values.values()))).device
    stacked = torch.stack([torch.as_tensor(v).detach().double().mean().to(device) for v in values.values()])
    dist.all_reduce(stacked, op="mean")
    return dict(zip(values, stacked.tolist(), strict=True))


def broadcast(value: object) -> object:
    """The first process's value, in all of them."""
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


@contextlib.contextmanager
def errors_of_one_process() -> Iterator[None]:
    """Marks a UserError as one of this process alone, which prints it whatever its rank."""
    try:
        yield
    except UserError as error:
        error.of_one_process = True
        raise


def run_in_first(kinds: type[Exception] | tuple[type[Exception], ...], function: Callable, *args: object) -> None:
    """Call a function in the first process; an exception of these kinds is raised in all of them."""
    failure = None
    if dist.is_main_process():
        try:
            function(*args)
        except kinds as error:
            failure = error
    failure = broadcast(failure)
    if failure is not None:
        raise failure
