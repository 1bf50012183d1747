"""Reads files of weights without running anything that is in them: `torch.load(weights_only=True)` or safetensors.

One reader for our own checkpoints and for those of others; what the unpickler may build stands in allow_list.py.
"""

import json
import mmap
import os
import pickle
import re
import warnings
import zipfile
from typing import Any

import torch

from densevit.checkpoints.allow_list import safe_globals
from densevit.checkpoints.pickles import is_bare_pickle, read_pickle, require_size, weigh
from densevit.checkpoints.shipped import near, weights_path
from densevit.errors import CheckpointError

REFUSED = re.compile(r"GLOBAL|not allowed|Unsupported (operand|class|global)|Can only (build|create)")
META = "densevit"
"""Under this key of a safetensors file stands its meta information, as JSON."""
GLOBAL = re.compile(r"GLOBAL ([\w.]+)")
MAKES_MEMORY = re.compile(rb"\n(bytearray|_rebuild_device_tensor_from\w+)\n")
"""What torch's unpickler lets through and what takes as much memory as a number in the file says."""
LONGEST_HEADER = 32 << 20
"""Bytes of a safetensors file's header: 200,000 tensors."""


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


def load_safely(file: Any, map_location: Any = "cpu") -> Any:
    """torch.load of a path or an open file that builds only what the allow-list names.

    Raises:
        pickle.UnpicklingError and whatever else torch.load raises; `read_file` makes one sentence of it.
    """
    # a foreign pickle protocol is no news to the user: it is read or refused
    with torch.serialization.safe_globals(safe_globals()), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Detected pickle protocol")
        return torch.load(file, map_location=map_location, weights_only=True)


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
    path = str(weights_path(path))
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
            content = read_pickle(path, size) if is_bare_pickle(path) else load_safely(path)
        require_size(weigh(content), size)
    except (
        Exception
    ) as error:  # torch raises many kinds for a torn file: RuntimeError, EOFError, KeyError, struct.error
        raise CheckpointError(_sentence(path, size, error)) from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__} and no dictionary of weights.")
    return content


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
