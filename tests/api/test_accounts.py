"""Accounts and sessions: who is let in, for how long, and what a form must prove."""

import asyncio
import contextlib
import hmac
import re
from datetime import timedelta
from typing import Any
from unittest.mock import patch

import httpx
import pytest
from websockets.asyncio.client import connect

from sas_matcher.bootstrap.access import accounts_of
from sas_matcher.bootstrap.api import api
from sas_matcher.config import Settings
from sas_matcher.console.doors import BROWSER
from sas_matcher.console.site import PageRoute
from sas_matcher.console.visit import COOKIE, csrf_of
from sas_matcher.domain.errors import ConflictError, InvalidInputError, NotAuthenticatedError, TooManyError
from sas_matcher.domain.vocabulary import Role
from sas_matcher.services import accounts as accounts_module
from sas_matcher.services.accounts import FREE_TRIES, IDLE, LONGEST, MOST_BROWSERS, Accounts
from sas_matcher.services.keys import KeyWish
from sas_matcher.services.passwords import is_password
from tests.api.running import NO_TLS, Running

PASSWORD = "une phrase assez longue"
OSNP = KeyWish(Role.OSNP, "Camille Fictive", ("*",))
UUID = "00000000-0000-7000-8000-000000000000"
ADMIN = KeyWish(Role.ADMIN, "Administration fictive")


@pytest.fixture
def accounts(service: Running) -> Accounts:
    return accounts_of(service.stores.ledger, service.stores.clock, service.stores.ids)


def browser(service: Running, token: str | None = None, **headers: str) -> httpx.AsyncClient:
    """A client that says what browsers say of a form on our own page."""
    return httpx.AsyncClient(
        verify=NO_TLS,
        base_url=service.url,
        cookies={COOKIE: token} if token else None,
        headers={"Origin": service.url, **headers},
        trust_env=False,
    )


async def test_a_session_ends_by_itself(service: Running, accounts: Accounts) -> None:
    await accounts.add("ends", PASSWORD, OSNP)
    token = await accounts.sign_in("ENDS ", PASSWORD)
    assert (await accounts.account_of(token)).key.name == "Camille Fictive"
    ahead = service.clock.ahead
    try:
        service.clock.ahead = ahead + IDLE - timedelta(minutes=2)
        await accounts.account_of(token, present=False)
        service.clock.ahead = ahead + IDLE + timedelta(minutes=2)
        with pytest.raises(NotAuthenticatedError):
            # what the page asked by itself meanwhile kept nothing alive
            await accounts.account_of(token)
        second = await accounts.open("ends")
        for _ in range(4):
            service.clock.ahead += timedelta(hours=2, minutes=59)
            await accounts.account_of(second)
        service.clock.ahead += LONGEST - timedelta(hours=11, minutes=55)
        with pytest.raises(NotAuthenticatedError):
            await accounts.account_of(second)
    finally:
        service.clock.ahead = ahead


async def test_a_closed_account_and_a_new_password_end_sessions(accounts: Accounts) -> None:
    await accounts.add("closed", PASSWORD, OSNP)
    token = await accounts.open("closed")
    await accounts.change_password("closed", PASSWORD + " encore")
    with pytest.raises(NotAuthenticatedError):
        await accounts.account_of(token)
    token = await accounts.sign_in("closed", PASSWORD + " encore")
    await accounts.close("closed")
    with pytest.raises(NotAuthenticatedError):
        await accounts.account_of(token)
    with pytest.raises(NotAuthenticatedError):
        await accounts.sign_in("closed", PASSWORD + " encore")


async def test_wrong_passwords_make_the_right_one_wait(service: Running, accounts: Accounts) -> None:
    await accounts.add("guessed", PASSWORD, OSNP)
    with service.clock.standing():
        for _ in range(FREE_TRIES):
            with pytest.raises(NotAuthenticatedError):
                await accounts.sign_in("guessed", "une autre phrase")
        with pytest.raises(TooManyError):
            await accounts.sign_in("guessed", PASSWORD)
        service.clock.ahead += timedelta(seconds=3)
        await accounts.sign_in("guessed", PASSWORD)


async def test_tries_at_the_same_time_are_no_more_than_one_after_another(service: Running, accounts: Accounts) -> None:
    await accounts.add("crowded", PASSWORD, OSNP)
    hashed: list[str] = []

    def is_password(password: str, record: str) -> bool:
        hashed.append(password)
        return False

    with service.clock.standing(), patch.object(accounts_module, "is_password", is_password):
        tries = (accounts.sign_in("crowded", f"une autre phrase {n}") for n in range(10))
        told = await asyncio.gather(*tries, return_exceptions=True)
        assert len(hashed) == FREE_TRIES
        assert [type(one) for one in told].count(TooManyError) == 10 - FREE_TRIES
        # nor do those that wait keep anybody else waiting
        with pytest.raises(TooManyError):
            await accounts.sign_in("crowded", PASSWORD)
        assert len(hashed) == FREE_TRIES


async def wrong(accounts: Accounts, login: str, browser: str | None, times: int = FREE_TRIES) -> None:
    """Type a wrong password some times."""
    for _ in range(times):
        with pytest.raises(NotAuthenticatedError):
            await accounts.sign_in(login, "une autre phrase", browser)


async def test_strangers_lock_nobody_out_of_a_browser_that_the_account_knows(
    service: Running, accounts: Accounts
) -> None:
    for login in ("besieged", "beside"):
        await accounts.add(login, PASSWORD, OSNP)
    with service.clock.standing():
        await accounts.sign_in("besieged", PASSWORD, "of the desk")
        await accounts.sign_in("beside", PASSWORD, "of another")
        await wrong(accounts, "besieged", "of a stranger", 3)
        await wrong(accounts, "besieged", None, 2)
        # what counts is that it was this account: whoever has one of their own is a stranger to the others
        for browser in (None, "of a stranger", "of another", ""):
            with pytest.raises(TooManyError):
                await accounts.sign_in("besieged", PASSWORD, browser)
        await accounts.sign_in("besieged", PASSWORD, "of the desk")
        with pytest.raises(TooManyError):
            await accounts.sign_in("besieged", PASSWORD, "of a stranger")
        # a browser that is known is no way to guess on
        await wrong(accounts, "besieged", "of the desk")
        with pytest.raises(TooManyError):
            await accounts.sign_in("besieged", PASSWORD, "of the desk")
        await wrong(accounts, "beside", "of another")
        await accounts.sign_in("beside", PASSWORD, "of nobody yet")
        # a new password: nobody is known any more
        await accounts.change_password("beside", PASSWORD + " encore")
        await wrong(accounts, "beside", None)
        with pytest.raises(TooManyError):
            await accounts.sign_in("beside", PASSWORD + " encore", "of nobody yet")


async def test_an_account_knows_the_browsers_used_last(service: Running, accounts: Accounts) -> None:
    await accounts.add("moving", PASSWORD, OSNP)
    with service.clock.standing(), patch.object(accounts_module, "is_password", lambda given, _: given == PASSWORD):
        for number in range(MOST_BROWSERS + 1):
            service.clock.ahead += timedelta(seconds=1)
            await accounts.sign_in("moving", PASSWORD, f"{number}")
        await wrong(accounts, "moving", None)
        with pytest.raises(TooManyError):
            await accounts.sign_in("moving", PASSWORD, "0")
        for number in range(1, MOST_BROWSERS + 1):
            await accounts.sign_in("moving", PASSWORD, f"{number}")


async def test_the_door_gives_a_browser_what_it_is_known_by(service: Running, accounts: Accounts) -> None:
    await accounts.add("known", PASSWORD, OSNP)
    form = {"login": "known", "password": PASSWORD}
    async with browser(service) as http:
        refused = await http.post("/connexion", data={**form, "password": "une autre phrase"})
        assert refused.status_code == 401 and "set-cookie" not in refused.headers
        entered = await http.post("/connexion", data=form)
        (cookie,) = [one for one in entered.headers.get_list("set-cookie") if one.startswith(f"{BROWSER}=")]
        value, *rest = cookie.partition("=")[2].split("; ")
        assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(rest) and "known" not in value and len(value) >= 43
        with service.clock.standing():
            await wrong(accounts, "known", None)
            http.cookies.delete(COOKIE)
            part = await http.post("/connexion", data=form, headers={"HX-Request": "true"})
            assert part.status_code == 204, "the same browser comes in"
            assert f"{BROWSER}={value}" in str(part.headers.get_list("set-cookie")), "and stays the same"
            assert (await http.post("/deconnexion", data={"csrf": csrf_of(http.cookies[COOKIE])})).status_code == 303
            assert http.cookies[BROWSER] == value
            http.cookies.clear()
            assert (await http.post("/connexion", data=form)).status_code == 429


async def test_logins_and_passwords_that_cannot_be(accounts: Accounts) -> None:
    for login, password in (("A b", PASSWORD), ("court", "trop court"), ("x", PASSWORD)):
        with pytest.raises(InvalidInputError):
            await accounts.add(login, password, OSNP)
    await accounts.add("twice", None, OSNP)
    with pytest.raises(ConflictError):
        await accounts.add("twice", None, OSNP)
    with pytest.raises(NotAuthenticatedError):
        await accounts.sign_in("twice", "")


async def test_what_cannot_be_a_login_is_refused_like_any_other(
    accounts: Accounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes as long, and asks the database nothing that it would fail at."""
    hashed: list[str] = []
    right = is_password

    def counted(password: str, record: str) -> bool:
        hashed.append(password)
        return right(password, record)

    monkeypatch.setattr("sas_matcher.services.accounts.is_password", counted)
    for login in ("a\x00b", "é", "x" * 65, ""):
        with pytest.raises(NotAuthenticatedError, match="Identifiant ou mot de passe incorrect"):
            await accounts.sign_in(login, PASSWORD)
    assert len(hashed) == 4


async def test_another_door_lets_in_whom_it_knows(accounts: Accounts) -> None:
    await accounts.add("psc", None, OSNP, subject="https://issuer.example 899700000001")
    token = await accounts.sign_in_as("https://issuer.example 899700000001")
    assert (await accounts.account_of(token)).login == "psc"
    with pytest.raises(NotAuthenticatedError):
        await accounts.sign_in_as("https://issuer.example 899700000002")


async def test_actions_must_come_from_our_own_pages(service: Running, accounts: Accounts) -> None:
    await accounts.add("forger", None, ADMIN)
    await accounts.add("victim", None, OSNP)
    token = await accounts.open("forger")
    form = {"login": "victim", "csrf": csrf_of(token)}

    async def close(origin: dict[str, str], sent: dict[str, str]) -> int:
        async with httpx.AsyncClient(base_url=service.url, cookies={COOKIE: token}, trust_env=False) as http:
            return (await http.post("/comptes/fermer", data=sent, headers=origin)).status_code

    assert await close({"Origin": "https://elsewhere.example"}, form) == 403
    assert await close({"Origin": "null"}, form) == 403
    assert await close({}, form) == 403
    assert await close({"Origin": service.url}, {"login": "victim"}) == 403
    assert await close({"Origin": service.url}, form | {"csrf": csrf_of("another")}) == 403
    assert await close({"Origin": service.url}, form) == 303


async def test_every_action_asks_for_the_secret_of_its_own_session(
    service: Running, accounts: Accounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = await _walkers(accounts, "csrf")
    compared: list[bytes] = []
    right = hmac.compare_digest

    def watched(sent: bytes, wanted: bytes) -> bool:
        compared.append(sent)
        return right(sent, wanted)

    # what is compared is a secret: in constant time, and no other way
    monkeypatch.setattr(hmac, "compare_digest", watched)
    routes = [route for route in _pages() if "POST" in (route.methods or ()) and route.path != "/demo"]
    assert len(routes) > 50
    for route in routes:
        token, colleague = next(pair for role, pair in tokens.items() if route.pages.are_for(role))
        secret = csrf_of(token)
        forged: list[dict[str, Any]] = [
            {},
            {"data": {"csrf": "é" + secret}},
            {"headers": {"X-CSRF": secret[:-1]}},
            {"headers": {"X-CSRF": csrf_of(colleague)}},
        ]
        async with browser(service, token) as http:
            path = re.sub(r"\{\w+\}", UUID, route.path)
            for answer in await asyncio.gather(*(http.post(path, **sent) for sent in forged)):
                assert answer.status_code == 403 and "ne vient pas d&#39;une page de ce service" in answer.text, path
    assert len(compared) == len(forged) * len(routes)


async def test_pages_are_for_their_roles_and_say_so(service: Running, accounts: Accounts) -> None:
    await accounts.add("role-osnp", None, OSNP)
    async with browser(service, await accounts.open("role-osnp")) as http:
        answer = await http.get("/comptes")
        assert answer.status_code == 403 and "pas ouverte à votre rôle" in answer.text
        policy = answer.headers["content-security-policy"]
        assert "script-src 'self'" in policy and "unsafe" not in policy and "default-src 'none'" in policy
        part = await http.get("/comptes", headers={"HX-Request": "true"})
        assert part.status_code == 403 and "<html" not in part.text
    async with browser(service) as http:
        assert (await http.get("/comptes")).headers["location"] == "/connexion?suite=/comptes"
        assert (await http.get("/comptes", headers={"HX-Request": "true"})).status_code == 401
        # a link from elsewhere comes without the strict cookie: the page asks for itself once more
        again = await http.get("/comptes", headers={"Sec-Fetch-Site": "cross-site"})
        assert again.status_code == 200 and 'content="0;url=/comptes?again=1"' in again.text


def _pages() -> list[PageRoute]:
    app = api(Settings(demo="SAS des tests"))
    return [route for route in app.routes if isinstance(route, PageRoute)]


async def _walkers(accounts: Accounts, name: str) -> dict[Role, tuple[str, str]]:
    """Return two sessions of one account for a role of each scope."""
    found = {}
    for wish in (
        OSNP,
        KeyWish(Role.MANAGER, "Cabinet fictif", (), (), ("*",)),
        KeyWish(Role.ARS, "Pilotage fictif", ("*",)),
        ADMIN,
    ):
        login = f"{name}-{wish.role}"
        await accounts.add(login, None, wish)
        found[wish.role] = await accounts.open(login), await accounts.open(login)
    return found


async def test_every_page_is_for_those_it_names(service: Running, accounts: Accounts) -> None:
    tokens = await _walkers(accounts, "walk")
    clients = {role: browser(service, token) for role, (token, _) in tokens.items()}
    async with contextlib.AsyncExitStack() as stack:
        nobody = await stack.enter_async_context(browser(service))
        for client in clients.values():
            await stack.enter_async_context(client)
        for route in (route for route in _pages() if not route.pages.open_to_all):
            (method,) = set(route.methods or ()) - {"HEAD"}
            path = re.sub(r"\{\w+\}", UUID, route.path)
            refused, part, *answers = await asyncio.gather(
                nobody.request(method, path),
                nobody.request(method, path, headers={"HX-Request": "true"}),
                *(client.request(method, path) for client in clients.values()),
            )
            assert (refused.status_code, refused.headers.get("location", "")[:10]) in ((303, "/connexion"), (401, ""))
            assert part.status_code == 401
            for role, answer in zip(clients, answers, strict=True):
                # a form without the session's secret goes no farther than that, whoever sends it
                closed = method == "POST" or not route.pages.are_for(role)
                assert (answer.status_code == 403) is closed, (path, role)


async def test_sign_in_never_sends_anybody_elsewhere(service: Running, accounts: Accounts) -> None:
    await accounts.add("onward", PASSWORD, ADMIN)
    for suite, wanted in (("//elsewhere.example", "/"), ("/\\elsewhere.example", "/"), ("/compte", "/compte")):
        async with browser(service) as http:
            answer = await http.post("/connexion", data={"login": "onward", "password": PASSWORD, "suite": suite})
            assert answer.headers["location"] == wanted


async def test_the_feed_listens_to_our_own_pages_only(service: Running, accounts: Accounts) -> None:
    await accounts.add("listener", None, OSNP)
    token = await accounts.open("listener")
    url = service.url.replace("http", "ws") + "/flux"

    async def first(cookie: str, origin: str) -> Any:
        async with connect(url, additional_headers={"Cookie": f"{COOKIE}={cookie}"}, origin=origin, proxy=None) as ws:  # type: ignore[arg-type]
            try:
                return await ws.recv()
            finally:
                await ws.wait_closed() if ws.close_code else None

    assert '"welcome"' in await first(token, service.url)
    with pytest.raises(Exception, match="403"):
        await first(token, "https://elsewhere.example")
    with pytest.raises(Exception, match="4401"):
        await first("nobody", service.url)


async def test_the_demonstrations_door_is_closed_elsewhere(service: Running) -> None:
    async with browser(service) as http:
        assert (await http.post("/demo", data={"login": "demo-admin"})).status_code == 404
