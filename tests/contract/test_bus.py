"""The bus and mirror on every server of the family (Valkey from the wheel, Debian's Redis where it is installed) and on
the twin in memory.
"""

import asyncio
import random
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from datetime import UTC, datetime
from itertools import permutations
from pathlib import Path
from typing import Any

import orjson
import pytest

from adapters.embedded import ValkeyServer, start_valkey
from adapters.embedded.cluster import ValkeyCluster
from adapters.memory import MemoryBus
from adapters.redis import RedisBus, keys
from sas_matcher.domain.errors import UnavailableError
from sas_matcher.ports.bus import BATCHES_STREAM, EVENTS_STREAM, PLACES_STREAM, REQUESTS_STREAM
from sas_matcher.ports.ledger import Announcement
from tests.ledger_cases import NOW, StillClock

DEBIAN_REDIS = Path("/usr/bin/redis-server")
START = int(NOW.timestamp()) + 3600


# Of a test that is about the servers themselves: their scripts, their failures, their clients.
servers_only = pytest.mark.parametrize("server", ["valkey", "redis"], indirect=True)
AnyBus = RedisBus | MemoryBus


@pytest.fixture(scope="module", params=["valkey", "redis", "cluster", "memory"])
def server(request: pytest.FixtureRequest) -> Iterator[ValkeyServer | ValkeyCluster | None]:
    """A server of this module's own, that tests may kill; None for the twin in memory."""
    if request.param == "memory":
        yield None
        return
    if request.param == "cluster":
        nodes = Path(tempfile.mkdtemp(prefix="sas-test-"))
        joined = ValkeyCluster(nodes / "c", durable=False)
        yield joined.start()
        joined.stop()
        shutil.rmtree(nodes)
        return
    binary = None
    if request.param == "redis":
        if not DEBIAN_REDIS.exists():
            pytest.skip(f"NOT TESTED ON REDIS ITSELF: {DEBIAN_REDIS} is not installed (Debian: redis-server)")
        binary = DEBIAN_REDIS
    folder = Path(tempfile.mkdtemp(prefix="sas-test-"))
    started = start_valkey(folder / "s", durable=False, binary=binary)
    yield started
    started.stop()
    shutil.rmtree(folder)


@pytest.fixture
async def bus(server: ValkeyServer | ValkeyCluster | None) -> AsyncIterator[AnyBus]:
    """A bus on a flushed server, or a new one in memory."""
    if server is None:
        yield MemoryBus(StillClock(datetime.now(UTC)))
        return
    opened = RedisBus.connect(server.url)
    await opened.redis.flushall()
    await opened.redis.script_flush()
    yield opened
    await opened.close()


def said(stream: str, kind: str, data: Any, *, number: int = 1, version: int = 0) -> Announcement:
    """Return an announcement of territory 69."""
    text = data if isinstance(data, str) else orjson.dumps(data).decode()
    return Announcement(number, NOW, "69", stream, kind, "r1", version, "key", ("src:a", "p:8"), text)


def published(slot: int, version: int, left: int, label: str = "", start: int = 3600) -> Announcement:
    """Return a published place."""
    when = f"2026-11-23T{8 + start // 3600:02}:00:00+00:00"
    record = {"slot_id": slot, "start": when, "label": label, "version": version}
    return said("places", "published", [[record, left]])


def state(slot: int, version: int, left: int) -> Announcement:
    """Return the seats left of a place."""
    return said("places", "state", [[slot, left, version]])


def gone(slot: int, version: int) -> Announcement:
    """Return a place withdrawn."""
    return said("places", "gone", [[slot, version]])


async def wipe(bus: AnyBus) -> None:
    """Lose everything."""
    if isinstance(bus, MemoryBus):
        bus.wipe()
    else:
        await bus.redis.flushdb()


async def trim(bus: AnyBus, stream: str, length: int) -> None:
    """Drop the oldest entries of a stream."""
    if isinstance(bus, MemoryBus):
        bus.trim(stream, length)
    else:
        await bus.redis.xtrim(stream, maxlen=length, approximate=False)


async def length(bus: AnyBus, stream: str) -> int:
    """Return how many entries of a stream are kept."""
    return len(bus.streams[stream].entries) if isinstance(bus, MemoryBus) else int(await bus.redis.xlen(stream))


async def remembered(bus: AnyBus) -> set[int]:
    """Return the slots of which the mirror knows the seats, with or without a record."""
    if isinstance(bus, MemoryBus):
        return set(bus.mirrors["69"].seats)
    return {int(slot) for slot in await bus.redis.hgetall(keys.left("69"))}


async def traces(bus: AnyBus) -> dict[int, float]:
    """Return until when (epoch seconds) slots without a record are remembered."""
    if isinstance(bus, MemoryBus):
        return dict(bus.mirrors["69"].traces)
    scores: Any = await bus.redis.zrange(keys.traces("69"), 0, -1, withscores=True)
    return {int(slot): score for slot, score in scores}


async def age(bus: AnyBus, slots: Iterable[int]) -> None:
    """Let the traces of some slots be over."""
    if isinstance(bus, MemoryBus):
        bus.mirrors["69"].traces.update(dict.fromkeys(slots, 1.0))
    else:
        await bus.redis.zadd(keys.traces("69"), {str(slot): 1.0 for slot in slots})


async def starts(bus: AnyBus) -> dict[int, int]:
    """Return when (epoch seconds) the mirror's places start."""
    if isinstance(bus, MemoryBus):
        return dict(bus.mirrors["69"].starts) if "69" in bus.mirrors else {}
    scores: Any = await bus.redis.zrange(keys.by_start("69"), 0, -1, withscores=True)
    return {int(slot): int(score) for slot, score in scores}


async def mirror(bus: AnyBus) -> dict[int, tuple[str, int, int]]:
    """Return what a reader of the mirror sees: {slot: (label, record version, seats left)}."""
    if isinstance(bus, MemoryBus):
        known = bus.mirrors.get("69")
        records = known.records if known else {}
        left = {slot: seats.left for slot, seats in known.seats.items()} if known else {}
    else:
        texts = await bus.redis.hgetall(keys.places("69"))
        records = {int(slot): orjson.loads(text) for slot, text in texts.items()}
        counts = await bus.redis.hgetall(keys.left("69"))
        left = {int(slot): int(text.split()[0]) for slot, text in counts.items()}
    assert set(await starts(bus)) == set(records)
    return {slot: (record["label"], record["version"], left[slot]) for slot, record in records.items()}


# -- streams ------------------------------------------------------------------------------------------------------


async def test_each_stream_carries_what_its_readers_need(bus: AnyBus) -> None:
    tails = await bus.tails([EVENTS_STREAM, REQUESTS_STREAM, PLACES_STREAM])
    assert set(tails.values()) == {"0-0"}
    events = [said("events", "request.held", {"n": n}, number=n, version=n) for n in range(3)]
    await bus.publish([*events, said("requests", "open", "{}", version=4), published(1, 5, 2)])
    entries = await bus.read(tails, block_ms=100)
    assert [(e.stream, e.fields[b"type"]) for e in entries if e.stream != PLACES_STREAM] == [
        (EVENTS_STREAM, b"request.held")
    ] * 3 + [(REQUESTS_STREAM, b"open")]
    event = entries[1].fields
    assert {name.decode(): value.decode() for name, value in event.items()} == {
        "territory": "69",
        "id": "1",
        "type": "request.held",
        "aggregate": "r1",
        "version": "1",
        "owner": "key",
        "audience": "src:a p:8",
        "data": '{"n":1}',
    }
    request = entries[3].fields
    assert (request[b"request"], request[b"version"], request[b"territory"]) == (b"r1", b"4", b"69")
    place = entries[4].fields
    assert (place[b"kind"], place[b"territory"]) == (b"published", b"69")
    assert orjson.loads(place[b"data"])[0][1] == 2
    last = {e.stream: e.id for e in entries}
    assert await bus.tails(tails) == last
    await bus.publish([said("batches", "batch", {"t": 1}, number=0)])
    (batch,) = await bus.read({BATCHES_STREAM: "0-0"}, block_ms=100)
    assert batch.fields == {b"data": b'{"t":1}'}
    assert await bus.read(last, block_ms=1) == []


async def test_a_reader_waits_for_what_comes(bus: AnyBus) -> None:
    reading = asyncio.create_task(bus.read({EVENTS_STREAM: "0-0"}, block_ms=2000))
    await asyncio.sleep(0.05)
    other = bus if isinstance(bus, MemoryBus) else RedisBus(bus.redis)
    await other.publish([said("events", "x", "{}")])
    assert len(await reading) == 1


async def test_a_range_is_open_at_its_start_and_closed_at_its_end(bus: AnyBus) -> None:
    await bus.publish([said("events", "x", "{}", number=n) for n in range(5)])
    entries = await bus.read({EVENTS_STREAM: "0-0"}, block_ms=1)
    ids = [e.id for e in entries]
    assert [e.id for e in await bus.range(EVENTS_STREAM, ids[0], ids[3], 10)] == ids[1:4]
    assert [e.id for e in await bus.range(EVENTS_STREAM, "0-0", "+", 2)] == ids[:2]


async def test_a_gap_is_known(bus: AnyBus) -> None:
    assert await bus.has_all_since(EVENTS_STREAM, "0-0")
    assert not await bus.has_all_since(EVENTS_STREAM, "5-0")
    await bus.publish([said("events", "x", "{}", number=n) for n in range(6)])
    ids = [e.id for e in await bus.read({EVENTS_STREAM: "0-0"}, block_ms=1)]
    assert await bus.has_all_since(EVENTS_STREAM, "0-0")
    assert all([await bus.has_all_since(EVENTS_STREAM, entry) for entry in ids])
    assert not await bus.has_all_since(EVENTS_STREAM, "99999999999999-0")
    await trim(bus, EVENTS_STREAM, 3)
    known = [await bus.has_all_since(EVENTS_STREAM, entry) for entry in ids]
    assert known == [False, False, False, True, True, True]
    await wipe(bus)
    assert not await bus.has_all_since(EVENTS_STREAM, ids[-1])


async def test_the_log_is_bounded(bus: AnyBus) -> None:
    for _ in range(5):
        await bus.publish([state(1, 1, 1)] * 1000)
    assert 2_000 <= await length(bus, PLACES_STREAM) < 2_200


async def test_nothing_to_publish_is_fine(bus: AnyBus) -> None:
    await bus.publish([])
    assert await bus.ready_for([]) == []


# -- the mirror ---------------------------------------------------------------------------------------------------


async def test_a_place_lives_in_the_mirror(bus: AnyBus) -> None:
    await bus.publish([published(1, 10, 3, "a"), published(2, 11, 1, "b"), state(1, 12, 2)])
    assert await mirror(bus) == {1: ("a", 10, 2), 2: ("b", 11, 1)}
    assert (await starts(bus))[1] == START
    await bus.publish([published(1, 13, 5, "a2"), gone(2, 14)])
    assert await mirror(bus) == {1: ("a2", 13, 5)}


HISTORIES: list[tuple[list[Announcement], dict[int, tuple[str, int, int]]]] = [
    ([published(1, 1, 2), state(1, 2, 1), state(1, 3, 0)], {1: ("", 1, 0)}),
    ([published(1, 1, 2, "old"), state(1, 2, 1), published(1, 3, 4, "new")], {1: ("new", 3, 4)}),
    ([published(1, 1, 2, "old"), published(1, 2, 4, "new"), state(1, 3, 3)], {1: ("new", 2, 3)}),
    # below zero: the practice offers fewer than are given
    ([published(1, 1, 2, "old"), published(1, 2, -1, "new"), state(1, 3, -2)], {1: ("new", 2, -2)}),
    ([published(1, 1, 2), state(1, 2, 1), gone(1, 3)], {}),
    ([published(1, 1, 2), gone(1, 3), state(1, 4, 1)], {}),
    ([published(1, 1, 2, "old"), gone(1, 2), published(1, 3, 1, "again"), state(1, 4, 0)], {1: ("again", 3, 0)}),
]


@pytest.mark.parametrize(("history", "end"), HISTORIES)
async def test_whatever_comes_late_or_twice_the_end_is_the_same(
    bus: AnyBus, history: list[Announcement], end: dict[int, tuple[str, int, int]]
) -> None:
    """Writers publish by themselves, a crashed one's news come a second later: every order must end alike."""
    for order in permutations(history):
        await wipe(bus)
        await bus.publish(order)
        assert await mirror(bus) == end, [(a.type, a.data) for a in order]
        await bus.publish(order[:2])
        assert await mirror(bus) == end


async def test_news_during_a_rebuild_win_over_its_snapshot(bus: AnyBus) -> None:
    rows = [
        {"id": n, "version": n, "left": 1, "start": START, "record": orjson.dumps({"label": "", "version": n})}
        for n in range(1, 4)
    ]
    fill = bus.fill("69", "e1", rows)
    await asyncio.gather(fill, bus.publish([state(1, 10, 0)]), bus.publish([gone(2, 11)]))
    assert await bus.ready_for(["69", "01"]) == ["e1", None]
    await bus.publish([state(1, 10, 0), gone(2, 11)])
    assert await mirror(bus) == {1: ("", 1, 0), 3: ("", 3, 1)}


async def test_a_rebuild_drops_what_is_no_longer_there(bus: AnyBus) -> None:
    await bus.publish([published(1, 5, 1), published(2, 6, 1)])
    await bus.clear("69")
    assert await mirror(bus) == {} and await bus.ready_for(["69"]) == [None]
    await bus.fill(
        "69", "e2", [{"id": 2, "version": 6, "left": 0, "start": START, "record": b'{"label":"","version":6}'}]
    )
    assert await mirror(bus) == {2: ("", 6, 0)}


async def test_a_large_territory_is_filled_in_portions(bus: AnyBus) -> None:
    rows = [
        {"id": n, "version": n, "left": 1, "start": START, "record": b'{"label":"","version":1}'}
        for n in range(1, 1202)
    ]
    await bus.fill("69", "e1", rows)
    assert len(await mirror(bus)) == 1201


async def test_started_places_are_dropped(bus: AnyBus) -> None:
    await bus.publish([published(1, 1, 1, start=3600), published(2, 2, 1, start=7200)])
    assert await bus.drop_past("69", START) == 0
    assert await bus.drop_past("69", START + 1) == 1
    assert set(await mirror(bus)) == {2}
    assert await remembered(bus) == {2}


async def test_traces_of_withdrawn_places_are_forgotten_in_the_end(bus: AnyBus) -> None:
    await bus.publish(
        [published(1, 1, 1), gone(1, 2), state(7, 3, 1), published(8, 4, 1), gone(8, 5), published(8, 6, 1)]
    )
    assert await remembered(bus) == {1, 7, 8}
    ends = await traces(bus)
    assert set(ends) == {1, 7}
    assert all(time.time() + 3500 < end < time.time() + 3700 for end in ends.values())
    await age(bus, ends)
    await bus.publish([state(8, 7, 0)])
    assert await remembered(bus) == {8}
    assert await traces(bus) == {}


@servers_only
async def test_a_territory_shares_one_cluster_slot(bus: RedisBus) -> None:
    names = [make("69") for make in (keys.places, keys.left, keys.by_start, keys.traces, keys.ready)]
    assert len({name[name.index("{") : name.index("}")] for name in names}) == 1


# -- wipes, restarts, failures ------------------------------------------------------------------------------------


async def test_an_epoch_lasts_until_a_wipe(bus: AnyBus) -> None:
    assert await bus.epoch() is None
    assert await bus.begin_epoch("e1") == "e1"
    assert await bus.begin_epoch("e2") == "e1"
    assert await bus.epoch() == "e1"
    await wipe(bus)
    assert await bus.epoch() is None
    begun = await asyncio.gather(*(bus.begin_epoch(f"k{n}") for n in range(20)))
    assert set(begun) == {await bus.epoch()}


@servers_only
async def test_a_wipe_costs_the_script_and_nothing_else(bus: RedisBus) -> None:
    await bus.publish([published(1, 1, 1)])
    await bus.redis.flushall()
    await bus.redis.script_flush()
    await bus.publish([published(1, 2, 1), said("events", "x", "{}"), state(1, 3, 0), published(2, 4, 1)])
    assert await mirror(bus) == {1: ("", 2, 0), 2: ("", 4, 1)}
    assert await bus.redis.xlen(PLACES_STREAM) == 3
    assert await bus.redis.xlen(EVENTS_STREAM) == 1


def _calls(bus: RedisBus) -> list[Callable[[], Awaitable[object]]]:
    return [
        bus.ping,
        lambda: bus.publish([said("events", "x", "{}")]),
        lambda: bus.read({EVENTS_STREAM: "0-0"}, block_ms=1),
        lambda: bus.range(EVENTS_STREAM, "0-0", "+", 1),
        lambda: bus.tails([EVENTS_STREAM]),
        lambda: bus.has_all_since(EVENTS_STREAM, "0-0"),
        bus.epoch,
        lambda: bus.begin_epoch("e"),
        lambda: bus.fill("69", "e", []),
        lambda: bus.ready_for(["69"]),
        lambda: bus.drop_past("69", 0),
    ]


@servers_only
async def test_a_server_that_is_away_is_told_as_such_and_used_when_it_is_back(
    bus: RedisBus, server: ValkeyServer
) -> None:
    await bus.begin_epoch("before")
    server.kill()
    try:
        for call in _calls(bus):
            with pytest.raises(UnavailableError):
                await call()
    finally:
        server.start()
    for call in _calls(bus):
        await call()
    assert await bus.epoch() == "e"


@servers_only
async def test_a_task_that_is_told_to_stop_stops(bus: RedisBus) -> None:
    """Whatever moment of a call it is told in: asyncio before 3.12 forgets it in some."""
    chance = random.Random(1)
    await bus.begin_epoch("e")
    for call in [call for call in _calls(bus) for _ in range(60)]:
        task = asyncio.create_task(_forever(call))
        for _ in range(chance.randint(1, 40)):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task], timeout=1)
        assert task.cancelled()


async def _forever(call: Callable[[], Awaitable[object]]) -> None:
    while True:
        await call()


async def test_a_call_in_a_cancelled_tasks_cleanup_works(bus: AnyBus) -> None:
    async def work() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await bus.begin_epoch("cleaned")

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task], timeout=1)
    assert task.cancelled()
    assert await bus.epoch() == "cleaned"


@servers_only
async def test_a_server_that_takes_no_writes_counts_as_away(bus: RedisBus) -> None:
    await bus.publish([published(1, 1, 1)])
    await bus.redis.config_set("maxmemory", "1")
    try:
        with pytest.raises(UnavailableError):
            await bus.publish([said("events", "x", "{}")])
        with pytest.raises(UnavailableError):
            await bus.publish([state(1, 2, 0)])
    finally:
        await bus.redis.config_set("maxmemory", "0")
    await bus.redis.execute_command("REPLICAOF", "127.0.0.1", "1")
    try:
        with pytest.raises(UnavailableError):
            await bus.publish([said("events", "x", "{}")])
    finally:
        await bus.redis.execute_command("REPLICAOF", "NO", "ONE")
    await bus.publish([state(1, 3, 0)])
    assert await mirror(bus) == {1: ("", 1, 0)}


@servers_only
async def test_what_is_kept_once_is_taken_once_by_whoever_comes_first(server: ValkeyServer, bus: RedisBus) -> None:
    """Two workers share what was kept; it expires by itself, and nothing else of the bus sees it."""
    other = RedisBus.connect(server.url)
    await bus.keep_once("ticket:a", "key 12.5", 30)
    taken = await asyncio.gather(*(worker.take_once("ticket:a") for worker in (bus, other, bus, other)))
    assert sorted(taken, key=str) == [None, None, None, "key 12.5"]
    assert await bus.take_once("ticket:never") is None
    await bus.keep_once("ticket:b", "key", 30)
    assert 0 < await bus.redis.ttl(keys.once("ticket:b")) <= 30
    await other.close()
