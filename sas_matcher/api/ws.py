"""The websocket ``/v1/ws``: a one-time ticket, then events, resumable by (epoch, offset).

Close codes: 4401 ticket or key not valid, 4408 reader too slow (resume), 1008 policy (origin, flood, bad message),
1013 try again later (full, or a store is away), 1001 the server stops.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import Final

import orjson
import structlog
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from sas_matcher.api import metrics
from sas_matcher.api.auth import Caller, Gate, Tickets
from sas_matcher.api.hub import Hub, Subscriber
from sas_matcher.api.inputs.reading import parse
from sas_matcher.api.inputs.schemas import Hello, Resume
from sas_matcher.domain.errors import InvalidInputError, NotAuthenticatedError, UnavailableError
from sas_matcher.ports.bus import entry_order
from sas_matcher.ports.world import Clock

HELLO_S: Final = 5.0
HEARTBEAT_S: Final = 20.0
SILENCE_S: Final = 60.0  # three heartbeats without an answer
RECHECK_S: Final = 60.0  # a revoked key loses its sockets within this
PER_MINUTE: Final = 100  # messages a client may send (OWASP WebSocket cheat sheet)
SEND_S: Final = 10.0  # a send that blocks longer is a dead or too slow reader
CLOSE_S: Final = 2.0
_PING: Final = b'{"type":"ping"}'
Still = Callable[[], Awaitable[bool]]
"""Tells whether somebody whom we know may still listen; raises UnavailableError when that cannot be told."""
_log = structlog.get_logger(__name__)


class Sockets:
    """Serves websockets of one worker."""

    def __init__(
        self, hub: Hub, gate: Gate, tickets: Tickets, clock: Clock, origins: Collection[str], most: int
    ) -> None:
        self._hub = hub
        self._gate = gate
        self._tickets = tickets
        self._clock = clock
        self._origins = frozenset(origins)
        self._most = most
        self._open = 0

    async def serve(self, socket: WebSocket) -> None:
        """Serve one socket from handshake to close."""
        origin = socket.headers.get("origin")
        if origin is not None and origin not in self._origins:
            await socket.close(1008)
            return
        await self._count(socket, lambda: self._greet(socket))

    async def serve_known(self, socket: WebSocket, caller: Caller, still: Still) -> None:
        """Serve a socket whose caller is known from its handshake: a page's session. Who calls this checked its origin.

        Args:
            socket: not accepted yet.
            caller: who listens.
            still: asked again and again whether they still may.
        """
        await self._count(socket, lambda: self._follow(socket, caller, None, still))

    async def _count(self, socket: WebSocket, talk: Callable[[], Awaitable[None]]) -> None:
        if self._open >= self._most:
            await socket.close(1013)
            return
        await socket.accept()
        self._open += 1
        metrics.SOCKETS.inc()
        try:
            await talk()
        except WebSocketDisconnect:
            pass
        finally:
            self._open -= 1
            metrics.SOCKETS.dec()

    async def _greet(self, socket: WebSocket) -> None:
        try:
            async with asyncio.timeout(HELLO_S):
                text = await socket.receive_text()
            hello = parse(Hello, text)
            caller = await self._tickets.redeem(hello.ticket)
        except (TimeoutError, NotAuthenticatedError):
            await self._close(socket, 4401)
        except (InvalidInputError, KeyError):
            await self._close(socket, 1008)
        except UnavailableError:
            await self._close(socket, 1013)
        else:
            await self._follow(socket, caller, hello.resume, lambda: self._gate.still_valid(caller.key_id))

    async def _follow(self, socket: WebSocket, caller: Caller, resume: Resume | None, still: Still) -> None:
        subscriber = Subscriber(caller)
        # from here on the queue gets all that comes after ``position``; what lies before is history
        self._hub.join(subscriber)
        position = self._hub.position
        try:
            await self._welcome(socket, caller, resume, position)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._send(socket, subscriber))
                group.create_task(self._receive(socket))
                group.create_task(self._recheck(socket, still))
        except* WebSocketDisconnect:
            pass
        except* (TimeoutError, OSError, RuntimeError) as broken:
            if socket.application_state is WebSocketState.CONNECTED:  # else the client went: nothing is broken
                _log.info("ws.broken", kind=type(broken.exceptions[0]).__name__)
                await self._close(socket, 4408)
        finally:
            self._hub.leave(subscriber)

    async def _welcome(self, socket: WebSocket, caller: Caller, resume: Resume | None, position: str) -> None:
        epoch = self._hub.epoch
        welcome: dict[str, object] = {"type": "welcome", "epoch": epoch, "offset": position, "heartbeat_s": HEARTBEAT_S}
        if self._hub.drill:
            welcome["drill"] = True
        await socket.send_text(orjson.dumps(welcome).decode())
        if resume is None:
            return
        messages = None
        ahead = entry_order(resume.offset) > entry_order(position)
        if resume.epoch == epoch and not ahead:
            try:
                messages = await self._hub.history(caller, resume.offset, position)
            except UnavailableError:
                messages = None
        if messages is None:
            await socket.send_text(self._hub.gap("history_gone").decode())
            return
        for message in messages:
            async with asyncio.timeout(SEND_S):
                await socket.send_text(message.decode())

    async def _send(self, socket: WebSocket, subscriber: Subscriber) -> None:
        pinged = self._clock.now().timestamp()
        while True:
            # a busy socket is pinged as well: only the answer tells that somebody reads
            left = HEARTBEAT_S - (self._clock.now().timestamp() - pinged)
            try:
                # not wait_for: before Python 3.12 it loses a cancellation that comes together with a message
                async with asyncio.timeout(max(0.0, left)):
                    message = await subscriber.queue.get()
            except TimeoutError:
                message, pinged = _PING, self._clock.now().timestamp()
            if message is None or subscriber.lost:
                metrics.SLOW_READERS.inc()
                await self._close(socket, 4408)
                raise WebSocketDisconnect(4408)
            async with asyncio.timeout(SEND_S):
                await socket.send_text(message.decode())
            metrics.PUSHED.inc()

    async def _receive(self, socket: WebSocket) -> None:
        """Take pongs; anything else, or too much of it, ends the socket."""
        minute, count = self._clock.now().timestamp(), 0
        while True:
            try:
                async with asyncio.timeout(SILENCE_S):
                    text = await socket.receive_text()
            except KeyError:
                text = ""  # a binary message: no message of ours
            now = self._clock.now().timestamp()
            if now - minute > 60:
                minute, count = now, 0
            count += 1
            try:
                known = orjson.loads(text) in ({"type": "pong"}, {"type": "ping"})
            except orjson.JSONDecodeError:
                known = False
            if not known or count > PER_MINUTE:
                await self._close(socket, 1008)
                raise WebSocketDisconnect(1008)

    async def _recheck(self, socket: WebSocket, still: Still) -> None:
        while True:
            await asyncio.sleep(RECHECK_S)
            try:
                valid = await still()
            except UnavailableError:
                continue
            if not valid:
                await self._close(socket, 4401)
                raise WebSocketDisconnect(4401)

    @staticmethod
    async def _close(socket: WebSocket, code: int) -> None:
        if socket.application_state is WebSocketState.CONNECTED:
            try:
                # a reader that takes nothing does not take the close frame either: it must not hold us
                async with asyncio.timeout(CLOSE_S):
                    await socket.close(code)
            except (RuntimeError, TimeoutError):
                _log.debug("ws.closed_already")
