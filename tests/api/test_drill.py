"""A service for exercises: all that leaves it says so, and its ledger is never anybody else's."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import date, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import orjson
import pytest

from sas_matcher.api.drill import marked, marked_answer
from sas_matcher.bootstrap.stores import open_stores
from sas_matcher.config import ConfigError, Settings
from sas_matcher.matching.terms import Terms
from sas_matcher.replay.daylog_file import line_of, read_lines
from sas_matcher.replay.recorder import meta_of
from tests.api.conftest import settings_for
from tests.api.running import Running, next_spot, run_service, slot, wish
from tests.conftest import Servers


@pytest.fixture(scope="module")
async def exercise(servers: Servers) -> AsyncIterator[Running]:
    database_url = servers.new_database()
    async with run_service(settings_for(database_url, servers.new_redis(), drill=True)) as running:
        yield running
    servers.drop_database(database_url)


async def test_every_answer_and_event_of_an_exercise_says_so(exercise: Running) -> None:
    spot, regulator, practice = next_spot(exercise.geography), await exercise.regulator(), await exercise.practice()
    ars = await exercise.key("ars", territories=("*",))
    async with await regulator.listen() as ear, await practice.listen() as practice_ear:
        assert ear.welcome["drill"] is True
        published = await practice.post("/v1/slots", {"slots": [slot(spot, exercise.clock.now() + timedelta(hours=2))]})
        asked = await regulator.ask(wish(spot))
        await regulator.act("confirm", asked["request_id"], {"booking_id": asked["booking"]["booking_id"]})
        told = await ear.event("request.firm", request_id=asked["request_id"])
        firm = await practice_ear.event("booking.firm")
        answers = [
            published,
            await regulator.get(f"/v1/requests/{asked['request_id']}"),
            await regulator.get("/v1/requests"),
            await practice.get("/v1/slots"),  # 422: a problem
            await regulator.get("/v1/nowhere"),
            await ars.get(f"/v1/territories/{spot.territory}/settings"),
            await ars.post("/v1/crisis", {"scope": spot.territory, "level": "tension", "why": "exercice"}),
            await ars.get("/v1/crisis/review", scope=spot.territory),
            await ars.get("/healthz"),
        ]
    assert asked["drill"] is True
    for answer in answers:
        assert answer.json()["drill"] is True, answer.url
        assert answer.headers["sas-drill"] == "true"
        assert int(answer.headers["content-length"]) == len(answer.content)
    for message in (told, firm):
        assert message["drill"] is True and message["data"]["drill"] is True
    # also where a part of it would say no
    assert all(entry["drill"] for entry in answers[7].json()["decided"])
    page = await ars.get("/v1/crisis/review", scope=spot.territory, format="html")
    assert "EXERCICE" in page.text and page.headers["sas-drill"] == "true"
    platform = await exercise.key("fhir")
    resource = (await platform.get("/fhir/metadata")).json()
    assert resource["meta"]["security"][-1]["code"] == "HTEST"


async def test_a_ledger_is_an_exercises_or_it_is_not(exercise: Running, servers: Servers) -> None:
    with pytest.raises(ConfigError, match="exercice"):
        async with open_stores(replace(exercise.settings, drill=False)):
            pass
    database_url = servers.new_database()
    real = settings_for(database_url, servers.new_redis())
    async with open_stores(real):
        pass
    with pytest.raises(ConfigError, match="réelles"):
        async with open_stores(replace(real, drill=True)):
            pass
    async with open_stores(real):
        pass
    servers.drop_database(database_url)


async def test_a_real_service_marks_nothing(service: Running) -> None:
    regulator = await service.regulator()
    answer = await regulator.get("/v1/me")
    assert "drill" not in answer.json() and "sas-drill" not in answer.headers


def test_an_exercise_speaks_to_nobody_outside() -> None:
    for name in ("SAS_NATIONAL_URL", "SAS_EDITORS"):
        with pytest.raises(ConfigError, match="exercice"):
            Settings.of_environment({"SAS_DRILL": "true", name: "x"})
    assert Settings.of_environment({"SAS_DRILL": "true"}).drill is True
    assert Settings.of_environment(Settings(drill=True).to_environment()).drill is True
    assert Settings.of_environment(Settings().to_environment()).drill is False
    with pytest.raises(ConfigError, match="SAS_DRILL"):
        Settings.of_environment({"SAS_DRILL": "oui"})


def test_the_day_log_of_an_exercise_says_so_and_reads_as_any_other() -> None:
    real, drill = (
        meta_of("69", ZoneInfo("Europe/Paris"), date(2026, 11, 23), Terms(), drill=value) for value in (False, True)
    )
    assert orjson.loads(line_of(drill))["drill"] is True and "drill" not in orjson.loads(line_of(real))
    assert [next(read_lines([line_of(meta)])) for meta in (real, drill)] == [real, drill]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"a": 1}, {"a": 1, "drill": True}),
        ({"drill": False, "calls": [{"drill": False}]}, {"drill": True, "calls": [{"drill": True}]}),
        # a schema that has a property of that name is not spoilt
        ({"properties": {"drill": {"type": "boolean"}}}, {"properties": {"drill": {"type": "boolean"}}, "drill": True}),
        ([{"drill": False}, 3], [{"drill": True}, 3]),
    ],
)
def test_documents_are_marked_wherever_they_speak_of_it(before: Any, after: Any) -> None:
    assert marked(before) == after


def test_pages_carry_a_banner_and_other_types_are_left_alone() -> None:
    assert b"EXERCICE" in marked_answer("text/html", b'<html><body class="x">Bonjour</body></html>')
    assert marked_answer("text/plain", b"sas_sockets 1") == b"sas_sockets 1"
    assert orjson.loads(marked_answer("application/problem+json", b'{"code":"x"}'))["drill"] is True
