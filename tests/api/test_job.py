"""The main job through HTTP and websocket: ask, hold, confirm, and everything that may come between."""

import asyncio
import uuid
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest

from sas_matcher.ports.bus import ARRIVAL, REQUESTS_STREAM
from tests.api.conftest import Scene
from tests.api.running import Caller, Running, eventually, next_spot, rpps, slot, wish


def place(document: dict[str, Any]) -> dict[str, Any]:
    """Return the place of a held request."""
    assert document["status"] == "held", document["decision"]
    found: dict[str, Any] = document["decision"]["place"]
    return found


def none(document: dict[str, Any]) -> dict[str, Any]:
    """Return why there is no place."""
    assert document["status"] == "waiting"
    assert document["booking"] is None
    found: dict[str, Any] = document["decision"]["none"]
    return found


async def test_a_place_is_held_with_reasons_cost_and_free_alternatives(scene: Scene) -> None:
    near, *others = await scene.practice.publish(
        scene.slot(60), *(scene.slot(200 + 10 * n, km_north=1 + n / 2) for n in range(6))
    )
    taken = await scene.regulator.ask(scene.wish())  # somebody else has the best one already
    assert place(taken)["slot_id"] == near

    held = await scene.regulator.ask(scene.wish(case_ref="dossier-1"))
    best = place(held)
    decision = held["decision"]
    assert best["slot_id"] == others[0]
    assert held["booking"]["slot_id"] == others[0] and held["booking"]["state"] == "held"
    assert held["case_ref"] == "dossier-1"
    assert decision["reasons"] and set(decision["reasons"]) <= {"NEAREST", "EARLIEST", "LEAST_COST"}
    cost = decision["cost"]
    # the parts of the formula of the day log: travel, a weight of the wait, the médecin traitant; tenths of a minute
    assert cost["total_min"] == pytest.approx(
        cost["travel_min"] + cost["wait_weighted_min"] - cost["mt_bonus_min"], abs=0.2
    )
    assert best["travel_min"] == pytest.approx(3 + 1.95 * best["distance_km"], abs=0.1)
    assert best["distance_km"] == pytest.approx(1, abs=0.1) and best["travel_source"] == "estimate"
    assert best["site"]["label"].startswith("Cabinet fictif")
    offered = [other["slot_id"] for other in decision["alternatives"]]
    assert len(offered) == 4, "at most four, and there are five more"
    assert len(set(offered)) == 4 and near not in offered and others[0] not in offered
    assert "environ" in decision["sentence"] and decision["none"] is None

    hold_s = (
        datetime.fromisoformat(held["booking"]["hold_until"]) - datetime.fromisoformat(held["booking"]["held_at"])
    ).total_seconds()
    assert hold_s == 180


async def test_confirming_tells_the_practice_at_once(scene: Scene) -> None:
    (slot_id,) = await scene.practice.publish(scene.slot(60, offers=["enfant", "pmr"]))
    async with await scene.practice.listen() as practice, await scene.regulator.listen() as regulator:
        held = await scene.regulator.ask(scene.wish(needs=["enfant"], age_band="enfant"))
        booking_id = held["booking"]["booking_id"]
        await regulator.event("request.held", request_id=held["request_id"])
        assert not practice.events, "a hold is nothing to the practice yet"
        hidden = await scene.practice.get(f"/v1/bookings/{booking_id}")
        assert hidden.status_code == 404

        firm = await scene.regulator.act("confirm", held["request_id"], {"booking_id": booking_id})
        assert firm["status"] == "firm" and firm["booking"]["state"] == "firm"
        told = (await practice.event("booking.firm", booking_id=booking_id))["data"]
        assert told["slot_id"] == slot_id and told["needs"] == ["enfant"] and told["age_band"] == "enfant"
        # nothing that tells who the patient is, or where
        assert not {"lat", "lon", "insee", "case_ref", "mt", "request_id"} & told.keys()
        await regulator.event("request.firm", request_id=held["request_id"])

    seen = (await scene.practice.get(f"/v1/bookings/{booking_id}")).json()
    assert seen["state"] == "firm"
    window = {"from": scene.at(0).isoformat(), "to": scene.at(600).isoformat()}
    listed = (await scene.practice.get("/v1/bookings", **window)).json()["bookings"]
    assert [entry["booking_id"] for entry in listed] == [booking_id]
    mine = (await scene.practice.get("/v1/slots", **window)).json()["slots"]
    assert [(entry["slot_id"], entry["left"]) for entry in mine] == [(slot_id, 0)]


@pytest.mark.parametrize("scope", ["slot", "professional"])
async def test_declining_gives_another_and_never_the_same_again(scene: Scene, scope: str) -> None:
    doctor = {"rpps": rpps(), "name": "Dr Fictif deux créneaux"}
    first, second, other = await scene.practice.publish(
        scene.slot(60, professional=doctor), scene.slot(90, professional=doctor), scene.slot(120)
    )
    held = await scene.regulator.ask(scene.wish())
    request_id = held["request_id"]
    assert place(held)["slot_id"] == first
    await scene.regulator.act("decline", request_id, {"scope": scope})
    again = await scene.regulator.until(request_id, lambda d: d["status"] == "held")
    if scope == "slot":
        assert place(again)["slot_id"] == second
        await scene.regulator.act("decline", request_id, {"scope": scope})
        again = await scene.regulator.until(request_id, lambda d: d["status"] == "held")
    assert place(again)["slot_id"] == other
    assert not {a["slot_id"] for a in again["decision"]["alternatives"]} & {first}
    await scene.regulator.act("decline", request_id, {"scope": scope})
    last = await scene.regulator.until(request_id, lambda d: d["decision"]["place"] is None)
    assert none(last)["reason"] == "ALL_TAKEN"
    # even a change of the very slot does not bring it back
    await asyncio.sleep(0.3)
    assert (await scene.regulator.request(request_id))["status"] == "waiting"


async def test_cancelling_frees_the_seat_for_the_one_who_waits(scene: Scene) -> None:
    (slot_id,) = await scene.practice.publish(scene.slot(60))
    async with await scene.practice.listen() as practice, await scene.regulator.listen() as regulator:
        first = await scene.regulator.ask(scene.wish())
        await scene.regulator.act("confirm", first["request_id"])
        second = await scene.regulator.ask(scene.wish())
        assert none(second)["reason"] == "ALL_TAKEN"
        await regulator.event("request.waiting", request_id=second["request_id"])
        cancelled = await scene.regulator.act("cancel", first["request_id"], {"reason": "patient"})
        assert cancelled["status"] == "cancelled" and cancelled["booking"] is None
        told = await practice.event("booking.cancelled", booking_id=first["booking"]["booking_id"])
        assert told["data"]["end_reason"] == "patient"
        pushed = await regulator.event("request.held", request_id=second["request_id"])
        assert pushed["data"]["decision"]["place"]["slot_id"] == slot_id
        await regulator.event("request.cancelled", request_id=first["request_id"])
    refused = await scene.regulator.post(f"/v1/requests/{first['request_id']}/confirm")
    assert refused.status_code == 409 and refused.json()["code"] == "conflict"


async def test_a_hold_lapses_after_the_territorys_time_and_can_be_resumed(scene: Scene, service: Running) -> None:
    admin = await service.key("admin")
    path = f"/v1/territories/{scene.spot.territory}/settings"
    assert (await admin.get(path)).json()["hold_seconds"] == 180
    assert (await admin.patch(path, {"hold_seconds": 15, "why": "essai"})).status_code == 200
    await scene.practice.publish(scene.slot(60, capacity=30, lasting=120))

    async def short_hold() -> dict[str, Any] | None:
        document = await scene.regulator.ask(scene.wish())
        booking = document["booking"]
        length = datetime.fromisoformat(booking["hold_until"]) - datetime.fromisoformat(booking["held_at"])
        if length == timedelta(seconds=15):
            return document
        await scene.regulator.act("cancel", document["request_id"])  # gives the seat back: there are thirty
        return None

    held = await eventually(short_hold, 10)  # in force within three seconds
    request_id, booking_id = held["request_id"], held["booking"]["booking_id"]
    async with await scene.regulator.listen() as regulator:
        service.clock.ahead += timedelta(seconds=16)
        late = await scene.regulator.post(f"/v1/requests/{request_id}/confirm", {"booking_id": booking_id})
        assert (late.status_code, late.json()["code"]) == (409, "hold_ended"), "judged when read, not by the sweeper"
        await regulator.event("request.lapsed", request_id=request_id)
        lapsed = await scene.regulator.request(request_id)
        assert lapsed["status"] == "lapsed" and lapsed["booking"] is None
        resumed = await scene.regulator.act("resume", request_id)
        assert resumed["status"] == "waiting"
        again = await regulator.event("request.held", request_id=request_id)
        assert again["data"]["booking"]["booking_id"] != booking_id
    await scene.regulator.act("confirm", request_id)


async def test_taking_an_alternative_frees_the_place_held_before(scene: Scene) -> None:
    first, second = await scene.practice.publish(scene.slot(60), scene.slot(90))
    held = await scene.regulator.ask(scene.wish())
    (alternative,) = held["decision"]["alternatives"]
    assert (place(held)["slot_id"], alternative["slot_id"]) == (first, second)
    key = str(uuid.uuid4())
    path = f"/v1/requests/{held['request_id']}/take"
    took = await scene.regulator.post(path, {"slot_id": second}, key=key)
    assert took.status_code == 200 and place(took.json())["slot_id"] == second
    assert took.json()["decision"]["reasons"] == ["CHOSEN"]
    other = await scene.regulator.ask(scene.wish())
    assert place(other)["slot_id"] == first, "the place held before is free again"

    full = await scene.regulator.post(f"/v1/requests/{other['request_id']}/take", {"slot_id": second})
    assert (full.status_code, full.json()["code"]) == (409, "slot_full")
    kept = await scene.regulator.request(other["request_id"])
    assert kept["status"] == "held" and kept["booking"]["slot_id"] == first, "the original is kept"

    # the answer to a repeated call stays what it was, even when the place cannot be reached in time any more
    scene.service.clock.ahead += timedelta(minutes=88)
    replay = await scene.regulator.post(path, {"slot_id": second}, key=key)
    assert replay.status_code == 200 and replay.json() == took.json()
    fresh = await scene.regulator.post(path, {"slot_id": second})
    assert fresh.status_code == 409


async def test_a_refusal_reopens_the_request_and_finds_the_next(scene: Scene) -> None:
    first, second = await scene.practice.publish(scene.slot(60), scene.slot(90))
    held = await scene.regulator.ask(scene.wish())
    await scene.regulator.act("confirm", held["request_id"])
    booking_id = held["booking"]["booking_id"]
    async with await scene.regulator.listen() as regulator, await scene.practice.listen() as practice:
        refused = await scene.practice.post(f"/v1/bookings/{booking_id}/refuse", {"reason": "absent"})
        assert refused.status_code == 200
        assert refused.json()["state"] == "refused" and refused.json()["end_reason"] == "absent"
        await practice.event("booking.refused", booking_id=booking_id)
        await regulator.event("request.reopened", request_id=held["request_id"])
        pushed = await regulator.event("request.held", request_id=held["request_id"])
        assert pushed["data"]["decision"]["place"]["slot_id"] == second
    third = await scene.regulator.ask(scene.wish())
    assert none(third)["reason"] == "ALL_TAKEN", "the refused slot is withdrawn with it"
    assert first != second


async def test_a_refusal_that_keeps_the_slot_leaves_it_to_others(scene: Scene) -> None:
    (slot_id,) = await scene.practice.publish(scene.slot(60))
    held = await scene.regulator.ask(scene.wish())
    await scene.regulator.act("confirm", held["request_id"])
    path = f"/v1/bookings/{held['booking']['booking_id']}/refuse"
    assert (await scene.practice.post(path, {"keep_slot": True})).status_code == 200
    other = await scene.regulator.ask(scene.wish())
    assert place(other)["slot_id"] == slot_id
    first = await scene.regulator.request(held["request_id"])
    assert first["status"] == "waiting", "never the one that refused"


async def test_withdrawing_ends_bookings_and_finds_the_next(scene: Scene) -> None:
    gone, kept = scene.slot(60), scene.slot(90)
    _, second = await scene.practice.publish(gone, kept)
    held = await scene.regulator.ask(scene.wish())
    await scene.regulator.act("confirm", held["request_id"])
    async with await scene.regulator.listen() as regulator, await scene.practice.listen() as practice:
        answer = await scene.practice.post("/v1/slots/withdraw", {"external_ids": [gone["external_id"], "jamais-vu"]})
        assert answer.status_code == 200
        assert answer.json()["counts"] == {"withdrawn": 1, "not_found": 1}
        await practice.event("booking.withdrawn", booking_id=held["booking"]["booking_id"])
        pushed = await regulator.event("request.held", request_id=held["request_id"])
        assert pushed["data"]["decision"]["place"]["slot_id"] == second
    window = {"from": scene.at(0).isoformat(), "to": scene.at(600).isoformat()}
    stopped = await scene.practice.post("/v1/slots/withdraw", window)
    assert stopped.json()["counts"] == {"withdrawn": 1}
    last = await scene.regulator.until(held["request_id"], lambda d: d["status"] == "waiting")
    assert last["booking"] is None


async def test_an_outcome_is_told_from_the_start_on_and_may_be_corrected(scene: Scene, service: Running) -> None:
    await scene.practice.publish(scene.slot(30))
    held = await scene.regulator.ask(scene.wish())
    await scene.regulator.act("confirm", held["request_id"])
    path = f"/v1/bookings/{held['booking']['booking_id']}/outcome"
    early = await scene.practice.post(path, {"outcome": "fulfilled"})
    assert (early.status_code, early.json()["code"]) == (409, "conflict")
    service.clock.ahead += timedelta(minutes=31)
    async with await scene.regulator.listen() as regulator:
        for outcome in ("noshow", "fulfilled"):
            done = await scene.practice.post(path, {"outcome": outcome})
            assert done.status_code == 200 and done.json()["state"] == outcome
            await regulator.event(f"request.{outcome}", request_id=held["request_id"])


async def test_offers_come_in_six_buckets(scene: Scene) -> None:
    # a bucket each but the last two, whose end depends on the hour of the day (end of the day after tomorrow)
    minutes = [60, 5 * 60, 9 * 60, 13 * 60, 25 * 60]
    ids = await scene.practice.publish(*(scene.slot(m, km_north=0.5) for m in minutes), scene.slot(60, km_north=30))
    answer = await scene.regulator.get("/v1/offers", insee=scene.spot.code, profession="MG", radius_km=10)
    assert answer.status_code == 200
    found = answer.json()
    assert list(found["buckets"]) == ["0-4h", "4-8h", "8-12h", "12-24h", "24-48h", "48-72h"]
    placed = {
        name: [p["slot_id"] for card in found["cards"] for p in card["buckets"][name]] for name in found["buckets"]
    }
    assert [placed[name] for name in list(placed)[:5]] == [[slot_id] for slot_id in ids[:5]]
    assert found["buckets"] == {name: len(slots) for name, slots in placed.items()}
    assert all(ids[5] not in slots for slots in placed.values()), "out of the radius"
    held = await scene.regulator.ask(scene.wish())
    after = (await scene.regulator.get("/v1/offers", insee=scene.spot.code, profession="MG", radius_km=10)).json()
    assert place(held)["slot_id"] == ids[0] and after["buckets"]["0-4h"] == 0, "a held place is not free"
    wanted = await scene.regulator.get("/v1/offers", insee=scene.spot.code, profession="MG", needs="ecg", radius_km=10)
    assert wanted.json()["cards"] == []


@pytest.mark.parametrize(
    ("patient", "practice", "radius"),
    [
        ("97120", "30189", 150.0),  # Guadeloupe, métropole
        ("97131", "97120", 100.0),  # les Saintes, Guadeloupe: 42 km of sea
        ("29155", "29040", 50.0),  # Ouessant, Le Conquet: 26 km of sea
    ],
)
async def test_no_place_across_the_sea(
    service: Running, scene: Scene, patient: str, practice: str, radius: float
) -> None:
    here, there = service.geography.by_code(patient), service.geography.by_code(practice)
    assert here is not None and there is not None
    # a profession that no other test uses: what another test leaves on these shores must not be found
    (slot_id,) = await scene.practice.publish(slot(there, scene.at(600), profession="ORTHOPED"))
    asked = await scene.regulator.ask(wish(here, profession="ORTHOPED", radius_km=radius))
    assert none(asked)["reason"] == "NO_SLOT_FOR_PROFESSION", "what cannot be reached by road does not count at all"
    listed = await scene.regulator.get("/v1/offers", insee=patient, profession="ORTHOPED", radius_km=radius)
    assert listed.json()["cards"] == []
    own = await scene.regulator.ask(wish(there, profession="ORTHOPED", radius_km=radius))
    assert place(own)["slot_id"] == slot_id, "whoever lives there gets it"
    await scene.regulator.act("cancel", asked["request_id"])  # else it takes the next case's place


async def test_teleconsultation_knows_no_distance(scene: Scene, service: Running) -> None:
    far = service.geography.by_code("97411")  # La Réunion
    assert far is not None
    (slot_id,) = await scene.practice.publish(slot(far, scene.at(60), mode="tele", profession="PSY"))
    held = await scene.regulator.ask(scene.wish(profession="PSY", modes=["tele"]))
    found = place(held)
    assert found["slot_id"] == slot_id
    assert found["distance_km"] is None and found["travel_min"] == 0
    assert "en téléconsultation" in held["decision"]["sentence"]


async def test_the_medecin_traitant_has_a_bonus_or_goes_first(scene: Scene, service: Running) -> None:
    own = {"rpps": rpps(), "name": "Dr Fictif Traitant"}
    # T2: 0.05 a minute waited. 60 minutes later cost 3, 2 km cost 3.9: the bonus of 6 covers the first, not both
    nearest, traitant = await scene.practice.publish(
        scene.slot(60, capacity=9, lasting=60), scene.slot(120, professional=own, capacity=9, lasting=60)
    )
    stranger = await scene.regulator.ask(scene.wish())
    assert place(stranger)["slot_id"] == nearest
    patient = await scene.regulator.ask(scene.wish(mt=own["rpps"]))
    assert place(patient)["slot_id"] == traitant and place(patient)["is_mt"]
    assert patient["decision"]["reasons"][0] == "MEDECIN_TRAITANT"
    assert patient["decision"]["cost"]["mt_bonus_min"] == 6.0
    await scene.regulator.act("confirm", patient["request_id"])
    told = (await scene.practice.get(f"/v1/bookings/{patient['booking']['booking_id']}")).json()
    assert told["own_patient"] is True

    elsewhere = next_spot(service.geography)
    nearer, remote = await scene.practice.publish(
        slot(elsewhere, scene.at(60), capacity=9, lasting=60),
        slot(elsewhere, scene.at(600), capacity=9, lasting=60, professional=own, km_north=4),
    )
    asked = wish(elsewhere, mt=own["rpps"])
    assert place(await scene.regulator.ask(asked))["slot_id"] == nearer, "the bonus has a limit"
    admin = await service.key("admin")
    path = f"/v1/territories/{elsewhere.territory}/settings"
    assert (await admin.patch(path, {"mt_rule": "first", "why": "essai"})).status_code == 200

    async def goes_first() -> bool:
        return bool(place(await scene.regulator.ask(asked))["slot_id"] == remote)

    await eventually(goes_first, 5)


async def test_each_reason_for_none_has_its_code(scene: Scene) -> None:
    async def why(**changes: Any) -> str:
        found = none(await scene.regulator.ask(scene.wish(profession="PODO", **changes)))
        assert found["sentence"].startswith("Pas de place pour l'instant")
        return str(found["reason"])

    assert await why() == "NO_SLOT_FOR_PROFESSION"
    await scene.practice.publish(scene.slot(24 * 60 + 60, profession="PODO", km_north=10))
    assert await why(modes=["visite"]) == "MODE_NOT_OFFERED"
    assert await why(needs=["ecg"]) == "NEED_NOT_OFFERED"
    assert await why() == "NO_SLOT_IN_RADIUS"
    (way,) = none(await scene.regulator.ask(scene.wish(profession="PODO", delay="48H")))["would_help"]
    assert way["concessions"] == ["radius"] and way["place"]["profession"] == "PODO"
    assert await why(radius_km=20) == "NO_SLOT_BEFORE_DEADLINE"
    # what it says to ask for does get the place
    held = await scene.regulator.ask(scene.wish(profession="PODO", delay="48H", **way["ask"]))
    assert place(held)["slot_id"] == way["place"]["slot_id"]
    assert await why(radius_km=20, delay="48H") == "ALL_TAKEN"


async def test_without_a_matcher_the_answer_is_202_and_the_decision_is_pushed(scene: Scene, service: Running) -> None:
    (slot_id,) = await scene.practice.publish(scene.slot(60))
    async with await scene.regulator.listen() as regulator:
        await service.stop_core()
        try:
            key = str(uuid.uuid4())
            answer = await scene.regulator.post("/v1/requests", scene.wish(), key=key)
            assert answer.status_code == 202
            document = answer.json()
            assert document["status"] == "waiting" and document["decision"] is None
            ready = await scene.regulator.get("/readyz")
            assert ready.status_code == 503 and ready.json()["components"]["matcher"].startswith("missing")
        finally:
            await service.start_core()
        pushed = await regulator.event("request.held", request_id=document["request_id"])
        assert pushed["data"]["decision"]["place"]["slot_id"] == slot_id
    replay = await scene.regulator.post("/v1/requests", scene.wish(), key=key)
    assert replay.status_code == 201 and replay.json() == pushed["data"]


async def _ways(service: Running, request_id: str) -> list[str]:
    """Return what was said of a request to the matcher until it was decided."""
    entries = await service.stores.bus.range(REQUESTS_STREAM, "0-0", "+", 10_000)
    mine = [entry for entry in entries if entry.fields[b"request"].decode() == request_id]
    return [entry.fields[b"type"].decode() for entry in mine]


async def _committed(service: Running, way: str) -> float:
    """Return how many were committed in a way: ``decided`` (with the decision), ``before`` it, ``replayed``."""
    async with httpx.AsyncClient(base_url=service.url, trust_env=False) as http:
        lines = (await http.get("/metrics")).text.splitlines()
    return sum(float(line.split()[1]) for line in lines if line.startswith(f'sas_arrivals_total{{way="{way}"}}'))


async def test_a_request_is_committed_with_its_decision(scene: Scene, service: Running) -> None:
    await scene.practice.publish(scene.slot(60))
    before = await _committed(service, "decided")
    held = await scene.regulator.ask(scene.wish())
    assert held["status"] == "held" and held["version"] == 2
    assert await _committed(service, "decided") == before + 1
    assert await _ways(service, held["request_id"]) == [ARRIVAL]
    (row,) = await service.rows("select status, created_at from request where id = $1", held["request_id"])
    assert row["status"] == "held" and datetime.fromisoformat(held["created_at"]) == row["created_at"]
    nothing = await scene.regulator.ask(scene.wish())
    assert none(nothing) and await _ways(service, nothing["request_id"]) == [ARRIVAL]


async def test_whose_medecin_traitant_may_go_first_is_committed_first(scene: Scene, service: Running) -> None:
    await scene.practice.publish(scene.slot(60))
    before = await _committed(service, "before")
    held = await scene.regulator.ask(scene.wish(mt=rpps()))
    assert await _committed(service, "before") == before + 1
    assert held["status"] == "held" and await _ways(service, held["request_id"]) == ["open"]


async def test_a_call_repeated_at_another_worker_is_answered_from_the_ledger(scene: Scene, service: Running) -> None:
    await scene.practice.publish(scene.slot(60), scene.slot(90))
    key = str(uuid.uuid4())
    first = await scene.regulator.ask(scene.wish(), key=key)
    service.app.state.wire.arrivals._sent.clear()  # as another worker, which has not seen the first
    again = await scene.regulator.post("/v1/requests", scene.wish(), key=key)
    assert again.json() == first and again.headers["idempotent-replay"] == "true"
    assert len(await service.rows("select from request where key_id = $1", scene.regulator.key_id)) == 1
    assert len(await service.rows("select from booking b join request r on r.id = b.request_id where key_id = $1",
                                  scene.regulator.key_id)) == 1  # fmt: skip


# -- exactly once ------------------------------------------------------------------------------------------------------


async def test_a_replay_gives_the_same_answer_and_another_body_is_refused(scene: Scene) -> None:
    await scene.practice.publish(scene.slot(60), scene.slot(90))
    key = str(uuid.uuid4())
    first = await scene.regulator.post("/v1/requests", scene.wish(), key=key)
    again = await scene.regulator.post("/v1/requests", scene.wish(), key=key)
    assert again.json() == first.json() and again.status_code == first.status_code == 201
    assert again.headers["idempotent-replay"] == "true"
    other = await scene.regulator.post("/v1/requests", scene.wish(delay="4H"), key=key)
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_reused")
    # the same key on another address is another action
    elsewhere = await scene.regulator.post(f"/v1/requests/{first.json()['request_id']}/cancel", {}, key=key)
    assert (elsewhere.status_code, elsewhere.json()["code"]) == (409, "idempotency_reused")
    assert (await scene.regulator.request(first.json()["request_id"]))["status"] == "held"
    # and the keys of two callers never meet
    neighbour = await scene.service.regulator()
    theirs = await neighbour.post("/v1/requests", scene.wish(delay="4H"), key=key)
    assert theirs.status_code == 201 and theirs.json()["request_id"] != first.json()["request_id"]


async def test_a_replayed_action_is_not_done_twice(scene: Scene) -> None:
    await scene.practice.publish(scene.slot(60), scene.slot(90))
    held = await scene.regulator.ask(scene.wish())
    key = str(uuid.uuid4())
    path = f"/v1/requests/{held['request_id']}/decline"
    first = await scene.regulator.post(path, {}, key=key)
    again = await scene.regulator.until(held["request_id"], lambda d: d["status"] == "held")
    replay = await scene.regulator.post(path, {}, key=key)
    assert replay.status_code == 200 and replay.json() == first.json()
    assert (await scene.regulator.request(held["request_id"]))["booking"] == again["booking"], "the second is kept"
    assert again["booking"]["slot_id"] != held["booking"]["slot_id"]


async def test_concurrent_duplicates_create_one(scene: Scene, service: Running) -> None:
    await scene.practice.publish(*(scene.slot(60 + n) for n in range(12)))
    key = str(uuid.uuid4())
    decided, replayed = [await _committed(service, way) for way in ("decided", "replayed")]
    answers = await asyncio.gather(*(scene.regulator.post("/v1/requests", scene.wish(), key=key) for _ in range(12)))
    # the first is committed with its decision, and no other instead of it meanwhile
    assert [await _committed(service, way) for way in ("decided", "replayed")] == [decided + 1, replayed + 11]
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["request_id"] for answer in answers}) == 1
    mine = await service.rows("select id from request where key_id = $1", scene.regulator.key_id)
    assert len(mine) == 1
    request_id = answers[0].json()["request_id"]

    async def confirm(caller: Caller) -> int:
        return (await caller.post(f"/v1/requests/{request_id}/confirm", {}, key=key + "-c")).status_code

    assert set(await asyncio.gather(*(confirm(scene.regulator) for _ in range(12)))) == {200}
    firm = await service.rows("select state, version from booking where request_id = $1", mine[0]["id"])
    assert [(row["state"], row["version"]) for row in firm] == [("firm", 2)]


async def test_requests_are_listed_by_status_newest_first(scene: Scene) -> None:
    await scene.practice.publish(scene.slot(60), scene.slot(90))
    held = [(await scene.regulator.ask(scene.wish()))["request_id"] for _ in range(3)]
    listed = (await scene.regulator.get("/v1/requests")).json()["requests"]
    assert [entry["request_id"] for entry in listed] == held[::-1]
    waiting = (await scene.regulator.get("/v1/requests", status="waiting,lapsed")).json()["requests"]
    assert [entry["request_id"] for entry in waiting] == [held[2]]
    older = (await scene.regulator.get("/v1/requests", before=listed[0]["created_at"], limit=1)).json()["requests"]
    assert [entry["request_id"] for entry in older] == [held[1]]


async def test_a_request_is_handed_to_a_colleague_and_both_hear_of_it(scene: Scene, service: Running) -> None:
    colleague = await service.regulator(scene.spot.territory)
    elsewhere = await service.regulator("974")
    await scene.practice.publish(scene.slot())
    held = await scene.regulator.ask(scene.wish())
    names = [c["key"] for c in (await scene.regulator.get("/v1/colleagues")).json()["colleagues"]]
    assert colleague.key_id in names and scene.regulator.key_id not in names and scene.practice.key_id not in names
    for wrong in (elsewhere.key_id, scene.practice.key_id, "000000000000"):
        refused = await scene.regulator.post(f"/v1/requests/{held['request_id']}/hand", {"to": wrong})
        assert refused.status_code == 422 and "to" in refused.json()["detail"]
    async with await scene.regulator.listen() as first, await colleague.listen() as second:
        handed = await scene.regulator.act("hand", held["request_id"], {"to": colleague.key_id}, key="handed-over-once")
        again = await scene.regulator.act("hand", held["request_id"], {"to": colleague.key_id}, key="handed-over-once")
        assert again == handed
        for listener in (first, second):
            await listener.event("request.handed", request_id=held["request_id"])
    assert (await scene.regulator.get(f"/v1/requests/{held['request_id']}")).status_code == 404
    firm = await colleague.act("confirm", held["request_id"])
    assert firm["booking"]["booking_id"] == held["booking"]["booking_id"] and firm["status"] == "firm"
