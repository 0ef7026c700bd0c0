"""INT_R03: a booking as it is told to the national platform, and as other editors tell it to us. Never a patient."""

import re
from datetime import datetime, tzinfo
from typing import Any, Final, NamedTuple

from adapters.fhir import names
from adapters.fhir.identifiers import REGULATOR_TYPES, coded, person_identifier, practitioner_id
from adapters.fhir.instants import read_instant
from adapters.fhir.outcomes import FhirRuleError, Issue
from adapters.fhir.resources import Appointment, Identifier, Participant, UnreadableError, read_as

STATUSES: Final = frozenset({"booked", "fulfilled", "noshow", "cancelled"})


# an identifier is a key of ours: PostgreSQL indexes 2 700 bytes at the most
_SYSTEM: Final = re.compile(r"[\x21-\x7e]{1,255}")
_VALUE: Final = re.compile(r"[^\x00-\x1f\x7f]{1,128}")


class Operator(NamedTuple):
    """The regulator who booked, as INT_R02 named him."""

    system: str
    value: str


class Told(NamedTuple):
    """One state of a booking.

    Attributes:
        identifier_system, identifier: of the booking, stable for its life.
        status: booked, fulfilled, noshow, cancelled; pending on an SOS site without a named doctor.
        rpps: bare or prefixed; None on an SOS site whose doctor is not known yet.
        sos: uses the SOS profile.
    """

    identifier_system: str
    identifier: str
    status: str
    start: datetime
    end: datetime
    created: datetime | None
    operator: Operator | None
    rpps: str | None
    sos: bool = False


def appointment(told: Told, zone: tzinfo) -> dict[str, Any]:
    """Return the Appointment of a booking, in the local time of its place.

    Raises:
        ValueError: no practitioner outside SOS, or no operator of a known system: the profile has no way to say it.
    """
    code = REGULATOR_TYPES.get(told.operator.system) if told.operator is not None else None
    if told.operator is None or code is None or (told.rpps is None and not told.sos):
        raise ValueError("INT_R03 demande l'opérateur, et hors SOS le professionnel")
    operator = {
        "type": coded(code, names.IDENTIFIER_TYPE),
        "system": told.operator.system,
        "value": told.operator.value,
    }
    if told.rpps is not None:
        participant: dict[str, Any] = {"actor": {"identifier": person_identifier(told.rpps)}, "status": "accepted"}
    else:
        participant = {"type": [coded("ADM", names.PARTICIPATION)], "status": "needs-action"}

    def local(instant: datetime) -> str:
        return instant.astimezone(zone).isoformat(timespec="seconds")

    return {
        "resourceType": "Appointment",
        "meta": {"profile": [names.APPOINTMENT_SOS if told.sos else names.APPOINTMENT_PS]},
        "extension": [{"url": names.OPERATOR, "valueReference": {"identifier": operator}}],
        "identifier": [{"system": told.identifier_system, "value": told.identifier}],
        "status": told.status,
        "start": local(told.start),
        "end": local(told.end),
        **({"created": local(told.created)} if told.created is not None else {}),
        "participant": [participant],
    }


def read_appointment(document: Any) -> Told:
    """Read what another editor tells: any letter case, both families of code systems, ``Z`` or offset.

    Raises:
        FhirRuleError: names the element that breaks the contract; anything that tells of a patient does.
    """
    try:
        read = read_as(Appointment, document)
    except UnreadableError as wrong:
        raise FhirRuleError(*(Issue("structure", text, (path,)) for path, text in wrong.faults)) from wrong
    if _tells_of_patient(document):
        # the content is not repeated: it would be in our log and in theirs
        raise FhirRuleError(Issue("business-rule", "aucune donnée sur le patient n'est acceptée", ("Appointment",)))
    profile = read.meta.profile
    sos = names.APPOINTMENT_SOS in profile
    if not sos and names.APPOINTMENT_PS not in profile:
        raise FhirRuleError(Issue("value", f"attendu {names.APPOINTMENT_PS}", ("Appointment.meta.profile",)))
    own = read.identifier[0] if len(read.identifier) == 1 else Identifier()
    if not (_SYSTEM.fullmatch(own.system or "") and _VALUE.fullmatch(own.value or "")):
        text = "exactement un, avec system (255 caractères au plus) et value (128 au plus)"
        raise FhirRuleError(Issue("required", text, ("Appointment.identifier",)))
    status = (read.status or "").lower()
    if status not in STATUSES and not (sos and status == "pending"):
        raise FhirRuleError(Issue("value", "booked, fulfilled, noshow ou cancelled", ("Appointment.status",)))
    rpps = _practitioner(read.participant, sos)
    try:
        start, end = read_instant(read.start or ""), read_instant(read.end or "")
        created = read_instant(read.created) if read.created else None
    except ValueError as wrong:
        raise FhirRuleError(Issue("value", str(wrong), ("Appointment.start", "Appointment.end"))) from wrong
    if end <= start:
        raise FhirRuleError(Issue("value", "doit être après start", ("Appointment.end",)))
    return Told(own.system or "", own.value or "", status, start, end, created, _operator(read, sos), rpps, sos)


def _operator(read: Appointment, sos: bool) -> Operator | None:
    found = [extension for extension in read.extension if extension.url == names.OPERATOR]
    identifier = found[0].value_reference.identifier if found and found[0].value_reference else None
    if sos and not found:
        return None
    if len(found) != 1 or identifier is None or identifier.system not in REGULATOR_TYPES or not identifier.value:
        where = ("Appointment.extension",)
        raise FhirRuleError(Issue("required", "exactement un FrAppointmentOperator, avec identifier", where))
    _same_type(identifier, REGULATOR_TYPES[identifier.system], "Appointment.extension.valueReference.identifier.type")
    return Operator(identifier.system, identifier.value)


def _practitioner(participants: list[Participant], sos: bool) -> str | None:
    where = "Appointment.participant"
    if not participants:
        raise FhirRuleError(Issue("required", "au moins un", (where,)))
    for participant in participants:
        if participant.status not in ("accepted", "needs-action"):
            raise FhirRuleError(Issue("value", "accepted ou needs-action", (f"{where}.status",)))
        identifier = participant.actor.identifier
        if identifier is None:
            continue
        if identifier.system != names.NATIONAL_PERSON:
            raise FhirRuleError(Issue("value", names.NATIONAL_PERSON, (f"{where}.actor.identifier.system",)))
        _same_type(identifier, "IDNPS", f"{where}.actor.identifier.type")
        try:
            return practitioner_id(identifier.value or "").prefixed
        except ValueError as wrong:
            text = "un RPPS (8 suivi de 11 chiffres) ou un ADELI (0 suivi de 9 caractères)"
            raise FhirRuleError(Issue("value", text, (f"{where}.actor.identifier.value",))) from wrong
    if not sos:
        raise FhirRuleError(Issue("required", "le professionnel (identifier IDNPS)", (f"{where}.actor",)))
    return None


def _same_type(identifier: Identifier, code: str, where: str) -> None:
    """Check the code of an identifier's type, in either family of code systems."""
    codings = identifier.type.coding if identifier.type else []
    families = (names.IDENTIFIER_TYPE, names.IDENTIFIER_TYPE_120)
    if len(codings) != 1 or codings[0].code != code or codings[0].system not in (*families, None):
        raise FhirRuleError(Issue("value", f"un seul codage, {code}", (where,)))


_IDENTITY: Final = frozenset({"Patient", "RelatedPerson"})


def _tells_of_patient(node: Any) -> bool:
    """Tell whether a document refers to a patient or has elements that describe one, anywhere."""
    if isinstance(node, dict):
        if node.get("resourceType") in _IDENTITY or node.keys() & {"birthDate", "supportingInformation", "reasonCode"}:
            return True
        reference = node.get("reference")
        if isinstance(reference, str) and _IDENTITY & set(reference.split("/")):
            return True
        kind = node.get("type")
        return (isinstance(kind, str) and kind in _IDENTITY) or any(_tells_of_patient(part) for part in node.values())
    return isinstance(node, list) and any(_tells_of_patient(part) for part in node)
