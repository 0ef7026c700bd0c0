"""Pictures of every page with invented data, for the README and the guides: ``python -m tests.browser.shots``.

Each page is an entry of ``SHOTS``: whose it is, its address, and what to do on it before the picture is taken.
"""

import argparse
import asyncio
import contextlib
import os
import shutil
import tempfile
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

from playwright.async_api import Page, async_playwright, expect

from adapters.embedded import start_postgres, start_valkey
from adapters.postgres.migrate import migrate
from sas_matcher.demo.plan import busiest_centre, places_of, schedule, world_of
from sas_matcher.demo.world import World
from tests.api.conftest import settings_for
from tests.api.running import run_service
from tests.browser import cabinet_scene as practice
from tests.browser.conftest import CHROMIUM
from tests.browser.desk import NARROW, WIDE, Browsing
from tests.browser.week import a_week, recorded_days

TERRITORY: Final = "69"
SOURCE: Final = "demo-images"


WIDEST: Final = {"width": 1920, "height": 1080}
"""A screen on a wall."""
_STEERING: Final = ("pilotage", "imprime-aci", "mural", "chiffres")
_STUDIED: Final = ("pilotage-journees", "pilotage-etude")


async def nothing(_page: Page) -> None:
    """Leave the page as it opens."""


async def printed(page: Page) -> None:
    """Show the page as a printer gets it (A4, 96 dots an inch)."""
    await page.set_viewport_size({"width": 794, "height": 1123})
    await page.emulate_media(media="print")


async def drawn(page: Page) -> None:
    """Wait for the map."""
    await page.locator("#map[data-drawn=yes]").wait_for()


async def foreseen(page: Page) -> None:
    """Look at what a crisis would change."""
    await page.get_by_label("Crise").check()
    await page.get_by_label("Pourquoi").fill("Urgences saturées, plan blanc du CHU fictif")
    await page.get_by_role("button", name="Voir ce que cela change").click()
    await page.locator(".effects").wait_for()


async def studied(page: Page) -> None:
    """Open the results of the study."""
    await page.get_by_role("link", name="Résultats").first.click()
    await page.get_by_role("heading", name="Étude de journées").wait_for()


class Shot(NamedTuple):
    """One picture.

    Attributes:
        name: of the file.
        role: of the account that opens the page; ``centre`` is the manager of the centre with most professionals,
            ``doctor`` the one of ``cabinet_scene``.
        path: address of the page.
        prepare: what is done on it before.
        viewport: of the browser.
        scheme: ``light`` or ``dark``.
    """

    name: str
    role: str
    path: str
    prepare: Callable[[Page], Awaitable[None]] = nothing
    viewport: dict[str, int] = WIDE
    scheme: Any = "light"


async def _ask(page: Page, *lines: str) -> None:
    """Ask line by line; the last answer stays."""
    for number, line in enumerate(lines):
        await page.keyboard.press("F9")
        await page.keyboard.type(line)
        await page.keyboard.press("Enter")
        await page.locator(".row").nth(number).wait_for()
    await page.locator("#answer .shown").wait_for()


async def held(page: Page) -> None:
    """A place that is held, beside others that were asked for."""
    await _ask(page, "mg villeurbanne 8h")
    await page.locator("#answer:not(.settling)").wait_for()
    await page.keyboard.press("F2")
    await page.locator(".is-firm").first.wait_for()
    await page.keyboard.press("F9")
    await page.keyboard.press("Control+a")
    await _ask_more(page)


async def _ask_more(page: Page) -> None:
    for line in ("kiné 69310 tiers payant 24h", "dentiste bron 2h", "mg 69003 enfant < 24 h"):
        await page.keyboard.press("F9")
        await page.keyboard.type(line)
        await expect(page.locator("input[name=read]")).to_have_value(line)
        before = await page.locator(".row").count()
        await page.keyboard.press("Enter")
        await page.locator(".row").nth(before).wait_for()
    await page.locator("#answer .is-held").wait_for()
    await page.locator("#map .leaflet-overlay-pane").wait_for(state="attached")
    await page.wait_for_timeout(400)


async def no_place(page: Page) -> None:
    """A need that nothing fits, and what would."""
    await _ask(page, "pédiatre condrieu 4 km 2h")
    await page.locator("#answer .is-waiting").wait_for()
    await page.wait_for_timeout(400)


async def offers(page: Page) -> None:
    """The offer of 72 hours."""
    await _ask(page, "mg 69003 48h")
    await page.keyboard.press("F8")
    await page.get_by_role("dialog").wait_for()


SHOTS: Final = (
    Shot("regulation", "osnp", "/regulation", held),
    Shot("regulation-sombre", "osnp", "/regulation", held, scheme="dark"),
    Shot("regulation-sans-place", "osnp", "/regulation", no_place),
    Shot("regulation-72h", "osnp", "/regulation", offers),
    Shot("regulation-mobile", "osnp", "/regulation", no_place, viewport={"width": 390, "height": 844}),
    Shot("cabinet", "doctor", "/cabinet", practice.asked),
    Shot("cabinet-nuit", "doctor", "/cabinet", practice.asked, scheme="dark"),
    Shot("cabinet-mobile", "doctor", "/cabinet", practice.asked, viewport=NARROW),
    Shot("cabinet-refuser", "doctor", "/cabinet", practice.refusing),
    Shot("cabinet-arret", "doctor", "/cabinet", practice.stopping),
    Shot("cabinet-touches", "doctor", "/cabinet", practice.keys),
    Shot("cabinet-centre", "centre", "/cabinet"),
    Shot("cabinet-agendas", "doctor", "/cabinet/agendas"),
    Shot("cabinet-agenda", "doctor", "/cabinet/agendas/cabinet", practice.with_table),
    Shot("cabinet-accords", "doctor", "/cabinet/accords"),
    Shot("cabinet-vu", "doctor", "/cabinet/accords/vu"),
    Shot("cabinet-notifications", "doctor", "/cabinet/notifications"),
    Shot("cabinet-bilan", "doctor", "/cabinet/bilan"),
    Shot("cabinet-releve", "doctor", "/cabinet/releve"),
    Shot("cabinet-equipe", "doctor", "/cabinet/equipe"),
    Shot("connexion", "", "/connexion"),
    Shot("demo", "", "/demo"),
    Shot("comptes", "admin", "/comptes"),
    Shot("compte-mobile", "admin", "/compte", viewport=NARROW, scheme="dark"),
    Shot("pilotage", "ars", "/pilotage"),
    Shot("pilotage-mobile", "ars", "/pilotage", viewport=NARROW, scheme="dark"),
    Shot("pilotage-crise", "ars", "/pilotage/crise", foreseen),
    Shot("pilotage-plan", "ars", "/pilotage/crise/plan"),
    Shot("pilotage-bilan", "ars", "/pilotage/crise/bilan"),
    Shot("pilotage-carte", "ars", "/pilotage/carte", drawn),
    Shot("pilotage-carte-nuit", "ars", "/pilotage/carte", drawn, scheme="dark"),
    Shot("pilotage-besoins", "ars", "/pilotage/besoins"),
    Shot("pilotage-offre", "ars", "/pilotage/offre"),
    Shot("pilotage-journees", "ars", "/pilotage/journees"),
    Shot("pilotage-etude", "ars", "/pilotage/journees", studied),
    Shot("pilotage-aci", "ars", "/pilotage/aci"),
    Shot("pilotage-reglages", "ars", "/pilotage/reglages"),
    Shot("imprime-aci", "ars", "/pilotage/aci", printed),
    Shot("imprime-releve", "doctor", "/cabinet/releve", printed),
    Shot("imprime-jour", "doctor", "/cabinet", printed),
    Shot("mural", "ars", "/mural", viewport=WIDEST),
    Shot("chiffres", "", "/chiffres"),
)


@contextlib.asynccontextmanager
async def _world(folder: Path) -> AsyncIterator[tuple[Browsing, World]]:
    """A service with the places of an invented département, and a browser."""
    postgres, valkey = (
        start_postgres(folder / "postgres", durable=False),
        start_valkey(folder / "valkey", durable=False),
    )
    try:
        await migrate(postgres.url)
        settings = settings_for(
            postgres.url,
            valkey.url,
            demo="SAS du département 69",
            territories=(TERRITORY,),
            history_dir=str(folder / "journees"),
        )
        async with run_service(settings) as service, async_playwright() as driver:
            geography = service.geography
            world = world_of(SOURCE, geography.communes_of(TERRITORY), geography.territories)
            practice = await service.key("manager", professionals=("*",), source=SOURCE)
            now = service.clock.now()
            slots = [
                slot
                for day in schedule(now.astimezone(ZoneInfo("Europe/Paris")), 3).days
                for slot in places_of(world, SOURCE, day, now)
                if datetime.fromisoformat(slot["start"]) > now
            ]
            for first in range(0, len(slots), 2_000):
                await practice.publish(*slots[first : first + 2_000])
            # fields of hours and dates are drawn in the language of the browser itself (Debian: chromium-l10n)
            french: dict[str, str | float | bool] = {**os.environ, "LANGUAGE": "fr"}
            browser = await driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"], env=french)
            yield Browsing(service, browser), world
            await browser.close()
    finally:
        valkey.stop()
        postgres.stop()


async def take(out: Path, only: str) -> None:
    """Take all pictures, or those whose names begin so (several: separated by commas)."""
    folder = Path(tempfile.mkdtemp(prefix="sas-shots-"))
    os.chmod(folder, 0o755)
    try:
        async with _world(folder) as (browsing, world):
            centre = busiest_centre(world)
            wanted = [shot for shot in SHOTS if shot.name.startswith(tuple(only.split(",")))]
            if any(shot.name.startswith(_STEERING) for shot in wanted):
                await a_week(browsing.service, TERRITORY)
            if any(shot.name in _STUDIED for shot in wanted):
                await recorded_days(browsing.service, TERRITORY)
            rights: dict[str, dict[str, Any]] = {
                "centre": {"structures": (centre.finess,), "source": SOURCE, "name": centre.name},
                "osnp": {"territories": (TERRITORY,), "name": "Camille Fictive (OSNP)"},
                "ars": {"territories": (TERRITORY,), "name": "Pilotage fictif"},
                "admin": {"name": "Administration fictive"},
            }
            logins: dict[str, str] = {}
            for shot in wanted:
                if shot.role == "doctor" and "doctor" not in rights:
                    rights["doctor"] = await practice.a_practice(browsing)
                if shot.role not in logins:
                    role = {"centre": "manager", "doctor": "professional"}.get(shot.role, shot.role or "admin")
                    logins[shot.role] = await browsing.account(role, **dict(rights.get(shot.role, rights["admin"])))
                login = logins[shot.role]
                async with browsing.signed_in(login, viewport=shot.viewport, scheme=shot.scheme) as somebody:
                    if not shot.role:
                        await somebody.context.clear_cookies()
                    page = await somebody.open(shot.path)
                    # what has just come flashes for a second: not in pictures
                    await page.emulate_media(reduced_motion="reduce")
                    await shot.prepare(page)
                    await page.screenshot(path=out / f"{shot.name}.png", full_page=True, animations="disabled")
                    print(out / f"{shot.name}.png")  # noqa: T201
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/img/console"))
    parser.add_argument("--only", default="", help="names that begin so, separated by commas")
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    chosen.out.mkdir(parents=True, exist_ok=True)
    asyncio.run(take(chosen.out, chosen.only))
