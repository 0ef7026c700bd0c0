"""The pages' websocket ``/flux``: the events of whoever is signed in, as the API's ``/v1/ws`` sends them.

The session's cookie comes with the handshake, so the origin decides first: a page of another site must not listen.
Close codes as there; 4401: the session has ended.
"""

from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from sas_matcher.api.auth import caller_of
from sas_matcher.api.wire import Wire
from sas_matcher.api.ws import Sockets
from sas_matcher.console.visit import same_origin, session_token
from sas_matcher.domain.errors import NotAuthenticatedError, UnavailableError


def live_route(public_url: str) -> WebSocketRoute:
    """Return the route; ``public_url`` as of ``Site``."""

    async def serve(socket: WebSocket) -> None:
        token = session_token(socket)
        if not same_origin(socket, public_url):
            await socket.close(1008)
            return
        services: Wire = socket.app.state.wire
        sockets: Sockets = socket.app.state.sockets

        async def still() -> bool:
            try:
                await services.accounts.account_of(token or "", present=False)
            except NotAuthenticatedError:
                return False
            return True

        try:
            account = await services.accounts.account_of(token or "", present=False)
        except NotAuthenticatedError:
            # accepted first: a browser tells a page the code of a close, not that of a refused handshake
            await socket.accept()
            await socket.close(4401)
        except UnavailableError:
            await socket.accept()
            await socket.close(1013)
        else:
            await sockets.serve_known(socket, caller_of(account.key), still)

    return WebSocketRoute("/flux", serve)
