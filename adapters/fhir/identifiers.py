"""National identifiers on the wire: always prefixed on output, with or without prefix on input.

| kind | prefix | bare | who |
|---|---|---|---|
| ADELI | 0 | 9 | practitioner (disappearing) |
| RPPS | 8 | 11 digits | practitioner |
| FINESS | 1 | 9 characters (Corsica: 2A, 2B) | structure |
| SIRET | 3 | 14 digits | structure |
| RPPS rang | 4 | 14 digits | private practice |

A bare value is judged by its length in the context of its element: nine characters are a FINESS of a structure and an
ADELI of a practitioner.
"""

import re
from enum import StrEnum
from typing import Any, Final, NamedTuple

from adapters.fhir.names import IDENTIFIER_TYPE, NATIONAL_PERSON, NATIONAL_STRUCTURE, PLATFORM


class Kind(StrEnum):
    """What an identifier is; the value is its prefix."""

    ADELI = "0"
    FINESS = "1"
    SIRET = "3"
    RANG = "4"
    RPPS = "8"


class NationalId(NamedTuple):
    """An identifier without its prefix, and what it is."""

    kind: Kind
    bare: str

    @property
    def prefixed(self) -> str:
        """The identifier as it is written on the wire."""
        return f"{self.kind}{self.bare}"


REGULATOR_TYPES: Final = {NATIONAL_PERSON: "IDNPS", PLATFORM: "INTRN"}
"""The systems in which a regulator has a name (INT_R02), and the type of an identifier of each."""
_PERSON: Final = (
    (re.compile(r"8(\d{11})", re.ASCII), Kind.RPPS),
    (re.compile(r"(\d{11})", re.ASCII), Kind.RPPS),
    (re.compile(r"0([0-9A-Z]{9})", re.ASCII), Kind.ADELI),
    (re.compile(r"([0-9A-Z]{9})", re.ASCII), Kind.ADELI),
)
_STRUCTURE: Final = (
    (re.compile(r"3(\d{14})", re.ASCII), Kind.SIRET),
    (re.compile(r"4(\d{14})", re.ASCII), Kind.RANG),
    (re.compile(r"(\d{14})", re.ASCII), Kind.SIRET),
    (re.compile(r"1(\d[0-9AB]\d{7})", re.ASCII), Kind.FINESS),
    (re.compile(r"(\d[0-9AB]\d{7})", re.ASCII), Kind.FINESS),
)
_OVERSEAS: Final = {
    "0262": "262", "0692": "262", "0693": "262", "0269": "262", "0639": "262",
    "0590": "590", "0690": "590", "0691": "590",
    "0596": "596", "0696": "596", "0697": "596",
    "0594": "594", "0694": "594",
}  # fmt: skip
PHONE: Final = r"\+(33|262|590|596|594)\d{9}"
"""A phone as the test kit of the ANS wants it."""
STRUCTURE_VALUE: Final = r"(1\d{9}|3\d{14}|4\d{14})"
"""A structure's identifier as the test kit wants it (a Corsican FINESS cannot be said in it)."""
PERSON_VALUE: Final = r"(8\d{11}|0[0-9A-Z]{9})"


def practitioner_id(text: str) -> NationalId:
    """Read the identifier of a practitioner, prefixed or not.

    Raises:
        ValueError: neither an RPPS nor an ADELI.
    """
    return _read(text, _PERSON, "un RPPS (8 suivi de 11 chiffres) ou un ADELI (0 suivi de 9 caractères)")


def structure_id(text: str) -> NationalId:
    """Read the identifier of a structure, prefixed or not.

    Raises:
        ValueError: neither a FINESS, a SIRET nor an RPPS rang.
    """
    return _read(
        text, _STRUCTURE, "un FINESS (1 suivi de 9 caractères), un SIRET (3 suivi de 14 chiffres) ou un rang (4…)"
    )


def _read(text: str, forms: tuple[tuple[re.Pattern[str], Kind], ...], wanted: str) -> NationalId:
    value = text.strip()
    for form, kind in forms:
        if match := form.fullmatch(value):
            return NationalId(kind, match[1])
    raise ValueError(f"{text!r} n'est pas {wanted}")


def coded(code: str, system: str) -> dict[str, Any]:
    """Return a CodeableConcept of one coding."""
    return {"coding": [{"system": system, "code": code}]}


def person_identifier(rpps: str) -> dict[str, Any]:
    """Return the Identifier of a practitioner from a bare or prefixed value."""
    value = practitioner_id(rpps).prefixed
    return {"type": coded("IDNPS", IDENTIFIER_TYPE), "system": NATIONAL_PERSON, "value": value}


def structure_identifier(national: NationalId, type_system: str = IDENTIFIER_TYPE) -> dict[str, Any]:
    """Return the Identifier of a structure; the type's code system differs between a reference and an Organization."""
    return {"type": coded("IDNST", type_system), "system": NATIONAL_STRUCTURE, "value": national.prefixed}


def read_token(text: str) -> tuple[str | None, str]:
    """Split a search token ``system|value`` (the system may be missing, spaces are the sample's own fault)."""
    system, bar, value = text.strip().rpartition("|")
    return (system.strip() or None if bar else None), value.strip()


def phone(text: str | None) -> str | None:
    """Return a stored phone as ``+33…``; None when it cannot be written so (the element is then left out)."""
    digits = re.sub(r"[^\d+]", "", text or "").removeprefix("00") if text else ""
    if digits.startswith("0") and len(digits) == 10:
        digits = f"+{_OVERSEAS.get(digits[:4], '33')}{digits[1:]}"
    elif digits and not digits.startswith("+"):
        digits = f"+{digits}"
    # "+33 (0)1 …" keeps its national zero
    digits = re.sub(r"^\+(33|262|590|596|594)0(\d{9})$", r"+\1\2", digits)
    return digits if re.fullmatch(PHONE, digits) else None
