"""What a Predictor takes as images: paths, bytes, files, Pillow's images, arrays; folders and patterns of files."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import PIL.Image

from densevit.datasets.image_dataset import left_out_sentence
from densevit.datasets.io.image import image_endings, pillow_pixels, read_image
from densevit.errors import DataError

Image = str | os.PathLike | bytes | bytearray | memoryview | BinaryIO | PIL.Image.Image | np.ndarray


def read_rgb(image: Image) -> tuple[np.ndarray, str | None]:
    """(H, W, 3) uint8 RGB, and the path of what has one."""
    path = os.fspath(image) if isinstance(image, (str, os.PathLike)) else None
    if path is not None or isinstance(image, bytes | bytearray | memoryview) or hasattr(image, "read"):
        array = read_image(image)[..., ::-1]
    else:
        array = pillow_pixels(image, "The image") if isinstance(image, PIL.Image.Image) else as_rgb(image)
    return np.ascontiguousarray(array), path


def as_rgb(image: Any) -> np.ndarray:
    """An array as (H, W, 3) uint8 RGB."""
    if image is None:
        raise DataError("None is no image: cv2.imread gives it of a file that is missing or cannot be read.")
    try:
        array = np.asarray(image)
    except Exception as error:  # a tensor on a GPU or with a gradient, lists of several lengths
        said = str(error).partition("\n")[0]
        raise DataError(f"{type(image).__name__} cannot be taken as an image ({said}): give a numpy array.") from None
    if array.dtype != np.uint8:
        raise DataError(f"an image as an array must be uint8 (0 to 255), not {array.dtype}; convert it first.")
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or 0 in array.shape:
        hint = ": transpose it, channels last" if array.ndim == 3 and array.shape[0] in (1, 3, 4) else ""
        raise DataError(
            "an image as an array must be (H, W, 3) RGB, (H, W, 4) RGBA or (H, W) gray, not of shape "
            f"{array.shape}{hint}."
        )
    return array[..., :3] if array.shape[2] > 1 else np.repeat(array, 3, axis=2)


def images_under(source: str) -> list[Path]:
    """Image files that `source` stands for: a file, a folder (its images, not those of folders below) or a glob.

    Raises:
        DataError: nothing is there.
    """
    import glob

    path = Path(source)
    if path.is_file():
        return [path]
    if path.is_dir():
        endings = image_endings()
        found = sorted(p for p in path.iterdir() if p.is_file() and p.suffix.lower() in endings)
        kind = "folder with images"
    else:
        found = sorted(Path(p) for p in glob.glob(source, recursive=True) if os.path.isfile(p))
        kind = "image, folder or pattern that fits a file"
    if not found:
        raise DataError(f"{source} is no {kind}; check the path.")
    return found


def left_out(source: str, images: Sequence[Path]) -> str:
    """A sentence on the files of a folder that are not among its `images`; '' where there are none."""
    path = Path(source)
    there = path.iterdir() if path.is_dir() else ()
    others = {p.name for p in there if p.is_file() and not p.name.startswith(".")}
    return left_out_sentence(path, others - {image.name for image in images})
