"""The supervisor and the composition root when something fails: tried again, ended aloud, never silent."""

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, ClassVar, Self

import pytest
import structlog
from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector

from adapters.embedded import EmbeddedServerError, EmbeddedServers
from sas_matcher import supervise
from sas_matcher.bootstrap import processes
from sas_matcher.bootstrap.logs import set_up_logging
from sas_matcher.bootstrap.stores import vital
from sas_matcher.config import ConfigError, Settings
from sas_matcher.supervise import Child, Service


class FailingServer:
    """A server that is dead and fails to start so many times."""

    NAME: ClassVar[str] = "PostgreSQL"

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.starts = 0

    def alive(self) -> bool:
        return self.starts > self.failures

    def restart(self) -> Self:
        self.starts += 1
        if self.starts <= self.failures:
            raise EmbeddedServerError("tué pendant son démarrage")
        return self


def test_a_server_that_dies_while_it_starts_is_started_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(supervise, "_SERVER_PAUSE_S", 0.0)
    postgres, valkey = FailingServer(2), FailingServer(0)
    service = Service(Settings())
    servers: Any = EmbeddedServers(tmp_path)
    servers.postgres, servers.valkey = postgres, valkey
    service.servers = servers
    for _ in range(3):
        service.look()
    assert postgres.alive() and valkey.alive()
    service.look()
    assert (postgres.starts, valkey.starts) == (3, 1)


LISTENING = """
import os, pathlib, time
from sas_matcher.metrics import SOCKETS
SOCKETS.inc(3)
pathlib.Path(os.environ["PROMETHEUS_MULTIPROC_DIR"], f"ready-{os.getpid()}").touch()
time.sleep(60)
"""


def open_sockets(folder: Path) -> float:
    """Return what ``/metrics`` says of all processes."""
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(folder))  # type: ignore[no-untyped-call]
    return registry.get_sample_value("sas_sockets") or 0.0


@pytest.mark.parametrize("stopped", [False, True], ids=["died", "stopped"])
def test_what_a_dead_process_had_is_shown_no_more(stopped: bool, tmp_path: Path) -> None:
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    children = [Child(name, [sys.executable, "-c", LISTENING], environment, None) for name in ("api-0", "api-1")]
    try:
        for child in children:
            child.look(time.monotonic())
        deadline = time.monotonic() + 20
        while len(list(tmp_path.glob("ready-*"))) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert open_sockets(tmp_path) == 6
        one = children[0]
        assert one.process is not None
        if stopped:
            one.stop(time.monotonic() + 5)
        else:
            one.process.kill()
            one.process.wait()
            one.look(time.monotonic())  # it is started again later
        assert open_sockets(tmp_path) == 3
    finally:
        for child in children:
            child.stop(time.monotonic() + 5)


@pytest.mark.faults("process.task")
async def test_a_failed_background_task_ends_the_process() -> None:
    """A hub or relay that has stopped would leave a worker that answers and tells nobody anything."""
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, told.set)

    async def fails() -> None:
        raise ValueError("broken")

    try:
        vital(fails())
        await asyncio.wait_for(told.wait(), 5)
        told.clear()
        stopped = vital(asyncio.sleep(60))
        stopped.cancel()
        await asyncio.gather(stopped, return_exceptions=True)
        await asyncio.sleep(0)
        assert not told.is_set()
    finally:
        loop.remove_signal_handler(signal.SIGTERM)


@pytest.mark.faults("process")
@pytest.mark.parametrize("failure", [ValueError("CANARY"), ExceptionGroup("many", [KeyError("CANARY")])])
def test_a_process_that_fails_says_where_and_not_what_it_held(
    failure: Exception, capfd: pytest.CaptureFixture[str]
) -> None:
    async def fails() -> None:
        raise failure

    with pytest.raises(SystemExit) as ended:
        processes._run_until_signal(fails(), "stopped")
    told = "".join(capfd.readouterr())
    assert ended.value.code == 1 and "CANARY" not in told and " fails" in told


def test_a_process_that_is_set_up_wrongly_says_so_in_its_own_words() -> None:
    async def fails() -> None:
        raise ConfigError("SAS_EDITORS : le fichier manque")

    with pytest.raises(ConfigError):
        processes._run_until_signal(fails(), "stopped")


def test_tracebacks_do_not_tell_what_was_sent(capfd: pytest.CaptureFixture[str]) -> None:
    """Ours and those of libraries: one JSON line, frames without the values of variables."""

    def handle(body: str) -> None:
        raise ValueError(len(body))

    root, before, level = logging.getLogger(), logging.getLogger().handlers[:], logging.getLogger().level
    hooks = sys.excepthook, sys.unraisablehook, threading.excepthook
    try:
        set_up_logging("warning")
        try:
            handle("CANARY")
        except ValueError as failure:
            structlog.get_logger().error("api.unexpected", exc_info=failure)
            logging.getLogger("some.library").warning("failed", exc_info=True)
    finally:
        structlog.reset_defaults()
        sys.excepthook, sys.unraisablehook, threading.excepthook = hooks
        root.handlers[:] = before
        root.setLevel(level)
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert [line["event"] for line in lines] == ["api.unexpected", "failed"]
    assert all(line["exception"][0]["kind"] == "ValueError" for line in lines)
    assert all("handle" in line["exception"][0]["where"][-1] for line in lines)
    assert "CANARY" not in json.dumps(lines)


BEGIN = """
import asyncio, threading
from sas_matcher.bootstrap.logs import set_up_logging
set_up_logging("warning")

def refuse():
    raise ValueError("Failing row contains (CANARY)")

async def fails():
    refuse()

async def in_a_group():
    async with asyncio.TaskGroup() as group:
        group.create_task(fails())
"""
DEATHS = {
    "a core": "from sas_matcher.bootstrap import processes\nprocesses._run_until_signal(in_a_group(), 'stopped')",
    "a part": "from sas_matcher.bootstrap.stores import vital\n"
    "async def serve():\n    vital(fails())\n    await asyncio.sleep(5)\nasyncio.run(serve())",
    "a worker that starts": """
import uvicorn
from contextlib import asynccontextmanager
from sas_matcher.bootstrap import api
from sas_matcher.config import Settings

@asynccontextmanager
async def open_stores(*arguments):
    await fails()
    yield

api.open_stores = open_stores
uvicorn.Server(uvicorn.Config(api.api(Settings()), port=0, log_config=None, lifespan="on")).run()
""",
    "a task that nobody waits for": """
import gc
async def forget():
    asyncio.create_task(fails())
    await asyncio.sleep(0.1)
    gc.collect()
    asyncio.get_running_loop().call_soon(lambda what: refuse(), "CANARY")
    await asyncio.sleep(0.1)
asyncio.run(forget())
""",
    "what led to it": "try:\n    refuse()\nexcept ValueError as before:\n    raise KeyError('CANARY') from before",
    "a thread": "thread = threading.Thread(target=refuse); thread.start(); thread.join()",
    "what is ignored": "class Left:\n    def __del__(self):\n        refuse()\nLeft()",
    "a library": "import logging; logging.warning('Row %s', 'CANARY'); logging.warning('So:\\nCANARY'); refuse()",
}


@pytest.mark.parametrize("death", DEATHS)
def test_what_a_process_dies_of_does_not_tell_what_was_sent(death: str) -> None:
    """An error's words hold values: the ledger's tells the row that it refused."""
    ended = subprocess.run(
        [sys.executable, "-c", BEGIN + DEATHS[death]], capture_output=True, text=True, timeout=60, check=False
    )
    assert "CANARY" not in ended.stderr + ended.stdout
    lines = [json.loads(line) for line in ended.stderr.splitlines()]
    told = [error for line in lines for error in line.get("exception", line.get("causes", []))]
    assert any(error["kind"] == "ValueError" and error["where"][-1].endswith("refuse") for error in told), lines
