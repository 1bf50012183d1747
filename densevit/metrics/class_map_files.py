"""Predicted class maps as PNG files, in the values and under the names that the dataset's own maps have."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from densevit.errors import ConfigError
from densevit.outputs import FileNames


class ClassMapWriter:
    """Writes class maps as PNG files of one channel, 8 bits or, where values need it, 16.

    Args:
        folder: where to; made where it is not there.
        values: the value that stands for each class in the files; None: the class's number from 0.
        palette: (red, green, blue) of each class: the files are then shown in these colors, and still hold values.

    Raises:
        ConfigError: `folder` is named like a file.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        values: Sequence[int] | None = None,
        palette: Sequence[Sequence[int]] | None = None,
    ) -> None:
        self.names = FileNames(folder, ".png", by="file")
        if self.names.folder.suffix:
            raise ConfigError(f"--out {folder}: class maps are a folder of PNG files; name one.")
        self.values = None if values is None else np.asarray(values)
        if self.values is not None:
            self.values = self.values.astype(np.uint8 if self.values.max() < 256 else np.uint16)
        self.palette = palette

    def __call__(self, class_map: np.ndarray, img_id: object, img_path: str | None) -> Path:
        """Write one map (H, W) of classes under its image's name, or its id where it has no file; see `FileNames`."""
        stored = class_map.astype(np.uint8) if self.values is None else self.values[class_map]
        picture = Image.fromarray(stored)
        if self.palette is not None:
            picture = _colored(picture, stored, self.values, self.palette)
        path = self.names(img_id, img_path)
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)
        return path


def _colored(
    picture: Image.Image, stored: np.ndarray, values: np.ndarray | None, palette: Sequence[Sequence[int]]
) -> Image.Image:
    """The same with a color table; black stands for what is no class."""
    if stored.dtype != np.uint8:
        raise ConfigError("--palette: the dataset's values do not fit in 8 bits, which a PNG's color table needs.")
    colors = np.zeros((256, 3), np.uint8)
    colors[np.arange(len(palette)) if values is None else values] = np.asarray(palette, np.uint8)
    picture.putpalette(colors.tobytes())
    return picture
