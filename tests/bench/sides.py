"""The two sides under test, each on servers of its own: the floor (a bare handler) and the whole service."""

import asyncio
import contextlib
import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit
from urllib.request import urlopen

import asyncpg
import redis.asyncio

from adapters.embedded import EmbeddedServers, ValkeyServer, start_valkey
from sas_matcher.bootstrap.access import issue_key
from sas_matcher.bootstrap.stores import open_stores
from sas_matcher.config import Settings
from sas_matcher.domain.vocabulary import Role
from sas_matcher.services.keys import KeyWish
from sas_matcher.supervise import Child, Service
from tests.bench.nearest_app import fill

HOST: Final = "127.0.0.1"
START_S: Final = 180.0  # also for loading 285 000 places on a machine that others use too
NO_LIMIT: Final = 1e9
FLOOR: Final = Path(__file__).resolve().parents[3] / "shared" / "bench" / "floor_app.py"


def _servers(servers: EmbeddedServers) -> dict[str, list[int]]:
    return {"postgres": [servers.postgres.pid], "valkey": [servers.valkey.pid]}


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        port: int = taken.getsockname()[1]
        return port


def until_listening(port: int) -> None:
    """Wait until somebody listens.

    Raises:
        TimeoutError: nobody does.
    """
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection((HOST, port), 1):
            return
        time.sleep(0.05)
    raise TimeoutError(f"nobody listens on port {port}")


# -- the floor ---------------------------------------------------------------------------------------------------


class FloorSide:
    """The floor on a PostgreSQL and a Valkey of its own; ``serving`` runs it on fresh tables."""

    def __init__(self, file: Path, servers: EmbeddedServers) -> None:
        self._file = file
        self._servers = servers
        self.processes: dict[str, list[int]] = {}
        url = urlsplit(servers.database_url)
        self._connect = {
            "host": dict(parse_qsl(url.query))["host"],
            "user": url.username,
            "database": url.path[1:],
        }
        self._valkey = servers.valkey.socket_path
        self._schema = [part.strip() for part in self._module().SCHEMA.split(";") if part.strip()]

    def _module(self) -> ModuleType:
        spec = importlib.util.spec_from_file_location("floor_app", self._file)
        if spec is None or spec.loader is None:
            raise ImportError(f"{self._file} is not a Python file")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    async def _fresh(self) -> None:
        connection = await asyncpg.connect(**self._connect)
        try:
            for statement in self._schema:  # each on its own: VACUUM refuses to be part of a transaction
                await connection.execute(statement)
        finally:
            await connection.close()

    @contextmanager
    def serving(self) -> Iterator[int]:
        """Run one uvicorn worker; gives its port."""
        asyncio.run(self._fresh())
        environment = {**os.environ, "FLOOR_PG": json.dumps(self._connect), "FLOOR_VK": str(self._valkey)}
        with _uvicorn(f"{self._file.stem}:app", environment, "--app-dir", str(self._file.parent)) as (port, pid):
            self.processes = {"api": [pid], **_servers(self._servers)}
            yield port


class NearestSide:
    """The nearest-first service (``nearest_app``) on a Valkey of its own; ``serving`` runs it on fresh places."""

    def __init__(self, server: ValkeyServer, slots: Sequence[dict[str, Any]]) -> None:
        self._server = server
        self._slots = slots

    async def _fresh(self) -> None:
        store = redis.asyncio.Redis(unix_socket_path=str(self._server.socket_path), protocol=2)
        try:
            await store.flushall()
            await fill(store, self._slots)
        finally:
            await store.aclose()

    @contextmanager
    def serving(self) -> Iterator[int]:
        """Run one uvicorn worker; gives its port."""
        asyncio.run(self._fresh())
        environment = {**os.environ, "NEAREST_VK": str(self._server.socket_path)}
        with _uvicorn("tests.bench.nearest_app:app", environment) as (port, _):
            yield port


@contextmanager
def nearest(folder: Path, slots: Sequence[dict[str, Any]]) -> Iterator[NearestSide]:
    """Prepare the nearest-first service on an embedded Valkey in a folder."""
    server = start_valkey(folder)
    try:
        yield NearestSide(server, slots)
    finally:
        server.stop()


@contextmanager
def _uvicorn(app: str, environment: dict[str, str], *words: str) -> Iterator[tuple[int, int]]:
    """Run an app as the floor wants it run: one worker, uvloop, httptools; gives its port and process number."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", app, *words, "--host", HOST, "--port", str(port)]
    command += ["--loop", "uvloop", "--http", "httptools", "--ws", "websockets-sansio"]
    command += ["--no-access-log", "--log-level", "warning"]
    process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL)
    try:
        until_listening(port)
        yield port, process.pid
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


# -- the service -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ProductSide:
    """The running service with its keys."""

    service: Service
    port: int
    regulators: Sequence[str]
    practice: str

    @property
    def processes(self) -> dict[str, list[int]]:
        """Process numbers of each part of the service."""
        parts: dict[str, list[int]] = {}
        for child in self.service.children:
            if child.process is not None:
                parts.setdefault(child.name.partition("-")[0], []).append(child.process.pid)
        servers = self.service.servers
        return parts | (_servers(servers) if isinstance(servers, EmbeddedServers) else {})

    @property
    def core(self) -> Child:
        """The process that matches."""
        return next(child for child in self.service.children if child.name == "core")

    def ready(self) -> bool:
        """Whether ledger, Redis and a matcher for every territory are there."""
        try:
            with urlopen(f"http://{HOST}:{self.port}/readyz", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def until_ready(self) -> None:
        """Wait for ``ready``, restarting children as the service's own watch would.

        Raises:
            TimeoutError: it is not.
        """
        deadline = time.monotonic() + START_S
        while not self.ready():
            if time.monotonic() > deadline:
                raise TimeoutError("the service is not ready")
            self.service.look()
            time.sleep(0.02)

    def metric(self, name: str) -> float:
        """Read a metric without labels; 0 when it is not there."""
        with urlopen(f"http://{HOST}:{self.port}/metrics", timeout=10) as answer:
            for line in answer.read().decode().splitlines():
                if line.startswith(name + " "):
                    return float(line.split()[1])
        return 0.0


def resident_mb(pid: int) -> float:
    """Read the resident memory of a process, VmRSS of proc(5), in MiB."""
    for line in Path(f"/proc/{pid}/status").read_text("ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


async def _keys(settings: Settings, regulators: int) -> tuple[list[str], str]:
    wishes = [KeyWish(Role.REGULATOR, f"Régulation {n}", territories=["*"]) for n in range(regulators)]
    wishes.append(KeyWish(Role.MANAGER, "Éditeur", professionals=["*"], source="bench"))
    async with open_stores(settings) as stores:
        tokens = [(await issue_key(stores, wish))[1] for wish in wishes]
    return tokens[:-1], tokens[-1]


@contextmanager
def product(folder: Path, regulators: int, workers: int) -> Iterator[ProductSide]:
    """Run the whole service on embedded servers in a folder, with no limit of calls for a key."""
    settings = Settings(
        host=HOST, port=0, data_dir=folder, api_workers=workers, rate=NO_LIMIT, burst=NO_LIMIT, log_level="warning"
    )
    with Service(settings) as service:
        tokens, practice = asyncio.run(_keys(service.settings, regulators))
        side = ProductSide(service, service.settings.port, tokens, practice)
        side.until_ready()
        yield side


@contextmanager
def floor(folder: Path, file: Path) -> Iterator[FloorSide]:
    """Prepare the floor on embedded servers in a folder."""
    with ExitStack() as stack:
        servers = stack.enter_context(EmbeddedServers(folder))
        yield FloorSide(file, servers)


def measure(plan: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Run the load client on a plan.

    Raises:
        subprocess.CalledProcessError: it failed; its message is on stderr.
    """
    file = folder / "plan.json"
    file.write_text(json.dumps(plan), "utf-8")
    answer = folder / "result.json"
    subprocess.run([sys.executable, "-m", "tests.bench.load", str(file), str(answer)], check=True)
    result: dict[str, Any] = json.loads(answer.read_text("utf-8"))
    return result
