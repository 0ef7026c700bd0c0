"""What a practice's places became, day by day, and the picture of it. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from sas_matcher.console.cabinet.board import Place

KINDS: Final = ("honoured", "expected", "missed", "returned", "unused")
"""What becomes of a seat, from the bottom of a bar to its top."""
WIDTH: Final = 720
HEIGHT: Final = 220
_LEFT: Final = 34
_FLOOR: Final = 196
_TOP: Final = 12


@dataclass
class DaySum:
    """Seats of one day, by what became of them.

    Attributes:
        honoured: the patient came.
        expected: booked, and nothing said of it yet.
        missed: the patient did not come.
        returned: handed back to the practice unused.
        unused: published until their hour, and nobody came by; for hours to come: free.
    """

    date: date
    honoured: int = 0
    expected: int = 0
    missed: int = 0
    returned: int = 0
    unused: int = 0

    @property
    def published(self) -> int:
        """All seats that were offered."""
        return self.honoured + self.expected + self.missed + self.returned + self.unused

    @property
    def filled(self) -> int:
        """Seats that a patient had."""
        return self.honoured + self.expected + self.missed

    @property
    def rate(self) -> int | None:
        """Percent of the published seats that were filled; None when none was published."""
        return round(100 * self.filled / self.published) if self.published else None

    def add(self, place: Place) -> None:
        """Count a place; what was taken off counts as far as patients have it."""
        self.honoured += place.arrived
        self.missed += place.missed
        self.expected += place.taken - place.arrived - place.missed
        if not place.withdrawn:
            self.returned += place.handed_back
            self.unused += max(0, place.capacity - place.taken - place.handed_back)


def sums_of(places: Iterable[Place], first: date, days: int, zone: ZoneInfo) -> list[DaySum]:
    """Return what became of places, for each day from the first on."""
    sums = [DaySum(first + timedelta(days=number)) for number in range(days)]
    for place in places:
        number = (place.start.astimezone(zone).date() - first).days
        if 0 <= number < days:
            sums[number].add(place)
    return sums


def total_of(sums: Sequence[DaySum]) -> DaySum:
    """Return the sum of some days."""
    total = DaySum(sums[0].date)
    for one in sums:
        for kind in KINDS:
            setattr(total, kind, getattr(total, kind) + getattr(one, kind))
    return total


class Bar(NamedTuple):
    """A part of a bar: units of the picture."""

    kind: str
    x: float
    y: float
    width: float
    height: float


class Chart(NamedTuple):
    """Stacked bars, one a day: bars, labels under them (x, text), lines (y, value)."""

    bars: list[Bar]
    labels: list[tuple[float, str]]
    lines: list[tuple[float, int]]


def chart_of(sums: Sequence[DaySum]) -> Chart:
    """Return the picture of some days."""
    most = max(1, *(one.published for one in sums))
    step = next(unit * ten for ten in (1, 10, 100, 1_000, 10_000) for unit in (1, 2, 5) if unit * ten * 4 >= most)
    scale = (_FLOOR - _TOP) / (step * 4)
    each = (WIDTH - _LEFT) / len(sums)
    bars, labels = [], []
    every = -(-len(sums) // 10)
    for number, one in enumerate(sums):
        x, y = _LEFT + number * each + each * 0.15, float(_FLOOR)
        for kind in KINDS:
            height = getattr(one, kind) * scale
            if height:
                y -= height
                bars.append(Bar(kind, round(x, 1), round(y, 1), round(each * 0.7, 1), round(height, 1)))
        if number % every == 0:
            labels.append((round(x + each * 0.35, 1), f"{one.date.day}/{one.date.month}"))
    lines = [(round(_FLOOR - value * scale, 1), value) for value in range(0, step * 4 + 1, step)]
    return Chart(bars, labels, lines)
