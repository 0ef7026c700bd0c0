"""The mock editor keeps the contract over HTTP; ``fhir check`` names each rule that an editor breaks."""

from collections.abc import Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from adapters.fhir import names
from adapters.fhir.appointments import read_appointment
from adapters.fhir.asking import MOST_ASKED, Flow, booking_page, search_path
from adapters.fhir.editors import read_editors
from adapters.fhir.identifiers import Kind, NationalId
from adapters.fhir.inspecting import Finding, Inspection
from adapters.fhir.mock import SOMEBODY, Manners, MockEditor, shows
from adapters.fhir.reading import Asked, read_searchset
from adapters.fhir.searchsets import Place
from sas_matcher.cli.mock import told, write_configuration
from tests.fhir_cases import CPTS, NOON, OPERATOR, place, site

NOW = NOON - timedelta(hours=3)
BASE = "http://editeur.example"
STEADY = Manners(latency_s=0, phantoms=0)
PEOPLE = ["810000000001", "810000000002"]
SITES = ["399000000000001"]


def agendas() -> list[Place]:
    """Two practitioners, one of them at two places and of a CPTS; a site of SOS Médecins."""
    sos = site("sos", structure=NationalId(Kind.SIRET, "99000000000001"))
    return [
        *(place(n) for n in range(1, 9)),
        *(place(n, site=site("s2")) for n in range(20, 24)),
        *(place(n, visibilities=["CPTS"], cpts=CPTS) for n in range(24, 28)),
        place(28, rpps="10000000002", family="INVENTE", given="Paul"),
        *(place(n, rpps=None, family="SOS Fictif", given="", site=sos, visibilities=["SNP"]) for n in range(30, 34)),
    ]


class Editor(MockEditor):
    """A mock editor at a fixed instant; remembers what it told the platform and how long it slept."""

    def __init__(self, manners: Manners = STEADY, places: list[Place] | None = None) -> None:
        self.told: list[dict[str, Any]] = []
        self.slept: list[float] = []
        self.at = NOW

        async def tell(document: dict[str, Any]) -> bool:
            self.told.append(document)
            return True

        async def sleep(seconds: float) -> None:
            self.slept.append(seconds)

        super().__init__(agendas() if places is None else places, manners, lambda: self.at, sleep, BASE, tell)


@asynccontextmanager
async def client(editor: MockEditor) -> Any:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(editor.app()), base_url=BASE) as http:
        yield http


Send = Callable[[httpx.Request], Coroutine[None, None, httpx.Response]]


async def inspect(flow: Flow, identifiers: list[str], send: Send, seconds: float = 0.1) -> dict[str, Finding]:
    """Return what the inspection finds, by rule; each call takes so many seconds."""
    ticks = iter(range(10_000))
    async with httpx.AsyncClient(transport=httpx.MockTransport(send), base_url=BASE) as http:
        looking = Inspection(http, f"{BASE}/fhir", NOW, lambda: next(ticks) * seconds)
        return {finding.text: finding async for finding in looking.flow(flow, identifiers)}


def through(editor: MockEditor, spoil: Callable[[httpx.Request, httpx.Response], httpx.Response] | None = None) -> Any:
    """Return a transport's function that asks the editor and spoils its answer."""
    inner = httpx.ASGITransport(editor.app())

    async def send(request: httpx.Request) -> httpx.Response:
        answer = await inner.handle_async_request(request)
        await answer.aread()
        return answer if spoil is None else spoil(request, answer)

    return send


@pytest.mark.parametrize(("flow", "identifiers"), [(Flow.PS, PEOPLE), (Flow.CPTS, PEOPLE), (Flow.SOS, SITES)])
async def test_the_mock_editor_keeps_every_rule(flow: Flow, identifiers: list[str]) -> None:
    found = await inspect(flow, identifiers, through(Editor()))
    assert len(found) == 17
    assert {text: finding.details for text, finding in found.items() if not finding.kept} == {}


def json(request: httpx.Request, document: Any, status: int = 200, kind: str = names.JSON) -> httpx.Response:
    return httpx.Response(status, content=orjson.dumps(document), headers={"content-type": kind}, request=request)


def changed(change: Callable[[dict[str, Any]], None]) -> Callable[[httpx.Request, httpx.Response], httpx.Response]:
    """Return what changes every bundle with entries."""

    def spoil(request: httpx.Request, answer: httpx.Response) -> httpx.Response:
        document = answer.json()
        if document.get("entry"):
            change(document)
        return json(request, document, answer.status_code)

    return spoil


def _first_slot(document: dict[str, Any]) -> dict[str, Any]:
    slot: dict[str, Any] = document["entry"][0]["resource"]
    return slot


def _asked(request: httpx.Request) -> str:
    return str(request.url)


Spoil = Callable[[httpx.Request, httpx.Response], httpx.Response]


def instead(status: int, document: Any, when: Callable[[httpx.Request, httpx.Response], bool]) -> Spoil:
    """Return what answers otherwise in some cases."""
    return lambda request, answer: json(request, document, status) if when(request, answer) else answer


def slot_says(**elements: str) -> Spoil:
    return changed(lambda document: _first_slot(document).update(elements))


BUNDLE = {"resourceType": "Bundle"}
SINS: list[tuple[str, str, Spoil]] = [
    ("404 for the unknown", "inconnu", instead(404, {}, lambda q, a: "899999999999" in _asked(q))),
    (
        "406 for a type",
        "Accept: application/json n'",
        instead(406, {}, lambda q, a: q.headers["accept"][-5:] == "/json"),
    ),
    ("plain JSON type", "Content-Type", lambda q, a: json(q, a.json(), a.status_code, "application/json")),
    ("26 are answered", "26 identifiants", instead(200, BUNDLE, lambda q, a: a.status_code == 400)),
    ("an error without outcome", "une borne manque", instead(400, {"error": 1}, lambda q, a: a.status_code == 400)),
    ("no self link", "lien self", changed(lambda document: document.pop("link"))),
    ("a slot of yesterday", "rien d'autre", slot_says(start="2026-11-26T12:00:00.000+01:00")),
    ("a link that is no list", "lien self", changed(lambda document: document.update(link=5))),
    ("a busy slot", "rien d'autre", slot_says(status="busy")),
    ("Z for an offset", "profils, formes", slot_says(start="2026-11-27T11:20:00.000Z")),
    ("the slash is unknown", "barre finale", instead(404, {}, lambda q, a: "/Slot/?" in _asked(q))),
    ("500 for the past", "fenêtre passée", instead(500, {}, lambda q, a: "2026-11-25" in _asked(q))),
]


@pytest.mark.parametrize(("rule", "spoil"), [sin[1:] for sin in SINS], ids=[sin[0] for sin in SINS])
async def test_each_broken_rule_is_named(rule: str, spoil: Spoil) -> None:
    found = await inspect(Flow.PS, PEOPLE, through(Editor(), spoil))
    broken = [finding for text, finding in found.items() if rule in text and not finding.kept]
    assert broken, [text for text, finding in found.items() if not finding.kept]
    assert all(detail for finding in broken for detail in finding.details)


async def test_a_slow_answer_is_named_with_its_time() -> None:
    found = await inspect(Flow.PS, PEOPLE, through(Editor()), seconds=1.5)
    (slow,) = [finding for finding in found.values() if not finding.kept]
    assert "1 s" in slow.text and "1.50 s" in slow.details[0]


async def test_an_endpoint_that_is_away_is_one_finding_not_twenty() -> None:
    async def away(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    found = list((await inspect(Flow.PS, PEOPLE, away)).values())
    assert len(found) == 1 and not found[0].kept and "ConnectError" in found[0].details[0]


async def test_what_is_asked_survives_the_way_there() -> None:
    window = (NOW, NOW + timedelta(hours=72))
    async with client(Editor()) as http:
        document = (await http.get(f"/fhir{search_path(Flow.CPTS, PEOPLE, window)}")).json()
        sos = (await http.get(f"/fhir{search_path(Flow.SOS, SITES, window)}")).json()
    read = read_searchset(document, Asked(*window, frozenset(PEOPLE)))
    expected = [p for p in agendas() if p.rpps and shows(p, NOW, STEADY)[0]]
    assert {found.slot_id for found in read.offered} == {p.slot_id for p in expected} and not read.dropped
    assert {found.site.id for found in read.offered} == {"s1", "s2"}
    assert {cpts for found in read.offered for cpts in found.structures} == {"1990000001", "1990000002"}
    assert read_searchset(sos, Asked(*window, frozenset(SITES))).offered
    assert MOST_ASKED == {Flow.PS: 25, Flow.CPTS: 25, Flow.SOS: 10}


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://a.example/rdv?x=1", "https://a.example/rdv?x=1&origin=sas"),
        ("https://a.example/rdv", "https://a.example/rdv?origin=sas"),
        ("https://a.example/rdv?x=1#jour", "https://a.example/rdv?x=1&origin=sas#jour"),
        ("https://a.example/rdv?", "https://a.example/rdv?origin=sas"),
    ],
)
def test_the_origin_is_added_where_the_page_wants_it(url: str, expected: str) -> None:
    assert booking_page(url, "sas") == expected


def shown(document: dict[str, Any]) -> set[str]:
    return {e["resource"]["id"] for e in document.get("entry", ()) if e["resource"]["resourceType"] == "Slot"}


async def test_a_booked_place_is_shown_no_more_and_told_to_the_platform() -> None:
    editor, window = Editor(), (NOW, NOW + timedelta(hours=72))
    path = f"/fhir{search_path(Flow.PS, PEOPLE, window)}"
    async with client(editor) as http:
        slot = min(shown((await http.get(path)).json()))
        wish = {"creneau": slot, "operator": OPERATOR._asdict()}
        assert (await http.post("/rdv", json=wish)).status_code == 201
        assert slot not in shown((await http.get(path)).json())
        assert (await http.post("/rdv", json=wish)).status_code == 409
    (told,) = editor.told
    assert told["status"] == "booked" and told["participant"][0]["actor"]["identifier"]["value"] == PEOPLE[0]


async def test_phantoms_are_shown_and_cannot_be_booked() -> None:
    editor, window = Editor(STEADY._replace(phantoms=1.0)), (NOW, NOW + timedelta(hours=72))
    async with client(editor) as http:
        found = shown((await http.get(f"/fhir{search_path(Flow.PS, PEOPLE, window)}")).json())
        assert found
        for slot in found:
            assert (await http.post("/rdv", data={"creneau": slot})).status_code == 409
    assert editor.told == []


async def test_an_outage_is_said_as_an_outcome_and_ends() -> None:
    editor = Editor(STEADY._replace(outage_every_s=600, outage_s=60))
    path = f"/fhir{search_path(Flow.PS, PEOPLE, (NOW, NOW + timedelta(hours=72)))}"
    async with client(editor) as http:
        down = await http.get(path)
        editor.at = NOW + timedelta(seconds=61)
        up = await http.get(path)
    assert down.status_code == 503 and down.json()["resourceType"] == "OperationOutcome"
    assert up.status_code == 200 and shown(up.json())


async def test_the_booking_page_opens_only_from_the_platform() -> None:
    async with client(Editor()) as http:
        alone = await http.get("/rdv", params={"creneau": "1"})
        sent = await http.get("/rdv", params={"creneau": "1", "origin": "sas"})
    assert alone.status_code == 403
    assert sent.status_code == 200 and "Marguerite FICTIF" in sent.text


def test_places_come_and_go_by_the_clock_alone() -> None:
    places = [place(n, start=NOON + timedelta(hours=9), end=NOON + timedelta(hours=10)) for n in range(300)]

    def free(now: datetime) -> int:
        return sum(shows(p, now, STEADY)[0] for p in places)

    eve, morning, late = (free(NOON - timedelta(hours=h)) for h in (20, 0, -8.9))
    assert 130 <= eve <= 170 and free(NOON - timedelta(hours=20)) == eve
    assert morning > eve and 150 <= late <= 210
    assert free(NOON + timedelta(hours=9)) == 0


def test_the_file_that_has_the_mock_editor_polled_can_be_read(tmp_path: Path) -> None:
    target = write_configuration(tmp_path / "essai", BASE, agendas(), "sas_abc123_secret")
    (editor,) = read_editors(target)
    assert editor.config.clients == ["abc123"] and editor.config.url == f"{BASE}/fhir"
    asked = {identifier for batch in editor.batches for identifier in batch.identifiers}
    assert asked == {*PEOPLE, *SITES}


async def test_a_booking_from_the_page_is_told_in_the_name_of_somebody() -> None:
    editor = Editor()
    async with client(editor) as http:
        found = await http.get(f"/fhir{search_path(Flow.PS, PEOPLE, (NOW, NOW + timedelta(hours=72)))}")
        assert (await http.post("/rdv", data={"creneau": min(shown(found.json()))})).status_code == 201
    (told,) = editor.told
    assert read_appointment(told).operator == SOMEBODY


async def test_a_booking_that_the_platform_refuses_is_not_said_to_be_told() -> None:
    said: list[str] = []
    outcome = {"resourceType": "OperationOutcome", "issue": [{"diagnostics": "pas ce client"}]}

    async def refuse(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/away":
            raise httpx.ConnectError("refused", request=request)
        return httpx.Response(201 if request.url.path == "/taken" else 403, json=outcome)

    async with httpx.AsyncClient(transport=httpx.MockTransport(refuse), base_url=BASE) as http:
        taken = [await told(http, path, {}, said.append) for path in ("/taken", "/refused", "/away")]
    assert taken == [True, False, False]
    assert "403 pas ce client" in said[0] and "ne répond pas" in said[1] and len(said) == 2
