"""INT_R01, INT_R04, SOS Médecins and metadata over HTTP: the contract's rules, empty results, bad input, traps."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch
from urllib.parse import parse_qsl, quote, urlsplit
from zoneinfo import ZoneInfo

import httpx
import pytest

from adapters.fhir import names
from adapters.fhir.checking import check
from adapters.fhir.instants import written
from adapters.fhir.reading import Asked, read_searchset
from adapters.postgres.fhir import PostgresFhir
from sas_matcher.domain.errors import UnavailableError
from tests.api.conftest import settings_for
from tests.api.running import Caller, Running, next_spot, rpps, run_service, slot
from tests.conftest import Servers

CPTS: Final = ("690000901", "690000902")
SIRET: Final = "99000000000017"
SITES: Final = ("690000801", "690000802")
MEMBERS: Final = [rpps() for _ in range(2)]
PARIS: Final = ZoneInfo("Europe/Paris")
INCLUDES: Final = [("_include", "Slot:schedule"), ("_include:iterate", "Schedule:actor")]
CPTS_INCLUDES: Final = [
    *INCLUDES,
    ("_include", "Slot:service-type-reference"),
    ("_include:iterate", "HealthcareService:organization"),
]


def _directory(folder: Path) -> Path:
    records: list[dict[str, Any]] = [
        {"kind": "structure", "finess": CPTS[0], "name": "CPTS fictive du Nord", "phone": "01 99 00 00 01"},
        {"kind": "structure", "finess": CPTS[1], "name": "CPTS fictive du Sud"},
        *(
            {
                "kind": "structure",
                "finess": finess,
                "siret": SIRET,
                "name": f"SOS fictif {finess[-1]}",
                "line": "3 quai",
            }
            for finess in SITES
        ),
        {"kind": "person", "rpps": MEMBERS[0], "family": "DE LA FICTION", "given": "Marie-Ève", "cpts": [CPTS[0]]},
        {"kind": "person", "rpps": MEMBERS[1], "family": "INVENTÉ", "cpts": list(CPTS)},
    ]
    path = folder / "annuaire.ndjson"
    path.write_text("\n".join(json.dumps(record) for record in records), encoding="utf-8")
    return path


@dataclass
class Desk:
    """A service with a directory, a practice that publishes and the platform that asks."""

    service: Running
    practice: Caller
    platform: Caller

    def at(self, minutes: float) -> datetime:
        """Return a whole minute from now on."""
        return self.service.clock.now().replace(second=0, microsecond=0) + timedelta(minutes=minutes)

    def slot(self, who: str | None, minutes: float = 120, **changes: Any) -> dict[str, Any]:
        """Return a slot of a professional at a place of their own."""
        person = {"rpps": who, "name": "Dr Paul Fictif"} if who else None
        return slot(next_spot(self.service.geography), self.at(minutes), professional=person, **changes)

    def query(self, who: Sequence[str], **changes: Any) -> list[tuple[str, str]]:
        """Return the parameters of INT_R01, as the platform sends them."""
        known: dict[str, Any] = {
            "since": written(self.at(0)),
            "until": written(self.at(72 * 60)),
            "includes": INCLUDES,
            "tokens": ",".join(f"{names.NATIONAL_PERSON}|8{one}" for one in who),
        } | changes
        return [
            *known["includes"],
            ("status", "free"),
            ("start", f"ge{known['since']}"),
            ("start", f"le{known['until']}"),
            ("schedule.actor:Practitioner.identifier", known["tokens"]),
        ]

    async def ask(self, query: Any, path: str = "/fhir/Slot", **headers: str) -> httpx.Response:
        accept = {"Accept": "application/json+fhir", **headers}
        return await self.platform.http.get(path, params=query, headers=accept)

    async def bundle(self, query: Any, path: str = "/fhir/Slot") -> dict[str, Any]:
        """Ask; the answer is a bundle that breaks no rule."""
        answer = await self.ask(query, path)
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == "application/fhir+json"
        document: dict[str, Any] = answer.json()
        assert check(document) == []
        return document


@pytest.fixture(scope="module")
async def desk(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Desk]:
    database_url = servers.new_database()
    directory = _directory(tmp_path_factory.mktemp("annuaire"))
    async with run_service(settings_for(database_url, servers.new_redis(), directory=str(directory))) as running:
        yield Desk(running, await running.practice(), await running.key("fhir"))
    servers.drop_database(database_url)


def kinds(bundle: dict[str, Any]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for entry in bundle.get("entry", ()):
        counts[entry["resource"]["resourceType"]] = counts.get(entry["resource"]["resourceType"], 0) + 1
    return counts


def of(bundle: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [e["resource"] for e in bundle.get("entry", ()) if e["resource"]["resourceType"] == kind]


# -- INT_R01 -------------------------------------------------------------------------------------------------------


async def test_the_free_places_of_a_practitioner(desk: Desk) -> None:
    who = rpps()
    slots = [desk.slot(who, 60), desk.slot(who, 90, mode="tele", visibility="public", booking_kind="walkin")]
    slots[1]["location"] = slots[0]["location"]
    await desk.practice.publish(*slots)
    bundle = await desk.bundle(desk.query([who]))
    assert bundle["meta"]["profile"] == [names.BUNDLE_PS] and bundle["total"] == 2
    assert kinds(bundle) == {"Slot": 2, "Schedule": 1, "Practitioner": 1, "PractitionerRole": 1}
    first, second = of(bundle, "Slot")
    assert first["start"] == written(desk.at(60)) and first["end"] == written(desk.at(75))
    assert [s["meta"]["security"][0]["code"] for s in (first, second)] == ["SNP", "PUBLIC"]
    assert [s["serviceType"][0]["coding"][0]["code"] for s in (first, second)] == ["AMB", "VR"]
    assert [s["appointmentType"]["coding"][0]["code"] for s in (first, second)] == ["ROUTINE", "WALKIN"]
    assert first["specialty"][0]["coding"][0]["code"] == "SM54"
    (person,) = of(bundle, "Practitioner")
    assert person["identifier"][0]["value"] == f"8{who}"
    assert person["name"] == [{"family": "Fictif", "given": ["Paul"]}]
    assert all("?" in s["comment"] for s in (first, second)), "the platform appends &origin=…"
    assert first["comment"] == second["comment"], "the agenda's page, not the slot's"
    modes = {entry["resource"]["resourceType"]: entry["search"]["mode"] for entry in bundle["entry"]}
    assert modes == {"Slot": "match", "Schedule": "include", "Practitioner": "include", "PractitionerRole": "include"}


async def test_what_we_answer_is_what_an_aggregator_reads(desk: Desk) -> None:
    who = rpps()
    await desk.practice.publish(desk.slot(who, 60), desk.slot(who, 90))
    bundle = await desk.bundle(desk.query([who]))
    found = read_searchset(bundle, Asked(desk.at(0), desk.at(600), {f"8{who}"}))
    assert [(o.start, o.end) for o in found.offered] == [(desk.at(m), desk.at(m + 15)) for m in (60, 90)]
    assert not found.dropped and len({o.site.id for o in found.offered}) == 2


async def test_several_places_of_several_practitioners(desk: Desk) -> None:
    """One Schedule ⇔ one PractitionerRole ⇔ one Location; a practitioner comes once."""
    who = [rpps(), rpps()]
    await desk.practice.publish(*(desk.slot(one, 60 + 30 * n) for one in who for n in range(3)))
    bundle = await desk.bundle(desk.query(who))
    assert kinds(bundle) == {"Slot": 6, "Schedule": 6, "Practitioner": 2, "PractitionerRole": 6}
    locations = [role["contained"][0] for role in of(bundle, "PractitionerRole")]
    assert len({location["identifier"][0]["value"] for location in locations}) == 6
    assert {one["id"] for one in of(bundle, "Practitioner")} == set(who)


async def test_twenty_five_practitioners_in_one_call(desk: Desk) -> None:
    who = [rpps() for _ in range(25)]
    await desk.practice.publish(*(desk.slot(one, 60 + n) for one in who for n in range(0, 60, 20)))
    bundle = await desk.bundle(desk.query(who))
    assert bundle["total"] == 75 and len(of(bundle, "Practitioner")) == 25


async def test_nothing_is_free(desk: Desk) -> None:
    for query in (
        desk.query([rpps()]),  # unknown: no match, not an error
        desk.query([], tokens=f"{names.NATIONAL_PERSON}|0691234567"),  # an ADELI, of whom we know nobody
        desk.query([], tokens=f"{names.NATIONAL_PERSON}|pas-un-rpps"),
        desk.query([], tokens="urn:oid:1.2.3|810000000001"),
    ):
        bundle = await desk.bundle(query)
        assert bundle["total"] == 0 and "entry" not in bundle and len(bundle["link"]) == 1


async def test_bounds_are_inclusive_and_windows_may_be_anywhere(desk: Desk) -> None:
    who = rpps()
    await desk.practice.publish(desk.slot(who, 60), desk.slot(who, 120))

    async def total(since: float, until: float) -> int:
        query = desk.query([who], since=written(desk.at(since)), until=written(desk.at(until)))
        return int((await desk.bundle(query))["total"])

    assert [await total(*w) for w in ((60, 120), (61, 119), (60, 60), (0, 10), (120, 60))] == [2, 0, 1, 0, 0]
    assert await total(-5000, -3000) == 0, "wholly in the past: an empty answer"


@pytest.mark.parametrize("form", ["offset", "zulu", "no zone", "space", "no milliseconds"])
async def test_the_ways_dates_come_in(desk: Desk, form: str) -> None:
    who = rpps()
    await desk.practice.publish(desk.slot(who, 60))

    def text(instant: datetime) -> str:
        local = written(instant.astimezone(PARIS))
        return {
            "offset": local,
            "zulu": instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "no zone": local[:-6],
            "space": local.replace("+", " "),
            "no milliseconds": local[:19] + local[-6:],
        }[form]

    for since, until, total in ((55, 65, 1), (61, 65, 0)):
        query = desk.query([who], since=text(desk.at(since)), until=text(desk.at(until)))
        assert (await desk.bundle(query))["total"] == total


async def test_a_raw_plus_and_a_raw_bar_in_the_address(desk: Desk) -> None:
    """As the guide's own samples write them: ``+`` decodes to a space, ``|`` is no legal character of a URI."""
    who = rpps()
    await desk.practice.publish(desk.slot(who, 60))
    parts = [f"{name}={value}" for name, value in desk.query([who], tokens=f"{names.NATIONAL_PERSON}|8{who}, ")]
    raw = "&".join(parts).replace(" ", "%20")
    answer = await desk.platform.http.get(httpx.URL(f"{desk.service.url}/fhir/Slot/").copy_with(query=raw.encode()))
    assert answer.status_code == 200, answer.text
    bundle = answer.json()
    assert bundle["total"] == 1 and check(bundle) == []
    url = bundle["link"][0]["url"]
    assert "|" not in url and " " not in url and "/fhir/Slot/?" in url
    assert parse_qsl(urlsplit(url).query) == parse_qsl(raw)


async def test_the_self_link_has_the_parameters_of_the_call(desk: Desk) -> None:
    query = [*desk.query([rpps()]), ("_count", "1000"), ("_format", "json"), ("inconnu", "é&=")]
    bundle = await desk.bundle(query)
    (link,) = bundle["link"]
    assert link["relation"] == "self"
    assert parse_qsl(urlsplit(link["url"]).query, keep_blank_values=True) == query
    assert quote(link["url"], safe=":/?&=%+,!$'()*;@._-~") == link["url"], "a valid URI"


async def test_identifiers_come_with_and_without_prefix_and_system(desk: Desk) -> None:
    who = [rpps(), rpps(), rpps()]
    await desk.practice.publish(*(desk.slot(one, 60) for one in who))
    mixed = f"{names.NATIONAL_PERSON}|8{who[0]}, {names.NATIONAL_PERSON}|{who[1]},8{who[2]},{who[2]}"
    bundle = await desk.bundle(desk.query([], tokens=mixed))
    assert {p["identifier"][0]["value"] for p in of(bundle, "Practitioner")} == {f"8{one}" for one in who}


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (lambda q: [p for p in q if p[0] != "start"], "start"),
        (lambda q: [p for p in q if not p[1].startswith("ge")], "start"),
        (lambda q: [*q, ("start", "ge2026-01-01T00:00:00+01:00")], "start"),
        (lambda q: [(n, v.replace("ge", "gt") if n == "start" else v) for n, v in q], "start"),
        (lambda q: [(n, "gedemain" if v.startswith("ge") else v) for n, v in q], "start"),
        (lambda q: [(n, "ge2026-02-30T00:00:00+01:00" if v.startswith("ge") else v) for n, v in q], "start"),
        (lambda q: [p for p in q if p[0] != "status"], "status"),
        (lambda q: [(n, "busy" if n == "status" else v) for n, v in q], "status"),
        (lambda q: [p for p in q if "actor" not in p[0]], "schedule.actor:Practitioner.identifier"),
        (lambda q: [(n, " , " if "actor" in n else v) for n, v in q], "schedule.actor:Practitioner.identifier"),
        (
            lambda q: [(n, ",".join(["810000000001"] * 26) if "actor" in n else v) for n, v in q],
            "schedule.actor:Practitioner.identifier",
        ),
    ],
)
async def test_a_search_that_is_wrong_says_where(desk: Desk, change: Any, where: str) -> None:
    answer = await desk.ask(change(desk.query([rpps()])))
    assert answer.status_code == 400 and answer.headers["content-type"] == "application/fhir+json"
    document = answer.json()
    assert document["resourceType"] == "OperationOutcome"
    assert document["issue"][0]["expression"] == [where] and document["issue"][0]["diagnostics"]


async def test_unknown_parameters_are_refused_only_when_that_is_asked(desk: Desk) -> None:
    query = [*desk.query([rpps()]), ("inconnu", "1")]
    assert (await desk.ask(query)).status_code == 200
    strict = await desk.ask(query, Prefer="handling=strict")
    assert (strict.status_code, strict.json()["issue"][0]["expression"]) == (400, ["inconnu"])
    assert (await desk.ask(desk.query([rpps()]), Prefer="handling=strict")).status_code == 200


async def test_only_what_is_free_and_shown(desk: Desk) -> None:
    who = rpps()
    spot = next_spot(desk.service.geography)
    shown = desk.slot(who, 60, visibility="pro")
    hidden = desk.slot(who, 90, visibility="cpts")
    gone = desk.slot(who, 120)
    booked = slot(spot, desk.at(150), professional={"rpps": who, "name": "Dr Paul Fictif"})
    plage = desk.slot(who, 180, capacity=2)
    numbers = await desk.practice.publish(shown, hidden, gone, booked, plage)
    await desk.practice.post("/v1/slots/withdraw", {"external_ids": [gone["external_id"]], "reason": "practice"})
    regulator = await desk.service.regulator()
    held = await regulator.ask({"insee": spot.code, "profession": "MG", "delay": "24H", "radius_km": 5})
    held = await regulator.act("take", held["request_id"], {"slot_id": numbers[3]})
    assert held["status"] == "held"
    bundle = await desk.bundle(desk.query([who]))
    assert [s["start"] for s in of(bundle, "Slot")] == [written(desk.at(m)) for m in (60, 180)]
    await regulator.act("cancel", held["request_id"])
    assert (await desk.bundle(desk.query([who])))["total"] == 3
    foreign = await desk.service.key("manager", professionals=("*",), source="fhir:autre-editeur")
    await foreign.publish(desk.slot(who, 240))
    assert (await desk.bundle(desk.query([who])))["total"] == 3, "what another editor shows is not ours to show"


async def test_what_has_begun_is_not_shown(desk: Desk) -> None:
    who = rpps()
    await desk.practice.publish(desk.slot(who, 3))
    query = desk.query([who], since=written(desk.at(-60)))
    assert (await desk.bundle(query))["total"] == 1
    desk.service.clock.ahead += timedelta(minutes=5)
    assert (await desk.bundle(query))["total"] == 0


async def test_local_time_overseas(desk: Desk) -> None:
    who = rpps()
    commune = desk.service.geography.by_code("97411")
    assert commune is not None
    await desk.practice.publish(slot(commune, desk.at(60), professional={"rpps": who, "name": "Dr Fictif"}))
    (found,) = of(await desk.bundle(desk.query([who])), "Slot")
    assert found["start"].endswith("+04:00") and found["start"] == written(desk.at(60), ZoneInfo("Indian/Reunion"))


async def test_a_profession_without_a_specialty_code_is_told_in_words(desk: Desk) -> None:
    who = rpps()
    await desk.practice.publish(desk.slot(who, 60, profession="SF"))
    assert of(await desk.bundle(desk.query([who])), "Slot")[0]["specialty"] == [{"text": "Sage-femme"}]


async def test_the_structure_of_a_place(desk: Desk) -> None:
    who, finess = rpps(), "690000077"
    structure = {"finess": finess, "kind": "cds", "name": "Centre de santé fictif"}
    await desk.practice.publish(desk.slot(who, 60, structure=structure, source_kind="cds"))
    (role,) = of(await desk.bundle(desk.query([who])), "PractitionerRole")
    assert role["organization"]["identifier"]["value"] == f"1{finess}"


# -- INT_R04 -------------------------------------------------------------------------------------------------------


async def test_cpts_see_what_their_members_show_them(desk: Desk) -> None:
    await desk.practice.publish(
        desk.slot(MEMBERS[0], 60, visibility="cpts"),
        desk.slot(MEMBERS[1], 60, visibility="cpts"),
        desk.slot(MEMBERS[1], 90, visibility="snp"),
    )
    bundle = await desk.bundle(desk.query(MEMBERS, includes=CPTS_INCLUDES))
    assert bundle["meta"]["profile"] == [names.BUNDLE_CPTS] and bundle["total"] == 3
    assert kinds(bundle) | {"Slot": 3, "HealthcareService": 2, "Organization": 2} == kinds(bundle)
    by_practitioner = {}
    for found in of(bundle, "Slot"):
        codes = [c["coding"][0]["code"] for c in found["serviceType"]]
        by_practitioner[(found["schedule"]["reference"].split("/")[1][:11], found["start"])] = codes
    starts = [written(desk.at(m)) for m in (60, 90)]
    assert by_practitioner == {
        (MEMBERS[0], starts[0]): ["AMB", "604"],
        (MEMBERS[1], starts[0]): ["AMB", "604", "604"],
        (MEMBERS[1], starts[1]): ["AMB"],
    }
    north = next(o for o in of(bundle, "Organization") if o["name"].endswith("Nord"))
    assert north["identifier"][0]["value"] == f"1{CPTS[0]}"
    assert north["telecom"] == [{"system": "phone", "value": "+33199000001"}]
    person = next(p for p in of(bundle, "Practitioner") if p["id"] == MEMBERS[0])
    assert person["name"] == [{"family": "DE LA FICTION", "given": ["Marie-Ève"]}]
    # the same service asked in the way of INT_R01 answers so, and keeps what is for the CPTS (trap 18)
    plain = await desk.bundle(desk.query(MEMBERS))
    assert plain["meta"]["profile"] == [names.BUNDLE_PS]
    assert [s["meta"]["security"][0]["code"] for s in of(plain, "Slot")] == ["SNP"]


async def test_a_place_for_cpts_of_someone_who_is_in_none(desk: Desk) -> None:
    who = rpps()
    await desk.practice.publish(desk.slot(who, 60, visibility="cpts"))
    bundle = await desk.bundle(desk.query([who], includes=CPTS_INCLUDES))
    assert bundle["total"] == 0 and bundle["meta"]["profile"] == [names.BUNDLE_CPTS] and "entry" not in bundle


# -- SOS Médecins --------------------------------------------------------------------------------------------------


def sos_query(desk: Desk, sirets: Sequence[str], **changes: str) -> list[tuple[str, str]]:
    has = "_has:Slot:schedule:"
    return [
        ("_revinclude", "Slot:schedule"),
        ("_include", "Schedule:actor:Location"),
        ("_include:iterate", "Location:Organization"),  # the capital is the guide's own
        (f"{has}start", f"ge{changes.get('since') or written(desk.at(0))}"),
        (f"{has}start", f"le{written(desk.at(72 * 60))}"),
        (f"{has}status", changes.get("status", "free")),
        ("actor:Location.organization.identifier", ",".join(f"{names.NATIONAL_STRUCTURE}|3{one}" for one in sirets)),
    ]


async def test_the_sites_of_sos_medecins(desk: Desk) -> None:
    def site(finess: str, minutes: float, **changes: Any) -> dict[str, Any]:
        structure = {"finess": finess, "kind": "sos", "name": "SOS Médecins fictif"}
        return desk.slot(None, minutes, structure=structure, source_kind="sos", **changes)

    first = [site(SITES[0], 60), site(SITES[0], 90, visibility="public")]
    first[1]["location"] = first[0]["location"]
    await desk.practice.publish(*first, site(SITES[1], 60), site(SITES[1], 120, visibility="pro"))
    bundle = await desk.bundle(sos_query(desk, [SIRET]), "/fhir/Schedule")
    assert bundle["meta"]["profile"] == [names.BUNDLE_SOS] and bundle["total"] == 3, (
        "slots are counted; PRO is not shown"
    )
    assert kinds(bundle) == {"Slot": 3, "Schedule": 2, "Location": 2, "Organization": 1}
    modes = {entry["resource"]["resourceType"]: entry["search"]["mode"] for entry in bundle["entry"]}
    assert modes == {"Slot": "include", "Schedule": "match", "Location": "include", "Organization": "include"}
    assert of(bundle, "Organization")[0]["identifier"][0]["value"] == f"3{SIRET}"
    assert {location["address"]["line"][0] for location in of(bundle, "Location")} == {"3 quai"}
    found = read_searchset(bundle, Asked(desk.at(0), desk.at(600), {f"3{SIRET}"}))
    assert len(found.offered) == 3 and not found.dropped
    later = await desk.bundle(sos_query(desk, [SIRET], since=written(desk.at(80))), "/fhir/Schedule/")
    assert later["total"] == 1
    empty = await desk.bundle(sos_query(desk, ["99000000000099"]), "/fhir/Schedule")
    assert empty["total"] == 0 and "entry" not in empty
    wrong = await desk.ask(sos_query(desk, [SIRET], status="busy"), "/fhir/Schedule")
    assert (wrong.status_code, wrong.json()["issue"][0]["expression"]) == (400, ["_has:Slot:schedule:status"])
    many = await desk.ask(sos_query(desk, [f"990000000{n:05d}" for n in range(26)]), "/fhir/Schedule")
    assert many.status_code == 400


# -- the rest ------------------------------------------------------------------------------------------------------


async def test_reading_one_slot(desk: Desk) -> None:
    who = rpps()
    (number,) = await desk.practice.publish(desk.slot(who, 60))
    answer = await desk.ask({}, f"/fhir/Slot/{number}")
    assert answer.status_code == 200 and check(answer.json()) == []
    (listed,) = of(await desk.bundle(desk.query([who])), "Slot")
    assert answer.json() == listed
    for unknown in ("0", "x", "9" * 30, "１"):
        missing = await desk.ask({}, f"/fhir/Slot/{unknown}")
        assert (missing.status_code, missing.json()["issue"][0]["code"]) == (404, "not-found"), unknown


async def test_what_a_bundle_refers_to_can_be_read(desk: Desk) -> None:
    """Each ``fullUrl`` leads to what the bundle holds."""
    who = rpps()
    await desk.practice.publish(desk.slot(who, 60), desk.slot(who, 90))
    bundle = await desk.bundle(desk.query([who]))
    for entry in bundle["entry"]:
        answer = await desk.platform.http.get(entry["fullUrl"])
        assert (answer.status_code, answer.json()) == (200, entry["resource"]), entry["fullUrl"]
    found = await desk.ask({"identifier": f"{names.NATIONAL_PERSON}|8{who}"}, "/fhir/Practitioner")
    assert found.json()["total"] == 1 and found.json()["entry"][0]["resource"] == of(bundle, "Practitioner")[0]
    for unknown in (
        f"Schedule/{who}-0000000000000000",
        f"PractitionerRole/{who}",
        f"Practitioner/{rpps()}",
        "Schedule/x",
    ):
        assert (await desk.ask({}, f"/fhir/{unknown}")).status_code == 404, unknown


async def test_metadata(desk: Desk) -> None:
    answer = await desk.ask({}, "/fhir/metadata")
    document = answer.json()
    assert answer.status_code == 200 and document["fhirVersion"] == "4.0.1"
    resources = {part["type"]: part for part in document["rest"][0]["resource"]}
    assert "Slot:schedule" in resources["Slot"]["searchInclude"]
    assert resources["Practitioner"]["conditionalUpdate"] and resources["Practitioner"]["updateCreate"]
    assert document["implementation"]["url"] == f"{desk.service.url}/fhir"


async def test_every_error_is_an_operation_outcome(desk: Desk) -> None:
    calls = [
        ("GET", "/fhir", 404),
        ("GET", "/fhir/Patient", 404),
        ("GET", "/fhir/Patient/1", 404),
        ("DELETE", "/fhir/Practitioner", 405),
        ("POST", "/fhir/Slot", 405),
        ("PUT", "/fhir/metadata", 405),
        ("GET", "/fhir/Slot", 400),
    ]
    for method, path, status in calls:
        answer = await desk.platform.http.request(method, path, content=b"{}")
        assert (answer.status_code, answer.json()["resourceType"]) == (status, "OperationOutcome"), (method, path)
        assert answer.headers["content-type"] == "application/fhir+json"
    allowed = await desk.platform.http.request("DELETE", "/fhir/Practitioner")
    assert allowed.headers["allow"] == "GET, POST, PUT"
    large = await desk.platform.http.post("/fhir/Practitioner", content=b"x" * 70_000)
    assert (large.status_code, large.json()["resourceType"]) == (413, "OperationOutcome")
    for headers in ({"Accept": "text/html"}, {"Accept": "application/xml"}):
        assert (await desk.ask(desk.query([rpps()]), **headers)).status_code == 200, "never 406"


async def test_a_platform_that_calls_too_fast_and_a_ledger_that_is_away(desk: Desk) -> None:
    settings = replace(desk.service.settings, rate=2.0, burst=3.0)
    async with run_service(settings, with_core=False) as slow:
        caller = await slow.key("fhir")
        answers = [await caller.get("/fhir/metadata") for _ in range(6)]
        refused = answers[-1]
        assert [a.status_code for a in answers[:3]] == [200] * 3 and refused.status_code == 429
        assert refused.json()["issue"][0]["code"] == "throttled" and int(refused.headers["retry-after"]) >= 1

    async def away(*_: Any) -> Any:
        raise UnavailableError("La base de données ne répond pas.", retry_after=2)

    with patch.object(PostgresFhir, "places_of_practitioners", away):
        answer = await desk.ask(desk.query([rpps()]))
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
    assert answer.json()["issue"][0]["code"] == "transient"


async def test_a_public_fhir_client_reads_our_endpoint_unmodified(desk: Desk) -> None:
    """``fhirclient`` (SMART Health IT): metadata, a search, every entry as its own strict models of FHIR R4."""
    client = pytest.importorskip("fhirclient.client", reason="fhirclient n'est pas installé : client public NON testé")
    from fhirclient.models.bundle import Bundle
    from fhirclient.models.slot import Slot

    await desk.practice.publish(desk.slot(MEMBERS[0], 300, visibility="cpts"), desk.slot(MEMBERS[1], 300))
    address = "&".join(f"{name}={quote(value)}" for name, value in desk.query(MEMBERS, includes=CPTS_INCLUDES))

    def read() -> tuple[Any, list[Any], Any]:
        smart = client.FHIRClient(settings={"app_id": "essai", "api_base": f"{desk.service.url}/fhir"})
        smart.server.session.trust_env = False
        smart.server.session.headers["Authorization"] = f"Bearer {desk.platform.token}"
        smart.server.get_capability()
        bundle = Bundle.read_from(f"Slot?{address}", smart.server)
        slots = [entry.resource for entry in bundle.entry if isinstance(entry.resource, Slot)]
        return bundle, slots, Slot.read(slots[-1].id, smart.server)

    bundle, slots, again = await asyncio.to_thread(read)
    assert bundle.type == "searchset" and bundle.total == len(slots) >= 2
    assert {type(entry.resource).__name__ for entry in bundle.entry} == {
        "Slot", "Schedule", "Practitioner", "PractitionerRole", "HealthcareService", "Organization"
    }  # fmt: skip
    assert all(slot.start.datetime.utcoffset() is not None and slot.status == "free" for slot in slots)
    assert again.start.isostring == slots[-1].start.isostring
