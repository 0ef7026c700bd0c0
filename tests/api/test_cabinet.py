"""Who may do what on the practice's pages: for whom one works, and whom one may let in."""

import pytest

from sas_matcher.bootstrap.access import accounts_of
from sas_matcher.console.visit import csrf_of
from sas_matcher.domain.errors import InvalidInputError, NotAllowedError, NotFoundError
from sas_matcher.domain.vocabulary import Role
from sas_matcher.services.accounts import Accounts
from sas_matcher.services.colleagues import Colleagues
from sas_matcher.services.keys import KeyWish
from tests.api.running import Running, rpps
from tests.api.test_accounts import browser

PASSWORD = "une phrase assez longue"


@pytest.fixture
def accounts(service: Running) -> Accounts:
    return accounts_of(service.stores.ledger, service.stores.clock, service.stores.ids)


async def _account(accounts: Accounts, login: str, role: Role, **rights: object) -> str:
    await accounts.add(login, None, KeyWish(role, f"Compte {login}", **rights))  # type: ignore[arg-type]
    return await accounts.open(login)


async def test_nobody_gives_or_takes_more_than_they_have(service: Running, accounts: Accounts) -> None:
    mine, other, house = rpps(), rpps(), "690009001"
    source = f"equipe-{mine}"
    tokens = {
        name: await _account(
            accounts, f"{name}-{mine}", role, professionals=professionals, structures=houses, source=source
        )
        for name, role, professionals, houses in (
            ("doctor", Role.PROFESSIONAL, (mine,), ()),
            ("stranger", Role.PROFESSIONAL, (other,), ()),
            ("both", Role.DELEGATE, (mine, other), ()),
            ("boss", Role.MANAGER, (), (house,)),
        )
    }
    keys = {name: (await accounts.account_of(token)).key for name, token in tokens.items()}
    team = Colleagues(accounts)
    wish = KeyWish(Role.DELEGATE, "Secrétariat fictif", professionals=(mine,))
    for name, wanted, error in (
        ("both", wish, NotAllowedError),
        ("doctor", wish._replace(role=Role.MANAGER), NotAllowedError),
        ("doctor", wish._replace(role=Role.ADMIN), NotAllowedError),
        ("doctor", wish._replace(professionals=(mine, other)), InvalidInputError),
        ("doctor", wish._replace(professionals=("*",)), InvalidInputError),
        ("doctor", wish._replace(professionals=(), structures=(house,)), InvalidInputError),
        ("doctor", wish._replace(professionals=()), InvalidInputError),
        ("boss", wish, InvalidInputError),
    ):
        with pytest.raises(error):
            await team.invite(keys[name], f"new-{mine}", PASSWORD, wanted)
    await team.invite(keys["doctor"], f"new-{mine}", PASSWORD, wish._replace(source="autre", territories=("*",)))
    made = (await accounts.account_of(await accounts.sign_in(f"new-{mine}", PASSWORD))).key
    assert (made.source, made.territories, made.professionals) == (source, (), (mine,))
    # of a shared secretary only what is mine is seen, and she is not mine to close
    seen = {one.login.split("-")[0]: one for one in await team.seen_by(keys["doctor"])}
    assert set(seen) == {"doctor", "both", "new"}
    assert (seen["both"].professionals, seen["both"].more, seen["both"].mine_to_close) == ((mine,), True, False)
    for name in ("both", "doctor", "stranger"):
        with pytest.raises(NotFoundError):
            await team.take_back(keys["doctor"], f"{name}-{mine}")
    await team.take_back(keys["doctor"], f"new-{mine}")
    assert "new" not in {one.login.split("-")[0] for one in await team.seen_by(keys["doctor"])}


async def test_one_works_for_whom_one_may_and_nobody_else(service: Running, accounts: Accounts) -> None:
    mine, other = rpps(), rpps()
    token = await _account(accounts, f"works-{mine}", Role.DELEGATE, professionals=(mine,), source=f"c-{mine}")
    async with browser(service, token) as http:
        assert (await http.get(f"/cabinet?pour=p:{mine}")).status_code == 200
        for wrong in (f"p:{other}", "p:*", "s:690009001", "x", "s:"):
            assert (await http.get("/cabinet", params={"pour": wrong})).status_code == 404, wrong
    bare = await _account(accounts, f"bare-{mine}", Role.GESTIONNAIRE, territories=("69",))
    ars = await _account(accounts, f"ars-{mine}", Role.ARS, territories=("69",))
    for closed in (bare, ars):
        async with browser(service, closed) as http:
            assert (await http.get("/cabinet")).status_code == 403


async def test_a_table_may_be_large_on_its_page_only(service: Running, accounts: Accounts) -> None:
    mine = rpps()
    token = await _account(accounts, f"table-{mine}", Role.PROFESSIONAL, professionals=(mine,), source=f"c-{mine}")
    large = b"date;debut;fin;duree\n" + b"2026-11-26;09:00;10:00;20\n" * 4_000
    async with browser(service, token) as http:
        sent = {"content": large, "headers": {"X-CSRF": csrf_of(token)}}
        assert (await http.post("/cabinet/agendas/rien/csv", **sent)).status_code == 404  # type: ignore[arg-type]
        assert (await http.post("/cabinet/agendas", **sent)).status_code == 413  # type: ignore[arg-type]
