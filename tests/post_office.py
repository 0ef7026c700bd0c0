"""A server of mail for tests, as small as it can be."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Post:
    """A server of mail, as small as it can be: refuses what it is told to, keeps the rest."""

    def __init__(self) -> None:
        self.mails: list[bytes] = []
        self.refuse = ""

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 post\r\n")
        while line := (await reader.readline()).decode():
            word = line.split(":")[0].strip().upper()
            if word.startswith("EHLO"):
                writer.write(b"250-post\r\n250 8BITMIME\r\n")
            elif word == "DATA":
                writer.write(b"354 go on\r\n")
                mail = await reader.readuntil(b"\r\n.\r\n")
                self.mails.append(mail.removesuffix(b".\r\n"))
                writer.write(b"250 ok\r\n")
            elif word == "QUIT":
                writer.write(b"221 bye\r\n")
                break
            elif self.refuse and word.startswith(self.refuse.partition(" ")[2]):
                writer.write(f"{self.refuse.partition(' ')[0]} no, doc@cabinet.example\r\n".encode())
            else:
                writer.write(b"250 ok\r\n")
        writer.close()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._talk, "127.0.0.1", 0)
        async with server:
            yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
