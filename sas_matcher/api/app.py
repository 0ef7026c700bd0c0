"""The FastAPI application of one worker."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from fastapi import FastAPI
from starlette.responses import Response
from starlette.routing import BaseRoute, WebSocketRoute

from sas_matcher import __version__
from sas_matcher.api import openapi, problems
from sas_matcher.api.drill import Exercise
from sas_matcher.api.edge import Edge
from sas_matcher.api.routes import (
    agenda,
    asking,
    bookings,
    consent,
    crisis,
    figures,
    national,
    notices,
    practice,
    regulator,
    service,
    statement,
    territory,
)
from sas_matcher.api.wire import Wire
from sas_matcher.api.ws import Sockets
from sas_matcher.domain.errors import SasError

DESCRIPTION = """Places for unscheduled care, matched live: practices publish, regulators ask, and each request gets the
best place for everyone who waits. Errors are `application/problem+json` with a stable `code` and a French `detail`.
Instants carry an offset. Unknown fields are refused: there is none for a patient's identity."""


def create_app(
    open_wire: Callable[[], AbstractAsyncContextManager[tuple[Wire, Sockets]]],
    trace: Callable[[], str],
    others: Sequence[BaseRoute] = (),
    errors: Mapping[str, Callable[[SasError], Response]] | None = None,
    *,
    drill: bool = False,
) -> FastAPI:
    """Build the app.

    Args:
        open_wire: gives its services for the time it runs.
        trace: makes request ids.
        others: routes of adapters that call us; they authenticate their calls themselves.
        errors: how addresses that begin so tell errors (see ``Edge``).
        drill: a service for exercises, whose every answer says so.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_wire() as (services, sockets):
            app.state.wire = services
            app.state.sockets = sockets
            yield

    app = FastAPI(
        title="sas_matcher",
        version=__version__,
        description=DESCRIPTION,
        license_info={"name": "Apache-2.0"},
        lifespan=lifespan,
        # the documentation pages of FastAPI load scripts from elsewhere; ours come with the console
        docs_url=None,
        redoc_url=None,
        # a redirect would be an answer without a key, and drops the body of a POST
        redirect_slashes=False,
    )
    problems.install(app)
    openapi.install(app)
    routers = (
        regulator,
        practice,
        bookings,
        consent,
        notices,
        agenda,
        territory,
        asking,
        crisis,
        figures,
        statement,
        service,
        national,
    )
    for router in (module.router for module in routers):
        app.include_router(router)
    app.router.routes.append(WebSocketRoute("/v1/ws", lambda socket: socket.app.state.sockets.serve(socket)))
    app.router.routes.extend(others)
    app.add_middleware(Edge, trace=trace, errors=errors, direct={("POST", "/v1/requests"): regulator.ask})
    if drill:
        app.add_middleware(Exercise)  # the outermost: refusals say it as well
    return app
