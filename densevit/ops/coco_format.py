"""What a file in COCO's form may hold: one rule for training, checking, scoring and every back end.

Whole numbers written as floats and nulls of optional fields are accepted; numbers as text and booleans are not. What is
out of range is refused before a program in C walks over it.
"""

import json
import math
import sys
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from densevit.errors import DataError

FARTHEST = 1e6
"""Pixels: a coordinate or side beyond it is a mistake."""
PLAIN = {int, float}
MOST_PIXELS = 2**31
"""Of an image with masks: pycocotools counts runs in 32 bits."""


def read_json(path: str | PathLike, what: str, convert: Callable[[dict], Any] | None = None) -> Any:
    """The content of JSON file `path`, in UTF-8, 16 or 32, with a byte order mark or without.

    Args:
        path: the file.
        what: its role, for messages.
        convert: called with each object of the file when it has been parsed, and gives what stands for it.

    Raises:
        DataError: the file is missing or broken.
    """
    path = Path(path)
    try:
        return json.loads(_decoded(path), object_hook=convert)
    except FileNotFoundError:
        raise DataError(f"{what} {path} does not exist: correct the path.") from None
    except OSError as error:
        raise DataError(f"{what} {path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise DataError(f"{what} {path} is no valid JSON, as its text is not UTF-8: save it as UTF-8.") from None
    except json.JSONDecodeError as error:
        where = f"at line {error.lineno}, column {error.colno}" if path.stat().st_size else "(0 bytes)"
        raise DataError(f"{what} {path} is no valid JSON {where}: it is incomplete, copy it again.") from None
    except (ValueError, RecursionError):
        raise DataError(
            f"{what} {path} is no valid JSON, as it nests too deep or has a number of too many digits: write it again."
        ) from None


def _decoded(path: Path) -> str:
    """The text of a JSON file; its bytes are gone when this returns."""
    content = path.read_bytes()
    return content.decode(json.detect_encoding(content), "surrogatepass")


def whole(value: Any) -> int | None:
    """A whole number, also one written as 1.0; None for anything else."""
    if type(value) is int:  # nearly all
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return int(value) if isinstance(value, np.integer) else None


def identity(value: Any) -> int | str | None:
    """An id: a whole number or a text that is not empty; None for anything else."""
    return value if isinstance(value, str) and value else whole(value)


def flag(value: Any) -> int | None:
    """0 or 1 of a yes or no such as iscrowd, 0 where it is null; None for anything else."""
    if value is None:
        return 0
    return int(value) if isinstance(value, int | float | np.integer) and value in (0, 1) else None


def is_number(value: Any, most: float = FARTHEST) -> bool:
    """Whether a value is a number between -most and most: not NaN, no text and no boolean."""
    if type(value) is float or type(value) is int:  # nearly all
        return -most <= value <= most
    return isinstance(value, np.floating | np.integer) and bool(-most <= value <= most)


def is_score(value: Any) -> bool:
    return is_number(value, sys.float_info.max)


def is_area(value: Any) -> bool:
    return is_number(value, FARTHEST**2)


def is_box(box: Any) -> bool:
    """Whether a value is four numbers: x, y, width and height."""
    if not isinstance(box, list | tuple | np.ndarray) or len(box) != 4:
        return False
    try:
        if {*map(type, box)} <= PLAIN and math.hypot(*box) <= FARTHEST:  # nearly all
            return True
    except OverflowError:
        return False
    return all(map(is_number, box))


def box_problem(box: Any) -> str | None:
    """What makes a bbox unusable, or None."""
    if is_box(box):
        return None
    if isinstance(box, list | tuple) and len(box) == 4 and all(isinstance(x, int | float) for x in box):
        return f"has a bbox with NaN or infinity, or a number beyond {FARTHEST:.0f} pixels, {short(box)},"
    return f"needs a bbox [x, y, width, height] of four numbers, not {short(box)},"


def mask_problem(mask: Any, size: list) -> str | None:
    """What makes a segmentation unusable in an image of `size` (height, width), or None.

    Polygons of an odd count or below three points are no mistake: `ops.polygons.valid_polygons` leaves them out. The
    runs of a compressed RLE are `ops.coco_rle`'s to check, many at once.
    """
    if isinstance(mask, list):
        return polygons_problem(mask)
    if not isinstance(mask, dict) or not isinstance(mask.get("counts"), list | str | bytes):
        return "has a segmentation that is neither polygons nor RLE"
    if not isinstance(mask.get("size"), list | tuple) or list(mask["size"]) != list(size):
        return f"has an RLE of size {short(mask.get('size'))}, while its image is {list(size)}"
    if size[0] * size[1] > MOST_PIXELS:
        return f"has a mask in an image of more than {MOST_PIXELS} pixels"
    counts = mask["counts"]
    if isinstance(counts, list):
        runs = counts if {*map(type, counts)} <= {int} else list(map(whole, counts))
        if None in runs or min(runs, default=0) < 0 or sum(runs) != size[0] * size[1]:
            return f"has an RLE whose counts do not add up to its image's {size[0] * size[1]} pixels"
    return None


def polygons_problem(polygons: list) -> str | None:
    """What makes polygons [[x1, y1, x2, y2, ...], ...] unusable in any image, or None."""
    if not set(map(type, polygons)) <= {list, tuple, np.ndarray}:
        return "has a polygon that is no list of numbers"
    try:  # norms find every bad number at the speed of C: COCO's polygons have fifty million
        if sum([math.hypot(*part) for part in polygons]) <= FARTHEST:
            if len(polygons) > 2 and max(map(len, polygons)) == 2:
                return "has a polygon written as points [[x, y], ...] instead of [[x1, y1, x2, y2, ...]]"
            return None
        if all(is_number(number) for part in polygons for number in part):
            return None
    except TypeError:
        return "has a polygon that is no list of numbers"
    except OverflowError:
        pass
    return f"has a polygon with NaN or infinity, or a number beyond {FARTHEST:.0f} pixels"


def short(value: Any) -> str:
    """`repr`, cut to 80 characters, for messages."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
