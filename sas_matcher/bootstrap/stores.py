"""What every process opens: ledger, bus, relay, clock and ids."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple

import structlog

from adapters.geo import Gazetteer
from adapters.postgres import PostgresLedger
from adapters.redis import RedisBus
from adapters.system import SystemClock, SystemIds
from sas_matcher.config import ConfigError, Settings
from sas_matcher.domain.errors import UnavailableError
from sas_matcher.faults import tell_fault
from sas_matcher.services.relay import Relay

PATIENCE_S: Final = 30.0  # a worker that starts while PostgreSQL recovers waits this long before it gives up
_AGAIN_S: Final = 0.1


class Stores(NamedTuple):
    """The stores of this process, and where its time and ids come from."""

    ledger: PostgresLedger
    bus: RedisBus
    relay: Relay
    clock: SystemClock
    ids: SystemIds


def vital(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """Run beside the rest; a process in which it failed serves nobody well: it ends, and another one starts."""

    def look(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (failure := task.exception()) is not None:
            tell_fault("process.task", failure)
            os.kill(os.getpid(), signal.SIGTERM)

    task = asyncio.create_task(work)
    task.add_done_callback(look)
    return task


async def _open_ledger(settings: Settings, relay: Relay, patience: float) -> PostgresLedger:
    clock = asyncio.get_running_loop().time
    deadline = clock() + patience
    while True:
        try:
            return await PostgresLedger.connect(settings.database_url, relay, size=settings.pool)
        except UnavailableError:
            if clock() >= deadline:
                raise
            await asyncio.sleep(_AGAIN_S)


@asynccontextmanager
async def open_stores(settings: Settings, patience: float = 0.0) -> AsyncIterator[Stores]:
    """Open ledger, bus and relay; the relay publishes for as long as the context lasts.

    Args:
        settings: name the stores.
        patience: seconds to wait for a ledger that is away.

    Raises:
        ConfigError: an address is missing.
        UnavailableError: the ledger is away.
    """
    if not settings.database_url or not settings.redis_url:
        raise ConfigError("Il manque SAS_DATABASE_URL ou SAS_REDIS_URL.")
    clock, ids = SystemClock(), SystemIds()
    if clock.ahead:
        structlog.get_logger(__name__).warning("clock.rehearsal", ahead_s=clock.ahead.total_seconds())
    bus = RedisBus.connect(settings.redis_url)
    relay = Relay(bus, clock)
    ledger = await _open_ledger(settings, relay, patience)
    relay.ledger = ledger
    if await ledger.is_drill(settings.drill) is not settings.drill:
        await ledger.close()
        await bus.close()
        raise ConfigError(
            "SAS_DRILL : cette base est celle d'un exercice, elle ne sert à rien d'autre."
            if not settings.drill
            else "SAS_DRILL : cette base a des données réelles ; un exercice a la sienne."
        )
    publishing = vital(relay.run())
    try:
        yield Stores(ledger, bus, relay, clock, ids)
    finally:
        await relay.flush()
        publishing.cancel()
        await asyncio.gather(publishing, return_exceptions=True)
        await relay.forget_published()
        await ledger.close()
        await bus.close()


def territories_of(settings: Settings, geography: Gazetteer) -> list[str]:
    """Return the territories that this service decides for.

    Raises:
        ConfigError: one does not exist.
    """
    wanted = settings.territories or tuple(sorted(geography.territories))
    for code in wanted:
        if code not in geography.territories:
            raise ConfigError(f"SAS_TERRITORIES : « {code} » n'est pas un département.")
    return list(wanted)
