"""The stream of events: one websocket after the other, seamless for the reader.

Each socket starts with a one-time ticket and the position reached, so nothing is missed over a break; where the
service cannot go back that far it says so and the reader gets a ``Gap``. What arrives twice is dropped by
(aggregate, version).
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

import orjson
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from sas_matcher.client._asking import Question
from sas_matcher.client._documents import Booking, Request
from sas_matcher.client._errors import ApiError, UnreachableError
from sas_matcher.client._http import Http
from sas_matcher.client._settings import SettingChange

REMEMBERED: Final = 50_000
"""Aggregates whose version is remembered, as many as the service remembers itself."""
GREETING_S: Final = 10.0
"""Bound of the opening handshake, and of the wait for ``welcome``."""
SILENCE: Final = 3.0
"""Heartbeats without a word after which a socket counts as dead."""
REFUSALS: Final = 5
"""Sockets in a row that may be refused before the stream gives up: a ticket can expire on the way."""
_NOT_VALID: Final = 4401
_POLICY: Final = 1008


class Position(NamedTuple):
    """Where a reader stands in the stream; keep it to go on after a restart."""

    epoch: str
    offset: str


@dataclass(frozen=True, slots=True)
class Event:
    """Something happened to a request, a booking or a setting; ``data`` is its document as it stands since."""

    position: Position
    name: str
    aggregate: str
    version: int
    data: Mapping[str, Any]

    @property
    def request(self) -> Request | None:
        """The request, for ``request.…`` events that carry it in full (coordinators get a summary)."""
        return Request.of(self.data) if self.name.startswith("request.") and "decision" in self.data else None

    @property
    def booking(self) -> Booking | None:
        """The booking, for ``booking.…`` events that carry it in full."""
        return Booking.of(self.data) if self.name.startswith("booking.") and "external_id" in self.data else None

    @property
    def question(self) -> Question | None:
        """The question put to this practice, for ``question.…`` events that carry it in full."""
        return Question.of(self.data) if self.name.startswith("question.") and "deadline" in self.data else None

    @property
    def setting_change(self) -> SettingChange | None:
        """What a territory of this key has changed in its settings, for ``settings.changed``."""
        return SettingChange.of(self.data) if self.name == "settings.changed" else None


@dataclass(frozen=True, slots=True)
class Gap:
    """Events before this position may be missing: read the present state (``requests``, ``bookings``), then go on."""

    position: Position
    reason: str


class EventStream:
    """Asynchronous iterator of ``Event`` and ``Gap``; never ends by itself, ends when closed.

    Raises (from the iteration):
        ApiError: The key is not valid (any more), or the service refuses the socket for good.
    """

    def __init__(self, http: Http, url: str, resume: Position | None, *, direct: bool) -> None:
        self._http = http
        self._url = url
        self._direct = direct
        self._position = resume
        self._socket: ClientConnection | None = None
        self._silence_s = GREETING_S
        self._tries = 0  # sockets opened since the last word from one: none is hammered at
        self._versions: OrderedDict[str, int] = OrderedDict()
        self._closed = asyncio.Event()

    @property
    def position(self) -> Position | None:
        """Where the stream stands, ``None`` before its first welcome."""
        return self._position

    @property
    def connected(self) -> bool:
        """Whether a socket is open now."""
        return self._socket is not None

    def __aiter__(self) -> AsyncIterator[Event | Gap]:
        return self

    async def __anext__(self) -> Event | Gap:
        while not self._closed.is_set():
            if self._socket is None:
                await self._unless_closed(self._connect())
                continue
            try:
                message = await self._receive(self._socket)
            except (ConnectionClosed, TimeoutError):
                # whatever the reason: the next ticket tells whether the key is still good
                await self._drop()
                continue
            item = self._item(message)
            if item is not None:
                return item
        raise StopAsyncIteration

    async def open(self) -> None:
        """Connect now instead of at the first event: what happens from here on is not missed."""
        if self._socket is None:
            await self._unless_closed(self._connect())

    async def aclose(self) -> None:
        """End the stream, also for a reader that waits in it."""
        self._closed.set()
        await self._drop()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _unless_closed(self, work: Awaitable[None]) -> None:
        """Run a step that may take long, but not beyond ``aclose``."""
        step, closed = asyncio.ensure_future(work), asyncio.ensure_future(self._closed.wait())
        try:
            await asyncio.wait({step, closed}, return_when=asyncio.FIRST_COMPLETED)
            if step.done():
                step.result()
        finally:
            for task in (step, closed):
                task.cancel()
            await asyncio.gather(step, closed, return_exceptions=True)
            if self._closed.is_set():
                await self._drop()

    async def _drop(self) -> None:
        socket, self._socket = self._socket, None
        if socket is not None:
            await socket.close()

    async def _connect(self) -> None:
        """Open the next socket, trying for ever, except where the service says that it is no use."""
        refused = 0
        while True:
            if self._tries:
                await self._http.sleep(self._http.retry.wait_s(self._tries, self._http.chance()))
            self._tries += 1
            try:
                answer = await self._http.call("POST", "/v1/ws-tickets", body={}, repeatable=True)
                self._socket = await self._greet(answer["ticket"])
                return
            except ApiError as error:
                if error.status not in (429, 503):
                    raise
            except (UnreachableError, WebSocketException, OSError, TimeoutError) as broken:
                refused = refused + 1 if _code(broken) in (_NOT_VALID, _POLICY) else 0
                if refused >= REFUSALS:
                    status = 401 if _code(broken) == _NOT_VALID else 403
                    raise ApiError(status, "socket_refused", "Le flux d'événements est refusé à cette clé.") from broken

    async def _greet(self, ticket: str) -> ClientConnection:
        """Open a socket and say hello; returns it once the service has said welcome."""
        # the service has its own heartbeat: a second one below it would only add traffic
        socket = await connect(
            self._url,
            open_timeout=GREETING_S,
            close_timeout=2,
            ping_interval=None,
            proxy=None if self._direct else True,
        )
        try:
            resume = None if self._position is None else self._position._asdict()
            hello = {"type": "hello", "ticket": ticket, "resume": resume}
            await socket.send(orjson.dumps(hello).decode())
            async with asyncio.timeout(GREETING_S):
                welcome = orjson.loads(await socket.recv())
        except BaseException:
            await socket.close()
            raise
        self._silence_s = SILENCE * float(welcome["heartbeat_s"])
        if self._position is None:
            # only the first time: later the welcome says where the service is, which we may not have reached
            self._position = Position(welcome["epoch"], welcome["offset"])
        return socket

    async def _receive(self, socket: ClientConnection) -> dict[str, Any]:
        """Return the next message that is no heartbeat.

        Raises:
            ConnectionClosed: The socket was closed.
            TimeoutError: Not a word for too long.
        """
        while True:
            # not wait_for: before Python 3.12 it loses a cancellation that comes together with a message
            async with asyncio.timeout(self._silence_s):
                message: dict[str, Any] = orjson.loads(await socket.recv())
            self._tries = 0
            if message["type"] != "ping":
                return message
            await socket.send('{"type":"pong"}')

    def _item(self, message: Mapping[str, Any]) -> Event | Gap | None:
        """Turn a message into what the reader gets; nothing for what he knows and for types to come."""
        if message["type"] == "gap":
            self._position = Position(message["epoch"], message["offset"])
            return Gap(self._position, message["reason"])
        if message["type"] != "event":
            return None
        self._position = Position(message["epoch"], message["offset"])
        data = message["data"]
        aggregate = str(message.get("aggregate") or data.get("request_id") or data.get("booking_id") or "")
        version = int(message.get("version") or data.get("version") or 0)
        if aggregate and version <= self._versions.get(aggregate, 0):
            return None
        self._versions[aggregate] = version
        self._versions.move_to_end(aggregate)
        if len(self._versions) > REMEMBERED:
            self._versions.popitem(last=False)
        return Event(self._position, message["event"], aggregate, version, data)


def _code(error: BaseException) -> int | None:
    """Return the close code of a socket that the other side closed."""
    return error.rcvd.code if isinstance(error, ConnectionClosed) and error.rcvd is not None else None
