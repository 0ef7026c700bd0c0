"""What may still come today: futures drawn from earlier days of the same territory, corrected by today's arrivals.

A future is the rest of one earlier day: its requests after this hour and the slots published after it, thinned or
multiplied until they match how busy today is (matching study, second part: the level of the whole day, and the burst
of the last hour, which is believed for one hour). Days whose level was nearest are drawn more often. Nothing is
learned from today but how many have called; without earlier days there is no future, and no price.

Times are seconds since the local midnight at which the day begins, the same for all days.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from sas_matcher.matching.pairs import Bools, Floats, Pairs, Requests, Slots, feasible, short_lists
from sas_matcher.matching.terms import Terms

PRIOR: Final = 20.0
"""Calls that a guess of the day's level weighs against those seen (matching study §8)."""

PRIOR_EXPECTED: Final = 5.0
"""The same where the day was drawn: the model knows less of a territory than its own days do. With 20 a day of a tenth
of the volume told 12 callers in a hundred fewer within two minutes than without any forecast, with 5 as many."""

BURST_S: Final = 3600.0
LEVEL_SPREAD: Final = 0.35
"""How far, in logarithms of the level, a day may be from today and still be drawn often; a guess."""

LISTED: Final = 96
SPREAD: Final = 32
"""Slots of today that are kept for an imagined request, cheapest and evenly over the rest: a plan solves with 24 and 12
of them, the others replace those that go within the hour."""

REFRESH_S: Final = 3600.0
BLOCK: Final = 1_000_000
"""Pairs judged at a time: 100 MB of columns."""

MOST: Final = 12.0
"""The highest factor believed between today and the busiest hour of history; a guess, above the study's ×10."""


@dataclass(frozen=True, eq=False)
class HistoryDay:
    """An earlier day: what was asked and published; ``weekday`` 0 is Monday; ``expected``: drawn, not recorded."""

    requests: Requests
    slots: Slots
    weekday: int
    expected: bool = False


class Learned(NamedTuple):
    """What forecasts come from: numbers of recorded days, and of days that the demand model expects."""

    recorded: int = 0
    expected: int = 0

    @classmethod
    def of(cls, days: Sequence[HistoryDay]) -> "Learned":
        """Count some days."""
        expected = sum(day.expected for day in days)
        return cls(len(days) - expected, expected)


NOTHING_LEARNED: Final = Learned()


@dataclass(slots=True, eq=False)
class _Part:
    """One profession of one earlier day: rows by time, their pairs, and those with today's slots up to ``known``."""

    requests: Requests
    slots: Slots
    among: Pairs
    live: Pairs = field(default_factory=lambda: Pairs.join([]))
    known: int = 0
    looked: float = -np.inf


@dataclass(frozen=True, slots=True, eq=False)
class Future:
    """One possible rest of the day, of one profession.

    ``requests`` and ``slots`` are the rows drawn (a request may be drawn more than once); ``live`` pairs them with
    today's slots, ``own`` with the slots that are still to be published; request rows count the draws.
    """

    day: int
    requests: Requests
    draws: npt.NDArray[np.intp]
    slots: Slots
    live: Pairs
    own: Pairs


def asked_of(day: HistoryDay, profession: int) -> Requests:
    """The requests of one profession, by time: the rows that an outlook's ``coming`` counts."""
    asked = np.flatnonzero(day.requests.profession == profession)
    return day.requests.only(asked[np.argsort(day.requests.created[asked], kind="stable")])


def _partition(day: HistoryDay, profession: int, meets: Bools, terms: Terms) -> _Part:
    requests = asked_of(day, profession)
    slots = day.slots.only(np.flatnonzero(day.slots.profession == profession))
    rows = np.arange(len(requests))
    among = [feasible(requests, rows, slots, np.array([n]), meets, terms) for n in range(len(slots))]
    return _Part(requests, slots, Pairs.join(among))


class Forecast:
    """The futures of one day of one territory. ``seed`` makes the draws; the same calls give the same futures."""

    def __init__(self, history: Sequence[HistoryDay], terms: Terms, seed: int) -> None:
        self._days = list(history)
        self._terms, self._seed = terms, seed
        self._created = [np.sort(day.requests.created) for day in self._days]
        self._prior = [PRIOR_EXPECTED if day.expected else PRIOR for day in self._days]
        self._parts: dict[int, list[_Part]] = {}
        self._calls: Floats = np.zeros(0)

    def __bool__(self) -> bool:
        return bool(self._days)

    def _parts_of(self, profession: int, meets: Bools) -> list[_Part]:
        """Earlier days, only this profession."""
        if profession not in self._parts:
            self._parts[profession] = [_partition(d, profession, meets, self._terms) for d in self._days]
        return self._parts[profession]

    def hear(self, calls: Floats) -> None:
        """Learn when today's requests were made, so far."""
        self._calls = calls

    def _pairs_with(self, part: _Part, profession: int, slots: Slots, meets: Bools, now: float) -> Pairs:
        """Whoever may still call against the slots of today, in short lists that are made anew every hour."""
        if now - part.looked >= REFRESH_S:
            part.live, part.known, part.looked = Pairs.join([]), 0, now
        new = np.arange(part.known, len(slots))
        new = new[(slots.profession[new] == profession) & (slots.start[new] > now)]
        part.known = len(slots)
        first = int(part.requests.created.searchsorted(now, "right"))
        coming = np.arange(first, len(part.requests))
        if not (new.size and coming.size):
            return part.live
        parts = [part.live]
        for some in np.array_split(coming, -(-coming.size * new.size // BLOCK)):
            i, j = np.repeat(some, new.size), np.tile(new, some.size)
            parts.append(feasible(part.requests, i, slots, j, meets, self._terms))
        part.live = Pairs.join(parts)
        if part.live.slot.size > 2 * (LISTED + SPREAD) * coming.size:
            part.live = part.live.where(short_lists(part.live, LISTED, SPREAD))
        return part.live

    def levels(self, now: float) -> tuple[Floats, Floats]:
        """Today against each earlier day: of the whole day so far, and of the last hour (at most ``MOST``)."""
        calls = self._calls
        lately = int((calls > now - BURST_S).sum())
        known = list(zip(self._created, self._prior, strict=True))
        day = [(calls.size + prior) / (int(c.searchsorted(now, "right")) + prior) for c, prior in known]
        hour = [
            (lately + prior) / (int(c.searchsorted(now, "right") - c.searchsorted(now - BURST_S, "right")) + prior)
            for c, prior in known
        ]
        return np.minimum(day, MOST), np.minimum(hour, MOST)

    def pick_days(self, now: float, count: int, weekday: int) -> list[int]:
        """Days to draw futures from, those nearest in level most often."""
        rng = np.random.default_rng((self._seed, int(now)))
        level, _ = self.levels(now)
        weight = np.exp(-0.5 * (np.log(level) / LEVEL_SPREAD) ** 2) + 1e-9
        weight *= [2.0 if d.weekday == weekday else 1.0 for d in self._days]
        days = len(self._days)
        return [int(d) for d in rng.choice(days, size=min(count, days), replace=False, p=weight / weight.sum())]

    def future(self, profession: int, day: int, now: float, today: Slots, meets: Bools) -> Future:
        """The rest of an earlier day, matched to today's level.

        ``today``: the slots that there are; ``meets``: of the ``Codes`` of all of them (``feasible``).
        """
        part = self._parts_of(profession, meets)[day]
        level, hour = (float(x[day]) for x in self.levels(now))
        # a burst is believed where it stands out of the day's own level, and for one hour
        soon = hour if not 0.67 < hour / level < 1.5 else level
        rng = np.random.default_rng((self._seed, int(now), day, profession))
        created = part.requests.created
        first = int(created.searchsorted(now, "right"))
        factor = np.where(created[first:] <= now + BURST_S, soon, level)
        copies = np.floor(factor + rng.random(factor.size)).astype(np.int64)
        draws = first + np.repeat(np.arange(factor.size), copies)
        offers = np.flatnonzero((part.slots.published > now) & (part.slots.start > now))
        live = self._pairs_with(part, profession, today, meets, now)
        return Future(
            day,
            part.requests,
            draws,
            part.slots,
            _drawn(live, first, copies, None),
            _drawn(part.among, first, copies, _inverse(offers, len(part.slots))),
        )


def _inverse(rows: npt.NDArray[np.intp], size: int) -> npt.NDArray[np.intp]:
    where = np.full(size, -1, np.intp)
    where[rows] = rows
    return where


def _drawn(pairs: Pairs, first: int, copies: npt.NDArray[np.int64], slots: npt.NDArray[np.intp] | None) -> Pairs:
    """Pairs of the requests drawn, renumbered by draw; ``slots`` marks those wanted, all when None."""
    keep = pairs.request >= first
    if slots is not None:
        keep &= slots[pairs.slot] >= 0
    pairs = pairs.where(keep)
    times = copies[pairs.request - first]
    offset = np.cumsum(copies) - copies
    base = np.repeat(offset[pairs.request - first], times)
    within = np.arange(times.sum()) - np.repeat(np.cumsum(times) - times, times)
    return Pairs(
        base + within, np.repeat(pairs.slot, times), np.repeat(pairs.travel_s, times), np.repeat(pairs.cost, times)
    )
