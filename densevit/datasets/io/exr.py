"""One channel of an OpenEXR picture, as renderers and game engines write depth (openexr.com, "OpenEXR File Layout").

Scan lines without compression or with ZIP, in one part: OpenCV's packages for Python come without OpenEXR.
"""

import math
import struct
import zlib

import numpy as np

from densevit.datasets.io.image import BrokenImage, check_size

MAGIC = b"\x76\x2f\x31\x01"
UNSUPPORTED = 0x200 | 0x800 | 0x1000  # tiles, deep data, several parts
COMPRESSIONS = dict(enumerate(("none", "RLE", "ZIPS", "ZIP", "PIZ", "PXR24", "B44", "B44A", "DWAA", "DWAB")))
LINES = {0: 1, 2: 1, 3: 16}  # of a chunk, by compression
TYPES = (np.dtype("<u4"), np.dtype("<f2"), np.dtype("<f4"))
DEPTH_NAMES = ("Z", "DEPTH", "D", "Y", "V", "R")  # Y is gray; Blender and others repeat depth in R, G and B


def read_exr(name: str, data: bytes) -> np.ndarray:
    """The channel of depth, (H, W) float16, float32 or uint32.

    Args:
        name: of the file, for messages.
        data: its bytes.

    Raises:
        BrokenImage: truncated, compressed otherwise, or no channel is named like depth.
    """
    try:
        return _read(name, data)
    except (struct.error, zlib.error, ValueError, KeyError, IndexError, OverflowError):
        raise BrokenImage(f"{name} is truncated or damaged ({len(data)} bytes of an EXR): copy it again.") from None


def _read(name: str, data: bytes) -> np.ndarray:
    (version,) = struct.unpack_from("<i", data, 4)
    header, position = _header(data)
    compression = header["compression"][0]
    if version & UNSUPPORTED or compression not in LINES:
        kind = (
            "tiles, deep data or several parts"
            if version & UNSUPPORTED
            else COMPRESSIONS.get(compression, "an unknown kind")
        )
        raise BrokenImage(f"{name} is an EXR of {kind}, which is not read here: write scan lines with ZIP, or NPY.")
    left, top, right, bottom = struct.unpack("<4i", header["dataWindow"])
    width, height = right - left + 1, bottom - top + 1
    channels = _channels(header["channels"])
    before, kind = _depth_channel(name, channels)
    line = sum(dtype.itemsize for _, dtype in channels) * width
    lines = LINES[compression]
    chunks = math.ceil(height / lines)
    if min(width, height) >= 1:
        check_size(name, data, (height, width))
    if min(width, height) < 1 or position + 8 * chunks > len(data):
        raise ValueError("an impossible size")
    values, there = np.empty((height, width), kind), np.zeros(height, bool)
    for offset in struct.unpack_from(f"<{chunks}Q", data, position):
        row, size = struct.unpack_from("<2i", data, offset)
        row -= top
        count = min(lines, height - row)
        there[max(row, 0) : row + count] = row >= 0
        content = data[offset + 8 : offset + 8 + size]
        if size < line * count:  # what would not shrink is stored as it is
            content = _unzip(content, line * count)
        rows = np.frombuffer(content, np.uint8).reshape(count, line)  # (rows of the chunk, bytes of all channels)
        start = before * width
        # (rows, W) of the one channel
        values[row : row + count] = np.ascontiguousarray(rows[:, start : start + kind.itemsize * width]).view(kind)
    if not there.all():
        raise ValueError("rows that no part holds")
    return values


def _header(data: bytes) -> tuple[dict[str, bytes], int]:
    """Attributes by name, and where they end."""
    found, position = {}, 8
    while data[position]:
        name, position = _text(data, position)
        _, position = _text(data, position)  # its type
        (size,) = struct.unpack_from("<i", data, position)
        if size < 0:  # which would lead back, again and again
            raise ValueError("a negative length")
        found[name] = data[position + 4 : position + 4 + size]
        position += 4 + size
    return found, position + 1


def _text(data: bytes, position: int) -> tuple[str, int]:
    end = data.index(b"\0", position)
    return data[position:end].decode("latin-1"), end + 1


def _channels(data: bytes) -> list[tuple[str, np.dtype]]:
    """Name and type of each channel, in the order in which a scan line holds them."""
    found, position = [], 0
    while data[position]:
        name, position = _text(data, position)
        kind, _, across, down = struct.unpack_from("<4i", data, position)
        if (across, down) != (1, 1):
            raise ValueError("a channel at another resolution")
        found.append((name, TYPES[kind]))
        position += 16
    return found


def _depth_channel(name: str, channels: list[tuple[str, np.dtype]]) -> tuple[int, np.dtype]:
    """(bytes a pixel that lie before it in a line, type) of the channel that holds depth."""
    short = [channel.rpartition(".")[2].upper() for channel, _ in channels]
    wanted = next((short.index(known) for known in DEPTH_NAMES if known in short), 0 if len(short) == 1 else None)
    if wanted is None:
        names = ", ".join(channel for channel, _ in channels)
        raise BrokenImage(f"{name} has the channels {names}, none of them called Z or depth: store depth alone.")
    return sum(dtype.itemsize for _, dtype in channels[:wanted]), channels[wanted][1]


def _unzip(content: bytes, size: int) -> bytes:
    """Undo ZIP, up to `size` bytes: they are differences to the one before, even ones first, then odd ones."""
    steps = np.frombuffer(zlib.decompressobj().decompress(content, size), np.uint8).copy()
    steps[1:] -= 128
    steps = np.cumsum(steps, dtype=np.uint8)
    half = (len(steps) + 1) // 2
    whole = np.empty_like(steps)
    whole[::2], whole[1::2] = steps[:half], steps[half:]
    return whole.tobytes()
