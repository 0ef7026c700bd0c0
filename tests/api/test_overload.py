"""Overload at the front door, on real servers: others are told when to come back, and nothing of theirs is written."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.api.conftest import settings_for
from tests.api.running import Caller, Running, eventually, next_spot, run_service, wish
from tests.api.test_bad_input import problem
from tests.conftest import Servers


@pytest.fixture(scope="module")
async def narrow(servers: Servers) -> AsyncIterator[Running]:
    """A service that works on one request at a time, and lets one wait; nobody decides, so that each takes its 2 s."""
    database_url = servers.new_database()
    settings = settings_for(database_url, servers.new_redis(), at_once=1, waiting_room=1)
    async with run_service(settings, with_core=False) as running:
        yield running
    servers.drop_database(database_url)


async def test_the_least_urgent_is_refused_and_comes_back_under_the_same_key(narrow: Running) -> None:
    spot = next_spot(narrow.geography)
    caller = await narrow.regulator()

    async def ask(delay: str, key: str) -> tuple[str, int]:
        return key, (await caller.post("/v1/requests", wish(spot, delay=delay), key=key)).status_code

    first = asyncio.create_task(ask("24H", "working-first"))
    admission = narrow.app.state.wire.admission
    await eventually(lambda: admission.working)
    waits = asyncio.create_task(ask("24H", "waits-second"))
    await eventually(lambda: admission.waiting)
    late = await caller.post("/v1/requests", wish(spot, delay="48H"), key="refused-third")
    refused = problem(late, 503, "overloaded")
    assert int(late.headers["retry-after"]) == refused["retry_after"] >= 1
    # an urgent one goes in beside them at once, and a confirmation is never held up
    urgent = asyncio.create_task(ask("1H", "urgent-fourth"))
    assert (await caller.get("/v1/requests")).status_code == 200
    answers = dict(await asyncio.gather(first, waits, urgent))
    assert (answers["working-first"], answers["urgent-fourth"]) == (202, 202)
    # who waited longer than a second was told; nothing of who was refused is written, whoever was answered is there
    assert answers["waits-second"] == 503
    kept = await narrow.rows("select key from idempotency where request_id is not null")
    assert {row["key"] for row in kept} == {"working-first", "urgent-fourth"}
    again = await caller.post("/v1/requests", wish(spot, delay="48H"), key="refused-third")
    assert again.status_code == 202 and "idempotent-replay" not in again.headers
    assert "sas_admission_total" in (await caller.get("/metrics")).text


async def test_whoever_may_not_ask_takes_nobodys_turn(narrow: Running) -> None:
    spot = next_spot(narrow.geography)
    before = narrow.app.state.wire.admission.working
    stranger: Caller = await narrow.practice()
    problem(await stranger.post("/v1/requests", wish(spot)), 403, "not_allowed")
    assert narrow.app.state.wire.admission.working == before
