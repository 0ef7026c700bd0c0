"""After a crash of Redis nobody takes its streams for whole: no epoch, no history, until a new epoch begins.

Its append-only file is flushed every second, and may lack what was acknowledged last.
"""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from adapters.embedded import ValkeyServer, start_valkey
from adapters.redis import RedisBus
from sas_matcher.api.auth import Caller
from sas_matcher.api.hub import Hub, Subscriber
from sas_matcher.domain.vocabulary import Role
from sas_matcher.ports.ledger import Announcement

REGULATOR = Caller("key", "SAS", Role.REGULATOR, frozenset({"69"}), frozenset(), frozenset(), "key")


@pytest.fixture
def server() -> Iterator[ValkeyServer]:
    """A durable Valkey of this test's own, to be killed."""
    folder = Path(tempfile.mkdtemp(prefix="sas-test-"))
    running = start_valkey(folder)
    yield running
    running.stop()
    shutil.rmtree(folder)


@pytest.fixture
async def bus(server: ValkeyServer) -> AsyncIterator[RedisBus]:
    opened = RedisBus.connect(server.url)
    yield opened
    await opened.close()


class PutBack:
    """The machine's clock, or what it shows once somebody has put it back."""

    behind = timedelta()

    def now(self) -> datetime:
        return datetime.now(UTC) - self.behind


@pytest.fixture
def clock() -> PutBack:
    return PutBack()


@pytest.fixture
async def hub(bus: RedisBus, clock: PutBack) -> AsyncIterator[Hub]:
    """A hub in epoch "first", with three events before its time and none since."""
    await bus.begin_epoch("first")
    await bus.publish([event(version) for version in (1, 2, 3)])
    ledger: Any = None  # no caller waits for a decision here
    opened = Hub(bus, ledger, clock)
    following = asyncio.create_task(opened.run())
    await asyncio.wait_for(opened.started.wait(), 5)
    yield opened
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)


def event(version: int) -> Announcement:
    at = datetime(2026, 11, 23, 14, tzinfo=UTC)
    return Announcement(version, at, "69", "events", "request.held", "request", version, "key", (), '{"version":1}')


async def said_to(subscriber: Subscriber) -> dict[str, Any]:
    message = await asyncio.wait_for(subscriber.queue.get(), 5)
    assert message is not None
    told: dict[str, Any] = orjson.loads(message)
    return told


async def test_the_hub_hears_of_a_restart_though_the_clock_was_put_back(
    hub: Hub, bus: RedisBus, server: ValkeyServer, clock: PutBack
) -> None:
    subscriber = Subscriber(REGULATOR)
    hub.join(subscriber)
    await asyncio.sleep(0.3)  # the hub has looked, by the clock as it was
    clock.behind = timedelta(hours=12)
    server.kill()
    server.start()
    await bus.begin_epoch("second")
    assert (await said_to(subscriber))["type"] == "gap"


async def test_a_restarted_server_has_no_epoch_until_one_begins(bus: RedisBus, server: ValkeyServer) -> None:
    await bus.begin_epoch("first")
    server.kill()
    server.start()
    assert await bus.epoch() is None
    assert await bus.begin_epoch("second") == "second"
    assert await bus.epoch() == "second"


async def test_history_of_a_restarted_server_is_a_gap(hub: Hub, server: ValkeyServer) -> None:
    """Before anybody has begun a new epoch: a socket that resumes just then must not miss what the crash took."""
    whole = await hub.history(REGULATOR, "0-0", hub.position)
    assert whole is not None and len(whole) == 3
    server.kill()
    server.start()
    assert await hub.history(REGULATOR, "0-0", hub.position) is None


async def test_sockets_hear_of_the_gap_and_then_only_what_is_new(hub: Hub, bus: RedisBus, server: ValkeyServer) -> None:
    """What the streams still hold from before is not sent again."""
    subscriber = Subscriber(REGULATOR)
    hub.join(subscriber)
    before = hub.position
    server.kill()
    server.start()
    await bus.begin_epoch("second")
    gap = await said_to(subscriber)
    assert (gap["type"], gap["epoch"], gap["offset"]) == ("gap", "second", before)
    await bus.publish([event(4)])
    told = await said_to(subscriber)
    assert (told["type"], told["epoch"], told["version"]) == ("event", "second", 4)
    assert subscriber.queue.empty()
