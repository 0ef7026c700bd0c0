"""Patients who have a place, through HTTP: accepted in time, called off, moved, counted; unused places handed back."""

from datetime import timedelta
from typing import Any

from tests.api.conftest import Scene
from tests.api.running import Running, rpps
from tests.api.test_bad_input import problem


async def firm(scene: Scene, *, wish: dict[str, Any] | None = None) -> tuple[str, str]:
    """Ask for a place and confirm it; returns (request, path of the booking)."""
    held = await scene.regulator.ask(scene.wish(**(wish or {})))
    done = await scene.regulator.act("confirm", held["request_id"])
    return done["request_id"], f"/v1/bookings/{done['booking']['booking_id']}"


async def test_a_practice_accepts_in_time_and_both_sides_see_it(scene: Scene) -> None:
    await scene.practice.publish(scene.slot(120, acceptance="explicit", accept_min=20))
    async with await scene.practice.listen() as practice, await scene.regulator.listen() as regulator:
        request, path = await firm(scene)
        pushed = (await practice.event("booking.firm"))["data"]["acceptance"]
        assert (pushed["kind"], pushed["accepted_at"]) == ("explicit", None)
        seen = (await scene.regulator.request(request))["booking"]["acceptance"]
        assert seen == pushed
        accepted = await scene.practice.post(f"{path}/accept")
        assert accepted.status_code == 200 and accepted.json()["acceptance"]["accepted_at"] is not None
        told = await regulator.event("request.accepted", request_id=request)
        assert told["data"]["booking"]["acceptance"]["accepted_at"] is not None
        await practice.event("booking.accepted")
        assert (await scene.practice.post(f"{path}/accept")).status_code == 200, "again does no harm"


async def test_an_unanswered_patient_gets_the_next_place_at_once(scene: Scene, service: Running) -> None:
    await scene.practice.publish(scene.slot(60, acceptance="explicit"))
    (second,) = await scene.practice.publish(scene.slot(150))
    async with await scene.practice.listen() as practice, await scene.regulator.listen() as regulator:
        request, path = await firm(scene)
        service.clock.ahead += timedelta(minutes=16)
        refused = await practice.event("booking.refused")
        assert refused["data"]["end_reason"] == "not_accepted"
        await regulator.event("request.reopened", request_id=request)
        next_one = await scene.regulator.until(request, lambda d: d["status"] == "held" and d["refusal"] is not None)
        assert next_one["refusal"]["reason"] == "not_accepted"
        assert next_one["decision"]["place"]["slot_id"] == second
        problem(await scene.practice.post(f"{path}/accept"), 409, "accept_ended")


async def test_silence_accepts_where_the_agenda_says_so(scene: Scene, service: Running) -> None:
    await scene.practice.publish(scene.slot(120, acceptance="tacit", accept_min=5))
    async with await scene.practice.listen() as practice:
        request, _ = await firm(scene)
        service.clock.ahead += timedelta(minutes=6)
        await practice.event("booking.accepted")
    assert (await scene.regulator.request(request))["status"] == "firm"


async def test_the_reasons_of_a_refusal_are_named(scene: Scene) -> None:
    await scene.practice.publish(scene.slot(60))
    _, path = await firm(scene)
    answer = await scene.practice.post(f"{path}/refuse", {"reason": "parce que"})
    errors = problem(answer, 422, "invalid_input")["errors"]
    assert errors[0]["field"] == "reason" and "outside_competence" in errors[0]["message"]
    codes = (await scene.practice.get("/v1/vocabulary")).json()["refusals"]
    assert "outside_competence" in codes and "not_accepted" not in codes


async def test_a_patient_who_cancels_with_the_practice_is_searched_for_no_more(scene: Scene) -> None:
    (slot,) = await scene.practice.publish(scene.slot(60))
    request, path = await firm(scene)
    async with await scene.regulator.listen() as regulator:
        assert (await scene.practice.post(f"{path}/cancel")).json()["state"] == "cancelled"
        await regulator.event("request.cancelled", request_id=request)
    again = await scene.regulator.ask(scene.wish())
    assert again["decision"]["place"]["slot_id"] == slot, "the place is free for others"


async def test_a_practice_moves_a_patient_within_its_own_hours(scene: Scene, service: Running) -> None:
    (_, later) = await scene.practice.publish(scene.slot(60), scene.slot(90))
    other = await service.practice()
    (strange,) = await other.publish(scene.slot(95))
    request, path = await firm(scene)
    problem(await scene.practice.post(f"{path}/move", {"slot_id": strange}), 404, "not_found")
    problem(await other.post(f"{path}/move", {"slot_id": strange}), 404, "not_found")
    async with await scene.regulator.listen() as regulator:
        moved = await scene.practice.post(f"{path}/move", {"slot_id": later})
        assert moved.status_code == 200 and moved.json()["slot_id"] == later, moved.text
        told = await regulator.event("request.moved", request_id=request)
        assert told["data"]["booking"]["slot_id"] == later
    (tomorrow,) = await scene.practice.publish(scene.slot(60 * 26))
    problem(await scene.practice.post(f"{path}/move", {"slot_id": tomorrow}), 409, "conflict")


async def test_once_it_has_begun_a_booking_only_gets_its_outcome(scene: Scene, service: Running) -> None:
    one = scene.slot(30)
    await scene.practice.publish(one)
    request, path = await firm(scene)
    service.clock.ahead += timedelta(minutes=31)
    problem(await scene.practice.post(f"{path}/refuse"), 409, "conflict")
    problem(await scene.practice.post(f"{path}/cancel"), 409, "conflict")
    problem(await scene.regulator.post(f"/v1/requests/{request}/cancel"), 409, "conflict")
    gone = await scene.practice.post("/v1/slots/withdraw", {"external_ids": [one["external_id"]]})
    assert gone.json()["counts"] == {"begun": 1}
    now = service.clock.now()
    window = {"from": (now - timedelta(hours=2)).isoformat(), "to": (now + timedelta(hours=12)).isoformat()}
    assert (await scene.practice.post("/v1/slots/withdraw", window)).json()["counts"] == {}
    assert (await scene.practice.post(f"{path}/outcome", {"outcome": "fulfilled"})).status_code == 200


async def test_a_plage_stays_when_one_patient_is_refused(scene: Scene) -> None:
    (plage,) = await scene.practice.publish(scene.slot(60, capacity=3))
    (_, first), (_, second) = await firm(scene), await firm(scene)
    assert (await scene.practice.post(f"{first}/refuse", {"reason": "overbooked"})).status_code == 200
    again = await scene.regulator.ask(scene.wish())
    assert again["decision"]["place"]["slot_id"] == plage
    assert (await scene.practice.post(f"{second}/refuse", {"keep_slot": False})).status_code == 200
    assert (await scene.regulator.ask(scene.wish()))["decision"]["place"] is None


async def test_a_plage_is_counted(scene: Scene, service: Running) -> None:
    (plage,) = await scene.practice.publish(scene.slot(30, capacity=4))
    for _ in range(2):
        await firm(scene)
    path = f"/v1/slots/{plage}/arrived"
    problem(await scene.practice.post(path, {"arrived": 1}), 409, "conflict")
    service.clock.ahead += timedelta(minutes=31)
    errors = problem(await scene.practice.post(path, {"arrived": 3}), 422, "invalid_input")["errors"]
    assert errors == [{"field": "arrived", "message": "2 patient(s) attendu(s) dans cette plage, pas 3"}]
    counted = (await scene.practice.post(path, {"arrived": 1, "over": True})).json()
    assert counted == {"slot_id": plage, "capacity": 4, "taken": 2, "arrived": 1, "missed": 1}
    window = {"from": scene.at(-60).isoformat(), "to": scene.at(60).isoformat()}
    (row,) = (await scene.practice.get("/v1/slots", **window)).json()["slots"]
    assert row["counts"] == {"taken": 2, "held": 0, "promised": 0, "arrived": 1, "missed": 1, "handed_back": None}
    problem(await (await service.practice()).post(path, {"arrived": 1}), 404, "not_found")
    problem(await scene.practice.post("/v1/slots/0/arrived", {"arrived": 1}), 422, "invalid_input")


async def test_unused_places_are_handed_back_and_told(scene: Scene, service: Running) -> None:
    (slot,) = await scene.practice.publish(scene.slot(60, hand_back_min=30))
    async with await scene.practice.listen() as practice:
        service.clock.ahead += timedelta(minutes=31)
        told = await practice.event("places.handed_back")
        assert (told["data"]["slot_id"], told["data"]["seats"]) == (slot, 1)
    asked = await scene.regulator.ask(scene.wish())
    assert asked["status"] == "waiting", "nobody is proposed it any more"


async def test_minutes_to_accept_need_an_acceptance(scene: Scene) -> None:
    answer = await scene.practice.post("/v1/slots", {"slots": [scene.slot(60, accept_min=5)]})
    assert "accept_min" in problem(answer, 422, "invalid_input")["errors"][0]["message"]


async def test_an_agenda_says_it_for_its_hours_and_never_offers_a_refused_hour_again(scene: Scene) -> None:
    spot = scene.spot
    day = scene.at(24 * 60).date().isoformat()
    hours = {"first": day, "each_min": 20}
    agenda = {
        "professional": {"rpps": rpps(), "name": "Dr Fictif"},
        "source_kind": "liberal",
        "location": {"lat": spot.lat, "lon": spot.lon, "insee": spot.code},
        "profession": "MG",
        "acceptance": "tacit",
        "hand_back_min": 60,
        "hours": [
            {**hours, "id": "a", "start": "10:00", "end": "10:20"},
            {**hours, "id": "b", "start": "11:00", "end": "11:20", "acceptance": "none", "hand_back_min": 0},
            {**hours, "id": "c", "start": "12:00", "end": "12:20", "acceptance": "explicit", "accept_min": 30},
        ],
    }
    put = await scene.practice.http.put("/v1/agendas/cabinet", json=agenda)
    assert put.status_code == 200, put.text
    window = {"from": scene.at(0).isoformat(), "to": scene.at(72 * 60).isoformat()}

    async def slots() -> dict[str, dict[str, Any]]:
        found = (await scene.practice.get("/v1/slots", **window)).json()["slots"]
        return {one["external_id"].split("/")[2]: one for one in found}

    known = await slots()
    told = {name: (one["acceptance"], one["accept_min"], one["back_at"] is None) for name, one in known.items()}
    assert told == {"a": ("tacit", 15, False), "b": (None, None, True), "c": ("explicit", 30, False)}
    _, path = await firm(scene, wish={"delay": "48H"})
    assert (await scene.practice.post(f"{path}/refuse", {"reason": "absent"})).status_code == 200
    (refused,) = [name for name, one in (await slots()).items() if one["status"] == "withdrawn"]
    await scene.practice.http.put("/v1/agendas/cabinet", json={**agenda, "info": "2e étage"})
    assert [name for name, one in (await slots()).items() if one["status"] == "withdrawn"] == [refused]


async def test_whoever_runs_a_centre_does_for_it_what_a_practice_does(scene: Scene, service: Running) -> None:
    house = f"69{rpps()[-7:]}"
    centre = {"finess": house, "name": "Centre fictif", "kind": "cds"}
    await scene.practice.publish(scene.slot(60, professional=None, structure=centre))
    _, path = await firm(scene)
    runs = await service.key("gestionnaire", territories=(scene.spot.territory,), structures=(house,))
    other = await service.key("gestionnaire", territories=(scene.spot.territory,), structures=("690000009",))
    problem(await other.get(path), 404, "not_found")
    problem(await other.post(f"{path}/refuse"), 404, "not_found")
    ars = await service.key("ars", territories=("*",))
    problem(await ars.get(path), 403, "not_allowed")
    assert (await runs.get(path)).json()["structure"] == house
    assert (await runs.post(f"{path}/refuse", {"reason": "absent"})).json()["state"] == "refused"
