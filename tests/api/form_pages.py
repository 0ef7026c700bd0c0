"""A person at the pages without a browser: forms are taken from the page, filled in and sent as a browser would."""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any, Final
from uuid import uuid4

import httpx
from starlette.routing import Match

from sas_matcher.bootstrap.access import accounts_of
from sas_matcher.console.site import PageRoute
from sas_matcher.console.visit import csrf_of
from sas_matcher.domain.vocabulary import Role
from sas_matcher.services.accounts import Accounts
from sas_matcher.services.keys import KeyWish
from tests.api.running import Running
from tests.api.test_accounts import browser

_TYPED: Final = ("checkbox", "radio")


@dataclass
class PageForm:
    """A form as a page shows it: what a browser would send of it."""

    action: str
    by_script: bool
    fields: list[tuple[str, str]] = field(default_factory=list)
    buttons: list[dict[str, str]] = field(default_factory=list)


class _Reader(HTMLParser):
    """Notes the forms of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.forms: list[PageForm] = []
        self._open: PageForm | None = None
        self._select = ""
        self._chosen: str | None = None
        self._area: str | None = None
        self._text = ""

    def handle_starttag(self, tag: str, attributes: Sequence[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attributes}
        if tag == "form":
            self._open = PageForm(found.get("hx-post") or found.get("action", ""), "hx-post" in found)
            self.forms.append(self._open)
        if self._open is None:
            return
        name, kind = found.get("name", ""), found.get("type", "text")
        if tag == "input" and name and (kind not in _TYPED or "checked" in found):
            self._open.fields.append((name, found.get("value", "on" if kind in _TYPED else "")))
        elif tag == "select":
            self._select, self._chosen = name, None
        elif tag == "option" and self._select and (self._chosen is None or "selected" in found):
            self._chosen = found.get("value", "")
        elif tag == "textarea":
            self._area, self._text = name, ""
        elif tag == "button":
            self._open.buttons.append(found)

    def handle_data(self, data: str) -> None:
        if self._area is not None:
            self._text += data

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._open = None
        elif self._open is not None and tag == "select" and self._chosen is not None:
            self._open.fields.append((self._select, self._chosen))
            self._select, self._chosen = "", None
        elif self._open is not None and tag == "textarea" and self._area:
            self._open.fields.append((self._area, self._text))
            self._area = None


def forms_of(html: str) -> list[PageForm]:
    """Return the forms of a page, in their order."""
    reader = _Reader()
    reader.feed(html)
    return reader.forms


@dataclass
class Somebody:
    """Somebody signed in, the page that they see, what it told last, and the actions that they have done."""

    service: Running
    http: httpx.AsyncClient
    token: str
    seen: str = ""
    told: str = ""
    done: set[str] = field(default_factory=set)

    @classmethod
    @asynccontextmanager
    async def signed_in(cls, service: Running, role: Role, **rights: Any) -> AsyncIterator["Somebody"]:
        """Somebody with a new account, for the length of a block."""
        login = f"{role}-{uuid4().hex[:12]}"
        wish = KeyWish(role, rights.pop("name", f"Compte {login}"), **rights)
        await accounts_at(service).add(login, None, wish)
        token = await accounts_at(service).open(login)
        async with browser(service, token, Accept="text/html") as http:
            yield cls(service, http, token)

    async def open(self, path: str) -> str:
        """Open a page."""
        answer = await self.http.get(path, follow_redirects=True)
        assert answer.status_code == 200, (path, answer.status_code, answer.text[-600:])
        self.seen = answer.text
        return self.seen

    async def submit(
        self,
        action: str,
        *,
        which: Mapping[str, str] | None = None,
        button: Mapping[str, str] | None = None,
        **changes: Any,
    ) -> str:
        """Send the form of the present page with this action; what comes back is the present page.

        Args:
            action: its address, as far as it goes.
            which: fields that it has, where a page has several such forms.
            button: attributes of the button that is pressed, where it goes elsewhere.
            changes: fields that somebody fills in, ticks (several values) or empties (None).
        """
        mine = [form for form in forms_of(self.seen) if form.action.split("?")[0] == action]
        mine = [form for form in mine if not which or which.items() <= dict(form.fields).items()]
        assert mine, (action, which, [form.action for form in forms_of(self.seen)])
        if button:
            action = next(b["formaction"] for b in mine[0].buttons if button.items() <= b.items())
        return await self.send(action, mine[0].fields, by_script=mine[0].by_script, **changes)

    async def send(
        self, action: str, fields: Sequence[tuple[str, str]] = (), *, by_script: bool = True, **changes: Any
    ) -> str:
        """Send fields as the page's form, or its script, does."""
        sent: dict[str, Any] = {}
        for name, value in fields:
            sent.setdefault(name, []).append(value)
        sent |= {name: value for name, value in changes.items() if value is not None}
        for name in (name for name, value in changes.items() if value is None):
            sent.pop(name, None)
        headers = {"HX-Request": "true", "X-CSRF": csrf_of(self.token)} if by_script else {}
        answer = await self.http.post(action, data=sent, headers=headers)
        assert answer.status_code < 400, (action, sent, answer.status_code, answer.text[-900:])
        self.did(action)
        onward = answer.headers.get("location") or answer.headers.get("hx-redirect")
        if onward:
            return await self.open(onward)
        self.seen = answer.text
        self.told = json.loads(answer.headers.get("hx-trigger", "{}")).get("sas-told", {}).get("text", "")
        return self.seen

    async def key_id(self) -> str:
        """Return the key whose rights the account has."""
        return (await accounts_at(self.service).account_of(self.token)).key.id

    def did(self, path: str) -> None:
        """Note an action by its route."""
        self.done.add(route_of(self.service, path).path)


def accounts_at(service: Running) -> Accounts:
    """Return the accounts of a service."""
    return accounts_of(service.stores.ledger, service.stores.clock, service.stores.ids)


def actions_of(service: Running) -> list[PageRoute]:
    """Return every action of the pages."""
    return [r for r in service.app.routes if isinstance(r, PageRoute) and "POST" in (r.methods or ())]


def route_of(service: Running, path: str) -> PageRoute:
    """Return the action that an address is."""
    scope = {"type": "http", "path": path.split("?", maxsplit=1)[0], "method": "POST", "root_path": "", "headers": []}
    return next(route for route in actions_of(service) if route.matches(scope)[0] == Match.FULL)
