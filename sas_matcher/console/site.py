"""The pages as routes of the app: one registry of workplaces, each call with its session, errors told as pages."""

import hmac
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from sas_matcher.api.auth import caller_of
from sas_matcher.console import words
from sas_matcher.console.static_files import serve_static, static_url
from sas_matcher.console.typography import FrenchSpaces
from sas_matcher.console.visit import AUTO, Visit, csrf_of, same_origin, session_token
from sas_matcher.domain.errors import NotAllowedError, NotAuthenticatedError, SasError
from sas_matcher.domain.vocabulary import SCOPE_OF_ROLE, Role, Scope

_FILTERS: Final = ("hour", "when", "short", "span", "km", "utc", "minutes_until", "number", "local", "dated")
Handler = Callable[[Visit], Awaitable[Response]]


class Entry(NamedTuple):
    """An entry of the navigation, shown to those who may open it."""

    path: str
    title: str


@dataclass
class Pages:
    """The pages of one workplace: handlers by address, and who may open them.

    Attributes:
        scopes, roles: whose pages they are; none: anybody who is signed in. ``open_to_all``: nobody needs to be.
        entries: what the navigation shows of them.
    """

    scopes: tuple[Scope, ...] = ()
    roles: tuple[Role, ...] = ()
    entries: tuple[Entry, ...] = ()
    open_to_all: bool = False
    handlers: list[tuple[str, str, Handler]] = field(default_factory=list)

    def are_for(self, role: Role) -> bool:
        """Tell whether somebody of a role may open them."""
        return not (self.scopes or self.roles) or role in self.roles or SCOPE_OF_ROLE[role] in self.scopes

    def get(self, path: str) -> Callable[[Handler], Handler]:
        """Serve a page, or a part of one."""
        return partial(self._add, "GET", path)

    def post(self, path: str) -> Callable[[Handler], Handler]:
        """Serve an action; its form has proved that it is ours."""
        return partial(self._add, "POST", path)

    def _add(self, method: str, path: str, handler: Handler) -> Handler:
        self.handlers.append((method, path, handler))
        return handler


class PageRoute(Route):
    """A page's route, which says whose it is."""

    def __init__(self, path: str, method: str, serve: Callable[[Request], Awaitable[Response]], pages: Pages) -> None:
        super().__init__(path, serve, methods=[method])
        self.pages = pages


def _environment() -> Environment:
    # autoescape everywhere: nothing that somebody typed is ever markup
    env = Environment(
        loader=PackageLoader("sas_matcher.console"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
        extensions=[FrenchSpaces],
    )
    env.globals |= {"static": static_url, "words": words}
    env.filters |= {name: getattr(words, name) for name in _FILTERS}
    return env


class Site:
    """All pages of the service.

    Args:
        workplaces: their pages.
        public_url: address of this service as others know it; empty: as the call names it.
        uuid: makes Idempotency-Keys for forms.
        demo: title of the demonstration that this is; empty: none.
        lrm_origins: values of ``origin`` of the regulators' software that may open the regulation page (INT_L01).
    """

    HOME: Final = "/"

    def __init__(
        self,
        workplaces: Sequence[Pages],
        public_url: str,
        uuid: Callable[[], str],
        demo: str = "",
        lrm_origins: Sequence[str] = (),
    ) -> None:
        self.workplaces = workplaces
        self.public_url = public_url
        self.demo = demo
        self.uuid = uuid
        self.lrm_origins = frozenset(lrm_origins)
        self._env = _environment()
        self._env.globals |= {"once": uuid, "demo": demo}

    def render(self, template: str, **values: Any) -> str:
        """Return a template, filled."""
        return self._env.get_template(template).render(**values)

    def entries_for(self, role: Role) -> list[Entry]:
        """Return the navigation of a role, in the order of the workplaces."""
        return [entry for pages in self.workplaces if pages.are_for(role) for entry in pages.entries]

    def home_of(self, role: Role) -> str:
        """Return where people of a role begin."""
        return next((entry.path for entry in self.entries_for(role)), "/compte")

    def routes(self) -> list[BaseRoute]:
        """Return the routes of all pages and files."""
        found: list[BaseRoute] = [Route("/static/{name:path}", serve_static, methods=["GET"])]
        for pages in self.workplaces:
            for method, path, handler in pages.handlers:
                found.append(PageRoute(path, method, partial(self._serve, pages, handler), pages))
        return found

    async def _serve(self, pages: Pages, handler: Handler, request: Request) -> Response:
        """Serve one call: session, rights, proof of origin; what is refused is told as a page."""
        visit = Visit(self, request)
        try:
            await self._let_in(pages, visit)
            return await handler(visit)
        except NotAuthenticatedError as ended:
            return self._to_the_door(visit, ended)
        except SasError as error:
            return self.tell(visit, error)

    async def _let_in(self, pages: Pages, visit: Visit) -> None:
        request = visit.request
        token = session_token(request)
        if token is not None:
            try:
                present = AUTO not in request.headers
                visit.account = await visit.wire.accounts.account_of(token, present=present)
                visit.token = token
            except NotAuthenticatedError:
                if not pages.open_to_all:
                    raise
        if not pages.open_to_all:
            if visit.account is None:
                raise NotAuthenticatedError("Connectez-vous pour voir cette page.")
            if not pages.are_for(caller_of(visit.account.key).role):
                raise NotAllowedError("Cette page n'est pas ouverte à votre rôle.")
            visit.wire.gate.spend(visit.account.key.id)
        if request.method == "POST":
            await self._prove(visit)

    async def _prove(self, visit: Visit) -> None:
        """Make sure that an action comes from a page of ours (CSRF): origin, and the session's secret in the form."""
        refused = "Cette action ne vient pas d'une page de ce service ; rechargez la page."
        if not same_origin(visit.request, self.public_url):
            raise NotAllowedError(refused)
        if visit.token is not None:
            sent = visit.request.headers.get("x-csrf") or (await visit.form()).text("csrf")
            # in constant time, and as bytes: what was sent may be no ASCII
            if not hmac.compare_digest(sent.encode(), csrf_of(visit.token).encode()):
                raise NotAllowedError(refused)

    def _to_the_door(self, visit: Visit, ended: NotAuthenticatedError) -> Response:
        request = visit.request
        if visit.is_part or request.method == "POST":
            # the page stays as it is, with what was typed: a window lets people in again (see base.js)
            return visit.show("part_error.html", 401, error=ended)
        from_elsewhere = request.headers.get("sec-fetch-site") == "cross-site" and session_token(request) is None
        path = quote(request.scope["path"])  # an URL would be cut at what is quoted in it
        if from_elsewhere and "again" not in request.query_params:
            # a link from elsewhere comes without the cookie (SameSite=Strict): the same address, asked by ourselves
            return visit.show("again.html", path=f"{path}?again=1")
        return visit.go(f"/connexion?suite={quote(path)}" if path != "/" else "/connexion")

    def tell(self, visit: Visit, error: SasError) -> Response:
        """Answer an error: as a page, or as a notice where a part was asked for."""
        headers = {"Retry-After": str(error.extra["retry_after"])} if "retry_after" in error.extra else {}
        if visit.is_part:
            return visit.show("part_error.html", error.status, headers, error=error)
        return visit.show("error.html", error.status, headers, error=error)
