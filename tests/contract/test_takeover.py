"""A core that replaces a killed one of the same name decides at once, and what the dead one still had is fenced."""

import asyncio
from datetime import UTC

import pytest

from adapters.postgres.ledger import PostgresLedger
from adapters.redis import RedisBus
from adapters.system import SystemClock, SystemIds
from sas_matcher.domain.errors import FencedError
from sas_matcher.domain.lifecycle import ClaimKind
from sas_matcher.ports.ledger import Claim
from sas_matcher.services.matcher.holding import LEASE_S
from sas_matcher.services.matcher.match import Matcher


async def test_the_successor_of_a_killed_core_has_its_territories_with_new_fences(
    ledger: PostgresLedger, bus: RedisBus
) -> None:
    """It does not wait for the leases to run out, which takes ten seconds."""
    killed = await ledger.take_leases("core of this service", ["69"], LEASE_S)
    clock, ids = SystemClock(), SystemIds()
    successor = Matcher(
        ledger=ledger,
        bus=bus,
        clock=clock,
        ids=ids,
        holder="core of this service",
        territories=["69"],
        zone_of=lambda _: UTC,
        landmass_of=lambda _: 0,
    )
    running = asyncio.create_task(successor.run())
    try:
        await asyncio.wait_for(successor.ready.wait(), LEASE_S / 2)
        now = await ledger.take_leases("core of this service", ["69"], LEASE_S)
        assert now["69"] > killed["69"]
        late = Claim(ids.uuid(), None, ids.uuid(), clock.now(), "{}", ClaimKind.NONE)
        with pytest.raises(FencedError):
            await ledger.claim(clock.now(), killed, [late])
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
