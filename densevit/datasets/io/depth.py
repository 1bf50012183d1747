"""Reading depth maps: PNG, NPY or EXR -> meters, or one sentence that names the fault.

Nothing is guessed: a file's numbers are divided by the dataset's `depth_scale`.
"""

import io
import os
from typing import BinaryIO

import cv2
import numpy as np

from densevit.datasets.io.exr import MAGIC as EXR
from densevit.datasets.io.exr import read_exr
from densevit.datasets.io.image import PNG, BrokenImage, check_size, read_bytes, stated_size, truncated
from densevit.datasets.io.label_map import map_size
from densevit.errors import ConfigError

NPY = b"\x93NUMPY"
FARTHEST = 1000.0
"""Meters, where a dataset states no largest depth."""


class DepthReader:
    """Reads depth maps of one unit.

    Args:
        scale: the number that stands for one meter: 1000 for millimeters, 256 for KITTI's, 1 for meters.
        max_depth: meters; a larger depth is none. None: a depth beyond FARTHEST shows that the unit is wrong.

    Raises:
        ConfigError: max_depth is no positive number.
    """

    def __init__(self, scale: float, max_depth: float | None = None) -> None:
        if max_depth is not None and not (isinstance(max_depth, int | float) and 0 < max_depth < float("inf")):
            raise ConfigError(f"max_depth of a dataset of depth is meters or None, not {max_depth!r}.")
        self.scale, self.max_depth = scale, max_depth

    def __call__(self, path: str | os.PathLike) -> np.ndarray:
        """The depth (H, W) float32 meters of a map, 0 = none: 0, what is below it or beyond `max_depth`, NaN, infinity.

        Raises:
            BrokenImage: the file cannot be read, holds no depth by its kind, or its unit is another one.
        """
        values = read_numbers(path).astype(np.float32)
        depth = np.where(np.isfinite(values) & (values > 0), values, np.float32(0))
        if self.scale != 1:
            depth /= np.float32(self.scale)
        largest = float(depth.max(initial=0))
        if self.max_depth is not None:
            depth[depth > self.max_depth] = 0
        elif largest > FARTHEST:
            unit = "millimeters? set" if self.scale == 1 else f"is depth_scale={self.scale:g} right? correct"
            raise BrokenImage(
                f"The largest depth in {os.path.abspath(path)} is {largest:,.0f} m: {unit} depth_scale on the dataset "
                f"(1000 for millimeters, 256 for KITTI's), or state its max_depth, beyond which are holes."
            )
        return depth


def read_numbers(path: str | os.PathLike) -> np.ndarray:
    """What a depth file holds: (H, W) numbers of any type.

    Raises:
        BrokenImage: missing, empty, truncated, or no map of depth.
    """
    name, data = read_bytes(path, "Depth map")
    if data[:8] == PNG:
        return _read_png(name, data)
    if data[:4] == EXR:
        return read_exr(name, data)
    if data[:6] == NPY:
        return _read_npy(name, data)
    raise BrokenImage(f"{name} is no 16-bit PNG, no NPY and no EXR file: store depth as one of them.")


def _read_png(name: str, data: bytes) -> np.ndarray:
    if all(stated := stated_size(data)):
        check_size(name, data, stated)
    try:
        values = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if b"IEND" in data[-64:] else None
    except cv2.error:
        values = None
    if values is None:
        raise BrokenImage(f"{name} is truncated or damaged ({len(data)} bytes of a PNG): copy it again.")
    if values.ndim != 2:
        raise BrokenImage(f"{name} is in colors: it is a picture of depth; take the file that holds the measurements.")
    if values.dtype != np.uint16:
        raise BrokenImage(
            f"{name} has 8 bits: 255 steps are a picture of depth, no measurements; store depth as 16-bit PNG, NPY or "
            "EXR."
        )
    return values


def _read_npy(name: str, data: bytes) -> np.ndarray:
    try:
        shape, by_columns, dtype, start = _npy_header(io.BytesIO(data))
    except Exception as error:  # whatever a torn header leads to
        raise BrokenImage(f"{name} cannot be read as NPY ({error}): write it again with numpy.save.") from None
    if dtype.kind not in "fiu":
        raise BrokenImage(f"{name} holds no numbers but {dtype}: store depth as floats or whole numbers.")
    sides = shape[1:] if len(shape) == 3 and shape[0] == 1 else shape
    sides = sides[:-1] if len(sides) == 3 and sides[-1] == 1 else sides
    if len(sides) != 2:
        raise BrokenImage(f"{name} has the shape {shape}: a depth map is (height, width).")
    check_size(name, data, sides)
    count = sides[0] * sides[1]
    if min(sides) < 0 or len(data) - start < count * dtype.itemsize:
        raise truncated(name, data, "NPY")
    return np.frombuffer(data, dtype, count, start).reshape(sides, order="F" if by_columns else "C")  # (H, W)


def _npy_header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype, int]:
    """(shape, whether columns come first, type, where the numbers begin) of an NPY file."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return *read(file), file.tell()


def depth_size(path: str | os.PathLike) -> tuple[int, int] | None:
    """(height, width) of a PNG or NPY file without reading all of it; None where its head does not say so."""
    try:
        with open(path, "rb") as file:
            if file.read(6) != NPY:
                return map_size(path)
            file.seek(0)
            shape = tuple(side for side in _npy_header(file)[0] if side != 1)
    except Exception:  # the reader of the map says what is wrong
        return None
    return shape if len(shape) == 2 else None
