"""Whom the bounded rates of open addresses count: who connects, or whom our own reverse proxy says it speaks for."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Final
from unittest.mock import patch

import httpx
import pytest

from adapters.redis import keys
from sas_matcher.api.wire import peer_name
from sas_matcher.bootstrap.access import accounts_of
from sas_matcher.domain.vocabulary import Role
from sas_matcher.services import accounts as accounts_module
from sas_matcher.services.keys import KeyWish
from tests.api.conftest import settings_for
from tests.api.running import Running, run_service
from tests.conftest import Servers

OPENINGS: Final = 30  # at once, of one address (``bootstrap.api``)
PROXY: Final = "127.0.0.2"  # all of 127/8 is this machine: the proxy's address can be told from a neighbour's


@pytest.fixture(scope="module")
async def behind(servers: Servers) -> AsyncIterator[Running]:
    """A service that believes one proxy."""
    database_url = servers.new_database()
    settings = settings_for(
        database_url,
        servers.new_redis(),
        fhir_proxies=(PROXY,),
        territories=("69",),
        lrm_origins=("lrm",),
        sso_origins=("sas",),
        psc_authorize="https://wallet.bas.psc.example/auth",
    )
    # what is counted are tries, not what a hash costs
    with patch.object(accounts_module, "is_password", lambda *_: False):
        async with run_service(settings, with_core=False) as running:
            yield running
    servers.drop_database(database_url)


@asynccontextmanager
async def calling(service: Running, address: str, said: str = "") -> AsyncIterator[httpx.AsyncClient]:
    """Connect from an address, and say who it is for."""
    headers = {"Origin": service.url, **({"X-Real-IP": said} if said else {})}
    transport = httpx.AsyncHTTPTransport(local_address=address)
    async with httpx.AsyncClient(transport=transport, base_url=service.url, headers=headers, trust_env=False) as http:
        yield http


async def tried(service: Running, address: str, said: str = "", times: int = 1, login: str = "personne") -> list[int]:
    """Try to sign in some times, each time from another browser; returns the statuses."""
    form, statuses = {"login": login, "password": "une autre phrase"}, []
    async with calling(service, address, said) as http:
        for _ in range(times):
            statuses.append((await http.post("/connexion", data=form)).status_code)
            http.cookies.clear()
    return statuses


async def test_wrong_tries_of_one_behind_the_proxy_refuse_no_other(behind: Running) -> None:
    with behind.clock.standing():
        assert await tried(behind, PROXY, "203.0.113.7", 13) == [401] * 12 + [429]
        assert await tried(behind, PROXY, "203.0.113.8") == [401]
        assert await tried(behind, PROXY, "2001:db8:1:2::7", 13) == [401] * 12 + [429]
        # a household has a /64 of addresses
        assert await tried(behind, PROXY, "2001:db8:1:2:ffff::8") == [429]
        assert await tried(behind, PROXY, "2001:db8:1:3::7") == [401]


async def test_a_shift_that_begins_behind_one_address_uses_up_no_tries(behind: Running) -> None:
    accounts = accounts_of(behind.stores.ledger, behind.stores.clock, behind.stores.ids)
    await accounts.add("releve", None, KeyWish(Role.OSNP, "Camille Fictive", ("*",)))
    here = (behind, PROXY, "203.0.113.60")
    with behind.clock.standing():
        with patch.object(accounts_module, "is_password", lambda *_: True):
            assert await tried(*here, 30, login="releve") == [303] * 30
        # nor are those that were wrong forgotten for it
        assert await tried(*here, 11) == [401] * 11
        with patch.object(accounts_module, "is_password", lambda *_: True):
            assert await tried(*here, login="releve") == [303]
        assert await tried(*here, 2) == [401, 429]


async def test_what_others_than_the_proxy_say_moves_nobody(behind: Running) -> None:
    with behind.clock.standing():
        assert await tried(behind, "127.0.0.3", "203.0.113.20", 12) == [401] * 12
        assert await tried(behind, "127.0.0.3", "203.0.113.21") == [429]
        assert await tried(behind, PROXY, "203.0.113.20") == [401], "nor does it use up another's tries"


async def test_open_figures_are_counted_as_tries_are(behind: Running) -> None:
    with behind.clock.standing():
        async with calling(behind, PROXY, "203.0.113.30") as one, calling(behind, PROXY, "203.0.113.31") as other:
            assert [(await one.get("/v1/public/figures")).status_code for _ in range(100)] == [200] * 100
            for path in ("/v1/public/figures", "/chiffres"):
                assert ((await one.get(path)).status_code, (await other.get(path)).status_code) == (429, 200)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/?origin=lrm&inseecode=69123", 200),
        ("/sas/agenda?origin=sas&lieu=10000000001-00112233445566ff", 302),
    ],
)
async def test_openings_of_one_address_do_not_fill_redis(behind: Running, path: str, status: int) -> None:
    async def kept() -> int:
        return len([key async for key in behind.stores.bus.redis.scan_iter(keys.once("*"))])

    with behind.clock.standing():
        async with calling(behind, PROXY, f"203.0.113.{status % 251}") as http:
            before = await kept()
            answers = [(await http.get(path)).status_code for _ in range(OPENINGS)]
            assert answers == [status] * OPENINGS and await kept() == before + OPENINGS
            refused = await http.get(path)
            assert refused.status_code == 429 and await kept() == before + OPENINGS
            assert int(refused.headers["retry-after"]) >= 1
            assert refused.headers["content-type"].startswith("text/html"), "a person reads it"
        async with calling(behind, PROXY, f"203.0.113.{status % 251 + 1}") as http:
            assert (await http.get(path)).status_code == status
        behind.clock.ahead += timedelta(seconds=int(refused.headers["retry-after"]))
        async with calling(behind, PROXY, f"203.0.113.{status % 251}") as http:
            assert (await http.get(path)).status_code == status


@pytest.mark.parametrize(
    ("host", "said", "name"),
    [
        ("203.0.113.7", [], "203.0.113.7"),
        ("203.0.113.7", ["203.0.113.8"], "203.0.113.7"),
        (PROXY, ["203.0.113.8"], "203.0.113.8"),
        (PROXY, [], PROXY),
        # no address, or two of them: the proxy that ships with us sets one
        (PROXY, ["203.0.113.8, 203.0.113.9"], PROXY),
        (PROXY, ["203.0.113.8", "203.0.113.9"], PROXY),
        (PROXY, [""], PROXY),
        (PROXY, ["<script>"], PROXY),
        (PROXY, ["2001:db8:1:2:3:4:5:6"], "2001:db8:1:2::"),
        ("2001:db8:1:2:3:4:5:6", [], "2001:db8:1:2::"),
        ("fe80::1%eth0", [], "fe80::"),
        # an IPv4 caller of a socket that listens for both is one address, not the whole of IPv4
        ("::ffff:203.0.113.7", [], "203.0.113.7"),
        ("", ["203.0.113.8"], ""),
        ("testclient", [], "testclient"),
    ],
)
def test_the_name_of_a_peer(host: str, said: list[str], name: str) -> None:
    assert peer_name(host, said, frozenset({PROXY})) == name
