"""Keeps what a matcher knows in step with the streams, and rebuilds it from the ledger after a wipe of Redis."""

import asyncio
from collections.abc import Iterable
from typing import Final

import orjson
import structlog

from sas_matcher.domain.errors import UnavailableError
from sas_matcher.faults import tell_fault
from sas_matcher.matching.loading import Loader
from sas_matcher.matching.market import Market
from sas_matcher.matching.places import Spot
from sas_matcher.ports.bus import PLACES_STREAM, REQUESTS_STREAM, Bus, Entry, told_order
from sas_matcher.ports.ledger import Ledger
from sas_matcher.ports.world import Clock
from sas_matcher.services.matcher.holding import AGAIN_S, Holding, until_there
from sas_matcher.services.matcher.known import Known

BIG_NEWS: Final = 10_000  # bytes of an entry after which others may go on: a bulk comes in entries of 200 places, 5 ms
EPOCH_S: Final = 0.2  # how often a wipe of Redis is looked for
PAUSE_S: Final = 2.0  # longer between two looks means that this process or Redis stood still
RETRY_S: Final = 5.0  # after a reload that failed in a way nobody foresaw
MEND_S: Final = 60.0  # between two reloads for news that cannot be read: one costs the core seconds of its processor
_log = structlog.get_logger(__name__)


class Follower:
    """Follows the streams. Owns the positions in them, and the epoch in which these are good.

    Attributes:
        heard: of each stream the last entry that has been taken in.
    """

    def __init__(self, known: Known, holding: Holding, ledger: Ledger, bus: Bus, clock: Clock) -> None:
        self._known, self._holding, self._ledger, self._bus, self._clock = known, holding, ledger, bus, clock
        self.heard: dict[str, str] = {}
        self._positions: dict[str, str] = {}
        self._epoch: str | None = None
        self._reloading: list[Entry] | None = None  # news of places since a reload began, none under way
        self._reloads: set[asyncio.Task[None]] = set()  # one that opens desks may be overtaken by the next
        self._unread = False  # whether news of places could not be taken in since the last reload
        self._reloaded = -MEND_S

    async def load(self) -> None:
        """Learn from the ledger which places are live, to go on from the streams as they stand now.

        Raises:
            UnavailableError: the ledger or the bus is away.
        """
        # positions before the snapshot: what changes meanwhile is read again, and versions make that harmless
        self._epoch = await self._bus.epoch()
        self._positions = await self._bus.tails((REQUESTS_STREAM, PLACES_STREAM))
        self.heard = dict(self._positions)
        self._known.market = await self._market()

    async def follow_forever(self) -> None:
        """Take in what the streams say."""
        looked = self._known.now()
        try:
            while True:
                try:
                    looked = await self._follow(looked)
                except UnavailableError as away:
                    _log.warning("matcher.bus_away", detail=away.detail)
                    # requests are durable in the ledger: deciding goes on from there while Redis is away
                    await asyncio.sleep(AGAIN_S)
                    await until_there(lambda: self._holding.load_waiting(list(self._known.fences)))
                except Exception as unforeseen:
                    tell_fault("matcher.follow", unforeseen)
                    await asyncio.sleep(AGAIN_S)
        finally:
            for task in self._reloads:
                task.cancel()

    async def _follow(self, looked: float) -> float:
        """Take in what is new, and look for a wipe if the last look was a while ago; returns when that was."""
        now = self._known.now()
        if not 0 <= now - looked <= EPOCH_S:
            # after a pause (stopped process, Redis away) the log may have run past us; and the clock may have been put
            # back
            complete = 0 <= now - looked < PAUSE_S or await self._bus.has_all_since(
                PLACES_STREAM, self._positions[PLACES_STREAM]
            )
            looked = now
            await self._watch_epoch(complete=complete)
        entries = told_order(await self._bus.read(self._positions, block_ms=200))
        for entry in entries:
            self._positions[entry.stream] = entry.id
        for entry in entries:
            async with self._known.still:
                self._hear(entry)
            if len(entry.fields.get(b"data", b"")) > BIG_NEWS:
                await asyncio.sleep(0)
        return looked

    def _hear(self, entry: Entry) -> None:
        """Take an entry in; one that cannot be read (of another version of this service) must not end the matcher."""
        try:
            self.take_in([entry])
        except Exception as unreadable:
            tell_fault("matcher.news", unreadable, stream=entry.stream, entry=entry.id)
            self.heard[entry.stream] = entry.id
            # of a request the ledger is asked anyway (``Holding.catch_up``), or whoever sent it writes it himself
            self._unread |= entry.stream == PLACES_STREAM

    async def _watch_epoch(self, *, complete: bool) -> None:
        """Rebuild after a wipe, or when the log of places ran past our position."""
        epoch = await self._bus.epoch()
        ticks = asyncio.get_running_loop().time()
        complete = complete and not (self._unread and ticks - self._reloaded >= MEND_S)
        if epoch is None or self._reloading is not None or (epoch == self._epoch and complete):
            return
        # as at the start: what was said up to here is in the ledger that is about to be read
        positions = await self._bus.tails((REQUESTS_STREAM, PLACES_STREAM))
        _log.warning("matcher.reload", epoch=epoch)
        self._epoch, self._positions, self._reloading = epoch, positions, []
        self._unread, self._reloaded = False, ticks
        self.heard = dict(positions)
        task = asyncio.create_task(self._reload())
        self._reloads.add(task)
        task.add_done_callback(self._reloads.discard)

    async def _reload(self) -> None:
        async def load() -> None:
            # what was heard before is in what is about to be read, in a second try too
            self._reloading = []
            market = await self._market()
            await self._holding.load_waiting(list(self._known.fences))
            async with self._known.still:
                missed, self._reloading = self._reloading or [], None
                self._known.market = market
                market.reserve(self._known.rules.reserves)
                for entry in missed:
                    self._hear(entry)
            # of what came or was freed meanwhile nobody was told: those who wait for a place look again
            waiting = self._known.open.waiting
            for territory in {request.territory for request in waiting.values()}:
                self._known.open.move_to_new(waiting, territory)

        try:
            await until_there(load)
        except Exception as unforeseen:
            tell_fault("matcher.reload", unforeseen)
            await asyncio.sleep(RETRY_S)
            # the next look for a wipe begins anew
            self._reloading = self._epoch = None
            return
        _log.info("matcher.reloaded", places=len(self._known.market))
        # the desks that there are may have missed what became of their places
        await until_there(lambda: self._holding.open_desks(anew=self._known.desks))

    async def _market(self) -> Market:
        """Return the live places as the ledger has them, letting others go on meanwhile."""
        loader = Loader()
        async for page in self._ledger.live_places(self._clock.now(), None):
            loader.add(page)
            await asyncio.sleep(0)
        market = loader.market()
        market.load_limits(await self._ledger.limits(self._clock.now()))
        return market

    def take_in(self, entries: Iterable[Entry]) -> None:
        """Take in changes of places and open requests."""
        freed: list[Spot] = []
        for entry in entries:
            fields = entry.fields
            if entry.stream == REQUESTS_STREAM:
                territory, kind, request = (fields[name].decode() for name in (b"territory", b"type", b"request"))
                self._known.hear_request(territory, kind, request, fields[b"data"])
            else:
                if self._reloading is not None:
                    self._reloading.append(entry)
                freed += self._known.hear_places(fields[b"kind"].decode(), orjson.loads(fields[b"data"]))
            self.heard[entry.stream] = entry.id
        if freed:
            self._known.open.wake(freed)
        if self._known.has_work():
            self._known.work.set()
