"""What a territory sets: read by its keys, changed by those who steer it, written down and told to all its keys."""

import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, get_args

import pytest

from sas_matcher.api.inputs.settings import LivePolicy
from sas_matcher.client import Event, SasClient
from sas_matcher.domain.policy import LIVE_POLICIES
from tests.api.conftest import settings_for
from tests.api.running import Caller, Running, next_spot, run_service
from tests.api.test_bad_input import nothing_written, problem  # noqa: F401 - a fixture
from tests.api.test_contract import validator
from tests.conftest import Servers

WHY = "afflux annoncé par le SAMU"


@dataclass
class Territory:
    """A territory with a key of each kind."""

    code: str
    ars: Caller
    cpts: Caller
    regulator: Caller
    practice: Caller

    @property
    def path(self) -> str:
        return f"/v1/territories/{self.code}/settings"


@pytest.fixture(scope="module")
async def service(servers: Servers) -> AsyncIterator[Running]:
    """A service of its own: what is set here must not decide what other tests ask for."""
    database_url = servers.new_database()
    async with run_service(settings_for(database_url, servers.new_redis())) as running:
        yield running
    servers.drop_database(database_url)


@pytest.fixture
async def place(service: Running) -> Territory:
    """A fresh territory: no other test has changed its settings."""
    spot = next_spot(service.geography)
    while (await service.rows("select from territory_setting where territory = $1", spot.territory)) != []:
        spot = next_spot(service.geography)
    here = (spot.territory,)
    return Territory(
        spot.territory,
        await service.key("ars", territories=here),
        await service.key("cpts", territories=here),
        await service.key("regulator", territories=here),
        await service.key("manager", territories=here, professionals=("*",)),
    )


def test_the_door_takes_the_policies_that_a_territory_may_choose() -> None:
    assert set(get_args(LivePolicy)) == set(LIVE_POLICIES)


async def test_all_keys_of_a_territory_read_what_it_sets(place: Territory) -> None:
    for caller in (place.ars, place.cpts, place.regulator, place.practice):
        setting = (await caller.get(place.path)).json()
        validator("Setting").validate(setting)
        assert setting["policy"] == setting["in_force"] == dict.fromkeys(("T0", "T1", "T2", "T3"), "firm")
        assert (setting["hold_seconds"], setting["mt_rule"], setting["version"]) == (180, "bonus", 0)
        log = (await caller.get(f"{place.path}/log")).json()
        validator("SettingChanges").validate(log)
        assert log == {"territory": place.code, "changes": [], "next_before": None}


async def test_a_change_is_written_down_and_told_to_all_keys_of_the_territory(
    service: Running, place: Territory
) -> None:
    elsewhere = "69" if place.code != "69" else "75"
    stranger, everywhere = await service.regulator(elsewhere), await service.regulator("*")
    hearers = (place.regulator, place.practice, place.ars, everywhere)
    ears = [await caller.listen() for caller in hearers]
    async with await stranger.listen() as deaf:
        answer = await place.cpts.patch(place.path, {"policy": {"T3": "auto"}, "hold_seconds": 60, "why": WHY})
        assert answer.status_code == 200, answer.text
        setting = answer.json()
        validator("Setting").validate(setting)
        assert setting["policy"] == {"T0": "firm", "T1": "firm", "T2": "firm", "T3": "auto"}
        assert setting["in_force"] == {**setting["policy"], "T3": "auto"}
        assert (setting["hold_seconds"], setting["version"]) == (60, 1)
        assert (await place.practice.get(place.path)).json() == setting
        log = (await place.regulator.get(f"{place.path}/log")).json()
        validator("SettingChanges").validate(log)
        (change,) = log["changes"]
        assert (change["key_id"], change["why"], change["version"]) == (place.cpts.key_id, WHY, 1)
        assert (change["before"]["hold_seconds"], change["after"]["hold_seconds"]) == (180, 60)
        for ear in ears:
            told = await ear.event("settings.changed", territory=place.code)
            assert (told["data"], told["version"]) == (change, 1)
            await ear.__aexit__(None, None, None)
        # one that comes later and that he hears shows that he was told nothing before
        admin, other = await service.key("admin"), f"/v1/territories/{elsewhere}/settings"
        hold_seconds = (await admin.get(other)).json()["hold_seconds"]
        await admin.patch(other, {"hold_seconds": hold_seconds + 1, "why": WHY})
        await deaf.event("settings.changed", territory=elsewhere)
        assert {event["data"]["territory"] for event in deaf.events if event["event"] == "settings.changed"} == {
            elsewhere
        }
        await admin.patch(other, {"hold_seconds": hold_seconds, "why": WHY})


async def test_a_crisis_is_allowed_by_the_ars_and_declared_by_who_steers(place: Territory) -> None:
    auto = {"policy": dict.fromkeys(("T1", "T2", "T3"), "auto"), "why": WHY}
    assert (await place.cpts.patch(place.path, auto)).status_code == 200
    for body in ({"crisis": True}, {"policy": {"T3": "crisis"}}):
        refused = problem(await place.cpts.patch(place.path, {**body, "why": WHY}), 409, "crisis_not_allowed")
        assert "crisis_allowed" in refused["detail"]
    refused = problem(await place.cpts.patch(place.path, {"crisis_allowed": True, "why": WHY}), 403, "not_allowed")
    assert "ARS" in refused["detail"]
    assert (await place.ars.patch(place.path, {"crisis_allowed": True, "why": WHY})).status_code == 200
    declared = (await place.cpts.patch(place.path, {"crisis": True, "why": WHY})).json()
    assert declared["in_force"] == {"T0": "firm", "T1": "crisis", "T2": "crisis", "T3": "crisis"}
    problem(await place.ars.patch(place.path, {"crisis_allowed": False, "why": WHY}), 409, "crisis_not_allowed")
    ended = (await place.cpts.patch(place.path, {"crisis": False, "why": "fin de l'afflux"})).json()
    assert ended["in_force"] == {"T0": "firm", "T1": "auto", "T2": "auto", "T3": "auto"}
    log = (await place.cpts.get(f"{place.path}/log")).json()["changes"]
    assert [change["why"] for change in log] == ["fin de l'afflux", WHY, WHY, WHY]


async def test_who_may_change_what(service: Running, place: Territory, nothing_written: None) -> None:  # noqa: F811
    change = {"hold_seconds": 60, "why": WHY}
    for caller in (place.regulator, place.practice):
        refused = problem(await caller.patch(place.path, change), 403, "not_allowed")
        assert "clé de pilotage" in refused["detail"]
    elsewhere = "69" if place.code != "69" else "75"
    stranger = await service.key("cpts", territories=(elsewhere,))
    unbound = await service.practice()
    for path in (place.path, f"{place.path}/log"):
        for caller in (stranger, unbound):
            problem(await caller.get(path), 403, "not_allowed")
    problem(await stranger.patch(place.path, change), 403, "not_allowed")
    admin = await service.key("admin")
    for path in ("/v1/territories/ZZ/settings", "/v1/territories/ZZ/settings/log"):
        problem(await admin.get(path), 404, "not_found")
    problem(await admin.patch("/v1/territories/ZZ/settings", change), 404, "not_found")
    problem(await admin.http.put(place.path, json=change), 405, "method_not_allowed")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"hold_seconds": 60}, "why"),
        ({"hold_seconds": 60, "why": " "}, "why"),
        ({"hold_seconds": 60, "why": "a\nb"}, "why"),
        ({"hold_seconds": 60, "why": "x" * 161}, "why"),
        ({"why": WHY}, "corps"),
        ({"policy": {}, "why": WHY}, "corps"),
        ({"hold_seconds": None, "why": WHY}, "corps"),
        ({"hold_seconds": 14, "why": WHY}, "hold_seconds"),
        ({"hold_seconds": 1801, "why": WHY}, "hold_seconds"),
        ({"hold_seconds": "60", "why": WHY}, "hold_seconds"),
        ({"mt_rule": "never", "why": WHY}, "mt_rule"),
        ({"policy": "auto", "why": WHY}, "policy"),
        ({"policy": {"T0": "later"}, "why": WHY}, "policy.T0"),
        ({"policy": {"T0": "official"}, "why": WHY}, "policy.T0"),
        ({"policy": {"T0": "fcfs-nearest"}, "why": WHY}, "policy.T0"),
        ({"policy": {"T4": "firm"}, "why": WHY}, "policy.T4"),
        ({"crisis": 1, "why": WHY}, "crisis"),
        ({"crisis_allowed": "yes", "why": WHY}, "crisis_allowed"),
        ({"ageing_pct_per_h": -0.1, "why": WHY}, "ageing_pct_per_h"),
        ({"ageing_pct_per_h": 2.01, "why": WHY}, "ageing_pct_per_h"),
        ({"fair_load_min": 30.5, "why": WHY}, "fair_load_min"),
        ({"hold_seconds": 60, "why": WHY, "version": -1}, "version"),
        ({"hold_seconds": 60, "why": WHY, "version": 2**31}, "version"),
        ({"hold_seconds": 60, "why": WHY, "patient": "Dupont"}, "patient"),
        ([], "corps"),
    ],
    ids=str,
)
async def test_a_wrong_change_names_the_field(
    place: Territory,
    body: Any,
    field: str,
    nothing_written: None,  # noqa: F811
) -> None:
    problem(await place.ars.patch(place.path, body), 422, "invalid_input", field)


async def test_a_change_needs_its_own_key_and_is_made_once(place: Territory) -> None:
    change = {"hold_seconds": 60, "why": WHY}
    problem(await place.cpts.http.patch(place.path, json=change), 422, "invalid_input", "Idempotency-Key")
    key = str(uuid.uuid4())
    first = await place.cpts.patch(place.path, change, key=key)
    again = await place.cpts.patch(place.path, change, key=key)
    assert (first.status_code, first.json()) == (again.status_code, again.json())
    problem(await place.cpts.patch(place.path, {**change, "hold_seconds": 61}, key=key), 409, "idempotency_reused")
    log = (await place.cpts.get(f"{place.path}/log")).json()["changes"]
    assert [change["version"] for change in log] == [1]


async def test_who_has_read_an_older_version_is_told(place: Territory) -> None:
    assert (await place.ars.patch(place.path, {"hold_seconds": 60, "why": WHY, "version": 0})).status_code == 200
    late = problem(await place.cpts.patch(place.path, {"hold_seconds": 90, "why": WHY, "version": 0}), 409, "conflict")
    assert "version 1" in late["detail"]
    assert (await place.cpts.get(place.path)).json()["hold_seconds"] == 60


async def test_the_trace_is_read_page_by_page(place: Territory) -> None:
    for seconds in (20, 30, 40):
        await place.cpts.patch(place.path, {"hold_seconds": seconds, "why": f"{seconds} s"})
    path = f"{place.path}/log"
    first = (await place.cpts.get(path, limit=2)).json()
    assert [change["why"] for change in first["changes"]] == ["40 s", "30 s"]
    rest = (await place.cpts.get(path, limit=2, before=first["next_before"])).json()
    assert ([change["why"] for change in rest["changes"]], rest["next_before"]) == (["20 s"], None)
    for query, field in (
        ({"limit": 0}, "limit"),
        ({"limit": 201}, "limit"),
        ({"before": 0}, "before"),
        ({"x": 1}, "x"),
    ):
        problem(await place.cpts.get(path, **query), 422, "invalid_input", field)


async def test_a_socket_that_was_away_is_told_of_a_change(place: Territory) -> None:
    async with await place.practice.listen() as ear:
        position = {"epoch": ear.welcome["epoch"], "offset": ear.welcome["offset"]}
    await place.cpts.patch(place.path, {"hold_seconds": 60, "why": WHY})
    async with await place.practice.listen(position) as back:
        assert (await back.event("settings.changed", territory=place.code))["data"]["why"] == WHY


async def test_the_client_changes_reads_and_hears(service: Running, place: Territory) -> None:
    async with (
        SasClient(service.url, place.cpts.token) as steering,
        SasClient(service.url, place.practice.token) as hears,
    ):
        stream = hears.events()
        await stream.open()
        changed = await steering.change_setting(place.code, {"policy": {"T1": "auto"}, "mt_rule": "first"}, why=WHY)
        assert await hears.setting(place.code) == changed
        assert (changed.policy["T1"], changed.in_force["T1"], changed.mt_rule) == ("auto", "auto", "first")
        told = await anext(stream)
        assert isinstance(told, Event) and told.setting_change is not None
        (kept,) = (await hears.setting_changes(place.code)).changes
        assert told.setting_change == kept
        assert (kept.before.version, kept.after.policy, kept.why) == (0, changed.policy, WHY)
