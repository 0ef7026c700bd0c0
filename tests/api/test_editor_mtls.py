"""A regulator's request matched to an editor's place, booked there, confirmed here: mutual TLS both ways, on the wire.

The editor is the mock editor behind real TLS that asks for our certificate; what it tells us comes through Debian's
nginx with the shipped configuration (skipped loudly where it is not installed). Certificates are made on the spot.
"""

import asyncio
import shutil
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette

from adapters.fhir import names
from adapters.fhir.appointments import Told, appointment
from adapters.fhir.mock import Manners, MockEditor, shows
from sas_matcher.bootstrap.editors import editor_polling
from tests.api.conftest import settings_for
from tests.api.running import eventually, next_spot, rpps, run_service, wish
from tests.api.test_fhir_proxy import PROXY, behind_nginx, needs_nginx
from tests.certificates import Authority
from tests.conftest import Servers
from tests.fhir_cases import OPERATOR, place, site

EDITOR: Final = "/C=FR/O=Editeur fictif/OU=318751275100099/CN=editeur.example"
US: Final = "/C=FR/O=SAS fictif/OU=318751275100020/CN=sas.example"
STRANGER: Final = "/C=FR/O=Autre/OU=318751275100021/CN=autre.example"


@asynccontextmanager
async def served(app: Starlette, certificate: tuple[Path, Path], clients: Authority | None) -> AsyncIterator[str]:
    """Serve over TLS; with ``clients`` nobody comes in without a certificate of that authority."""
    asked: dict[str, Any] = {}
    if clients is not None:
        asked = {"ssl_ca_certs": str(clients.certificate), "ssl_cert_reqs": ssl.CERT_REQUIRED}
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    config = uvicorn.Config(
        app,
        ssl_certfile=str(certificate[0]),
        ssl_keyfile=str(certificate[1]),
        log_level="error",
        lifespan="off",
        **asked,
    )
    server = uvicorn.Server(config)
    server.config.load()
    task = asyncio.create_task(server._serve([listening]))
    await eventually(lambda: server.started)
    yield f"https://localhost:{listening.getsockname()[1]}"
    server.should_exit = True
    await task


class Late:
    """An application that is named only once its addresses are known."""

    app: Starlette

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)


@needs_nginx
async def test_a_request_is_matched_booked_at_the_editor_and_confirmed_here(servers: Servers, tmp_path: Path) -> None:
    igc = Authority(tmp_path / "igc", "IGC fictive")  # vouches for all of them, as IGC-Santé does
    ours, theirs = igc.issue("us", US), igc.issue("editor", EDITOR)
    stranger = igc.issue("stranger", STRANGER)
    page = igc.issue("server", "/CN=localhost", server="DNS:localhost,IP:127.0.0.1")
    tls = tmp_path / "tls"
    tls.mkdir()
    for source, name in ((page[0], "server.pem"), (page[1], "server.key"), (igc.certificate, "clients-ca.pem")):
        shutil.copy(source, tls / name)
    shutil.copy(igc.revocations, tls / "clients-crl.pem")
    who, late = rpps(), Late()
    (tmp_path / "people.txt").write_text(f"{who}\n", encoding="utf-8")
    database_url = servers.new_database()
    async with (
        served(late, page, igc) as endpoint,  # type: ignore[arg-type]
        served(late, page, None) as pages,  # type: ignore[arg-type]
    ):
        (tmp_path / "editors.toml").write_text(
            f'[[editor]]\nname = "agenda"\nlabel = "Agenda Fictif"\nurl = "{endpoint}/fhir"\nflows = ["ps"]\n'
            f'people = "people.txt"\ncertificate = "{ours[0]}"\nkey = "{ours[1]}"\n'
            f'authorities = "{igc.certificate}"\nclients = ["editeur.example"]\n',
            encoding="utf-8",
        )
        settings = settings_for(
            database_url,
            servers.new_redis(),
            fhir_proxies=(PROXY,),
            fhir_clients=("editeur.example|318751275100099", "autre.example|318751275100021"),
            editors=str(tmp_path / "editors.toml"),
        )
        async with (
            run_service(settings) as running,
            behind_nginx(tmp_path, tls, running.url, igc) as platform,
            client(platform, igc, theirs) as editors_line,
        ):

            async def tell(document: dict[str, Any]) -> bool:
                answer = await editors_line.post("/fhir/Appointment", json=document)
                assert answer.status_code == 201, answer.text
                return True

            spot, clock = next_spot(running.geography), running.stores.clock
            where = site("s1", city=spot.name, postcode=spot.postcodes[0], structure=None)
            start = clock.now() + timedelta(hours=3)
            free = place(1, rpps=who, site=where, start=start, end=start + timedelta(minutes=15))
            steady = Manners(0, phantoms=0)
            seed = next(n for n in range(100) if shows(free, clock.now(), steady._replace(seed=n))[0])
            editor = MockEditor([free], steady._replace(seed=seed), clock.now, asyncio.sleep, pages, tell)
            late.app = editor.app()
            # our certificate opens the endpoint, none does not
            async with client(endpoint, igc) as nobody:
                with pytest.raises(httpx.TransportError):
                    await nobody.get("/fhir/metadata")
            polling = editor_polling(settings, running.stores.ledger, running.stores.bus, clock, running.geography)
            async with polling as polled:
                (asked,) = polled.editors
                await polled.poll(asked, asked.batches[0])
            regulator = await running.regulator()
            held = await regulator.ask(wish(spot))
            assert held["status"] == "held", held["decision"]
            link = held["booking"]["link"]
            assert link == f"{pages}/rdv?creneau=1&origin=sas"
            async with client(pages, igc) as browser:
                assert (await browser.get(link)).status_code == 200
                booked = {"creneau": "1", "operator": OPERATOR._asdict()}
                # another client of the same authority speaks for no editor
                async with client(platform, igc, stranger) as other:
                    told = Told(pages, "rdv-1", "booked", free.start, free.end, free.start, OPERATOR, who)
                    said = await other.post("/fhir/Appointment", json=appointment(told, free.zone))
                    assert said.status_code == 403
                assert (await regulator.request(held["request_id"]))["status"] == "held"
                assert (await browser.post("/rdv", json=booked)).status_code == 201
            document = await regulator.request(held["request_id"])
            assert document["status"] == "firm" and document["booking"]["booking_id"] == held["booking"]["booking_id"]
    servers.drop_database(database_url)


def client(url: str, authority: Authority, certificate: tuple[Path, Path] | None = None) -> httpx.AsyncClient:
    """Return a client that trusts an authority and may show a certificate."""
    context = ssl.create_default_context(cafile=str(authority.certificate))
    if certificate is not None:
        context.load_cert_chain(*(str(part) for part in certificate))
    return httpx.AsyncClient(base_url=url, verify=context, trust_env=False, headers={"Content-Type": names.JSON})
