"""A short load test of a whole service: it passes, and its auditor sees it when the service breaks its word."""

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.request import urlopen

import asyncpg
import pytest

from sas_matcher.bootstrap.access import issue_key
from sas_matcher.bootstrap.stores import open_stores
from sas_matcher.config import Settings
from sas_matcher.domain.vocabulary import Role
from sas_matcher.services.keys import KeyWish
from sas_matcher.supervise import Service
from tests.conftest import blocking

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 6
START_S = 60


class Running(NamedTuple):
    """A service with keys."""

    settings: Settings
    regulator: str
    practice: str
    out: Path


@pytest.fixture
def service(database_url: str, redis_url: str, tmp_path: Path) -> Iterator[Running]:
    """A whole service on the session's servers."""
    wanted = Settings(
        database_url=database_url,
        redis_url=redis_url,
        port=0,
        territories=("69",),
        rate=1e6,
        burst=1e6,
        log_level="error",
    )

    async def keys(settings: Settings) -> tuple[str, str]:
        async with open_stores(settings) as stores:
            _, regulator = await issue_key(stores, KeyWish(Role.REGULATOR, "Régulation", ["*"]))
            _, practice = await issue_key(stores, KeyWish(Role.MANAGER, "Éditeur", professionals=["*"]))
            return regulator, practice

    with Service(wanted) as running:
        deadline = time.monotonic() + START_S
        while not ready(running.settings.port):
            assert time.monotonic() < deadline
            running.look()
            time.sleep(0.1)
        regulator, practice = blocking(keys(running.settings))
        yield Running(running.settings, regulator, practice, tmp_path / "rapport")


def ready(port: int) -> bool:
    """Whether the service can serve."""
    try:
        with urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def load(service: Running) -> subprocess.CompletedProcess[str]:
    """Let people call for some seconds in one territory, as many as in a whole region."""
    command = [sys.executable, "-m", "loadtests", "--scenario", "S0", "--minutes", str(SECONDS / 60), "--times", "2000"]
    command += ["--url", f"http://127.0.0.1:{service.settings.port}", "--territories", "69", "--policy", "firm"]
    command += ["--key-regulator", service.regulator, "--key-practice", service.practice, "--out", str(service.out)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS + 80, check=False)


async def break_promises(url: str, stop: threading.Event) -> None:
    """Undo what was confirmed behind the service's back, again and again."""
    connection = await asyncpg.connect(url)
    try:
        while not stop.is_set():
            async with connection.transaction():
                await connection.execute(
                    "update request set status = 'cancelled', booking_id = null where status = 'firm'"
                )
                await connection.execute(
                    "update booking set state = 'cancelled', ended_at = now() where state = 'firm'"
                )
            await asyncio.sleep(0.2)
    finally:
        await connection.close()


def test_people_at_work_are_served_and_the_auditor_finds_nothing(service: Running) -> None:
    done = load(service)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Aucune place donnée deux fois, aucune confirmation perdue, aucune promesse rompue" in done.stdout
    page = (service.out / "index.html").read_text("utf-8")
    assert "Réussi" in page
    assert service.regulator not in page
    assert not (service.out / "plan.json").exists()  # it holds keys
    for measure in ("demande → décision poussée", "POST …/confirm", "POST /v1/slots"):
        assert f"| {measure} |" in done.stdout


def test_the_auditor_sees_a_lost_confirmation(service: Running) -> None:
    stop = threading.Event()
    breaker = threading.Thread(target=lambda: asyncio.run(break_promises(service.settings.database_url, stop)))
    breaker.start()
    try:
        done = load(service)
    finally:
        stop.set()
        breaker.join()
    assert done.returncode == 1, done.stdout + done.stderr
    assert "FAUTE : request" in done.stdout
