"""Reading images: any common format -> uint8 BGR, or one sentence that names the fault.

The numbers are OpenCV's (`IMREAD_COLOR`), as in the reference code: 16 bits are scaled to 8, gray and palettes become
three channels, CMYK is converted, alpha is dropped, the EXIF orientation is applied. What OpenCV cannot read or reads
otherwise (transparency in TIFF and GIF, turned AVIF) is read by Pillow. A file is decoded once its header states a size
that is expected and not above MOST_PIXELS.
"""

import contextlib
import io
import os
import struct
import threading
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageOps

from densevit.errors import DataError

MOST_PIXELS = 2**28
"""Of a file: 0.8 GB as an image. Cameras have up to 2^27."""
ORIENTATION, TURNED = 0x0112, (5, 6, 7, 8)
"""EXIF's tag, and those of its values that swap width and height."""
PNG = b"\x89PNG\r\n\x1a\n"
NO_IMAGES = {"EPS", "BUFR", "GRIB", "HDF5", "WMF", "MPEG"}
"""Formats that Pillow names but does not decode, or not without starting another program."""
FLOATS = (b"#?RADIANCE", b"#?RGBE", b"PF", b"Pf", b"\x76\x2f\x31\x01")
"""How files of floating-point numbers begin: Radiance, PFM and OpenEXR."""
NOT_OPENCV = {"zstd", "lzma", "webp"}
"""Compressions of TIFF that OpenCV comes without."""


class BrokenImage(DataError):
    """An image file that cannot be used.

    A DataLoader worker hands an exception over as the text of its traceback; the sentence is taken out of it again.
    """

    def __init__(self, text: str) -> None:
        marker = f"{type(self).__module__}.{type(self).__qualname__}: "
        super().__init__(text.rpartition(marker)[2].strip() if "Original Traceback" in text else text)


def read_image(
    source: Any, size: tuple[int, int] | None = None, ground_truth: str = "its annotations were made for"
) -> np.ndarray:
    """Decode an image file.

    Args:
        source: path, or the file's contents: bytes, or a binary file object.
        size: (height, width) that the annotations speak of. Where the EXIF orientation turns the image away from it,
            the image is read as it is stored; any other difference is an error.
        ground_truth: what has that size, for messages.

    Returns:
        (H, W, 3) uint8, BGR.

    Raises:
        BrokenImage: missing, empty, truncated, not an image, above MOST_PIXELS, or of another size.
    """
    name, data = read_bytes(source)
    if data.startswith(FLOATS):
        raise BrokenImage(f"{name} holds floating-point numbers: store it as an image of 8 or 16 bits.")
    stated = stated_size(data)
    picture = None
    if stated is not None:
        if all(stated):
            check_size(name, data, stated, size, ground_truth)
        png = data[:8] == PNG
        complete, kind = (data.rfind(b"IEND") > 0, "PNG") if png else (jpeg_is_complete(data, name), "JPEG")
    else:
        picture = open_pillow(name, data)
        if picture is not None:
            check_size(name, data, picture.size[::-1], size, ground_truth)
        complete, kind = _loads(picture), "image"
    if not complete:
        raise truncated(name, data, kind)
    image = _decode(data) if picture is None or _reads_alike(picture) else None
    if image is None and stated is not None:
        picture = open_pillow(name, data)
        picture = picture if _loads(picture) else None
    if image is None and picture is not None:
        image = pillow_pixels(picture, name)[..., ::-1]
    if image is None:
        raise BrokenImage(f"{name} cannot be decoded as an image: replace it by a whole JPEG or PNG.")
    if size is not None and image.shape[:2] != tuple(size):
        stored = _decode(data, cv2.IMREAD_IGNORE_ORIENTATION)
        if stored is None or stored.shape[:2] != tuple(size):
            raise _of_another_size(name, image.shape[:2], size, ground_truth)
        image = stored
    return np.ascontiguousarray(image)


def truncated(name: str, data: bytes, kind: str) -> BrokenImage:
    """The error of a file whose end is missing."""
    return BrokenImage(f"{name} is truncated or damaged ({len(data)} bytes of an incomplete {kind}): copy it again.")


def check_size(
    name: str, data: bytes, stated: tuple[int, int], size: tuple[int, int] | None = None, ground_truth: str = ""
) -> None:
    """BrokenImage where a file's header states (height, width) above MOST_PIXELS, or other than `size`, turned or not;
    see `read_image`."""
    if size is not None and sorted(stated) != sorted(size):
        with contextlib.suppress(Exception):  # for the message alone
            if data[:2] == b"\xff\xd8" and open_pillow(name, data).getexif().get(ORIENTATION) in TURNED:
                stated = stated[::-1]
        raise _of_another_size(name, stated, size, ground_truth)
    if stated[0] * stated[1] > MOST_PIXELS:
        raise BrokenImage(
            f"{name} has {stated[1]}x{stated[0]} pixels, and {MOST_PIXELS:,} are read at most: cut it into parts."
        )


def _of_another_size(name: str, found: tuple[int, int], size: tuple[int, int], ground_truth: str) -> BrokenImage:
    return BrokenImage(
        f"{name} is {found[1]}x{found[0]} pixels, but {ground_truth} {size[1]}x{size[0]}: use the images that belong "
        "to the annotations."
    )


def stated_size(data: bytes) -> tuple[int, int] | None:
    """(height, width) that the header of a PNG or JPEG states; None of other files."""
    if data[:8] == PNG:
        return struct.unpack_from(">II", data, 16)[::-1] if len(data) >= 24 else (0, 0)
    if data[:2] != b"\xff\xd8":
        return None
    position = 2
    while 0 <= (position := data.find(b"\xff", position)) <= len(data) - 9:
        marker = data[position + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # start of a frame
            return struct.unpack_from(">HH", data, position + 5)
        if marker in (0x00, 0x01, 0xFF) or 0xD0 <= marker <= 0xD8:  # what has no length
            position += 1 if marker == 0xFF else 2
        else:
            position += 2 + struct.unpack_from(">H", data, position + 2)[0]
    return 0, 0


class PillowLimit:
    """A context without Pillow's own limit of pixels, which warns of 90 million and refuses 179; threads share it."""

    def __init__(self) -> None:
        self._lock, self._inside, self._limit = threading.Lock(), 0, None

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                Image.MAX_IMAGE_PIXELS = self._limit


pillow_limit_off = PillowLimit()


def open_pillow(name: str, data: bytes) -> Image.Image | None:
    """A file opened by Pillow, not decoded yet; None where it knows no such format.

    Raises:
        BrokenImage: the file is damaged.
    """
    Image.preinit()  # the usual formats come first
    Image.init()
    try:
        with pillow_limit_off:
            return Image.open(io.BytesIO(data), formats=[kind for kind in Image.ID if kind not in NO_IMAGES])
    except Image.UnidentifiedImageError:
        return None
    except Exception:  # each format has exceptions of its own
        raise truncated(name, data, "image") from None


def image_endings() -> set[str]:
    """The endings of the names of images that are read here, such as '.jpg'."""
    Image.init()
    formats = Image.registered_extensions().items()
    return {ending for ending, kind in formats if kind in Image.OPEN and kind not in NO_IMAGES} - {".pfm"} | {".mpo"}


def _loads(picture: Image.Image | None) -> bool:
    """Whether Pillow decodes all of a picture, strict about missing bytes; what it does not know is left to OpenCV."""
    try:
        with pillow_limit_off:
            return picture is None or picture.load() is None or True
    except Exception:  # each decoder has exceptions of its own
        return False


def _reads_alike(picture: Image.Image) -> bool:
    """Whether OpenCV gives the pixels of this file that Pillow gives, so that OpenCV may read it."""
    if picture.format == "AVIF" or picture.info.get("compression") in NOT_OPENCV:
        return False
    return not picture.has_transparency_data


def pillow_pixels(picture: Image.Image, name: str) -> np.ndarray:
    """An image of Pillow's, upright, as (H, W, 3) uint8 RGB, as the file that it stands for is read.

    Raises:
        BrokenImage: numbers of 32 bits, or it cannot be loaded or converted.
    """
    kind = picture.format
    with contextlib.suppress(Exception):  # OpenCV overlooks unreadable EXIF, too
        if picture.getexif().get(ORIENTATION, 1) != 1:
            picture = ImageOps.exif_transpose(picture)
    try:
        if picture.mode.startswith("I;16") or (picture.mode == "I" and kind in ("PNG", "PPM")):
            gray = (np.asarray(picture) >> 8).astype(np.uint8)
            return np.repeat(gray[..., None], 3, axis=2)  # (H, W, 3)
        pixels = None if picture.mode in ("I", "F") else np.asarray(picture.convert("RGB"))
    except Exception as error:  # a truncated file, a closed one, a mode that cannot be converted
        raise BrokenImage(f"{name} cannot be converted to RGB by Pillow ({error}): convert it first.") from None
    if pixels is None:
        raise BrokenImage(
            f"{name} holds numbers of 32 bits (Pillow's mode {picture.mode}): scale them to 0 to 255 and store 8 bits."
        )
    return pixels


def read_bytes(source: Any, what: str = "Image") -> tuple[str, bytes]:
    """(name for messages, contents) of a file, of bytes or of a file object from its start; `what` it should be."""
    if hasattr(source, "read") and not isinstance(source, os.PathLike):
        try:
            if source.seekable():
                source.seek(0)
            source = source.read()
        except (OSError, ValueError, AttributeError) as error:  # a closed file, one of text
            raise BrokenImage(f"The {what.lower()} cannot be read from {type(source).__name__}: {error}.") from None
        if isinstance(source, str):
            raise BrokenImage(f"The {what.lower()} comes from a file of text: open it with mode 'rb'.")
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
        except (OSError, ValueError) as error:
            raise BrokenImage(f"{name} cannot be read: {getattr(error, 'strerror', None) or error}.") from None
    if not data:
        raise BrokenImage(f"{name} is empty (0 bytes): copy it again.")
    return name, data


def _decode(data: bytes, flags: int = 0) -> np.ndarray | None:
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | flags)
    except cv2.error:
        return None
    return image if image is not None and image.ndim == 3 and image.dtype == np.uint8 else None


def jpeg_is_complete(data: bytes, name: str = "The image") -> bool:
    """Whether the end marker is there: some OpenCV versions fill a torn JPEG up with gray and say nothing.

    Inside a scan 0xFF is only ever followed by 0x00 or a restart marker, so the end marker (EOI) of the image, unlike a
    thumbnail's, comes after the last start of scan (SOS). Bytes behind it are allowed.
    """
    if data[-2:] == b"\xff\xd9":
        return True
    return data.rfind(b"\xff\xd9") > data.rfind(b"\xff\xda") or _loads(open_pillow(name, data))
