"""Real servers without an installation: Valkey and PostgreSQL from wheels, under a supervisor of our own.

Synchronous, to be called from the main thread:

    with EmbeddedServers(Path(".data")) as servers:
        connect(servers.database_url, servers.redis_url)

Nothing here opens a network port, creates a user, or changes the mode of a directory that is not its own.
"""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from adapters.embedded.launching import EmbeddedServerError
from adapters.embedded.postgres import PostgresServer, start_postgres
from adapters.embedded.process import Server
from adapters.embedded.valkey import ValkeyServer, start_valkey

__all__ = [
    "EmbeddedServerError",
    "EmbeddedServers",
    "PostgresServer",
    "Server",
    "ValkeyServer",
    "start_postgres",
    "start_valkey",
]


class EmbeddedServers:
    """Both servers on the data of one folder, for the length of a `with` block.

    Attributes:
        valkey: Handle of the Valkey server, inside the block.
        postgres: Handle of the PostgreSQL server, inside the block.
    """

    valkey: ValkeyServer
    postgres: PostgresServer

    def __init__(
        self,
        data_dir: Path,
        *,
        durable: bool = True,
        valkey_settings: Mapping[str, str | int] | None = None,
        postgres_settings: Mapping[str, str | int] | None = None,
    ) -> None:
        self._data_dir = data_dir
        self._durable = durable
        self._valkey_settings = valkey_settings
        self._postgres_settings = postgres_settings
        self._stack = ExitStack()

    @property
    def database_url(self) -> str:
        """URL of the PostgreSQL database, for `asyncpg.connect`."""
        return self.postgres.url

    @property
    def redis_url(self) -> str:
        """URL of the Valkey server, for `redis.asyncio.from_url`."""
        return self.valkey.url

    def revive(self) -> list[str]:
        """Start whichever died, the quicker one first; returns their names.

        Raises:
            EmbeddedServerError: one does not start.
        """
        died = [server for server in (self.valkey, self.postgres) if not server.alive()]
        return [server.restart().NAME for server in died]

    def __enter__(self) -> Self:
        """Start both.

        Raises:
            EmbeddedServerError: One did not start; the other is stopped again.
        """
        with ExitStack() as stack:
            self.postgres = start_postgres(
                self._data_dir / "postgres", durable=self._durable, settings=self._postgres_settings
            )
            stack.callback(self.postgres.stop)
            self.valkey = start_valkey(self._data_dir / "valkey", durable=self._durable, settings=self._valkey_settings)
            stack.callback(self.valkey.stop)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop both."""
        self._stack.close()
