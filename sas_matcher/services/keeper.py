"""Housekeeping: holds that ran out, deadlines that passed, left-behind announcements, and the mirror after a wipe.

Correctness never waits for it (deadlines are judged when read); it tidies up and tells people.
"""

import asyncio
from datetime import timedelta
from typing import Final

import structlog

from sas_matcher.faults import again_and_again
from sas_matcher.ports.bus import Bus
from sas_matcher.ports.ledger import Ledger
from sas_matcher.ports.world import Clock, Ids
from sas_matcher.services.relay import Relay

_log = structlog.get_logger(__name__)
IDEMPOTENCY_KEPT: Final = timedelta(hours=48)  # at least 24 h (Stripe v1); our requests live 48 h
# a practice looks back at a month; who was shown what is of no use to anybody later (data minimisation)
EXPOSURES_KEPT: Final = timedelta(days=35)
_TIDY_S: Final = 0.5  # what has run out (holds, deadlines to accept) is dealt with within this
_EPOCH_S: Final = 0.2  # as often as the matcher looks for a wipe (`matcher.following`)
_PURGE_S: Final = 30.0  # forgetting what is of no use any more can wait


class Keeper:
    """Runs beside the matcher; several may run, each step being safe to repeat."""

    def __init__(self, ledger: Ledger, bus: Bus, relay: Relay, clock: Clock, ids: Ids) -> None:
        self._ledger = ledger
        self._bus = bus
        self._relay = relay
        self._clock = clock
        self._ids = ids
        self._filled: str | None = None

    async def run(self) -> None:
        """Keep house until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(again_and_again("keeper.tidy", self.tidy, _TIDY_S))
            group.create_task(again_and_again("keeper.sweep", self.sweep, _TIDY_S))
            group.create_task(again_and_again("keeper.epoch", self.keep_epoch, _EPOCH_S))
            group.create_task(again_and_again("keeper.purge", self.purge, _PURGE_S))

    async def tidy(self) -> None:
        """Settle what time decides (holds, deadlines, acceptances, places handed back)."""
        now = self._clock.now()
        await self._ledger.lapse_holds(now)
        await self._ledger.close_unserved(now)
        await self._ledger.settle_acceptance(now)
        await self._ledger.hand_back(now)
        await self._ledger.open_for_all(now)

    async def sweep(self) -> None:
        """Publish what its writer left behind."""
        while await self._relay.sweep():
            pass

    async def keep_epoch(self) -> None:
        """After a wipe or a restart of Redis begin a new epoch and fill the mirror afresh, territory by territory."""
        epoch = await self._bus.begin_epoch(self._ids.uuid())
        if epoch == self._filled:
            return
        _log.info("mirror.fill", epoch=epoch)
        now = self._clock.now()
        territories = await self._ledger.live_territories(now)
        ready = await self._bus.ready_for(territories)
        for territory, for_epoch in zip(territories, ready, strict=True):
            if for_epoch != epoch:
                # cleared before the ledger is read: news that comes in between stays, and versions sort the rest
                await self._bus.clear(territory)
                await self._bus.fill(territory, epoch, await self._ledger.live_records(now, territory))
        self._filled = epoch

    async def purge(self) -> None:
        """Drop started places from the mirror and old Idempotency-Keys from the ledger."""
        now = self._clock.now()
        for territory in await self._ledger.live_territories(now - timedelta(days=1)):
            await self._bus.drop_past(territory, int(now.timestamp()))
        await self._ledger.forget_idempotency(now - IDEMPOTENCY_KEPT)
        await self._ledger.forget_exposures(now - EXPOSURES_KEPT)
        # territories that had no place before are marked complete at the next look
        self._filled = None
