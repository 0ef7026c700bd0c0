"""The relay: what committed becomes known at once; what a crash kept back, the sweep publishes later.

A writer hands over the outbox rows of its transaction right after the commit; the relay publishes them in order and
drops them from the outbox. Rows that nobody published within ``GRACE`` are picked up by any relay that sweeps. So each
announcement goes out at least once; readers drop what is not newer than what they know.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Final

import structlog

from sas_matcher.domain.errors import UnavailableError
from sas_matcher.faults import tell_fault
from sas_matcher.ports.bus import Bus
from sas_matcher.ports.ledger import Announcement, Ledger
from sas_matcher.ports.world import Clock

# A healthy writer needs milliseconds; a bulk of 10 000 places, counted from the instant it came, close to two seconds:
# swept in the midst of that, all of it would be published twice.
GRACE: Final = timedelta(seconds=3)
# A bus that takes its time must not fill the memory of who writes: a minute at 500 requests a second.
MOST: Final = 100_000
# Of the eight seconds in which a process has to end: what is no outbox row (what was decided together, for who records
# it) is lost with the process, and nobody else says it.
LAST_S: Final = 2.0
_FORGET_EVERY_S: Final = 0.5  # a sixth of GRACE: what has been published is gone before anybody sweeps
_BATCH: Final = 200  # rows of one round trip
_BYTES: Final = 500_000  # of one round trip: the matcher takes in the first part of a bulk while the rest is written
_log = structlog.get_logger(__name__)


class Relay:
    """Port ``Publisher`` over a bus; ``ledger`` is set once both exist."""

    def __init__(self, bus: Bus, clock: Clock) -> None:
        self.ledger: Ledger | None = None
        self._bus = bus
        self._clock = clock
        self._queue: list[Announcement] = []
        self._more, self._told = asyncio.Event(), asyncio.Event()
        self._told.set()
        self._done: list[int] = []

    def announce(self, announcements: Sequence[Announcement]) -> None:
        """Queue for publication at once; over ``MOST`` they are left to the sweep, which finds them in the outbox."""
        room = MOST - len(self._queue)
        if len(announcements) > room:
            # what is no outbox row would be lost
            announcements = [a for n, a in enumerate(announcements) if n < room or not a.id]
        if announcements:
            self._queue.extend(announcements)
            self._told.clear()
            self._more.set()

    async def run(self) -> None:
        """Publish what is announced, until cancelled; what is queued then stays in the outbox for the sweep."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._publish_forever())
            group.create_task(self._forget_forever())

    async def flush(self) -> None:
        """Wait until all that was announced is published, or given up, for ``LAST_S`` at the most."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_S):
                await self._told.wait()

    async def _publish_forever(self) -> None:
        while True:
            await self._more.wait()
            self._more.clear()
            while self._queue:
                batch = self._next_batch()
                try:
                    await self._bus.publish(batch)
                except Exception as failure:
                    # whatever it was, the outbox still has them: the sweep publishes them in order later
                    _log.warning("relay.bus_away", kind=type(failure).__name__, kept=len(batch) + len(self._queue))
                    self._queue.clear()
                else:
                    # what is no outbox row has no number
                    self._done.extend(a.id for a in batch if a.id)
            self._told.set()

    def _next_batch(self) -> list[Announcement]:
        count, size = 0, 0
        while count < min(_BATCH, len(self._queue)) and size < _BYTES:
            size += len(self._queue[count].data)
            count += 1
        batch, self._queue = self._queue[:count], self._queue[count:]
        return batch

    async def _forget_forever(self) -> None:
        while True:
            await asyncio.sleep(_FORGET_EVERY_S)
            await self.forget_published()

    async def forget_published(self) -> None:
        """Drop from the outbox what has been published."""
        done, self._done = self._done, []
        if not done or self.ledger is None:
            return
        try:
            await self.ledger.mark_published(done)
        except UnavailableError:
            self._done.extend(done)

    async def sweep(self) -> int:
        """Publish announcements that their writer left behind; returns how many."""
        if self.ledger is None:
            return 0
        late = await self.ledger.leftovers(self._clock.now() - GRACE, _BATCH)
        if late:
            try:
                await self._bus.publish(late)
            except UnavailableError:
                raise
            except Exception:
                await self._publish_each(late)
            await self.ledger.mark_published([a.id for a in late])
        return len(late)

    async def _publish_each(self, late: Sequence[Announcement]) -> None:
        """Publish one by one, and give up what the bus cannot take: else nothing after it would ever be told."""
        for one in late:
            try:
                await self._bus.publish([one])
            except UnavailableError:
                raise
            except Exception as unforeseen:
                tell_fault("relay.row", unforeseen, id=one.id, stream=one.stream, type=one.type)
