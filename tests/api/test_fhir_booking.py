"""The booking page that a slot leads to: who is let in, who is sent to sign in, and the addresses as they come."""

from collections.abc import AsyncIterator
from typing import Final
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request

from adapters.fhir.booking import STATE_LIFE_S, BookingEntry, Client, Entry, state_name
from tests.api.conftest import settings_for
from tests.api.running import Running, run_service
from tests.conftest import Servers

PLACE: Final = "10000000001-00112233445566ff"
PSC: Final = "https://wallet.bas.psc.example/auth"


@pytest.fixture(scope="module")
async def entry(servers: Servers) -> AsyncIterator[Running]:
    database_url = servers.new_database()
    settings = settings_for(
        database_url,
        servers.new_redis(),
        sso_origins=("sas", "sas-preprod"),
        psc_authorize=PSC,
        psc_client="sas-matcher",
        psc_redirect="https://sas.example/sas/retour",
    )
    async with run_service(settings, with_core=False) as running:
        yield running
    servers.drop_database(database_url)


async def get(entry: Running, path: str) -> httpx.Response:
    async with httpx.AsyncClient(base_url=entry.url, trust_env=False) as http:
        return await http.get(path)


@pytest.mark.parametrize(
    "path",
    [
        f"/sas/agenda?lieu={PLACE}&origin=sas",
        f"/sas/agenda?lieu={PLACE}&origin=sas-preprod",
        f"/sas/agenda?lieu={PLACE}&vue=jour&origin=sas#ancre",
        # appended without looking for a "?"
        f"/sas/agenda/lieu={PLACE}&origin=sas",
        f"/sas/agenda&lieu={PLACE}&origin=sas-preprod",
        "/sas/agenda?lieu=00112233445566ff&origin=sas",  # an SOS site
    ],
)
async def test_whoever_comes_from_the_platform_is_sent_to_sign_in(entry: Running, path: str) -> None:
    answer = await get(entry, path)
    assert answer.status_code == 302, answer.text
    assert answer.headers["location"].startswith(f"{PSC}?")
    assert answer.headers["cache-control"] == "no-store"
    query = dict(parse_qsl(urlsplit(answer.headers["location"]).query))
    assert (
        query.items()
        >= {
            "response_type": "code",
            "client_id": "sas-matcher",
            "redirect_uri": "https://sas.example/sas/retour",
            "scope": "openid scope_all",
            "acr_values": "eidas1",
        }.items()
    )
    kept = await entry.stores.bus.take_once(state_name(query["state"]))
    assert kept is not None and kept.split()[0] == query["nonce"] and kept.split()[1] in ("sas", "sas-preprod")
    assert await entry.stores.bus.take_once(state_name(query["state"])) is None, "a state is good once"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        (f"/sas/agenda?lieu={PLACE}", 403),
        ("/sas/agenda", 403),
        (f"/sas/agenda?lieu={PLACE}&origin=", 403),
        (f"/sas/agenda?lieu={PLACE}&origin=ailleurs", 403),
        (f"/sas/agenda?lieu={PLACE}&origin=sas&origin=ailleurs", 403),
        ("/sas/agenda?origin=sas", 404),
        ("/sas/agenda?lieu=<script>&origin=sas", 404),
    ],
)
async def test_other_entries_grant_nothing(entry: Running, path: str, status: int) -> None:
    answer = await get(entry, path)
    assert answer.status_code == status and "location" not in answer.headers
    assert answer.headers["content-type"].startswith("text/html") and "<script>" not in answer.text


async def test_every_state_is_new(entry: Running) -> None:
    locations = {(await get(entry, f"/sas/agenda?lieu={PLACE}&origin=sas")).headers["location"] for _ in range(5)}
    assert len(locations) == 5 and STATE_LIFE_S <= 600


async def test_without_a_sign_in_page_nobody_gets_in(service: Running) -> None:
    assert (await get(service, f"/sas/agenda?lieu={PLACE}&origin=sas")).status_code == 403, "no origin is let in"
    alone = BookingEntry(frozenset({"sas"}), Client(), lambda: "x")
    transport = httpx.ASGITransport(Starlette(routes=alone.routes()))
    async with httpx.AsyncClient(transport=transport, base_url="http://a.example") as http:
        assert (await http.get(f"/sas/agenda?lieu={PLACE}&origin=sas")).status_code == 503


async def test_who_is_signed_in_goes_straight_to_the_agenda() -> None:
    class Signed:
        async def regulator(self, request: Request, origin: str) -> str | None:
            return "regine" if request.cookies.get("session") == "ok" and origin == "sas" else None

        def agenda_url(self, entry: Entry, regulator: str) -> str:
            return f"/console/agenda/{entry.place}"

    door = BookingEntry(frozenset({"sas", "sas-preprod"}), Client(PSC, "c", "r"), lambda: "x", Signed())

    async def keep(request: Request, name: str, value: str, seconds: int) -> None:
        assert value.endswith(PLACE)

    door.keep = keep
    transport = httpx.ASGITransport(Starlette(routes=door.routes()))
    async with httpx.AsyncClient(transport=transport, base_url="http://a.example", cookies={"session": "ok"}) as http:
        straight = await http.get(f"/sas/agenda?lieu={PLACE}&origin=sas")
        assert (straight.status_code, straight.headers["location"]) == (303, f"/console/agenda/{PLACE}")
        other = await http.get(f"/sas/agenda?lieu={PLACE}&origin=sas-preprod")
        assert other.headers["location"].startswith(PSC), "the session is of the other environment"
        assert (await http.get(f"/sas/agenda?lieu={PLACE}")).status_code == 403, "never without an origin"
