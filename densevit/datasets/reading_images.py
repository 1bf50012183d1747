"""The one image reader: any file that people keep photographs in -> uint8 BGR, or one sentence that says what is wrong.

The numbers are OpenCV's (`IMREAD_COLOR`), as in the reference code: 16 bits are scaled to 8, grey and palettes become
three channels, CMYK is converted, alpha is dropped, the EXIF orientation is applied.
"""

import io
import os

import cv2
import numpy as np
from PIL import Image

from densevit.errors import DataError


class BrokenImage(DataError):
    """An image file that cannot be used.

    A DataLoader worker hands an exception over as the text of its traceback; the sentence is taken out of it again.
    """

    def __init__(self, text: str) -> None:
        marker = f"{type(self).__module__}.{type(self).__qualname__}: "
        super().__init__(text.rpartition(marker)[2].strip() if "Original Traceback" in text else text)


def read_image(
    source: str | os.PathLike | bytes, size: tuple[int, int] | None = None, truth: str = "its annotations were made for"
) -> np.ndarray:
    """Decode an image file.

    Args:
        source: path, or the file's bytes.
        size: (height, width) that the annotations speak of. Where the EXIF orientation turns the image away from it,
            the image is read as it is stored; any other difference is an error.
        truth: who says so, for messages.

    Returns:
        (H, W, 3) uint8, BGR.

    Raises:
        BrokenImage: missing, empty, truncated, not an image, or of another size.
    """
    name, data = read_bytes(source)
    if data[:2] == b"\xff\xd8":
        complete, kind = jpeg_is_complete(data), "JPEG"
    elif data[:8] == b"\x89PNG\r\n\x1a\n":
        complete, kind = data.rfind(b"IEND") > 0, "PNG"
    else:
        complete, kind = _pillow_reads_all(data), "image"
    if not complete:
        raise BrokenImage(f"{name} is truncated or damaged ({len(data)} bytes of an incomplete {kind}): copy it again.")
    image = _decode(data)
    if image is None:
        raise BrokenImage(f"{name} cannot be decoded as an image: replace it by a whole JPEG or PNG.")
    if size is not None and image.shape[:2] != tuple(size):
        stored = _decode(data, cv2.IMREAD_IGNORE_ORIENTATION)
        if stored is None or stored.shape[:2] != tuple(size):
            height, width = image.shape[:2]
            raise BrokenImage(
                f"{name} is {width}x{height} pixels, but {truth} {size[1]}x{size[0]}: use the images that belong "
                "to the annotations."
            )
        image = stored
    return image


def read_bytes(source: str | os.PathLike | bytes, what: str = "Image") -> tuple[str, bytes]:
    """(name for messages, contents) of a file or of bytes; `what` it is meant to be."""
    if isinstance(source, bytes | bytearray | memoryview):
        name, data = f"The {what.lower()}", bytes(source)
    else:
        name = f"{what} {os.path.abspath(source)}"
        try:
            with open(source, "rb") as file:
                data = file.read()
        except FileNotFoundError:
            raise BrokenImage(f"{name} does not exist.") from None
        except IsADirectoryError:
            raise BrokenImage(f"{name} is a folder, not an image.") from None
        except OSError as error:
            raise BrokenImage(f"{name} cannot be read: {error.strerror}.") from None
    if not data:
        raise BrokenImage(f"{name} is empty (0 bytes): copy it again.")
    return name, data


def _decode(data: bytes, flags: int = 0) -> np.ndarray | None:
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | flags)
    except cv2.error:
        return None


def jpeg_is_complete(data: bytes) -> bool:
    """Whether the end marker is there: some OpenCV versions fill a torn JPEG up with grey and say nothing.

    Inside a scan 0xFF is only ever followed by 0x00 or a restart marker, so the end marker (EOI) of the image, unlike a
    thumbnail's, comes after the last start of scan (SOS). Bytes behind it are allowed.
    """
    if data[-2:] == b"\xff\xd9":
        return True
    return data.rfind(b"\xff\xd9") > data.rfind(b"\xff\xda") or _pillow_reads_all(data)


def _pillow_reads_all(data: bytes) -> bool:
    """Pillow's verdict, strict about missing bytes; formats that it does not know are left to OpenCV."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
    except Image.UnidentifiedImageError:
        return True
    except Exception:  # each decoder has exceptions of its own
        return False
    return True
