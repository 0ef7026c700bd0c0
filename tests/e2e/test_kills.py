"""A service under SIGKILL: a short campaign, and nothing left behind however the parent ends.

The long campaign is ``python -m tests.race.kills --kills 50``.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.embedded.launching import ProcessId
from tests.race.kills import ROOT, ServiceProcess, data_folder, parent_of

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="relies on /proc, pidfd and PR_SET_PDEATHSIG")

GONE_S = 10.0
"""PostgreSQL writes a last checkpoint before it ends; the rest is gone at once."""


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """One folder for all services here, one after the other: databases are made and modules compiled once."""
    with data_folder() as path:
        yield path


@pytest.fixture
def service(folder: Path) -> Iterator[ServiceProcess]:
    """A whole service on embedded servers; stopped if the test has not done it."""
    running = ServiceProcess(folder)
    yield running
    running.stop()
    if running.process.stdout is not None:
        running.process.stdout.close()


def descendants(pid: int) -> list[ProcessId]:
    """Return everything that a process started, and what those started."""
    parents = {int(entry.name): parent_of(int(entry.name)) for entry in Path("/proc").iterdir() if entry.name.isdigit()}
    found, look = [], [pid]
    while look:
        parent = look.pop()
        children = [child for child, its in parents.items() if its == parent]
        found += [ProcessId.of(child) for child in children]
        look += children
    return found


def wait_until_gone(processes: list[ProcessId]) -> None:
    deadline = time.monotonic() + GONE_S
    while left := [process.pid for process in processes if process.alive()]:
        assert time.monotonic() < deadline, f"still running: {left}"
        time.sleep(0.05)


def wait_for_solver(service: ServiceProcess) -> None:
    """Wait until the core has started the solver's process: from then on it is all there."""
    deadline = time.monotonic() + 60
    # a killed core is missing until the service starts it again
    while (core := service.children().get("core")) is None or not descendants(core):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.timeout(300)
def test_a_short_campaign_of_kills_loses_and_doubles_nothing() -> None:
    """Six kills, each kind of process among them; its own report says what was found."""
    command = [sys.executable, "-m", "tests.race.kills", "--kills", "6", "--seed", "7", "--bound", "40"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 findings" in done.stdout


def test_nothing_survives_its_parent(service: ServiceProcess) -> None:
    """The solver's process ends with a killed core, everything else at a clean stop, and no file is left."""
    wait_for_solver(service)
    solvers = descendants(service.children()["core"])
    service.kill("core")
    wait_until_gone(solvers)  # it waits on a pipe that it holds itself: it would not notice
    wait_for_solver(service)
    processes = descendants(service.process.pid)
    assert service.stop() == 0
    wait_until_gone(processes)
    assert list(service.temporary.iterdir()) == []
    assert list(service.temporary.parent.glob("data/*/*.sock*")) == []


@pytest.mark.parametrize("serving", [True, False], ids=["when it serves", "while its workers start"])
def test_a_killed_parent_leaves_no_process(service: ServiceProcess, serving: bool) -> None:
    """Neither workers, nor the solver's process, nor servers: the kernel tells them."""
    if serving:
        wait_for_solver(service)
    processes = descendants(service.process.pid)
    assert len(processes) >= 4
    service.process.kill()
    service.process.wait()
    wait_until_gone(processes)


def test_a_taken_port_is_told_in_french_before_anything_starts(tmp_path: Path) -> None:
    """One line that names the port and the way out."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "sas_matcher.cli", "serve", "--port", str(port), "--data", str(tmp_path / "d")]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SAS_")}
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False
        )
    assert done.returncode not in (0, -signal.SIGKILL)
    assert f"port {port} de 127.0.0.1 n'est pas libre" in done.stderr
    assert "--port" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "d").exists()
