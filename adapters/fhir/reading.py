"""What an editor answered, as places: tolerant to every form the contract has seen, strict about what was asked.

A slot that cannot be used is dropped alone and counted with its reason; its siblings stay (contract, section 11).
"""

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from datetime import datetime
from typing import Any, Final, NamedTuple, TypeVar

from adapters.fhir.identifiers import NationalId, phone, practitioner_id, structure_id
from adapters.fhir.instants import read_instant
from adapters.fhir.names import ACT, BOOKING, NATIONAL_PERSON, NATIONAL_STRUCTURE, SPECIALTY
from adapters.fhir.resources import (
    DEPTH,
    Bundle,
    HealthcareService,
    HumanName,
    Identifier,
    Location,
    Organization,
    Practitioner,
    PractitionerRole,
    Reference,
    Resource,
    Schedule,
    Slot,
    UnreadableError,
    codes,
    deeper,
    read,
    read_as,
)

T = TypeVar("T", bound=Resource)
_MODES: Final = {"AMB": "cabinet", "HH": "visite", "VR": "tele"}
_ID: Final = re.compile(r"[\x21-\x7e]{1,64}")  # of FHIR, but for the signs that editors put into it
_VISIBILITIES: Final = frozenset({"PUBLIC", "PRO", "SNP", "CPTS"})


class Site(NamedTuple):
    """Where care takes place, as an editor tells it; there are no coordinates on this wire."""

    id: str
    name: str | None
    line: str | None
    city: str | None
    postcode: str | None
    phone: str | None
    structure: NationalId | None


class Offered(NamedTuple):
    """One free slot of an editor.

    Attributes:
        slot_id: the editor's id of the slot.
        practitioner: None on an SOS site.
        family, given: name of the practitioner, empty when unknown.
        structures: CPTS that see it, as prefixed identifiers.
        start, end: UTC.
        modes: ``cabinet``, ``tele``, ``visite``, at least one.
        visibilities: TRE_R314 codes, at least one.
        specialties: TRE_R38 codes.
        motives: free texts of ``serviceType``.
        bookable: ROUTINE; else WALKIN: shown, not booked.
        url: where the regulator books; None where the editor gave none.
        specialty_texts: specialties and professions that were told in words.
    """

    slot_id: str
    practitioner: NationalId | None
    family: str
    given: str
    site: Site
    structures: tuple[str, ...]
    start: datetime
    end: datetime
    modes: tuple[str, ...]
    visibilities: tuple[str, ...]
    specialties: tuple[str, ...]
    motives: tuple[str, ...]
    bookable: bool
    url: str | None
    specialty_texts: tuple[str, ...] = ()


class Searchset(NamedTuple):
    """What an answer held: the places, why others were dropped, and the next page where an editor pages."""

    offered: list[Offered]
    dropped: Counter[str]
    next_url: str | None


class Asked(NamedTuple):
    """What was asked of the editor; what does not fit is dropped."""

    start: datetime
    end: datetime
    identifiers: Collection[str]
    """Prefixed practitioner ids (PS, CPTS) or SIRET (SOS)."""


class _DroppedError(Exception):
    """This slot cannot be used; the message is the reason's code."""


def read_searchset(document: Any, asked: Asked) -> Searchset:
    """Read the answer to a search of slots (PS, CPTS or SOS).

    Raises:
        UnreadableError: it is no searchset at all.
    """
    if deeper(document):
        raise UnreadableError([("document", f"plus de {DEPTH} niveaux imbriqués")])
    bundle = read_as(Bundle, _without_empty(document))
    if bundle.type != "searchset":
        raise UnreadableError([("type", f"{bundle.type!r}, attendu searchset")])
    dropped: Counter[str] = Counter()
    known: dict[str, Resource] = {}
    slots: dict[str, Slot] = {}
    for entry in bundle.entry:
        try:
            resource = read(entry.resource)
        except UnreadableError:
            # a resource that the contract does not know is none of our business, a broken one may break its slots
            if (entry.resource or {}).get("resourceType") == "Slot":
                dropped["unreadable"] += 1
            continue
        if isinstance(resource, Slot):
            if _ID.fullmatch(resource.id or "") is None:
                dropped["no_id"] += 1
            else:
                slots.setdefault(str(resource.id), resource)
            continue
        if resource.id is not None:
            known.setdefault(resource.key, resource)
        if entry.full_url:
            known.setdefault(entry.full_url, resource)
    offered = []
    for slot in slots.values():
        try:
            offered.append(_offered(slot, _Known(known), asked))
        except _DroppedError as reason:
            dropped[str(reason)] += 1
    following = next((link.url for link in bundle.link if link.relation == "next" and link.url), None)
    return Searchset(offered, dropped, following)


class _Known:
    """The resources of a bundle by ``Type/id`` and by ``fullUrl``."""

    def __init__(self, known: dict[str, Resource]) -> None:
        self._known = known

    def get(self, reference: Reference, kind: type[T]) -> T | None:
        """Return what a reference points to when it is of a kind, else None."""
        name = reference.reference or ""
        # an absolute reference may name another base than the fullUrl does
        found = self._known.get(name) or self._known.get("/".join(name.split("/")[-2:]))
        return found if isinstance(found, kind) else None


def _offered(slot: Slot, known: _Known, asked: Asked) -> Offered:
    start, end = _times(slot, asked)
    visibilities = tuple(c.code for c in slot.meta.security if c.code in _VISIBILITIES)
    if not visibilities:
        raise _DroppedError("no_visibility")
    modes = tuple(dict.fromkeys(_MODES[code] for code in codes(slot.service_type, ACT) if code in _MODES))
    if not modes:
        raise _DroppedError("no_mode")
    schedule = known.get(slot.schedule, Schedule)
    if schedule is None:
        raise _DroppedError("no_schedule")
    practitioner: NationalId | None = None
    name = HumanName()
    role = next(filter(None, (known.get(actor, PractitionerRole) for actor in schedule.actor)), None)
    if role is not None:
        site, practitioner, name = _of_role(role, schedule, known)
        owner: NationalId | None = practitioner
    else:
        place = next(filter(None, (known.get(actor, Location) for actor in schedule.actor)), None)
        if place is None:
            raise _DroppedError("no_place")
        site = _site_of(place, known)
        owner = site.structure
    if owner is None or owner.prefixed not in asked.identifiers:
        raise _DroppedError("not_asked")
    booking = codes([slot.appointment_type] if slot.appointment_type else [], BOOKING)
    return Offered(
        slot_id=slot.id or "",
        practitioner=practitioner,
        family=name.family or "",
        given=" ".join(name.given),
        site=site,
        structures=tuple(dict.fromkeys(_cpts(slot, known))),
        start=start,
        end=end,
        modes=modes,
        visibilities=visibilities,
        specialties=tuple(dict.fromkeys(codes(slot.specialty, SPECIALTY))),
        motives=tuple(concept.text for concept in slot.service_type if concept.text),
        bookable="WALKIN" not in booking,
        url=slot.comment,
        specialty_texts=tuple(concept.text for concept in slot.specialty if concept.text),
    )


def _times(slot: Slot, asked: Asked) -> tuple[datetime, datetime]:
    if (slot.status or "").lower() != "free":
        raise _DroppedError("not_free")
    try:
        start, end = read_instant(slot.start or ""), read_instant(slot.end or "")
    except ValueError:
        raise _DroppedError("bad_instant") from None
    if end <= start:
        raise _DroppedError("ends_before_start")
    if not asked.start <= start <= asked.end:
        raise _DroppedError("outside_window")
    return start, end


def _of_role(role: PractitionerRole, schedule: Schedule, known: _Known) -> tuple[Site, NationalId, HumanName]:
    """Return place, identifier and name of the practitioner of an agenda.

    Raises:
        _DroppedError: the chain does not resolve.
    """
    who = known.get(role.practitioner, Practitioner)
    who = who or next(filter(None, (known.get(actor, Practitioner) for actor in schedule.actor)), None)
    if who is None:
        raise _DroppedError("no_practitioner")
    contained = {f"#{part.get('id')}": part for part in role.contained}
    wanted = role.location[0] if role.location else Reference()
    try:
        raw = contained.get(wanted.reference or "")
        place = read_as(Location, raw) if raw is not None else known.get(wanted, Location)
    except UnreadableError:
        place = None
    if place is None:
        raise _DroppedError("no_place")
    number = _first(who.identifier, practitioner_id, NATIONAL_PERSON)
    if number is None:
        raise _DroppedError("no_practitioner")
    phones = [*role.telecom, *place.telecom, *who.telecom]
    organization = role.organization.identifier
    structure = _first([organization] if organization else [], structure_id, NATIONAL_STRUCTURE)
    return _site(place, phones, structure), number, who.name[0] if who.name else HumanName()


def _site_of(place: Location, known: _Known) -> Site:
    owner = known.get(place.managing_organization, Organization)
    structure = _first(owner.identifier if owner is not None else [], structure_id, NATIONAL_STRUCTURE)
    return _site(place, place.telecom, structure)


def _site(place: Location, telecom: list[Any], structure: NationalId | None) -> Site:
    address = place.address
    number = next((phone(t.value) for t in telecom if t.system == "phone" and t.value), None)
    identifier = next((i.value for i in place.identifier if i.value), None)
    return Site(
        id=identifier or place.id or "",
        name=place.name,
        line=" ".join(address.line) if address and address.line else None,
        city=address.city if address else None,
        postcode=address.postal_code if address else None,
        phone=number,
        structure=structure,
    )


def _first(identifiers: list[Identifier], form: Callable[[str], NationalId], system: str) -> NationalId | None:
    """Return the first identifier that reads as wanted: of its system before those that leave it out or err."""
    for identifier in sorted(identifiers, key=lambda i: i.system != system):
        try:
            return form(identifier.value or "")
        except ValueError:
            continue
    return None


def _cpts(slot: Slot, known: _Known) -> Iterator[str]:
    """Yield the CPTS that a slot is visible to, however the R66 system is spelt: the extension says it."""
    for concept in slot.service_type:
        for extension in concept.extension:
            if extension.value_reference is None:
                continue
            service = known.get(extension.value_reference, HealthcareService)
            owner = known.get(service.provided_by, Organization) if service is not None else None
            number = _first(owner.identifier, structure_id, NATIONAL_STRUCTURE) if owner is not None else None
            if number is not None:
                yield number.prefixed


def _without_empty(node: Any) -> Any:
    """Drop empty texts, lists, objects and nulls: forbidden by the guide, and seen; and NUL, which no store takes."""
    if isinstance(node, str):
        return node.replace("\0", "")
    if isinstance(node, dict):
        kept = {name: _without_empty(part) for name, part in node.items()}
        return {name: part for name, part in kept.items() if part not in ("", None, [], {})}
    if isinstance(node, list):
        return [part for part in (_without_empty(item) for item in node) if part not in ("", None, [], {})]
    return node
