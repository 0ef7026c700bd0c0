"""The searches of the contract as a client sends them: encoded, with explicit offsets (contract, section 11)."""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Final
from urllib.parse import quote

from adapters.fhir import names
from adapters.fhir.instants import written
from adapters.fhir.searches import CPTS_INCLUDE, PRACTITIONER, SITE

Window = tuple[datetime, datetime]


class Flow(StrEnum):
    """What an editor is asked: practitioners (INT_R01), the same with their CPTS (INT_R04), sites of SOS Médecins."""

    PS = "ps"
    CPTS = "cpts"
    SOS = "sos"


MOST_ASKED: Final = {
    Flow.PS: names.MOST_PRACTITIONERS,
    Flow.CPTS: names.MOST_PRACTITIONERS,
    Flow.SOS: names.MOST_SOS_ASKED,
}
_HAS: Final = "_has:Slot:schedule:"


def search_path(flow: Flow, identifiers: Sequence[str], window: Window) -> str:
    """Return path and query of a search below an editor's base.

    Args:
        flow: what is asked.
        identifiers: prefixed (``8`` + RPPS, ``3`` + SIRET), at most ``MOST_ASKED`` of the flow.
        window: inclusive bounds of the starts.
    """
    bounds = [f"ge{written(window[0])}", f"le{written(window[1])}"]
    if flow is Flow.SOS:
        pairs = [
            ("_revinclude", "Slot:schedule"),
            ("_include", "Schedule:actor:Location"),
            ("_include:iterate", "Location:organization"),
            *((f"{_HAS}start", bound) for bound in bounds),
            (f"{_HAS}status", "free"),
            (SITE, ",".join(f"{names.NATIONAL_STRUCTURE}|{value}" for value in identifiers)),
        ]
        return f"/Schedule?{_encoded(pairs)}"
    pairs = [("_include", "Slot:schedule"), ("_include:iterate", "Schedule:actor")]
    if flow is Flow.CPTS:
        pairs += [("_include", CPTS_INCLUDE), ("_include:iterate", "HealthcareService:organization")]
    pairs += [
        *(("start", bound) for bound in bounds),
        ("status", "free"),
        (PRACTITIONER, ",".join(f"{names.NATIONAL_PERSON}|{value}" for value in identifiers)),
    ]
    return f"/Slot?{_encoded(pairs)}"


def _encoded(pairs: Sequence[tuple[str, str]]) -> str:
    """Percent-encode what a server might misread (``|``, ``+``); the colons of the contract stay readable."""
    return "&".join(f"{quote(name, safe=':')}={quote(value, safe=':,')}" for name, value in pairs)


def booking_page(url: str, origin: str) -> str:
    """Return an editor's booking page with our origin: after ``?`` or ``&`` as needed, before a fragment."""
    page, hash_mark, fragment = url.partition("#")
    joint = "" if page.endswith(("?", "&")) else "&" if "?" in page else "?"
    return f"{page}{joint}origin={quote(origin, safe='')}{hash_mark}{fragment}"
