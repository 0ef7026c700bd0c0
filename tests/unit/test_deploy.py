"""The compose file is valid by the official schema, and safe by our own rules. It is not started here: no engine."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]


def _check(path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    return loaded


def test_compose_file_is_valid() -> None:
    """The schema accepts it."""
    result = _check(ROOT / "docker-compose.yml")
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_check_finds_a_misspelt_key(tmp_path: Path) -> None:
    """The check is not blind: a misspelt key is refused."""
    broken = tmp_path / "docker-compose.yml"
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    broken.write_text(text.replace("depends_on:", "dependson:"), encoding="utf-8")
    assert _check(broken).returncode != 0


def test_every_service_has_a_health_check_and_restarts(compose: dict[str, Any]) -> None:
    """A dead service is seen and comes back."""
    for name, service in compose["services"].items():
        assert service["healthcheck"]["test"], name
        assert service["restart"] == "unless-stopped", name


def test_only_the_app_listens_and_only_on_loopback(compose: dict[str, Any]) -> None:
    """The stores are on an internal network; the app is published on loopback, behind the operator's proxy."""
    published = {name: service.get("ports", []) for name, service in compose["services"].items()}
    assert published["postgres"] == published["valkey"] == []
    assert all(port.startswith("127.0.0.1:") for port in published["app"])
    assert compose["networks"]["stores"]["internal"] is True


def test_no_password_stands_in_the_file(compose: dict[str, Any]) -> None:
    """Passwords come from secret files only."""
    assert set(compose["secrets"]) == {"postgres_password", "valkey_password"}
    for url in ("SAS_DATABASE_URL", "SAS_REDIS_URL"):
        assert "{" in compose["services"]["app"]["environment"][url]


def test_entrypoint_fills_in_the_secrets(tmp_path: Path) -> None:
    """The two URLs get the passwords of the files, whatever sign is in them that a URL allows."""
    script = (ROOT / "deploy" / "entrypoint.sh").read_text(encoding="utf-8")
    script = script.replace("/run/secrets", str(tmp_path)).replace("cd /app", "true")
    script = script.replace('exec python -m sas_matcher.cli "$@"', 'echo "$SAS_DATABASE_URL $SAS_REDIS_URL"')
    (tmp_path / "postgres_password").write_text("a1b2", encoding="utf-8")
    (tmp_path / "valkey_password").write_text("c3d4", encoding="utf-8")
    environment = {
        "PATH": "/usr/bin:/bin",
        "SAS_DATABASE_URL": "postgresql://sas:{postgres_password}@postgres/sas",
        "SAS_REDIS_URL": "redis://:{valkey_password}@valkey/0",
    }
    done = subprocess.run(["sh", "-c", script], env=environment, capture_output=True, text=True, timeout=10, check=True)
    assert done.stdout.split() == ["postgresql://sas:a1b2@postgres/sas", "redis://:c3d4@valkey/0"]


def test_locks_name_no_host_and_hash_everything() -> None:
    """A lock that names a host, or a package without a hash, would not be ours to ship."""
    for name in ("requirements.lock", "requirements-dev.lock"):
        text = (ROOT / name).read_text(encoding="utf-8")
        assert "://" not in text
        assert text.count("==") <= text.count("--hash=sha256:")
