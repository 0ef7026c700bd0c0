"""What a page's handler gets: who is there, the services, the form; and how it answers."""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, quote, urlsplit
from zoneinfo import ZoneInfo

from starlette.requests import HTTPConnection, Request
from starlette.responses import HTMLResponse, Response

from sas_matcher.api.auth import Caller, caller_of
from sas_matcher.api.wire import Wire
from sas_matcher.console import words
from sas_matcher.domain.errors import InvalidInputError, NotAllowedError
from sas_matcher.ports.ledger import Idempotency
from sas_matcher.services.accounts import Account

if TYPE_CHECKING:
    from sas_matcher.console.site import Site

COOKIE: Final = "sas_session"
SECURE_COOKIE: Final = "__Host-sas_session"
AUTO: Final = "x-auto"
"""Header of calls that the page makes by itself: they do not keep a session alive."""
# scripts and styles from here only, none inline; nothing may frame us or be loaded from elsewhere
CSP: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "media-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_FIELDS: Final = 200
_IN_ADDRESSES: Final = ":/%#?=@[]!$&'()*+,;~"
"""What an address may hold as it stands (RFC 3986), and what is quoted in it already."""


def csrf_of(token: str) -> str:
    """Return what forms of a session carry: it cannot be guessed, and tells nothing of the token."""
    return hmac.new(token.encode(), b"csrf", hashlib.sha256).hexdigest()


def same_origin(connection: HTTPConnection, public_url: str) -> bool:
    """Tell whether a call was made by a page of ours (browsers say so, for every form and every websocket)."""
    origin = connection.headers.get("origin")
    if origin is None or origin == "null":
        return connection.headers.get("sec-fetch-site") == "same-origin"
    return urlsplit(origin).netloc == connection.headers.get("host") or (bool(public_url) and origin == public_url)


def session_token(connection: HTTPConnection) -> str | None:
    """Return the token of the session cookie."""
    return connection.cookies.get(SECURE_COOKIE) or connection.cookies.get(COOKIE)


class Form:
    """Fields of a form as text; unknown ones are refused by ``only``."""

    def __init__(self, fields: Mapping[str, list[str]]) -> None:
        self._fields = fields

    def text(self, name: str, default: str = "") -> str:
        """Return a field without spaces around it; the default when it is missing or empty."""
        return (self._fields.get(name) or [""])[-1].strip() or default

    def several(self, name: str) -> list[str]:
        """Return all values of a field."""
        return [text for text in self._fields.get(name, []) if text]

    def only(self, *names: str) -> "Form":
        """Return the form.

        Raises:
            InvalidInputError: it has another field.
        """
        for name in self._fields:
            if name not in names and name not in ("csrf", "once"):
                raise InvalidInputError.of(name[:40], "champ inconnu")
        return self


@dataclass
class Visit:
    """One call of a page.

    Attributes:
        account, token: who is signed in, and their session; None on open pages.
    """

    site: "Site"
    request: Request
    account: Account | None = None
    token: str | None = None

    @property
    def wire(self) -> Wire:
        """The services of this worker."""
        services: Wire = self.request.app.state.wire
        return services

    @property
    def signed_in(self) -> Account:
        """Who is signed in.

        Raises:
            NotAllowedError: nobody is (an open page).
        """
        if self.account is None:
            raise NotAllowedError("Il faut être connecté.")
        return self.account

    @cached_property
    def caller(self) -> Caller:
        """Who calls, as the API sees them."""
        return caller_of(self.signed_in.key)

    @cached_property
    def now(self) -> datetime:
        """The instant of this call."""
        return self.wire.clock.now()

    @cached_property
    def zone(self) -> ZoneInfo:
        """Local time of who is signed in: that of the first territory, else Paris."""
        known = self.wire.geography.territories
        codes = sorted(self.caller.territories) if self.account is not None else []
        return next((ZoneInfo(known[code].timezone) for code in codes if code in known), words.PARIS)

    @property
    def is_part(self) -> bool:
        """Tell whether a part of a page is asked for (htmx), not a whole one."""
        return self.request.headers.get("hx-request") == "true"

    @property
    def csrf(self) -> str:
        """What the session's forms carry."""
        return "" if self.token is None else csrf_of(self.token)

    async def form(self) -> Form:
        """Read the form of a POST.

        Raises:
            InvalidInputError: it is no form, or a field holds a zero byte, which no database takes in a text.
        """
        body = await self.request.body()
        try:
            fields = parse_qs(body.decode(), keep_blank_values=True, strict_parsing=bool(body), max_num_fields=_FIELDS)
        except ValueError as wrong:
            raise InvalidInputError.of("form", "le formulaire n'est pas lisible") from wrong
        for name, texts in fields.items():
            if any("\x00" in text for text in texts):
                raise InvalidInputError.of(name[:40], "caractère non permis (octet nul)")
        return Form(fields)

    def once(self, form: Form) -> Idempotency:
        """Return the Idempotency-Key of an action: the form's field ``once``, so that a double click acts once.

        Raises:
            InvalidInputError: it is missing.
        """
        key = form.text("once")
        if not 8 <= len(key) <= 128 or not key.isascii():
            raise InvalidInputError.of("once", "rechargez la page")
        # the field names one action of one page as it was shown: its body is what the page said then
        digest = hashlib.sha256(f"{self.request.method} {self.request.url.path}".encode()).digest()
        return Idempotency(self.caller.key_id, key, digest)

    def show(self, template: str, code: int = 200, headers: Mapping[str, str] | None = None, **values: Any) -> Response:
        """Answer a page, or a part of one: values by name, and ``visit``, ``now`` and the words of ``words``."""
        return HTMLResponse(
            self.site.render(template, visit=self, **values),
            code,
            {"Content-Security-Policy": CSP, **(headers or {})},
        )

    def go(self, path: str) -> Response:
        """Send the browser to another page of ours; a header takes no other letters than those of addresses."""
        address = quote(path, safe=_IN_ADDRESSES)
        if self.is_part:
            return Response(None, 204, {"HX-Redirect": address})
        return Response(None, 303, {"Location": address})
