"""Places booked at their editor: the link, the hold here, INT_R03 coming in, phantoms. Nothing is firm by our word."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import httpx
import pytest

from adapters.fhir import names
from adapters.fhir.appointments import Told, appointment
from adapters.fhir.searchsets import Place
from adapters.postgres.editors import PHANTOM_KEPT
from adapters.postgres.national import PostgresNational
from tests.api.conftest import Scene, settings_for
from tests.api.running import Running, next_spot, rpps, run_service
from tests.conftest import Servers
from tests.editor_cases import Desk, open_desk
from tests.fhir_cases import OPERATOR

OU: Final = "99000000000001"
FILE: Final = """
[[editor]]
name = "agenda"
label = "Agenda Fictif"
url = "https://agenda.example/fhir"
flows = ["ps"]
people = "people.txt"
clients = ["editeur.example"]

[[editor]]
name = "voisin"
label = "Voisin Fictif"
url = "https://voisin.example/fhir"
flows = ["ps"]
people = "people.txt"
clients = ["voisin.example"]
"""


@pytest.fixture(scope="module")
async def linked(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    """A service whose editors may tell bookings; the tests connect as its reverse proxy does."""
    folder: Path = tmp_path_factory.mktemp("editors")
    (folder / "editors.toml").write_text(FILE, encoding="utf-8")
    (folder / "people.txt").write_text("10000000001\n", encoding="utf-8")
    database_url = servers.new_database()
    settings = settings_for(
        database_url,
        servers.new_redis(),
        fhir_proxies=("127.0.0.1",),
        fhir_clients=tuple(f"{name}.example|{OU}" for name in ("editeur", "voisin", "inconnu")),
        editors=str(folder / "editors.toml"),
    )
    async with run_service(settings) as running:
        yield running
    servers.drop_database(database_url)


@dataclass
class Booth:
    """A desk, and the editor's line to us."""

    desk: Desk
    who: str
    places: list[Place]

    async def tell(
        self, method: str, document: Any, client: str = "editeur", query: str | None = None
    ) -> httpx.Response:
        params = None
        if method == "PUT":
            (own,) = document["identifier"]
            params = {"identifier": query or f"{own['system']}|{own['value']}"}
        headers = {
            "Content-Type": names.JSON,
            "X-Client-Verify": "SUCCESS",
            "X-Client-Subject": f"CN={client}.example,OU={OU},C=FR",
        }
        async with httpx.AsyncClient(base_url=self.desk.scene.service.url, trust_env=False) as http:
            return await http.request(method, "/fhir/Appointment", json=document, params=params, headers=headers)

    def said(self, status: str = "booked", value: str = "rdv-1", number: int = 0) -> dict[str, Any]:
        place = self.places[number]
        told = Told("https://agenda.example", value, status, place.start, place.end, place.start, OPERATOR, self.who)
        return appointment(told, ZoneInfo("Europe/Paris"))

    async def live(self) -> list[Any]:
        """Return the live places of this booth (the editor has others, of other tests)."""
        return [row for row in (await self.desk.live("agenda")).values() if row["professional"] == self.who]

    async def hold(self) -> dict[str, Any]:
        asked = await self.desk.scene.regulator.ask(self.desk.scene.wish())
        assert asked["status"] == "held", asked
        return asked

    async def status(self, request: dict[str, Any]) -> str:
        return str((await self.desk.scene.regulator.request(request["request_id"]))["status"])


@pytest.fixture
async def booth(linked: Running) -> AsyncIterator[Booth]:
    scene = Scene(linked, next_spot(linked.geography), await linked.regulator(), await linked.practice())
    async with open_desk(scene) as desk:
        who = rpps()
        places = [desk.place(f"{who}-1", 120, who)]
        desk.editor("agenda", [who], places)
        await desk.poll()
        yield Booth(desk, who, places)


async def test_the_hold_has_the_editors_page_and_is_firm_when_the_editor_says_so(booth: Booth) -> None:
    service = booth.desk.scene.service
    national = PostgresNational(service.stores.ledger)
    await national.link(service.clock.now(), on=True)
    try:
        held = await booth.hold()
        assert held["booking"]["link"] == f"https://agenda.example/rdv?creneau={booth.who}-1&origin=sas"
        answer = await booth.tell("POST", booth.said())
        assert answer.status_code == 201, answer.text
        assert await booth.status(held) == "firm"
        # that editor tells the platform; we must not tell it twice
        assert await national.counts(service.clock.now()) == {}
    finally:
        await national.link(service.clock.now(), on=False)
    # again: the same, and no second record
    again = await booth.tell("POST", booth.said())
    assert (again.status_code, again.headers["location"]) == (200, answer.headers["location"])
    assert await booth.status(held) == "firm"


async def test_the_regulators_word_makes_it_firm_too_and_the_editors_word_then_changes_nothing(booth: Booth) -> None:
    held = await booth.hold()
    await booth.desk.scene.regulator.act("confirm", held["request_id"])
    assert (await booth.tell("PUT", booth.said(value="rdv-2"))).status_code == 201
    assert await booth.status(held) == "firm"


async def test_without_a_word_the_hold_ends_and_the_place_is_free_again(booth: Booth) -> None:
    held = await booth.hold()
    booth.desk.later(181)
    service = booth.desk.scene.service
    await service.stores.ledger.lapse_holds(service.clock.now())
    assert await booth.status(held) == "lapsed"
    (row,) = await booth.live()
    assert row["seats"] == 1


async def test_cancelled_at_the_editor_the_request_waits_again_and_outcomes_are_kept(booth: Booth) -> None:
    held = await booth.hold()
    await booth.tell("POST", booth.said(value="rdv-3"))
    early = await booth.tell("PUT", booth.said("fulfilled", "rdv-3"))
    assert early.status_code == 200 and await booth.status(held) == "firm", "not before it began"
    assert (await booth.tell("PUT", booth.said("cancelled", "rdv-3"))).status_code == 200
    document = await booth.desk.scene.regulator.request(held["request_id"])
    assert document["status"] == "waiting" and document["booking"] is None


async def test_a_patient_who_came_is_told_by_the_editor(booth: Booth) -> None:
    held = await booth.hold()
    await booth.tell("POST", booth.said(value="rdv-4"))
    booth.desk.later(121 * 60)
    assert (await booth.tell("PUT", booth.said("fulfilled", "rdv-4"))).status_code == 200
    assert await booth.status(held) == "fulfilled"


async def test_a_free_place_that_was_booked_there_is_closed(booth: Booth) -> None:
    assert (await booth.tell("POST", booth.said(value="rdv-5"))).status_code == 201
    assert await booth.live() == []
    asked = await booth.desk.scene.regulator.ask(booth.desk.scene.wish())
    assert asked["status"] == "waiting"


async def test_an_editor_speaks_for_its_own_places_only(booth: Booth) -> None:
    held = await booth.hold()
    assert (await booth.tell("POST", booth.said(value="rdv-6"), "inconnu")).status_code == 403
    # another editor's word is about that editor's places, of which this is none
    assert (await booth.tell("POST", booth.said(value="rdv-7"), "voisin")).status_code == 201
    assert await booth.status(held) == "held"
    assert (await booth.tell("POST", booth.said(value="rdv-7"), "editeur")).status_code == 422
    assert await booth.status(held) == "held"


@pytest.mark.parametrize(
    ("method", "change", "status"),
    [
        ("POST", {"status": "arrived"}, 422),
        ("POST", {"identifier": []}, 422),
        ("POST", {"subject": {"reference": "Patient/1"}}, 422),
        ("POST", {"meta": {"profile": ["http://x.example"]}}, 422),
        ("POST", {"participant": []}, 422),
        ("POST", {"start": "hier"}, 422),
        ("POST", {"start": "0001-01-01T00:00:00+14:00"}, 422),
        ("POST", {"identifier": [{"system": "https://agenda.example", "value": "a\0b"}]}, 422),
        ("POST", {"identifier": [{"system": "https://agenda.example", "value": "x" * 129}]}, 422),
        ("POST", {"identifier": [{"system": "https://agenda.example/" + "x" * 255, "value": "x"}]}, 422),
    ],
)
async def test_what_breaks_the_contract_is_refused_with_an_outcome(
    booth: Booth, method: str, change: dict[str, Any], status: int
) -> None:
    answer = await booth.tell(method, {**booth.said(value="rdv-8"), **change})
    assert answer.status_code == status and answer.json()["resourceType"] == "OperationOutcome"
    assert "Patient/1" not in answer.text


@pytest.mark.parametrize(
    "path",
    [
        "Practitioner?identifier=urn:oid:1.2.250.1.213.3.6|x",
        "Practitioner/99000000001",
        "Slot/1",
        "Slot?start=ge2026-11-27T09:00:00Z&start=le2026-11-28T09:00:00Z&status=free"
        "&schedule.actor:Practitioner.identifier=810000000001",
    ],
)
async def test_an_editor_sees_neither_accounts_nor_places(booth: Booth, path: str) -> None:
    async def get(client: str) -> int:
        subject = {"X-Client-Verify": "SUCCESS", "X-Client-Subject": f"CN={client}.example,OU={OU},C=FR"}
        async with httpx.AsyncClient(base_url=booth.desk.scene.service.url, trust_env=False) as http:
            return (await http.get(f"/fhir/{path}", headers=subject)).status_code

    assert await get("editeur") == 403
    assert await get("inconnu") in (200, 404), "who is no editor is let in"


async def test_an_update_names_the_booking_in_its_address(booth: Booth) -> None:
    other = await booth.tell("PUT", booth.said(value="rdv-9"), query="https://agenda.example|rdv-10")
    assert other.status_code == 422
    upper = booth.said("BOOKED", "rdv-9")
    assert (await booth.tell("PUT", upper)).status_code == 201


async def test_a_phantom_is_counted_hidden_and_shown_again_when_it_is_proven_free(booth: Booth) -> None:
    desk = booth.desk
    before = {e["name"]: (e["phantoms"], e["tried"]) for e in await desk.view().all()}
    held = await booth.hold()
    done = await desk.scene.regulator.act("decline", held["request_id"], {"scope": "gone"})
    assert done["status"] == "waiting"
    await desk.poll()
    assert await booth.live() == [], "its editor still shows it"
    after = {e["name"]: (e["phantoms"], e["tried"]) for e in await desk.view().all()}
    assert after["agenda"] == (before["agenda"][0] + 1, before["agenda"][1] + 1)
    desk.later(PHANTOM_KEPT.total_seconds() + 1)
    await desk.poll()
    assert len(await booth.live()) == 1


async def test_people_are_told_how_the_editors_do(booth: Booth) -> None:
    answer = await booth.desk.scene.regulator.get("/v1/editors")
    assert answer.status_code == 200
    seen = {editor["name"]: editor for editor in answer.json()["editors"]}
    assert seen["agenda"]["state"] == "ok" and seen["voisin"]["state"] == "never"
    assert seen["agenda"]["sentence"].startswith("éditeur Agenda Fictif : dernière réponse")
    practice = await booth.desk.scene.practice.get("/v1/editors")
    assert practice.status_code == 403
    offers = await booth.desk.scene.regulator.get("/v1/offers", insee=booth.desk.scene.spot.code, profession="MG")
    assert offers.status_code == 200 and offers.json()["mute_editors"] == []
    service = booth.desk.scene.service
    for _ in range(3):
        await booth.desk.board.failed("voisin", service.clock.now(), "erreur 503")
    offers = await booth.desk.scene.regulator.get("/v1/offers", insee=booth.desk.scene.spot.code, profession="MG")
    (mute,) = offers.json()["mute_editors"]
    assert mute["sentence"].startswith("éditeur Voisin Fictif muet depuis 0 s (erreur 503)")
    await booth.desk.board.succeeded("voisin", service.clock.now() + timedelta(seconds=1), {})
