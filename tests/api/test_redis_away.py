"""An API worker that starts while Redis is away: requests are committed, and decided and told when it comes."""

import asyncio
import time
from datetime import timedelta
from pathlib import Path

import orjson

from adapters.embedded import start_valkey
from sas_matcher.api.auth import caller_of
from sas_matcher.api.hub import Subscriber
from tests.api.conftest import settings_for
from tests.api.running import next_spot, run_service, slot, wish


async def test_a_worker_starts_without_redis_and_tells_once_it_comes(database_url: str, tmp_path: Path) -> None:
    folder = tmp_path / "valkey"
    valkey = start_valkey(folder, durable=False)
    valkey.stop()
    began = time.monotonic()
    async with run_service(settings_for(database_url, valkey.url), with_core=False) as service:
        assert time.monotonic() - began < 15, "calls wait while a worker starts"
        spot, hub = next_spot(service.geography), service.app.state.wire.hub
        regulator, practice = await service.regulator(), await service.practice()
        hours = [service.clock.now() + timedelta(hours=hour) for hour in (2, 3)]
        await practice.publish(*(slot(spot, hour) for hour in hours))
        answer = await regulator.post("/v1/requests", wish(spot))
        assert (answer.status_code, answer.json()["status"]) == (202, "waiting")
        assert (await service.rows("select status from request"))[0]["status"] == "waiting"
        record = await service.stores.ledger.key(regulator.key_id)
        assert record is not None
        early = Subscriber(caller_of(record))  # as a page's socket, which needs no ticket
        hub.join(early)
        valkey = start_valkey(folder, durable=False)
        try:
            await service.start_core()
            async with asyncio.timeout(20):
                told = await early.queue.get()
            assert told is not None and orjson.loads(told)["type"] == "gap", "what it missed is to be read"
            await regulator.until(answer.json()["request_id"], lambda document: document["status"] == "held")
            async with await regulator.listen() as listener:
                second = await regulator.post("/v1/requests", wish(spot))
                assert (second.status_code, second.json()["status"]) == (201, "held")
                await listener.event("request.held", request_id=second.json()["request_id"])
        finally:
            await service.stop_core()
            valkey.stop()
