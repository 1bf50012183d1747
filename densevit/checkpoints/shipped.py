"""Models whose weights come with densevit: their names, recipes and files.

A shipped name stands wherever a file of weights is expected; a file of that name in the working folder goes first.
"""

import os
from pathlib import Path
from typing import NamedTuple

from densevit.errors import CheckpointError, suggest

FOLDER = Path(__file__).resolve().parents[1] / "weights"


class Shipped(NamedTuple):
    """A model that comes with densevit."""

    config: str  # name of its recipe
    file: str  # name of its weights in FOLDER


SHIPPED = {"scenes": Shipped("pvt_multitask_scenes", "pvt_multitask_scenes.safetensors")}


def shipped(name: str) -> tuple[str, Path]:
    """The recipe and the file of weights of a model that comes with densevit.

    Raises:
        CheckpointError: no model of that name comes with densevit, or its file is not in this installation.
    """
    if name not in SHIPPED:
        raise CheckpointError(f"no weights named {name!r} come with densevit{near(name)}; there are: {_names()}.")
    path = FOLDER / SHIPPED[name].file
    if not path.is_file():
        raise CheckpointError(f"the weights {name!r} are missing from this installation ({path}); reinstall densevit.")
    return SHIPPED[name].config, path


def is_shipped(name: str | os.PathLike) -> bool:
    """Whether this is the name of shipped weights, and of no file."""
    return isinstance(name, str) and name in SHIPPED and not os.path.isfile(name)


def weights_path(path: str | os.PathLike) -> Path:
    """The file that is meant where weights are asked for: that of a shipped name, or the path itself, `~` expanded.

    Raises:
        CheckpointError: a shipped name whose file is not in this installation.
    """
    return shipped(path)[1] if is_shipped(path) else Path(path).expanduser()


def near(path: str | os.PathLike) -> str:
    """' (nearest shipped weights: ...)' for a path that is no file, or '' where no shipped name is close."""
    return suggest(os.fspath(path), SHIPPED).replace("nearest", "nearest shipped weights")


def _names() -> str:
    return ", ".join(SHIPPED)
