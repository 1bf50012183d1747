"""COCO's compressed run lengths, decoded and checked before a program written in C or Rust walks over them.

Counts that do not describe their image make pycocotools and its like run for hours or read beyond the end. The coding
(pycocotools, common/maskApi.c, rleToString): runs of 0 and 1 in turn, column by column; each run from the fourth on is
written as the difference to the run two before it; a number is 5-bit groups, lowest first, each plus 48 as a character,
bit 6 set on all but the last, the last group's highest bit being the sign.

Shape letters: N masks, C characters of all their counts, R runs of all.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

CHUNK = 100
"""Masks decoded at once: the arrays stay so small that the C library need not ask the system for each."""


class Runs(NamedTuple):
    """Decoded counts of N masks: lengths (R,) int64 of all runs, first (N + 1,) index of each mask's first run and the
    end, broken (N,) bool: whether the runs are not what the mask's size holds."""

    lengths: np.ndarray
    first: np.ndarray
    broken: np.ndarray


def first_broken(rles: Sequence[dict]) -> int | None:
    """Index of the first compressed RLE whose runs are not what its size holds; None where all are well."""
    return next(all_broken(rles), None)


def all_broken(rles: Sequence[dict]) -> Iterator[int]:
    """Indices of the compressed RLEs whose runs are not what their sizes hold."""
    for start in range(0, len(rles), CHUNK):
        for index in np.flatnonzero(decode_runs(rles[start : start + CHUNK]).broken).tolist():
            yield start + index


def decode_runs(rles: Sequence[dict]) -> Runs:
    """The runs of compressed RLEs dict(size=[H, W], counts=str or bytes), all decoded in one go."""
    texts = [rle["counts"] for rle in rles]
    texts = [text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text for text in texts]
    lengths = np.array([len(text) for text in texts], np.int64)
    characters = np.frombuffer(b"".join(texts), np.uint8) - np.uint8(48)  # (C,); what lies below 48 wraps beyond 63
    broken = lengths == 0
    if not len(characters):
        return Runs(np.zeros(0, np.int64), np.zeros(len(rles) + 1, np.int64), broken)
    last = characters & 32 == 0  # (C,) whether a character ends a number
    after = lengths.cumsum()
    if not (characters <= 63).all():
        broken[after.searchsorted(np.flatnonzero(characters > 63), side="right")] = True
    filled = lengths > 0
    stops = after[filled] - 1
    if not last[stops].all():
        broken[filled] |= ~last[stops]  # ends within a number
        last[stops] = True  # so that what is broken does not run into its neighbor

    ends = last.nonzero()[0]  # (R,)
    groups = ends.copy()  # (R,) characters of each number
    groups[0] += 1
    groups[1:] -= ends[:-1]
    signed = (characters << 3).view(np.int8) >> 3  # the last group's highest bit is the sign
    runs = signed[ends].astype(np.int64)
    for group in range(1, min(int(groups.max()), 7)):
        longer = (groups > group).nonzero()[0]
        runs[longer] = runs[longer] << 5 | characters[ends[longer] - group] & 31
    first = np.zeros(len(rles) + 1, np.int64)
    first[1:] = ends.searchsorted(after)
    bounds = first.tolist()
    for start, stop in pairwise(bounds):
        for parity in (1, 2):
            chain = runs[start + parity : stop : 2]
            np.add.accumulate(chain, out=chain)
    if groups.max() > 7 or runs.min() < 0:  # beyond pycocotools' 32 bits; or no length
        broken[first[1:].searchsorted(np.flatnonzero((groups > 7) | (runs < 0)), side="right")] = True
    sums = np.zeros(len(runs) + 1, np.int64)
    runs.cumsum(out=sums[1:])
    totals = sums[first]
    pixels = [rle["size"][0] * rle["size"][1] for rle in rles]
    return Runs(runs, first, broken | (totals[1:] - totals[:-1] != np.array(pixels, np.float64)))
