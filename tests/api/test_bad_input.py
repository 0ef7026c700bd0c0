"""Whatever is wrong with a call: a problem in French that names the field and the fix, and nothing was written."""

import asyncio
import html
import re
import uuid
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

import httpx
import orjson
import pytest

from sas_matcher.console.visit import csrf_of
from sas_matcher.domain.vocabulary import VITAL_PRIORITIES, Role
from sas_matcher.services.keys import KeyWish
from tests.api.conftest import Scene
from tests.api.form_pages import Somebody, accounts_at
from tests.api.running import Running, eventually, rpps
from tests.api.test_accounts import UUID, browser

TABLES = ("slot", "request", "booking", "idempotency", "territory_setting", "territory_setting_log")
# words of the validation library that must never reach a French reader
ENGLISH = re.compile(r"\b(should|must|value|input|valid|expected|field|required|line|column|or|error)\b", re.I)


def problem(answer: httpx.Response, status: int, code: str, field: str | None = None) -> dict[str, Any]:
    """Check that an answer is a problem as documented, and return it."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body["status"] == status and body["code"] == code
    assert body["type"] == f"urn:sas-matcher:problem:{code}"
    assert body["title"] and body["detail"]
    assert body["request_id"] == answer.headers["x-request-id"]
    texts = [body["title"], body["detail"], *(error["message"] for error in body.get("errors", []))]
    for text in texts:
        assert not ENGLISH.search(text), text
    if field is not None:
        assert field in {error["field"] for error in body["errors"]}, body
        assert all(error["message"] for error in body["errors"])
    return body


@pytest.fixture
async def nothing_written(service: Running) -> AsyncIterator[None]:
    """Fail the test if it has left a row."""
    before = {table: await service.count(table) for table in TABLES}
    yield
    assert {table: await service.count(table) for table in TABLES} == before


def without(document: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a document without one of its fields."""
    return {key: value for key, value in document.items() if key != name}


LATITUDES = (False, "45.7", None, [45.7], {"v": 1}, 91.0, -91)
WISHES: list[tuple[dict[str, Any], str]] = [
    ({"nom": "Dupont"}, "nom"),
    ({"date_naissance": "1980-01-01"}, "date_naissance"),
    ({"insee": "99999"}, "insee"),
    ({"insee": 69123}, "insee"),
    ({"insee": "69 123"}, "insee"),
    ({"insee": None}, "corps"),
    ({"insee": None, "lat": 45.7}, "corps"),
    ({"insee": None, "lat": 45.0, "lon": 20.0}, "lat"),
    ({"insee": None, "lat": False, "lon": 4.8}, "lat"),
    ({"insee": None, "lat": "45.7", "lon": "4.8"}, "lat"),
    ({"lat": 16.24, "lon": -61.53}, "lat"),
    ({"profession": None}, "corps"),
    ({"profession": "mg"}, "profession"),
    ({"profession": True}, "profession"),
    ({"profession": "DENT", "specialty": "SM04"}, "specialty"),
    ({"specialty": "SM99"}, "specialty"),
    ({"delay": None}, "delay"),
    ({"delay": "3H"}, "delay"),
    ({"delay": 24}, "delay"),
    ({"modes": []}, "modes"),
    ({"modes": "cabinet"}, "modes"),
    ({"modes": ["cabinet"] * 4}, "modes"),
    ({"modes": ["domicile"]}, "modes.0"),
    ({"radius_km": 0}, "radius_km"),
    ({"radius_km": 151}, "radius_km"),
    ({"radius_km": "5"}, "radius_km"),
    ({"radius_km": False}, "radius_km"),
    ({"needs": ["chaise"]}, "needs.0"),
    ({"needs": {"pmr": True}}, "needs"),
    ({"age_band": "85 ans"}, "age_band"),
    ({"mt": "1234"}, "mt"),
    ({"mt": 10000000001}, "mt"),
    ({"mt": "١٠٠٠٠٠٠٠٠٠١"}, "mt"),
    ({"priority": "P9"}, "priority"),
    ({"priority": 2}, "priority"),
    ({"on_phone": "oui"}, "on_phone"),
    ({"on_phone": 1}, "on_phone"),
    ({"case_ref": "M. Dupont, 12 rue des Lilas"}, "case_ref"),
    ({"case_ref": "x" * 65}, "case_ref"),
    ({"territory": "ZZ"}, "territory"),
    ({"territory": 69}, "territory"),
]


@pytest.mark.parametrize(("changes", "field"), WISHES, ids=lambda value: str(value)[:40])
async def test_wrong_wishes(scene: Scene, nothing_written: None, changes: dict[str, Any], field: str) -> None:
    answer = await scene.regulator.post("/v1/requests", scene.wish(**changes))
    problem(answer, 422, "invalid_input", field)


def slot_changes(scene: Scene) -> list[tuple[dict[str, Any], str]]:
    """Return wrong changes of a good slot and the field that is to be named."""
    good = scene.slot(60)
    start = datetime.fromisoformat(good["start"])
    place = good["location"]
    naive = start.replace(tzinfo=None).isoformat()
    return [
        ({"start": scene.at(-5).isoformat()}, "start"),
        (
            {"start": (start + timedelta(days=200)).isoformat(), "end": (start + timedelta(days=201)).isoformat()},
            "start",
        ),
        ({"end": good["start"]}, "end"),
        ({"end": (start - timedelta(minutes=1)).isoformat()}, "end"),
        ({"end": (start + timedelta(hours=5)).isoformat()}, "end"),
        ({"start": naive}, "start"),
        ({"start": "2026-10-25T02:30:00"}, "start"),  # happens twice: clocks go back
        ({"start": "2027-03-28T02:30:00"}, "start"),  # never happens: clocks go forward
        ({"start": 1_800_000_000}, "start"),
        ({"start": "demain"}, "start"),
        ({"start": "9999-12-31T23:59:59+00:00"}, "start"),
        ({"start": "0001-01-01T00:00:00+14:00"}, "start"),
        ({"start": "2026-13-45T99:00:00Z"}, "start"),
        ({"valid_at": scene.at(60).isoformat()}, "valid_at"),
        *(({"location": {**place, "lat": value}}, "location.lat") for value in LATITUDES),
        ({"location": {**place, "lat": place["lon"], "lon": place["lat"]}}, "location.lat"),
        ({"location": {**place, "insee": "00000"}}, "location.insee"),
        ({"location": {**place, "label": "a\x00b"}}, "location.label"),
        ({"location": {**place, "label": "a\nb"}}, "location.label"),
        ({"location": {**place, "phone": "appelez-moi"}}, "location.phone"),
        ({"location": {**place, "rue": "12 rue des Lilas"}}, "location.rue"),
        ({"location": without(place, "insee")}, "location.insee"),
        ({"location": None}, "location"),
        ({"capacity": 0}, "capacity"),
        ({"capacity": 201}, "capacity"),
        ({"capacity": False}, "capacity"),
        ({"capacity": "1"}, "capacity"),
        ({"capacity": 1.5}, "capacity"),
        ({"professional": None}, "professional"),
        ({"professional": {"rpps": "12", "name": "Dr"}}, "professional.rpps"),
        ({"professional": {"rpps": rpps(), "name": "   "}}, "professional.name"),
        ({"professional": {"rpps": rpps(), "name": "x" * 161}}, "professional.name"),
        ({"professional": {"rpps": rpps(), "name": "Dr\x07"}}, "professional.name"),
        ({"structure": {"finess": "12", "kind": "cds", "name": "Centre"}}, "structure.finess"),
        ({"structure": {"finess": "690000001", "kind": "hopital", "name": "Centre"}}, "structure.kind"),
        ({"mode": "drive"}, "mode"),
        ({"profession": "SPE", "specialty": "SM54"}, "specialty"),
        ({"offers": ["pmr", "piscine"]}, "offers.1"),
        ({"visibility": "secret"}, "visibility"),
        ({"external_id": ""}, "external_id"),
        ({"external_id": "un deux"}, "external_id"),
        ({"external_id": "x" * 129}, "external_id"),
        ({"patient": {"nom": "Dupont"}}, "patient"),
    ]


async def test_wrong_slots_publish_nothing(scene: Scene, nothing_written: None) -> None:
    for changes, field in slot_changes(scene):
        slots = [scene.slot(60), {**scene.slot(60), **changes}, scene.slot(90)]
        body = problem(await scene.practice.post("/v1/slots", {"slots": slots}), 422, "invalid_input")
        named = {error["field"] for error in body["errors"]}
        assert f"slots.1.{field}" in named, (changes, named)
        assert all(name.startswith("slots.1.") for name in named), "and only that one"


async def test_the_wrong_one_of_many_is_named(scene: Scene, nothing_written: None) -> None:
    many = [scene.slot(60 + n) for n in range(600)]
    many[317] = {**many[317], "capacity": False}
    many[599] = {**many[599], "nom": "Dupont"}
    body = problem(await scene.practice.post("/v1/slots", {"slots": many}), 422, "invalid_input", "slots.317.capacity")
    assert [error["field"] for error in body["errors"]] == ["slots.317.capacity", "slots.599.nom"]
    twice = [scene.slot(60), scene.slot(60)]
    twice[1]["external_id"] = twice[0]["external_id"]
    problem(await scene.practice.post("/v1/slots", {"slots": twice}), 422, "invalid_input", "slots.1.external_id")
    shapes: tuple[Any, ...] = (
        {"slots": []},
        {"slots": many[:3], "source": "x"},
        {"slots": {}},
        {"slots": [1]},
        [],
        "a",
        None,
    )
    for wrong in shapes:
        problem(await scene.practice.post("/v1/slots", orjson.dumps(wrong)), 422, "invalid_input")
    too_many = b'{"slots":[' + b",".join([b"{}"] * 10_001) + b"]}"
    problem(await scene.practice.post("/v1/slots", too_many), 413, "too_large")


@pytest.mark.parametrize("depth", [300, 1_000])
async def test_a_slot_that_is_nested_too_deep_is_named_among_many(
    scene: Scene, nothing_written: None, depth: int
) -> None:
    """The reader takes deeper ones than the writer between two breaths of the loop does."""
    good, deep = orjson.dumps(scene.slot(60)), b'{"a":' * depth + b"1" + b"}" * depth
    body = b'{"slots":[' + b",".join([good] * 300 + [deep] + [good] * 20 + [deep]) + b"]}"
    told = problem(await scene.practice.post("/v1/slots", body), 422, "invalid_input", "slots.300")
    assert {"slots.300", "slots.321"} <= {error["field"] for error in told["errors"]}


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"nom=Dupont",
        b"\xff\xfe{}",
        b'{"insee":"30189","profession":"MG","delay":"4H"}}',
        b'{"insee":"30189","profession":"MG","delay":"4H","radius_km":NaN}',
        b'{"insee":"30189","profession":"MG","delay":"4H","radius_km":Infinity}',
        b'{"insee":"30189","profession":"MG","delay":"4H","radius_km":1e999}',
        b'{"profession":"MG","delay":"4H","lat":-Infinity,"lon":NaN}',
        b'{"insee":"30189","profession":"MG","delay":"4H","case_ref":"\\ud800"}',
        b'{"insee":"30189","profession":"MG","delay":"4H","needs":' + b"[" * 20_000 + b"]" * 20_000 + b"}",
        b"[" * 30_000,
        b'{"a":' * 9_000,
        b"1" * 60_000,
        b'{"insee":"' + b"9" * 60_000 + b'"}',
    ],
    ids=lambda text: repr(text[:70]),
)
async def test_unreadable_bodies(scene: Scene, nothing_written: None, text: bytes) -> None:
    problem(await scene.regulator.post("/v1/requests", text), 422, "invalid_input")
    problem(await scene.practice.post("/v1/slots", text), 422, "invalid_input")
    problem(await scene.practice.post("/v1/slots/withdraw", text), 422, "invalid_input")


@pytest.mark.parametrize("priority", sorted(VITAL_PRIORITIES))
async def test_vital_needs_never_wait_here(scene: Scene, nothing_written: None, priority: str) -> None:
    body = problem(await scene.regulator.post("/v1/requests", scene.wish(priority=priority)), 422, "vital_priority")
    assert "orienter AMU/SMUR" in body["detail"]
    # said even when something else is wrong as well: it must not be lost among the fields
    both = await scene.regulator.post("/v1/requests", scene.wish(priority=priority, radius_km=-1, nom="x"))
    problem(both, 422, "vital_priority")


async def _chunks(total: int) -> AsyncIterator[bytes]:
    for _ in range(total // 65_536):
        yield b" " * 65_536


@pytest.mark.parametrize("path", ["/v1/slots", "/v1/requests", "/v1/slots/withdraw", "/v1/ws-tickets"])
@pytest.mark.parametrize("declared", [True, False])
async def test_bodies_of_ten_megabytes(scene: Scene, nothing_written: None, path: str, declared: bool) -> None:
    caller = scene.regulator if path == "/v1/requests" else scene.practice
    size = 10 * 1024 * 1024
    headers = {"Idempotency-Key": str(uuid.uuid4()), "Content-Type": "application/json"}
    content = b" " * size if declared else _chunks(size)
    try:
        answer = await caller.http.post(path, content=content, headers=headers)
    except httpx.TransportError:
        return  # the connection is closed over a body that nobody reads; what counts is that nothing was written
    body = problem(answer, 413, "too_large")
    assert "découpez" in body["detail"] and body["limit_bytes"] < size


async def test_the_size_limit_is_told_when_the_body_is_declared(scene: Scene) -> None:
    """By hand, since a client that is still sending may never read the answer."""
    host, port = scene.service.url.removeprefix("http://").split(":")
    for path, limit in (("/v1/slots", 8 * 1024 * 1024), ("/v1/requests", 64 * 1024)):
        reader, writer = await asyncio.open_connection(host, int(port))
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {limit + 1}\r\n\r\n"
        writer.write(head.encode())
        answer = await asyncio.wait_for(reader.read(), 5)
        writer.close()
        assert answer.startswith(b"HTTP/1.1 413") and b"application/problem+json" in answer
        assert f'"limit_bytes":{limit}'.encode() in answer


async def test_ten_thousand_names_fit_into_a_withdrawal(scene: Scene) -> None:
    names = [f"editeur/agenda-{n:06d}/2026-11-23T14:00" for n in range(10_000)]
    answer = await scene.practice.post("/v1/slots/withdraw", {"external_ids": names})
    assert answer.status_code == 200 and answer.json()["counts"] == {"not_found": 10_000}


WITHDRAWALS = [
    {},
    {"external_ids": []},
    {"external_ids": "a"},
    {"external_ids": ["a"], "from": "2026-11-23T00:00:00Z", "to": "2026-11-24T00:00:00Z"},
    {"from": "2026-11-23T00:00:00Z"},
    {"from": "2026-11-23T00:00:00", "to": "2026-11-24T00:00:00"},
    {"from": 1, "to": 2},
    {"external_ids": ["a"], "reason": "Dr Dupont est malade"},
]


@pytest.mark.parametrize("body", WITHDRAWALS, ids=str)
async def test_wrong_withdrawals(scene: Scene, nothing_written: None, body: Any) -> None:
    problem(await scene.practice.post("/v1/slots/withdraw", body), 422, "invalid_input")


@pytest.mark.parametrize(
    ("path", "query", "field"),
    [
        ("/v1/offers", {"profession": "MG"}, "corps"),
        ("/v1/offers", {"insee": "30189"}, "profession"),
        ("/v1/offers", {"insee": "00000", "profession": "MG"}, "insee"),
        ("/v1/offers", {"insee": "30189", "profession": "MG", "modes": "drive"}, "modes.0"),
        ("/v1/offers", {"lat": "nan", "lon": "4.8", "profession": "MG"}, "lat"),
        ("/v1/offers", {"lat": "45.8", "profession": "MG"}, "corps"),
        ("/v1/offers", {"insee": "30189", "profession": "MG", "radius_km": "1e9"}, "radius_km"),
        ("/v1/offers", {"insee": "30189", "profession": "MG", "nom": "x"}, "nom"),
        ("/v1/requests", {"status": "perdu"}, "status.0"),
        ("/v1/requests", {"before": "2026-11-23"}, "before"),
        ("/v1/requests", {"before": "0001-01-01T00:00:00+14:00"}, "before"),
        ("/v1/requests", {"limit": "0"}, "limit"),
        ("/v1/requests", {"limit": "dix"}, "limit"),
        ("/v1/requests", {"limit": "9" * 5000}, "limit"),
        ("/v1/communes", {}, "q"),
        ("/v1/communes", {"q": ""}, "q"),
        ("/v1/communes", {"q": "x" * 81}, "q"),
    ],
    ids=str,
)
async def test_wrong_queries(scene: Scene, path: str, query: dict[str, str], field: str) -> None:
    problem(await scene.regulator.get(path, **query), 422, "invalid_input", field)


async def test_wrong_queries_of_practices_and_coordinators(scene: Scene, service: Running) -> None:
    for path in ("/v1/slots", "/v1/bookings"):
        problem(await scene.practice.get(path), 422, "invalid_input", "from")
        naive = {"from": "2026-11-23T00:00:00", "to": "2026-11-24T00:00:00"}
        problem(await scene.practice.get(path, **naive), 422, "invalid_input", "to")
        far = {"from": "0001-01-01T00:00:00+14:00", "to": "9999-12-31T23:59:59-14:00"}
        problem(await scene.practice.get(path, **far), 422, "invalid_input", "from")
    everywhere = await service.key("ars", territories=("*",))
    for code in ("ZZ", "0\x00", "é1"):
        problem(await everywhere.get("/v1/overview", territory=code), 422, "invalid_input", "territory")


async def test_wrong_path_ids_and_addresses(scene: Scene, nothing_written: None) -> None:
    for bad in ("1", "x" * 300, "00000000-0000-0000-0000-00000000000G", str(uuid.uuid4()).upper(), "%00", "..%2f"):
        problem(
            await scene.regulator.get(f"/v1/requests/{bad}"),
            *((404, "not_found") if "2f" in bad else (422, "invalid_input")),
        )
        for action in ("confirm", "decline", "cancel", "resume"):
            if "2f" not in bad:
                answer = await scene.regulator.post(f"/v1/requests/{bad}/{action}", {})
                problem(answer, 422, "invalid_input", "request_id")
    unknown = str(uuid.uuid4())
    problem(await scene.regulator.get(f"/v1/requests/{unknown}"), 404, "not_found")
    problem(await scene.practice.get(f"/v1/bookings/{unknown}"), 404, "not_found")
    problem(await scene.regulator.post(f"/v1/requests/{unknown}/take", {"slot_id": 1}), 404, "not_found")
    for slot_id in (0, -1, 2**63, "1", 1.0, True):
        answer = await scene.regulator.post(f"/v1/requests/{unknown}/take", {"slot_id": slot_id})
        problem(answer, 422, "invalid_input", "slot_id")
    problem(await scene.regulator.get("/v2/requests"), 404, "not_found")
    problem(await scene.regulator.get("/v1/requests/"), 404, "not_found")
    answer = await scene.regulator.http.delete("/v1/requests")
    problem(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] in ("GET", "POST")


@pytest.mark.parametrize("key", [None, "", "court", "é" * 10, "x" * 129, "avec espace!"])
async def test_actions_need_an_idempotency_key(scene: Scene, nothing_written: None, key: str | None) -> None:
    headers = {} if key is None else {"Idempotency-Key": key.encode().decode("latin-1")}
    unknown = uuid.uuid4()
    for path, caller in (
        ("/v1/requests", scene.regulator),
        *((f"/v1/requests/{unknown}/{action}", scene.regulator) for action in ("confirm", "decline", "cancel", "take")),
        (f"/v1/bookings/{unknown}/refuse", scene.practice),
        (f"/v1/bookings/{unknown}/outcome", scene.practice),
    ):
        sent = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
        answer = await caller.http.post(path, content=orjson.dumps(scene.wish()), headers=sent)
        body = problem(answer, 422, "invalid_input", "Idempotency-Key")
        assert "UUID" in body["detail"]


# -- keys --------------------------------------------------------------------------------------------------------------


async def test_wrong_keys(scene: Scene, nothing_written: None, service: Running) -> None:
    good = scene.regulator.token
    kind, key_id, secret = good.split("_", 2)
    other = (await service.regulator()).token
    for header in (
        "",
        "Bearer",
        f"Basic {good}",
        f"Bearer {good}x",
        f"Bearer {good[:-1]}",
        f"Bearer {kind}_{key_id}_{other.split('_', 2)[2]}",
        f"Bearer {kind}_{key_id[::-1]}_{secret}",
        f"Bearer {kind}_{key_id}_{'A' * 43}",
        "Bearer sas__",
        f"Bearer {'é' * 40}",
    ):
        answer = await scene.regulator.http.post(
            "/v1/requests", json=scene.wish(), headers=[(b"Authorization", header.encode())]
        )
        problem(answer, 401, "not_authenticated")
        assert answer.headers["www-authenticate"].startswith("Bearer")


async def test_revoked_and_expired_keys_end_within_two_seconds(service: Running, scene: Scene) -> None:
    assert (await scene.regulator.get("/v1/me")).status_code == 200
    assert await service.stores.ledger.revoke_key(scene.regulator.key_id, service.clock.now())
    await service.stores.ledger._retry(
        lambda c: c.execute(
            "update api_key set expires_at = $2 where id = $1", scene.practice.key_id, service.clock.now()
        )
    )
    service.clock.ahead += timedelta(seconds=2.1)  # what was true may be believed for two seconds
    problem(await scene.regulator.get("/v1/me"), 401, "not_authenticated")
    problem(await scene.regulator.post("/v1/requests", scene.wish()), 401, "not_authenticated")
    problem(await scene.practice.post("/v1/slots", {"slots": [scene.slot()]}), 401, "not_authenticated")


async def test_others_territories(service: Running, scene: Scene, nothing_written: None) -> None:
    mine = scene.spot.territory
    other = "69" if mine != "69" else "75"
    regulator = await service.regulator(mine)
    problem(await regulator.post("/v1/requests", scene.wish(territory=other)), 422, "invalid_input", "territory")
    coordinator = await service.key("cpts", territories=(mine,))
    assert (await coordinator.get("/v1/overview", territory=mine)).status_code == 200
    problem(await coordinator.get("/v1/overview", territory=other), 403, "not_allowed")
    administrator = await service.key("admin")  # bound to none, and shut out of none
    assert (await administrator.get("/v1/overview", territory=other)).json()["territories"] == [other]
    assert other in (await administrator.get("/v1/overview")).json()["territories"]


async def test_a_bound_territory_decides_for_a_patient_next_door(service: Running, scene: Scene) -> None:
    regulator = await service.regulator("69")
    document = await regulator.ask(scene.wish())
    assert document["territory"] == "69" and document["insee"] == scene.spot.code


async def test_others_professionals_and_structures(service: Running, scene: Scene, nothing_written: None) -> None:
    own = rpps()
    doctor = await service.practice(professionals=(own,))
    centre = await service.practice(structures=("690000001",))
    foreign = scene.slot(60)
    problem(await doctor.post("/v1/slots", {"slots": [foreign]}), 422, "invalid_input", "slots.0.professional")
    problem(await centre.post("/v1/slots", {"slots": [foreign]}), 422, "invalid_input", "slots.0.professional")


async def test_others_slots_and_bookings(service: Running, scene: Scene) -> None:
    doctor, stranger = rpps(), rpps()
    owner = await service.practice(professionals=(doctor,))
    other = await service.practice(professionals=(stranger,))
    mine = scene.slot(60, professional={"rpps": doctor, "name": "Dr Fictif"})
    await owner.publish(mine)
    held = await scene.regulator.ask(scene.wish())
    await scene.regulator.act("confirm", held["request_id"])
    booking_id = held["booking"]["booking_id"]

    problem(await other.get(f"/v1/bookings/{booking_id}"), 404, "not_found")
    problem(await other.post(f"/v1/bookings/{booking_id}/refuse", {}), 404, "not_found")
    problem(await other.post(f"/v1/bookings/{booking_id}/outcome", {"outcome": "noshow"}), 404, "not_found")
    window = {"from": scene.at(0).isoformat(), "to": scene.at(600).isoformat()}
    assert (await other.get("/v1/bookings", **window)).json() == {"bookings": []}
    assert (await other.get("/v1/slots", **window)).json()["slots"] == []
    gone = await other.post("/v1/slots/withdraw", {"external_ids": [mine["external_id"]]})
    assert gone.json()["counts"] == {"not_found": 1}
    assert (await other.post("/v1/slots/withdraw", window)).json()["counts"] == {}

    regulator = await service.regulator()
    for action, body in (("confirm", {}), ("decline", {}), ("cancel", {}), ("resume", {}), ("take", {"slot_id": 1})):
        answer = await regulator.post(f"/v1/requests/{held['request_id']}/{action}", body)
        problem(answer, 404, "not_found")
    problem(await regulator.get(f"/v1/requests/{held['request_id']}"), 404, "not_found")
    assert (await scene.regulator.request(held["request_id"]))["status"] == "firm"
    assert (await owner.get(f"/v1/bookings/{booking_id}")).json()["state"] == "firm"


async def test_keys_of_one_source_do_not_take_each_others_slots(service: Running, scene: Scene) -> None:
    doctor, stranger = rpps(), rpps()
    owner = await service.key("manager", professionals=(doctor,), source="editeur-commun")
    other = await service.key("manager", professionals=(stranger,), source="editeur-commun")
    mine = scene.slot(60, professional={"rpps": doctor, "name": "Dr Fictif"})
    await owner.publish(mine)
    gone = await other.post("/v1/slots/withdraw", {"external_ids": [mine["external_id"]]})
    assert gone.json()["counts"] == {"not_found": 1}
    window = {"from": scene.at(0).isoformat(), "to": scene.at(600).isoformat()}
    assert len((await owner.get("/v1/slots", **window)).json()["slots"]) == 1


# -- half-way ----------------------------------------------------------------------------------------------------------


async def test_a_connection_cut_half_way_through_the_body_does_nothing(scene: Scene, nothing_written: None) -> None:
    host, port = scene.service.url.removeprefix("http://").split(":")
    body = orjson.dumps({"slots": [scene.slot(60) for _ in range(50)]})
    for caller, path, content in (
        (scene.practice, "/v1/slots", body),
        (scene.regulator, "/v1/requests", orjson.dumps(scene.wish())),
    ):
        for sent in (0, 1, len(content) // 2, len(content) - 1):
            _, writer = await asyncio.open_connection(host, int(port))
            head = (
                f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {caller.token}\r\n"
                f"Idempotency-Key: {uuid.uuid4()}\r\nContent-Length: {len(content)}\r\n\r\n"
            )
            writer.write(head.encode() + content[:sent])
            await writer.drain()
            await asyncio.sleep(0.02)
            writer.transport.abort()
    await asyncio.sleep(0.2)
    assert (await scene.regulator.get("/v1/me")).status_code == 200


async def test_whoever_hangs_up_before_the_answer_may_ask_again(scene: Scene, service: Running) -> None:
    await scene.practice.publish(scene.slot(60), scene.slot(90))
    host, port = service.url.removeprefix("http://").split(":")
    key, content = str(uuid.uuid4()), orjson.dumps(scene.wish())
    for _ in range(5):
        _, writer = await asyncio.open_connection(host, int(port))
        head = (
            f"POST /v1/requests HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {scene.regulator.token}\r\n"
            f"Idempotency-Key: {key}\r\nContent-Length: {len(content)}\r\n\r\n"
        )
        writer.write(head.encode() + content)
        await writer.drain()
        await asyncio.sleep(0.004)
        writer.transport.abort()

    async def there() -> int:
        return len(await service.rows("select id from request where key_id = $1", scene.regulator.key_id))

    await eventually(there)
    answer = await scene.regulator.post("/v1/requests", content, key=key)
    assert answer.status_code == 201 and answer.json()["status"] == "held"
    assert await there() == 1


async def test_an_unexpected_error_is_a_problem_too_and_says_nothing(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def broken(*_: Any, **__: Any) -> None:
        raise ValueError("secret-du-patient-4711")

    monkeypatch.setattr(scene.service.app.state.wire.regulating, "page", broken)
    answer = await scene.regulator.get("/v1/requests")
    body = problem(answer, 500, "internal")
    assert "4711" not in orjson.dumps(body).decode()
    assert answer.headers["x-content-type-options"] == "nosniff"
    heard = capsys.readouterr()
    assert "api.unexpected" in heard.out + heard.err
    assert "4711" not in heard.out + heard.err


# -- pages -------------------------------------------------------------------------------------------------------------

NOBODY, DESK, STEERS = "nobody", "regulation", "pilotage"
TYPED: list[tuple[str, str, dict[str, str], str]] = [
    (DESK, "/regulation/demandes/{id}/confirmer", {"booking_id": "zz"}, "Rendez-vous : n'est pas un identifiant"),
    (DESK, "/regulation/demandes/{id}/confirmer", {"booking_id": "\x00"}, "Rendez-vous : caractère non permis"),
    (
        DESK,
        "/regulation/demandes/{id}/autre",
        {"booking_id": UUID.replace("0", "A")},
        "Rendez-vous : n'est pas un identifiant (UUID en minuscules)",
    ),
    (DESK, "/regulation/demandes/{id}/prendre", {"slot_id": "²"}, "Créneau : n'est pas le numéro"),
    (DESK, "/regulation/demandes/{id}/prendre", {"slot_id": "9" * 5_000}, "Créneau : n'est pas le numéro"),
    (DESK, "/regulation/demandes/{id}/assouplir", {"which": "²"}, "n'est plus proposée"),
    (DESK, "/regulation/demandes/{id}/assouplir", {"which": "9" * 5_000}, "n'est plus proposée"),
    (DESK, "/regulation/demandes/{id}/confier", {"to": "a\x00"}, "Fin : caractère non permis"),
    (DESK, "/regulation/demandes", {"phrase": "69003 " * 40}, "La ligne a plus de 200 caractères"),
    (
        DESK,
        "/regulation/demandes",
        {"commune": "69003", "radius_km": "nan"},
        "Rayon : doit être un nombre",
    ),
    (STEERS, "/pilotage/reglages", {"why": "x", "version": "1e300"}, "Version : est trop grand"),
    (STEERS, "/pilotage/reglages", {"why": "x", "version": "9e15"}, "Version : doit être au plus"),
    (
        STEERS,
        "/pilotage/reglages",
        {"why": "x", "version": "0", "hold_seconds": "-1e300"},
        "place gardée : est trop grand",
    ),
    (STEERS, "/pilotage/reglages/echelle", {"why": "x", "version": "1e300"}, "Version : est trop grand"),
    (STEERS, "/pilotage/crise/plan", {"why": "x", "version": "1e300"}, "Version : est trop grand"),
    (STEERS, "/pilotage/crise/appel", {"text": "x", "hours": "1e300"}, "Durée en heures : est trop grand"),
    (STEERS, "/pilotage/ecrans/fermer", {"id": "zz"}, "pas un identifiant"),
    (NOBODY, "/connexion", {"login": "a\x00", "password": "x" * 12}, "Identifiant : caractère non permis"),
]
LOOKED_AT: list[tuple[str, str]] = [
    (STEERS, "/pilotage?jours=²"),
    (STEERS, "/pilotage/carte?jours=" + "9" * 5_000),
]


async def test_what_is_typed_into_pages_is_told_and_breaks_nothing(service: Running) -> None:
    """Nearly each of these was told as an internal fault."""
    async with (
        Somebody.signed_in(service, Role.OSNP, territories=("69",)) as desk,
        Somebody.signed_in(service, Role.ARS, territories=("69",)) as steering,
        browser(service) as nobody,
    ):
        # it waits in a city that others have places in: for a profession that none of them has
        asked = await desk.http.post(
            "/regulation/demandes",
            data={"phrase": "psychologue 69003 48h", "csrf": csrf_of(desk.token), "once": str(uuid.uuid4())},
        )
        named = {"id": asked.headers["x-shown"].split()[0]}
        clients = {
            NOBODY: (nobody, {}),
            DESK: (desk.http, {"X-CSRF": csrf_of(desk.token)}),
            STEERS: (steering.http, {"X-CSRF": csrf_of(steering.token)}),
        }
        for who, path, fields, told in TYPED:
            http, headers = clients[who]
            sent = {**fields, "once": str(uuid.uuid4())} if who != NOBODY else fields
            answer = await http.post(path.format_map(named), data=sent, headers=headers)
            text = html.unescape(answer.text).replace("\u00a0", " ").replace("\u202f", " ")
            assert 400 <= answer.status_code < 429, (path, fields, answer.status_code)
            assert told in text and "retry-after" not in answer.headers, (path, fields, text[-900:])
        for who, path in LOOKED_AT:
            answer = await clients[who][0].get(path)
            assert answer.status_code == 422 and "choisissez 1, 7, 30, 91" in answer.text.lower(), path


async def test_addresses_that_are_no_ascii_lead_to_the_door_and_back(service: Running) -> None:
    async with Somebody.signed_in(service, Role.OSNP, territories=("69",)) as desk, browser(service) as nobody:
        for path in ("/regulation/demandes/%E2%82%AC", "/regulation/demandes/a%0D%0AX-Own%3A%201%3Fb%26c%25"):
            away = await nobody.get(path)
            assert (away.status_code, away.headers["location"]) == (303, f"/connexion?suite={quote(path)}")
            assert "x-own" not in away.headers
            again = await nobody.get(path, headers={"Sec-Fetch-Site": "cross-site"})
            assert f'content="0;url={path}?again=1"' in again.text
        login = f"door-{uuid.uuid4().hex[:12]}"
        await accounts_at(service).add(login, "une phrase assez longue", KeyWish(Role.OSNP, "Fictive", ("69",)))
        typed = {"login": login, "password": "une phrase assez longue", "suite": "/regulation?vue=€&x=%41"}
        let_in = await nobody.post("/connexion", data=typed)
        assert (let_in.status_code, let_in.headers["location"]) == (303, "/regulation?vue=%E2%82%AC&x=%41")
        assert (await desk.http.get("/regulation/demandes/%E2%82%AC")).status_code == 422
