"""A real PostgreSQL in a private folder, reached by a unix socket only.

Authentication is `trust` on the socket, which lies in a directory of mode 0700, and `reject` on any network
address. The bootstrap superuser is `postgres`; the service works as `sas`, who owns the database `sas`, may
create databases and is no superuser, as on a production server.
"""

import contextlib
import os
import signal
import socket
import struct
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar
from urllib.parse import quote

from adapters.embedded.binaries import POSTGRES_MAJOR, postgres_binary
from adapters.embedded.launching import EmbeddedServerError, RunAs, unprivileged
from adapters.embedded.process import ANSWER_SECONDS, START_SECONDS, Server, connect, discard, refuse_reserved

ROLE = DATABASE = "sas"
SUPERUSER = "postgres"

SMALL_SERVER: Mapping[str, str | int] = MappingProxyType(
    {
        "autovacuum_naptime": "5s",
        "fsync": "on",
        "jit": "off",  # compiles for longer than our short queries run
        "log_timezone": "UTC",
        "max_connections": 100,
        "max_wal_size": "1GB",
        "shared_buffers": "128MB",
        "synchronous_commit": "on",
        "timezone": "UTC",
    }
)
"""For a small machine. `fsync` and `synchronous_commit`: what is acknowledged survives a power cut; the rest
are PostgreSQL's own defaults, fixed here because `initdb` lowers some of them on a poor machine.
`autovacuum_naptime`: kept plans are made anew once a table has statistics; with the default of a minute the first
bulk of a new ledger was followed by a minute of plans made for empty tables (a decision took 25 ms instead of 11)."""
VOLATILE: Mapping[str, str | int] = MappingProxyType(
    {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}
)
"""For tests: survives the crash of the server mostly, a power cut not at all."""
RESERVED = frozenset(
    {
        "config_file",
        "data_directory",
        "external_pid_file",
        "hba_file",
        "listen_addresses",
        "logging_collector",
        "port",
        "unix_socket_directories",
        "unix_socket_group",
        "unix_socket_permissions",
    }
)
_ALREADY_THERE = frozenset({"42710", "42P04", "23505"})
"""SQLSTATE of duplicate_object, duplicate_database, unique_violation: somebody else was faster."""
_PROTOCOL = 196608
"""Version 3.0 of the frontend/backend protocol (PostgreSQL documentation, 54.7: StartupMessage)."""


class PostgresServer(Server):
    """The handle of one server; see `start_postgres`."""

    NAME: ClassVar[str] = "PostgreSQL"
    URL_VARIABLE: ClassVar[str] = "SAS_DATABASE_URL"
    SOCKET_NAME: ClassVar[str] = ".s.PGSQL.5432"
    DEATH_SIGNAL: ClassVar[signal.Signals] = signal.SIGINT
    STOP_SIGNALS = (signal.SIGINT, signal.SIGQUIT)  # fast, then immediate shutdown

    def __init__(self, folder: Path, *, durable: bool, settings: Mapping[str, str | int], run_as: RunAs) -> None:
        super().__init__(folder, run_as=run_as)
        self._durable = durable
        self._settings = settings

    @property
    def url(self) -> str:
        """URL for `asyncpg.connect`."""
        return f"postgresql://{ROLE}@/{DATABASE}?host={quote(str(self.socket_path.parent))}"

    def _prepare(self, lock: int) -> None:
        if self._run_as is RunAs.NOBODY:
            self._check_reachable(postgres_binary().parent)
        if self.data.exists():
            self._check_version()
            self._forget_stranger()
        else:
            self._initialise(lock)

    def _check_version(self) -> None:
        try:
            found = (self.data / "PG_VERSION").read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            raise EmbeddedServerError(
                f"{self.data} n'est pas un dossier de données PostgreSQL (PG_VERSION manque ou est "
                "illisible). Il n'a pas été touché ; déplacez-le, ou choisissez un autre dossier."
            ) from None
        if found != str(POSTGRES_MAJOR):
            raise EmbeddedServerError(
                f"Les données de {self.data} viennent de PostgreSQL {found}, le programme livré est en "
                f"version {POSTGRES_MAJOR} : elles n'ont pas été touchées. Exportez-les avec pg_dump {found} "
                "et réimportez-les dans un dossier neuf, ou donnez un serveur par SAS_DATABASE_URL."
            )

    def _forget_stranger(self) -> None:
        """Remove a crashed server's `postmaster.pid` when its number is now that of another process.

        PostgreSQL would take that process for itself and refuse to start; in a container, where numbers are
        low and come back, that is the rule. We hold the lock every process of the last server inherited, so
        none is left; a server started by hand on this data works in its folder and is respected.
        """
        pid_file = self.data / "postmaster.pid"
        try:
            pid = int(pid_file.read_text(encoding="ascii").split(maxsplit=1)[0])
            theirs = Path(f"/proc/{pid}/cwd").readlink()
        except (OSError, ValueError, IndexError):
            return  # none, ended, or not ours to look at: PostgreSQL judges
        if theirs != self.data:
            pid_file.unlink()
            self.socket_path.with_name(f"{self.SOCKET_NAME}.lock").unlink(missing_ok=True)

    def _initialise(self, lock: int) -> None:
        """Make the data beside its final place: an interrupted `initdb` leaves nothing that looks whole."""
        draft = self.folder / "data.new"
        discard(draft)
        command = [str(postgres_binary("initdb")), "-D", str(draft), "-U", SUPERUSER, "--encoding=UTF8"]
        command += ["--auth-local=trust", "--auth-host=reject"]
        command += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--no-locale"]
        if not self._durable:
            command.append("--no-sync")
        process = self._spawn(command, lock)
        try:
            status = process.wait()
        except BaseException:
            process.kill()
            process.wait()
            raise
        if status != 0:
            raise self._error(f"initdb a échoué (code {status}).")
        draft.rename(self.data)
        if self._durable:
            _sync_directory(self.folder)

    def _command(self) -> list[str]:
        directory = self.socket_path.parent
        command = [str(postgres_binary()), "-D", str(self.data), "-k", str(directory), "-p", "5432"]
        command += ["-c", "listen_addresses="]
        for name, value in self._settings.items():
            command += ["-c", f"{name}={value}"]
        return command

    def _answers(self) -> bool:
        with contextlib.suppress(_SqlError):
            return self.query("select 1", timeout=ANSWER_SECONDS) == ["1"]
        return False  # starting, recovering, or shutting down

    def _complete(self) -> None:
        """Make the role and the database of the service when they are missing."""
        if not self.query(f"select 1 from pg_roles where rolname = '{ROLE}'"):  # noqa: S608  a constant
            self._create(f"create role {ROLE} login createdb")
        if not self.query(f"select 1 from pg_database where datname = '{DATABASE}'"):  # noqa: S608
            self._create(f"create database {DATABASE} owner {ROLE}")

    def _create(self, statement: str) -> None:
        try:
            self.query(statement)
        except _SqlError as error:
            if error.code not in _ALREADY_THERE:
                raise self._error(f"« {statement} » a échoué : {error}.") from error

    def query(self, statement: str, *, timeout: float = START_SECONDS) -> list[str]:
        """Run one statement as the superuser in its own database; return the first column of its rows."""
        with connect(self.socket_path, timeout=timeout) as stream:
            return _query(stream, statement, user=SUPERUSER, database=SUPERUSER)


class _SqlError(Exception):
    """PostgreSQL refused; `code` is the SQLSTATE."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{message} ({code})")
        self.code = code


def _query(stream: socket.socket, statement: str, *, user: str, database: str) -> list[str]:
    """Speak just enough of the protocol for a trusted connection and one simple query.

    The full client (asyncpg) is asynchronous, and a start must also work where an event loop already runs.
    """
    parameters = f"user\0{user}\0database\0{database}\0\0".encode()
    stream.sendall(struct.pack("!ii", len(parameters) + 8, _PROTOCOL) + parameters)
    rows: list[str] = []
    asked = False
    error: _SqlError | None = None
    while True:
        kind, body = _message(stream)
        if kind == b"E":
            fields = {part[:1]: part[1:].decode("utf-8", "replace") for part in body.split(b"\0") if part}
            error = _SqlError(fields.get(b"C", ""), fields.get(b"M", ""))
            if not asked:
                raise error
        elif kind == b"D" and body[:2] != b"\0\0":
            (length,) = struct.unpack("!i", body[2:6])
            rows.append(body[6 : 6 + length].decode() if length >= 0 else "")
        elif kind == b"Z" and asked:
            stream.sendall(b"X\0\0\0\x04")
            if error is not None:
                raise error
            return rows
        elif kind == b"Z":
            text = statement.encode() + b"\0"
            stream.sendall(b"Q" + struct.pack("!i", len(text) + 4) + text)
            asked = True


def _message(stream: socket.socket) -> tuple[bytes, bytes]:
    head = _exactly(stream, 5)
    return head[:1], _exactly(stream, struct.unpack("!i", head[1:])[0] - 4)


def _exactly(stream: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = stream.recv(size - len(data))
        if not part:
            raise ConnectionError("PostgreSQL closed the connection")
        data += part
    return data


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def start_postgres(
    folder: Path,
    *,
    durable: bool = True,
    settings: Mapping[str, str | int] | None = None,
) -> PostgresServer:
    """Start PostgreSQL on the data of a folder, made when missing, or adopt the one that runs there.

    Args:
        folder: Belongs to this server alone; made when missing, mode 0700.
        durable: Survive power cuts; without it, `VOLATILE`, for tests.
        settings: Settings of `postgresql.conf` above `SMALL_SERVER`, such as `max_connections`.

    Raises:
        EmbeddedServerError: With the reason, in French.
    """
    chosen = dict(SMALL_SERVER)
    if not durable:
        chosen |= VOLATILE
    if settings:
        refuse_reserved(settings, RESERVED)
        chosen |= {name.lower(): value for name, value in settings.items()}
    return PostgresServer(folder, durable=durable, settings=chosen, run_as=unprivileged()).start()
