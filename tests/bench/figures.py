"""Pure parts of the measurements: schedules, percentiles, ratios of runs in turn."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from statistics import median

import numpy as np


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least ``share`` of the values do not exceed (nearest rank).

    Nothing is interpolated: what is reported was seen.

    Args:
        values: Measurements in any order, at least one.
        share: In (0, 1], such as 0.99.

    Raises:
        ValueError: There are no values, or ``share`` is out of range.
    """
    if not values or not 0.0 < share <= 1.0:
        raise ValueError("Expected at least one value and 0 < share <= 1.")
    return sorted(values)[max(1, ceil(share * len(values))) - 1]


def schedule(rate: float, seconds: float, seed: int) -> list[float]:
    """Draw the instants of a Poisson stream, in seconds from its beginning.

    Callers who do not know one another come like this: sometimes two at once, sometimes none for long. The number is
    fixed to ``rate * seconds``, which makes the instants uniform on the interval (Poisson conditioned on its count)
    and both sides of a comparison send equally much.

    Raises:
        ValueError: If there would be nothing to send.
    """
    count = round(rate * seconds)
    if count < 1:
        raise ValueError("Expected rate * seconds >= 1.")
    instants: list[float] = np.sort(np.random.default_rng(seed).uniform(0.0, seconds, count)).tolist()
    return instants


@dataclass(frozen=True, slots=True)
class Ratio:
    """Product over floor, run by run: the median of the runs' ratios and the least and greatest of them."""

    median: float
    least: float
    greatest: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.least:.2f} to {self.greatest:.2f})"


def ratio(product: Sequence[float], floor: Sequence[float]) -> Ratio:
    """Compare runs that were taken in turn: the n-th of one side with the n-th of the other.

    Neighbours in time share the machine's mood, so each pair is compared before anything is summed up.

    Raises:
        ValueError: Different numbers of runs, none, or a floor of zero.
    """
    if len(product) != len(floor) or not product or min(floor) <= 0.0:
        raise ValueError("Expected as many runs of the product as of the floor, all above zero.")
    ratios = [ours / theirs for ours, theirs in zip(product, floor, strict=True)]
    return Ratio(median(ratios), min(ratios), max(ratios))
