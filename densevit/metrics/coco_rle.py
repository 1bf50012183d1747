"""COCO's compressed run lengths, checked before a program written in C or Rust walks over them.

A text of counts that does not describe its image makes pycocotools and its like run for hours or read beyond the end.
The coding (pycocotools, common/maskApi.c, rleToString): runs of 0 and 1 in turn, column by column; each run from the
fourth on is written as the difference to the run two before it; a number is 5-bit groups, lowest first, each plus 48 as
a character, bit 6 set on all but the last, the last group's highest bit being the sign.
"""

from collections.abc import Sequence

import numpy as np

CHUNK = 4000  # masks decoded at once: some tens of megabytes


def first_broken(rles: Sequence[dict]) -> int | None:
    """Place of the first RLE (text counts) whose runs are not what its size holds; None where all are well."""
    for start in range(0, len(rles), CHUNK):
        broken = _broken(rles[start : start + CHUNK])
        if broken.any():
            return start + int(broken.argmax())
    return None


def _broken(rles: Sequence[dict]) -> np.ndarray:
    """(N,) bool for one chunk, decoding all texts in one go."""
    texts = [rle["counts"].encode("utf-8") for rle in rles]
    lengths = np.array([len(text) for text in texts])
    pixels = np.array([rle["size"][0] * rle["size"][1] for rle in rles], np.float64)
    characters = np.frombuffer(b"".join(texts), np.uint8).astype(np.int64) - 48
    owner = np.repeat(np.arange(len(rles)), lengths)
    broken = lengths == 0
    if broken.all():
        return broken
    np.logical_or.at(broken, owner[(characters < 0) | (characters > 63)], True)
    last = (characters & 32) == 0
    stops = np.cumsum(lengths)[lengths > 0] - 1
    np.logical_or.at(broken, owner[stops[~last[stops]]], True)  # ends within a number
    last[stops] = True  # so that what is broken does not run into its neighbour
    ends = np.flatnonzero(last)
    starts = np.concatenate([[0], ends[:-1] + 1]).astype(np.int64)
    group = np.arange(len(characters)) - np.repeat(starts, ends - starts + 1)
    owner_of_number = owner[ends]
    np.logical_or.at(broken, owner_of_number[ends - starts > 6], True)  # more than pycocotools' 32 bits
    parts = (characters & 31) << (5 * np.minimum(group, 7))
    numbers = np.add.reduceat(parts, starts)
    negative = (characters[ends] & 16) > 0
    numbers = numbers - np.where(negative, np.int64(1) << (5 * np.minimum(ends - starts + 1, 8)), 0)

    # Undo the differences: runs 1, 3, 5, ... and 2, 4, 6, ... of one mask are two chains of sums, run 0 stands alone.
    first_of_mask = np.searchsorted(owner_of_number, np.arange(len(rles)))
    place = np.arange(len(numbers)) - first_of_mask[owner_of_number]
    chain = 3 * owner_of_number + np.where(place == 0, 0, 2 - place % 2)
    order = np.argsort(chain, kind="stable")
    sums = np.cumsum(numbers[order])
    heads = np.flatnonzero(np.diff(chain[order], prepend=-1))
    before = np.concatenate([[0], sums])[heads]
    runs = np.empty_like(numbers)
    runs[order] = sums - np.repeat(before, np.diff(np.append(heads, len(numbers))))
    np.logical_or.at(broken, owner_of_number[runs < 0], True)
    totals = np.bincount(owner_of_number, weights=runs, minlength=len(rles))
    return broken | (totals != pixels)
