"""Policies compared on days: what each did, as shares of the hindsight optimum, with its spread over the days.

Pure: replays come in as lines of results, figures go out. All figures are the independent scorer's (``score``).
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final, NamedTuple

import orjson

from sas_matcher.replay.daylog import DayLog
from sas_matcher.replay.hindsight import Hindsight
from sas_matcher.replay.score import Score, score
from sas_matcher.replay.study import KM_PER_DEGREE

URGENT: Final = 2
"""Tiers counted as urgent: the first two of the day log, T0 and T1."""


class Spread(NamedTuple):
    """Mean of some days, with the lowest and the highest of them."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float | None]) -> "Spread | None":
        """Spread of the values that there are; None without any."""
        known = [value for value in values if value is not None]
        return cls(math.fsum(known) / len(known), min(known), max(known)) if known else None


def _percent(part: float, whole: float) -> float | None:
    return 100 * part / whole if whole else None


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """One day decided in one way: its score, the optimum of the same day, and the requests left without a place."""

    name: str
    day: DayLog
    score: Score
    best: Hindsight
    unserved: frozenset[str]

    @property
    def welfare(self) -> float | None:
        """Welfare in % of the hindsight optimum; None where nothing could be had."""
        return _percent(self.score.welfare, self.best.welfare)

    @property
    def told(self) -> float | None:
        """Callers firm or promised within two minutes, in % of those served."""
        share = self.score.told_within_2_min
        return None if share is None else 100 * share

    @property
    def urgent(self) -> float | None:
        """Served of the two most urgent tiers, in % of the optimum's."""
        tiers = list(self.score.served)[:URGENT]
        return _percent(sum(self.score.served[t] for t in tiers), sum(self.best.served[t] for t in tiers))

    def of_tier(self, tier: str) -> float | None:
        """Served of a tier in % of the optimum's."""
        return _percent(self.score.served[tier], self.best.served[tier])


def judge(
    name: str, day: DayLog, best: Hindsight, policy: str, lines: Iterable[bytes], *, lawful: bool = True
) -> Outcome:
    """Score a result.

    Args:
        name: What the day is called.
        day: The day log that was replayed.
        best: Its hindsight optimum.
        policy: Whose rules bind.
        lines: The result.
        lawful: Refuse a result that breaks a rule. False where two policies took turns, which no rule book covers.

    Raises:
        ScoreError: A rule is broken: such figures are worth nothing.
    """
    kept = list(lines)
    judged = score(day, kept, policy)
    if lawful:
        judged.require_legal()
    rows = (orjson.loads(line) for line in kept)
    return Outcome(name, day, judged, best, frozenset(r["request_id"] for r in rows if r["status"] == "unserved"))


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """One way to decide (a policy, or "avant"), on all days of a group."""

    label: str
    outcomes: tuple[Outcome, ...]

    def spread(self, figure: Callable[[Outcome], float | None]) -> Spread | None:
        """Spread of a figure over the days."""
        return Spread.of(figure(outcome) for outcome in self.outcomes)


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """Days of one kind, and what was tried on all of them."""

    name: str
    entries: tuple[Entry, ...]

    @property
    def days(self) -> int:
        """How many days."""
        return len(self.entries[0].outcomes)

    @property
    def tiers(self) -> tuple[str, ...]:
        """Tiers in the order of the day log."""
        return tuple(self.entries[0].outcomes[0].score.requests)


def kind_of(name: str) -> str:
    """Return the kind of day that a file name tells: without its ending and last number, which is the seed or the day.

    ``S1-48-7.jsonl`` and ``S1-48-8.jsonl.gz`` are two days of ``S1-48``.
    """
    stem = re.sub(r"\.jsonl(\.gz)?$", "", name)
    # only a number of its own: city-x3 is a kind, not the third of city-x
    return re.sub(r"[-_. ]+\d+$", "", stem) or stem


# --- where need is not met


class Cell(NamedTuple):
    """A square of the map: its centre in degrees, requests and unmet requests a day."""

    lat: float
    lon: float
    asked: float
    unmet: float


CELL_KM: Final = 2.0
"""Side of a cell on the scale of a département: no street can be told from it."""

WIDE_KM, WIDE_CELL_KM = 250.0, 10.0
"""From this extent on, more than any département's, cells of 10 km."""


@dataclass(frozen=True, slots=True)
class UnmetMap:
    """Cells with a request, the most unmet first; ``km`` is their side. ``practices`` are the points of supply."""

    km: float
    cells: tuple[Cell, ...]
    practices: tuple[tuple[float, float], ...]


def unmet_map(outcomes: Sequence[Outcome]) -> UnmetMap:
    """Count requests, and those left without a place, by cell; means over the days. Cancelled requests do not count."""
    asked: list[tuple[float, float, bool]] = []
    practices: set[tuple[float, float]] = set()
    for outcome in outcomes:
        for made in outcome.day.requests:
            request = made.request
            if request.id not in outcome.day.cancelled_at:
                asked.append((request.lat, request.lon, request.id in outcome.unserved))
        practices |= {(e.slot.lat, e.slot.lon) for e in outcome.day.slots if e.slot.mode != "tele"}
    if not asked:
        return UnmetMap(CELL_KM, (), tuple(sorted(practices)))
    lats = [lat for lat, _, _ in asked]
    # where most people are: islands on the other side of the globe must not stretch the squares of the rest
    width = KM_PER_DEGREE * math.cos(math.radians(median(lats)))
    extent = max(
        (max(lats) - min(lats)) * KM_PER_DEGREE,
        (max(lon for _, lon, _ in asked) - min(lon for _, lon, _ in asked)) * width,
    )
    km = WIDE_CELL_KM if extent > WIDE_KM else CELL_KM
    total: Counter[tuple[int, int]] = Counter()
    unmet: Counter[tuple[int, int]] = Counter()
    for lat, lon, missed in asked:
        cell = (math.floor(lat * KM_PER_DEGREE / km), math.floor(lon * width / km))
        total[cell] += 1
        unmet[cell] += missed
    days = len(outcomes)
    cells = [
        Cell((row + 0.5) * km / KM_PER_DEGREE, (column + 0.5) * km / width, count / days, unmet[row, column] / days)
        for (row, column), count in total.items()
    ]
    cells.sort(key=lambda cell: (-cell.unmet, -cell.asked, cell.lat, cell.lon))
    return UnmetMap(km, tuple(cells), tuple(sorted(practices)))


def grouped(outcomes: Mapping[str, Sequence[Outcome]]) -> tuple[Group, ...]:
    """Bring what each label did on all days together by kind of day, in the order of the days given.

    Args:
        outcomes: Label to one outcome for each day, the days in the same order everywhere.
    """
    kinds = dict.fromkeys(kind_of(outcome.name) for each in outcomes.values() for outcome in each)
    return tuple(
        Group(
            kind,
            tuple(Entry(label, tuple(o for o in each if kind_of(o.name) == kind)) for label, each in outcomes.items()),
        )
        for kind in kinds
    )
