"""What an unpickler may build, beside tensors and plain Python: one list for every kind of pickle.

All of it are mere containers: numpy's arrays and scalars, MMEngine's HistoryBuffer, argparse.Namespace, paths.
`getattr` and `codecs.encode`, which numpy and HistoryBuffer need, are replaced by functions that answer only what those
two ask.
"""

import argparse
import collections
import pathlib
import pickle
from typing import Any

import numpy as np
from mmengine.logging import HistoryBuffer

STATISTICS = ("mean", "max", "min", "current")


def _statistic(owner: Any, name: str) -> Any:
    """`getattr` for HistoryBuffer's statistics and for nothing else."""
    if owner is HistoryBuffer and name in STATISTICS:
        return getattr(HistoryBuffer, name)
    raise pickle.UnpicklingError(f"getattr({owner!r}, {name!r}) is not allowed")


def _latin1(text: str, encoding: str = "latin1") -> bytes:
    """`codecs.encode` for the byte strings inside a pickle of protocol 2, and for nothing else."""
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"codecs.encode with {encoding!r} is not allowed")
    return text.encode("latin1")


def _frombuffer(buffer: bytes, dtype: np.dtype, shape: tuple[int, ...], order: str) -> np.ndarray:
    """What pickles of protocol 5 make an array by."""
    return np.frombuffer(buffer, dtype=dtype).reshape(shape, order=order)


ARRAYS = {
    "collections.OrderedDict": collections.OrderedDict,
    "numpy.ndarray": np.ndarray,
    "numpy.dtype": np.dtype,
    "_codecs.encode": _latin1,
}
for core in ("core", "_core"):  # of numpy 1 and of numpy 2
    ARRAYS[f"numpy.{core}.multiarray._reconstruct"] = np.array(0).__reduce__()[0]
    ARRAYS[f"numpy.{core}.multiarray.scalar"] = np.float64(0).__reduce__()[0]
    ARRAYS[f"numpy.{core}.numeric._frombuffer"] = _frombuffer
"""Name in a file -> what is built: arrays and plain containers."""
METADATA = {
    "mmengine.logging.history_buffer.HistoryBuffer": HistoryBuffer,
    "argparse.Namespace": argparse.Namespace,
    "builtins.getattr": _statistic,
    **{f"pathlib{sub}.{n}Path": pathlib.PurePath for sub in ("", "._local") for n in ("Posix", "PurePosix")},
}
"""The same of what MMEngine and the repositories of papers put beside their weights."""


def safe_globals() -> list[Any]:
    """The list as torch.serialization.safe_globals takes it."""
    # the unpickler asks for the class of each dtype, numpy.dtypes.Float64DType and its like
    dtypes = sorted({type(np.dtype(code)) for code in "?bBhHiIlLqQefdgSU"}, key=lambda kind: kind.__name__)
    return [*((built, name) for name, built in (ARRAYS | METADATA).items()), *dtypes]
