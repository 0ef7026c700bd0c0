"""A service of our own for a load test: its processes are started, watched and ended here, through its command line."""

import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.error import URLError
from urllib.request import urlopen

from loadtests.clock import VARIABLE

START_S: Final = 90.0
STOP_S: Final = 20.0
CLI: Final = (sys.executable, "-m", "sas_matcher.cli")
DESKS: Final = 16
EDITOR_SHARE: Final = 0.3
"""Share of the invented practitioners of a département whose agenda is with the mock editor."""
RECORDED_S: Final = 3.0
"""For the recorder to read what was announced last: it waits a second for batches that belong to it."""
_PR_SET_PDEATHSIG: Final = 1


def _with_parent() -> None:
    """Have this child ended when its parent dies, however that happens (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)


def start(command: Sequence[str], environment: dict[str, str], **streams: Any) -> "subprocess.Popen[bytes]":
    """Start a program of ours; it is told to end when this process dies, and Ctrl-C reaches it through us only."""
    return subprocess.Popen(  # noqa: S603 - our own program
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        preexec_fn=_with_parent,  # noqa: PLW1509 - one thread, one call of the C library
        start_new_session=True,
        **streams,
    )


def stop(process: "subprocess.Popen[bytes]") -> None:
    """Ask a program to end, then insist."""
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGCONT)  # it may have been paused
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def until_ready(url: str, service: "subprocess.Popen[bytes]") -> None:
    """Wait until a service says that it is ready.

    Raises:
        SystemExit: it ended, or does not say so.
    """
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if service.poll() is not None:
            raise SystemExit("Le service n'a pas démarré (voir ci-dessus).")
        try:
            with urlopen(url + "/readyz", timeout=5):  # noqa: S310 - our own address
                return
        except (URLError, OSError):
            time.sleep(0.1)
    raise SystemExit("Le service n'est pas prêt après une minute et demie.")


@dataclass
class Hosted:
    """A running service and what is needed to load it.

    Attributes:
        url: where it listens.
        regulators: one key a desk.
        practice, coordinator: keys.
        editor: process number of the mock editor; 0: none.
        days: folder of the recorded days; None: nobody records.
    """

    url: str
    regulators: list[str]
    practice: str
    coordinator: str
    editor: int
    days: Path | None
    environment: dict[str, str]
    data: list[str]
    recorder: "subprocess.Popen[bytes] | None" = None

    def run(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """Run a command of the service's command line."""
        return subprocess.run([*CLI, *words], env=self.environment, capture_output=True, text=True, check=False)  # noqa: S603

    def keys(self, role: str, name: str, count: int, *bound: str) -> list[str]:
        """Have keys issued.

        Raises:
            SystemExit: they cannot be.
        """
        done = self.run("keys", "issue", "--role", role, "--name", name, "--count", str(count), *bound, *self.data)
        if done.returncode != 0:
            raise SystemExit(f"Pas de clé : {done.stderr.strip()}")
        return done.stdout.split()

    def ledger(self) -> dict[str, int]:
        """Return the ledger's own count of what must never be."""
        done = self.run("audit", *self.data)
        if not done.stdout.strip():
            return {"not read": 1}
        found: dict[str, int] = json.loads(done.stdout)
        return found

    def optimum(self, out: Path) -> dict[str, Any] | None:
        """Stop recording, return the hindsight of the recorded days as one; None when nobody recorded."""
        if self.recorder is None or self.days is None:
            return None
        time.sleep(RECORDED_S)
        stop(self.recorder)
        files = [str(file) for file in sorted(self.days.glob("*/*.jsonl")) if not file.name.endswith(".batches.jsonl")]
        if not files:
            return None
        done = self.run("optimum", *files, "--together", "--out", str(out))
        if done.returncode != 0:
            print(f"Pas d'optimum : {done.stderr.strip()}", file=sys.stderr)  # noqa: T201
            return None
        found: dict[str, Any] = json.loads(out.read_text("utf-8"))
        return found


def service_environment(ahead: float) -> dict[str, str]:
    """Return the environment of a service of our own: none of the user's settings, no limit of calls."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SAS_")}
    settings = {"SAS_RATE": "1000000", "SAS_BURST": "1000000", "SAS_LOG_LEVEL": "error"}
    return kept | settings | {VARIABLE: f"{ahead:.0f}"}


@contextmanager
def own_service(ahead: float, out: Path, *, editor: str = "", desks: int = DESKS, workers: int = 1) -> Iterator[Hosted]:
    """Run a service on embedded servers, recorded, with a mock editor of a département where one is named."""
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="sas-load-"))
        folder.chmod(0o755)  # PostgreSQL may have to run as another user
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        environment = service_environment(ahead)
        editor_process = 0
        if editor:
            port = free_port()
            command = [*CLI, "mock-editor", "-d", editor, "--port", str(port), "--write", str(folder / "editor")]
            command += ["--share", str(EDITOR_SHARE)]
            mock = start(command, environment, stdout=subprocess.DEVNULL)
            stack.callback(stop, mock)
            editor_process = mock.pid
            _until_written(folder / "editor" / "editeurs.toml", mock)
            environment["SAS_EDITORS"] = str(folder / "editor" / "editeurs.toml")
        url = f"http://127.0.0.1:{(port := free_port())}"
        data = ["--data", str(folder / "data")]
        service = start([*CLI, "serve", "--port", str(port), "--workers", str(workers), *data], environment)
        stack.callback(stop, service)
        until_ready(url, service)
        days = out / "jours"
        hosted = Hosted(url, [], "", "", editor_process, days, environment, data)
        hosted.regulators = hosted.keys("regulator", "Régulation", desks, "--territories", "*")
        (hosted.practice,) = hosted.keys("manager", "Éditeur", 1, "--professionals", "*")
        (hosted.coordinator,) = hosted.keys("ars", "Pilotage", 1, "--territories", "*")
        hosted.recorder = start([*CLI, "record", "--out", str(days), *data], environment, stdout=subprocess.DEVNULL)
        stack.callback(stop, hosted.recorder)
        yield hosted


def _until_written(file: Path, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + START_S
    while not file.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit("L'éditeur fictif n'a pas démarré.")
        time.sleep(0.1)
