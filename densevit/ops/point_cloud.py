"""Depth as points in space, and points as PLY files.

Points lie in the camera's frame as in OpenCV: x to the right, y down, z along the optical axis, meters. The middle of
the upper left pixel is (0, 0), as calibrations have it.
"""

import json
import math
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from densevit.errors import DataError

MOST_POINTS = 1_000_000  # viewers get slow beyond
CALIBRATION = ("P2", "P_rect_02")  # the left color camera in KITTI's files, of objects and of raw drives


class Intrinsics(NamedTuple):
    """A pinhole camera in pixels: focal lengths and principal point."""

    fx: float
    fy: float
    cx: float
    cy: float


def point_cloud(
    depth: np.ndarray, image: np.ndarray, intrinsics: Sequence[float], stride: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """The points that the pixels with depth show, row by row.

    Args:
        depth: (H, W) meters along the optical axis; what is no positive number = none and gives no point.
        image: (H, W, 3) uint8, the colors.
        intrinsics: (fx, fy, cx, cy) in pixels of this image.
        stride: take each so-many-th row and column.

    Returns:
        (N, 3) float32 meters, and (N, 3) uint8 colors in the image's order.

    Raises:
        DataError: the intrinsics are not those of a camera that takes such an image, or the maps differ in size.
    """
    if depth.shape != image.shape[:2]:
        (rows, columns), (height, width) = depth.shape, image.shape[:2]
        raise DataError(f"depth of {columns}x{rows} pixels does not lie on an image of {width}x{height}.")
    fx, fy, cx, cy = checked_intrinsics(intrinsics, depth.shape)
    z = np.asarray(depth[::stride, ::stride], np.float32)
    measured = np.isfinite(z) & (z > 0)
    rows, columns = np.nonzero(measured)
    z = z[measured]
    x, y = (columns * stride - cx) / fx * z, (rows * stride - cy) / fy * z
    return np.stack([x, y, z], axis=1).astype(np.float32), image[::stride, ::stride][measured]


def stride_for(size: Sequence[int], most: int = MOST_POINTS) -> int:
    """The least stride that makes at most so many points of (height, width) pixels."""
    stride = max(1, math.isqrt(max(size[0] * size[1] // most, 1)))
    while -(-size[0] // stride) * -(-size[1] // stride) > most:
        stride += 1
    return stride


def checked_intrinsics(intrinsics: Sequence[float], size: Sequence[int]) -> Intrinsics:
    """
    Raises:
        DataError: they are not those of a camera that takes an image of (height, width).
    """
    if len(intrinsics) != 4 or not all(math.isfinite(value) for value in intrinsics):
        raise DataError(f"intrinsics are four numbers, fx fy cx cy, not {' '.join(map(str, intrinsics))}.")
    camera = Intrinsics(*map(float, intrinsics))
    if min(camera.fx, camera.fy) <= 0:
        raise DataError(f"focal lengths are positive numbers of pixels, not fx = {camera.fx:g} and fy = {camera.fy:g}.")
    height, width = size
    if not (0 <= camera.cx <= width and 0 <= camera.cy <= height):
        raise DataError(
            f"the principal point ({camera.cx:g}, {camera.cy:g}) lies outside of an image of {width}x{height} pixels: "
            "these intrinsics are of another size; multiply fx and cx by new / old width, fy and cy by new / old "
            "height."
        )
    return camera


def read_intrinsics(path: str | os.PathLike) -> Intrinsics:
    """The intrinsics that a file states.

    Text with four numbers (fx fy cx cy) or a matrix of 3 x 3 or 3 x 4; KITTI's calibration files, of which the left
    color camera is taken (P2, P_rect_02); or JSON: an object with fx, fy, cx, cy, or with a matrix as `K`,
    `intrinsics` or Open3D's `intrinsic_matrix`.

    Raises:
        DataError: the file cannot be read, or states none.
    """
    path = Path(path)
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise DataError(f"the intrinsics {path} cannot be read: {reason}.") from None
    try:
        numbers = _from_json(json.loads(text))
    except ValueError:
        numbers = _from_text(text)
    camera = None if numbers is None else _camera(numbers)
    if camera is None:
        raise DataError(
            f"{path} states no intrinsics: write fx fy cx cy into it, four numbers in pixels, or the camera's 3 x 3 "
            "matrix."
        )
    return camera


def _from_json(content: object) -> list[float] | None:
    if isinstance(content, dict):
        if set(Intrinsics._fields) <= set(content):
            content = [content[key] for key in Intrinsics._fields]
        else:
            content = next((content[k] for k in ("K", "intrinsics", "intrinsic_matrix") if k in content), None)
            if isinstance(content, dict):
                return _from_json(content)
    if isinstance(content, (int, float)):
        return None
    try:
        return None if content is None else np.array(content, np.float64).ravel().tolist()
    except (ValueError, TypeError):
        return None


def _from_text(text: str) -> list[float] | None:
    for name in CALIBRATION:
        line = re.search(rf"^{name}:(.*)$", text, re.MULTILINE)
        if line:
            text = line[1]
            break
    try:
        return [float(word) for word in text.replace(",", " ").split()]
    except ValueError:
        return None


def _camera(numbers: list[float]) -> Intrinsics | None:
    """From fx fy cx cy, or from a matrix with 3 or 4 columns row by row, or 3 x 3 column by column."""
    if len(numbers) == 4:
        return Intrinsics(*numbers)
    if len(numbers) not in (9, 12):
        return None
    matrix = np.array(numbers).reshape(3, -1)  # (3, 3) or (3, 4)
    if len(numbers) == 9 and matrix[0, 2] == matrix[1, 2] == 0:
        matrix = matrix.T
    # the last column of 3 x 4 is where the camera stands beside another one, which moves no point in its own frame
    left, last = matrix[:, :3], matrix[2, :3]
    if last.tolist() != [0, 0, 1]:
        return None
    return Intrinsics(*(float(left[cell]) for cell in ((0, 0), (1, 1), (0, 2), (1, 2))))


def write_ply(path: str | os.PathLike, points: np.ndarray, colors: np.ndarray) -> None:
    """Write points (N, 3) in meters with colors (N, 3) uint8 RGB as binary little-endian PLY. Makes the folder.

    Raises:
        DataError: the file cannot be written.
    """
    rows = np.empty(len(points), np.dtype([("position", "<f4", 3), ("color", "u1", 3)]))
    rows["position"], rows["color"] = points, colors
    properties = [f"property float {axis}" for axis in "xyz"]
    properties += [f"property uchar {color}" for color in ("red", "green", "blue")]
    head = [
        "ply",
        "format binary_little_endian 1.0",
        "comment meters in the camera's frame: x right, y down, z forward",
        f"element vertex {len(points)}",
        *properties,
        "end_header",
    ]
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes("\n".join([*head, ""]).encode("ascii") + rows.tobytes())
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror}.") from None
