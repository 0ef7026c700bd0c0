"""Small counts are not told: nobody is to be recognised in a table.

A count below ``LEAST`` is said as "fewer than five", and so is whatever would give it away: the other part of the same
row, and a second row where a total is known (complementary suppression). Statistical offices do the same; the threshold
of five is the common one for health data by commune (ours to choose: no text binds this service to a figure).
"""

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

LEAST: Final = 5
ROUND_TO: Final = 10
"""Public counts are told to the nearest ten: two looks on two days do not differ by one person."""


class Told(NamedTuple):
    """What may be told of a group: how many asked, of these met and unmet; None: too small, or hidden with it."""

    asked: int | None
    met: int | None
    unmet: int | None


HIDDEN: Final = Told(None, None, None)


def _small(count: int) -> bool:
    return 0 < count < LEAST


def _of_row(met: int, unmet: int) -> Told:
    if _small(met + unmet):
        return HIDDEN
    # zero tells nothing of anybody; each part is the rest of the other
    return Told(met + unmet, None, None) if _small(met) or _small(unmet) else Told(met + unmet, met, unmet)


def tell(rows: Mapping[str, tuple[int, int]]) -> dict[str, Told]:
    """Return what may be told of groups whose total is known.

    Args:
        rows: by group, how many were met and unmet.
    """
    told = {name: _of_row(met, unmet) for name, (met, unmet) in rows.items()}
    hidden = [name for name, row in told.items() if row is HIDDEN]
    # what is hidden is the rest of a known total: a rest that is small, or of one row alone, would tell it
    while hidden and (len(hidden) < 2 or _small(sum(sum(rows[name]) for name in hidden))):
        shown = [name for name, row in told.items() if row is not HIDDEN and sum(rows[name]) > 0]
        if not shown:
            break
        least = min(shown, key=lambda name: (sum(rows[name]), name))
        told[least] = HIDDEN
        hidden.append(least)
    return told


def rounded(count: int) -> int | None:
    """Return a count as the public is told it: to the nearest ten; None below ten."""
    return None if 0 < count < ROUND_TO else round(count / ROUND_TO) * ROUND_TO


def share(part: int, whole: int) -> int | None:
    """Return a share in percent for the public, to the nearest five; None where so few are behind it.

    A share of fewer than fifty people tells more of each than a rounded count does.
    """
    return None if whole < ROUND_TO * LEAST else round(100 * part / whole / 5) * 5


def gini(loads: Iterable[float]) -> float | None:
    """Return how unequal loads are: 0 all the same, towards 1 one has everything; None of nobody or nothing."""
    ordered = sorted(loads)
    total = sum(ordered)
    if not ordered or total <= 0:
        return None
    weighted = sum(rank * load for rank, load in enumerate(ordered, 1))
    return 2 * weighted / (len(ordered) * total) - (len(ordered) + 1) / len(ordered)
