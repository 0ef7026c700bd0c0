"""The relay: who publishes what, and when another may take over."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from sas_matcher.domain.errors import UnavailableError
from sas_matcher.ports.bus import Bus
from sas_matcher.ports.ledger import Announcement, Ledger
from sas_matcher.services import relay as relaying
from sas_matcher.services.relay import Relay

NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)


class Store:
    """An outbox, a bus that notes what is published in each round trip, and a clock that stands."""

    def __init__(self, outbox: Sequence[Announcement]) -> None:
        self.outbox = list(outbox)
        self.trips: list[list[int]] = []

    def now(self) -> datetime:
        """The present."""
        return NOW

    async def publish(self, announcements: Sequence[Announcement]) -> None:
        """One round trip."""
        self.trips.append([a.id for a in announcements])

    async def leftovers(self, before: datetime, limit: int) -> list[Announcement]:
        """Rows older than an instant."""
        return [a for a in self.outbox if a.at < before][:limit]

    async def mark_published(self, ids: Sequence[int]) -> None:
        """Rows that are done."""
        self.outbox = [a for a in self.outbox if a.id not in ids]


def said(number: int, ago_s: float, size: int = 10) -> Announcement:
    return Announcement(number, NOW - timedelta(seconds=ago_s), "69", "places", "published", "", 0, "", (), "x" * size)


def relay_of(store: Store) -> Relay:
    relay = Relay(cast(Bus, store), cast(Any, store))
    relay.ledger = cast(Ledger, store)
    return relay


async def test_a_bulk_that_its_writer_still_publishes_is_not_swept() -> None:
    """Ten thousand places take close to two seconds from their instant to their last announcement."""
    store = Store([said(1, 2.0), said(2, 3.5)])
    assert await relay_of(store).sweep() == 1
    assert store.trips == [[2]] and [a.id for a in store.outbox] == [1]


async def test_a_bulk_goes_out_in_parts_and_in_order() -> None:
    """So that the matcher takes in the first while the next is written; small news goes together."""
    store = Store([])
    relay = relay_of(store)
    relay.announce([said(number, 0, 200_000) for number in range(5)] + [said(number, 0) for number in range(5, 9)])
    trips = []
    while batch := relay._next_batch():
        trips.append([a.id for a in batch])
    assert trips == [[0, 1, 2], [3, 4, 5, 6, 7, 8]]


async def test_what_was_announced_before_the_end_is_published_though_the_bus_takes_its_time() -> None:
    """What is no row of the outbox would be lost with the process."""
    slow = asyncio.Event()

    class Slow(Store):
        async def publish(self, announcements: Sequence[Announcement]) -> None:
            await slow.wait()
            await super().publish(announcements)

    store = Slow([])
    relay = relay_of(store)
    publishing = asyncio.create_task(relay.run())
    relay.announce([said(1, 0)])
    await asyncio.sleep(0)
    relay.announce([said(0, 0)])
    ending = asyncio.create_task(relay.flush())
    await asyncio.sleep(0)
    assert not ending.done() and store.trips == []
    slow.set()
    await ending
    assert [number for trip in store.trips for number in trip] == [1, 0]
    publishing.cancel()
    await asyncio.gather(publishing, return_exceptions=True)


async def test_a_slow_bus_does_not_fill_the_memory_of_who_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over the bound rows are left to the sweep, which finds them in the outbox; what is no row is kept."""
    monkeypatch.setattr(relaying, "MOST", 3)
    rows = [said(number, 10) for number in range(1, 6)]
    store = Store(rows)
    relay = Relay(cast(Bus, store), store)
    relay.ledger = cast(Ledger, store)
    relay.announce(rows)
    relay.announce([said(0, 10)])
    publishing = asyncio.create_task(relay.run())
    for _ in range(5):
        await asyncio.sleep(0)
    assert store.trips == [[1, 2, 3, 0]]
    publishing.cancel()
    await asyncio.gather(publishing, return_exceptions=True)
    await relay.forget_published()
    assert await relay.sweep() == 2
    assert (store.trips[-1], store.outbox) == ([4, 5], [])


@pytest.mark.faults("relay.row")
async def test_a_row_that_no_bus_takes_is_given_up_and_those_after_it_are_told() -> None:
    class Choosy(Store):
        async def publish(self, announcements: Sequence[Announcement]) -> None:
            if any(a.id == 2 for a in announcements):
                raise ValueError("unexpected")
            await super().publish(announcements)

    store = Choosy([said(number, 5) for number in (1, 2, 3)])
    assert await relay_of(store).sweep() == 3
    assert store.trips == [[1], [3]] and store.outbox == []


async def test_nothing_is_given_up_because_the_bus_is_away() -> None:
    class Away(Store):
        async def publish(self, announcements: Sequence[Announcement]) -> None:
            if len(announcements) > 1:
                raise ValueError("unexpected")
            raise UnavailableError("Redis ne répond pas.")

    store = Away([said(number, 5) for number in (1, 2)])
    with pytest.raises(UnavailableError):
        await relay_of(store).sweep()
    assert len(store.outbox) == 2
