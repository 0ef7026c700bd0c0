"""The first page of a demonstration: what it is, and one click to come in as each role; on this machine only."""

from ipaddress import ip_address
from typing import Final, NamedTuple

from starlette.requests import Request
from starlette.responses import Response

from sas_matcher.console.doors import let_in
from sas_matcher.console.site import Pages
from sas_matcher.console.visit import Visit
from sas_matcher.domain.errors import NotAllowedError, NotFoundError, UnavailableError

_HOSTS: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class Part(NamedTuple):
    """Somebody whom the demonstration lets one be."""

    login: str
    title: str
    does: str


PARTS: Final = (
    Part("demo-osnp", "Régulation (OSNP)", "Trouver une place pour un patient au téléphone, suivre les promesses."),
    Part("demo-collegue", "Collègue de régulation", "Un second poste : reprendre une demande, voir l'autre en direct."),
    Part("demo-cabinet", "Cabinet ou centre de santé", "Publier et retirer des places, recevoir les rendez-vous."),
    Part("demo-pilotage", "Pilotage (CPTS, ARS)", "Voir l'offre, les demandes et les manques du territoire."),
    Part("demo-admin", "Administration", "Créer et fermer des comptes."),
)


def is_of_this_machine(request: Request) -> bool:
    """Tell whether a call comes from this machine, by a name of it (a page elsewhere may point its name at us)."""
    try:
        peer = ip_address(request.client.host if request.client else "")
    except ValueError:
        return False
    return peer.is_loopback and request.url.hostname in _HOSTS


def demo_pages() -> Pages:
    """Return the pages of a demonstration; of any other service there are none."""
    pages = Pages(open_to_all=True)

    @pages.get("/demo")
    async def explain(visit: Visit) -> Response:
        return visit.show("demo.html", parts=PARTS)

    @pages.post("/demo")
    async def enter(visit: Visit) -> Response:
        if not is_of_this_machine(visit.request):
            raise NotAllowedError("La démonstration ne s'ouvre que depuis la machine où elle tourne.")
        login = (await visit.form()).only("login").text("login")
        if login not in {part.login for part in PARTS}:
            raise NotFoundError("La démonstration ne connaît pas ce rôle.")
        try:
            token = await visit.wire.accounts.open(login)
        except NotFoundError as early:
            raise UnavailableError("La démonstration démarre encore ; réessayez dans un instant.") from early
        return let_in(visit, token, "/")

    return pages
