"""``sas-matcher serve`` and ``keys`` as an operator uses them, on embedded servers."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from tests.e2e.test_demo import START_S, environment, gone, left_behind

pytestmark = pytest.mark.timeout(400)


def program(data: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sas_matcher.cli", *arguments, "--data", str(data)],
        capture_output=True,
        text=True,
        timeout=START_S,
        env=environment(data),
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
    data, port = tmp_path / "data", free_port()
    serving = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "sas_matcher.cli",
            "serve",
            "--data",
            str(data),
            "--port",
            str(port),
            "--territories",
            "48",
        ],
        stderr=subprocess.DEVNULL,
        env=environment(data),
        start_new_session=True,
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as http:
            wait_for(http, "/readyz", 200)
            issued = program(data, "keys", "issue", "--role", "osnp", "--name", "SAS 48", "--territory", "48")
            assert issued.returncode == 0, issued.stderr
            key = issued.stdout.strip()
            assert "ne sera plus affichée" in issued.stderr
            http.headers["Authorization"] = f"Bearer {key}"
            assert http.get("/v1/me").json()["territories"] == ["48"]
            key_id = key.split("_")[1]
            assert program(data, "keys", "revoke", key_id).returncode == 0
            wait_for(http, "/v1/me", 401)
            listed = program(data, "keys", "list").stdout
            assert key_id in listed and "révoquée le" in listed and "SAS 48" in listed
            assert key.split("_", 2)[2] not in listed, "the secret is shown once"
            assert serving.poll() is None, "looking after keys must not stop the service"
        os.kill(serving.pid, signal.SIGTERM)
        assert serving.wait(30) == 0
    finally:
        if serving.poll() is None:
            serving.kill()
            serving.wait()
    assert gone(data), left_behind(data)
