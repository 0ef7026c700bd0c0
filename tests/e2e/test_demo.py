"""The demonstration as people start it: real servers, real decisions, and nothing left behind."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

START_S = 150.0
"""Bound of a start, or of a whole short run, on a very busy machine; an ordinary start takes 3 to 5 s."""

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data that the tests of this file hand from one start to the next."""
    path = tmp_path_factory.mktemp("demo")
    path.chmod(0o755)
    return path / "demo-48"


def command(folder: Path, *options: str) -> list[str]:
    program = [sys.executable, "-m", "sas_matcher.cli", "demo", "--departement", "48", "--plain"]
    return [*program, "--data", str(folder), *options]


def environment(folder: Path) -> dict[str, str]:
    """Return our environment without settings; compiled modules are kept, or each start would compile them again."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SAS_")}
    kept.pop("PYTHONDONTWRITEBYTECODE", None)
    return {"PYTHONPYCACHEPREFIX": str(folder.parent / "compiled")} | kept


def left_behind(folder: Path) -> list[str]:
    """Command lines of processes that still know the folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            known = (entry / "environ").read_bytes()
        except OSError:
            continue
        if int(entry.name) != os.getpid() and (str(folder) in line or os.fsencode(str(folder)) in known):
            found.append(line)
    return found


def gone(folder: Path) -> bool:
    """Tell whether every process of the demonstration has ended, giving the kernel a moment."""
    for _ in range(50):
        if not left_behind(folder):
            return True
        time.sleep(0.1)
    return False


@pytest.fixture
def running(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A demonstration without traffic that the test may stop; ended in any case."""
    process = subprocess.Popen(
        command(folder, "--port", "0", "--no-traffic"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment(folder),
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(30)
        assert process.stdout is not None
        process.stdout.close()


def read_until(process: subprocess.Popen[str], text: str) -> str:
    assert process.stdout is not None
    seen = ""
    deadline = time.monotonic() + START_S
    while text not in seen:
        line = process.stdout.readline()
        assert line and time.monotonic() < deadline, seen
        seen += line
    return seen


def test_a_day_is_played_with_real_decisions_and_ends_by_itself(folder: Path) -> None:
    done = subprocess.run(
        command(folder, "--port", "0", "--duration", "8", "--speed", "30000"),
        capture_output=True,
        text=True,
        timeout=START_S,
        env=environment(folder),
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"^Prêt en [\d.]+ s : \d+ places libres\.$", done.stdout, re.MULTILINE), done.stdout
    decisions = re.findall(r"^\d\d:\d\d:\d\d  place +T\d \w+ .*Fictif", done.stdout, re.MULTILINE)
    summary = {
        word: int(n) for n, word in re.findall(r"^ +(\d+) (\D+)$", done.stdout.partition("Résumé")[2], re.MULTILINE)
    }
    assert len(decisions) >= 5
    assert summary["places gardées"] >= 5
    assert summary["confirmées"] >= 1
    assert summary["réservations reçues"] >= 1
    assert "sans réponse" not in summary and "refus du service" not in summary
    assert re.search(r"réponse à une demande : p50 \d+ ms, p95 \d+ ms, p99 \d+ ms", done.stdout)
    assert "Tout est arrêté" in done.stdout
    assert gone(folder), left_behind(folder)


def test_the_next_start_finds_its_data_serves_what_it_prints_and_stops_on_ctrl_c(
    folder: Path, running: subprocess.Popen[str]
) -> None:
    seen = read_until(running, "/v1/overview")
    assert "Données de la dernière fois retrouvées" in seen
    assert "Places retrouvées, rien à publier de plus." in seen
    ready = re.search(r"Prêt en [\d.]+ s : (\d+) places libres, (\d+) demandes des dernières 24 h", seen)
    assert ready is not None and int(ready[1]) > 0 and int(ready[2]) >= 5
    # what is printed works as printed
    url, key = re.search(r"curl -s (\S+)/v1/requests -H 'Authorization: Bearer (\S+)'", seen).groups()  # type: ignore[union-attr]
    body = re.search(r"-d '(.+)'", seen)
    assert body is not None
    headers = {"Authorization": f"Bearer {key}", "Idempotency-Key": "test-0001"}
    with httpx.Client(base_url=url, headers=headers, trust_env=False) as http:
        answer = http.post("/v1/requests", content=body[1])
        assert answer.status_code == 201
        assert answer.json()["decision"]["sentence"]
    program = [sys.executable, "-m", "sas_matcher.cli", "request", "--commune", "Mende", "--delay", "48H", "--json"]
    asked = subprocess.run(
        program, capture_output=True, text=True, env={**environment(folder), "SAS_URL": url, "SAS_KEY": key}, check=True
    )
    assert json.loads(asked.stdout)["status"] in ("held", "waiting")
    # files with keys are the user's own
    assert {(folder / name).stat().st_mode & 0o077 for name in ("demo.json", "env", "service.log")} == {0}
    os.killpg(running.pid, signal.SIGINT)  # as a terminal does it: to every process of the group
    assert running.stdout is not None
    rest = running.stdout.read()
    assert running.wait(30) == 0
    assert "Résumé" in rest and "Tout est arrêté" in rest and "Traceback" not in rest
    assert gone(folder), left_behind(folder)


def test_a_killed_demonstration_leaves_nothing_running(folder: Path, running: subprocess.Popen[str]) -> None:
    read_until(running, "le service démarre")
    running.kill()
    running.wait(10)
    assert gone(folder), left_behind(folder)


def test_a_taken_port_is_told_before_anything_starts(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = subprocess.run(
            command(tmp_path / "demo-48", "--port", str(port)),
            capture_output=True,
            text=True,
            timeout=START_S,
            env=environment(tmp_path),
            check=False,
        )
    assert done.returncode == 2
    assert f"Le port {port} de 127.0.0.1 n'est pas libre" in done.stderr and "--port" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "demo-48" / "postgres").exists()
