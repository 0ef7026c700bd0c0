"""Connections to one Redis server for what is said for every request: packed and read by hiredis, nothing in between.

redis-py's own connection packs in Python, makes a task for each send and asks its pool for each command. Without all
that a request costs 0.44 ms of processor less in the core and 0.24 less in the API (``docs/benchmarks.md``).
"""

import asyncio
from collections.abc import Sequence
from typing import Any, Final, Self, cast

import hiredis
from redis import exceptions
from redis.asyncio.connection import SSLConnection, parse_url

_ERRORS: Final = {
    "NOSCRIPT": exceptions.NoScriptError,
    "OOM": exceptions.OutOfMemoryError,
    "READONLY": exceptions.ReadOnlyError,
    "LOADING": exceptions.BusyLoadingError,
    "MASTERDOWN": exceptions.MasterDownError,
    "NOAUTH": exceptions.AuthenticationError,
    "WRONGPASS": exceptions.AuthenticationError,
}
"""What redis-py calls the errors that callers tell apart, by their first word."""


def _error(text: str) -> Exception:
    kind: type[Exception] = _ERRORS.get(text.partition(" ")[0], exceptions.ResponseError)
    return kind(text)


MOST_KEPT: Final = 8  # free lines: after a rush (every socket asks for its history) the others are closed


class _Line(asyncio.Protocol):
    """One connection, which carries one exchange at a time."""

    def __init__(self) -> None:
        self.open = False
        self._reader = hiredis.Reader(replyError=_error)
        self._replies: list[Any] = []
        self._wanted = 0
        self._answer: asyncio.Future[list[Any]] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.open = True

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        # RESP2 has no false: here it says that the rest of a reply is still to come
        while (reply := self._reader.gets()) is not False:
            self._replies.append(reply)
        if self._answer is not None and len(self._replies) >= self._wanted and not self._answer.done():
            self._answer.set_result(self._replies)

    def connection_lost(self, exc: Exception | None) -> None:
        self.open = False
        self._fail(exceptions.ConnectionError("the server closed the connection"))

    def _fail(self, why: Exception) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(why)

    async def exchange(self, packed: bytes, count: int, patience: float) -> list[Any]:
        """Send commands and return that many replies; whoever gives up half-way must close the line."""
        loop = asyncio.get_running_loop()
        self._answer, self._replies, self._wanted = loop.create_future(), [], count
        late = loop.call_later(patience, self._fail, exceptions.TimeoutError("no reply in time"))
        try:
            self._transport.write(packed)
            return await self._answer
        finally:
            late.cancel()
            self._answer = None

    def close(self) -> None:
        self.open = False
        self._transport.close()


class Lines:
    """As many lines as there are exchanges at once; each is used again when it is free."""

    def __init__(self, address: dict[str, Any]) -> None:
        """Take an address as ``parse_url`` of redis-py gives it."""
        self._address = address
        self._free: list[_Line] = []
        self._closed = False

    @classmethod
    def to(cls, url: str) -> Self | None:
        """Return lines to the server of a URL; None where there are none of this kind (TLS)."""
        address = dict(parse_url(url))
        return None if address.get("connection_class") is SSLConnection else cls(address)

    async def ask(self, commands: Sequence[Sequence[Any]], patience: float) -> list[Any]:
        """Run commands in one round trip; replies in their order, errors among them.

        Args:
            commands: names with their arguments: text, bytes and numbers.
            patience: seconds after which the server counts as away.

        Raises:
            redis.exceptions.ConnectionError: the server is not there, or went away twice; it may have run them.
            redis.exceptions.TimeoutError: it took longer.
        """
        packed = b"".join([hiredis.pack_command(tuple(command)) for command in commands])
        try:
            return await self._once(packed, len(commands), patience)
        except exceptions.ConnectionError:
            # a server that was started again ended all lines: they are found out one by one
            self._drop_all()
            return await self._once(packed, len(commands), patience)

    async def _once(self, packed: bytes, count: int, patience: float) -> list[Any]:
        line = await self._take(patience)
        try:
            replies = await line.exchange(packed, count, patience)
        except BaseException:
            # what comes late on it would pass for the answer to another question
            line.close()
            raise
        if self._closed or len(self._free) >= MOST_KEPT:
            line.close()
        else:
            self._free.append(line)
        return replies

    async def _take(self, patience: float) -> _Line:
        while self._free:
            line = self._free.pop()
            if line.open:
                return line
        loop, address = asyncio.get_running_loop(), self._address
        try:
            async with asyncio.timeout(patience):
                if "path" in address:
                    _, line = await loop.create_unix_connection(_Line, address["path"])
                else:
                    host, port = address.get("host", "localhost"), address.get("port", 6379)
                    _, line = await loop.create_connection(_Line, host, port)
        except TimeoutError as late:
            raise exceptions.TimeoutError("no connection in time") from late
        except OSError as away:
            raise exceptions.ConnectionError(str(away)) from away
        try:
            await self._greet(line, patience)
        except BaseException:
            line.close()
            raise
        return line

    async def _greet(self, line: _Line, patience: float) -> None:
        user, secret, number = (self._address.get(name) for name in ("username", "password", "db"))
        hello: list[tuple[Any, ...]] = []
        if secret is not None:
            hello.append(("AUTH", secret) if user is None else ("AUTH", user, secret))
        if number:
            hello.append(("SELECT", number))
        for command in hello:
            (reply,) = await line.exchange(hiredis.pack_command(command), 1, patience)
            if isinstance(reply, Exception):
                raise reply

    def _drop_all(self) -> None:
        while self._free:
            self._free.pop().close()

    def close(self) -> None:
        """Close all; those in use when they are free."""
        self._closed = True
        self._drop_all()
