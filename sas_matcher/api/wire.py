"""What every route needs: the services of this worker, the caller and what he may see, the Idempotency-Key, answers."""

import hashlib
import re
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import Any, Final, TypeVar

import orjson
from fastapi import Request
from fastapi.responses import Response
from pydantic import BaseModel
from starlette.requests import HTTPConnection

from sas_matcher.api.admission import Admission, Bulk
from sas_matcher.api.auth import Caller, Gate, OneTime, Rate, Tickets
from sas_matcher.api.hub import Hub
from sas_matcher.api.inputs.reading import parse
from sas_matcher.domain.agenda import Import
from sas_matcher.domain.errors import InvalidInputError, NotAllowedError, NotFoundError
from sas_matcher.domain.vocabulary import Role, Scope
from sas_matcher.ports.bus import Bus
from sas_matcher.ports.ledger import Idempotency, Ledger
from sas_matcher.ports.world import Clock, Geography
from sas_matcher.services.accounts import Accounts, Secrets
from sas_matcher.services.agenda.agendas import Agendas
from sas_matcher.services.arrivals import Arrivals
from sas_matcher.services.bookings import Bookings
from sas_matcher.services.consent import Consenting
from sas_matcher.services.crisis.crises import Crises
from sas_matcher.services.crisis.review import Reviews
from sas_matcher.services.editors.view import Editors
from sas_matcher.services.figures.figures import Figures
from sas_matcher.services.figures.moments import Moments
from sas_matcher.services.figures.public import PublicFigures
from sas_matcher.services.limits import Limiting
from sas_matcher.services.national import NationalView
from sas_matcher.services.notices import Notices
from sas_matcher.services.overflow import EnSus
from sas_matcher.services.publish import Publishing
from sas_matcher.services.regulate import Regulating
from sas_matcher.services.screens import Screens
from sas_matcher.services.settings import Steering
from sas_matcher.services.statement import Statements
from sas_matcher.services.studies import Studies

M = TypeVar("M", bound=BaseModel)

KEEPERS: Final = (Scope.PRACTICE, Scope.COORDINATOR)
"""Who keeps agendas and subscriptions: a practice, or whoever runs structures (bound to them like a practice)."""

JSON: Final = "application/json"
_KEY = re.compile(r"[\x21-\x7e]{8,128}")
_NAME = re.compile(r"[a-z0-9_-]{1,40}")
_NUMBER = re.compile(r"[1-9][0-9]{0,17}")
_UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class Wire:
    """The services behind the routes of one worker."""

    ledger: Ledger
    bus: Bus
    clock: Clock
    secrets: Secrets
    geography: Geography
    gate: Gate
    accounts: Accounts
    tickets: Tickets
    kept: OneTime
    hub: Hub
    publishing: Publishing
    bookings: Bookings
    notices: Notices
    limiting: Limiting
    consenting: Consenting
    agendas: Agendas
    read_csv: Callable[[bytes], Import]
    regulating: Regulating
    arrivals: Arrivals
    steering: Steering
    statements: Statements
    en_sus: EnSus
    admission: Admission
    bulk: Bulk
    crises: Crises
    reviews: Reviews
    territories: Sequence[str]
    national: NationalView
    editors: Editors
    figures: Figures
    moments: Moments
    public: PublicFigures
    open_door: Rate
    openings: Rate
    proxies: frozenset[str]
    screens: Screens
    zones: Callable[[str], bytes]
    studies: Studies


def wire(request: Request) -> Wire:
    """Return the services of this worker."""
    services: Wire = request.app.state.wire
    return services


def peer_of(request: HTTPConnection) -> str:
    """Return whom a rate of what needs no account counts a call for (see ``peer_name``)."""
    services: Wire = request.app.state.wire
    host = "" if request.client is None else request.client.host
    return peer_name(host, request.headers.getlist("x-real-ip"), services.proxies)


def peer_name(host: str, said: Sequence[str], proxies: Container[str]) -> str:
    """Return a name for who is at the other end: an IPv4 address, or the /64 of an IPv6 one, which one household has.

    Args:
        host: address that the connection comes from.
        said: values of ``X-Real-IP``, believed from a proxy of ours alone, which sets one (``deploy/nginx``).
        proxies: addresses that our proxies connect from.
    """
    if host in proxies and len(said) == 1:
        try:
            return _peer(said[0])
        except ValueError:
            pass
    try:
        return _peer(host)
    except ValueError:
        return host


def _peer(text: str) -> str:
    address = ip_address(text)
    if not isinstance(address, IPv6Address):
        return str(address)
    return str(address.ipv4_mapped or IPv6Address(int(address) >> 64 << 64))


async def caller(request: Request, *scopes: Scope) -> Caller:
    """Authenticate the call and check its scope."""
    who = await wire(request).gate.caller(request.headers.get("authorization"))
    return who.need(*scopes) if scopes else who


async def keeper(request: Request) -> Caller:
    """Authenticate whoever keeps places: a practice, or a gestionnaire, bound to structures like one.

    Raises:
        NotAllowedError: anybody else.
    """
    who = await caller(request)
    return who if who.role is Role.GESTIONNAIRE else who.need(Scope.PRACTICE)


async def of_territory(request: Request, code: str, *scopes: Scope) -> Caller:
    """Authenticate a call about a territory that the key is bound to.

    Raises:
        NotFoundError: there is no such territory.
        NotAllowedError: it is not the key's, or the scope is missing.
    """
    who = await caller(request, *scopes)
    if code not in wire(request).geography.territories:
        raise NotFoundError("Territoire inconnu.")
    _check_bound(who, code)
    return who


def _check_bound(who: Caller, code: str) -> None:
    if not who.sees_territory(code):
        raise NotAllowedError("Cette clé n'est pas rattachée à ce territoire.")


def asked_territories(who: Caller, wanted: str | None, known: Container[str], every: Iterable[str]) -> list[str]:
    """Return the territories that a question is about: the one that is named, or all that the key may see.

    Args:
        who: asks.
        wanted: the one that is named.
        known: all that exist.
        every: those that a key sees which is bound to none in particular.

    Raises:
        InvalidInputError: there is no such territory.
        NotAllowedError: it is not the key's.
    """
    if wanted is None:
        return sorted(every if who.sees_all else who.territories)
    if wanted not in known:
        raise InvalidInputError.of("territory", "n'est pas un département")
    _check_bound(who, wanted)
    return [wanted]


def once(request: Request, who: Caller, body: bytes) -> Idempotency:
    """Read the Idempotency-Key; the hash covers method, path and body.

    Raises:
        InvalidInputError: the header is missing or not 8 to 128 visible ASCII characters.
    """
    key = request.headers.get("idempotency-key", "")
    if _KEY.fullmatch(key) is None:
        message = "en-tête obligatoire : 8 à 128 caractères visibles, un nouveau pour chaque action (un UUID convient)"
        raise InvalidInputError.of("Idempotency-Key", message)
    digest = hashlib.sha256(f"{request.method} {request.scope['path']}\n".encode() + body).digest()
    return Idempotency(who.key_id, key, digest)


async def read_action(request: Request, who: Caller, model: type[M], *, bare: bool = False) -> tuple[M, Idempotency]:
    """Read what an action says, and the Idempotency-Key under which it is done once.

    Args:
        request: the call.
        who: makes it.
        model: what the body must be.
        bare: whether there need be no body, where nothing has to be said.

    Raises:
        InvalidInputError: the header or a field is wrong.
    """
    body = await request.body()
    named = once(request, who, body)
    return parse(model, b"{}" if bare and not body else body), named


def uuid_of(text: str, field: str) -> str:
    """Check an id from the path.

    Raises:
        InvalidInputError: not a UUID.
    """
    if _UUID.fullmatch(text) is None:
        raise InvalidInputError.of(field, "n'est pas un identifiant (UUID en minuscules)")
    return text


def name_of(text: str, field: str = "name") -> str:
    """Check a practice's own name for something, from the path.

    Raises:
        InvalidInputError: not such a name.
    """
    if _NAME.fullmatch(text) is None:
        raise InvalidInputError.of(field, "1 à 40 caractères parmi a-z, 0-9, - et _")
    return text


def slot_of(text: str) -> int:
    """Check a slot's number from the path.

    Raises:
        InvalidInputError: not a number that a slot may have.
    """
    if _NUMBER.fullmatch(text) is None:
        raise InvalidInputError.of("slot_id", "n'est pas le numéro d'un créneau")
    return int(text)


def raw(document: str | bytes, status: int = 200) -> Response:
    """Answer a ready JSON document."""
    return Response(document, status, media_type=JSON)


def json(value: Any, status: int = 200) -> Response:
    """Answer a value as JSON."""
    return Response(orjson.dumps(value), status, media_type=JSON)


def changes_page(code: str, found: Sequence[Mapping[str, Any]]) -> Response:
    """Answer a page of versioned changes of a territory, newest first; ``next_before`` leads to the next one."""
    # versions count from one without gaps: whoever has seen the first has seen all
    last = found[-1]["version"] if found else 1
    return json({"territory": code, "changes": found, "next_before": last if last > 1 else None})
