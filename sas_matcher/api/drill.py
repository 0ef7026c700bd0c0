"""A service for exercises says so in whatever it answers: JSON, FHIR resources, pages, events.

Such a service has a ledger of its own, so that nothing in it can touch a patient; what leaves it must not be taken for
real either. Answers are read again and written anew, which an exercise can afford.
"""

import re
from typing import Any, Final

import orjson
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADER: Final = (b"sas-drill", b"true")
_BODY: Final = re.compile(rb"<body[^>]*>")
_BANNER: Final = '<p class="drill" role="status"><strong>EXERCICE — aucun patient réel.</strong></p>'.encode()
# what a FHIR server says of data that is no patient's (v3-ActReason)
_TEST_DATA: Final = {"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "HTEST"}


def marked(document: Any) -> Any:
    """Return a JSON value in which every object that speaks of ``drill``, and the outermost, says true."""

    def inner(value: Any) -> Any:
        if isinstance(value, dict):
            return {
                name: True if name == "drill" and isinstance(part, bool) else inner(part)
                for name, part in value.items()
            }
        return [inner(part) for part in value] if isinstance(value, list) else value

    found = inner(document)
    return {**found, "drill": True} if isinstance(found, dict) else found


def marked_answer(kind: str, body: bytes) -> bytes:
    """Return the body of an answer of some content type, marked where that type can say it."""
    if kind == "application/fhir+json":
        resource = orjson.loads(body)
        meta = resource.get("meta", {})
        return orjson.dumps({**resource, "meta": {**meta, "security": [*meta.get("security", ()), _TEST_DATA]}})
    if kind in ("application/json", "application/problem+json"):
        return orjson.dumps(marked(orjson.loads(body)))
    if kind == "text/html":
        return _BODY.sub(lambda tag: tag[0] + _BANNER, body, count=1)
    return body


class Exercise:
    """Wraps the app of a service for exercises."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one call."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began: Message = {}
        parts: list[bytes] = []

        async def hold(message: Message) -> None:
            nonlocal began
            if message["type"] == "http.response.start":
                began = message
                return
            parts.append(message.get("body", b""))
            if message.get("more_body"):
                return
            headers = {name: value for name, value in began["headers"] if name == b"content-type"}
            kind = headers.get(b"content-type", b"").partition(b";")[0].decode()
            whole = b"".join(parts)
            body = marked_answer(kind, whole) if whole else whole
            kept = [header for header in began["headers"] if header[0] != b"content-length"]
            length = (b"content-length", str(len(body)).encode())
            no_body = scope["method"] == "HEAD" or began["status"] in (204, 304)
            await send({**began, "headers": [*(began["headers"] if no_body else [*kept, length]), HEADER]})
            await send({"type": "http.response.body", "body": body})

        await self._app(scope, receive, hold)
