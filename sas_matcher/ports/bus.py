"""The bus and mirror: what committed becomes known, quickly; nothing is true here alone."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

from sas_matcher.ports.ledger import Announcement


class Entry(NamedTuple):
    """One stream entry: its stream, id and fields."""

    stream: str
    id: str
    fields: dict[bytes, bytes]


def entry_order(entry_id: str) -> tuple[int, int]:
    """Return a stream id as numbers that compare."""
    milliseconds, _, sequence = entry_id.partition("-")
    return int(milliseconds), int(sequence or 0)


def told_order(entries: Iterable[Entry]) -> list[Entry]:
    """Return entries of several streams in the order in which they were told.

    To the millisecond, which is all that their ids say; within one it stays as given.
    """
    return sorted(entries, key=lambda entry: entry_order(entry.id)[0])


class Bus(Protocol):
    """The mirror and the streams. Every method raises UnavailableError when the server does not answer."""

    async def publish(self, announcements: Sequence[Announcement]) -> None:
        """Publish in order."""
        ...

    async def read(self, positions: Mapping[str, str], block_ms: int, count: int = 500) -> list[Entry]:
        """Return entries after the positions, waiting at most ``block_ms``."""
        ...

    async def range(self, stream: str, after: str, until: str, count: int) -> list[Entry]:
        """Return entries with after < id ≤ until."""
        ...

    async def tails(self, streams: Iterable[str]) -> dict[str, str]:
        """Return the last id of each stream."""
        ...

    async def has_all_since(self, stream: str, after: str) -> bool:
        """Tell whether nothing after an id was dropped."""
        ...

    async def epoch(self) -> str | None:
        """Return the epoch; None after a wipe."""
        ...

    async def begin_epoch(self, epoch: str) -> str:
        """Return the epoch in force, beginning this one after a wipe or a restart of the server."""
        ...

    async def clear(self, territory: str) -> None:
        """Drop a territory's mirror: what is published from here on counts."""
        ...

    async def fill(self, territory: str, epoch: str, rows: Sequence[Any]) -> None:
        """Write a territory's live places."""
        ...

    async def ready_for(self, territories: Sequence[str]) -> list[str | None]:
        """Return for which epoch each territory is complete."""
        ...

    async def set_aside(self, limit: int) -> list[dict[str, Any]]:
        """Return the newest poison entries of the ingest streams."""
        ...

    async def drop_past(self, territory: str, before: int) -> int:
        """Drop places that have started."""
        ...

    async def ping(self) -> None:
        """Raise UnavailableError when away."""
        ...


# The streams, by the names that readers and writers share.
PLACES_STREAM: Final = "sas:{all}:places:log"
REQUESTS_STREAM: Final = "sas:{all}:requests"
# On the stream of requests: one that the ledger may not have yet (``request_row``), to be written with its decision.
ARRIVAL: Final = "arrival"
EVENTS_STREAM: Final = "sas:{all}:events"
# News on the stream of places that are about limits of practices: for the matchers, not for the mirror.
LIMIT_NEWS: Final = frozenset({"limit", "limit_left"})
BATCHES_STREAM: Final = "sas:{all}:batches"
