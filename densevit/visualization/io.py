"""Writing pictures to files."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from densevit.errors import DataError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write_image(path: str | os.PathLike, image: np.ndarray) -> None:
    """Write `image`, (H, W, 3) uint8 BGR, in the format that the ending of `path` names; makes the folder.

    Raises:
        DataError: no such format, or the file cannot be written.
    """
    path = Path(path)
    try:
        # Through memory: cv2 itself does not write to paths with letters outside ASCII on some systems.
        quality = [cv2.IMWRITE_JPEG_QUALITY, 95] if path.suffix.lower() in (".jpg", ".jpeg") else []
        _, data = cv2.imencode(path.suffix.lower(), image, quality)
    except cv2.error:
        raise DataError(f"{path} has no ending of a picture; use .png or .jpg.") from None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.tobytes())
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror}.") from None


def write_plot(path: Path, plot: "Figure") -> None:
    """Write a plot of matplotlib's and close it; makes the folder.

    Raises:
        DataError: no such format.
    """
    from matplotlib import pyplot

    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        plot.savefig(path, dpi=110)
    except ValueError:
        raise DataError(f"{path} has no ending of a picture; use .png, .pdf or .svg.") from None
    finally:
        pyplot.close(plot)
