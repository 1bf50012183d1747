"""Reads bare pickles of weights, detectron2's `.pkl`, without running anything in them.

Only numpy's arrays and numbers and plain containers are built; whatever else a pickle asks for is refused.
"""

import collections
import pickle
import zipfile
from typing import Any

import numpy as np
import torch

TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""How files begin that torch.save wrote before they were zip archives: a pickle too, which torch.load reads."""
RECONSTRUCT, SCALAR = np.array(0).__reduce__()[0], np.float64(0).__reduce__()[0]


def is_bare_pickle(path: str) -> bool:
    """Whether a file is a pickle that torch.save did not write."""
    if zipfile.is_zipfile(path):
        return False
    with open(path, "rb") as file:
        start = file.read(len(TORCH))
    return start != TORCH and (start[:1] == b"\x80" or path.endswith(".pkl"))


def read_pickle(path: str) -> Any:
    """The content, with tensors in place of arrays.

    Raises pickle.UnpicklingError, or whatever a torn pickle leads to.
    """
    with open(path, "rb") as file:
        return _tensors(_Arrays(file, encoding="latin1").load())


class _Arrays(pickle.Unpickler):
    """Builds arrays and plain containers alone."""

    def find_class(self, module: str, name: str) -> Any:
        known = {
            "collections.OrderedDict": collections.OrderedDict,
            "numpy.ndarray": np.ndarray,
            "numpy.dtype": np.dtype,
            "_codecs.encode": _encode,
        }
        for core in ("core", "_core"):  # of numpy 1 and of numpy 2
            known[f"numpy.{core}.multiarray._reconstruct"] = RECONSTRUCT
            known[f"numpy.{core}.multiarray.scalar"] = SCALAR
            known[f"numpy.{core}.numeric._frombuffer"] = _frombuffer
        if f"{module}.{name}" not in known:
            raise pickle.UnpicklingError(f"GLOBAL {module}.{name} is not allowed")
        return known[f"{module}.{name}"]


def _encode(text: str, encoding: str) -> bytes:
    """`codecs.encode` for the byte strings inside a pickle of protocol 2, and for nothing else."""
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"codecs.encode with {encoding!r} is not allowed")
    return text.encode("latin1")


def _frombuffer(buffer: bytes, dtype: np.dtype, shape: tuple[int, ...], order: str) -> np.ndarray:
    """What pickles of protocol 5 make an array by."""
    return np.frombuffer(buffer, dtype=dtype).reshape(shape, order=order)


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
