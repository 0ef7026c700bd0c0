"""Charts as plain geometry for SVG that templates draw: no script, the same on paper. Beside each stands its table."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sas_matcher.domain.vocabulary import DELAY_SPAN, Delay, Tier


class Part(NamedTuple):
    """A piece of a column: its kind (for the style sheet), upper edge and height in a hundredth of the chart."""

    kind: str
    top: float
    height: float


class Column(NamedTuple):
    """A column: left edge and width in a thousandth of the chart, what it stands for, its pieces from below."""

    left: float
    width: float
    label: str
    parts: tuple[Part, ...]


class Chart(NamedTuple):
    """Columns, and the count at the upper edge."""

    top: int
    columns: tuple[Column, ...]

    @property
    def ticks(self) -> list[str]:
        """Labels below: first, middle and last column."""
        names = [column.label for column in self.columns]
        return names if len(names) < 3 else [names[0], names[len(names) // 2], names[-1]]


def round_up(value: float) -> int:
    """Return 1, 2 or 5 times a power of ten, at least the value: a scale that one can read."""
    step = 1
    while True:
        for factor in (1, 2, 5):
            if factor * step >= value:
                return factor * step
        step *= 10


def columns(rows: Sequence[Mapping[str, Any]], kinds: Sequence[str]) -> Chart:
    """Return stacked columns, one for each row.

    Args:
        rows: with ``label`` and a count under each kind.
        kinds: from below.
    """
    top = round_up(max((sum(row[kind] for kind in kinds) for row in rows), default=1) or 1)
    step = 1000 / max(1, len(rows))
    found = []
    for number, row in enumerate(rows):
        below, parts = 0.0, []
        for kind in kinds:
            height = 100 * row[kind] / top
            parts.append(Part(kind, round(100 - below - height, 2), round(height, 2)))
            below += height
        found.append(
            Column(
                round((number + 0.1) * step, 2), round(0.8 * step, 2), row["label"], tuple(p for p in parts if p.height)
            )
        )
    return Chart(top, tuple(found))


class Reach(NamedTuple):
    """Median and nine in ten on the scale of the longest delay allowed, in percent of its width."""

    median: float
    most: float


LONGEST_MIN: Mapping[str, float] = {
    Tier.T0: DELAY_SPAN[Delay.H1].total_seconds() / 60,
    Tier.T1: DELAY_SPAN[Delay.H4].total_seconds() / 60,
    Tier.T2: DELAY_SPAN[Delay.H24].total_seconds() / 60,
    Tier.T3: DELAY_SPAN[Delay.H48].total_seconds() / 60,
}


def reach(tier: str, median: float | None, most: float | None) -> Reach | None:
    """Return how far into a tier's longest delay care begins; None of nobody."""
    if median is None or most is None:
        return None
    longest = LONGEST_MIN[tier]
    return Reach(round(min(100, 100 * median / longest), 1), round(min(100, 100 * most / longest), 1))


def course_parts(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of a course as parts of what was asked: met, unmet, and the rest (open or cancelled)."""
    return [{**row, "rest": max(0, row["asked"] - row["met"] - row["unmet"])} for row in rows]
