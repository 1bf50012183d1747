"""Runs of two projects in alternation, and the ratio of their times."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np


class Ratio(NamedTuple):
    """The other project's time over ours.

    median, low, high: of the rounds' ratios, the median and the quartiles. ours, theirs: median seconds of one run.
    rounds: their number.
    """

    median: float
    low: float
    high: float
    ours: float
    theirs: float
    rounds: int

    def __str__(self) -> str:
        return f"{self.median:.2f}x ({self.low:.2f} to {self.high:.2f}, {self.rounds} rounds)"


def alternate(
    ours: Callable[[], float], theirs: Callable[[], float] | None, rounds: int
) -> tuple[list[float], list[float]]:
    """Seconds of each run of the two projects in alternation. The order changes from round to round, so that a machine
    that becomes slower or faster favors neither."""
    mine: list[float] = []
    other: list[float] = []
    for i in range(rounds):
        order = [(ours, mine), (theirs, other)]
        for run, kept in order if i % 2 == 0 else order[::-1]:
            if run is not None:
                kept.append(run())
    return mine, other


def ratio_of(ours: Sequence[float], theirs: Sequence[float]) -> Ratio:
    """The rounds' ratios, theirs / ours."""
    ratios = np.asarray(theirs) / np.asarray(ours)
    low, median, high = np.percentile(ratios, (25, 50, 75))
    return Ratio(*map(float, (median, low, high, np.median(ours), np.median(theirs))), len(ratios))
