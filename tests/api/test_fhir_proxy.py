"""Mutual TLS: the shipped nginx configuration in front of a service, and headers that are believed from nowhere else.

Needs Debian's nginx (``SAS_TEST_NGINX`` names another binary) and openssl; skipped loudly where they are not installed.
"""

import asyncio
import os
import shutil
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any, Final

import httpx
import pytest

from adapters.fhir.access import Access, AllowedName, allowed_names, subject_of
from sas_matcher.domain.errors import NotAllowedError, NotAuthenticatedError
from tests.api.conftest import settings_for
from tests.api.running import eventually, run_service
from tests.certificates import Authority
from tests.conftest import Servers

TEMPLATE: Final = Path(__file__).parents[2] / "deploy" / "nginx" / "sas-matcher.conf.template"
NGINX: Final = os.environ.get("SAS_TEST_NGINX") or shutil.which("nginx") or ""
PROXY: Final = "127.0.0.2"  # all of 127/8 is this machine: the proxy's address can be told from a neighbour's
GOOD: Final = "/C=FR/O=ANS fictive/OU=318751275100020/CN=plateforme, sas.example"
ALLOWED: Final = ("plateforme, sas.example|318751275100020",)
SUBJECT: Final = r"CN=plateforme\, sas.example,OU=318751275100020,O=ANS fictive,C=FR"
needs_nginx = pytest.mark.skipif(
    not (NGINX and shutil.which("openssl")),
    reason="nginx (Debian) ou openssl n'est pas installé : TLS mutuel NON testé",
)


def filled(template: str, values: Mapping[str, str]) -> str:
    """Fill the template as envsubst does: nothing but the names it is given."""
    text = template
    for name, value in values.items():
        text = text.replace(f"${{{name}}}", value)
    assert "${" not in text
    return text


def start(line: list[str]) -> subprocess.Popen[bytes]:
    """Start a program."""
    return subprocess.Popen(line, stderr=subprocess.PIPE)


def run(line: list[str]) -> subprocess.CompletedProcess[bytes]:
    """Run a program to its end."""
    return subprocess.run(line, input=b"", capture_output=True, timeout=20, check=False)


@dataclass
class Proxied:
    """A service behind nginx."""

    url: str
    direct: str
    key: str
    clients: Authority
    server: Authority

    def client(self, certificate: tuple[Path, Path] | None = None, **tls: Any) -> httpx.AsyncClient:
        """Return a client that shows a certificate."""
        context = ssl.create_default_context(cafile=str(self.server.certificate))
        for name, value in tls.items():
            setattr(context, name, value)
        if certificate is not None:
            context.load_cert_chain(*(str(part) for part in certificate))
        return httpx.AsyncClient(base_url=self.url, verify=context, trust_env=False)


@asynccontextmanager
async def behind_nginx(folder: Path, tls: Path, upstream: str, server: Authority) -> AsyncIterator[str]:
    """Run nginx with the shipped configuration before a service; returns its address once it answers.

    Args:
        folder: for its files.
        tls: folder with the certificates that the configuration names.
        upstream: address of the service.
        server: authority of nginx's own certificate.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    values = {
        "SAS_LISTEN": f"127.0.0.1:{port}",
        "SAS_SERVER_NAME": "localhost",
        "SAS_UPSTREAM": upstream.removeprefix("http://"),
        "SAS_PROXY_ADDRESS": PROXY,
        "SAS_TLS": str(tls),
    }
    (folder / "site.conf").write_text(filled(TEMPLATE.read_text(encoding="utf-8"), values), encoding="utf-8")
    main = Template(
        "daemon off; user root; pid $f/pid; error_log $f/error.log;\nevents {}\nhttp { access_log off;\n"
        "client_body_temp_path $f/a; proxy_temp_path $f/b; fastcgi_temp_path $f/c; uwsgi_temp_path $f/d;\n"
        "scgi_temp_path $f/e; include $f/site.conf; }\n"
    ).substitute(f=folder)
    (folder / "nginx.conf").write_text(main, encoding="utf-8")
    process = start([NGINX, "-p", str(folder), "-c", str(folder / "nginx.conf")])
    url = f"https://localhost:{port}"
    context = ssl.create_default_context(cafile=str(server.certificate))
    try:
        async with httpx.AsyncClient(base_url=url, verify=context, trust_env=False) as http:

            async def up() -> bool:
                try:
                    return (await http.get("/healthz")).status_code == 200
                except httpx.TransportError:
                    assert process.poll() is None, process.stderr and process.stderr.read().decode()
                    return False

            await eventually(up)
        yield url
    finally:
        process.terminate()
        process.wait(10)
        if process.stderr is not None:
            process.stderr.close()


@pytest.fixture(scope="module")
async def proxied(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Proxied]:
    folder = tmp_path_factory.mktemp("nginx")
    server, clients = Authority(folder / "server"), Authority(folder / "clients", "IGC fictive")
    tls = folder / "tls"
    tls.mkdir()
    certificate, key = server.issue("server", "/CN=localhost", server="DNS:localhost,IP:127.0.0.1")
    for source, name in ((certificate, "server.pem"), (key, "server.key"), (clients.certificate, "clients-ca.pem")):
        shutil.copy(source, tls / name)
    revoked = clients.issue("revoked", GOOD)
    clients.revoke(revoked[0])
    shutil.copy(clients.revocations, tls / "clients-crl.pem")
    database_url = servers.new_database()
    settings = settings_for(
        database_url, servers.new_redis(), fhir_proxies=(PROXY,), fhir_clients=ALLOWED, public_url="https://sas.example"
    )
    async with (
        run_service(settings, with_core=False) as running,
        behind_nginx(folder, tls, running.url, server) as url,
    ):
        caller = await running.key("fhir")
        yield Proxied(url, running.url, caller.token, clients, server)
    servers.drop_database(database_url)


@needs_nginx
async def test_the_platforms_certificate_opens_fhir(proxied: Proxied) -> None:
    async with proxied.client(proxied.clients.issue("good", GOOD)) as http:
        answer = await http.get("/fhir/metadata")
        assert answer.status_code == 200, answer.text
        assert answer.json()["implementation"]["url"] == "https://sas.example/fhir"
        created = await http.put("/fhir/Practitioner?identifier=x", json={})
        assert created.status_code == 400, "it reaches the service, which answers for itself"


@needs_nginx
@pytest.mark.parametrize(
    ("what", "subject"),
    [
        ("another name", GOOD.replace("plateforme", "autre")),
        ("another unit", GOOD.replace("318751275100020", "318751275100021")),
        ("no unit", "/CN=plateforme, sas.example"),
        ("the unit inside the name", "/CN=plateforme, sas.example,OU=318751275100020"),
    ],
)
async def test_other_subjects_of_the_right_authority_are_refused(proxied: Proxied, what: str, subject: str) -> None:
    async with proxied.client(proxied.clients.issue(what.replace(" ", "-"), subject)) as http:
        answer = await http.get("/fhir/metadata")
        assert (answer.status_code, answer.json()["resourceType"]) == (403, "OperationOutcome"), what


@needs_nginx
async def test_no_certificate_a_revoked_one_or_one_of_another_authority(proxied: Proxied, tmp_path: Path) -> None:
    folder = proxied.clients.folder
    stranger = Authority(tmp_path / "stranger", "IGC fictive").issue("good", GOOD)
    for certificate in (None, (folder / "revoked.pem", folder / "revoked.key"), stranger):
        async with proxied.client(certificate) as http:
            answer = await http.get("/fhir/metadata")
            assert (answer.status_code, answer.json()["resourceType"]) == (401, "OperationOutcome"), certificate


@needs_nginx
async def test_forged_headers_are_replaced_by_the_proxy(proxied: Proxied) -> None:
    forged = {"X-Client-Verify": "SUCCESS", "X-Client-Subject": SUBJECT, "X-Forwarded-For": PROXY}
    async with proxied.client() as http:
        assert (await http.get("/fhir/metadata", headers=forged)).status_code == 401
    async with proxied.client(proxied.clients.issue("other", "/CN=autre/OU=1")) as http:
        assert (await http.get("/fhir/metadata", headers=forged)).status_code == 403


@needs_nginx
async def test_old_protocols_are_refused(proxied: Proxied) -> None:
    old: dict[str, Any] = {"minimum_version": ssl.TLSVersion.TLSv1_2, "maximum_version": ssl.TLSVersion.TLSv1_2}
    async with proxied.client(**old) as http:
        assert (await http.get("/healthz")).status_code == 200
        assert (await http.get("/metrics")).status_code == 404, "for the monitoring, not for the world"
    for protocol in ("-tls1", "-tls1_1"):
        address = proxied.url.removeprefix("https://")
        line = ["openssl", "s_client", protocol, "-cipher", "ALL:@SECLEVEL=0", "-connect", address]
        done = await asyncio.to_thread(run, line)
        assert b"Cipher is (NONE)" in done.stdout or done.returncode != 0, protocol


@needs_nginx
async def test_a_key_works_without_a_certificate(proxied: Proxied) -> None:
    async with proxied.client() as http:
        answer = await http.get("/fhir/metadata", headers={"Authorization": f"Bearer {proxied.key}"})
        assert answer.status_code == 200


# -- without nginx ---------------------------------------------------------------------------------------------------


async def test_headers_are_believed_from_the_proxy_alone(servers: Servers) -> None:
    database_url = servers.new_database()
    settings = settings_for(database_url, servers.new_redis(), fhir_proxies=(PROXY,), fhir_clients=ALLOWED)
    headers = {"X-Client-Verify": "SUCCESS", "X-Client-Subject": SUBJECT}
    async with run_service(settings, with_core=False) as running:
        for address, forwarded, status in (
            (PROXY, {}, 200),
            ("127.0.0.1", {}, 401),
            ("127.0.0.3", {}, 401),
            # what a proxy would say of its own clients changes nothing of who connects
            ("127.0.0.1", {"X-Forwarded-For": PROXY, "Forwarded": f"for={PROXY}", "X-Real-IP": PROXY}, 401),
        ):
            transport = httpx.AsyncHTTPTransport(local_address=address)
            async with httpx.AsyncClient(transport=transport, base_url=running.url, trust_env=False) as http:
                answer = await http.get("/fhir/metadata", headers={**headers, **forwarded})
                assert answer.status_code == status, (address, forwarded)
                failed = await http.get("/fhir/metadata", headers={**headers, "X-Client-Verify": "FAILED:revoked"})
                assert failed.status_code == 401
    servers.drop_database(database_url)


async def test_nobody_is_allowed_by_default() -> None:
    async def by_key(header: str) -> str:
        raise NotAuthenticatedError

    spent: list[str] = []
    headers = {"x-client-verify": "SUCCESS", "x-client-subject": SUBJECT}
    closed = Access(by_key, spent.append, (PROXY,), frozenset())
    with pytest.raises(NotAllowedError):
        await closed.admit(PROXY, headers)
    untrusting = Access(by_key, spent.append, (), allowed_names(ALLOWED))
    for peer in (PROXY, None, ""):
        with pytest.raises(NotAuthenticatedError):
            await untrusting.admit(peer, headers)
    assert spent == []
    opened = Access(by_key, spent.append, (PROXY,), allowed_names(ALLOWED))
    assert await opened.admit(PROXY, headers) == "plateforme, sas.example"
    assert spent == ["certificat plateforme, sas.example"], "a certificate has a rate, as a key has"


@pytest.mark.parametrize(
    ("text", "attributes"),
    [
        (SUBJECT, {"CN": ["plateforme, sas.example"], "OU": ["318751275100020"], "O": ["ANS fictive"], "C": ["FR"]}),
        ("CN=a+OU=b", {"CN": ["a"], "OU": ["b"]}),
        ("OU=a,OU=b,CN=c", {"OU": ["a", "b"], "CN": ["c"]}),
        (r"CN=r\C3\A9gulation", {"CN": ["régulation"]}),
        (r"CN=a\,OU=b", {"CN": ["a,OU=b"]}),
        ("CN", {}),
        ("=x", {}),
        ("", {}),
    ],
)
def test_distinguished_names(text: str, attributes: dict[str, list[str]]) -> None:
    assert subject_of(text) == attributes


async def test_two_common_names_are_one_too_many() -> None:
    async def by_key(header: str) -> str:
        raise NotAuthenticatedError

    access = Access(by_key, lambda name: None, (PROXY,), frozenset({AllowedName("a", "u")}))
    with pytest.raises(NotAllowedError):
        await access.admit(PROXY, {"x-client-verify": "SUCCESS", "x-client-subject": "CN=a,CN=b,OU=u"})


@pytest.mark.parametrize("text", ["", "a", "a|", "|b"])
def test_the_allow_list_names_both(text: str) -> None:
    with pytest.raises(ValueError, match="CN"):
        allowed_names([text])
