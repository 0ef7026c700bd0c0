"""How people come in and go: sign-in with a password, or by another door (OpenID Connect), and sign-out.

Another door is a ``Door``: its own routes send the browser to the provider and take it back; once it knows who came, it
asks ``let_in``. Nothing else of the pages knows how somebody signed in.
"""

import json
from collections.abc import Sequence
from typing import Final, NamedTuple

from starlette.responses import Response

from sas_matcher.api.auth import Rate
from sas_matcher.api.wire import peer_of
from sas_matcher.console.site import Pages
from sas_matcher.console.visit import COOKIE, SECURE_COOKIE, Visit, csrf_of
from sas_matcher.domain.errors import SasError
from sas_matcher.ports.world import Clock

_TRIES_A_MINUTE: Final = 12  # of one address (see ``peer_of``); a person who forgot a password types slower
BROWSER: Final = "sas_browser"
SECURE_BROWSER: Final = "__Host-sas_browser"
_BROWSER_S: Final = 180 * 24 * 3600  # seconds a browser is known without a sign-in: half a year (guess)


class Door(NamedTuple):
    """Another way to sign in: what its button says, and the address that begins it (``Pro Santé Connect``)."""

    label: str
    path: str


def _safe(path: str) -> str:
    """Return a path of ours to go on to; anything else is the home page (no open redirect)."""
    return path if path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable() else "/"


def is_secure(visit: Visit) -> bool:
    """Tell whether browsers reach this service by https."""
    return visit.request.url.scheme == "https" or visit.site.public_url.startswith("https://")


def let_in(visit: Visit, token: str, path: str) -> Response:
    """Give the browser its session and send it on."""
    answer = visit.go(_safe(path))
    keep(visit, answer, token)
    return answer


def keep(visit: Visit, answer: Response, token: str) -> None:
    """Set the session's cookie: no script reads it, no other site's page sends it, https only where there is any."""
    secure = is_secure(visit)
    name = SECURE_COOKIE if secure else COOKIE
    answer.set_cookie(name, token, httponly=True, samesite="strict", secure=secure, path="/")


def browser_of(visit: Visit) -> str:
    """Return what tells this browser from all others: what it has from us, or what it is to have."""
    cookies = visit.request.cookies
    return cookies.get(SECURE_BROWSER) or cookies.get(BROWSER) or visit.wire.secrets.secret()


def keep_browser(visit: Visit, answer: Response, browser: str) -> None:
    """Let the browser keep what it is told by, which names nobody (see ``Accounts.sign_in``); its time begins anew."""
    secure = is_secure(visit)
    name = SECURE_BROWSER if secure else BROWSER
    answer.set_cookie(name, browser, _BROWSER_S, httponly=True, samesite="strict", secure=secure, path="/")


def door_pages(clock: Clock, doors: Sequence[Door] = ()) -> Pages:
    """Return the pages of sign-in and sign-out.

    Args:
        clock: for the bounded rate of tries.
        doors: other ways to sign in, whose routes are elsewhere.
    """
    pages = Pages(open_to_all=True)
    tries = Rate(
        clock,
        rate=_TRIES_A_MINUTE / 60,
        burst=_TRIES_A_MINUTE,
        refusal="Trop d'essais de connexion depuis ce poste ; réessayez dans un instant.",
    )

    @pages.get("/connexion")
    async def door(visit: Visit) -> Response:
        onward = _safe(visit.request.query_params.get("suite", "/"))
        return visit.show("door.html", onward=onward, doors=doors, error=None, login="")

    @pages.post("/connexion")
    async def sign_in(visit: Visit) -> Response:
        form = (await visit.form()).only("login", "password", "suite")
        onward, login = _safe(form.text("suite", "/")), form.text("login")
        try:
            peer = peer_of(visit.request)
            tries.spend(peer)
            # spaces belong to a password: it is taken as it was typed
            password = (form.several("password") or [""])[-1]
            browser = browser_of(visit)
            token = await visit.wire.accounts.sign_in(login, password, browser)
            tries.give_back(peer)  # a whole shift may begin behind one address
        except SasError as error:
            if visit.is_part:
                return visit.show("part_error.html", error.status, {"HX-Retarget": "#door-error"}, error=error)
            return visit.show("door.html", error.status, onward=onward, doors=doors, error=error, login=login)
        if not visit.is_part:
            answer = let_in(visit, token, onward)
            keep_browser(visit, answer, browser)
            return answer
        # the window over a page that stays: it goes on with the new session's secret, if it is the same person's
        account = await visit.wire.accounts.account_of(token)
        told = {"sas-signed-in": {"secret": csrf_of(token), "login": account.login}}
        answer = Response(None, 204, {"HX-Trigger": json.dumps(told)})
        keep(visit, answer, token)
        keep_browser(visit, answer, browser)
        return answer

    @pages.post("/deconnexion")
    async def sign_out(visit: Visit) -> Response:
        if visit.token is not None:
            await visit.wire.accounts.sign_out(visit.token)
        answer = visit.go("/connexion")
        for name in (COOKIE, SECURE_COOKIE):
            answer.delete_cookie(name, path="/", secure=name == SECURE_COOKIE, httponly=True, samesite="strict")
        # what the browser kept of the pages goes with the session (shared desks)
        answer.headers["Clear-Site-Data"] = '"cache", "storage"'
        return answer

    return pages
