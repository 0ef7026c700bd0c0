"""Limits through HTTP: a practice sets them, nobody gets over them, and whoever waits gets what they give back."""

import asyncio
from typing import Any, Final
from zoneinfo import ZoneInfo

import pytest

from tests.api.conftest import Scene
from tests.api.running import Caller, Running, rpps
from tests.api.test_bad_input import problem

PARIS: Final = ZoneInfo("Europe/Paris")


class Practice:
    """A doctor with three places in one day, in the order of their starts."""

    def __init__(self, scene: Scene, caller: Caller, doctor: str) -> None:
        self.scene = scene
        self.caller = caller
        self.doctor = doctor
        self.slots: list[int] = []

    async def publish(self) -> None:
        scene = self.scene
        # all before midnight, or all after it
        first = 60 if scene.at(60).astimezone(PARIS).date() == scene.at(120).astimezone(PARIS).date() else 125
        doctor = {"rpps": self.doctor, "name": "Dr Fictif"}
        self.slots = await self.caller.publish(
            *(scene.slot(first + 25 * n, professional=doctor, offers=["enfant"]) for n in range(3))
        )

    async def put(self, name: str = "quota", **wish: Any) -> Any:
        body = {"professionals": [self.doctor], "most": 1, **wish}
        return await self.caller.http.put(f"/v1/limits/{name}", json=body)


@pytest.fixture
async def practice(service: Running, scene: Scene) -> Practice:
    """A doctor of this commune."""
    doctor = rpps()
    found = Practice(scene, await service.practice(professionals=(doctor,)), doctor)
    await found.publish()
    return found


async def test_a_quota_holds_for_the_matcher_and_by_hand_until_it_is_taken_back(
    scene: Scene, practice: Practice
) -> None:
    answer = await practice.put()
    assert answer.status_code == 200, answer.text
    document = answer.json()
    assert document["most"] == 1 and document["professionals"] == [practice.doctor] and document["zone"] == str(PARIS)
    assert [period["taken"] for period in document["periods"]] == [0]

    first = await scene.regulator.ask(scene.wish())
    assert first["status"] == "held"
    second = await scene.regulator.ask(scene.wish())
    assert second["status"] == "waiting" and second["decision"]["none"]["reason"] == "LIMIT_REACHED"
    answer = await scene.regulator.post(f"/v1/requests/{second['request_id']}/take", {"slot_id": practice.slots[2]})
    assert "limite" in problem(answer, 409, "limit_reached")["detail"]
    offers = await scene.regulator.get("/v1/offers", insee=scene.spot.code, profession="MG", radius_km=1)
    assert offers.json()["cards"] == []
    listed = (await practice.caller.get("/v1/limits")).json()["limits"]
    assert [(limit["name"], limit["periods"][0]["taken"]) for limit in listed] == [("quota", 1)]
    assert (await practice.caller.get("/v1/limits/quota")).json() == listed[0]

    assert (await practice.caller.http.delete("/v1/limits/quota")).json() == {"removed": "quota"}
    held = await scene.regulator.until(second["request_id"], lambda d: d["status"] == "held")
    assert held["booking"]["slot_id"] in practice.slots


async def test_what_is_given_back_goes_to_the_one_who_waits(scene: Scene, practice: Practice) -> None:
    await practice.put(period="day")
    first = await scene.regulator.ask(scene.wish())
    second = await scene.regulator.ask(scene.wish())
    assert second["status"] == "waiting"
    await scene.regulator.act("cancel", first["request_id"])
    await scene.regulator.until(second["request_id"], lambda d: d["status"] == "held")


async def test_the_matcher_proposes_one_child_a_day_and_everybody_else(scene: Scene, practice: Practice) -> None:
    await practice.put(counts="children")
    assert (await scene.regulator.ask(scene.wish(age_band="nourrisson")))["status"] == "held"
    second = await scene.regulator.ask(scene.wish(age_band="enfant"))
    assert second["status"] == "waiting" and second["decision"]["none"]["reason"] == "LIMIT_REACHED"
    assert (await scene.regulator.ask(scene.wish(age_band="senior")))["status"] == "held"
    await practice.put(counts="children", most=2)
    await scene.regulator.until(second["request_id"], lambda d: d["status"] == "held")


async def test_a_surge_gets_as_many_places_as_the_limit_lets_in(scene: Scene, practice: Practice) -> None:
    await practice.put(most=2)
    asked = await asyncio.gather(*(scene.regulator.ask(scene.wish()) for _ in range(6)))
    assert sorted(document["status"] for document in asked) == ["held"] * 2 + ["waiting"] * 4


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"professionals": []}, "corps"),
        ({"most": None}, "corps"),
        ({"share": 10}, "corps"),
        ({"most": -1}, "most"),
        ({"most": 10_001}, "most"),
        ({"most": None, "share": 101}, "share"),
        ({"counts": "adultes"}, "counts"),
        ({"period": "week"}, "period"),
        ({"territory": "ZZ"}, "territory"),
        ({"professionals": ["10000000012"]}, "professionals.0"),
        ({"structures": ["690000001"]}, "structures.0"),
        ({"professionals": ["12"]}, "professionals.0"),
        ({"patient": "x"}, "patient"),
    ],
)
async def test_a_limit_that_makes_no_sense_or_is_of_others(
    practice: Practice, body: dict[str, Any], field: str
) -> None:
    problem(await practice.put("wrong", **body), 422, "invalid_input", field)
    assert (await practice.caller.get("/v1/limits")).json() == {"limits": []}


@pytest.mark.parametrize("name", ["Quota", "a" * 41, "é", "a.b"])
async def test_a_name_is_short_and_plain(practice: Practice, name: str) -> None:
    problem(await practice.put(name), 422, "invalid_input", "name")


async def test_limits_of_others_are_not_seen_changed_or_removed(service: Running, practice: Practice) -> None:
    """Also within one source: two doctors whose agenda comes from one editor."""
    mine, hers = rpps(), rpps()
    one = await service.key("professional", professionals=(mine,), source="editeur")
    two = await service.key("professional", professionals=(hers,), source="editeur")
    body = {"most": 3, "professionals": [mine]}
    assert (await one.http.put("/v1/limits/jour", json=body)).status_code == 200
    assert (await two.get("/v1/limits")).json() == {"limits": []}
    problem(await two.get("/v1/limits/jour"), 404, "not_found")
    problem(await two.http.put("/v1/limits/jour", json={**body, "professionals": [hers]}), 404, "not_found")
    problem(await two.http.delete("/v1/limits/jour"), 404, "not_found")
    problem(await practice.caller.http.delete("/v1/limits/jour"), 404, "not_found")
    assert [limit["most"] for limit in (await one.get("/v1/limits")).json()["limits"]] == [3]


async def test_an_editor_for_everyone_does_not_close_what_others_publish(
    service: Running, scene: Scene, practice: Practice
) -> None:
    editor = await service.practice()
    answer = await editor.http.put("/v1/limits/tout", json={"professionals": [practice.doctor], "most": 0})
    assert answer.status_code == 200
    assert (await scene.regulator.ask(scene.wish()))["status"] == "held"
