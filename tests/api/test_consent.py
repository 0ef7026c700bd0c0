"""Consent through HTTP: what a practice does not let leave nobody sees, and it reads who saw the rest."""

from typing import Any

from tests.api.conftest import Scene
from tests.api.running import Running, eventually, rpps
from tests.api.test_bad_input import problem


async def test_a_rule_hides_places_at_once_and_what_was_shown_is_listed(scene: Scene, service: Running) -> None:
    doctor = rpps()
    practice = await service.practice(professionals=(doctor,))
    await practice.publish(scene.slot(120, professional={"rpps": doctor, "name": "Dr Fictif"}))
    where = {"insee": scene.spot.code, "profession": "MG"}

    async def shown() -> bool:
        cards = (await scene.regulator.get("/v1/offers", **where)).json()["cards"]
        return any(card["professional"] == doctor for card in cards)

    assert await shown()
    rule = {"professionals": [doctor], "own_first_min": 60}
    answer = await practice.http.put("/v1/share-rules/siens", json=rule)
    assert answer.status_code == 200, answer.text
    assert (answer.json()["channels"], answer.json()["from"], answer.json()["to"]) == (
        ["platform", "sas"],
        "00:00",
        "24:00",
    )
    assert not await shown()
    # its own patient has it, others do not
    held = await scene.regulator.ask(scene.wish(mt=doctor))
    assert (held["status"], held["decision"]["place"]["is_mt"]) == ("held", True)
    await scene.regulator.act("cancel", held["request_id"])
    other = await scene.regulator.ask(scene.wish())
    assert other["status"] == "waiting"
    assert (await practice.get("/v1/share-rules")).json()["rules"] == [answer.json()]
    await practice.http.delete("/v1/share-rules/siens")
    # who waited for it hears of it
    await scene.regulator.until(other["request_id"], lambda request: request["status"] == "held")
    window = {"from": scene.at(-5).isoformat(), "to": scene.at(1).isoformat()}

    async def listed() -> Any:
        found = (await practice.get("/v1/exposures", **window)).json()["exposures"]
        return found if len(found) == 3 else None

    found = await eventually(listed)
    assert [(one["what"], one["rule"], one["role"]) for one in found] == [
        ("proposed", "publication", "osnp"),
        ("proposed", "siens", "osnp"),
        ("offers", "publication", "osnp"),
    ]
    assert {one["key_id"] for one in found} == {scene.regulator.key_id}
    stranger = await service.practice(professionals=(rpps(),))
    assert (await stranger.get("/v1/exposures", **window)).json() == {"exposures": []}


async def test_rules_are_of_who_may_set_them(scene: Scene, service: Running) -> None:
    mine, theirs = rpps(), rpps()
    practice = await service.practice(professionals=(mine,))
    refused = await practice.http.put("/v1/share-rules/a", json={"professionals": [mine, theirs]})
    assert "professionals.1" in problem(refused, 422, "invalid_input")["detail"]
    for body, named in (
        ({"professionals": []}, "membre"),
        ({"professionals": [mine], "from": "12:00", "to": "10:00"}, "to"),
        ({"professionals": [mine], "channels": ["web"]}, "channels"),
        ({"professionals": [mine], "patient": "X"}, "patient"),
        ({"professionals": [mine], "territory": "99"}, "99"),
    ):
        answer = await practice.http.put("/v1/share-rules/a", json=body)
        assert named in problem(answer, 422, "invalid_input")["detail"], body
    problem(await practice.get("/v1/share-rules/none"), 404, "not_found")
    long = {"from": scene.at(0).isoformat(), "to": scene.at(32 * 1440).isoformat()}
    problem(await practice.get("/v1/exposures", **long), 422, "invalid_input")


async def test_a_practice_reads_what_it_gets_back_and_nobody_elses(scene: Scene, service: Running) -> None:
    doctor, centre = rpps(), "690000199"
    practice = await service.practice(professionals=(doctor,), structures=(centre,))
    owner = {
        "professional": {"rpps": doctor, "name": "Dr Fictif"},
        "structure": {"finess": centre, "name": "Centre", "kind": "cds"},
    }
    await practice.publish(scene.slot(120, source_kind="cds", **owner))
    held = await scene.regulator.ask(scene.wish(has_mt="no"))
    await scene.regulator.act("confirm", held["request_id"])
    window = {"from": scene.at(-60).isoformat(), "to": scene.at(60 * 24).isoformat()}
    found = (await practice.get("/v1/statement", **window)).json()
    (act,) = found["acts"]
    assert (act["by_sas"], act["not_own_patient"], act["within_48h"]) == (True, True, True)
    assert (act["paid_to"], act["regulator"], act["booking_id"]) == (
        f"structure:{centre}",
        "osnp",
        held["booking"]["booking_id"],
    )
    assert {(row["kind"], row["hours_offered"]) for row in found["weeks"]} == {
        ("professional", 0.25),
        ("structure", 0.25),
    }
    # a gestionnaire of the centre reads the same; who steers a territory and has no structure, nothing
    gestionnaire = await service.key("gestionnaire", territories=(scene.spot.territory,), structures=(centre,))
    assert (await gestionnaire.get("/v1/statement", **window)).json()["acts"] == [act]
    stranger = await service.practice(professionals=(rpps(),))
    assert (await stranger.get("/v1/statement", **window)).json()["acts"] == []
    cpts = await service.key("cpts", territories=(scene.spot.territory,))
    problem(await cpts.get("/v1/statement", **window), 403, "not_allowed")
    table = await practice.get("/v1/statement", **window, format="csv", what="weeks")
    assert table.headers["content-type"] == "text/csv; charset=utf-8"
    assert table.text.startswith("\ufeffkind;id;name;week;") and f"structure;{centre};Centre;" in table.text
    long = {**window, "to": scene.at(94 * 1440).isoformat()}
    problem(await practice.get("/v1/statement", **long), 422, "invalid_input")
