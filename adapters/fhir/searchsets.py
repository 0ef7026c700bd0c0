"""Places as bundles: what an agenda manager answers to INT_R01 (practitioners), INT_R04 (CPTS) and SOS Médecins.

Plain dicts, since this is the answer that must be ready in a second for 25 practitioners (see the package). One
Schedule ⇔ one PractitionerRole ⇔ one Location; each resource has exactly one profile; includes come once.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, tzinfo
from typing import Any, Final, NamedTuple

from adapters.fhir import names
from adapters.fhir.identifiers import Kind, NationalId, coded, person_identifier, phone, structure_identifier
from adapters.fhir.instants import written

ACTS: Final = {"cabinet": "AMB", "visite": "HH", "tele": "VR"}
BOOKINGS: Final = {"routine": "ROUTINE", "walkin": "WALKIN"}


class Site(NamedTuple):
    """A place of practice. ``id`` is unique in ``system`` (the editor's OID or URL) and fits a FHIR id."""

    id: str
    system: str
    name: str
    line: str
    city: str
    postcode: str
    phone: str | None
    structure: NationalId | None


class Cpts(NamedTuple):
    """A CPTS that sees a slot."""

    finess: str
    name: str
    phone: str | None


class Place(NamedTuple):
    """One free slot.

    Attributes:
        slot_id: unique, fits a FHIR id (letters, digits, ``-`` and ``.``, 64 at the most).
        rpps: bare or prefixed; None on an SOS site.
        specialty: TRE_R38 code; None where the profession has none, then ``profession`` is told in words.
        start, end: aware; ``zone`` is the local time they are written in.
        visibilities: TRE_R314 codes that apply.
        url: booking page of the agenda; contains a ``?`` already, since callers append ``&origin=…``.
        cpts: those a slot of visibility CPTS is shown to.
    """

    slot_id: str
    rpps: str | None
    family: str
    given: str
    site: Site
    start: datetime
    end: datetime
    zone: tzinfo
    modes: Sequence[str]
    visibilities: Sequence[str]
    booking_kind: str
    specialty: str | None
    profession: str
    url: str
    cpts: Sequence[Cpts] = ()


class Frame(NamedTuple):
    """What surrounds the entries: base of ``fullUrl`` (no slash at its end), the self link, an id."""

    base: str
    self_url: str
    bundle_id: str


def practitioners_bundle(places: Iterable[Place], frame: Frame) -> dict[str, Any]:
    """Answer INT_R01."""
    return _bundle(
        names.BUNDLE_PS, places, frame, lambda place, entries: _of_practitioner(place, entries, names.SLOT_PS)
    )


def cpts_bundle(places: Iterable[Place], frame: Frame) -> dict[str, Any]:
    """Answer INT_R04: the same agendas, with the CPTS each slot is shown to."""

    def add(place: Place, entries: "_Entries") -> None:
        _of_practitioner(place, entries, names.SLOT_CPTS)
        for cpts in place.cpts:
            entries.include(f"service-{cpts.finess}", _service, cpts)
            entries.include(f"cpts-{cpts.finess}", _cpts, cpts)

    return _bundle(names.BUNDLE_CPTS, places, frame, add)


def sos_bundle(places: Iterable[Place], frame: Frame) -> dict[str, Any]:
    """Answer SOS Médecins. The schedules match, the rest is included; ``total`` counts slots, as the examples do."""

    def add(place: Place, entries: "_Entries") -> None:
        entries.add(_slot(place, names.SLOT_SOS, place.site.id), "include")
        entries.include(f"agenda-{place.site.id}", _sos_schedule, place, mode="match")
        entries.include(f"site-{place.site.id}", _sos_location, place)
        if place.site.structure is not None:
            entries.include(f"sos-{place.site.structure.prefixed}", _sos_organization, place)

    return _bundle(names.BUNDLE_SOS, places, frame, add)


def resource_of(place: Place, kind: str) -> dict[str, Any]:
    """Return one resource of a practitioner's place on its own: Slot, Schedule, Practitioner or PractitionerRole."""
    if kind == "Slot":
        return _slot(place, names.SLOT_PS, agenda_of(place))
    build = {"Schedule": _schedule, "Practitioner": _practitioner, "PractitionerRole": _role}[kind]
    return build(place)


class _Entries:
    """The entries of a bundle in order, each include once."""

    def __init__(self, base: str) -> None:
        self.entries: list[dict[str, Any]] = []
        self._base = base
        self._seen: set[str] = set()

    def add(self, resource: dict[str, Any], mode: str) -> None:
        """Append a resource."""
        full_url = f"{self._base}/{resource['resourceType']}/{resource['id']}"
        self.entries.append({"fullUrl": full_url, "resource": resource, "search": {"mode": mode}})

    def include(self, name: str, build: Any, what: Any, mode: str = "include") -> None:
        """Append what ``build`` makes unless it is there already."""
        if name not in self._seen:
            self._seen.add(name)
            self.add(build(what), mode)


def _bundle(profile: str, places: Iterable[Place], frame: Frame, add: Any) -> dict[str, Any]:
    entries = _Entries(frame.base)
    total = 0
    for place in places:
        add(place, entries)
        total += 1
    bundle: dict[str, Any] = {
        "resourceType": "Bundle",
        "id": frame.bundle_id,
        "meta": {"profile": [profile]},
        "type": "searchset",
        "total": total,
        "link": [{"relation": "self", "url": frame.self_url}],
    }
    if entries.entries:  # an empty list is never sent
        bundle["entry"] = entries.entries
    return bundle


def _of_practitioner(place: Place, entries: _Entries, profile: str) -> None:
    agenda = agenda_of(place)
    entries.add(_slot(place, profile, agenda), "match")
    entries.include(f"agenda-{agenda}", _schedule, place)
    entries.include(f"person-{place.rpps}", _practitioner, place)
    entries.include(f"role-{agenda}", _role, place)


def agenda_of(place: Place) -> str:
    """Return the id of a practitioner's agenda at a place, and of their role there."""
    return f"{place.rpps}-{place.site.id}"


def _slot(place: Place, profile: str, agenda: str) -> dict[str, Any]:
    types = [coded(ACTS[mode], names.ACT) for mode in place.modes]
    if profile == names.SLOT_CPTS:
        types += [
            {
                "extension": [
                    {
                        "url": names.SERVICE_REFERENCE,
                        "valueReference": {"reference": f"HealthcareService/{cpts.finess}"},
                    }
                ],
                **coded(names.CPTS_CATEGORY, names.CATEGORY),
            }
            for cpts in place.cpts
        ]
    return {
        "resourceType": "Slot",
        "id": place.slot_id,
        "meta": {
            "profile": [profile],
            "security": [{"system": names.VISIBILITY, "code": code} for code in place.visibilities],
        },
        "serviceType": types,
        "specialty": [coded(place.specialty, names.SPECIALTY) if place.specialty else {"text": place.profession}],
        "appointmentType": coded(BOOKINGS[place.booking_kind], names.BOOKING),
        "schedule": {"reference": f"Schedule/{agenda}"},
        "status": "free",
        "start": written(place.start, place.zone),
        "end": written(place.end, place.zone),
        "comment": place.url,
    }


def _schedule(place: Place) -> dict[str, Any]:
    return {
        "resourceType": "Schedule",
        "id": agenda_of(place),
        "meta": {"profile": [names.SCHEDULE_PS]},
        "actor": [
            {"reference": f"Practitioner/{place.rpps}"},
            {"reference": f"PractitionerRole/{agenda_of(place)}"},
        ],
    }


def _practitioner(place: Place) -> dict[str, Any]:
    name = {"family": place.family, **({"given": [place.given]} if place.given else {})}
    return {
        "resourceType": "Practitioner",
        "id": place.rpps,
        "meta": {"profile": [names.PRACTITIONER]},
        "identifier": [person_identifier(place.rpps or "")],
        **({"name": [name]} if place.family else {}),
    }


def _role(place: Place) -> dict[str, Any]:
    site = place.site
    number = phone(site.phone)
    return {
        "resourceType": "PractitionerRole",
        "id": agenda_of(place),
        "meta": {"profile": [names.ROLE]},
        "contained": [{**_location(site, names.LOCATION_PS), "id": "lieu"}],
        "practitioner": {"reference": f"Practitioner/{place.rpps}"},
        **({"organization": {"identifier": structure_identifier(site.structure)}} if site.structure else {}),
        "location": [{"reference": "#lieu"}],
        **({"telecom": [{"system": "phone", "value": number}]} if number else {}),
    }


def _location(site: Site, profile: str) -> dict[str, Any]:
    identifier = {"type": coded("INTRN", names.PLACE_IDENTIFIER_TYPE), "system": site.system, "value": site.id}
    return {
        "resourceType": "Location",
        "id": site.id,
        "meta": {"profile": [profile]},
        "identifier": [identifier],
        "address": {"line": [site.line], "city": site.city, "postalCode": site.postcode},
    }


def _service(cpts: Cpts) -> dict[str, Any]:
    return {
        "resourceType": "HealthcareService",
        "id": cpts.finess,
        "meta": {"profile": [names.SERVICE_CPTS]},
        "providedBy": {"reference": f"Organization/{cpts.finess}"},
    }


def _cpts(cpts: Cpts) -> dict[str, Any]:
    number = phone(cpts.phone)
    return {
        "resourceType": "Organization",
        "id": cpts.finess,
        "meta": {"profile": [names.ORGANIZATION_CPTS]},
        "identifier": [structure_identifier(NationalId(Kind.FINESS, cpts.finess), names.PLACE_IDENTIFIER_TYPE)],
        "name": cpts.name,
        **({"telecom": [{"system": "phone", "value": number}]} if number else {}),
    }


def _sos_schedule(place: Place) -> dict[str, Any]:
    return {
        "resourceType": "Schedule",
        "id": place.site.id,
        "meta": {"profile": [names.SCHEDULE_SOS]},
        "actor": [{"reference": f"Location/{place.site.id}"}],
    }


def _sos_location(place: Place) -> dict[str, Any]:
    site = place.site
    number = phone(site.phone)
    owner = site.structure.prefixed if site.structure is not None else ""
    return {
        **_location(site, names.LOCATION_SOS),
        "name": site.name,
        **({"telecom": [{"system": "phone", "value": number}]} if number else {}),
        **({"managingOrganization": {"reference": f"Organization/{owner}"}} if owner else {}),
    }


def _sos_organization(place: Place) -> dict[str, Any]:
    structure = place.site.structure
    if structure is None:  # pragma: no cover - the caller asked
        raise LookupError(place.site.id)
    return {
        "resourceType": "Organization",
        "id": structure.prefixed,
        "meta": {"profile": [names.ORGANIZATION_SOS]},
        "identifier": [structure_identifier(structure, names.PLACE_IDENTIFIER_TYPE)],
        "name": place.family or place.site.name,
    }
