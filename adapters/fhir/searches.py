"""The searches of the contract, from the query string: what is asked, or what is wrong with it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final, NamedTuple
from urllib.parse import quote

from adapters.fhir import names
from adapters.fhir.identifiers import Kind, NationalId, practitioner_id, read_token, structure_id
from adapters.fhir.instants import read_bound
from adapters.fhir.outcomes import FhirError, Issue

Query = Sequence[tuple[str, str]]
Window = tuple[datetime, datetime]
PRACTITIONER: Final = "schedule.actor:Practitioner.identifier"
SITE: Final = "actor:Location.organization.identifier"
CPTS_INCLUDE: Final = "Slot:service-type-reference"
_START, _STATUS = "start", "status"
_HAS: Final = "_has:Slot:schedule:"
# what FHIR allows in any search, and the guide's own samples send
_ALWAYS: Final = frozenset({"_include", "_include:iterate", "_revinclude", "_count", "_format", "_pretty", "_summary"})


class SlotSearch(NamedTuple):
    """INT_R01, or INT_R04 when ``for_cpts``; practitioners as bare RPPS."""

    rpps: list[str]
    window: Window
    for_cpts: bool


class SosSearch(NamedTuple):
    """SOS Médecins; associations as bare SIRET."""

    sirets: list[str]
    window: Window


def slot_search(query: Query, *, strict: bool = False) -> SlotSearch:
    """Read the query of ``GET /Slot``.

    Args:
        query: decoded names and values, in order.
        strict: refuse unknown parameters (``Prefer: handling=strict``).

    Raises:
        FhirError: every parameter that is missing or wrong is named.
    """
    _no_others(query, {_START, _STATUS, PRACTITIONER}, strict=strict)
    issues: list[Issue] = []
    window = _window(_values(query, _START), _START, issues)
    _free(_values(query, _STATUS), _STATUS, issues)
    who = _identifiers(query, PRACTITIONER, names.NATIONAL_PERSON, practitioner_id, issues)
    if issues or window is None:
        raise FhirError(*issues)
    rpps = [found.bare for found in who if found.kind is Kind.RPPS]
    includes = {value.strip() for name in ("_include", "_include:iterate") for value in _values(query, name)}
    return SlotSearch(rpps, window, CPTS_INCLUDE in includes)


def sos_search(query: Query, *, strict: bool = False) -> SosSearch:
    """Read the query of ``GET /Schedule``.

    Raises:
        FhirError: every parameter that is missing or wrong is named.
    """
    _no_others(query, {_HAS + _START, _HAS + _STATUS, SITE}, strict=strict)
    issues: list[Issue] = []
    window = _window(_values(query, _HAS + _START), _HAS + _START, issues)
    _free(_values(query, _HAS + _STATUS), _HAS + _STATUS, issues)
    who = _identifiers(query, SITE, names.NATIONAL_STRUCTURE, structure_id, issues)
    if issues or window is None:
        raise FhirError(*issues)
    return SosSearch([found.bare for found in who if found.kind is Kind.SIRET], window)


def _values(query: Query, name: str) -> list[str]:
    return [value for known, value in query if known == name]


def _no_others(query: Query, own: Iterable[str], *, strict: bool) -> None:
    unknown = sorted({name for name, _ in query} - set(own) - _ALWAYS)
    if strict and unknown:
        raise FhirError(*(Issue("not-supported", "paramètre inconnu", (name,)) for name in unknown))


def _window(values: Sequence[str], name: str, issues: list[Issue]) -> Window | None:
    bounds: Mapping[str, datetime] = {}
    try:
        found = [read_bound(value) for value in values]
        bounds = dict(found)
    except ValueError as wrong:
        issues.append(Issue("value", str(wrong), (name,)))
        return None
    if sorted(bound.prefix for bound in found) != ["ge", "le"]:
        issues.append(Issue("required", "deux bornes, une en ge et une en le", (name,)))
        return None
    return bounds["ge"], bounds["le"]


def _free(values: Sequence[str], name: str, issues: list[Issue]) -> None:
    if [value.strip() for value in values] != ["free"]:
        issues.append(Issue("value" if values else "required", "attendu : une fois, free", (name,)))


def _identifiers(
    query: Query, name: str, system: str, form: Callable[[str], NationalId], issues: list[Issue]
) -> list[NationalId]:
    """Return those asked for, each once; what is no identifier matches nothing, as an unknown one does."""
    values = _values(query, name)
    tokens = [token.strip() for value in values for token in value.split(",") if token.strip()]
    if len(values) != 1 or not tokens:
        issues.append(Issue("required", "une fois, avec 1 à 25 identifiants séparés par des virgules", (name,)))
        return []
    if len(tokens) > names.MOST_PRACTITIONERS:
        issues.append(Issue("too-costly", f"{len(tokens)} identifiants ; 25 au plus par appel", (name,)))
        return []
    found: dict[str, NationalId] = {}
    for token in tokens:
        of_system, value = read_token(token)
        if of_system in (system, None):
            try:
                national = form(value)
            except ValueError:
                continue
            found.setdefault(national.prefixed, national)
    return list(found.values())


def self_url(base: str, path: str, raw_query: str) -> str:
    """Return the address of a call as a valid URI: what is allowed stays as it came, the rest is percent-encoded."""
    query = quote(raw_query, safe="%/?:@!$&'()*+,;=-._~")
    return f"{base}{path}?{query}" if query else f"{base}{path}"
