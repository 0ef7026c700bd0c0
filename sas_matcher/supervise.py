"""The parent of a whole service: embedded servers where no URL is given, one core, API workers; restarted if they die.

The parent listens on the port itself and hands the socket down: connections wait in its backlog while a worker is
replaced. Its children die with it (``end_with_parent``), the embedded servers too.
"""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Final

import structlog
from prometheus_client.multiprocess import mark_process_dead

from adapters.embedded import EmbeddedServerError, EmbeddedServers
from adapters.embedded.cluster import EmbeddedCluster
from adapters.postgres.schema import migrate_now
from adapters.system import SystemIds
from sas_matcher.config import ConfigError, Settings

_log = structlog.get_logger(__name__)
_STOP_S: Final = 8.0
_LOOK_S: Final = 0.1
CALM_S: Final = 10.0  # a child that lived this long starts again at once
_SERVER_PAUSE_S: Final = 0.5
_BACKOFF_S: Final = (0.0, 0.2, 0.5, 1.0, 2.0, 5.0)


class Child:
    """One process of the service, restarted with growing pauses when it keeps dying."""

    def __init__(self, name: str, command: Sequence[str], environment: dict[str, str], fd: int | None) -> None:
        self.name = name
        self._command = list(command)
        self._environment = environment
        self._fds = () if fd is None else (fd,)
        self._failures = 0
        self._next = 0.0
        self._started = 0.0
        self.process: subprocess.Popen[bytes] | None = None

    def look(self, now: float) -> None:
        """Start or restart when due."""
        if self.process is not None:
            code = self.process.poll()
            if code is None:
                return
            _log.warning("service.child_ended", child=self.name, code=code)
            self._forget_gauges(self.process.pid)
            self._failures = 0 if now - self._started > CALM_S else self._failures + 1
            self._next = now + _BACKOFF_S[min(self._failures, len(_BACKOFF_S) - 1)]
            self.process = None
        if now >= self._next:
            self._started = now
            self.process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                self._command, env=self._environment, pass_fds=self._fds, stdin=subprocess.DEVNULL
            )

    def stop(self, deadline: float) -> None:
        """Ask it to end, then insist."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._forget_gauges(self.process.pid)

    def _forget_gauges(self, pid: int) -> None:
        """Show what a process that ended had (sockets, requests that wait) no more; what it counted stays."""
        mark_process_dead(pid, self._environment["PROMETHEUS_MULTIPROC_DIR"])  # type: ignore[no-untyped-call]


def listen(host: str, port: int) -> socket.socket:
    """Take the port.

    Raises:
        ConfigError: it is taken, or the address is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as taken:
        listening.close()
        raise ConfigError(
            f"Le port {port} de {host} n'est pas libre ({taken.strerror}) ; choisissez-en un autre avec --port."
        ) from taken
    listening.listen(4096)
    listening.set_inheritable(True)
    return listening


class Service:
    """A running service; use it as a context, then ``watch`` until a signal."""

    def __init__(self, settings: Settings, only: str | None = None, *, cluster: bool = False) -> None:
        """Take the settings.

        Args:
            settings: where no URL is given, servers are started here.
            only: ``core`` or ``api``: a part of it.
            cluster: these servers are a Valkey cluster and a PostgreSQL with a replica.
        """
        self.settings = settings
        self._cluster = cluster
        self._only = only
        self._stack = ExitStack()
        self.children: list[Child] = []
        self.servers: EmbeddedServers | EmbeddedCluster | None = None
        self._next_server = 0.0
        self._stopping = False

    def __enter__(self) -> "Service":
        """Start everything.

        Raises:
            ConfigError: the port is taken, or only one of the two URLs is given.
            EmbeddedServerError: an embedded server does not start.
        """
        with ExitStack() as stack:
            settings = self.settings
            listening = None
            if self._only != "core":
                listening = stack.enter_context(listen(settings.host, settings.port))
                settings = replace(settings, port=listening.getsockname()[1])
            if not 0 <= settings.share < settings.matchers:
                raise ConfigError("SAS_SHARE va de 0 à SAS_MATCHERS moins un.")
            if bool(settings.database_url) != bool(settings.redis_url):
                raise ConfigError("Donnez SAS_DATABASE_URL et SAS_REDIS_URL ensemble, ou aucun des deux.")
            if not settings.database_url:
                if self._cluster:
                    self.servers = stack.enter_context(EmbeddedCluster(settings.data_dir))
                else:
                    self.servers = stack.enter_context(EmbeddedServers(settings.data_dir))
                settings = replace(settings, database_url=self.servers.database_url, redis_url=self.servers.redis_url)
            _log.info("service.stores", embedded=self.servers is not None)
            migrate_now(settings.database_url)
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sas-metrics-")))
            self.settings = settings
            self._make_children(folder, listening)
            stack.callback(self._stop_children)
            self.look()
            self._stack = stack.pop_all()
        return self

    def _make_children(self, folder: Path, listening: socket.socket | None) -> None:
        environment = {
            **os.environ,
            **self.settings.to_environment(),
            "PROMETHEUS_MULTIPROC_DIR": str(folder),
        }
        base, parent = [sys.executable, "-m", "sas_matcher.worker"], str(os.getpid())
        if self._only != "api":
            # the same name for each core that we start in turn: the next takes over from the last at once
            holder = f"{socket.gethostname()}:{parent}:{SystemIds().key_id()}"
            for share in self._shares():
                name = f"core-{share}" if share else "core"
                own = {**environment, **replace(self.settings, share=share).to_environment()}
                self.children.append(Child(name, [*base, "core", parent, f"{holder}:{share}"], own, None))
            if self.settings.editors:
                self.children.append(Child("editors", [*base, "editors", parent, holder], environment, None))
            if self.settings.history_dir:
                self.children.append(Child("studies", [*base, "studies", parent, holder], environment, None))
        if listening is not None:
            fd = listening.fileno()
            for number in range(self.settings.api_workers):
                self.children.append(Child(f"api-{number}", [*base, "api", parent, str(fd)], environment, fd))

    def _shares(self) -> Sequence[int]:
        """The matchers of this service: all of them, or with ``only`` the one that the settings name."""
        return [self.settings.share] if self._only == "core" else range(self.settings.matchers)

    def look(self) -> None:
        """Start what has died. Workers first: they load while a server recovers, and wait for it."""
        now = time.monotonic()
        for child in self.children:
            child.look(now)
        if self.servers is None:
            return
        if now < self._next_server:
            return
        try:
            for what in self.servers.revive():
                _log.warning("service.server_back", server=what)
        except EmbeddedServerError as failure:
            # it may have been killed again while it started: tried again for as long as we live
            self._next_server = time.monotonic() + _SERVER_PAUSE_S
            _log.error("service.server_not_back", detail=str(failure))

    def watch(self, until: Callable[[], bool] = lambda: False) -> None:
        """Keep everything running until a signal, or until ``until`` says so."""

        def stop(_number: int, _frame: FrameType | None) -> None:
            self._stopping = True

        before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            while not self._stopping and not until():
                self.look()
                time.sleep(_LOOK_S)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _stop_children(self) -> None:
        deadline = time.monotonic() + _STOP_S
        for child in self.children:
            if child.process is not None and child.process.poll() is None:
                child.process.terminate()
        for child in self.children:
            child.stop(deadline)

    def __exit__(self, *_: object) -> None:
        """Stop everything."""
        self._stack.close()
