"""A resumable websocket of the service for gevent: one greenlet reads, whoever waits for a name is woken."""

import json
from collections.abc import Callable
from typing import Any, Final

import gevent
from gevent.event import AsyncResult
from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.sync.client import connect

Json = dict[str, Any]
OPEN_S: Final = 10.0
PAUSES_S: Final = (0.1, 0.5, 1.0, 2.0)


class Socket:
    """Follows the events of one key; connects again, going on where it was, until closed.

    Attributes:
        gaps: how often the service said that some events cannot be read any more.
        received: events read.
        breaks: how often the connection was lost and taken up again.
    """

    def __init__(self, url: str, ticket: Callable[[], str], hear: Callable[[Json], None]) -> None:
        self._url = url.replace("http", "ws", 1) + "/v1/ws"
        self._ticket = ticket
        self._hear = hear
        self._resume: Json | None = None
        self._closed = False
        self.gaps = 0
        self.received = 0
        self.breaks = 0
        self._greeted: AsyncResult = AsyncResult()
        self._greenlet = gevent.spawn(self._follow)
        self._greeted.get(timeout=OPEN_S)

    def _follow(self) -> None:
        failures = 0
        while not self._closed:
            try:
                self._read()
                failures = 0
            except (OSError, WebSocketException, TimeoutError) as broken:
                if not self._greeted.ready() and failures == len(PAUSES_S):
                    self._greeted.set_exception(broken)
                    return
                self.breaks += self._greeted.ready()
                gevent.sleep(PAUSES_S[min(failures, len(PAUSES_S) - 1)])
                failures += 1

    def _read(self) -> None:
        with connect(self._url, open_timeout=OPEN_S, close_timeout=1, compression=None, ping_interval=None) as socket:
            socket.send(json.dumps({"type": "hello", "ticket": self._ticket(), "resume": self._resume}))
            for text in socket:
                message = json.loads(text)
                kind = message["type"]
                if kind == "ping":
                    socket.send('{"type":"pong"}')
                    continue
                if kind != "welcome" or self._resume is None:
                    # a welcome after a resume says where the service is, not what has been read
                    self._resume = {"epoch": message["epoch"], "offset": message["offset"]}
                if kind == "welcome":
                    self._greeted.set(None)
                elif kind == "gap":
                    self.gaps += 1
                elif kind == "event":
                    self.received += 1
                    self._hear(message)
        if not self._closed:
            raise ConnectionClosed(None, None)

    def close(self) -> None:
        """Stop following."""
        self._closed = True
        self._greenlet.kill(block=False)
