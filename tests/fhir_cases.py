"""Fictitious places as bundles, and single faults planted in them; identifiers that cannot be real."""

import copy
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from adapters.fhir import names
from adapters.fhir.appointments import Operator, Told, appointment
from adapters.fhir.identifiers import Kind, NationalId, coded
from adapters.fhir.searchsets import Cpts, Frame, Place, Site, cpts_bundle, practitioners_bundle, sos_bundle

NOON: Final = datetime(2026, 11, 27, 11, tzinfo=UTC)
PARIS: Final = ZoneInfo("Europe/Paris")
FRAME: Final = Frame("https://agenda.example/fhir", "https://agenda.example/fhir/Slot?status=free", "reponse-1")
OPERATOR: Final = Operator(names.PLATFORM, "1ef1c748-01a3-6180-b098-73283ce4e5b1")
CPTS: Final = (
    Cpts("990000001", "CPTS fictive du Nord", "01 99 00 00 01"),
    Cpts("990000002", "CPTS fictive du Sud", None),
)


def site(name: str = "s1", **changes: Any) -> Site:
    """Return a place of practice."""
    known: dict[str, Any] = {
        "id": name,
        "system": "https://agenda.example",
        "name": f"Cabinet fictif {name}",
        "line": "1 rue Fictive",
        "city": "LYON",
        "postcode": "69002",
        "phone": "04 99 00 00 01",
        "structure": NationalId(Kind.FINESS, "690000001"),
    }
    return Site(**(known | changes))


def place(number: int = 1, **changes: Any) -> Place:
    """Return a free slot."""
    known: dict[str, Any] = {
        "slot_id": str(number),
        "rpps": "10000000001",
        "family": "FICTIF",
        "given": "Marguerite",
        "site": site(),
        "start": NOON + timedelta(minutes=20 * number),
        "end": NOON + timedelta(minutes=20 * number + 20),
        "zone": PARIS,
        "modes": ["cabinet"],
        "visibilities": ["PUBLIC"],
        "booking_kind": "routine",
        "specialty": "SM54",
        "profession": "Médecine générale",
        "url": "https://agenda.example/rdv?agenda=1",
    }
    return Place(**(known | changes))


def ps() -> dict[str, Any]:
    """Two practitioners, one at two places."""
    other = {"rpps": "10000000002", "family": "INVENTE", "given": "Paul"}
    places = [place(1), place(2, visibilities=["SNP"]), place(3, site=site("s2")), place(4, **other)]
    return practitioners_bundle(places, FRAME)


def cpts() -> dict[str, Any]:
    """A slot of two CPTS and one of none."""
    return cpts_bundle([place(1, visibilities=["CPTS"], cpts=CPTS), place(2)], FRAME)


def sos() -> dict[str, Any]:
    """Two sites of one association."""
    structure = NationalId(Kind.SIRET, "99000000000001")
    owner = {"rpps": None, "family": "SOS Médecins Fictif", "given": ""}
    places = [place(n, site=site(f"c{n}", structure=structure), visibilities=["SNP"], **owner) for n in (1, 2)]
    return sos_bundle(places, FRAME)


TOLD = Told(
    "https://agenda.example", "rdv-1", "booked", NOON, NOON + timedelta(minutes=20), NOON, OPERATOR, "10000000001"
)


def booked() -> dict[str, Any]:
    """A booking as INT_R03 tells it."""
    return appointment(TOLD, PARIS)


def regulator() -> dict[str, Any]:
    """A regulator's account."""
    return {
        "resourceType": "Practitioner",
        "meta": {"source": names.PLATFORM, "profile": [names.REGULATOR]},
        "identifier": [
            {
                "type": coded("IDNPS", names.IDENTIFIER_TYPE),
                "system": names.NATIONAL_PERSON,
                "value": "3990000001/0042",
            }
        ],
        "active": True,
        "name": [{"family": "Fictive", "given": ["Régine"]}],
        "telecom": [{"system": "email", "value": "regine@sas.example"}],
    }


Change = Callable[[dict[str, Any]], Any]


def of(document: dict[str, Any], kind: str, number: int = 0) -> dict[str, Any]:
    """Return a resource of a bundle."""
    found = [e["resource"] for e in document["entry"] if e["resource"]["resourceType"] == kind]
    resource: dict[str, Any] = found[number]
    return resource


def setting(kind: str, path: str, value: Any, number: int = 0) -> Change:
    """Return a change that sets an element (``a.0.b``) of a resource; None removes it."""

    def change(document: dict[str, Any]) -> None:
        node: Any = of(document, kind, number) if "entry" in document else document
        *above, last = [int(part) if part.isdigit() else part for part in path.split(".")]
        for part in above:
            node = node[part]
        if value is None:
            del node[last]
        else:
            node[last] = value

    return change


def adding(kind: str, path: str, item: Any) -> Change:
    """Return a change that appends to a list (a copy of its first item when None)."""

    def change(document: dict[str, Any]) -> None:
        node: Any = of(document, kind) if "entry" in document else document
        for part in path.split("."):
            node = node[int(part)] if part.isdigit() else node[part]
        node.append(copy.deepcopy(node[0]) if item is None else item)

    return change


def entries(act: Change) -> Change:
    """Return a change of the bundle itself."""
    return act


_R66_WRONG: Final = "https://mos.esante.gouv.fr/NOS/TRE_R66-CategorieEtablissement"

# class of fault → (what it is, the document, the change)
FAULTS: Final[dict[str, list[tuple[str, Callable[[], dict[str, Any]], Change]]]] = {
    "cardinality": [
        ("slot without schedule", ps, setting("Slot", "schedule", None)),
        ("slot without start", ps, setting("Slot", "start", None)),
        ("slot without status", ps, setting("Slot", "status", None)),
        ("slot without consultation type", ps, setting("Slot", "serviceType", None)),
        ("slot without booking page", ps, setting("Slot", "comment", None)),
        ("schedule with a service type", ps, setting("Schedule", "serviceType", [{"text": "x"}])),
        ("schedule with one actor", ps, setting("Schedule", "actor.1", None)),
        ("practitioner without identifier", ps, setting("Practitioner", "identifier", None)),
        ("two places in one role", ps, adding("PractitionerRole", "location", None)),
        ("role without place", ps, setting("PractitionerRole", "contained", None)),
        ("address of two lines", ps, adding("PractitionerRole", "contained.0.address.line", "2e étage")),
        ("address without city", ps, setting("PractitionerRole", "contained.0.address.city", None)),
        ("two identifiers of a CPTS", cpts, adding("Organization", "identifier", None)),
        ("service of no CPTS", cpts, setting("HealthcareService", "providedBy", None)),
        ("SOS site without name", sos, setting("Location", "name", None)),
        ("two identifiers of a booking", booked, adding("", "identifier", None)),
        ("booking without participant", booked, setting("", "participant", None)),
        ("account without active", regulator, setting("", "active", None)),
        ("account without family name", regulator, setting("", "name.0.family", None)),
        ("account with two given names", regulator, adding("", "name.0.given", "Anne")),
        ("bundle without total", cpts, entries(lambda d: d.pop("total"))),
        ("bundle without self link", sos, entries(lambda d: d.pop("link"))),
    ],
    "fixed code": [
        ("busy slot", ps, setting("Slot", "status", "busy")),
        ("a status of another case", cpts, setting("Slot", "status", "Free")),
        ("bundle of another type", ps, entries(lambda d: d.update(type="collection"))),
        ("unknown visibility", ps, setting("Slot", "meta.security.0.code", "PRIVE")),
        ("PRO slot of SOS", sos, setting("Slot", "meta.security.0.code", "PRO")),
        ("unknown consultation type", ps, setting("Slot", "serviceType.0.coding.0.code", "EMER")),
        ("unknown booking kind", cpts, setting("Slot", "appointmentType.coding.0.code", "CHECKUP")),
        ("a participant who has not accepted", booked, setting("", "participant.0.status", "tentative")),
        ("booking of unknown status", booked, setting("", "status", "BOOKED")),
        ("account with a phone", regulator, setting("", "telecom.0.system", "phone")),
        ("another category than CPTS", cpts, setting("Slot", "serviceType.1.coding.0.code", "603")),
        ("search mode", ps, entries(lambda d: d["entry"][0]["search"].update(mode="outcome"))),
    ],
    "wrong system": [
        ("practitioner's system", ps, setting("Practitioner", "identifier.0.system", names.NATIONAL_STRUCTURE)),
        ("OID without urn", ps, setting("Practitioner", "identifier.0.system", "1.2.250.1.71.4.2.1")),
        (
            "identifier type's system",
            ps,
            setting("Practitioner", "identifier.0.type.coding.0.system", names.PLACE_IDENTIFIER_TYPE),
        ),
        (
            "visibility's system",
            ps,
            setting("Slot", "meta.security.0.system", "https://mos.esante.gouv.fr/NOS/TRE_R314-TypeCreneau"),
        ),
        (
            "structure's system",
            ps,
            setting("PractitionerRole", "organization.identifier.system", names.NATIONAL_PERSON),
        ),
        (
            "CPTS type's system",
            cpts,
            setting("Organization", "identifier.0.type.coding.0.system", names.IDENTIFIER_TYPE),
        ),
        ("SOS site's identifier type", sos, setting("Location", "identifier.0.type.coding.0.code", "IDNST")),
        ("R66 without its tail", cpts, setting("Slot", "serviceType.1.coding.0.system", _R66_WRONG)),
        ("booking kind's system", sos, setting("Slot", "appointmentType.coding.0.system", names.ACT)),
        ("practitioner of a booking", booked, setting("", "participant.0.actor.identifier.system", names.PLATFORM)),
        ("source of an account", regulator, setting("", "meta.source", "urn:oid:1.2.3")),
        ("account under a structure's system", regulator, setting("", "identifier.0.system", names.NATIONAL_STRUCTURE)),
    ],
    "missing profile": [
        ("slot", ps, setting("Slot", "meta.profile", None)),
        ("two profiles on a slot", ps, adding("Slot", "meta.profile", names.SLOT_CPTS)),
        ("PS slot in a CPTS bundle", cpts, setting("Slot", "meta.profile.0", names.SLOT_PS)),
        ("contained place", ps, setting("PractitionerRole", "contained.0.meta", None)),
        ("bundle", ps, entries(lambda d: d.pop("meta"))),
        (
            "SOS organization under the CPTS profile",
            sos,
            setting("Organization", "meta.profile.0", names.ORGANIZATION_CPTS),
        ),
        (
            "the other family",
            ps,
            setting("Schedule", "meta.profile.0", names.SCHEDULE_PS.replace("sas.fr", "interopsante.org")),
        ),
        ("account", regulator, setting("", "meta.profile", None)),
    ],
    "dangling reference": [
        ("schedule of a slot", ps, setting("Slot", "schedule.reference", "Schedule/ailleurs")),
        ("practitioner of an agenda", ps, setting("Schedule", "actor.0.reference", "Practitioner/inconnu")),
        ("role of an agenda", ps, setting("Schedule", "actor.1.reference", "PractitionerRole/inconnu")),
        ("contained place", ps, setting("PractitionerRole", "location.0.reference", "#autre")),
        (
            "service of a CPTS slot",
            cpts,
            setting("Slot", "serviceType.1.extension.0.valueReference.reference", "HealthcareService/0"),
        ),
        ("CPTS of a service", cpts, setting("HealthcareService", "providedBy.reference", "Organization/0")),
        ("association of a site", sos, setting("Location", "managingOrganization.reference", "Organization/0")),
        ("site of an agenda", sos, setting("Schedule", "actor.0.reference", "Location/0")),
    ],
    "date form": [
        ("no milliseconds", ps, setting("Slot", "start", "2026-11-27T12:20:00+01:00")),
        ("Z", ps, setting("Slot", "start", "2026-11-27T11:20:00.000Z")),
        ("no offset", ps, setting("Slot", "start", "2026-11-27T12:20:00.000")),
        ("offset without colon", cpts, setting("Slot", "end", "2026-11-27T12:40:00.000+0100")),
        ("a date alone", sos, setting("Slot", "start", "2026-11-27")),
        ("end before start", ps, setting("Slot", "end", "2026-11-27T12:00:00.000+01:00")),
        ("a space for the T", ps, setting("Slot", "start", "2026-11-27 12:20:00.000+01:00")),
        ("booking without offset", booked, setting("", "start", "2026-11-27T12:20:00")),
    ],
    "slicing": [
        ("CPTS entry without its service", cpts, setting("Slot", "serviceType.1.extension", None)),
        (
            "consultation type with a CPTS extension",
            cpts,
            setting(
                "Slot",
                "serviceType.0.extension",
                [{"url": names.SERVICE_REFERENCE, "valueReference": {"reference": "HealthcareService/990000001"}}],
            ),
        ),
        ("another extension", cpts, setting("Slot", "serviceType.1.extension.0.url", "http://example.org/x")),
        ("booking without operator", booked, setting("", "extension.0.url", "http://example.org/x")),
        (
            "operator without identifier",
            booked,
            setting("", "extension.0.valueReference", {"reference": "Practitioner/1"}),
        ),
        (
            "operator of an unknown type",
            booked,
            setting("", "extension.0.valueReference.identifier.type.coding.0.code", "RPPS"),
        ),
        ("two national ids", regulator, adding("", "identifier", None)),
        ("national id typed as internal", regulator, setting("", "identifier.0.type.coding.0.code", "INTRN")),
        (
            "patient in the bundle",
            ps,
            entries(
                lambda d: d["entry"].append(
                    {
                        "fullUrl": "https://a.example/Patient/1",
                        "resource": {"resourceType": "Patient", "id": "1"},
                        "search": {"mode": "include"},
                    }
                )
            ),
        ),
    ],
    "identifier prefix": [
        ("bare RPPS", ps, setting("Practitioner", "identifier.0.value", "10000000001")),
        ("RPPS one digit short", ps, setting("Practitioner", "identifier.0.value", "81000000001")),
        ("bare FINESS of a structure", ps, setting("PractitionerRole", "organization.identifier.value", "690000001")),
        (
            "SIRET with the FINESS prefix",
            ps,
            setting("PractitionerRole", "organization.identifier.value", "199000000000001"),
        ),
        ("bare FINESS of a CPTS", cpts, setting("Organization", "identifier.0.value", "990000001")),
        ("CPTS with a SIRET", cpts, setting("Organization", "identifier.0.value", "399000000000001")),
        ("SOS with a FINESS", sos, setting("Organization", "identifier.0.value", "1990000001")),
        ("bare RPPS of a booking", booked, setting("", "participant.0.actor.identifier.value", "10000000001")),
        ("phone without country", ps, setting("PractitionerRole", "telecom.0.value", "0499000001")),
    ],
}
