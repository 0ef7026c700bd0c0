"""A Valkey Cluster, and a PostgreSQL with a streaming replica, on one machine: the shape of scale-out.

The cluster's nodes speak TCP on the loopback address (their protocol knows no unix sockets), behind a secret drawn at
the first start. PostgreSQL commits wait for the replica: when the primary dies the replica has all that was
acknowledged, and is promoted; the old primary's data are never started again, for two would then believe to be it.
"""

import contextlib
import secrets
import shutil
import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Final, Self
from urllib.parse import quote

from adapters.embedded.binaries import postgres_binary, valkey_binary
from adapters.embedded.launching import EmbeddedServerError, RunAs, unprivileged
from adapters.embedded.postgres import DATABASE, ROLE, SMALL_SERVER, SUPERUSER, VOLATILE, PostgresServer
from adapters.embedded.process import ANSWER_SECONDS, connect, discard
from adapters.embedded.valkey import DURABLE as VALKEY_DURABLE
from adapters.embedded.valkey import VOLATILE as VALKEY_VOLATILE
from adapters.embedded.valkey import ValkeyServer

NODES: Final = 3
"""The fewest that a cluster is made of: a majority remains when one dies."""
SLOTS: Final = 16_384
"""Hash slots of a cluster (cluster specification)."""
NODE_TIMEOUT_MS: Final = 2_000
"""After which the others take a node for failed; the supervisor starts it again long before."""
BUS_OFFSET: Final = 10_000
"""The nodes speak with one another on their port plus this (cluster specification)."""
FORM_SECONDS: Final = 30.0
PORTS: Final = range(20_000, 55_000)
_HOST: Final = "127.0.0.1"


class ValkeyNode(ValkeyServer):
    """One node: as an embedded Valkey, and a port for the cluster's own protocol."""

    NAME: ClassVar[str] = "Valkey (nœud)"

    def __init__(
        self, folder: Path, *, binary: Path, settings: Mapping[str, str | int], port: int, secret: str
    ) -> None:
        super().__init__(folder, binary=binary, settings=settings)
        self.port = port
        self._secret = secret

    def _command(self) -> list[str]:
        held = {
            "port": self.port,
            "bind": _HOST,
            "cluster-enabled": "yes",
            "cluster-config-file": "nodes.conf",
            "cluster-node-timeout": NODE_TIMEOUT_MS,
            "cluster-require-full-coverage": "no",
        }
        # the secret goes through a file of ours alone: a command line is everybody's to read
        file = self.folder / "secret.conf"
        file.touch(mode=0o600)
        file.write_text(f"requirepass {self._secret}\n", encoding="ascii")
        binary, *words = super()._command()
        at = words.index("--port")
        del words[at : at + 2]
        return [
            binary,
            str(file),
            *words,
            *[part for name, value in held.items() for part in (f"--{name}", str(value))],
        ]

    def _answers(self) -> bool:
        return self.call("PING") == "PONG"

    def call(self, *words: object) -> str:
        """Run one command; returns the first line, or the text, of the answer.

        Raises:
            OSError: the node does not answer.
        """
        with connect(self.socket_path, timeout=ANSWER_SECONDS) as stream, stream.makefile("rb") as lines:
            for command in (("AUTH", self._secret), words):
                parts = [str(word).encode() for word in command]
                stream.sendall(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(p), p) for p in parts))
                said = lines.readline().rstrip(b"\r\n")
                if said[:1] == b"$" and int(said[1:]) >= 0:
                    said = b"+" + lines.read(int(said[1:]) + 2).rstrip(b"\r\n")
        return said[1:].decode("utf-8", "replace")


class ValkeyCluster:
    """The nodes of one cluster in the folders ``node-0``… of a folder.

    Attributes:
        nodes: their handles.
    """

    def __init__(self, folder: Path, *, durable: bool) -> None:
        self.nodes: list[ValkeyNode] = []
        self._folder, self._durable = folder, durable
        self._secret = ""

    @property
    def url(self) -> str:
        """URL for ``RedisBus.connect``."""
        hosts = ",".join(f"{_HOST}:{node.port}" for node in self.nodes)
        return f"redis-cluster://:{self._secret}@{hosts}"

    def start(self) -> Self:
        """Start all nodes and join them.

        Raises:
            EmbeddedServerError: one does not start, or they do not find together.
        """
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._secret = _kept(self._folder / "secret", secrets.token_urlsafe(24))
        ports = [int(text) for text in _kept(self._folder / "ports", " ".join(map(str, _free_ports(NODES)))).split()]
        settings = VALKEY_DURABLE if self._durable else VALKEY_VOLATILE
        for number, port in enumerate(ports):
            folder = self._folder / f"node-{number}"
            node = ValkeyNode(folder, binary=valkey_binary(), settings=settings, port=port, secret=self._secret)
            self.nodes.append(node)
            node.start()
        self._join()
        return self

    def _join(self) -> None:
        """Let the nodes meet and share the slots; does nothing where they have."""
        step = SLOTS // NODES
        for number, node in enumerate(self.nodes):
            if node.call("CLUSTER", "COUNTKEYSINSLOT", 0).startswith("ERR") or "cluster_slots_assigned:0" in node.call(
                "CLUSTER", "INFO"
            ):
                last = SLOTS - 1 if number == NODES - 1 else (number + 1) * step - 1
                node.call("CLUSTER", "ADDSLOTSRANGE", number * step, last)
                node.call("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for node in self.nodes[1:]:
            node.call("CLUSTER", "MEET", _HOST, self.nodes[0].port)
        deadline = time.monotonic() + FORM_SECONDS
        while not all(self._knows_all(node) for node in self.nodes):
            if time.monotonic() > deadline:
                raise EmbeddedServerError("Les nœuds de Valkey ne se trouvent pas ; voyez leurs journaux.")
            time.sleep(0.05)

    @staticmethod
    def _knows_all(node: ValkeyNode) -> bool:
        info = node.call("CLUSTER", "INFO")
        return "cluster_state:ok" in info and f"cluster_slots_ok:{SLOTS}" in info and f"cluster_size:{NODES}" in info

    def stop(self) -> None:
        """Stop all nodes."""
        for node in self.nodes:
            node.stop()


class PostgresReplica(PostgresServer):
    """A standby that streams from a primary; its data are a copy made by ``pg_basebackup``."""

    NAME: ClassVar[str] = "PostgreSQL (réplique)"

    def __init__(
        self, folder: Path, *, durable: bool, settings: Mapping[str, str | int], run_as: RunAs, primary: PostgresServer
    ) -> None:
        super().__init__(folder, durable=durable, settings=settings, run_as=run_as)
        self._primary = primary

    def _initialise(self, lock: int) -> None:
        draft = self.folder / "data.new"
        discard(draft)
        directory = str(self._primary.socket_path.parent)
        command = [str(postgres_binary("pg_basebackup")), "-D", str(draft), "-h", directory, "-U", SUPERUSER]
        command += ["--wal-method=stream", "--checkpoint=fast", "--write-recovery-conf", "--no-password"]
        if not self._durable:
            command.append("--no-sync")
        process = self._spawn(command, lock)
        status = process.wait()
        if status != 0:
            raise self._error(f"pg_basebackup a échoué (code {status}).")
        draft.rename(self.data)

    def _complete(self) -> None:
        """Nothing: role and database come from the primary."""

    def promote(self) -> None:
        """Make it the primary; returns when it takes writes.

        Raises:
            EmbeddedServerError: it does not.
        """
        if self.query("select pg_promote(true, 20)") != ["t"]:
            raise self._error("La réplique n'a pas pu être promue.")


class EmbeddedCluster:
    """Everything of scale-out on the data of one folder, for the length of a `with` block.

    Attributes:
        valkey: the cluster.
        primary: the PostgreSQL that takes writes; another one after a failover.
        replica: the one that follows; None after a failover, until ``follow``.
        failovers: how often a replica was promoted.
    """

    valkey: ValkeyCluster
    primary: PostgresServer
    replica: PostgresReplica | None

    def __init__(self, data_dir: Path, *, durable: bool = True) -> None:
        self._data_dir, self._durable = data_dir, durable
        self._stack = ExitStack()
        self._folders: list[Path] = []
        self.failovers = 0

    def __enter__(self) -> Self:
        """Start everything.

        Raises:
            EmbeddedServerError: something did not start; the rest is stopped again.
        """
        self._data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        with ExitStack() as stack:
            stack.callback(self._stop)
            mark = self._data_dir / "primary"
            names = _kept(mark, "postgres-0").split()
            first = self._data_dir / names[-1]
            run_as = unprivileged()
            settings = dict(SMALL_SERVER) | ({} if self._durable else dict(VOLATILE))
            self.primary = PostgresServer(first, durable=self._durable, settings=settings, run_as=run_as)
            self.replica = None
            self.primary.start()
            self.follow()
            self.valkey = ValkeyCluster(self._data_dir / "valkey", durable=self._durable)
            stack.callback(self.valkey.stop)
            self.valkey.start()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop everything."""
        self._stack.close()

    def _stop(self) -> None:
        for server in (getattr(self, "replica", None), getattr(self, "primary", None)):
            if server is not None:
                server.stop()

    @property
    def database_url(self) -> str:
        """URL for asyncpg: both servers; whichever takes writes is the one that is used."""
        directories = [server.socket_path.parent for server in (self.primary, self.replica) if server is not None]
        hosts = ",".join(quote(str(directory)) for directory in directories)
        return f"postgresql://{ROLE}@/{DATABASE}?host={hosts}&target_session_attrs=primary"

    @property
    def redis_url(self) -> str:
        """URL of the cluster."""
        return self.valkey.url

    def follow(self) -> None:
        """Make a replica of the primary and let commits wait for it.

        Raises:
            EmbeddedServerError: it does not follow.
        """
        number = int(self.primary.folder.name.rpartition("-")[2]) + 1
        folder = self._data_dir / f"postgres-{number}"
        shutil.rmtree(folder, ignore_errors=True)  # a copy of an earlier start: made anew, it must not lag or differ
        settings = dict(SMALL_SERVER) | ({} if self._durable else dict(VOLATILE))
        self.replica = PostgresReplica(
            folder, durable=self._durable, settings=settings, run_as=unprivileged(), primary=self.primary
        )
        self.replica.start()
        deadline = time.monotonic() + FORM_SECONDS
        while self.primary.query("select count(*) from pg_stat_replication where state = 'streaming'") != ["1"]:
            if time.monotonic() > deadline:
                raise EmbeddedServerError("La réplique de PostgreSQL ne suit pas ; voyez son journal.")
            time.sleep(0.05)
        # from here on nothing is acknowledged that the replica has not written
        self.primary.query("alter system set synchronous_standby_names = '*'")
        self.primary.query("select pg_reload_conf()")

    def fail_over(self) -> None:
        """Promote the replica; the old primary is killed if it still runs, and never started again.

        Raises:
            EmbeddedServerError: there is no replica, or it cannot be promoted.
        """
        if self.replica is None:
            raise EmbeddedServerError("Il n'y a plus de réplique de PostgreSQL à promouvoir.")
        with contextlib.suppress(EmbeddedServerError):
            self.primary.kill()
        (self._data_dir / "primary").write_text(f"postgres-0 {self.replica.folder.name}", encoding="ascii")
        # its copy of the setting would have it wait for a replica that it has not
        self.replica.query("alter system reset synchronous_standby_names")
        self.replica.promote()
        self.primary, self.replica = self.replica, None
        self.failovers += 1

    def revive(self) -> Sequence[str]:
        """Start nodes that died, promote the replica when the primary died; returns what was done.

        Raises:
            EmbeddedServerError: it cannot be done now.
        """
        done = []
        for node in self.valkey.nodes:
            if not node.alive():
                node.restart()
                done.append(f"{node.NAME} {node.folder.name}")
        if not self.primary.alive():
            if self.replica is not None:
                self.fail_over()
                done.append("PostgreSQL : réplique promue")
            else:
                self.primary.restart()
                done.append(self.primary.NAME)
        return done


def _kept(file: Path, text: str) -> str:
    """Return what a file says; writes it the first time."""
    with contextlib.suppress(FileNotFoundError):
        return file.read_text(encoding="ascii")
    file.touch(mode=0o600)
    file.write_text(text, encoding="ascii")
    return text


def _free_ports(count: int) -> list[int]:
    """Return ports that are free now, with those of the cluster's bus above them."""
    found: list[int] = []
    while len(found) < count:
        port = secrets.choice(PORTS)
        if port not in found and _is_free(port) and _is_free(port + BUS_OFFSET):
            found.append(port)
    return found


def _is_free(port: int) -> bool:
    with socket.socket() as trial:
        try:
            trial.bind((_HOST, port))
        except OSError:
            return False
        return True
