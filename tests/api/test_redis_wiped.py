"""Law 4: Redis can be wiped at any moment. Serving goes on, mirror and streams return, nothing acknowledged is lost."""

import asyncio
import random
from datetime import timedelta
from typing import Any

import orjson

from adapters.redis import keys
from tests.api.running import Caller, Running, eventually, next_spot, slot, wish

WIPES = 4


async def wipe(service: Running) -> None:
    """Forget everything, the scripts too, as a fresh server would."""
    redis = service.stores.bus.redis
    await redis.flushall()
    await redis.script_flush()


async def mirror_is_whole(service: Running) -> bool:
    """Compare what Redis shows with what the ledger knows, for every territory."""
    ledger, redis = service.stores.ledger, service.stores.bus.redis
    now = service.clock.now()
    for territory in await ledger.live_territories(now):
        rows = {row["id"]: row for row in await ledger.live_records(now, territory)}
        places = {int(key): orjson.loads(text) for key, text in (await redis.hgetall(keys.places(territory))).items()}
        left = {int(key): int(text.split()[0]) for key, text in (await redis.hgetall(keys.left(territory))).items()}
        if {name: place["version"] for name, place in places.items()} != {n: row["version"] for n, row in rows.items()}:
            return False
        if any(left.get(name) != row["left"] for name, row in rows.items()):
            return False
        if await redis.zcard(keys.by_start(territory)) != len(rows):
            return False
        if await redis.get(keys.ready(territory)) != await redis.get(keys.EPOCH):
            return False
    return True


async def test_wiped_under_traffic_nothing_acknowledged_is_lost(alone: Running) -> None:
    service, chance = alone, random.Random(4)
    spot = next_spot(service.geography)
    practice = await service.practice()
    acknowledged: set[str] = set()
    confirmed: dict[str, str] = {}
    statuses: list[int] = []
    over = asyncio.Event()

    async def publish() -> None:
        number = 0
        while not over.is_set():
            number += 1
            start = service.clock.now() + timedelta(minutes=60 + number)
            (slot_id,) = await practice.publish(slot(spot, start, capacity=40, lasting=120))
            acknowledged.add(str(slot_id))
            await asyncio.sleep(0.05)

    async def regulate(caller: Caller) -> None:
        while not over.is_set():
            answer = await caller.post("/v1/requests", wish(spot))
            statuses.append(answer.status_code)
            document = answer.json()
            if document["status"] == "held":
                firm = await caller.act("confirm", document["request_id"])
                confirmed[document["request_id"]] = firm["booking"]["booking_id"]
            await asyncio.sleep(chance.uniform(0, 0.03))

    regulators = [await service.regulator() for _ in range(3)]
    working = [asyncio.create_task(publish()), *(asyncio.create_task(regulate(caller)) for caller in regulators)]
    async with await regulators[0].listen() as listener:
        epochs = {listener.welcome["epoch"]}
        for number in range(WIPES):
            await asyncio.sleep(chance.uniform(0.3, 0.8))
            before = len(statuses)
            await wipe(service)
            await eventually(lambda number=number: len(_gaps(listener.messages)) == number + 1)
            await eventually(lambda before=before: len(statuses) >= before + 10)  # and serving goes on
            assert not any(task.done() for task in working), [task.exception() for task in working if task.done()]
        over.set()
        await asyncio.gather(*working)
        gaps = _gaps(listener.messages)
        assert {gap["reason"] for gap in gaps} == {"stream_wiped"}
        assert len({gap["epoch"] for gap in gaps} | epochs) == WIPES + 1, "a new epoch each time"
        # from the gap on, all comes again
        held = await regulators[0].ask(wish(spot))
        await listener.event("request.held", request_id=held["request_id"])

    assert set(statuses) <= {201, 202} and statuses.count(201) > 30
    assert len(confirmed) > 30
    rows = await service.rows("select id, request_id, state from booking where state = 'firm' and ended_at is null")
    assert {str(row["request_id"]): str(row["id"]) for row in rows} == confirmed
    kept = {str(row["id"]) for row in await service.rows("select id from slot where status = 'open'")}
    assert acknowledged <= kept
    assert set((await service.stores.ledger.doubles()).values()) == {0}
    await eventually(lambda: mirror_is_whole(service))


def _gaps(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [message for message in messages if message["type"] == "gap"]


async def test_a_position_from_before_the_wipe_is_a_gap(alone: Running) -> None:
    regulator = await alone.regulator()
    async with await regulator.listen() as first:
        position = {"epoch": first.welcome["epoch"], "offset": first.welcome["offset"]}
    await wipe(alone)
    await eventually(lambda: alone.app.state.wire.hub.epoch != position["epoch"])
    async with await regulator.listen(position) as second:
        assert second.welcome["epoch"] != position["epoch"]
        await eventually(lambda: second.messages)
        assert [message["type"] for message in second.messages] == ["gap"]
        assert second.messages[0]["epoch"] == second.welcome["epoch"]


async def test_a_request_whose_news_was_wiped_is_decided_all_the_same(alone: Running) -> None:
    """Committed, published to the stream, wiped before the matcher has read it."""
    spot = next_spot(alone.geography)
    regulator, practice = await alone.regulator(), await alone.practice()
    (slot_id,) = await practice.publish(slot(spot, alone.clock.now() + timedelta(hours=1)))
    await alone.stop_core()
    answer = await regulator.post("/v1/requests", wish(spot))
    assert answer.status_code == 202
    await wipe(alone)
    await alone.start_core()
    document = await regulator.until(answer.json()["request_id"], lambda d: d["status"] == "held")
    assert document["decision"]["place"]["slot_id"] == slot_id
    await eventually(lambda: mirror_is_whole(alone))


async def test_while_redis_refuses_writes_requests_are_decided_and_readiness_says_so(alone: Running) -> None:
    """It answers whoever reads (its disk is full, its replicas are gone): no error, and no news of anything."""
    redis, spot = alone.stores.bus.redis, next_spot(alone.geography)
    regulator, practice = await alone.regulator(), await alone.practice()
    (slot_id,) = await practice.publish(slot(spot, alone.clock.now() + timedelta(hours=1)))
    await eventually(lambda: redis.hexists(keys.left(spot.territory), str(slot_id)))
    await redis.config_set("min-replicas-to-write", 1)
    try:
        assert (await regulator.http.get("/readyz")).status_code == 503
        answer = await regulator.post("/v1/requests", wish(spot))
        assert answer.status_code == 202
        held = await regulator.until(answer.json()["request_id"], lambda d: d["status"] == "held")
        assert held["decision"]["place"]["slot_id"] == slot_id
        # what is published meanwhile is not known to the matcher, nor lost
        (later,) = await practice.publish(slot(spot, alone.clock.now() + timedelta(hours=2)))
    finally:
        await redis.config_set("min-replicas-to-write", 0)
    answer = await regulator.post("/v1/requests", wish(spot))
    held = await regulator.until(answer.json()["request_id"], lambda d: d["status"] == "held")
    assert held["decision"]["place"]["slot_id"] == later
    assert (await regulator.http.get("/readyz")).status_code == 200
