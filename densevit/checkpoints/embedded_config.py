"""What checkpoints carry beside their weights: configurations, class names, the size of test images.

Nothing of it is run: configurations are read as data.
"""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from densevit.checkpoints.config_text import ConfigText
from densevit.checkpoints.loading import state_of
from densevit.checkpoints.reading import read_file
from densevit.errors import CheckpointError
from densevit.plain_data import parse_json, read_text

WEIGHTS = ("model.safetensors", "pytorch_model.bin", "checkpoint.pth")
"""Names of weights in a folder."""


class EmbeddedConfig(NamedTuple):
    """What a checkpoint carries.

    source: the project whose terms the configuration is in. config: the model's. dataset: class names and colors, as
    far as they are there. where: the configuration's place, for messages. test_size: (long, short) side of test
    images, () for images as they are, arguments of Resize where it is of another kind, None where the file states none.
    """

    source: str
    config: dict[str, Any]
    where: str
    dataset: Mapping[str, Any] = {}
    test_size: tuple[int, ...] | dict[str, Any] | None = None


class CheckpointFiles:
    """A file of weights, or a folder that has one, with what lies beside it; read once, when it is asked for.

    Args:
        path: the file or folder.
        variant: what the user says of a Depth-Anything.
        config: a configuration that the user gives; None: what lies beside the file.
    """

    def __init__(self, path: Path, variant: str | None = None, config: Path | None = None):
        self.path, self.variant, self.config = path, variant, config

    def beside(self, name: str) -> Path | None:
        """A file in the folder, or beside the file; None where there is none."""
        path = self.path / name if self.path.is_dir() else self.path.with_name(name)
        return path if path.is_file() else None

    @cached_property
    def content(self) -> dict:
        """Of the file of weights. Raises CheckpointError."""
        if not self.path.is_dir():
            return read_file(self.path)
        found = next((self.path / name for name in WEIGHTS if (self.path / name).is_file()), None)
        if found is None:
            raise CheckpointError(f"{self.path} has no weights: none of {', '.join(WEIGHTS)} is there.")
        return read_file(found)

    @cached_property
    def state(self) -> dict[str, Tensor]:
        """The tensors by name. Raises CheckpointError."""
        return state_of(self.content, str(self.path))

    @cached_property
    def meta(self) -> Mapping[str, Any]:
        """What the file keeps under `meta`."""
        meta = self.content.get("meta")
        return meta if isinstance(meta, Mapping) else {}

    @cached_property
    def config_text(self) -> ConfigText | None:
        """The configuration that OpenMMLab and densevit keep as text under `meta`; None where there is none."""
        text = self.meta.get("cfg", self.meta.get("config"))
        return ConfigText(text, str(self.path)) if isinstance(text, str) else None


def read_json(path: Path) -> Any:
    """Raises CheckpointError."""
    try:
        return parse_json(read_text(path))
    except ValueError as error:
        raise CheckpointError(f"{path} is not JSON: {error}.") from error
