"""People at their pages: accounts, signed-in browser pages, the check of accessibility."""

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

from playwright.async_api import Browser, BrowserContext, Page

from adapters.geo.gazetteer import Commune
from sas_matcher.bootstrap.access import accounts_of
from sas_matcher.console.visit import COOKIE
from sas_matcher.domain.vocabulary import Role
from sas_matcher.services.accounts import Accounts
from sas_matcher.services.keys import KeyWish
from tests.api.running import Running

WIDE: Final = {"width": 1366, "height": 768}
"""The commonest screen of an old office PC."""
NARROW: Final = {"width": 320, "height": 640}
RULES: Final = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice")
_numbers = itertools.count(1)


@cache
def _axe() -> str:
    return (Path(__file__).parent / "vendor/axe.min.js").read_text(encoding="utf-8")


async def violations(page: Page) -> list[str]:
    """Return what axe-core finds wrong (WCAG 2.1 AA and best practice), one line each; empty is what we want."""
    # without preload, which writes styles into the page (only for a rule about turned screens that is not among ours);
    # evaluated, not added as a script: the pages' policy forbids that, and stays in force
    if not await page.evaluate("'axe' in window"):  # half a megabyte that needs to be sent once
        await page.evaluate(f"(() => {{ {_axe()} }})()")
    found: list[dict[str, Any]] = await page.evaluate(
        "async (tags) => (await axe.run({preload: false, resultTypes: ['violations'],"
        " runOnly: {type: 'tag', values: tags}})).violations",
        list(RULES),
    )
    return [
        f"{rule['id']}: {node['html'][:160]} {node['failureSummary'][:300]}" for rule in found for node in rule["nodes"]
    ]


_CONTROLS: Final = """() => [...document.querySelectorAll(
    'a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex="0"]')]
    .filter((e) => e.checkVisibility({visibilityProperty: true}) && !e.disabled)
    .filter((e) => !e.closest('details:not([open]) > :not(summary)'))
    // of several radio buttons Tab reaches one, the arrows the others
    .filter((e) => e.type !== 'radio' || e === document.querySelector(`[name="${e.name}"]`))"""
_NOTE_FOCUS: Final = """() => { window.reached = new Set(); window.unseen = new Set();
    document.activeElement.blur();
    document.addEventListener('focusin', ({target}) => {
        reached.add(target);
        const s = getComputedStyle(target);
        if (s.outlineStyle === 'none' || !parseFloat(s.outlineWidth)) unseen.add(target); }); }"""


async def unreached(page: Page) -> list[str]:
    """Return the controls of a page that Tab does not reach, and those that do not show that they have the focus."""
    wanted: int = await page.evaluate(f"({_CONTROLS})().length")
    await page.evaluate(_NOTE_FOCUS)
    for _ in range(wanted + 8):  # hours and dates have several parts each
        await page.keyboard.press("Tab")
    missing = (
        f"""[...({_CONTROLS})().filter((e) => !reached.has(e)), ...unseen].map((e) => e.outerHTML.slice(0, 200))"""
    )
    found: list[str] = await page.evaluate(missing)
    for _ in range(2 * wanted if found else 0):
        await page.keyboard.press("Tab")
    return await page.evaluate(missing) if found else []


@dataclass
class Person:
    """Somebody with an account and a browser of their own."""

    browsing: "Browsing"
    login: str
    key_id: str
    token: str
    context: BrowserContext

    async def open(self, path: str, *, moving_clock: bool = False) -> Page:
        """Open a page in a new tab; what its scripts or its policy complain of is an error of the test.

        ``moving_clock``: the test may move the browser's clock (``page.clock``).
        """
        page = await self.context.new_page()
        if moving_clock:
            await page.clock.install()
        page.on("pageerror", lambda error: self.browsing.complaints.append(str(error)))
        page.on("console", self._heard)
        await page.goto(self.browsing.service.url + path)
        return page

    def _heard(self, message: Any) -> None:
        # a refused, lost or given-up call is logged by the browser and by htmx: what the test makes of it is the test's
        expected = ("Failed to load resource", "Response Status Error Code", "htmx:afterRequest", "htmx:send")
        refused = message.text.startswith(expected)
        if message.type == "error" and not refused:
            self.browsing.complaints.append(f"{message.location}: {message.text}")


@dataclass
class Browsing:
    """A service with pages, and a browser."""

    service: Running
    browser: Browser
    complaints: list[str] = field(default_factory=list)

    @property
    def accounts(self) -> Accounts:
        """The service's accounts."""
        stores = self.service.stores
        return accounts_of(stores.ledger, stores.clock, stores.ids)

    async def account(self, role: str, password: str | None = None, **rights: Any) -> str:
        """Create an account; returns its login. ``rights`` as of ``KeyWish``; some roles are everywhere by default."""
        login = f"{role}-{next(_numbers)}"
        if role in ("osnp", "regulator", "ars", "cpts", "gestionnaire"):
            rights.setdefault("territories", ("*",))
        wish = KeyWish(Role(role), rights.pop("name", f"Compte {login}"), **rights)
        await self.accounts.add(login, password, wish)
        return login

    @asynccontextmanager
    async def person(
        self, role: str, *, viewport: Any = WIDE, scheme: Any = "light", **rights: Any
    ) -> AsyncIterator[Person]:
        """Somebody new, signed in, for the length of a block."""
        login = await self.account(role, **rights)
        async with self.signed_in(login, viewport=viewport, scheme=scheme) as person:
            yield person
        complaints, self.complaints[:] = list(self.complaints), []
        assert not complaints, complaints

    @asynccontextmanager
    async def signed_in(self, login: str, *, viewport: Any = WIDE, scheme: Any = "light") -> AsyncIterator[Person]:
        """The holder of an account in a browser of their own."""
        context = await self.browser.new_context(
            viewport=viewport, color_scheme=scheme, locale="fr-FR", timezone_id="Europe/Paris"
        )
        try:
            context.set_default_timeout(15_000)  # a loaded machine is slow, a page that does not come never comes
            token = await self.accounts.open(login)
            await context.add_cookies(
                [{"name": COOKIE, "value": token, "url": self.service.url, "sameSite": "Strict", "httpOnly": True}]
            )
            account = await self.accounts.account_of(token)
            yield Person(self, login, account.key.id, token, context)
        finally:
            await context.close()

    def spot(self, code: str) -> Commune:
        """Return a commune by its code."""
        commune = self.service.geography.by_code(code)
        assert commune is not None
        return commune
