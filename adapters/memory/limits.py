"""Limits of practices in the twin: what ``002_limits.sql`` says, function by function."""

import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

import orjson

from adapters.memory.rows import Booking, Request, Slot
from sas_matcher.domain.limits import Counts, Period, is_child, period_end, period_start
from sas_matcher.ports.ledger import PracticeLimit


@dataclass(slots=True)
class Limit:
    """A limit that a source has set."""

    id: int
    row: PracticeLimit
    version: int

    def covers(self, slot: Slot) -> bool:
        """Tell whether a slot is one of its members'."""
        mine = f"p:{slot.professional}" in self.row.members or f"s:{slot.structure}" in self.row.members
        return mine and (slot.source == self.row.source or not self.row.own_only)

    def starts(self, instant: datetime) -> datetime:
        """Return when the period began that an instant lies in (UTC)."""
        return period_start(self.row.period, self.row.zone, instant).astimezone(UTC)

    def ends(self, starts: datetime) -> datetime:
        """Return when that period ends (UTC)."""
        return period_end(self.row.period, self.row.zone, starts).astimezone(UTC)

    def closes(self, slot: Slot) -> bool:
        """Tell whether it closes a slot for everybody once it is reached."""
        counts = self.row.counts
        return counts == Counts.PATIENTS or (counts == Counts.VISITS and slot.mode == "visite")

    def counts(self, slot: Slot, request: Request) -> bool:
        """Tell whether a request on a slot counts."""
        child = self.row.counts == Counts.CHILDREN and is_child(request.age_band, request.needs)
        return child or self.closes(slot)

    def definition(self) -> dict[str, Any]:
        """Return what a matcher must know of it, without what is left."""
        row = self.row
        return {
            "id": self.id,
            "version": self.version,
            "counts": row.counts,
            "period": row.period,
            "zone": row.zone,
            "source": row.source if row.own_only else None,
            "members": sorted(row.members),
        }


class Over(NamedTuple):
    """A limit over a slot, in the period that the slot starts in."""

    limit: Limit
    starts: datetime


class LimitTable:
    """All limits, and the periods in which they are reached; reads slots, seats and requests as they are."""

    def __init__(
        self, slots: Mapping[int, Slot], seats: Mapping[int, Mapping[int, Booking]], requests: Mapping[str, Request]
    ) -> None:
        self._slots = slots
        self._seats = seats
        self._requests = requests
        self._ids = itertools.count(1)
        self.rows: dict[int, Limit] = {}
        self.closed: set[tuple[int, datetime]] = set()

    def put(self, row: PracticeLimit, version: int) -> Limit:
        """Set or change the limit of this source and name; its periods are no longer known to be reached.

        Raises:
            ValueError: no practice may set it.
        """
        known_words = row.counts in set(Counts) and row.period in set(Period)
        if not known_words or (row.most is None) == (row.share is None):
            raise ValueError(f"Expected a limit of the vocabulary with most or share, got {row}.")
        known = self.named(row.source, row.name)
        limit = Limit(next(self._ids) if known is None else known.id, row, version)
        self._forget(limit)
        self.rows[limit.id] = limit
        return limit

    def drop(self, limit: Limit) -> None:
        """Take a limit back."""
        self._forget(limit)
        del self.rows[limit.id]

    def _forget(self, limit: Limit) -> None:
        self.closed = {period for period in self.closed if period[0] != limit.id}

    def named(self, source: str, name: str) -> Limit | None:
        """Return a limit by its source and name."""
        return next((m for m in self.rows.values() if (m.row.source, m.row.name) == (source, name)), None)

    def over(self, slot: Slot) -> Iterator[Over]:
        """Yield the limits over a slot."""
        for limit in self.rows.values():
            if limit.covers(slot):
                yield Over(limit, limit.starts(slot.starts))

    def under(self, limit: Limit, start: datetime, end: datetime | None) -> list[Slot]:
        """Return the open slots of a limit's members that start in [start, end)."""
        return [
            s
            for s in self._slots.values()
            if s.status == "open" and start <= s.starts and (end is None or s.starts < end) and limit.covers(s)
        ]

    def state(self, over: Over, but: Collection[str] = ()) -> tuple[int, int]:
        """Return how many a limit lets in during a period, and how many it has without these bookings."""
        limit, starts = over
        ends = limit.ends(starts)
        # those whose slot was taken back and who were kept count too
        taken = sum(
            b.id not in but and limit.counts(slot, self._requests[b.request_id])
            for slot in self._slots.values()
            if starts <= slot.starts < ends and limit.covers(slot)
            for b in self._seats.get(slot.id, {}).values()
        )
        places = sum(slot.capacity for slot in self.under(limit, starts, ends))
        most = (limit.row.share or 0) * places // 100 if limit.row.most is None else limit.row.most
        return most, taken

    def left(self, over: Over, but: Collection[str] = ()) -> int:
        """Return how many more a limit lets in."""
        most, taken = self.state(over, but)
        return max(0, most - taken)

    def reached(self, slot: Slot, request: Request, before: Slot | None = None) -> bool:
        """Tell whether a slot could take nobody like this request, were there a seat and the one ``before`` given back.

        Where it counts already it adds nobody, however small the limit was made since.
        """

        def counted(place: Slot) -> dict[tuple[int, datetime], Over]:
            return {(o.limit.id, o.starts): o for o in self.over(place) if o.limit.counts(place, request)}

        known = counted(slot)
        for period in () if before is None else counted(before):
            known.pop(period, None)
        return any(self.left(over) == 0 for over in known.values())

    def is_closed(self, slot: Slot) -> bool:
        """Tell whether a limit that is reached closes a slot for everybody."""
        return any((o.limit.id, o.starts) in self.closed and o.limit.closes(slot) for o in self.over(slot))

    def together(self, slots: Iterable[Slot]) -> set[tuple[int, datetime]]:
        """Return the limits, with their periods, over some slots."""
        return {(o.limit.id, o.starts) for slot in slots for o in self.over(slot)}

    def settle(self, over: Over) -> tuple[int, list[Slot]]:
        """Note whether a period is reached; returns what is left, and the open slots that this closes or opens."""
        limit, starts = over
        left = self.left(over)
        before = (limit.id, starts) in self.closed
        if limit.row.counts == Counts.CHILDREN or before == (left == 0):
            return left, []
        (self.closed.discard if before else self.closed.add)((limit.id, starts))
        return left, [s for s in self.under(limit, starts, limit.ends(starts)) if limit.closes(s)]

    def periods(self, limit: Limit, now: datetime, end: datetime | None) -> list[Over]:
        """Return the coming periods in which a limit has open places."""
        starts = {limit.starts(s.starts) for s in self.under(limit, now, end)}
        return [Over(limit, start) for start in sorted(starts)]

    def document(self, limit: Limit, periods: Sequence[Over]) -> str:
        """Return how a limit looks to its practice."""
        row, names = limit.row, sorted(set(limit.row.members))
        states = [(o, *self.state(o)) for o in periods]
        return orjson.dumps(
            {
                **{name: getattr(row, name) for name in ("name", "counts", "period", "most", "share", "zone")},
                "professionals": [name[2:] for name in names if name[0] == "p"],
                "structures": [name[2:] for name in names if name[0] == "s"],
                "periods": [
                    {"from": o.starts, "to": limit.ends(o.starts), "most": most, "taken": taken}
                    for o, most, taken in states
                ],
            }
        ).decode()
