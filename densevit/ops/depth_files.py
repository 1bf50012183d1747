"""Depth maps as files: 16-bit PNG of whole numbers, as NYU Depth v2 (thousandths of a meter) and KITTI (1/256 m) store
it, and NPY of float32."""

import os
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin

from densevit.errors import ConfigError, DataError

MOST = 65535  # of 16 bits


def depth_values(depth: np.ndarray, kind: str = "metric", per_meter: float = 1000.0) -> tuple[np.ndarray, int]:
    """A depth map as whole numbers of 16 bits, of which 0 = none.

    Meters are multiplied and rounded, at least to 1, and what is farther than 65535 stands for is set to 65535.
    Relative depth has no unit: each map is stretched so that its farthest pixel is 1 and its nearest 65535.

    Args:
        depth: (H, W) meters, where 0 and what is no positive number = none; or relative depth (inverse, larger is
            nearer), where what is no finite number = none.
        kind: 'metric' or 'relative'.
        per_meter: numbers a meter: 1000 as in NYU Depth v2, 256 as in KITTI.

    Returns:
        (H, W) uint16, and how many pixels are too far for it.
    """
    depth = np.asarray(depth, np.float64)
    measured = np.isfinite(depth)
    values = np.zeros(depth.shape, np.uint16)
    if kind == "relative":
        if measured.any():
            low, high = depth[measured].min(), depth[measured].max()
            fraction = (depth[measured] - low) / (high - low) if high > low else 0.5
            values[measured] = np.round(1 + (MOST - 1) * fraction)
        return values, 0
    # what is infinitely far is not known to be anywhere
    measured &= depth > 0
    scaled = np.maximum(np.round(depth[measured] * per_meter), 1)
    values[measured] = np.minimum(scaled, MOST)
    return values, int((scaled > MOST).sum())


def write_depth(path: str | os.PathLike, depth: np.ndarray, kind: str = "metric", per_meter: float = 1000.0) -> int:
    """Write a depth map as .png (see `depth_values`; the file says its unit in its text 'Description') or as .npy,
    float32 as it is: meters with 0 = none, or relative depth. Makes the folder.

    Returns:
        How many pixels were too far for 16 bits.

    Raises:
        ConfigError: the path ends otherwise, or `per_meter` is no positive number.
        DataError: the file cannot be written.
    """
    path = Path(path)
    if path.suffix not in (".png", ".npy"):
        raise ConfigError(f"{path} has no ending of a depth map; use .png (16 bits) or .npy (float32).")
    check_scale(per_meter)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".npy":
            depth = np.asarray(depth, np.float32)
            missing = ~np.isfinite(depth) | (depth < 0) if kind == "metric" else False
            np.save(path, np.where(missing, np.float32(0), depth))
            return 0
        values, cut = depth_values(depth, kind, per_meter)
        words = PngImagePlugin.PngInfo()
        unit = f"meters = value / {per_meter:g}" if kind == "metric" else "relative, larger is nearer"
        words.add_text("Description", f"depth: {unit}, 0 = none")
        Image.fromarray(values).save(path, pnginfo=words)
        return cut
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror}.") from None


def check_scale(per_meter: float) -> None:
    """
    Raises:
        ConfigError: it is no positive number.
    """
    if not 0 < per_meter < np.inf:
        raise ConfigError(
            f"a depth scale of {per_meter:g} writes nothing: give numbers a meter, 1000 as in NYU or 256 as in KITTI."
        )
