"""The compose file is valid by the official schema, and safe by our own rules. It is not started here: no engine."""

import gzip
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from sas_matcher.config import Settings

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


def test_compose_file_of_scale_out_is_valid() -> None:
    result = _check(ROOT / "deploy" / "compose.scale.yml")
    assert result.returncode == 0, result.stdout + result.stderr


def test_scale_out_has_as_many_matchers_as_it_says_and_publishes_nothing_but_the_api() -> None:
    text = (ROOT / "deploy" / "compose.scale.yml").read_text(encoding="utf-8")
    services = yaml.safe_load(text)["services"]
    shares = [service["environment"]["SAS_SHARE"] for name, service in services.items() if name.startswith("core-")]
    assert shares == [str(number) for number in range(int(services["api"]["environment"]["SAS_MATCHERS"]))]
    assert {name: service["ports"] for name, service in services.items() if "ports" in service} == {
        "api": ["127.0.0.1:8069:8069"]
    }
    # a primary that comes back beside the promoted replica would take bookings of its own
    assert services["postgres-a"]["restart"] == "no"
    Settings.of_environment(services["core-1"]["environment"])


SCHEMA = ROOT / "tests" / "data" / "kubernetes" / "schema.json.gz"
KINDS = {
    "Deployment": "io.k8s.api.apps.v1.Deployment",
    "StatefulSet": "io.k8s.api.apps.v1.StatefulSet",
    "Service": "io.k8s.api.core.v1.Service",
    "Job": "io.k8s.api.batch.v1.Job",
    "PodDisruptionBudget": "io.k8s.api.policy.v1.PodDisruptionBudget",
    "NetworkPolicy": "io.k8s.api.networking.v1.NetworkPolicy",
}


@pytest.fixture(scope="module")
def manifests() -> list[dict[str, Any]]:
    text = (ROOT / "deploy" / "kubernetes" / "sas-matcher.yml").read_text(encoding="utf-8")
    return list(yaml.safe_load_all(text))


def broken_rules(manifest: dict[str, Any]) -> list[str]:
    """What the strict schema of Kubernetes says against a manifest."""
    definitions = json.loads(gzip.decompress(SCHEMA.read_bytes()))["definitions"]
    schema = {"$ref": f"#/definitions/{KINDS[manifest['kind']]}", "definitions": definitions}
    return [error.message for error in jsonschema.Draft7Validator(schema).iter_errors(manifest)]


def test_kubernetes_manifests_are_valid(manifests: list[dict[str, Any]]) -> None:
    assert {manifest["kind"] for manifest in manifests} == set(KINDS)
    for manifest in manifests:
        assert broken_rules(manifest) == [], manifest["metadata"]["name"]


def test_the_schema_finds_a_misspelt_field(manifests: list[dict[str, Any]]) -> None:
    wrong = json.loads(json.dumps(manifests[0]))
    wrong["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}
    assert broken_rules(wrong)


def test_kubernetes_runs_the_same_shape_and_nothing_as_root(manifests: list[dict[str, Any]]) -> None:
    found = {(m["kind"], m["metadata"]["name"]): m for m in manifests}
    core = found["StatefulSet", "sas-core"]["spec"]
    environment = {item["name"]: item for item in core["template"]["spec"]["containers"][0]["env"]}
    assert int(environment["SAS_MATCHERS"]["value"]) == core["replicas"]
    assert environment["SAS_SHARE"]["valueFrom"]["fieldRef"]["fieldPath"].endswith("pod-index']")
    assert found["StatefulSet", "valkey"]["spec"]["replicas"] == 3
    # while Redis or the matcher is away every worker takes requests in: none of them must leave the balancer
    (api,) = found["Deployment", "sas-api"]["spec"]["template"]["spec"]["containers"]
    assert api["readinessProbe"]["httpGet"]["path"] == "/healthz"
    for manifest in manifests:
        pod = manifest["spec"].get("template", {}).get("spec")
        if pod is not None:
            assert pod["securityContext"]["runAsNonRoot"] is True
            assert all(c["securityContext"]["readOnlyRootFilesystem"] for c in pod["containers"])


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


def test_the_reverse_proxy_says_who_connects_and_drops_what_was_said_before() -> None:
    """Rates of open addresses count whom it names; a block with headers of its own would inherit none of these."""
    text = (ROOT / "deploy" / "nginx" / "sas-matcher.conf.template").read_text(encoding="utf-8")
    headers = re.findall(r"^(\s*)proxy_set_header\s+(\S+)\s+(\S+);", text, re.MULTILINE)
    assert [value for _, name, value in headers if name == "X-Real-IP"] == ["$remote_addr"]
    assert {indent for indent, _, _ in headers} == {"    "}


def test_locks_name_no_host_and_hash_everything() -> None:
    """A lock that names a host, or a package without a hash, would not be ours to ship."""
    for name in ("requirements.lock", "requirements-dev.lock"):
        text = (ROOT / name).read_text(encoding="utf-8")
        assert "://" not in text
        assert text.count("==") <= text.count("--hash=sha256:")
