"""Reads bare pickles of weights, detectron2's `.pkl`, without running anything in them.

Only numpy's arrays and numbers and plain containers are built; whatever else a pickle asks for is refused.
"""

import mmap
import pickle
import struct
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from densevit.checkpoints.allow_list import ARRAYS

TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""How files begin that torch.save wrote before they were zip archives: a pickle too, which torch.load reads."""
ROOM, TIMES = 256 << 20, 4
"""What the content of a file may take in memory: so many bytes, or so many times the file's size."""


def is_bare_pickle(path: str) -> bool:
    """Whether a file is a pickle that torch.save did not write."""
    if zipfile.is_zipfile(path):
        return False
    with open(path, "rb") as file:
        start = file.read(len(TORCH))
    return start != TORCH and (start[:1] == b"\x80" or path.endswith(".pkl"))


def require_size(needed: int, size: int) -> None:
    """Raises ValueError where a file of `size` bytes asks for many times as much."""
    if needed > max(ROOM, TIMES * size):
        raise ValueError(f"its content would take {needed:.3g} bytes of memory")


def weigh(value: Any, known: dict[int, int | None] | None = None) -> int:
    """Bytes that a content takes where each part stands on its own, though the file may repeat it by reference.

    Raises ValueError for a part within itself and for tensors without numbers.
    """
    known = {} if known is None else known
    if isinstance(value, torch.Tensor):
        if value.layout != torch.strided or value.is_meta:
            raise ValueError("it holds a tensor without numbers")
        return value.numel() * value.element_size()
    if isinstance(value, (str, bytes, bytearray)):
        return len(value)
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        return value.nbytes
    if isinstance(value, Mapping):
        inner = [*value.keys(), *value.values()]
    elif isinstance(value, (list, tuple, set, np.ndarray)):
        inner = list(value.flat if isinstance(value, np.ndarray) else value)
    elif hasattr(value, "__dict__"):
        inner = list(vars(value).values())
    else:
        return 8
    if id(value) not in known:
        known[id(value)] = None
        known[id(value)] = 64 + sum(weigh(item, known) for item in inner)
    found = known[id(value)]
    if found is None:
        raise ValueError("a part of it holds itself")
    return found


def read_pickle(path: str, size: int) -> Any:
    """The content of a file of `size` bytes, with tensors in place of arrays.

    Raises pickle.UnpicklingError, or whatever a torn pickle leads to.
    """
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        found = _Arrays(content, encoding="latin1").load()
    require_size(weigh(found), size)
    return _tensors(found)


class _Arrays(pickle._Unpickler):
    """Builds arrays and plain containers alone. Python's own form of the unpickler: C's takes memory for as many
    memos and bytes as a number in the file says."""

    dispatch = dict(pickle._Unpickler.dispatch)

    def load_bytearray8(self) -> None:
        (length,) = struct.unpack("<Q", self.read(8))
        self.append(bytearray(self.read(length)))

    dispatch[pickle.BYTEARRAY8[0]] = load_bytearray8

    def find_class(self, module: str, name: str) -> Any:
        if f"{module}.{name}" not in ARRAYS:
            raise pickle.UnpicklingError(f"GLOBAL {module}.{name} is not allowed")
        return ARRAYS[f"{module}.{name}"]


def _tensors(content: Any) -> Any:
    """Arrays of numbers, wherever they stand, as tensors."""
    if isinstance(content, np.ndarray):
        if content.dtype.kind not in "fiub":
            raise pickle.UnpicklingError(f"Unsupported class: an array of {content.dtype}")
        # own memory, in this machine's order of bytes
        return torch.from_numpy(np.array(content, dtype=content.dtype.newbyteorder("="), order="C"))
    if isinstance(content, dict):
        return {key: _tensors(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_tensors(value) for value in content]
    return content
