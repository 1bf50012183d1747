"""JPEGs that are decoded only when the size to resize them to is known.

A JPEG can be decoded at a half, a quarter or an eighth of its size for less work (its blocks are transformed to fewer
pixels), which pays off where a large photograph is resized to a small one.
"""

import math
from typing import Any, NoReturn

import cv2
import numpy as np

from densevit.datasets.io.image import (
    ORIENTATION,
    TURNED,
    BrokenImage,
    check_size,
    jpeg_is_complete,
    open_pillow,
    read_bytes,
    read_image,
)
from densevit.errors import ConfigError

REDUCED = {8: cv2.IMREAD_REDUCED_COLOR_8, 4: cv2.IMREAD_REDUCED_COLOR_4, 2: cv2.IMREAD_REDUCED_COLOR_2}
REVERSED = {2: (False, True), 3: (True, True), 4: (True, False), 6: (False, True), 7: (True, True), 8: (True, False)}
"""By EXIF orientation: whether the rows (and the columns) of the upright image run against those of the file."""


class LazyJpeg:
    """Stands for an image (H, W, 3) between `LoadImage(reduced=True)` and `Resize`.

    Args:
        name: for messages.
        data: the file.
        size: (height, width) of the whole image, upright where the orientation is applied.
        orientation: EXIF's, 1 to 8; None: the image is read as it is stored.
    """

    def __init__(self, name: str, data: bytes, size: tuple[int, int], orientation: int | None) -> None:
        self.name, self.data, self.shape, self.orientation = name, data, (*size, 3), orientation

    def resized(self, size: tuple[int, int], cubic: bool = False) -> np.ndarray:
        """The image at `size` (height, width), as `Resize` samples it, but from the smallest decoding that is not
        smaller than that.

        A reduced image ends in the middle of its last pixel where its size does not divide the file's; sampling goes by
        the file's pixels, so that objects are where they would be without reducing.

        Raises:
            BrokenImage: the file cannot be decoded, or not to the size that it states.
        """
        whole, (height, width) = self.shape[:2], size
        factor = next((f for f in REDUCED if all(f * side <= old for side, old in zip(size, whole, strict=True))), 1)
        image = self._decode(factor)
        if cubic:
            image = image.astype(np.float32)
        kind = cv2.INTER_CUBIC if cubic else cv2.INTER_LINEAR
        beyond = [factor * got - old for got, old in zip(image.shape[:2], whole, strict=True)]
        if not any(beyond):
            return cv2.resize(image, (width, height), interpolation=kind)
        first = [pad * turned for pad, turned in zip(beyond, REVERSED.get(self.orientation, (0, 0)), strict=True)]
        (down, right), (top, left) = ((old / new / factor for old, new in zip(whole, size, strict=True)), first)
        matrix = np.array(
            [[right, 0, right / 2 + left / factor - 0.5], [0, down, down / 2 + top / factor - 0.5]], dtype=np.float64
        )
        flags = kind | cv2.WARP_INVERSE_MAP
        return cv2.warpAffine(image, matrix, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE)

    def _decode(self, factor: int) -> np.ndarray:
        """(ceil(H / factor), ceil(W / factor), 3) uint8 BGR."""
        flags = REDUCED.get(factor, cv2.IMREAD_COLOR)
        if self.orientation is None:
            flags |= cv2.IMREAD_IGNORE_ORIENTATION
        try:
            image = cv2.imdecode(np.frombuffer(self.data, np.uint8), flags)
        except cv2.error:
            image = None
        if image is None or image.shape[:2] != tuple(math.ceil(side / factor) for side in self.shape[:2]):
            raise BrokenImage(f"{self.name} cannot be decoded as an image: replace it by a whole JPEG or PNG.")
        return image

    def __array__(self, *_: Any, **__: Any) -> NoReturn:
        raise ConfigError(_sentence("Something"))


def open_image(
    source: Any, size: tuple[int, int] | None = None, ground_truth: str = "its annotations were made for"
) -> np.ndarray | LazyJpeg:
    """As `read_image`, with the same errors, but a JPEG is not decoded yet: its header says how large it is."""
    name, data = read_bytes(source)
    if data[:2] != b"\xff\xd8" or not jpeg_is_complete(data, name):
        return read_image(source, size, ground_truth)
    try:
        with open_pillow(name, data) as image:
            stored, orientation = image.size[::-1], image.getexif().get(ORIENTATION, 1)
    except Exception:  # whatever is wrong with it, the reader of whole images says it
        return read_image(source, size, ground_truth)
    check_size(name, data, stored, size, ground_truth)
    upright = stored[::-1] if orientation in TURNED else stored
    if size is None or upright == tuple(size):
        return LazyJpeg(name, data, upright, orientation)
    if stored == tuple(size):
        return LazyJpeg(name, data, stored, None)
    return read_image(source, size, ground_truth)


def require_pixels(results: dict, transform: object) -> None:
    """ConfigError where the image that a transform is about to change has not been decoded yet."""
    if isinstance(results["img"], LazyJpeg):
        raise ConfigError(_sentence(type(transform).__name__))


def _sentence(name: str) -> str:
    return (
        f"{name} stands between LoadImage(reduced=True) and Resize in a pipeline: put Resize (or RandomResize, "
        "RandomChoiceResize) before it, or leave reduced out."
    )
