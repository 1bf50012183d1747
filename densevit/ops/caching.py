"""What is made of sizes and kept for the next image of that size: bounded by bytes, whatever comes."""

import functools
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch
from torch._guards import detect_fake_mode
from torch.utils._python_dispatch import _disable_current_modes, _get_current_dispatch_mode_stack
from torch.utils._pytree import tree_map_only

CPU = torch.device("cpu")

Made = TypeVar("Made", bound=Callable)


class ByteCache:
    """What functions returned, by function and arguments; what was not used for longest goes first.

    Threads may share it. What alone is larger than `limit` bytes is made anew each time.
    """

    def __init__(self, limit: int) -> None:
        self.limit, self.bytes = limit, 0
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple, tuple[Any, int]] = OrderedDict()

    def __call__(self, function: Made) -> Made:
        """Decorate a function of hashable arguments whose results nobody writes into."""

        @functools.wraps(function)
        def cached(*args: Any) -> Any:
            return _as_traced(self._made, function, args)

        return cached

    def _made(self, function: Callable, args: tuple) -> Any:
        key = (function, args)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key][0]
        made = function(*args)
        # else torch.compile, which knows constants by their function alone, takes two sizes for one that varies
        tree_map_only(torch.Tensor, lambda x: torch._dynamo.mark_static(x), made)  # imported when needed
        self._keep(key, made, size_of(made))
        return made

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._kept.clear()
            self.bytes = 0

    def _keep(self, key: tuple, made: Any, size: int) -> None:
        with self._lock:
            if size > self.limit or key in self._kept:
                return
            self._kept[key] = made, size
            self.bytes += size
            while self.bytes > self.limit:
                self.bytes -= self._kept.popitem(last=False)[1][1]


def _as_traced(make: Callable, function: Callable, args: tuple) -> Any:
    """make(function, args), also where tensors are traced, counted or without numbers: it is made of true numbers, and
    nothing of that is traced or kept. Fake tensors get fake ones on their device, which need not be there."""
    if not _get_current_dispatch_mode_stack():
        return make(function, args)
    fake = detect_fake_mode()
    absent = fake is not None and not fake.allow_non_fake_inputs  # torch.export takes true ones for constants
    with _disable_current_modes():
        made = make(function, tuple(CPU if absent and isinstance(arg, torch.device) else arg for arg in args))
    if not absent:
        return made
    device = next((arg for arg in args if isinstance(arg, torch.device)), CPU)
    return tree_map_only(torch.Tensor, lambda x: fake.from_tensor(x).to(device), made)


def size_of(made: Any) -> int:
    """Bytes of tensors and arrays, also of those in tuples, and some for what holds them."""
    if isinstance(made, torch.Tensor | np.ndarray):
        return made.nbytes + 200
    return sum(map(size_of, made)) if isinstance(made, tuple) else 50


by_bytes = ByteCache(2**29)
"""The one of all that is made of sizes of maps and images (anchors, windows, places, resizes)."""
