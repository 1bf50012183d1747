"""Predicted depth as 16-bit PNG files, under the names and in the unit that the dataset's own maps have."""

import os
from pathlib import Path

import numpy as np

from densevit.errors import ConfigError
from densevit.ops.depth_files import MOST, write_depth
from densevit.outputs import FileNames

MILLIMETERS = 1000.0
COARSEST = 100.0  # numbers a meter: maps of fractions (NPY, EXR) state 1, which whole numbers cannot hold


class DepthMapWriter:
    """Writes depth maps as PNG files of whole numbers, 0 = none; see `depth_values`.

    Args:
        folder: where to; made where it is not there.
        per_meter: numbers a meter: 1000 for NYU Depth v2, 256 for KITTI; None, or fewer than 100: millimeters.

    Raises:
        ConfigError: `folder` is named like a file.
    """

    def __init__(self, folder: str | os.PathLike, per_meter: float | None = None) -> None:
        self.folder, self.names = Path(folder), FileNames(folder, ".png")
        self.per_meter = per_meter if per_meter and per_meter >= COARSEST else MILLIMETERS
        if self.folder.suffix:
            raise ConfigError(f"--out {folder}: depth maps are a folder of PNG files; name one.")
        self.kind, self.cut = "metric", 0

    def __call__(self, depth: np.ndarray, kind: str, img_id: object) -> Path:
        """Write one map (H, W), 'metric' or 'relative', under its image's id, which is its path within the dataset."""
        path = self.names(img_id, None)
        self.kind = kind
        self.cut += write_depth(path, depth, kind, self.per_meter)
        return path

    def __str__(self) -> str:
        """What the files hold, in words."""
        if self.kind == "relative":
            return f"{self.folder}: relative depth, each map stretched to 1..{MOST}, larger is nearer, 0 = none"
        most = f"; {self.cut} pixels are farther than {MOST / self.per_meter:g} m and set to that" if self.cut else ""
        return f"{self.folder}: meters = value / {self.per_meter:g}, 0 = none{most}"
