"""Editors of agendas polled into the live places: real ledger and Redis, mock editors, faults of all kinds."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import orjson
import pytest

from adapters.fhir import names
from adapters.fhir.searchsets import Place
from adapters.redis.editors import FAILURES, RedisEditors
from loadtests.audit import says_mute
from sas_matcher.services.editors.view import TOO_OLD
from tests.api.conftest import Scene
from tests.api.running import rpps
from tests.editor_cases import STEADY, Always, Desk, Send, open_desk
from tests.fhir_cases import site


@pytest.fixture
async def desk(scene: Scene) -> AsyncIterator[Desk]:
    async with open_desk(scene) as found:
        yield found


async def test_what_an_editor_shows_is_matched_like_any_other_place(desk: Desk) -> None:
    who = rpps()
    desk.editor("un", [who], [desk.place("c1", 120, who), desk.place("c2", 160, who)])
    await desk.poll()
    live = await desk.live("un")
    assert set(live) == {"c1", "c2"}
    row = live["c1"]
    assert (row["professional"], row["insee"], row["mode"]) == (who, desk.scene.spot.code, "cabinet")
    assert row["profession"] == "MG" and row["visibility"] == "public" and row["source_kind"] == "liberal"
    asked = await desk.scene.regulator.ask(desk.scene.wish())
    assert asked["status"] == "held" and asked["booking"]["slot_id"] in {r["id"] for r in live.values()}


async def test_what_is_shown_no_more_is_withdrawn_and_what_is_still_there_is_fresh(desk: Desk) -> None:
    who = rpps()
    places = [desk.place("c1", 120, who), desk.place("c2", 160, who)]
    desk.editor("deux", [who], places)
    await desk.poll()
    before = (await desk.live("deux"))["c2"]["checked_at"]
    desk.later(30)
    gone = places.pop(0)
    await desk.poll()
    live = await desk.live("deux")
    assert set(live) == {"c2"}
    assert live["c2"]["checked_at"] - before >= timedelta(seconds=30)
    assert live["c2"]["valid_at"] == live["c2"]["checked_at"]
    places.append(gone)
    await desk.poll()
    assert set(await desk.live("deux")) == {"c1", "c2"}


async def test_a_practitioner_of_two_editors_is_shown_once_and_of_two_places_at_both(desk: Desk) -> None:
    who, spot = rpps(), desk.scene.spot
    elsewhere = site("s2", city=spot.name, postcode=spot.postcodes[0], structure=None)
    same = desk.place("a1", 120, who)
    first = [same, desk.place("a2", 200, who, site=elsewhere)]
    desk.editor("premier", [who], first)
    desk.editor("second", [who], [same._replace(slot_id="b1"), desk.place("b2", 300, who)])
    await desk.poll("premier", "second")
    await desk.poll("premier", "second")
    assert set(await desk.live("premier")) == {"a1", "a2"} and set(await desk.live("second")) == {"b2"}
    # who had it first shows it no more: the other's copy takes its place
    first.pop(0)
    await desk.poll("premier", "second")
    assert set(await desk.live("premier")) == {"a2"} and set(await desk.live("second")) == {"b1", "b2"}


async def test_what_the_practice_publishes_itself_goes_before_its_editor(desk: Desk) -> None:
    who = rpps()
    shown = desk.place("c1", 120, who)
    desk.editor("copie", [who], [shown])
    await desk.poll()
    start = (await desk.live("copie"))["c1"]["starts"]
    times = {"start": start.isoformat(), "end": (start + timedelta(minutes=15)).isoformat()}
    person = {"rpps": who, "name": "Dr Fictif"}
    await desk.scene.practice.publish({**desk.scene.slot(), **times, "professional": person})
    await desk.poll()
    assert await desk.live("copie") == {}


@pytest.mark.parametrize(("city", "named", "postcode"), [("75056", "PARIS", "75011"), ("69123", "LYON", "69003"),
                                                         ("13055", "MARSEILLE", "13006")])  # fmt: skip
async def test_an_arrondissement_and_its_city_are_the_same_place(
    desk: Desk, city: str, named: str, postcode: str
) -> None:
    who, name = rpps(), f"ville{city}"
    where = site("s1", city=named, postcode=postcode, structure=None)
    # in a commune that is not this test's own: after all deadlines (48 h), so that nobody who waits there takes it
    desk.editor(name, [who], [desk.place("c1", 70 * 60, who, site=where)])
    await desk.poll()
    row = (await desk.live(name))["c1"]
    assert row["insee"] != city
    times = {"start": row["starts"].isoformat(), "end": row["ends"].isoformat()}
    own = {"location": {"insee": city, "lat": row["lat"], "lon": row["lon"]}, **times}
    person = {"rpps": who, "name": "Dr Fictif"}
    await desk.scene.practice.publish({**desk.scene.slot(), **own, "professional": person})
    await desk.poll()
    assert await desk.live(name) == {}


async def test_two_times_that_overlap_under_two_editors_are_never_both_given(desk: Desk) -> None:
    who = rpps()
    desk.editor("ici", [who], [desk.place("a", 120, who)])
    desk.editor("la", [who], [desk.place("b", 125, who)])
    await desk.poll()
    first = await desk.scene.regulator.ask(desk.scene.wish())
    second = await desk.scene.regulator.ask(desk.scene.wish())
    assert (first["status"], second["status"]) == ("held", "waiting")


async def test_a_place_that_is_being_booked_here_stays_when_its_editor_hides_it(desk: Desk) -> None:
    who = rpps()
    places = [desk.place("c1", 120, who)]
    desk.editor("cache", [who], places)
    await desk.poll()
    asked = await desk.scene.regulator.ask(desk.scene.wish())
    assert asked["status"] == "held"
    places.clear()
    await desk.poll()
    done = await desk.scene.regulator.act("confirm", asked["request_id"])
    assert done["status"] == "firm"
    await desk.poll()
    assert (await desk.scene.regulator.request(asked["request_id"]))["status"] == "firm"


def answering(status: int, body: bytes, kind: str = names.JSON) -> Send:
    async def send(request: httpx.Request) -> httpx.Response:
        return httpx.Response(status, content=body, headers={"content-type": kind})

    return send


async def broken(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("refused", request=request)


async def late(request: httpx.Request) -> httpx.Response:
    raise httpx.ReadTimeout("late", request=request)


PANNE = {"severity": "error", "code": "transient", "diagnostics": "panne"}
OUTCOME = {"resourceType": "OperationOutcome", "issue": [PANNE]}
DEEP = b'{"resourceType":"Bundle","type":"searchset","x":' + b"[" * 900 + b"]" * 900 + b"}"
NO_PAGE = b'{"resourceType":"Bundle","type":"searchset","link":[{"relation":"next","url":"?page=\\u0001"}]}'
FAILURES_OF: dict[str, tuple[Send, str]] = {
    "deep": (answering(200, DEEP), "niveaux imbriqués"),
    "page": (answering(200, NO_PAGE), "lien next illisible"),
    "no-issue": (answering(500, b'{"resourceType":"OperationOutcome","issue":null}'), "erreur 500"),
    "503": (answering(503, orjson.dumps(OUTCOME)), "erreur 503 : panne"),
    "html": (answering(200, b"<html>", "text/html"), "JSON"),
    "collection": (answering(200, b'{"resourceType":"Bundle","type":"collection"}'), "Bundle illisible"),
    "huge": (answering(200, b" " * (8 * 2**20 + 1)), "plus de 8 Mo"),
    "away": (broken, "connexion impossible"),
    "late": (late, "7 s"),
}


@pytest.mark.parametrize("kind", sorted(FAILURES_OF))
async def test_a_failure_is_shown_as_one_and_costs_nobody_anything(desk: Desk, kind: str) -> None:
    who, other = rpps(), rpps()
    answer, words = FAILURES_OF[kind]
    working = [desk.place("c1", 240, who)]
    down = {"now": False}

    async def send(request: httpx.Request) -> httpx.Response:
        app = Always(working, STEADY, desk.scene.service.clock.now, asyncio.sleep, "https://x.example").app()
        return await (answer(request) if down["now"] else httpx.ASGITransport(app).handle_async_request(request))

    name = f"panne-{kind}"
    desk.editor(name, [who], send=send)
    desk.editor(f"voisin-{kind}", [other], [desk.place("v1", 240, other)])
    await desk.poll()
    down["now"] = True
    for _ in range(4):
        desk.later(61)
        await desk.poll()
    assert set(await desk.live(name)) == {"c1"}, "the last good state is kept"
    (mute,) = await desk.view().mute()
    assert mute["name"] == name and mute["mute_s"] >= 240
    assert "muet depuis 4 min" in mute["sentence"] and words in mute["sentence"], mute
    states = {editor["name"]: editor["state"] for editor in await desk.view().all()}
    assert states == {name: "mute", f"voisin-{kind}": "ok"}
    assert says_mute({"editors": await desk.view().all()}), "what the load test's auditor reads"
    # too old: no longer proposed, and still said to be mute
    desk.later(TOO_OLD.total_seconds())
    await desk.poll(f"voisin-{kind}")
    assert desk.polling is not None
    await desk.polling.sweep()
    assert await desk.live(name) == {} and set(await desk.live(f"voisin-{kind}")) == {"v1"}
    assert desk.watch.muted[name] > 600 and desk.watch.muted[f"voisin-{kind}"] == 0
    # back again
    down["now"] = False
    desk.later(61)
    await desk.poll()
    assert set(await desk.live(name)) == {"c1"} and await desk.view().mute() == []
    assert not says_mute({"editors": await desk.view().all()})


@pytest.mark.faults("editors.batch")
async def test_an_answer_that_nobody_foresaw_is_the_failure_of_its_editor_alone(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    who = rpps()
    strange = desk.editor("etrange", [who], [desk.place("c1", 120, who)])

    async def surprise(*_: object) -> None:
        raise LookupError("surprise")

    monkeypatch.setattr(strange, "ask", surprise)
    for _ in range(FAILURES):
        await desk.poll()
    assert desk.watch.calls == [("etrange", "failed")] * FAILURES
    (mute,) = await desk.view().mute()
    assert "réponse inutilisable" in mute["sentence"] and "surprise" not in mute["sentence"]


async def test_texts_that_no_store_takes_cost_their_slot_alone(desk: Desk) -> None:
    who = rpps()
    family = "FIC\0TIF"
    odd = [
        desk.place("c1", 120, who, family=family, site=site("s\0", city=desk.scene.spot.name, postcode="69002")),
        desk.place("c" * 5_000, 160, who),
        desk.place("c2", 200, who),
    ]
    desk.editor("bizarre", [who], odd)
    await desk.poll()
    assert desk.watch.calls == [("bizarre", "ok")]
    live = await desk.live("bizarre")
    assert "c2" in live and "FICTIF" in {row["professional_name"].split()[-1] for row in live.values()}
    (seen,) = await desk.view().all()
    assert seen["dropped"] == {"no_id": 1}


async def test_a_batch_that_failed_is_asked_for_again_at_once(desk: Desk) -> None:
    who = rpps()
    answers = iter((503, 200))
    app = Always(
        [desk.place("c1", 120, who)], STEADY, desk.scene.service.clock.now, asyncio.sleep, "https://x.example"
    ).app()

    async def send(request: httpx.Request) -> httpx.Response:
        status = next(answers)
        if status != 200:
            return httpx.Response(status)
        return await httpx.ASGITransport(app).handle_async_request(request)

    editor = desk.editor("hoquet", [who], send=send)
    assert desk.polling is not None
    pauses = [await desk.polling.poll(editor, editor.batches[0]) for _ in range(2)]
    assert desk.watch.calls == [("hoquet", "failed"), ("hoquet", "ok")] and pauses[0] <= 10 < pauses[1]
    assert set(await desk.live("hoquet")) == {"c1"}
    await desk.scene.service.stores.bus.redis.delete(f"sas:editor:hoquet:batch:{editor.batches[0].key}")


async def test_an_open_circuit_spares_the_editor_in_all_processes_until_one_trial_succeeds(desk: Desk) -> None:
    desk.editor("coupe", [rpps()], send=broken)
    for _ in range(FAILURES):
        await desk.poll()
    assert desk.watch.calls == [("coupe", "failed")] * FAILURES
    await desk.poll()
    assert len(desk.watch.calls) == FAILURES, "an open circuit asks nobody"
    now = desk.scene.service.clock.now()
    other = RedisEditors(desk.scene.service.stores.bus)
    assert not await other.admit("coupe", now)
    later = now + timedelta(seconds=11)
    assert await other.admit("coupe", later) and not await desk.board.admit("coupe", later)
    await other.failed("coupe", later, "encore")
    # twice the pause
    assert not await other.admit("coupe", later + timedelta(seconds=19))
    assert await other.admit("coupe", later + timedelta(seconds=21))
    await other.succeeded("coupe", later + timedelta(seconds=22), {})
    assert await desk.board.admit("coupe", later + timedelta(seconds=22))
    assert await other.admit("coupe", later + timedelta(seconds=22))


async def test_a_batch_is_asked_for_by_one_process_at_a_time(desk: Desk) -> None:
    assert await desk.board.take("x", "ps-0", 30) and not await desk.board.take("x", "ps-0", 30)
    assert await desk.board.take("x", "ps-1", 30) and await desk.board.take("y", "ps-0", 30)
    for name in ("x:batch:ps-0", "x:batch:ps-1", "y:batch:ps-0"):
        await desk.scene.service.stores.bus.redis.delete(f"sas:editor:{name}")


async def test_what_an_editor_shows_of_others_is_dropped_and_counted(desk: Desk) -> None:
    who, stranger = rpps(), rpps()
    lying = [desk.place("c1", 120, who), desk.place("c2", 120, stranger), desk.place("c3", 140, who, specialty="SM99")]

    class Liar(Always):
        def _shown(self, known: Any, wanted: Any, window: Any) -> list[Place]:
            return self._places

    async def send(request: httpx.Request) -> httpx.Response:
        app = Liar(lying, STEADY, desk.scene.service.clock.now, asyncio.sleep, "https://x.example").app()
        return await httpx.ASGITransport(app).handle_async_request(request)

    desk.editor("menteur", [who], send=send)
    await desk.poll()
    assert set(await desk.live("menteur")) == {"c1"}
    (seen,) = await desk.view().all()
    assert seen["dropped"] == {"not_asked": 1, "no_profession": 1} and seen["places"] == 1
