"""``./sas load``: people at work on a service of this machine, watched by an auditor.

The exit code is 1 when a call failed, a seat was given twice or a confirmation was lost. Without ``--url`` a service
of its own is started on embedded servers in a temporary folder.
"""

import argparse
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.error import URLError
from urllib.request import urlopen

from loadtests.hosts import refuse_foreign

START_S: Final = 90.0
STOP_S: Final = 20.0
REGULATOR_KEYS: Final = 2
_CLI: Final = (sys.executable, "-m", "sas_matcher.cli")


def arguments(words: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="sas load", description="Test de charge d'un service de cette machine.")
    parser.add_argument("--users", type=int, default=50, help="régulateurs et cabinets, quatre pour un (50)")
    parser.add_argument("--minutes", type=float, default=1.0, help="durée (1)")
    parser.add_argument("--url", help="service à charger ; sinon un service est lancé pour l'occasion")
    parser.add_argument("--key-regulator", default=os.environ.get("SAS_KEY_REGULATOR", ""), help="clé(s) de régulation")
    parser.add_argument("--key-practice", default=os.environ.get("SAS_KEY_PRACTICE", ""), help="clé(s) d'éditeur")
    parser.add_argument("--territories", default="69,38,42", help="départements (69,38,42)")
    parser.add_argument("--seed", type=int, default=1, help="graine du hasard (1)")
    wishes = parser.parse_args(words)
    if wishes.users < 1 or wishes.minutes <= 0:
        parser.error("il faut au moins une personne et un instant")
    if wishes.url:
        refuse_foreign(wishes.url)
        if not (wishes.key_regulator and wishes.key_practice):
            parser.error("avec --url, donnez --key-regulator et --key-practice (voir sas-matcher keys issue)")
    return wishes


def _environment() -> dict[str, str]:
    """Return the environment of a service of our own: none of the user's settings, no limit of calls."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SAS_")}
    return kept | {"SAS_RATE": "1000000", "SAS_BURST": "1000000", "SAS_LOG_LEVEL": "warning"}


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def _until_ready(url: str, service: "subprocess.Popen[bytes]") -> None:
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


def _issue(data: Path, *words: str) -> str:
    """Have a key issued; returns it."""
    command = [*_CLI, "keys", "issue", "--data", str(data), *words]
    done = subprocess.run(command, env=_environment(), capture_output=True, check=False, text=True)  # noqa: S603
    if done.returncode != 0:
        raise SystemExit(f"Pas de clé : {done.stderr.strip()}")
    return done.stdout.strip()


@contextmanager
def own_service() -> Iterator[tuple[str, str, str]]:
    """Run a service on embedded servers; gives its URL, regulators' keys and the practices' key."""
    folder = Path(tempfile.mkdtemp(prefix="sas-load-"))
    folder.chmod(0o755)  # PostgreSQL may have to run as another user
    port = _free_port()
    command = [*_CLI, "serve", "--port", str(port), "--data", str(folder / "data")]
    service = subprocess.Popen(command, env=_environment(), stdin=subprocess.DEVNULL)  # noqa: S603 - our own program
    try:
        url = f"http://127.0.0.1:{port}"
        _until_ready(url, service)
        data = folder / "data"
        regulators = [
            _issue(data, "--role", "regulator", "--name", f"Régulation {number}", "--territories", "*")
            for number in range(REGULATOR_KEYS)
        ]
        practice = _issue(data, "--role", "manager", "--name", "Éditeur", "--professionals", "*")
        yield url, ",".join(regulators), practice
    finally:
        service.terminate()
        try:
            service.wait(STOP_S)
        except subprocess.TimeoutExpired:
            service.kill()
            service.wait()
        shutil.rmtree(folder, ignore_errors=True)


def load(wishes: argparse.Namespace, url: str, regulators: str, practice: str) -> int:
    """Run Locust without its web page; returns its exit code."""
    seconds = max(1, round(wishes.minutes * 60))
    command = [sys.executable, "-m", "locust", "-f", str(Path(__file__).with_name("locustfile.py"))]
    command += ["--headless", "--only-summary", "--host", url, "--loglevel", "WARNING", "--stop-timeout", "5"]
    # everyone is there within the first tenth
    command += ["--users", str(wishes.users), "--spawn-rate", str(max(1.0, wishes.users / (seconds / 10)))]
    command += ["--run-time", f"{seconds}s"]
    environment = {
        **os.environ,
        "SAS_KEY_REGULATOR": regulators,
        "SAS_KEY_PRACTICE": practice,
        "SAS_LOAD_TERRITORIES": wishes.territories,
        "SAS_LOAD_SEED": str(wishes.seed),
    }
    return subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, check=False).returncode  # noqa: S603


def main(words: Sequence[str]) -> int:
    """Run the load test; returns the exit code."""
    wishes = arguments(words)
    if wishes.url:
        return load(wishes, wishes.url, wishes.key_regulator, wishes.key_practice)
    with own_service() as (url, regulators, practice):
        return load(wishes, url, regulators, practice)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
