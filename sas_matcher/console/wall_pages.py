"""The wallboard of a crisis room, and the figures that everybody may know."""

from dataclasses import replace
from typing import Any, Final

from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from sas_matcher.api.auth import Caller
from sas_matcher.api.routes.figures import PUBLIC, steered, structures_of
from sas_matcher.api.wire import Wire, peer_of, uuid_of
from sas_matcher.api.ws import Sockets
from sas_matcher.console.doors import is_secure
from sas_matcher.console.site import Pages
from sas_matcher.console.steering import WHO, Steering
from sas_matcher.console.visit import Visit, same_origin
from sas_matcher.domain.errors import NotAuthenticatedError, UnavailableError
from sas_matcher.services.screens import LASTS

SCREEN_COOKIE: Final = "sas_mural"
SCREEN_PATH: Final = "/mural"
SCREEN_KEY: Final = "screen"  # on the websocket: the name of no key

wall = Pages(open_to_all=True)
keeping = Pages(scopes=WHO)


@keeping.post("/pilotage/ecrans")
async def open_screen(visit: Visit) -> Response:
    """Make a wallboard of this browser: for days, without the account."""
    look = Steering(visit)
    form = (await visit.form()).only("name")
    token = await visit.wire.screens.open(look.territory, form.text("name"), visit.caller.key_id)
    answer = visit.go(SCREEN_PATH)
    answer.set_cookie(
        SCREEN_COOKIE,
        token,
        max_age=int(LASTS.total_seconds()),
        path=SCREEN_PATH,
        httponly=True,
        samesite="strict",
        secure=is_secure(visit),
    )
    return answer


@keeping.post("/pilotage/ecrans/fermer")
async def close_screen(visit: Visit) -> Response:
    """Close a wallboard: it goes dark at its next look."""
    look = Steering(visit)
    screen_id = uuid_of((await visit.form()).only("id").text("id"), "id")
    await visit.wire.screens.close(screen_id, look.territory)
    return visit.go(look.link("/pilotage/reglages"))


async def _viewer(services: Wire, connection: HTTPConnection) -> tuple[Caller, str]:
    """Return on whose behalf a screen looks, and at which territory.

    Raises:
        NotAuthenticatedError: it is no screen, or none any more.
    """
    screen = await services.screens.of(connection.cookies.get(SCREEN_COOKIE, ""))
    caller = await services.gate.of_key(screen.key_id)
    # a screen sees its territory, whatever else the key may see
    return replace(caller, territories=frozenset({screen.territory}), professionals=frozenset()), screen.territory


async def _board(visit: Visit) -> dict[str, Any]:
    by_screen = SCREEN_COOKIE in visit.request.cookies
    if by_screen:
        caller, territory = await _viewer(visit.wire, visit.request)
    elif visit.account is not None and visit.caller.scope in WHO:
        caller = visit.caller
        territory = steered(visit.wire, caller, visit.request.query_params.get("territoire"))[0]
    else:
        raise NotAuthenticatedError("Ouvrez ce mur depuis la page Pilotage, « Réglages ».")
    visit.wire.gate.spend(caller.key_id)
    shown = await visit.wire.moments.of(territory, structures_of(caller))
    return {**shown, "territory": territory, "by_screen": by_screen}


@wall.get(SCREEN_PATH)
async def board(visit: Visit) -> Response:
    """Show the wallboard; it renews itself, finds the service again after a cut and says when it is old."""
    return visit.show("pilotage/wall.html", **await _board(visit))


@wall.get("/mural/chiffres")
async def board_part(visit: Visit) -> Response:
    """Show its figures again."""
    return visit.show("pilotage/_wall.html", **await _board(visit))


@wall.get("/chiffres")
async def everybody(visit: Visit) -> Response:
    """Show what everybody may know; the same page for all, kept for ten minutes by whoever stands between."""
    visit.wire.open_door.spend(peer_of(visit.request))
    return visit.show("pilotage/public.html", headers=PUBLIC, week=await visit.wire.public.week())


def wall_route(public_url: str) -> WebSocketRoute:
    """Return the websocket of the wallboards: events of the screen's territory; ``public_url`` as of ``Site``."""

    async def serve(socket: WebSocket) -> None:
        if not same_origin(socket, public_url):
            await socket.close(1008)
            return
        services: Wire = socket.app.state.wire
        sockets: Sockets = socket.app.state.sockets

        async def still() -> bool:
            try:
                await _viewer(services, socket)
            except NotAuthenticatedError:
                return False
            return True

        try:
            caller, _ = await _viewer(services, socket)
        except NotAuthenticatedError:
            await socket.accept()
            await socket.close(4401)
        except UnavailableError:
            await socket.accept()
            await socket.close(1013)
        else:
            # of its territory it hears that something changed: nothing of structures, nor what is said to a key
            await sockets.serve_known(socket, replace(caller, structures=frozenset(), key_id=SCREEN_KEY), still)

    return WebSocketRoute("/mural/flux", serve)
