"""The mirror and the streams in memory (port ``Bus``): the meaning of ``adapters.redis.bus``, without a server."""

import asyncio
import itertools
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import orjson

from sas_matcher.ports.bus import (
    BATCHES_STREAM,
    EVENTS_STREAM,
    LIMIT_NEWS,
    PLACES_STREAM,
    REQUESTS_STREAM,
    Entry,
    entry_order,
)
from sas_matcher.ports.ledger import Announcement
from sas_matcher.ports.world import Clock

# Lengths after which old entries go, as those of ``adapters.redis.bus``; a hundred at a time.
LENGTHS: Final = {PLACES_STREAM: 2_000, REQUESTS_STREAM: 10_000, EVENTS_STREAM: 20_000, BATCHES_STREAM: 2_000}
_TRIM: Final = 100
TRACE_S: Final = 3600.0  # far above the second after which left-behind changes are published


@dataclass(slots=True)
class Stream:
    """The entries that are kept, the number of the last one, and whether older ones were dropped."""

    entries: deque[Entry] = field(default_factory=deque)
    last: int = 0
    dropped: bool = False


@dataclass(slots=True)
class Seats:
    """The seats left of a slot; they and the record have a version each (see ``apply_places.lua``)."""

    left: int = 0
    version: int = 0
    record_version: int = 0


@dataclass(slots=True)
class Mirror:
    """A territory's live places; ``traces`` says until when a slot without a record is remembered (epoch s)."""

    records: dict[int, Any] = field(default_factory=dict)
    starts: dict[int, int] = field(default_factory=dict)
    seats: dict[int, Seats] = field(default_factory=dict)
    traces: dict[int, float] = field(default_factory=dict)
    ready: str | None = None

    def apply(self, kind: str, items: Iterable[tuple[int, int, int, int, Any]], now: float) -> None:
        """Apply a change; what is older than what is known changes nothing.

        Args:
            kind: published, state or gone.
            items: (slot id, version, seats left, start, record); what the kind does not say is not looked at.
            now: epoch seconds, for the traces.
        """
        for slot_id in [name for name, until in self.traces.items() if until <= now]:
            del self.traces[slot_id]
            self.seats.pop(slot_id, None)
        for slot_id, version, left, start, record in items:
            seats = self.seats.get(slot_id) or Seats()
            if kind == "published" and version >= seats.record_version:
                seats.record_version = version
                self.records[slot_id], self.starts[slot_id] = record, start
                self.traces.pop(slot_id, None)
            elif kind == "gone" and version > seats.record_version:
                seats.record_version = version
                self.records.pop(slot_id, None)
                self.starts.pop(slot_id, None)
                self.traces[slot_id] = now + TRACE_S
            if version > seats.version or (kind == "published" and version == seats.version):
                seats.left, seats.version = left, version
                if seats.record_version == 0:
                    self.traces[slot_id] = now + TRACE_S
            self.seats[slot_id] = seats


class MemoryBus:
    """Streams and mirrors of one process.

    Args:
        clock: what traces of withdrawn places are forgotten by.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._numbers = itertools.count(1)
        self._more = asyncio.Event()
        self.wipe()

    def wipe(self) -> None:
        """Lose everything, as a server that was flushed does."""
        self.streams: dict[str, Stream] = {}
        self.mirrors: dict[str, Mirror] = {}
        self._epoch: str | None = None

    # -- publishing ----------------------------------------------------------------------------------------------

    async def publish(self, announcements: Sequence[Announcement]) -> None:
        """Publish in the order given; the mirror before the log that tells of it."""
        for a in announcements:
            if a.stream == "places":
                if a.type not in LIMIT_NEWS:
                    self._apply(a)
                self._add(PLACES_STREAM, territory=a.territory, kind=a.type, data=a.data)
            elif a.stream == "requests":
                about = {"type": a.type, "request": a.aggregate, "version": str(a.version)}
                self._add(REQUESTS_STREAM, territory=a.territory, **about, data=a.data)
            elif a.stream == "batches":
                self._add(BATCHES_STREAM, data=a.data)
            else:
                about = {"id": str(a.id), "type": a.type, "aggregate": a.aggregate, "version": str(a.version)}
                about |= {"owner": a.owner, "audience": " ".join(a.audience)}
                self._add(EVENTS_STREAM, territory=a.territory, **about, data=a.data)
        if announcements:
            self._more.set()

    def _add(self, name: str, **fields: str) -> None:
        stream = self.streams.setdefault(name, Stream())
        stream.last = next(self._numbers)
        entry = Entry(name, f"{stream.last}-0", {key.encode(): value.encode() for key, value in fields.items()})
        stream.entries.append(entry)
        if len(stream.entries) >= LENGTHS[name] + _TRIM:
            self.trim(name, LENGTHS[name])

    def trim(self, name: str, length: int) -> None:
        """Drop the oldest entries of a stream."""
        stream = self.streams[name]
        while len(stream.entries) > length:
            stream.entries.popleft()
            stream.dropped = True

    def _apply(self, a: Announcement) -> None:
        items = orjson.loads(a.data)
        if a.type == "published":
            rows = [
                (r["slot_id"], r["version"], left, int(datetime.fromisoformat(r["start"]).timestamp()), r)
                for r, left in items
            ]
        elif a.type == "state":
            rows = [(slot_id, version, left, 0, None) for slot_id, left, version in items]
        else:
            rows = [(slot_id, version, 0, 0, None) for slot_id, version in items]
        self._mirror(a.territory).apply(a.type, rows, self._clock.now().timestamp())

    def _mirror(self, territory: str) -> Mirror:
        return self.mirrors.setdefault(territory, Mirror())

    # -- reading -------------------------------------------------------------------------------------------------

    async def read(self, positions: Mapping[str, str], block_ms: int, count: int = 500) -> list[Entry]:
        """Return at most ``count`` entries a stream after the positions, waiting at most ``block_ms`` (0: for ever)."""
        loop = asyncio.get_running_loop()
        until = loop.time() + block_ms / 1000
        while True:
            found = [e for name, after in positions.items() for e in self._after(name, after, None, count)]
            if found:
                return found
            self._more.clear()
            try:
                async with asyncio.timeout_at(until if block_ms else None):
                    await self._more.wait()
            except TimeoutError:
                return []

    def _after(self, name: str, after: str, until: str | None, count: int) -> list[Entry]:
        stream = self.streams.get(name)
        low, high = entry_order(after), None if until in (None, "+") else entry_order(until or "")
        if stream is None or low[0] >= stream.last:
            return []
        newest = (e for e in reversed(stream.entries))
        found = list(itertools.takewhile(lambda e: entry_order(e.id) > low, newest))[::-1]
        return [e for e in found if high is None or entry_order(e.id) <= high][:count]

    async def range(self, stream: str, after: str, until: str, count: int) -> list[Entry]:
        """Return entries with after < id ≤ until."""
        return self._after(stream, after, until, count)

    async def tails(self, streams: Iterable[str]) -> dict[str, str]:
        """Return the last id of each stream ("0-0" for one that does not exist yet)."""
        return {
            name: f"{self.streams[name].last}-0" if name in self.streams and self.streams[name].entries else "0-0"
            for name in streams
        }

    async def has_all_since(self, stream: str, after: str) -> bool:
        """Tell whether everything after an id is still in the stream (else a reader must be told of a gap)."""
        known = self.streams.get(stream)
        if known is None:
            return after in ("0", "0-0")
        if entry_order(after)[0] > known.last:
            return False
        # as Redis judges it: once anything was dropped, a position before the first entry kept is a gap
        return not known.dropped or bool(known.entries and entry_order(known.entries[0].id) <= entry_order(after))

    # -- epoch and rebuilding ------------------------------------------------------------------------------------

    async def epoch(self) -> str | None:
        """Return the epoch of the streams; None after a wipe, until somebody begins a new one."""
        return self._epoch

    async def begin_epoch(self, epoch: str) -> str:
        """Return the epoch in force, beginning this one after a wipe."""
        self._epoch = self._epoch or epoch
        return self._epoch

    async def clear(self, territory: str) -> None:
        """Drop a territory's mirror: what is published from here on is newer than what will be filled in."""
        self.mirrors.pop(territory, None)

    async def fill(self, territory: str, epoch: str, rows: Sequence[Any]) -> None:
        """Write a territory's live places (id, version, start, left, record JSON), then mark it ready."""
        items = [(r["id"], r["version"], r["left"], r["start"], orjson.loads(r["record"])) for r in rows]
        mirror = self._mirror(territory)
        mirror.apply("published", items, self._clock.now().timestamp())
        mirror.ready = epoch

    async def ready_for(self, territories: Sequence[str]) -> list[str | None]:
        """Return for which epoch each territory's mirror is complete."""
        return [self.mirrors[t].ready if t in self.mirrors else None for t in territories]

    async def set_aside(self, limit: int) -> list[dict[str, Any]]:
        """Return the newest poison entries of the ingest streams: none, as nobody publishes through this bus."""
        return []

    async def drop_past(self, territory: str, before: int) -> int:
        """Take places that started before an instant (epoch seconds) out of the mirror."""
        mirror = self._mirror(territory)
        gone = [slot_id for slot_id, start in mirror.starts.items() if start < before]
        for slot_id in gone:
            del mirror.starts[slot_id], mirror.records[slot_id]
            mirror.seats.pop(slot_id, None)
        return len(gone)

    async def ping(self) -> None:
        """Answer: memory is never away."""
