"""Instance masks in the transforms: polygons and RLEs are rasterized only at the end.

A mask is a list of polygons, each a float64 array (n, 2) of (x, y) pixels, a bitmap (H, W) uint8 of 0 and 1, or an
RleMask. Sizes are (height, width). No function changes its input.
"""

import functools
from collections.abc import Sequence

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from densevit.errors import DataError
from densevit.ops.coco_format import mask_problem
from densevit.ops.coco_rle import decode_runs, first_broken
from densevit.ops.polygons import Polygons, clip_far, clip_polygon, valid_polygons

BROKEN_RUNS = "A mask has an RLE whose runs do not add up to its image: tools/check_data.py names it."


class RleMask:
    """A COCO RLE and the rows and columns of it that are used: what a crop leaves out is never unpacked or resized.

    Args:
        rle: compressed.
        rows: (H,) rows of the RLE's image that the mask shows, rising or falling, -1 for an empty one; None: all.
        columns: (W,) likewise.
    """

    def __init__(self, rle: dict, rows: np.ndarray | None = None, columns: np.ndarray | None = None) -> None:
        self.rle = rle
        self.rows = np.arange(rle["size"][0]) if rows is None else rows
        self.columns = np.arange(rle["size"][1]) if columns is None else columns

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.rows), len(self.columns)

    def draw(self, bitmap: np.ndarray) -> None:
        """Set the mask's pixels in an empty bitmap of its shape.

        Raises:
            DataError: the runs do not add up to the RLE's image.
        """
        crop, left, top = extent_rle(self.rle)
        down = np.flatnonzero((self.rows >= top) & (self.rows < top + crop.shape[0]))
        across = np.flatnonzero((self.columns >= left) & (self.columns < left + crop.shape[1]))
        if len(down) and len(across):  # each in one piece, as both run one way
            seen = np.ascontiguousarray(crop).take(self.rows[down] - top, 0).take(self.columns[across] - left, 1)
            bitmap[down[0] : down[-1] + 1, across[0] : across[-1] + 1] = seen


Mask = Polygons | np.ndarray | RleMask


@functools.lru_cache(maxsize=64)  # a few megabytes at most
def nearest(old: int, new: int) -> np.ndarray:
    """(new,) pixels of `old` that OpenCV's INTER_NEAREST takes, in its arithmetic."""
    pixels = np.minimum(np.floor(np.arange(new) * (1 / (new / old))).astype(np.int64), old - 1)
    pixels.flags.writeable = False
    return pixels


def resize_mask(mask: Mask, old_size: tuple[int, int], new_size: tuple[int, int]) -> Mask:
    """Scale a mask from an image of `old_size` to one of `new_size` (bitmaps: nearest)."""
    (old_h, old_w), (new_h, new_w) = old_size, new_size
    if isinstance(mask, np.ndarray):
        return cv2.resize(mask, (new_w, new_h), interpolation=cv2.INTER_NEAREST)
    if isinstance(mask, RleMask):
        return RleMask(mask.rle, mask.rows[nearest(old_h, new_h)], mask.columns[nearest(old_w, new_w)])
    scale = np.array([new_w / old_w, new_h / old_h])
    return [polygon * scale for polygon in mask]


def flip_mask(mask: Mask, width: int) -> Mask:
    """Mirror left to right in an image `width` pixels wide."""
    if isinstance(mask, np.ndarray):
        return cv2.flip(mask, 1)
    if isinstance(mask, RleMask):
        return RleMask(mask.rle, mask.rows, mask.columns[::-1])
    return [np.stack([width - polygon[:, 0], polygon[:, 1]], axis=1) for polygon in mask]


def crop_mask(mask: Mask, x: int, y: int, size: tuple[int, int]) -> Mask:
    """Cut out the window whose upper left corner is (x, y); polygons are clipped to it."""
    height, width = size
    if isinstance(mask, np.ndarray):
        return mask[y : y + height, x : x + width]
    if isinstance(mask, RleMask):
        return RleMask(mask.rle, mask.rows[y : y + height], mask.columns[x : x + width])
    clipped = (clip_polygon(polygon - (x, y), width, height) for polygon in mask)
    return [polygon for polygon in clipped if len(polygon) >= 3]


def pad_mask(mask: Mask, size: tuple[int, int]) -> Mask:
    """Enlarge to `size` at the right and bottom; polygons know no border and stay."""
    if isinstance(mask, np.ndarray):
        padded = np.zeros(size, mask.dtype)
        padded[: mask.shape[0], : mask.shape[1]] = mask
        return padded
    if isinstance(mask, RleMask):
        more = (np.full(side - now, -1) for side, now in zip(size, mask.shape, strict=True))
        return RleMask(mask.rle, *map(np.append, (mask.rows, mask.columns), more))
    return mask


def usable_mask(segmentation: Sequence | dict | None) -> list[np.ndarray] | dict | None:
    """The polygons of a sound segmentation that enclose something, or its RLE; None where it marks no pixel."""
    if isinstance(segmentation, dict):
        rle = encode_rle(segmentation)
        return rle if coco_mask.area(rle) else None
    return valid_polygons(segmentation or []) or None


def encode_rle(rle: dict) -> dict:
    """COCO RLE, compressed or not, as pycocotools' own dict(size, counts=bytes).

    Raises:
        DataError: runs that are not compressed do not add up to the image.
    """
    size, counts = [int(side) for side in rle["size"]], rle["counts"]
    if isinstance(counts, list):
        problem = mask_problem(rle, size)
        if problem:
            raise DataError(f"A mask {problem}.")
        return coco_mask.frPyObjects({"size": size, "counts": counts}, *size)
    return {"size": size, "counts": counts.encode("utf-8", "surrogatepass") if isinstance(counts, str) else counts}


def decode_rle(rle: dict) -> np.ndarray:
    """(H, W) uint8 bitmap of a COCO RLE; DataError where its runs do not add up to its image."""
    rle = encode_rle(rle)
    if first_broken([rle]) is not None:  # C code would walk beyond its end
        raise DataError(BROKEN_RUNS)
    return coco_mask.decode(rle)


def encode_polygons(polygons: Polygons, size: tuple[int, int]) -> dict:
    """Compressed RLE of polygons in an image of `size`, filled by pycocotools; what reaches far outside is clipped."""
    polygons, _, _ = clip_far(polygons, size)
    return _merged(polygons, size) if polygons else encode_bitmaps(np.zeros((1, *size)))[0]


def _merged(polygons: Polygons, size: tuple[int, int]) -> dict:
    rles = coco_mask.frPyObjects([polygon.ravel() for polygon in polygons], *size)  # (n, 2) -> x, y, x, y, ...
    return coco_mask.merge(rles) if len(rles) > 1 else rles[0]


def encode_bitmaps(bitmaps: np.ndarray) -> list[dict]:
    """(N, H, W) bitmaps as N COCO RLEs dict(size=[H, W], counts=bytes)."""
    if not len(bitmaps):
        return []
    # (H, W, N), column by column
    return coco_mask.encode(np.asfortranarray(np.asarray(bitmaps).transpose(1, 2, 0).astype(np.uint8)))


def crop_rle(crop: np.ndarray, left: int, top: int, size: tuple[int, int]) -> dict:
    """COCO RLE of an image of `size` that is empty but for `crop`, whose upper left corner is at (left, top).

    crop: (w, h) bool, column by column as COCO counts: that of a bitmap's transpose. The whole image is never made, so
    that a mask costs what its box costs. Returns dict(size=[H, W], counts=bytes).
    """
    height, width = size
    tall = crop.shape[1]
    columns = np.zeros((crop.shape[0], tall + 1), dtype=bool)  # an empty pixel below each column ends its last run
    columns[:, :tall] = crop
    flat = columns.ravel()  # all columns, one after the other
    turns = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    if flat.size and flat[0]:
        turns = np.concatenate([[0], turns])
    column, row = np.divmod(turns, tall + 1)
    turns = (column + left) * height + row + top
    # runs that reach the image's lower border go on where the next column begins at the upper one
    same = np.flatnonzero(turns[1:] == turns[:-1])
    turns = np.delete(turns, np.concatenate([same, same + 1]))
    if len(turns) and turns[-1] == height * width:
        turns = turns[:-1]
    runs = np.diff(turns, prepend=0, append=height * width).tolist()
    return coco_mask.frPyObjects({"size": [height, width], "counts": runs}, height, width)


def rasterize(masks: list[Mask], size: tuple[int, int]) -> np.ndarray:
    """(N, H, W) bool bitmaps; polygons are filled by pycocotools, so that every pixel is COCO's own."""
    bitmaps = np.zeros((len(masks), *size), dtype=bool)
    for bitmap, mask in zip(bitmaps, masks, strict=True):
        if isinstance(mask, np.ndarray):
            bitmap[:] = mask
        elif isinstance(mask, RleMask):
            mask.draw(bitmap)
        elif mask:
            _fill(bitmap, mask)
    return bitmaps


def _fill(bitmap: np.ndarray, polygons: Polygons) -> None:
    """Fill polygons into an empty (H, W) bitmap; what reaches far outside is clipped.

    pycocotools gets the image cut off behind the object and not before it: shifted coordinates would round differently,
    by a pixel in one mask of two thousand. Only what the object covers is unpacked.
    """
    polygons, low, high = clip_far(polygons, bitmap.shape)
    left, top = np.clip(np.floor(low) - 1, 0, bitmap.shape[::-1]).astype(int).tolist()
    right, bottom = np.clip(np.ceil(high) + 1, 0, bitmap.shape[::-1]).astype(int).tolist()
    if polygons and right > left and bottom > top:
        crop, left, top = extent_rle(_merged(polygons, (bottom, right)))
        bitmap[top : top + crop.shape[0], left : left + crop.shape[1]] = crop


def extent_rle(rle: dict) -> tuple[np.ndarray, int, int]:
    """(h, w) uint8 bitmap of the part of an RLE's image that holds its mask, and that part's left and top; 0 x 0 for an
    empty mask.

    Only the columns that the mask touches are unpacked: a small object on a large photograph costs little.

    Raises:
        DataError: the runs do not add up to the image.
    """
    height, runs = rle["size"][0], decode_runs([rle])
    if runs.broken[0]:
        raise DataError(BROKEN_RUNS)
    bounds = np.concatenate([[0], np.cumsum(runs.lengths)])
    starts, ends = bounds[1:-1:2], bounds[2::2]
    starts, ends = starts[ends > starts], ends[ends > starts]
    if not len(starts):
        return np.zeros((0, 0), np.uint8), 0, 0
    left, right = int(starts[0]) // height, -(-int(ends[-1]) // height)
    turns = np.stack([starts, ends], axis=1).ravel() - left * height  # (2 S,) where 0 and 1 change, in turn
    runs = np.diff(turns, prepend=0, append=(right - left) * height)
    # (w, H), a row a column of the image
    columns = np.repeat(np.arange(len(runs), dtype=np.uint8) & 1, runs).reshape(right - left, height)
    top, bottom = int((starts % height).min()), int(((ends - 1) % height).max()) + 1
    if (starts // height != (ends - 1) // height).any():  # a run that goes on in the next column
        top, bottom = 0, height
    return columns[:, top:bottom].T, left, top


def outlines(bitmap: np.ndarray) -> tuple[list[np.ndarray], list[bool]]:
    """Rings (n, 2) int of (x, y) along the pixel edges of a (H, W) bitmap, and for each whether it is a hole's.

    Filling them all even-odd gives the bitmap back.
    """
    # In a threefold picture each pixel has its own left, middle and right, so that a contour point tells which of
    # the pixel's corners it stands for.
    large = np.repeat(np.repeat(bitmap.astype(np.uint8), 3, axis=0), 3, axis=1)  # (3 H, 3 W)
    contours, family = cv2.findContours(large, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    if family is None:
        return [], []
    rings = []
    for contour in contours:
        corners = (contour.reshape(-1, 2) + 1) // 3  # (n, 1, 2) -> (n, 2)
        rings.append(corners[(corners != np.roll(corners, 1, axis=0)).any(1)])
    return rings, (family.reshape(-1, 4)[:, 3] >= 0).tolist()  # (1, R, 4) -> (R, 4): next, previous, child, parent


def bitmap_boxes(bitmaps: np.ndarray) -> np.ndarray:
    """(N, 4) float32 xyxy boxes around (N, H, W) bitmaps; zeros where a bitmap is empty."""
    boxes = np.zeros((len(bitmaps), 4), dtype=np.float32)
    for box, bitmap in zip(boxes, bitmaps, strict=True):
        left, top, width, height = cv2.boundingRect(np.ascontiguousarray(bitmap, dtype=bool).view(np.uint8))
        box[:] = left, top, left + width, top + height
    return boxes
