"""A day log: everything that happened on a territory, event by event; ``daylog_file`` reads and writes it."""

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import cached_property, lru_cache
from typing import Self


class Instant(float):
    """Epoch seconds that keep the offset from UTC, in seconds, with which they were or will be written."""

    __slots__ = ("offset_s",)
    offset_s: int

    def __new__(cls, seconds: float, offset_s: int = 0) -> Self:
        """Seconds since 1970 in UTC, whatever the offset."""
        instant = super().__new__(cls, seconds)
        instant.offset_s = offset_s
        return instant

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ISO 8601 with an offset.

        Raises:
            ValueError: If it is no such instant.
        """
        moment = datetime.fromisoformat(text)
        offset = moment.utcoffset()
        if offset is None or offset.total_seconds() % 60 or not 1900 <= moment.year < 9999:
            raise ValueError(f"Expected an offset of whole minutes and a year from 1900 to 9998 in {text}.")
        return cls(moment.timestamp(), int(offset.total_seconds()))

    def iso(self) -> str:
        """ISO 8601 with its own offset, to the microsecond where there is one."""
        return datetime.fromtimestamp(self, _zone(self.offset_s)).isoformat()


@lru_cache(maxsize=64)
def _zone(offset_s: int) -> timezone:
    return timezone(timedelta(seconds=offset_s))


@dataclass(frozen=True, slots=True)
class TierTerms:
    """One tier of the score: latest start after the call, ``value`` and ``wait_weight`` of the cost formula."""

    tier: str
    max_delay_min: float
    value: float
    wait_weight: float


@dataclass(frozen=True, slots=True)
class Meta:
    """The first line: where, when, the terms of the score (``notice_min`` in minutes), and if it was an exercise."""

    territory: str
    timezone: str
    start: Instant
    end: Instant
    base_min: float
    min_per_km: float
    tiers: tuple[TierTerms, ...]
    mt_bonus_min: float
    notice_min: float
    drill: bool = False


@dataclass(frozen=True, slots=True)
class Slot:
    """A published slot; ``refused_after_min`` is set on a phantom, which is shown but not really free."""

    id: str
    professional: str
    structure: str | None
    source: str
    lat: float
    lon: float
    start: Instant
    end: Instant
    capacity: int
    mode: str
    profession: str
    offers: tuple[str, ...]
    refused_after_min: float | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """A request as the regulator made it; ``deadline`` is the latest start of a slot."""

    id: str
    lat: float
    lon: float
    profession: str
    modes: tuple[str, ...]
    tier: str
    deadline: Instant
    radius_km: float
    needs: tuple[str, ...]
    mt: str | None
    on_phone: bool


@dataclass(frozen=True, slots=True)
class SlotPublished:
    """``slot`` can be had from ``t`` on."""

    t: Instant
    slot: Slot


@dataclass(frozen=True, slots=True)
class SlotCapacity:
    """The slot has ``capacity`` places in all from ``t`` on; fewer than firm means no further booking."""

    t: Instant
    slot_id: str
    capacity: int


@dataclass(frozen=True, slots=True)
class SlotWithdrawn:
    """The practice takes the slot back, with the bookings on it."""

    t: Instant
    slot_id: str


@dataclass(frozen=True, slots=True)
class RequestCreated:
    """A regulator asks for a place at ``t``."""

    t: Instant
    request: Request


@dataclass(frozen=True, slots=True)
class RequestCancelled:
    """The place is not needed any more."""

    t: Instant
    request_id: str


Event = SlotPublished | SlotCapacity | SlotWithdrawn | RequestCreated | RequestCancelled


@dataclass(frozen=True)
class DayLog:
    """A whole day log; ``events`` in non-decreasing ``t``."""

    meta: Meta
    events: tuple[Event, ...]

    @cached_property
    def requests(self) -> tuple[RequestCreated, ...]:
        """Creations in the order of the file, which is the order of the lines of a result."""
        return tuple(e for e in self.events if isinstance(e, RequestCreated))

    @cached_property
    def slots(self) -> tuple[SlotPublished, ...]:
        """Publications in the order of the file."""
        return tuple(e for e in self.events if isinstance(e, SlotPublished))

    @cached_property
    def cancelled_at(self) -> dict[str, Instant]:
        """Instant of the first cancellation by request id."""
        return {e.request_id: e.t for e in reversed(self.events) if isinstance(e, RequestCancelled)}

    @cached_property
    def withdrawn_at(self) -> dict[str, Instant]:
        """Instant of the first withdrawal by slot id."""
        return {e.slot_id: e.t for e in reversed(self.events) if isinstance(e, SlotWithdrawn)}

    @cached_property
    def capacities(self) -> dict[str, list[tuple[Instant, int]]]:
        """Steps of each slot's capacity: (from when, places in all), in order; the first is the publication."""
        steps: dict[str, list[tuple[Instant, int]]] = {}
        for event in self.events:
            if isinstance(event, SlotPublished):
                steps[event.slot.id] = [(event.t, event.slot.capacity)]
            elif isinstance(event, SlotCapacity):
                steps[event.slot_id].append((event.t, event.capacity))
        return steps
