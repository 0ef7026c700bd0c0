"""En sus through HTTP: who consented is asked, the first yes gets the patient, everybody is told."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from tests.api.conftest import Scene
from tests.api.running import Caller, Running, eventually, rpps
from tests.api.test_bad_input import problem

STEPS: list[dict[str, Any]] = [
    {"kind": "ask", "name": "Cabinets proches", "waves": 2, "at_once": 3, "wait_min": 5},
    {"kind": "tell", "name": "Garde", "what": "mmg", "text": "12 rue Fictive", "wait_min": 10},
    {"kind": "tell", "name": "Réorienter", "what": "reorient"},
]
NOBODY = "00000000-0000-4000-8000-000000000000"


class Doctor:
    """A doctor with a key, who may be asked at any hour."""

    def __init__(self, scene: Scene, caller: Caller, number: str) -> None:
        self.scene, self.caller, self.rpps = scene, caller, number

    def consent(self, **changes: Any) -> dict[str, Any]:
        spot = self.scene.spot
        return {
            "professional": {"rpps": self.rpps, "name": "Dr Fictif"},
            "source_kind": "liberal",
            "location": {"lat": spot.lat, "lon": spot.lon, "insee": spot.code},
            "profession": "MG",
            "ask_from": "00:00",
            "ask_to": "24:00",
            "days": [1, 2, 3, 4, 5, 6, 7],
            "most_a_day": 5,
            **changes,
        }

    async def put(self, name: str = "cabinet", **changes: Any) -> Any:
        return await self.caller.http.put(f"/v1/overflow/{name}", json=self.consent(**changes))

    async def question(self, state: str = "asked") -> dict[str, Any]:
        """Wait for the newest question in a state."""

        async def look() -> Any:
            found = (await self.caller.get("/v1/questions", state=state)).json()["questions"]
            return found[0] if found else None

        found: dict[str, Any] = await eventually(look)
        return found

    async def accept(self, question: dict[str, Any], minutes: float = 90, **more: Any) -> Any:
        body = {"start": self.scene.at(minutes).isoformat(), **more.pop("body", {})}
        return await self.caller.post(f"/v1/questions/{question['question_id']}/accept", body, **more)


class Territory:
    """Whoever steers the territory of the scene."""

    def __init__(self, scene: Scene, caller: Caller) -> None:
        self.caller, self.path = caller, f"/v1/territories/{scene.spot.territory}/ladder"

    async def put(self, steps: list[dict[str, Any]], **more: Any) -> Any:
        headers = {
            "Idempotency-Key": more.pop("key", f"echelle-{id(steps)}-{len(steps)}-{more}"[:120].replace(" ", ""))
        }
        return await self.caller.http.put(self.path, json={"steps": steps, "why": "essai", **more}, headers=headers)


@pytest.fixture
async def territory(scene: Scene, service: Running) -> AsyncIterator[Territory]:
    """A territory with a ladder for the length of a test."""
    steering = Territory(scene, await service.key("cpts", territories=(scene.spot.territory,)))
    answer = await steering.put(STEPS, key=f"debut-{rpps()}")
    assert answer.status_code == 200, answer.text
    yield steering
    await steering.put([], key=f"fin-{rpps()}")


@pytest.fixture
async def doctors(scene: Scene, service: Running) -> list[Doctor]:
    """Two doctors of this commune who consented."""
    found = []
    for _ in range(2):
        number = rpps()
        doctor = Doctor(scene, await service.practice(professionals=(number,)), number)
        assert (await doctor.put()).status_code == 200
        found.append(doctor)
    return found


async def test_the_first_yes_gets_the_patient_and_the_other_is_told(
    scene: Scene, territory: Territory, doctors: list[Doctor]
) -> None:
    one, two = doctors
    async with (
        await one.caller.listen() as hears_one,
        await two.caller.listen() as hears_two,
        await scene.regulator.listen() as regulator,
    ):
        asked = await scene.regulator.ask(scene.wish(case_ref="dossier-42"))
        assert asked["status"] == "waiting"
        mine, hers = await one.question(), await two.question()
        assert (mine["modes"], mine["minutes"], mine["km"]) == (["cabinet"], 15, 0)
        for event in (await hears_one.event("question.asked"), await hears_two.event("question.asked")):
            assert "dossier-42" not in str(event) and "lat" not in event["data"]
        progress = await regulator.event("asking.changed", asked=2)
        assert progress["data"]["log"][0]["sentence"].startswith(
            "Cabinets proches, vague 1 : 2 professionnels sollicités sur 2 ; étape suivante à "
        )
        yes = await one.accept(mine, key="accepte-une-fois")
        assert yes.status_code == 200, yes.text
        assert (yes.json()["state"], yes.json()["question_id"]) == ("accepted", mine["question_id"])
        held = await regulator.event("request.held", request_id=asked["request_id"])
        place = held["data"]["decision"]["place"]
        assert (place["slot_id"], held["data"]["decision"]["reasons"]) == (
            held["data"]["booking"]["slot_id"],
            ["EN_SUS"],
        )
        assert "donnée en sus" in held["data"]["decision"]["sentence"]
        await hears_two.event("question.closed", reason="other_accepted")
        problem(await two.accept(hers), 409, "too_late")
        # the same key: the same answer, once
        again = await one.caller.post(
            f"/v1/questions/{mine['question_id']}/accept", yes.request.content, key="accepte-une-fois"
        )
        assert again.json() == yes.json()
        firm = await scene.regulator.act("confirm", asked["request_id"])
        assert firm["status"] == "firm"
        await hears_one.event("booking.firm", professional=one.rpps)


@pytest.fixture
async def mt_first(scene: Scene, service: Running) -> AsyncIterator[Caller]:
    """Whoever steers the territory, where the médecin traitant goes first for the length of a test."""
    steering = await service.key("cpts", territories=(scene.spot.territory,))
    path = f"/v1/territories/{scene.spot.territory}/settings"
    answer = await steering.patch(path, {"mt_rule": "first", "mt_ask_min": 15, "why": "essai"})
    assert answer.status_code == 200, answer.text
    yield steering
    await steering.patch(path, {"mt_rule": "bonus", "mt_ask_min": 3, "why": "fin"})


async def test_the_medecin_traitant_is_asked_before_another_place_is_taken(
    scene: Scene, mt_first: Caller, doctors: list[Doctor]
) -> None:
    mine, _ = doctors
    await scene.practice.publish(scene.slot(90))
    wish = scene.wish(mt=mine.rpps, delay="4H")
    answer, second = await asyncio.gather(scene.regulator.post("/v1/requests", wish), scene.regulator.ask(scene.wish()))
    assert answer.status_code == 202
    first = answer.json()
    assert (first["status"], first["decision"], first["mt_first"]["said"]) == ("waiting", None, "asked")
    assert second["status"] == "held"  # whoever has no médecin traitant to ask does not wait
    question = await mine.question()
    assert question["own_patient"]
    await mine.caller.post(f"/v1/questions/{question['question_id']}/refuse", {})
    assert (await scene.regulator.act("cancel", second["request_id"]))["status"] == "cancelled"
    held = await scene.regulator.until(first["request_id"], lambda request: request["status"] == "held")
    assert held["decision"]["mt"]["said"] == "refused" and held["mt_first"]["said"] == "refused"
    # his yes is the patient's place, though another is free
    await scene.regulator.act("cancel", first["request_id"])
    third = (await scene.regulator.post("/v1/requests", wish)).json()
    yes = await mine.accept(await mine.question())
    assert yes.status_code == 200, yes.text
    held = await scene.regulator.until(third["request_id"], lambda request: request["status"] == "held")
    assert held["decision"]["reasons"] == ["EN_SUS"]
    # nothing waits for him where the delay is short, and the decision says so
    soon = await scene.regulator.ask(scene.wish(mt=mine.rpps, delay="1H"))
    assert soon["decision"]["mt"] == {
        "said": "too_short",
        "sentence": "le délai est trop court pour solliciter d'abord le médecin traitant",
    }


async def test_patients_without_a_medecin_traitant_are_counted_for_who_steers(
    scene: Scene, mt_first: Caller, service: Running
) -> None:
    for has_mt in ("no", "no", "no", "yes", None):
        await scene.regulator.ask(scene.wish(**({} if has_mt is None else {"has_mt": has_mt})))
    path = f"/v1/territories/{scene.spot.territory}/mt"
    window = {"from": scene.at(-60).isoformat(), "to": scene.at(1).isoformat()}
    counted = (await mt_first.get(path, **window, communes=scene.spot.code)).json()
    assert counted["all"] == {"yes": 1, "no": 3, "unknown": 1}
    assert counted["communes"] == [{"insee": scene.spot.code, "yes": 1, "no": 3, "unknown": 1}]
    assert counted["others"] == {"communes": 0, "yes": 0, "no": 0, "unknown": 0}
    # fewer than five are not shown by commune
    few = (await mt_first.get(path, **{**window, "from": scene.at(0.5).isoformat()}, communes=scene.spot.code)).json()
    assert (few["all"], few["communes"]) == ({"yes": 0, "no": 0, "unknown": 0}, [])
    problem(await scene.regulator.get(path, **window), 403, "not_allowed")
    problem(await mt_first.get(path, **{**window, "to": scene.at(-61).isoformat()}), 422, "invalid_input")
    refused = await scene.regulator.post("/v1/requests", scene.wish(mt=rpps(), has_mt="no"))
    assert "has_mt" in problem(refused, 422, "invalid_input")["detail"]


async def test_after_two_refusals_the_regulator_is_told_the_next_step_at_once(
    scene: Scene, territory: Territory, doctors: list[Doctor]
) -> None:
    asked = await scene.regulator.ask(scene.wish())
    for doctor in doctors:
        question = await doctor.question()
        answer = await doctor.caller.post(f"/v1/questions/{question['question_id']}/refuse", {"reason": "complet"})
        assert (answer.status_code, answer.json()["state"]) == (200, "refused")
        problem(await doctor.accept(question), 409, "conflict")
    path = f"/v1/requests/{asked['request_id']}/asking"

    async def told() -> Any:
        found = (await scene.regulator.get(path)).json()
        return found if len(found["log"]) == 2 else None

    found = await eventually(told)
    assert (found["asked"], found["refused"], found["open"]) == (2, 2, 0)
    assert (found["log"][1]["what"], found["state"]) == ("mmg", "open")
    assert "maison médicale de garde — 12 rue Fictive" in found["log"][1]["sentence"]
    problem(await (await scene.service.regulator()).get(path), 404, "not_found")


async def test_nobody_is_asked_who_has_not_consented_or_whose_hours_are_quiet(
    scene: Scene, territory: Territory, doctors: list[Doctor]
) -> None:
    one, two = doctors
    assert (await one.caller.http.delete("/v1/overflow/cabinet")).json() == {"removed": "cabinet"}
    # on no day that is near
    day = (scene.at(0).isoweekday() + 2) % 7 + 1
    assert (await two.put(days=[day])).status_code == 200
    asked = await scene.regulator.ask(scene.wish())
    path = f"/v1/requests/{asked['request_id']}/asking"

    async def told() -> Any:
        answer = await scene.regulator.get(path)
        return answer.json() if answer.status_code == 200 else None

    found = await eventually(told)
    assert (found["asked"], found["log"][0]["what"], found["log"][0]["passed"]) == (0, "mmg", ["Cabinets proches"])
    for doctor in doctors:
        assert (await doctor.caller.get("/v1/questions")).json() == {"questions": []}


async def test_what_a_yes_cannot_be(scene: Scene, territory: Territory, doctors: list[Doctor]) -> None:
    one, two = doctors
    assert (await one.put(modes=["cabinet", "visite"])).status_code == 200
    await scene.regulator.ask(scene.wish(modes=["cabinet", "visite"], delay="4H"))
    question = await one.question()
    for body, field in [
        ({}, "mode"),
        ({"mode": "tele"}, "mode"),
        ({"mode": "cabinet", "start": scene.at(-1).isoformat()}, "start"),
        ({"mode": "cabinet", "start": scene.at(241).isoformat()}, "start"),
        ({"mode": "cabinet", "start": "18 h"}, "start"),
        ({"mode": "cabinet", "patient": "x"}, "patient"),
    ]:
        problem(await one.accept(question, body=body), 422, "invalid_input", field)
    late = problem(await one.accept(question, minutes=241, body={"mode": "cabinet"}), 422, "invalid_input", "start")
    deadline = datetime.fromisoformat(question["deadline"]).astimezone(ZoneInfo("Europe/Paris"))
    assert f"{deadline:%d/%m à %H h %M}" in late["errors"][0]["message"]
    problem(await one.accept(question, minutes=0.5, body={"mode": "cabinet"}), 409, "slot_full")
    # a patient at that hour already
    doctor = {"rpps": one.rpps, "name": "Dr Fictif"}
    (slot,) = await one.caller.publish(scene.slot(60, professional=doctor, mode="tele"))
    await scene.regulator.ask(scene.wish(modes=["tele"]))
    problem(await one.accept(question, minutes=65, body={"mode": "cabinet"}), 409, "slot_full")
    # not hers to answer
    problem(await two.accept(question), 404, "not_found")
    path = f"/v1/questions/{question['question_id']}"
    problem(await two.caller.get(path), 404, "not_found")
    problem(await two.caller.post(f"{path}/refuse"), 404, "not_found")
    assert (await one.caller.get(path)).json()["state"] == "asked"
    assert (await one.accept(question, minutes=90, body={"mode": "visite"})).status_code == 200
    problem(await one.caller.post(f"{path}/refuse"), 409, "conflict")
    assert slot


async def test_questions_close_when_the_request_does(scene: Scene, territory: Territory, doctors: list[Doctor]) -> None:
    asked = await scene.regulator.ask(scene.wish())
    question = await doctors[0].question()
    await scene.regulator.act("cancel", asked["request_id"])
    closed = await doctors[0].question("closed")
    assert (closed["question_id"], closed["reason"]) == (question["question_id"], "cancelled")
    refuse = f"/v1/questions/{question['question_id']}/refuse"
    problem(await doctors[0].caller.post(refuse), 409, "too_late")


@pytest.mark.parametrize("question_id", [NOBODY, "x"])
async def test_questions_that_are_not_there(doctors: list[Doctor], question_id: str) -> None:
    expected = (404, "not_found") if question_id == NOBODY else (422, "invalid_input")
    caller, path = doctors[0].caller, f"/v1/questions/{question_id}"
    problem(await caller.get(path), *expected)
    problem(await caller.post(f"{path}/refuse"), *expected)
    start = doctors[0].scene.at(60).isoformat()
    problem(await caller.post(f"{path}/accept", {"start": start}), *expected)
    problem(await caller.get("/v1/questions", state="perhaps"), 422, "invalid_input", "state")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"most_a_day": 0}, "most_a_day"),
        ({"most_a_day": None}, "most_a_day"),
        ({"days": [0]}, "days.0"),
        ({"days": []}, "days"),
        ({"modes": []}, "modes"),
        ({"ask_from": "8h"}, "ask_from"),
        ({"ask_from": "20:00", "ask_to": "08:00"}, "corps"),
        ({"minutes": 4}, "minutes"),
        ({"cpts": "12"}, "cpts"),
        ({"professional": {"rpps": "10000000012", "name": "Dr Autre"}}, "professional"),
        ({"professional": None}, "professional"),
        ({"specialty": "SM41"}, "specialty"),
        ({"location": {"lat": 45.7, "lon": 4.8, "insee": "99999"}}, "location.insee"),
        ({"patient": "x"}, "patient"),
    ],
    ids=str,
)
async def test_a_consent_that_makes_no_sense_or_is_not_ones_own(
    doctors: list[Doctor], changes: dict[str, Any], field: str
) -> None:
    answer = await doctors[0].put("autre", **changes)
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["field"] == field
    assert [c["name"] for c in (await doctors[0].caller.get("/v1/overflow")).json()["overflow"]] == ["cabinet"]


async def test_consents_are_read_changed_and_of_their_owner(service: Running, scene: Scene) -> None:
    mine, hers = rpps(), rpps()
    one = Doctor(scene, await service.key("professional", professionals=(mine,), source="editeur-ensus"), mine)
    two = Doctor(scene, await service.key("professional", professionals=(hers,), source="editeur-ensus"), hers)
    put = (await one.put(ask_from="09:30", ask_to="18:00")).json()
    assert (put["ask_from"], put["ask_to"], put["name"], put["most_a_day"]) == ("09:30", "18:00", "cabinet", 5)
    assert (await one.caller.get("/v1/overflow/cabinet")).json() == put
    problem(await two.put(), 404, "not_found")
    problem(await two.caller.get("/v1/overflow/cabinet"), 404, "not_found")
    problem(await two.caller.http.delete("/v1/overflow/cabinet"), 404, "not_found")
    problem(await one.put("Non"), 422, "invalid_input", "name")
    assert (await two.caller.get("/v1/overflow")).json() == {"overflow": []}


async def test_a_ladder_is_changed_with_a_trace_by_who_may(
    service: Running, scene: Scene, territory: Territory
) -> None:
    caller, path = territory.caller, territory.path
    read = (await caller.get(path)).json()
    assert read["steps"][0]["sure_pct"] == 100
    assert read["sentences"][2].startswith("3. Réorienter : réorienter")
    log = (await caller.get(f"{path}/log")).json()
    assert (log["changes"][0]["version"], log["changes"][0]["why"]) == (read["version"], "essai")
    assert log["changes"][0]["after"]["steps"] == read["steps"]
    problem(await territory.put(STEPS[:1], version=read["version"] + 7), 409, "conflict")
    other = Territory(scene, await service.key("cpts", territories=("976",)))
    problem(await other.put(STEPS), 403, "not_allowed")
    problem(await other.caller.get(path), 403, "not_allowed")
    regulator = Territory(scene, scene.regulator)
    problem(await regulator.put(STEPS), 403, "not_allowed")
    assert (await scene.regulator.get(path)).json() == read
    problem(await scene.regulator.get("/v1/territories/ZZ/ladder"), 404, "not_found")


@pytest.mark.parametrize(
    ("steps", "field"),
    [
        ([{"kind": "shout"}], "steps.0"),
        ([{**STEPS[0], "waves": 0}], "steps.0.waves"),
        ([{**STEPS[0], "wait_min": 241}], "steps.0.wait_min"),
        ([{**STEPS[0], "communes": ["x"]}], "steps.0.communes.0"),
        ([{**STEPS[1], "what": "prier"}], "steps.0.what"),
        ([STEPS[0]] * 21, "steps"),
    ],
    ids=["kind", "waves", "wait", "communes", "what", "too long"],
)
async def test_a_ladder_that_makes_no_sense(territory: Territory, steps: list[dict[str, Any]], field: str) -> None:
    before = (await territory.caller.get(territory.path)).json()
    problem(await territory.put(steps, key=f"non-{rpps()}"), 422, "invalid_input", field)
    assert (await territory.caller.get(territory.path)).json() == before


async def test_of_all_who_say_yes_at_once_one_gets_it(service: Running, scene: Scene, territory: Territory) -> None:
    await territory.put([{**STEPS[0], "at_once": 20}], key=f"tous-{rpps()}")
    numbers = [rpps() for _ in range(20)]
    doctors = [Doctor(scene, await service.practice(professionals=(n,)), n) for n in numbers]
    for doctor in doctors:
        assert (await doctor.put()).status_code == 200
    asked = await scene.regulator.ask(scene.wish())
    questions = [await doctor.question() for doctor in doctors]
    answers = await asyncio.gather(*(d.accept(q) for d, q in zip(doctors, questions, strict=True)))
    assert sorted(a.status_code for a in answers) == [200] + [409] * 19
    assert {a.json()["code"] for a in answers if a.status_code == 409} == {"too_late"}
    assert (await scene.regulator.request(asked["request_id"]))["status"] == "held"
