"""The outermost layer: trace id, size limit, security headers, timing, last resort for errors.

What is called for every request on the live path it calls itself: the way through the framework's routers and
dependencies costs a fifth of the API's time when many call at once (``docs/benchmarks.md``).

Pure ASGI, since it runs for every call.
"""

import re
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sas_matcher.api.metrics import HTTP
from sas_matcher.api.problems import problem
from sas_matcher.domain.errors import SasError, TooLargeError
from sas_matcher.faults import causes_of

BULK: Final = 8 * 1024 * 1024  # 10 000 slots are about 5 MB
SMALL: Final = 64 * 1024  # bytes of any other body; a request for a place has 500
_BULKY: Final = frozenset({"/v1/slots", "/v1/slots/withdraw"})
_TABLE: Final = re.compile(r"/(?:v1|cabinet)/agendas/[^/]{1,40}/csv")
# strict by default: answers are data, pages bring their own policy
_HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cache-control", b"no-store"),
    (b"permissions-policy", b"geolocation=(), camera=(), microphone=()"),
)


Endpoint = Callable[[Request], Awaitable[Response]]
_log = structlog.get_logger(__name__)


class _TooLargeError(Exception):
    """The body went over its limit while it was read."""


class Edge:
    """Wraps the app; see the module.

    ``errors`` says how addresses that begin so tell an error of ours, where that is no problem+json; ``direct`` are
    endpoints without anything for the framework to do (method and path: called with the request alone).
    """

    def __init__(
        self,
        app: ASGIApp,
        trace: Callable[[], str],
        errors: Mapping[str, Callable[[SasError], Response]] | None = None,
        direct: Mapping[tuple[str, str], Endpoint] | None = None,
    ) -> None:
        self._app = app
        self._trace = trace
        self._errors = errors or {}
        self._direct = direct or {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one call."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        trace = self._trace()
        scope.setdefault("state", {})["trace"] = trace
        began = time.perf_counter()
        status = 500
        started = False

        async def answer(message: Message) -> None:
            nonlocal status, started
            if message["type"] == "http.response.start":
                started = True
                status = message["status"]
                own = {name for name, _ in message["headers"]}
                ours = [header for header in _HEADERS if header[0] not in own]
                message["headers"] = [*message["headers"], *ours, (b"x-request-id", trace.encode())]
            await send(message)

        endpoint = self._direct.get((scope["method"], scope["path"]))
        bulky = scope["path"] in _BULKY or _TABLE.fullmatch(scope["path"]) is not None
        limit = BULK if bulky else SMALL
        try:
            if _declared(scope) > limit:
                await self._refuse(limit, trace, scope, receive, answer)
            elif endpoint is not None:
                await self._call(endpoint, trace, scope, _limited(receive, limit), answer)
            else:
                await self._app(scope, _limited(receive, limit), answer)
        except _TooLargeError:
            if not started:
                await self._refuse(limit, trace, scope, receive, answer)
        except ClientDisconnect:
            status = 499  # nobody is there to answer; the number is nginx's
        except Exception as error:
            _unexpected(error, scope)
            if not started:
                await self._told(SasError("Une erreur inattendue a été consignée."), trace, scope)(
                    scope, receive, answer
                )
        finally:
            # never the raw path, unless it is one of ours as it stands: ids must not become labels
            label = getattr(scope.get("route"), "path", "other") if endpoint is None else scope["path"]
            HTTP.labels(label, scope["method"], str(status)).observe(time.perf_counter() - began)

    async def _call(self, endpoint: Endpoint, trace: str, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            answer = await endpoint(Request(scope, receive, send))
        except SasError as error:
            answer = self._told(error, trace, scope)
        await answer(scope, receive, send)

    def _told(self, error: SasError, trace: str, scope: Scope) -> Response:
        """Return the answer to an error, as its address tells errors."""
        for prefix, answer in self._errors.items():
            if scope["path"] == prefix or scope["path"].startswith(f"{prefix}/"):
                return answer(error)
        return problem(error.status, error.code, error.title, error.detail, error.extra, trace)

    async def _refuse(self, limit: int, trace: str, scope: Scope, receive: Receive, send: Send) -> None:
        detail = f"{limit // 1024} Kio au plus pour cette adresse ; découpez l'envoi."
        refusal = self._told(TooLargeError(detail, limit_bytes=limit), trace, scope)
        refusal.headers["connection"] = "close"
        await refusal(scope, receive, send)


def _unexpected(error: Exception, scope: Scope) -> None:
    """Log where it happened; never the message or the values, which may hold what the caller sent."""
    route = getattr(scope.get("route"), "path", "other")
    _log.error("api.unexpected", route=route, causes=causes_of(error))


def _declared(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value) if value.isdigit() else 0
    return 0


def _limited(receive: Receive, limit: int) -> Receive:
    total = 0

    async def counted() -> Any:
        nonlocal total
        message = await receive()
        total += len(message.get("body", b""))
        if total > limit:
            raise _TooLargeError
        return message

    return counted
