"""``sas-matcher serve`` and ``keys`` as an operator uses them, on embedded servers."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx

from tests.e2e.test_demo import START_S, environment, gone, left_behind


def program(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sas_matcher.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=START_S,
        env=environment(),
        check=False,
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(http: httpx.Client, path: str, status: int) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            if http.get(path).status_code == status:
                return
        except httpx.TransportError:
            pass
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_service_is_started_given_keys_and_stopped(tmp_path: Path) -> None:
    """Keys are made and revoked beside the running service, on the same embedded servers."""
    tmp_path.chmod(0o755)
    data, port = str(tmp_path / "data"), free_port()
    serving = subprocess.Popen(
        [sys.executable, "-m", "sas_matcher.cli", "serve", "--data", data, "--port", str(port), "--territories", "48"],
        stderr=subprocess.DEVNULL,
        env=environment(),
        start_new_session=True,
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as http:
            wait_for(http, "/readyz", 200)
            issued = program("keys", "issue", "--role", "osnp", "--name", "SAS 48", "--territory", "48", "--data", data)
            assert issued.returncode == 0, issued.stderr
            key = issued.stdout.strip()
            assert "ne sera plus affichée" in issued.stderr
            http.headers["Authorization"] = f"Bearer {key}"
            assert http.get("/v1/me").json()["territories"] == ["48"]
            listed = program("keys", "list", "--data", data)
            key_id = key.split("_")[1]
            assert key_id in listed.stdout and "en vigueur" in listed.stdout
            assert key.split("_", 2)[2] not in listed.stdout, "the secret is shown once"
            assert program("keys", "revoke", key_id, "--data", data).returncode == 0
            wait_for(http, "/v1/me", 401)
            again = program("keys", "revoke", key_id, "--data", data)
            assert (again.returncode, again.stderr.count("\n")) == (1, 1)
            assert f"aucune clé en vigueur ne s'appelle « {key_id} »" in again.stderr
            assert serving.poll() is None, "looking after keys must not stop the service"
        os.kill(serving.pid, signal.SIGTERM)
        assert serving.wait(30) == 0
    finally:
        if serving.poll() is None:
            serving.kill()
            serving.wait()
    assert gone(tmp_path), left_behind(tmp_path)


def test_a_key_must_be_bound(tmp_path: Path) -> None:
    """Refused before any server is started."""
    done = program("keys", "issue", "--role", "osnp", "--name", "n", "--data", str(tmp_path))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "doit être rattachée à un territoire" in done.stderr
