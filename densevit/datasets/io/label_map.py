"""Reading class maps: a file of whole numbers or colors -> classes, or one sentence that names the fault.

Gray and palette images are read as the numbers that they hold, colors by the classes' palette. Nothing is ever scaled.
"""

import functools
import os

import cv2
import numpy as np

from densevit.datasets.class_names import IGNORED
from densevit.datasets.io.image import (
    PNG,
    BrokenImage,
    check_size,
    open_pillow,
    pillow_limit_off,
    read_bytes,
    stated_size,
)
from densevit.datasets.semantic_classes import SemanticClasses

UNKNOWN = 254
"""Stands for a value that no class has, until it is reported."""
GRAY, PALETTE, GRAY_ALPHA = 0, 3, 4  # of a PNG's color type


class ClassMapReader:
    """Reads class maps by one rule.

    Args:
        classes: which value or color is which class.
    """

    def __init__(self, classes: SemanticClasses) -> None:
        self.classes = classes

    def __call__(self, path: str | os.PathLike) -> np.ndarray:
        """The classes (H, W) uint8 of a map's pixels, 255 = none.

        Raises:
            BrokenImage: the file cannot be read, or holds values or colors that are of no class.
        """
        values = read_values(path)
        classes = self.classify(values, path)
        if (classes == UNKNOWN).any():
            raise BrokenImage(self.unknown_sentence(values, classes, path))
        return classes

    def classify(self, values: np.ndarray, path: str | os.PathLike) -> np.ndarray:
        """(H, W) or (H, W, 3) BGR as `read_values` gives them -> (H, W) uint8, UNKNOWN where there is no class."""
        if values.ndim == 2:
            return cv2.LUT(values, self._bytes) if values.dtype == np.uint8 else self._words[values]
        if self.classes.colors:
            twice = self._ambiguous_color
            if twice is not None:
                raise BrokenImage(
                    f"Class map {os.path.abspath(path)} is in colors, and {self.classes.source} gives {twice} to two "
                    "classes: store the maps as numbers."
                )
            return self._colors[_codes(values)]
        if (values == values[..., :1]).all():  # numbers, stored three times
            return cv2.LUT(np.ascontiguousarray(values[..., 0]), self._bytes)
        raise BrokenImage(
            f"Class map {os.path.abspath(path)} is in colors, and {self.classes.source} says nothing of colors: add "
            "them to the class file, or store the maps as numbers."
        )

    def unknown_sentence(self, values: np.ndarray, classes: np.ndarray, path: str | os.PathLike) -> str:
        """Names the first value or color without a class, and the way on."""
        faulty = values[classes == UNKNOWN]
        where, count = f"Class map {os.path.abspath(path)}", len(faulty)
        if values.ndim == 3 and self.classes.colors:
            color = tuple(int(v) for v in faulty[0][::-1])
            return (
                f"{where} holds the color {color} ({count} pixels), which {self.classes.source} does not have: "
                f"correct the map, or say what it is with label_map={{{color}: 255}} on the dataset."
            )
        value = int(faulty.min())
        known = sorted(value for value in self.classes.values if value != IGNORED)
        end = f"end at {known[-1]}" if value > known[-1] else f"have no {value}"
        return (
            f"{where} holds the value {value} ({count} pixels without a class in all), but the classes of "
            f"{self.classes.source} {end}: correct the map, or say what the value is with label_map={{{value}: 255}} "
            f"on the dataset{' (or reduce_zero_label=True)' if value == 0 else ''}."
        )

    @functools.cached_property
    def _bytes(self) -> np.ndarray:
        return self._table(1 << 8)

    @functools.cached_property
    def _words(self) -> np.ndarray:
        return self._table(1 << 16)

    def _table(self, size: int) -> np.ndarray:
        """Class of each value below `size`."""
        table = np.full(size, UNKNOWN, dtype=np.uint8)
        for value, label in self.classes.values.items():
            if value < size:
                table[value] = label
        return table

    @functools.cached_property
    def _colors(self) -> np.ndarray:
        """Class by color code: 16 MB, but made only where maps are in colors."""
        table = np.full(1 << 24, UNKNOWN, dtype=np.uint8)
        for (red, green, blue), label in self.classes.colors.items():
            table[red << 16 | green << 8 | blue] = label
        return table

    @functools.cached_property
    def _ambiguous_color(self) -> tuple[int, int, int] | None:
        palette = self.classes.palette or ()
        return next((color for i, color in enumerate(palette) if color in palette[:i]), None)


def _codes(values: np.ndarray) -> np.ndarray:
    """(H, W, 3) BGR -> (H, W) red << 16 | green << 8 | blue."""
    # four bytes of a pixel as one number: (H, W)
    return cv2.cvtColor(values, cv2.COLOR_BGR2BGRA).view("<u4")[..., 0] & 0xFFFFFF


def read_values(path: str | os.PathLike) -> np.ndarray:
    """What a map file holds: (H, W) uint8 or uint16, or (H, W, 3) uint8 BGR where it is in colors.

    Raises:
        BrokenImage: missing, empty, truncated or no PNG.
    """
    name, data = read_bytes(path, "Class map")
    if data[:8] != PNG:
        raise BrokenImage(f"{name} is no PNG: store class maps as PNG, which keeps every value as it is.")
    if all(stated := stated_size(data)):
        check_size(name, data, stated)
    depth, kind = data[24:26] if len(data) > 33 and b"IEND" in data[-64:] else (0, None)
    values = None
    try:
        if kind == PALETTE:  # OpenCV would give the colors, Pillow gives the numbers
            picture = open_pillow(name, data)
            with pillow_limit_off:
                values = np.array(picture)
        elif kind is not None:
            values = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except Exception:  # each decoder has exceptions of its own
        pass
    if values is None:
        raise BrokenImage(f"{name} is truncated or damaged ({len(data)} bytes of a PNG): copy it again.")
    if kind == GRAY and depth < 8:
        values = values // (255 // ((1 << depth) - 1))  # decoders stretch fewer bits to 8
    if values.ndim == 3:  # alpha says nothing
        values = np.ascontiguousarray(values[..., 0] if kind == GRAY_ALPHA else values[..., :3])
    if values.ndim == 3 and values.dtype != np.uint8:
        raise BrokenImage(f"{name} is in colors of 16 bits: store class maps as numbers, or in colors of 8 bits.")
    return values


def map_size(path: str | os.PathLike) -> tuple[int, int] | None:
    """(height, width) that a PNG's header states, without decoding it; None where there is no such header."""
    try:
        with open(path, "rb") as file:
            head = file.read(24)
    except OSError:
        return None
    return stated_size(head) if len(head) == 24 and head[:8] == PNG else None
