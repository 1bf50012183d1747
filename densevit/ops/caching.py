"""What is made of sizes and kept for the next image of that size: bounded by bytes, whatever comes."""

import functools
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch

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
            # neither what a compiler traces nor a fake tensor may be met by a later, real call
            if torch.compiler.is_compiling() or torch.utils._python_dispatch._get_current_dispatch_mode() is not None:
                return function(*args)
            key = (function, args)
            with self._lock:
                if key in self._kept:
                    self._kept.move_to_end(key)
                    return self._kept[key][0]
            made = function(*args)
            self._keep(key, made, size_of(made))
            return made

        return cached

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


def size_of(made: Any) -> int:
    """Bytes of tensors and arrays, also of those in tuples, and some for what holds them."""
    if isinstance(made, torch.Tensor | np.ndarray):
        return made.nbytes + 200
    return sum(map(size_of, made)) if isinstance(made, tuple) else 50


by_bytes = ByteCache(2**29)
"""The one of all that is made of sizes of maps and images (anchors, windows, places, resizes)."""
