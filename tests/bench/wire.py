"""The load client's own HTTP/1.1 and websocket: it shares two cores with what it measures, so it does next to nothing.

httpx and websockets cost the client more time for a call than the floor takes to serve it. Only what the measurements
need is here: answers with a length, short text frames, no TLS, no compression.
"""

import asyncio
import base64
import os
from collections.abc import Callable
from typing import Final, cast

JSON: Final = b"content-type: application/json\r\n"
_MASK: Final = bytes(4)  # masking protects proxies, of which there are none on the loopback


def message(method: str, path: str, host: str, headers: bytes = b"", body: bytes = b"") -> bytes:
    """Build a call; ``headers`` are whole lines."""
    head = f"{method} {path} HTTP/1.1\r\nhost: {host}\r\ncontent-length: {len(body)}\r\n".encode()
    return head + headers + b"\r\n" + body


class Connection(asyncio.Protocol):
    """One keep-alive connection with one call at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._data = bytearray()
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do not inherit from asyncio's
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc or ConnectionResetError("closed before the answer"))

    @property
    def open(self) -> bool:
        """Whether a call can be sent."""
        return self._transport is not None

    def call(self, call: bytes) -> asyncio.Future[tuple[int, bytes]]:
        """Send a call; returns a future of status and body."""
        answer = self._answer = asyncio.get_running_loop().create_future()
        if self._transport is None:
            answer.set_exception(ConnectionResetError("not connected"))
        else:
            self._transport.write(call)
        return answer

    def data_received(self, data: bytes) -> None:
        self._data += data
        end = self._data.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(self._data[:end]).lower()
        at = head.find(b"content-length:")
        size = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if len(self._data) < end + 4 + size:
            return
        body = bytes(self._data[end + 4 : end + 4 + size])
        self._data.clear()
        if self._answer is not None and not self._answer.done():
            self._answer.set_result((int(head[9:12]), body))

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.close()


class Pool:
    """Keep-alive connections to one server; the last one used is used first, more are opened when all are busy."""

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self._port = port
        self._idle: list[Connection] = []

    async def call(self, call: bytes) -> tuple[int, bytes]:
        """Send a call on a free connection.

        Raises:
            OSError: the server refused or closed the connection.
        """
        connection = self._free()
        if connection is None:
            loop = asyncio.get_running_loop()
            _, connection = await loop.create_connection(Connection, self.host, self._port)
        answer = await connection.call(call)
        self._idle.append(connection)
        return answer

    def _free(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.open:
                return connection
        return None

    def close(self) -> None:
        """Hang up all."""
        for connection in self._idle:
            connection.close()


class Socket(asyncio.Protocol):
    """A websocket that hands each text to ``hear``."""

    def __init__(self, host: str, path: str, hear: Callable[[bytes], None]) -> None:
        self._hear = hear
        self._data = bytearray()
        self._transport: asyncio.Transport | None = None
        self._call = (
            f"GET {path} HTTP/1.1\r\nhost: {host}\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
            f"sec-websocket-version: 13\r\nsec-websocket-key: {base64.b64encode(os.urandom(16)).decode()}\r\n\r\n"
        ).encode()
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.broken: str | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(self._call)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self.broken = self.broken or "closed"
        if not self.opened.done():
            self.opened.set_exception(exc or ConnectionResetError("no websocket"))

    def data_received(self, data: bytes) -> None:
        self._data += data
        if not self.opened.done():
            end = self._data.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(self._data[:end])
            del self._data[: end + 4]
            if b" 101 " not in head.split(b"\r\n", 1)[0] + b" ":
                self.opened.set_exception(ConnectionError(head.decode(errors="replace")))
                return
            self.opened.set_result(None)
        while (frame := self._frame()) is not None:
            kind, payload = frame
            if kind == 0x1:
                self._hear(payload)
            elif kind == 0x9:
                self._send(0xA, payload)
            elif kind == 0x8:
                self.broken = f"close {int.from_bytes(payload[:2])}"

    def _frame(self) -> tuple[int, bytes] | None:
        data = self._data
        if len(data) < 2:
            return None
        size, at = data[1] & 0x7F, 2
        if size >= 126:
            width = 2 if size == 126 else 8
            if len(data) < 2 + width:
                return None
            size, at = int.from_bytes(data[2 : 2 + width]), 2 + width
        if len(data) < at + size:
            return None
        frame = data[0] & 0x0F, bytes(data[at : at + size])
        del data[: at + size]
        return frame

    def _send(self, kind: int, payload: bytes) -> None:
        if self._transport is None:
            return
        size = len(payload)
        length = bytes([0x80 | size]) if size < 126 else bytes([0xFE]) + size.to_bytes(2)
        self._transport.write(bytes([0x80 | kind]) + length + _MASK + payload)

    def send(self, text: bytes) -> None:
        """Send a text of less than 64 KiB."""
        self._send(0x1, text)

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.close()


async def listen(host: str, port: int, path: str, hear: Callable[[bytes], None]) -> Socket:
    """Open a websocket.

    Raises:
        OSError: the server does not accept it.
    """
    loop = asyncio.get_running_loop()
    _, socket = await loop.create_connection(lambda: Socket(host, path, hear), host, port)
    await socket.opened
    return socket
