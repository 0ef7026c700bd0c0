"""Websocket tickets among several API workers: the one that gives it is seldom the one that gets the socket."""

import pytest

from adapters.redis import RedisBus, keys
from sas_matcher.api.auth import Gate, Tickets, caller_of
from sas_matcher.domain.errors import NotAuthenticatedError
from tests.api.conftest import Scene


def workers(scene: Scene, bus: RedisBus, count: int = 2) -> list[Tickets]:
    """The tickets of several workers over one Redis and one ledger."""
    ledger, clock = scene.service.stores.ledger, scene.service.clock
    secrets = iter(f"{number:043d}" for number in range(1_000))
    gate = Gate(ledger, clock, rate=1e9, burst=1e9)
    return [Tickets(bus, gate, clock, lambda: next(secrets)) for _ in range(count)]


async def test_another_worker_redeems_a_ticket_and_only_once(scene: Scene) -> None:
    """Whoever redeems first; the key behind it is read afresh."""
    bus = scene.service.stores.bus
    one, two = workers(scene, bus)
    key_id = scene.regulator.token.split("_")[1]
    record = await scene.service.stores.ledger.key(key_id)
    assert record is not None
    ticket = await one.issue(caller_of(record))
    assert not [name async for name in bus.redis.scan_iter(match=f"*{ticket}*")], "Redis keeps a hash of it only"
    assert [name async for name in bus.redis.scan_iter(match=keys.once("ticket:*"))]
    caller = await two.redeem(ticket)
    assert caller == caller_of(record)
    for worker in (one, two):
        with pytest.raises(NotAuthenticatedError):
            await worker.redeem(ticket)


async def test_a_ticket_of_a_key_revoked_meanwhile_opens_nothing(scene: Scene) -> None:
    """The key is judged when the ticket is redeemed, not when it was given."""
    bus, ledger = scene.service.stores.bus, scene.service.stores.ledger
    (tickets,) = workers(scene, bus, 1)
    key_id = scene.regulator.token.split("_")[1]
    record = await ledger.key(key_id)
    assert record is not None
    ticket = await tickets.issue(caller_of(record))
    await ledger.revoke_key(key_id, scene.service.clock.now())
    with pytest.raises(NotAuthenticatedError):
        await tickets.redeem(ticket)
