"""A wire between a client and PostgreSQL that tests can cut, or let lose an answer."""

import asyncio
import contextlib
import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs, quote, urlsplit, urlunsplit


class Proxy:
    """Forwards a unix socket of its own to the server of ``url``; ``self.url`` leads through it.

    Attributes:
        mute: while True the server's answers are swallowed: it does what it is asked, and nobody hears of it.
    """

    def __init__(self, url: str) -> None:
        self._target = urlsplit(url)
        self._folder = Path(tempfile.mkdtemp(prefix="sas-proxy-"))
        self._server: asyncio.Server | None = None
        self._wires: set[asyncio.StreamWriter] = set()
        self.mute = False
        self.url = urlunsplit(
            self._target._replace(
                netloc=self._target.netloc.rpartition("@")[0] + "@", query=f"host={quote(str(self._folder))}"
            )
        )

    async def __aenter__(self) -> Self:
        """Open the wire."""
        await self.mend()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it for good."""
        await self.cut()
        shutil.rmtree(self._folder)

    async def mend(self) -> None:
        """Accept connections (again)."""
        self._server = await asyncio.start_unix_server(self._serve, self._folder / ".s.PGSQL.5432")

    async def cut(self) -> None:
        """End every connection and refuse new ones."""
        if self._server is not None:
            self._server.close()
            (self._folder / ".s.PGSQL.5432").unlink(missing_ok=True)
            self._server = None
        for wire in list(self._wires):
            wire.transport.abort()
        while self._wires:  # noqa: ASYNC110 - no event: both ends take themselves off
            await asyncio.sleep(0.005)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host = parse_qs(self._target.query).get("host", [self._target.hostname or "localhost"])[0]
        port = self._target.port or 5432
        if host.startswith("/"):
            back_reader, back_writer = await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
        else:
            back_reader, back_writer = await asyncio.open_connection(host, port)
        wires = {writer, back_writer}
        self._wires |= wires
        try:
            await asyncio.gather(
                self._copy(reader, back_writer, answers=False), self._copy(back_reader, writer, answers=True)
            )
        finally:
            self._wires -= wires

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if not (answers and self.mute):
                    writer.write(data)
                    await writer.drain()
        writer.transport.abort()
