"""Reads files of weights without running anything in them: `torch.load(weights_only=True)`, bare pickles of arrays
(detectron2's `.pkl`) or safetensors. One reader for our own checkpoints and for those of others."""

import argparse
import collections
import json
import mmap
import os
import pathlib
import pickle
import re
import struct
import warnings
import zipfile
from collections.abc import Collection, Mapping
from functools import cached_property
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from torch import Tensor

from densevit.checkpoints.shipped import near, weights_path
from densevit.errors import CheckpointError
from densevit.plain_data import parse_json, read_text

META = "densevit"
"""Under this key of a safetensors file stands its meta information, as JSON."""
REFUSED = re.compile(r"GLOBAL|not allowed|Unsupported (operand|class|global)|Can only (build|create)")
GLOBAL = re.compile(r"GLOBAL ([\w.]+)")
MAKES_MEMORY = re.compile(rb"\n(bytearray|_rebuild_device_tensor_from\w+)\n")
"""What torch's unpickler lets through and what takes as much memory as a number in the file says."""
LONGEST_HEADER = 32 << 20
"""Bytes of a safetensors file's header: 200,000 tensors."""
TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""How files begin that torch.save wrote before they were zip archives: a pickle too, which torch.load reads."""
ROOM, TIMES = 256 << 20, 4
"""What the content of a file may take in memory: so many bytes, or so many times the file's size."""
WRAPPERS = ("state_dict", "model", "model_state", "model_state_dict", "ema")
"""Keys under which files keep the weights, in the order in which they are looked for."""
FOLDER_WEIGHTS = ("model.safetensors", "pytorch_model.bin", "checkpoint.pth")
"""Names of weights in a folder."""


# ---- what an unpickler may build ---------------------------------------------------------------------
# One list for every kind of pickle, of mere containers: numpy's arrays and scalars, MMEngine's HistoryBuffer,
# argparse.Namespace, paths. `getattr` and `codecs.encode`, which numpy and HistoryBuffer need, are replaced by
# functions that answer only what those two ask.

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
# the unpickler asks for the class of each dtype, numpy.dtypes.Float64DType and its like
DTYPES = sorted({type(np.dtype(code)) for code in "?bBhHiIlLqQefdgSU"}, key=lambda kind: kind.__name__)
SAFE_GLOBALS = [*((built, name) for name, built in (ARRAYS | METADATA).items()), *DTYPES]
"""The list as torch.serialization.safe_globals takes it."""


# ---- files ------------------------------------------------------------------------------------------


class CheckpointFiles:
    """A file of weights, or a folder that has one, with what lies beside it; read once, when it is asked for.

    Args:
        path: the file or folder.
        variant: what the user says of a Depth-Anything.
        config: a configuration that the user gives; None: what lies beside the file.
    """

    def __init__(self, path: pathlib.Path, variant: str | None = None, config: pathlib.Path | None = None):
        self.path, self.variant, self.config = path, variant, config

    def beside(self, name: str) -> pathlib.Path | None:
        """A file in the folder, or beside the file; None where there is none."""
        path = self.path / name if self.path.is_dir() else self.path.with_name(name)
        return path if path.is_file() else None

    def read_json(self, name: str) -> tuple[pathlib.Path | None, Any]:
        """A JSON file of the folder, and its content; None twice where there is no folder or file."""
        path = self.beside(name) if self.path.is_dir() else None
        try:
            return path, None if path is None else parse_json(read_text(path))
        except ValueError as error:
            raise CheckpointError(f"{path} is not JSON: {error}.") from error

    @cached_property
    def content(self) -> dict:
        """Of the file of weights. Raises CheckpointError."""
        names = FOLDER_WEIGHTS if self.path.is_dir() else ()
        found = next((self.path / name for name in names if self.beside(name)), self.path)
        if found.is_dir():
            raise CheckpointError(f"{self.path} has no weights: none of {', '.join(names)} is there.")
        return read_file(found)

    @cached_property
    def state(self) -> dict[str, Tensor]:
        """The tensors by name. Raises CheckpointError."""
        return state_of(self.content, str(self.path))


def read_file(path: str | os.PathLike, check_sums: bool = True) -> dict:
    """The content of a file of weights, on the CPU, read without running anything in it.

    Args:
        path: `.safetensors`, anything that torch.save wrote (`.pth`, `.pt`, `.bin`, `.ckpt`), or a pickle of arrays
            (detectron2's `.pkl`); or the name of weights that come with densevit.
        check_sums: compare the checksums of torch's zip format, which torch.load itself does not: finds a damaged byte
            within the tensors, at about a second per gigabyte.

    Returns:
        dict: the whole content; for safetensors the tensors by name, or `state_dict` and `meta` where densevit noted
            one.

    Raises:
        CheckpointError: no such file; torn or no file of weights; a pickle that wants to run code; a content that would
            take many times the file's size in memory.
    """
    path = os.fspath(path) if os.path.isfile(path) else str(weights_path(path))
    if not os.path.isfile(path):
        raise CheckpointError(f"{path}: no such file of weights{near(path)}; check the path.")
    size = os.path.getsize(path)
    if size == 0:
        raise CheckpointError(f"{path} is empty (0 bytes): its writing or download was cut off; get it again.")
    try:
        if path.endswith(".safetensors"):
            content = _read_safetensors(path)
        else:
            _check_parts(path, size, check_sums)
            content = _read_pickle(path, size) if _is_bare_pickle(path) else load_safely(path)
        require_size(_weigh(content, {}), size)
    except Exception as error:  # torch raises many kinds for a torn file: RuntimeError, EOFError, KeyError, ...
        raise CheckpointError(_sentence(path, size, error)) from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__} and no dictionary of weights.")
    return content


def load_safely(file: Any, map_location: Any = "cpu") -> Any:
    """torch.load of a path or an open file that builds only what the allow-list names.

    Raises:
        pickle.UnpicklingError and whatever else torch.load raises; `read_file` makes one sentence of it.
    """
    # a foreign pickle protocol is no news to the user: it is read or refused
    with torch.serialization.safe_globals(SAFE_GLOBALS), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Detected pickle protocol")
        return torch.load(file, map_location=map_location, weights_only=True)


def require_size(needed: int, size: int) -> None:
    """Raises ValueError where a file of `size` bytes asks for many times as much."""
    if needed > max(ROOM, TIMES * size):
        raise ValueError(f"its content would take {needed:.3g} bytes of memory")


def state_of(content: Mapping, file: str, wanted: Collection[str] = ()) -> dict[str, Tensor]:
    """The tensors by name out of what a file holds: unwrapped, without what torch.compile, parallel training and
    modules around the model put into the names (`_orig_mod.` anywhere, `module.` or `model.` before every one).

    Args:
        wanted: names as they should be; once one of them is there, nothing more is taken off.

    Raises CheckpointError where there are none, or where something else lies among them.
    """
    state: Mapping = content
    for _ in range(3):  # {'model': {'state_dict': ...}} is as deep as they come
        inner = next((state[key] for key in WRAPPERS if isinstance(state.get(key), Mapping)), None)
        if inner is None:
            break
        state = inner
    others = [str(key) for key, value in state.items() if not isinstance(value, Tensor)]
    tensors = {str(key): value for key, value in state.items() if isinstance(value, Tensor)}
    if not tensors or others:
        held = ", ".join((others or [str(key) for key in content])[:8]) or "nothing"
        raise CheckpointError(f"{file} holds no weights by name: it has {held} where tensors were expected.")
    plain = {key.replace("_orig_mod.", ""): value for key, value in tensors.items()}
    if len(plain) < len(tensors):
        raise CheckpointError(f"{file} holds tensors twice, with and without `_orig_mod.` in their names; remove one.")
    if all(key.startswith("module.") or key == "n_averaged" for key in plain):
        plain.pop("n_averaged", None)  # of torch's AveragedModel
    while plain and plain.keys().isdisjoint(wanted):
        prefix = next((p for p in ("module.", "model.") if all(key.startswith(p) for key in plain)), None)
        if prefix is None:
            break
        plain = {key.removeprefix(prefix): value for key, value in plain.items()}
    return plain


# ---- formats -----------------------------------------------------------------------------------------


def _read_safetensors(path: str) -> dict:
    """Tensors by name; of a file that densevit exported `state_dict` and `meta`, as in its other checkpoints."""
    from safetensors import safe_open

    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if length > LONGEST_HEADER:
        raise ValueError(f"its header would be of {length:,} bytes")
    with safe_open(path, framework="pt", device="cpu") as file:
        noted = (file.metadata() or {}).get(META)
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    return tensors if noted is None else {"meta": json.loads(noted), "state_dict": tensors}


def _check_parts(path: str, size: int, check_sums: bool) -> None:
    """The parts of torch's zip format, before one of them is unpacked: their sizes, their checksums, their pickle.
    Raises ValueError or pickle.UnpicklingError."""
    if not zipfile.is_zipfile(path):
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            found = MAKES_MEMORY.search(content)
    else:
        with zipfile.ZipFile(path) as parts:
            entries = parts.infolist()
            require_size(sum(entry.file_size for entry in entries), size)
            # torch can be set to write no checksums, which gives zeros
            damaged = parts.testzip() if check_sums and any(entry.CRC for entry in entries) else None
            if damaged is not None:
                raise ValueError(f"checksum of {damaged} does not fit")
        found = MAKES_MEMORY.search(torch._C.PyTorchFileReader(path).get_record("data.pkl"))
    if found:
        raise pickle.UnpicklingError(f"GLOBAL {found.group(1).decode()} is not allowed")


def _is_bare_pickle(path: str) -> bool:
    """Whether a file is a pickle that torch.save did not write."""
    with open(path, "rb") as file:
        start = file.read(len(TORCH))
    return not zipfile.is_zipfile(path) and start != TORCH and (start[:1] == b"\x80" or path.endswith(".pkl"))


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


def _read_pickle(path: str, size: int) -> Any:
    """The content of a file of `size` bytes, with tensors in place of arrays.

    Raises pickle.UnpicklingError, or whatever a torn pickle leads to.
    """

    def tensors(content: Any) -> Any:
        if isinstance(content, np.ndarray):
            if content.dtype.kind not in "fiub":
                raise pickle.UnpicklingError(f"Unsupported class: an array of {content.dtype}")
            # own memory, in this machine's order of bytes
            return torch.from_numpy(np.array(content, dtype=content.dtype.newbyteorder("="), order="C"))
        if isinstance(content, dict):
            return {key: tensors(value) for key, value in content.items()}
        return [tensors(value) for value in content] if isinstance(content, list) else content

    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        found = _Arrays(content, encoding="latin1").load()
    require_size(_weigh(found, {}), size)
    return tensors(found)


def _weigh(value: Any, known: dict[int, int | None]) -> int:
    """Bytes that a content takes where each part stands on its own, though the file may repeat it by reference.

    Raises ValueError for a part within itself and for tensors without numbers.
    """
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
        known[id(value)] = 64 + sum(_weigh(item, known) for item in inner)
    if known[id(value)] is None:
        raise ValueError("a part of it holds itself")
    return known[id(value)]


def _sentence(path: str, size: int, error: Exception) -> str:
    """Says whether the file is unsafe or torn: torch's unpickler names what it refuses within a long message."""
    if isinstance(error, PermissionError):
        return f"{path} cannot be read: permission denied."
    text = str(error)
    with open(path, "rb") as file:
        pickled = file.read(2)[:1] == b"\x80" or zipfile.is_zipfile(path)
    if pickled and isinstance(error, pickle.UnpicklingError) and REFUSED.search(text):
        named = GLOBAL.search(text)
        what = f"{named.group(1)!r}" if named else "more than tensors and plain data"
        return (
            f"{path} was refused and nothing in it was run: its pickle asks for {what}, which weights do not need; "
            f"use a file that holds tensors alone, best as safetensors."
        )
    first = (text.strip().splitlines() or [""])[0].split(". ")[0]
    reason = first if len(first) > 8 and "Weights only" not in first else type(error).__name__
    return f"{path} is torn or no file of weights ({size:,} bytes; {reason}); get or write it again."
