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

from densevit.ops.plain import plain_form

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
        """Decorate a function of hashable arguments whose results are never written into. Where operations are recorded
        it is called, and neither gives nor keeps anything that another call may meet."""

        @functools.wraps(function)
        def cached(*args: Any) -> Any:
            return function(*args) if plain_form() else _as_counted(self._made, function, args)

        return cached

    def _made(self, function: Callable, args: tuple) -> Any:
        key = (function, args)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key][0]
        # also a first call within inference_mode gives tensors that a later training step may save
        with torch.inference_mode(False), torch.no_grad():
            made = function(*args)
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


def _as_counted(make: Callable, function: Callable, args: tuple) -> Any:
    """make(function, args), also where tensors are counted or without numbers: it is made of true numbers, and nothing
    of that is counted. Fake tensors get fake ones on their device, which need not be there."""
    if not _get_current_dispatch_mode_stack():
        return make(function, args)
    fake = detect_fake_mode()
    with _disable_current_modes():
        made = make(function, tuple(CPU if fake and isinstance(arg, torch.device) else arg for arg in args))
    if fake is None:
        return made
    device = next((arg for arg in args if isinstance(arg, torch.device)), CPU)
    return tree_map_only(torch.Tensor, lambda x: fake.from_tensor(x).to(device), made)


def size_of(made: Any) -> int:
    """Bytes of tensors and arrays, also of those in tuples, and some for what holds them."""
    if isinstance(made, torch.Tensor | np.ndarray):
        return made.nbytes + 200
    return sum(map(size_of, made)) if isinstance(made, tuple) else 50


by_bytes = ByteCache(2**29)
"""The one of all that is made of sizes of maps and images (anchors, windows, locations, resizes)."""
