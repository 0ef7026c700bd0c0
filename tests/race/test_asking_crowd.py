"""En sus under a crowd: all who were asked say yes at once while connections to the ledger are killed under them."""

import asyncio
import itertools
from collections import Counter
from contextlib import suppress
from typing import Final

import asyncpg
import orjson
import pytest

from adapters.postgres.ledger import PostgresLedger
from sas_matcher.domain.errors import UnavailableError
from sas_matcher.ports.ledger import Idempotency
from tests.asking_cases import HOLD, Asker
from tests.conftest import Recorder
from tests.ledger_cases import NOW, SOURCE, Desk, minutes, new_id

DOCTORS: Final = 200
REQUESTS: Final = 5  # 1 000 questions


async def _kill(url: str, done: asyncio.Event) -> int:
    """Kill the server process of one busy connection after another; returns how many died."""
    control = await asyncpg.connect(url)
    killed = 0
    while not done.is_set():
        killed += await control.fetchval(
            "select count(*) filter (where pg_terminate_backend(pid)) from (select pid from pg_stat_activity "
            "where datname = current_database() and pid <> pg_backend_pid() and state = 'active' limit 1) busy"
        )
        with suppress(TimeoutError):
            await asyncio.wait_for(done.wait(), 0.05)
    await control.close()
    return killed


async def _say_yes(asker: Asker, question_id: str, at: float) -> str:
    """Say yes under one Idempotency-Key until there is an answer."""
    once = Idempotency(SOURCE, new_id(), b"yes")
    arguments = (NOW + minutes(at), "cabinet", new_id(), NOW + HOLD, "{}")
    while True:
        try:
            done = await asker.desk.ledger.change_booking("accept_question", NOW, question_id, arguments, once)
        except UnavailableError:
            continue
        return done.word


@pytest.mark.timeout(240)
async def test_of_two_hundred_who_say_yes_at_once_one_gets_each_patient_and_all_are_told(
    database_url: str, recorder: Recorder
) -> None:
    ledger = await PostgresLedger.connect(database_url, recorder)
    try:
        asker = Asker(await Desk(ledger, database_url).open())
        await asker.ladder()
        await asker.consent(*(f"{n:03}" for n in range(DOCTORS)), most_a_day=REQUESTS)
        asked: dict[str, list[str]] = {}
        for _ in range(REQUESTS):
            request = await asker.waits()
            word, asked[request] = await asker.put(request, await asker.ids(request))
            assert (word, len(asked[request])) == ("advanced", DOCTORS)
        done = asyncio.Event()
        killing = asyncio.create_task(_kill(database_url, done))
        # at hours of their own: nobody is kept away by another patient of the same crowd
        answers = [
            _say_yes(asker, question, 60 + 20 * number)
            for number, questions in enumerate(asked.values())
            for question in questions
        ]
        words = await asyncio.gather(*answers)
        done.set()
        assert await killing > 0
        for number, request in enumerate(asked):
            of_request = words[number * DOCTORS : (number + 1) * DOCTORS]
            assert Counter(of_request) == {"accepted": 1, "too_late": DOCTORS - 1}
            assert await asker.desk.status(request) == "held"
        assert await ledger.doubles() == {"seat": 0, "request": 0, "overlap": 0, "capacity": 0}
        # what a killed writer could not publish lies in the outbox for the sweep
        news = await asker.desk.rows(
            "select type, aggregate, data from outbox where type like 'question.%' order by id"
        )
        last = {row["aggregate"]: row["type"] for row in news}
        assert Counter(last.values()) == {"question.accepted": REQUESTS, "question.closed": REQUESTS * (DOCTORS - 1)}
        assert set(last) == set(itertools.chain.from_iterable(asked.values()))
        assert {orjson.loads(r["data"])["reason"] for r in news if r["type"] == "question.closed"} == {"other_accepted"}
    finally:
        await ledger.close()
