"""``/sas/agenda``: where ``Slot.comment`` leads, and the hook of single sign-on (contract, section 9).

The platform appends ``origin=…`` to the address; regulator rights exist only while it does. Whoever comes without a
session goes to Pro Santé Connect and comes back here. Who has a session is said by ``SingleSignOn``, which the identity
adapter implements; until one is wired nobody has, and every entry leads to the sign-in page.
"""

import hashlib
import html
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, NamedTuple, Protocol
from urllib.parse import parse_qsl, urlencode

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from sas_matcher.domain.errors import TooManyError

STATE_LIFE_S: Final = 600  # a card, its code and a phone: ten minutes are enough to sign in
_PLACE: Final = re.compile(r"(?:\d{11}-)?[0-9a-f]{16}")
_PAGE: Final = """<!doctype html>
<html lang="fr"><head><meta charset="utf-8"><title>{title}</title></head>
<body><main><h1>{title}</h1><p>{text}</p></main></body></html>
"""


class Entry(NamedTuple):
    """How somebody came: from where, to which agenda."""

    origin: str
    place: str


class SingleSignOn(Protocol):
    """Who is signed in, and what they see then."""

    async def regulator(self, request: Request, origin: str) -> str | None:
        """Return who is signed in through the platform of this origin; None: nobody."""
        ...

    def agenda_url(self, entry: Entry, regulator: str) -> str:
        """Return the page of an agenda for somebody who is signed in."""
        ...


class Client(NamedTuple):
    """We, as Pro Santé Connect knows us; ``authorize`` empty: not set up here."""

    authorize: str = ""
    client_id: str = ""
    redirect: str = ""


Keep = Callable[[Request, str, str, int], Awaitable[None]]
"""Keeps a value (call, name, value, seconds); raises TooManyError where the call's address has had enough kept."""


class BookingEntry:
    """The routes of the deeplink; ``keep`` is set while the worker runs."""

    def __init__(
        self, origins: frozenset[str], client: Client, secret: Callable[[], str], sso: SingleSignOn | None = None
    ) -> None:
        """Take what decides.

        Args:
            origins: values of ``origin`` that are let in, of this environment.
            client: where to sign in.
            secret: makes unguessable texts.
            sso: who is signed in; None: nobody can be yet.
        """
        self.keep: Keep | None = None
        self._origins = origins
        self._client = client
        self._secret = secret
        self._sso = sso

    def routes(self) -> list[BaseRoute]:
        """Return the routes."""
        # the second form: an address to which "&origin=…" was appended without looking for a "?"
        return [Route("/sas/agenda", self.enter), Route("/sas/agenda{tail:path}", self.enter)]

    async def enter(self, request: Request) -> Response:
        """Let somebody in, send them to sign in, or say why not."""
        values = query_of(request)
        origin, place = values.get("origin"), values.get("lieu", "")
        if origin is None:
            return _page(403, "Accès réservé", "Cette page s'ouvre depuis la plateforme du SAS.")
        if origin not in self._origins:
            return _page(403, "Origine inconnue", "Cette origine n'est pas autorisée ici.")
        if _PLACE.fullmatch(place) is None:
            return _page(404, "Agenda introuvable", "L'adresse de l'agenda est incomplète.")
        entry = Entry(origin, place)
        who = await self._sso.regulator(request, origin) if self._sso is not None else None
        if who is not None and self._sso is not None:
            return RedirectResponse(self._sso.agenda_url(entry, who), 303)
        if not self._client.authorize or self.keep is None:
            return _page(503, "Connexion indisponible", "Pro Santé Connect n'est pas configuré sur ce service.")
        return await self._to_sign_in(request, entry, self.keep)

    async def _to_sign_in(self, request: Request, entry: Entry, keep: Keep) -> Response:
        """Send somebody to the sign-in page; what we must find again waits under the hash of ``state``."""
        state, nonce = self._secret(), self._secret()
        try:
            await keep(request, state_name(state), f"{nonce} {entry.origin} {entry.place}", STATE_LIFE_S)
        except TooManyError as refused:
            answer = _page(refused.status, refused.title, refused.detail)
            answer.headers["Retry-After"] = str(refused.extra["retry_after"])
            return answer
        query = {
            "response_type": "code",
            "client_id": self._client.client_id,
            "redirect_uri": self._client.redirect,
            "scope": "openid scope_all",
            "acr_values": "eidas1",
            "state": state,
            "nonce": nonce,
        }
        address = f"{self._client.authorize}?{urlencode(query)}"
        return RedirectResponse(address, 302, {"Cache-Control": "no-store"})


def state_name(state: str) -> str:
    """Return under which name a sign-in is kept: never the state itself, as with tickets."""
    return f"sso:{hashlib.sha256(state.encode()).hexdigest()}"


def query_of(request: Request) -> Mapping[str, str]:
    """Return the parameters, those behind a path that ends in ``&origin=…`` without any ``?`` too; the last wins."""
    tail = str(request.path_params.get("tail", ""))
    return dict(parse_qsl(f"{tail.lstrip('/?&')}&{request.url.query}"))


def _page(status: int, title: str, text: str) -> HTMLResponse:
    return HTMLResponse(_PAGE.format(title=html.escape(title), text=html.escape(text)), status)
