"""Crisis through HTTP, on real servers: declared by who may, applied, told, undone exactly, written down."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from unittest.mock import patch

import asyncpg
import orjson
import pytest

from adapters.geo.gazetteer import Commune
from adapters.postgres.crisis import PostgresCrisis
from adapters.system import SystemIds
from sas_matcher.domain.alert import RISE_S, Figures, Watched
from sas_matcher.services.crisis.alerting import Alerting
from sas_matcher.services.crisis.book import Proposed
from sas_matcher.services.crisis.crises import wider_scopes
from tests.api.conftest import settings_for
from tests.api.running import Caller, Running, next_spot, rpps, run_service, slot, wish
from tests.api.test_bad_input import problem
from tests.api.test_contract import validator
from tests.conftest import Servers

WHY = "afflux annoncé par le SAMU"
LADDER = [{"kind": "tell", "name": "Réorienter", "what": "reorient"}]
PLAN: dict[str, Any] = {
    "tension": {"settings": {"radius_pct": 125, "urgent_reserve_pct": 20}, "text": "Appeler la CPTS"},
    "crise": {
        "settings": {"radius_pct": 150, "policy": {"T3": "promise"}},
        "borrow": True,
        "ladder": LADDER,
        "call": {"text": "Merci d'ouvrir des places", "hours": 4},
    },
    "contacts": [{"name": "Astreinte ARS", "role": "ARS", "phone": "+33 4 00 00 00 00", "mailbox": "a@ars.example"}],
    "lends": [],
}


@pytest.fixture(scope="module")
async def service(servers: Servers) -> AsyncIterator[Running]:
    """A service of its own: what is declared here must not decide what other tests ask for."""
    database_url = servers.new_database()
    async with run_service(settings_for(database_url, servers.new_redis())) as running:
        yield running
    servers.drop_database(database_url)


@dataclass
class Territory:
    """A territory that no other test has steered, with a key of each kind."""

    service: Running
    spot: Commune
    ars: Caller
    cpts: Caller
    regulator: Caller
    practice: Caller

    @property
    def code(self) -> str:
        return self.spot.territory

    async def declare(self, level: str, caller: Caller | None = None, **more: Any) -> Any:
        body = {"scope": self.code, "level": level, "why": WHY, **more}
        return await (caller or self.cpts).post("/v1/crisis", body)

    async def go(self, *levels: str, **more: Any) -> dict[str, Any]:
        """Declare levels one after the other; returns what became of the territory at the last."""
        moved: dict[str, Any] = {}
        for level in levels:
            answer = await self.declare(level, **more)
            assert answer.status_code == 200, answer.text
            validator("CrisisEntry").validate(answer.json())
            (moved,) = answer.json()["territories"] or [{}]
        return moved

    async def setting(self) -> dict[str, Any]:
        found: dict[str, Any] = (await self.ars.get(f"/v1/territories/{self.code}/settings")).json()
        return {name: value for name, value in found.items() if name not in ("version", "changed_at", "in_force")}

    async def plan(self, **changes: Any) -> None:
        path = f"/v1/territories/{self.code}/crisis/plan"
        answer = await self.put(path, {"plan": {**PLAN, **changes}, "why": WHY})
        assert answer.status_code == 200, answer.text

    async def put(self, path: str, body: Any) -> Any:
        return await self.cpts.http.put(path, json=body, headers={"Idempotency-Key": f"key-{rpps()}"})

    async def standing(self) -> dict[str, Any]:
        found: dict[str, Any] = (await self.regulator.get(f"/v1/territories/{self.code}/crisis")).json()
        validator("Crisis").validate(found)
        return found


@pytest.fixture
async def here(service: Running) -> Territory:
    used = {row["territory"] for row in await service.rows("select territory from crisis_territory")}
    used |= {row["territory"] for row in await service.rows("select territory from crisis_plan")}
    spot = next_spot(service.geography)
    while spot.territory in used:
        spot = next_spot(service.geography)
    bound = (spot.territory,)
    return Territory(
        service,
        spot,
        await service.key("ars", territories=bound),
        await service.key("cpts", territories=bound),
        await service.key("regulator", territories=bound),
        await service.practice(),
    )


async def test_a_level_applies_the_plan_and_coming_back_restores_exactly(here: Territory) -> None:
    await here.plan()
    before = await here.setting()
    moved = await here.go("tension")
    assert moved["changes"] == {"radius_pct": 125, "urgent_reserve_pct": 20}
    assert await here.setting() == {**before, "radius_pct": 125, "urgent_reserve_pct": 20}
    await here.go("crise")
    ladder = (await here.ars.get(f"/v1/territories/{here.code}/ladder")).json()
    assert [step["what"] for step in ladder["steps"]] == ["reorient"]
    crisis = await here.setting()
    assert crisis == {**before, "radius_pct": 150, "policy": {**before["policy"], "T3": "promise"}}
    standing = await here.standing()
    assert (standing["level"], standing["applied"]["radius_pct"], standing["before"]["radius_pct"]) == (
        "crise",
        150,
        100,
    )
    assert standing["plan"]["plan"]["contacts"] == PLAN["contacts"]
    # step by step only
    assert "tension" in problem(await here.declare("normal"), 409, "one_step")["detail"]
    await here.go("tension", "normal")
    assert await here.setting() == before
    assert (await here.ars.get(f"/v1/territories/{here.code}/ladder")).json()["steps"] == []
    assert (await here.standing())["applied"] == {}


async def test_what_somebody_set_meanwhile_is_left_and_said(here: Territory) -> None:
    await here.plan()
    await here.go("tension")
    path = f"/v1/territories/{here.code}/settings"
    assert (await here.cpts.patch(path, {"radius_pct": 200, "why": "essai"})).status_code == 200
    moved = await here.go("normal")
    assert (moved["kept"], moved["changes"]) == (["radius_pct"], {"urgent_reserve_pct": 0})
    assert (await here.setting())["radius_pct"] == 200


async def test_who_declares_what_where(service: Running, here: Territory) -> None:
    region = service.geography.territories[here.code].region
    manager = await service.key("gestionnaire", territories=(here.code,))
    for caller, scope in ((manager, here.code), (here.cpts, f"region:{region}"), (here.ars, "nation")):
        problem(await here.declare("tension", caller, scope=scope), 403, "not_allowed")
    for caller in (here.regulator, here.practice):
        problem(await here.declare("tension", caller), 403, "not_allowed")
    elsewhere = await service.key("ars", territories=("75" if here.code != "75" else "69",))
    problem(await here.declare("tension", elsewhere), 403, "not_allowed")
    # a key of the whole région, and the prefect
    whole = tuple(code for code, t in service.geography.territories.items() if t.region == region)
    prefect = await service.key("prefecture", territories=whole)
    done = await here.declare("tension", prefect, scope=f"region:{region}", why="canicule")
    assert done.status_code == 200, done.text
    assert {moved["territory"] for moved in done.json()["territories"]} == set(whole)
    assert done.json()["role"] == "prefecture"
    await here.declare("normal", prefect, scope=f"region:{region}")


async def test_a_territory_stands_at_the_highest_of_its_scopes(service: Running, here: Territory) -> None:
    region = service.geography.territories[here.code].region
    ars = await service.key("ars", territories=("*",))
    await here.go("tension")
    wide = (await here.declare("crise", ars, scope=f"region:{region}")).json()
    assert here.code in {moved["territory"] for moved in wide["territories"]}
    assert (await here.standing())["level"] == "crise"
    # its own level goes, the région's stays
    assert (await here.declare("normal")).json()["territories"] == []
    assert (await here.standing())["level"] == "crise"
    for level in ("tension", "normal"):
        await here.declare(level, ars, scope=f"region:{region}")
    standing = await here.standing()
    assert (standing["level"], standing["scopes"]) == ("normal", [])


async def test_each_declaration_is_told_and_written_down_for_good(service: Running, here: Territory) -> None:
    async with await here.regulator.listen() as ear:
        key = "declaration-1"
        body = {"scope": here.code, "level": "tension", "why": WHY}
        done, again = [await here.cpts.post("/v1/crisis", body, key=key) for _ in range(2)]
        assert (done.json(), done.status_code) == (again.json(), 200)
        told = await ear.event("crisis.changed", territory=here.code)
        assert (told["data"]["was"], told["data"]["level"], told["data"]["why"]) == ("normal", "tension", WHY)
        assert (told["data"]["drill"], told["data"]["role"]) == (False, "cpts")
    problem(await here.declare("tension"), 409, "conflict")
    problem(await here.declare("crise", version=7), 409, "conflict")
    (entry,) = (await here.regulator.get("/v1/crisis/log", territory=here.code)).json()["entries"]
    assert (entry["key_id"], entry["why"], entry["was"], entry["level"]) == (here.cpts.key_id, WHY, "normal", "tension")
    for sql in ("update crisis_log set why = 'autre'", "delete from crisis_log", "truncate crisis_log"):
        with pytest.raises(asyncpg.RestrictViolationError):
            await service.rows(sql)
    await here.go("normal")


async def test_promises_are_broken_only_where_the_ars_allows_it_and_kept_when_the_crisis_ends(here: Territory) -> None:
    await here.plan(crise={"settings": {"policy": {"T2": "crisis", "T3": "crisis"}}})
    refused = problem(await here.declare("crise"), 409, "crisis_not_allowed")
    assert "crisis_allowed" in refused["detail"]
    # nothing of it happened
    assert (await here.standing())["level"] == "normal"
    path = f"/v1/territories/{here.code}/settings"
    assert (await here.ars.patch(path, {"crisis_allowed": True, "why": WHY})).status_code == 200
    before = await here.setting()
    await here.go("crise")
    now = await here.setting()
    assert (now["crisis"], now["policy"]["T3"]) == (True, "crisis")
    here_at = here.service.clock.now()
    await here.practice.publish(slot(here.spot, here_at + timedelta(hours=6)))
    asked = await here.regulator.post("/v1/requests", wish(here.spot, delay="48H"))
    name = asked.json()["request_id"]
    await here.regulator.until(name, lambda d: d["status"] == "promised")
    await here.go("tension", "normal")
    assert await here.setting() == before
    # firm again, and the promise that was given stands
    again = await here.regulator.post("/v1/requests", wish(here.spot, delay="48H"))
    await here.regulator.until(again.json()["request_id"], lambda d: d["decision"] is not None)
    kept = await here.regulator.request(name)
    assert (kept["status"], kept["promise"]["broken"]) == ("promised", 0)


async def test_a_drill_changes_nothing_and_says_so_everywhere(service: Running, here: Territory) -> None:
    await here.plan()
    before, doctor = await here.setting(), await service.practice()
    await _consent(here, doctor)
    async with await here.regulator.listen() as ear, await doctor.listen() as called:
        moved = await here.go("crise", drill=True)
        # what it would change
        assert moved["changes"]["radius_pct"] == 150
        assert (await ear.event("crisis.changed", territory=here.code))["data"]["drill"] is True
        call = (await called.event("crisis.called", territory=here.code))["data"]
        assert (call["drill"], call["text"]) == (True, "EXERCICE — Merci d'ouvrir des places")
    assert await here.setting() == before
    standing = await here.standing()
    assert (standing["level"], standing["exercise"]["level"], standing["exercise"]["drill"]) == (
        "normal",
        "crise",
        True,
    )
    # a real level stands beside it
    await here.go("tension")
    assert (await here.setting())["radius_pct"] == 125
    await here.go("normal")
    await here.go("tension", "normal", drill=True)
    assert await here.setting() == before
    review = (await here.cpts.get("/v1/crisis/review", scope=here.code, drill="true")).json()
    assert review["drill"] is True and all(entry["drill"] for entry in review["decided"])
    assert [call["drill"] for call in review["calls"]] == [True]
    page = await here.cpts.get("/v1/crisis/review", scope=here.code, drill="true", format="html")
    assert "EXERCICE" in page.text
    real = (await here.cpts.get("/v1/crisis/review", scope=here.code)).json()
    assert [entry["level"] for entry in real["decided"]] == ["tension", "normal"]


async def _consent(here: Territory, doctor: Caller, **changes: Any) -> None:
    body = {
        "professional": {"rpps": rpps(), "name": "Dr Fictif"},
        "source_kind": "liberal",
        "location": {"lat": here.spot.lat, "lon": here.spot.lon, "insee": here.spot.code},
        "profession": "MG",
        "most_a_day": 5,
        "crisis_calls": True,
        **changes,
    }
    answer = await doctor.http.put("/v1/overflow/cabinet", json=body)
    assert answer.status_code == 200, answer.text


async def test_practices_that_consented_are_called_and_answer(service: Running, here: Territory) -> None:
    await here.plan()
    willing, unwilling = await service.practice(), await service.practice()
    hook = {"way": "webhook", "address": "http://127.0.0.1:9/sas", "kinds": ["crisis.called"]}
    assert (await willing.http.put("/v1/subscriptions/agenda", json=hook)).status_code == 200
    await _consent(here, willing)
    await _consent(here, unwilling, crisis_calls=False)
    path = f"/v1/territories/{here.code}/crisis/calls"
    body = {"text": "Places cet après-midi ?", "hours": 2}
    problem(await here.cpts.post(path, body), 409, "conflict")
    await here.go("tension")
    done = (await here.cpts.post(path, body)).json()
    assert (done["called"], done["drill"]) == (1, False)
    assert (await unwilling.get("/v1/crisis/calls")).json()["calls"] == []
    (call,) = (await willing.get("/v1/crisis/calls")).json()["calls"]
    assert (call["call_id"], call["state"], call["text"]) == (done["call_id"], "called", body["text"])
    answer = f"/v1/crisis/calls/{done['call_id']}/answer"
    problem(await unwilling.post(answer, {"places": 3}), 404, "not_found")
    async with await here.cpts.listen() as ear:
        assert (await willing.post(answer, {"places": 3})).json()["state"] == "yes"
        assert (await ear.event("crisis.answered", territory=here.code))["data"]["places"] == 3
    # and by the ways that it has asked for; an exercise is told as one
    await here.go("tension", drill=True)
    await here.cpts.post(path, {**body, "drill": True})
    told = await service.rows("select kind, body::text from notice where body ->> 'call_id' is not null order by id")
    assert [(row["kind"], orjson.loads(row["body"])["drill"]) for row in told] == [
        ("crisis.called", False),
        ("crisis.drill", True),
    ]
    await here.go("normal", drill=True)
    _, made = (await here.cpts.get("/v1/crisis/calls", territory=here.code)).json()["calls"]
    assert (made["called"], made["yes"], made["no"], made["places"]) == (1, 1, 0, 3)
    await here.go("normal")


async def test_neighbours_lend_what_they_agreed_to(service: Running, here: Territory) -> None:
    await here.plan(crise={"settings": {"borrow_km": 60.0}, "borrow": True})
    lender = next(code for code in sorted(service.geography.territories) if code != here.code)
    ars = await service.key("ars", territories=(lender,))
    path = f"/v1/territories/{lender}/crisis/plan"
    body = {"plan": {"lends": [{"to": here.code, "pct": 30}]}, "why": "convention entre CPTS"}
    answer = await ars.http.put(path, json=body, headers={"Idempotency-Key": f"key-{rpps()}"})
    assert answer.status_code == 200, answer.text
    await here.go("crise")
    now = await here.setting()
    assert (now["borrow"], now["borrow_km"]) == ({lender: 30}, 60.0)
    await here.go("tension", "normal")
    assert (await here.setting())["borrow"] == {}
    wrong = {"plan": {"lends": [{"to": lender, "pct": 30}]}, "why": WHY}
    refused = await ars.http.put(path, json=wrong, headers={"Idempotency-Key": f"key-{rpps()}"})
    problem(refused, 422, "invalid_input")


async def test_detection_proposes_and_a_person_decides(service: Running, here: Territory) -> None:
    book = PostgresCrisis(service.stores.ledger)
    clock = service.clock
    asked = await here.regulator.post("/v1/requests", wish(here.spot, delay="1H"))
    assert asked.status_code in (201, 202)
    await here.regulator.until(asked.json()["request_id"], lambda d: d["decision"] is not None)
    alerting = Alerting(book, clock, SystemIds(), [here.code])
    clock.ahead += timedelta(minutes=20)
    assert await alerting.step() == 0
    async with await here.cpts.listen() as ear:
        clock.ahead += timedelta(seconds=RISE_S + 1)
        assert await alerting.step() == 1
        proposal = (await ear.event("crisis.proposed", scope=here.code))["data"]
        assert await alerting.step() == 0  # it is open already
    assert proposal["level"] in ("tension", "crise") and "urgente" in proposal["reasons"][0]
    assert (await here.standing())["level"] == "normal"
    assert (await here.standing())["proposal"]["proposal_id"] == proposal["proposal_id"]
    path = f"/v1/crisis/proposals/{proposal['proposal_id']}"
    stranger = await service.key("ars", territories=("75" if here.code != "75" else "69",))
    problem(await stranger.post(f"{path}/accept", {"why": WHY}), 404, "not_found")
    done = await here.cpts.post(f"{path}/accept", {"why": "vu avec le SAMU"})
    assert done.status_code == 200, done.text
    assert (done.json()["proposal"], done.json()["level"]) == (proposal["proposal_id"], proposal["level"])
    assert (await here.standing())["level"] == proposal["level"]
    problem(await here.cpts.post(f"{path}/refuse", {"why": WHY}), 409, "too_late")
    (kept,) = (await here.cpts.get("/v1/crisis/proposals", territory=here.code)).json()["proposals"]
    assert (kept["state"], kept["key_id"], kept["why"]) == ("accepted", here.cpts.key_id, "vu avec le SAMU")


async def test_detection_proposes_for_a_region_and_only_who_may_declare_there_answers(service: Running) -> None:
    geography = service.geography
    region = geography.territories["35"].region
    members = [code for code, known in geography.territories.items() if known.region == region]
    scope, book = f"region:{region}", PostgresCrisis(service.stores.ledger)
    assert wider_scopes(geography, members) == {scope: sorted(members)}
    assert wider_scopes(geography, members[1:]) == {} and "nation" in wider_scopes(geography, geography.territories)
    ars, cpts = await service.key("ars", territories=tuple(members)), await service.key("cpts", territories=("35",))
    regulator, clock = await service.regulator(*members), service.clock
    spots = [next(c for c in geography.communes_of(code) if c.population > 5_000) for code in members]
    for spot in spots[: len(members) // 2]:
        await regulator.ask(wish(spot, territory=spot.territory, profession="PODO", delay="4H"))
    alerting = Alerting(book, clock, SystemIds(), members, wider_scopes(geography, members))
    alone = Alerting(book, clock, SystemIds(), members)
    clock.ahead += timedelta(minutes=70)
    assert await alerting.step() == await alone.step() == 0
    clock.ahead += timedelta(seconds=RISE_S + 1)
    async with await ars.listen() as ear:
        # not while half of the territories have nobody who waits
        assert await alerting.step() == len(members) // 2 == len(await _open(ars))
        for spot in spots[len(members) // 2 :]:
            await regulator.ask(wish(spot, territory=spot.territory, profession="PODO", delay="4H"))
        for minutes in (70, RISE_S / 60 + 1):
            clock.ahead += timedelta(minutes=minutes)
            await alerting.step()
        told = (await ear.event("crisis.proposed", scope=scope))["data"]
    assert told["territories"] == sorted(members) and "dans la moitié des départements" in told["reasons"][0]
    assert told["figures"]["territories"] == len(members)
    # its own proposal comes first where a territory has one, and whoever sees one of them sees that of all
    assert {p["scope"] for p in await _open(cpts)} == {"35", scope}
    path = f"/v1/crisis/proposals/{told['proposal_id']}"
    problem(await cpts.post(f"{path}/accept", {"why": WHY}), 403, "not_allowed")
    problem(await cpts.post(f"{path}/refuse", {"why": WHY}), 403, "not_allowed")
    stranger = await service.key("ars", territories=("75",))
    problem(await stranger.post(f"{path}/refuse", {"why": WHY}), 404, "not_found")
    done = await ars.post(f"{path}/accept", {"why": "vu avec les SAMU"})
    assert done.status_code == 200, done.text
    assert (done.json()["scope"], done.json()["proposal"]) == (scope, told["proposal_id"])
    assert {entry["territory"] for entry in done.json()["territories"]} == set(members)
    assert await _open(ars) == []  # those of the territories are answered thereby
    await alerting.step()
    assert scope not in {p["scope"] for p in await _open(ars)}  # what stands is not proposed again
    for level in ("tension", "normal") if told["level"] == "crise" else ("normal",):
        assert (await ars.post("/v1/crisis", {"scope": scope, "level": level, "why": WHY})).status_code == 200


async def test_what_the_nation_declares_answers_what_its_regions_were_proposed(alone: Running) -> None:
    service = alone  # no territory of the others shall have had a level
    geography, book = service.geography, PostgresCrisis(service.stores.ledger)
    region = geography.territories["21"].region
    members = tuple(sorted(code for code, known in geography.territories.items() if known.region == region))
    scope, now = f"region:{region}", service.clock.now()
    admin, figures = await service.key("admin", territories=("*",)), Figures(9, 3.0, 0.6, 0, 0, len(members))

    async def propose(level: str) -> None:
        said = Proposed(SystemIds().uuid(), scope, members, "normal", level, figures, ("9 demandes",))
        assert await book.propose(now, said, now) == "proposed"

    async def nation(level: str) -> None:
        done = await admin.post("/v1/crisis", {"scope": "nation", "level": level, "why": WHY})
        assert done.status_code == 200, done.text

    await propose("crise")
    await nation("tension")
    assert [p["level"] for p in await _open(admin) if p["scope"] == scope] == ["crise"]  # it asks for more
    await nation("crise")
    assert [p for p in await _open(admin) if p["scope"] == scope] == []
    alerting = Alerting(book, service.clock, SystemIds(), members, {scope: members})
    alerting._watched[scope] = Watched("crise", 0.0)
    with patch.object(book, "figures", lambda *_: _figures({code: (figures, "crise") for code in members})):
        assert await alerting.step() == 0  # the region stands where the nation does
    await nation("tension")
    await nation("normal")


async def _figures(found: dict[str, tuple[Figures, str]]) -> dict[str, tuple[Figures, str]]:
    return found


async def _open(key: Caller) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await key.get("/v1/crisis/proposals", state="open")).json()["proposals"]
    return found


async def test_the_review_says_what_was_asked_met_missed_and_decided(here: Territory) -> None:
    await here.go("tension")
    now = here.service.clock.now()
    await here.practice.publish(slot(here.spot, now + timedelta(hours=1)))
    met = await here.regulator.ask(wish(here.spot, delay="2H"))
    await here.regulator.act("confirm", met["request_id"], {"booking_id": met["booking"]["booking_id"]})
    missed = await here.regulator.ask(wish(here.spot, delay="1H", profession="PODO"))
    here.service.clock.ahead += timedelta(minutes=61)
    await here.regulator.until(missed["request_id"], lambda d: d["status"] == "unserved")
    await here.go("normal")
    review = (await here.cpts.get("/v1/crisis/review", scope=here.code)).json()
    assert review["by_tier"]["T1"]["met"] == 1 and review["by_tier"]["T0"]["missed"] == 1
    assert review["missed_by_reason"]["T0"] == {"NO_SLOT_FOR_PROFESSION": 1}
    assert [(e["level"], e["why"], e["key_id"]) for e in review["decided"]] == [
        ("tension", WHY, here.cpts.key_id),
        ("normal", WHY, here.cpts.key_id),
    ]
    page = await here.cpts.get("/v1/crisis/review", scope=here.code, format="html")
    assert page.headers["content-type"].startswith("text/html") and "script" not in page.text
    assert "NO_SLOT_FOR_PROFESSION" in page.text and "default-src 'none'" in page.headers["content-security-policy"]
    problem(await here.regulator.get("/v1/crisis/review", scope=here.code), 403, "not_allowed")


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"scope": "99"}, "scope"),
    ({"scope": "region:Atlantide"}, "scope"),
    ({"level": "rouge"}, "level"),
    ({"why": ""}, "why"),
    ({"patient": "Dupont"}, "patient"),
    ({"drill": "oui"}, "drill"),
]


@pytest.mark.parametrize(("changes", "field"), WRONG, ids=str)
async def test_bad_declarations_name_the_field(here: Territory, changes: dict[str, Any], field: str) -> None:
    refused = problem(
        await here.cpts.post("/v1/crisis", {"scope": here.code, "level": "tension", "why": WHY, **changes}),
        422,
        "invalid_input",
    )
    assert field in orjson.dumps(refused["errors"]).decode()


async def test_declarations_at_once_come_one_after_the_other(service: Running, here: Territory) -> None:
    """Own level and the région's at once, again and again: whatever comes first, settings end where they began."""
    region = f"region:{service.geography.territories[here.code].region}"
    ars = await service.key("ars", territories=("*",))
    await here.plan()
    before = await here.setting()
    for level in ("tension", "crise", "tension", "normal"):
        answers = await asyncio.gather(
            here.declare(level), here.declare(level, ars), here.declare(level, ars, scope=region), here.declare(level)
        )
        # of those about the same scope one declares, the others find it there
        assert sorted(answer.status_code for answer in answers) == [200, 200, 409, 409]
        assert (await here.standing())["level"] == level
    assert await here.setting() == before
    log = (await here.regulator.get("/v1/crisis/log", territory=here.code)).json()["entries"]
    assert [entry["version"] for entry in log if entry["scope"] == here.code] == [4, 3, 2, 1]
    moves = [moved for entry in reversed(log) for moved in entry["territories"] if moved["territory"] == here.code]
    assert [moved["was"] for moved in moves] == ["normal", *(moved["level"] for moved in moves[:-1])]
