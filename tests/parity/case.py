"""One case: its two files, the tensors generated from names, and the error of an output."""

import json
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor

WHOLE_LIMIT = 20_000
"""Outputs of more values are stored at this many random positions."""


class Case:
    """A case read from NAME.json and NAME.npz.

    Attributes:
        spec: `scheme` (the source's name), `model`, `state`, `inputs`, `outputs`, `tolerance`, `notes`.
        arrays: what is stored: 'state/KEY', 'input/NAME', 'output/NAME'.
    """

    def __init__(self, path: Path):
        path = path.with_suffix(".json")
        self.spec = json.loads(path.read_text())
        self.name = self.spec["name"]
        with np.load(path.with_suffix(".npz")) as file:
            self.arrays = dict(file)

    def state(self) -> dict[str, Tensor]:
        """The reference's state dict."""
        generated = {entry[0]: generate(*entry) for entry in self.spec["state"]}
        stored = {k.removeprefix("state/"): v for k, v in self.arrays.items() if k.startswith("state/")}
        return {key: torch.from_numpy(np.asarray(value)) for key, value in (generated | stored).items()}

    def inputs(self) -> dict[str, Tensor]:
        """The inputs by name."""
        return {
            name: torch.from_numpy(generate(*how["draw"]) if "draw" in how else self.arrays[f"input/{name}"])
            for name, how in self.spec["inputs"].items()
        }

    def output(self, name: str) -> np.ndarray:
        """What is stored of an output, flat."""
        return self.arrays[f"output/{name}"].reshape(-1)

    def stored_part(self, name: str, ours: np.ndarray | Tensor) -> np.ndarray:
        """Our output, flat, at the positions that the case stores. Raises ValueError: another shape."""
        ours = np.asarray(ours)
        want = self.spec["outputs"][name]["shape"]
        if list(ours.shape) != list(want):
            raise ValueError(f"{name} has shape {list(ours.shape)}, expected {want}")
        return ours.reshape(-1)[sampled_positions(name, ours.size)]

    def error(self, name: str, ours: np.ndarray | Tensor) -> float:
        """max|ours - theirs| / max|theirs| of an output. Raises ValueError: another shape."""
        got, theirs = self.stored_part(name, ours).astype(np.float64), self.output(name).astype(np.float64)
        if theirs.size == 0:
            return 0.0
        worst = np.abs(got - theirs).max() / max(np.abs(theirs).max(), 1e-12)
        return float(worst) if np.isfinite(worst) else float("inf")

    def flipped_pixels(self, name: str, ours: np.ndarray) -> int:
        """Pixels that differ, of an output of packed bits or of areas. Raises ValueError: another shape."""
        got, theirs = self.stored_part(name, ours), self.output(name)
        if theirs.dtype == np.uint8:
            return int(np.unpackbits(theirs ^ got.astype(np.uint8)).sum())
        return int(np.abs(theirs.astype(np.int64) - got).max(initial=0))


def read_case(folder: Path, name: str) -> SimpleNamespace:
    """A case as tests of single parts use it: `inputs`, `model` (the reference's arguments), `state` (names and shapes
    of its weights), `outputs` (their names), `output(name)` as stored, `error(name, ours)`."""
    case = Case(folder / f"{name}.json")
    return SimpleNamespace(
        inputs=case.inputs(),
        model=case.spec["model"],
        state=case.spec["state"],
        outputs=list(case.spec["outputs"]),
        output=lambda name: case.arrays[f"output/{name}"],
        error=case.error,
    )


def generate(key: str, shape: list[int], mean: float = 0.0, std: float = 1.0, absolute: bool = False) -> np.ndarray:
    """The float32 array of a name: normal numbers seeded by the name's checksum."""
    numbers = np.random.RandomState(zlib.crc32(key.encode())).standard_normal(tuple(shape))
    return (mean + std * (np.abs(numbers) if absolute else numbers)).astype(np.float32)


def sampled_positions(name: str, size: int) -> np.ndarray:
    """Positions of a flattened output of `size` values that a case stores, ascending."""
    if size <= WHOLE_LIMIT:
        return np.arange(size)
    random = np.random.RandomState(zlib.crc32(f"sample:{name}".encode()))
    return np.sort(random.randint(0, size, WHOLE_LIMIT).astype(np.int64))
