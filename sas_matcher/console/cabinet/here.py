"""For whom one works at this moment: one professional or structure of those that the account may speak for, or all.

The choice stands in the address (``?pour=s:690000001``), so that two tabs never act for one another.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

import orjson
from starlette.responses import Response

from sas_matcher.console.site import Entry, Pages
from sas_matcher.console.visit import Visit
from sas_matcher.domain.agenda import SHOWN
from sas_matcher.domain.errors import NotAllowedError, NotFoundError
from sas_matcher.domain.vocabulary import Role, Scope
from sas_matcher.services.members import member_names
from sas_matcher.services.publish import Publisher

# a gestionnaire is bound to structures like a practice; the other coordinators are to none
pages = Pages(scopes=(Scope.PRACTICE,), roles=(Role.GESTIONNAIRE,), entries=(Entry("/cabinet", "Cabinet"),))
TABS: Final = (
    ("/cabinet", "Aujourd'hui"),
    ("/cabinet/agendas", "Agendas"),
    ("/cabinet/accords", "Accords et limites"),
    ("/cabinet/notifications", "Notifications"),
    ("/cabinet/bilan", "Bilan"),
    ("/cabinet/releve", "Relevé"),
    ("/cabinet/equipe", "Équipe"),
)
MOST_WHO: Final = 200  # of a list to choose from; nobody scrolls farther


class Who(NamedTuple):
    """A professional (``p:`` RPPS) or a structure (``s:`` FINESS), and the name that pages show."""

    code: str
    name: str


@dataclass(frozen=True)
class Here:
    """Whose places a page is about.

    Attributes:
        visit: the call.
        chosen: code of who was chosen; "": everybody whom the account may speak for.
        known: whom one may choose from, by name.
        agendas: documents of the agendas of whoever is chosen.
    """

    visit: Visit
    chosen: str
    known: Sequence[Who]
    agendas: Sequence[Mapping[str, Any]]

    @property
    def publisher(self) -> Publisher:
        """The account as a publisher, narrowed to who is chosen."""
        return _narrowed(self.visit.caller.publisher, self.chosen)

    @cached_property
    def zone(self) -> ZoneInfo:
        """The clock of the places: that of the first agenda, else of the account's territory."""
        return ZoneInfo(self.agendas[0]["zone"]) if self.agendas else self.visit.zone

    @property
    def name(self) -> str:
        """Who is chosen, as pages say it."""
        found = self.chosen or (self.known[0].code if len(self.known) == 1 else "")
        return next((who.name for who in self.known if who.code == found), self.visit.caller.name)

    def named(self, professionals: Sequence[str], structures: Sequence[str]) -> str:
        """Return the names of some members, as pages say them."""
        names = dict(self.known)
        codes = member_names(professionals, structures)
        return ", ".join(names.get(code) or _bare(code) for code in codes)

    @property
    def tabs(self) -> Sequence[tuple[str, str]]:
        """Address and title of each page of this workplace."""
        return TABS

    def link(self, path: str, **query: str) -> str:
        """Return the address of a page for who is chosen."""
        asked = {**({"pour": self.chosen} if self.chosen else {}), **query}
        return f"{path}?{urlencode(asked)}" if asked else path

    def show(self, template: str, status: int = 200, **values: Any) -> Response:
        """Answer a page of this workplace."""
        headers = values.pop("headers", None)
        return self.visit.show(f"cabinet/{template}", status, headers, here=self, zone=self.zone, **values)

    def go(self, path: str) -> Response:
        """Send the browser to another page, for the same."""
        return self.visit.go(self.link(path))


def _narrowed(publisher: Publisher, chosen: str) -> Publisher:
    if not chosen:
        return publisher
    kind, _, code = chosen.partition(":")
    one, nobody = frozenset({code}), frozenset[str]()
    return Publisher(publisher.source, one if kind == "p" else nobody, one if kind == "s" else nobody)


async def here_of(visit: Visit) -> Here:
    """Return for whom a call works.

    Raises:
        NotAllowedError: the account is bound to nobody.
        NotFoundError: it may not speak for who is named.
    """
    publisher = visit.caller.publisher
    codes = set(member_names(publisher.professionals, publisher.structures))
    if not codes:
        raise NotAllowedError("Ce compte n'est rattaché à aucune structure ni à aucun professionnel.")
    chosen = visit.request.query_params.get("pour", "")
    kind, _, code = chosen.partition(":")
    if chosen and not (
        (kind == "p" and publisher.may_publish(code, None)) or (kind == "s" and publisher.may_publish(None, code))
    ):
        raise NotFoundError("Ce compte n'est pas rattaché à ce professionnel ni à cette structure.")
    agendas = await visit.wire.agendas.all(publisher)
    names = await _names(visit, publisher, agendas, codes)
    anybody = "p:*" in codes
    listed = sorted(names if anybody else codes, key=lambda one: (names.get(one, "~"), one))[:MOST_WHO]
    # who works for one alone is called as that one
    own = visit.caller.name if len(listed) == 1 else ""
    known = [Who(one, names.get(one) or own or _bare(one)) for one in listed]
    if not chosen and visit.caller.role == Role.GESTIONNAIRE and len(known) > 1:
        chosen = known[0].code  # forty centres at once are no page: one is chosen
    mine = _narrowed(publisher, chosen)
    found = [
        agenda
        for agenda in agendas
        if mine.may_publish(
            agenda["professional"] and agenda["professional"]["rpps"],
            agenda["structure"] and agenda["structure"]["finess"],
        )
    ]
    return Here(visit, chosen, known, found)


async def _names(
    visit: Visit, publisher: Publisher, agendas: Sequence[Mapping[str, Any]], codes: set[str]
) -> dict[str, str]:
    """Return what professionals and structures are called, by code, as far as their agendas or places say it."""
    names: dict[str, str] = {}
    for agenda in agendas:
        for kind, part, number in (("p", "professional", "rpps"), ("s", "structure", "finess")):
            if (who := agenda[part]) is not None:
                names[f"{kind}:{who[number]}"] = who["name"]
    if not codes <= names.keys() and (len(codes) > 1 or "p:*" in codes):
        window = (visit.now - timedelta(days=1), visit.now + SHOWN)
        for record, *_ in await visit.wire.publishing.published(publisher, window, 0, MOST_WHO):
            place = orjson.loads(record)
            for kind, part in (("p", "professional"), ("s", "structure")):
                if place[part] is not None and place[f"{part}_name"]:
                    names.setdefault(f"{kind}:{place[part]}", place[f"{part}_name"])
    # an account bound to some sees the names of these only
    return names if "p:*" in codes else {code: name for code, name in names.items() if code in codes}


def _bare(code: str) -> str:
    kind, _, number = code.partition(":")
    return f"{'RPPS' if kind == 'p' else 'FINESS'} {number}"
