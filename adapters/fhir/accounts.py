"""INT_R02: what the account of a regulator must be, read strictly (business rules that the open profile lets pass)."""

import re
from typing import Any, Final, NamedTuple

from adapters.fhir import names
from adapters.fhir.identifiers import REGULATOR_TYPES, coded, read_token
from adapters.fhir.outcomes import FhirError, FhirRuleError, Issue
from adapters.fhir.resources import Practitioner, UnreadableError, read_as

_VALUE: Final = re.compile(r"[\x21-\x7e]{1,128}")  # establishment style has "/" and letters
_EMAIL: Final = re.compile(r"[^@\s\x00-\x1f\x7f]{1,128}@[^@\s\x00-\x1f\x7f]{1,128}")
_NAME: Final = re.compile(r"[^\x00-\x1f\x7f]{1,160}")


class Account(NamedTuple):
    """A regulator: at least one of the two identifiers."""

    national: str | None
    technical: str | None
    family: str
    given: str
    email: str
    active: bool


def read_account(document: Any) -> Account:
    """Read the body of a creation or a conditional update; every fault is named.

    Raises:
        FhirRuleError: elements are missing, empty or contradict one another.
    """
    if not isinstance(document, dict) or document.get("resourceType") != "Practitioner":
        raise FhirRuleError(Issue("invalid", "attendu : une ressource Practitioner", ("resourceType",)))
    try:
        read = read_as(Practitioner, document)
    except UnreadableError as wrong:
        raise FhirRuleError(*(Issue("structure", text, (path,)) for path, text in wrong.faults)) from wrong
    issues: list[Issue] = []
    national, technical = _identifiers(read, issues)
    family, given = _name(read, issues)
    email = _email(read, issues)
    if read.active is None:
        issues.append(Issue("required", "active : true ou false", ("Practitioner.active",)))
    if issues:
        raise FhirRuleError(*issues)
    return Account(national, technical, family, given, email, bool(read.active))


def _identifiers(read: Practitioner, issues: list[Issue]) -> tuple[str | None, str | None]:
    found: dict[str, str] = {}
    if not read.identifier:
        issues.append(Issue("required", "au moins un identifiant", ("Practitioner.identifier",)))
    for number, identifier in enumerate(read.identifier):
        where = f"Practitioner.identifier[{number}]"
        code = REGULATOR_TYPES.get(identifier.system or "")
        codings = identifier.type.coding if identifier.type else []
        if code is None:
            issues.append(Issue("value", f"attendu : {' ou '.join(REGULATOR_TYPES)}", (f"{where}.system",)))
        elif len(codings) != 1 or codings[0].code != code:
            issues.append(Issue("value", f"attendu : un codage {code} pour ce système", (f"{where}.type",)))
        elif identifier.system in found:
            issues.append(Issue("value", "un identifiant par système au plus", (where,)))
        elif not _VALUE.fullmatch(identifier.value or ""):
            issues.append(Issue("required", "value : 1 à 128 caractères, sans espace", (f"{where}.value",)))
        else:
            found[str(identifier.system)] = str(identifier.value)
    return found.get(names.NATIONAL_PERSON), found.get(names.PLATFORM)


def _name(read: Practitioner, issues: list[Issue]) -> tuple[str, str]:
    if len(read.name) != 1:
        issues.append(Issue("required", "exactement un nom", ("Practitioner.name",)))
        return "", ""
    name = read.name[0]
    if not _NAME.fullmatch((name.family or "").strip()):
        issues.append(Issue("required", "nom de famille absent ou vide", ("Practitioner.name.family",)))
    if len(name.given) != 1 or not _NAME.fullmatch(name.given[0].strip()):
        issues.append(Issue("required", "exactement un prénom", ("Practitioner.name.given",)))
        return "", ""
    return (name.family or "").strip(), name.given[0].strip()


def _email(read: Practitioner, issues: list[Issue]) -> str:
    if len(read.telecom) != 1 or read.telecom[0].system != "email":
        issues.append(Issue("required", "exactement un telecom, de system email", ("Practitioner.telecom",)))
        return ""
    value = (read.telecom[0].value or "").strip()
    if not _EMAIL.fullmatch(value):
        issues.append(Issue("value", "adresse électronique absente ou invalide", ("Practitioner.telecom.value",)))
    return value


def read_identifier(text: str) -> tuple[str | None, str | None]:
    """Read ``identifier=<system>|<value>`` as (national, technical), one of them None.

    Raises:
        FhirError: another system, or no value.
    """
    system, value = read_token(text)
    if system not in REGULATOR_TYPES or not _VALUE.fullmatch(value):
        expected = f"attendu : {names.NATIONAL_PERSON}|… ou {names.PLATFORM}|…"
        raise FhirError(Issue("value", expected, ("identifier",)))
    return (value, None) if system == names.NATIONAL_PERSON else (None, value)


def account_resource(account_id: str, account: Account) -> dict[str, Any]:
    """Return the Practitioner of an account."""
    held = ((names.NATIONAL_PERSON, account.national), (names.PLATFORM, account.technical))
    return {
        "resourceType": "Practitioner",
        "id": account_id,
        "meta": {"source": names.PLATFORM, "profile": [names.REGULATOR]},
        "identifier": [
            {"type": coded(REGULATOR_TYPES[system], names.IDENTIFIER_TYPE), "system": system, "value": value}
            for system, value in held
            if value is not None
        ],
        "active": account.active,
        "name": [{"family": account.family, "given": [account.given]}],
        "telecom": [{"system": "email", "value": account.email}],
    }
