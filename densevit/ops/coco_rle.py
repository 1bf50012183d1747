"""COCO's compressed run lengths, checked before a program written in C or Rust walks over them.

A text of counts that does not describe its image makes pycocotools and its like run for hours or read beyond the end.
The coding (pycocotools, common/maskApi.c, rleToString): runs of 0 and 1 in turn, column by column; each run from the
fourth on is written as the difference to the run two before it; a number is 5-bit groups, lowest first, each plus 48 as
a character, bit 6 set on all but the last, the last group's highest bit being the sign.
"""

from collections.abc import Iterator, Sequence

import numpy as np

CHUNK = 100  # masks decoded at once: the arrays stay so small that the C library need not ask the system for each


def first_broken(rles: Sequence[dict]) -> int | None:
    """Index of the first compressed RLE whose runs are not what its size holds; None where all are well."""
    return next(iter(all_broken(rles)), None)


def all_broken(rles: Sequence[dict]) -> Iterator[int]:
    """Indices of the compressed RLEs whose runs are not what their sizes hold."""
    for start in range(0, len(rles), CHUNK):
        for location in np.flatnonzero(_broken(rles[start : start + CHUNK])).tolist():
            yield start + location


def _broken(rles: Sequence[dict]) -> np.ndarray:
    """(N,) bool for one chunk, decoding all texts in one go."""
    texts = [rle["counts"] for rle in rles]
    texts = [text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text for text in texts]
    lengths = np.array([len(text) for text in texts])
    pixels = np.array([rle["size"][0] * rle["size"][1] for rle in rles], np.float64)
    characters = np.frombuffer(b"".join(texts), np.uint8) - np.uint8(48)  # what lies below 48 comes out beyond 63
    broken = lengths == 0
    if broken.all():
        return broken
    last = (characters & 32) == 0
    after = np.cumsum(lengths)  # where each text stops among the characters
    stops = after[~broken] - 1
    broken[np.flatnonzero(~broken)[~last[stops]]] = True  # ends within a number
    last[stops] = True  # so that what is broken does not run into its neighbor
    foreign = np.flatnonzero(characters > 63)
    broken[np.searchsorted(after, foreign, side="right")] = True

    ends = np.flatnonzero(last)
    groups = np.empty_like(ends)  # of each number
    groups[0] = ends[0] + 1
    np.subtract(ends[1:], ends[:-1], out=groups[1:])
    behind = np.searchsorted(ends, after)  # where each mask stops among the numbers
    first = np.concatenate([[0], behind[:-1]])
    broken[np.searchsorted(behind, np.flatnonzero(groups > 7), side="right")] = True  # beyond pycocotools' 32 bits
    signed = (characters << 3).view(np.int8) >> 3  # the last group's highest bit is the sign
    numbers = signed[ends].astype(np.int64)
    for group in range(1, min(int(groups.max()), 7)):
        longer = np.flatnonzero(groups > group)
        numbers[longer] = numbers[longer] << 5 | characters[ends[longer] - group] & 31

    # Undo the differences: runs 1, 3, 5, ... and 2, 4, 6, ... of one mask are two chains of sums, run 0 stands alone.
    # So are every other number of the row of all masks, once what was summed up before each mask is taken off.
    totals = np.zeros(len(rles))
    for parity in (0, 1):
        start, stop = (first + 1 - parity) // 2, (behind + 1 - parity) // 2  # of each mask among these numbers
        alone = (first % 2 == parity) & (first < behind)
        sums = np.concatenate([[0], np.cumsum(numbers[parity::2])])
        runs = sums[1:] - np.repeat(sums[start + alone], stop - start)
        runs[start[alone]] = numbers[first[alone]]
        broken[np.searchsorted(stop, np.flatnonzero(runs < 0), side="right")] = True
        totals += np.diff(np.concatenate([[0], np.cumsum(runs)])[stop], prepend=0)
    return broken | (totals != pixels)
