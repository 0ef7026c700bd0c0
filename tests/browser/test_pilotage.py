"""Pilotage in a real browser: the main day of a coordinator, the wallboard, what everybody may know."""

import csv
import io
from datetime import timedelta
from pathlib import Path

from playwright.async_api import Page

from tests.api.running import Caller, Running, slot, wish
from tests.browser.desk import Browsing, violations

PLAN = {
    "tension": {"settings": {"radius_pct": 125, "urgent_reserve_pct": 20}, "text": "Appeler la CPTS"},
    "crise": {"settings": {"radius_pct": 150}},
}


async def some_day(service: Running, code: str) -> Caller:
    """Give a territory six places and seven patients, of whom one finds nothing; returns the regulator."""
    spot = next(c for c in service.geography.communes_of(code) if c.population > 20_000)
    regulator, practice = await service.regulator(code), await service.practice()
    start = service.clock.now() + timedelta(hours=2)
    await practice.publish(*(slot(spot, start + timedelta(minutes=15 * n)) for n in range(6)))
    for _ in range(5):
        asked = await regulator.ask(wish(spot, delay="24H"))
        await regulator.act("confirm", asked["request_id"])
    await regulator.ask(wish(spot, profession="DENT", delay="1H"))
    return regulator


async def fits(page: Page) -> bool:
    found: bool = await page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    return found


async def test_the_main_day_of_a_coordinator(browsing: Browsing, tmp_path: Path) -> None:
    service = browsing.service
    regulator = await some_day(service, "73")
    ars = await service.key("ars", territories=("73",))
    plan = await ars.http.put(
        "/v1/territories/73/crisis/plan", json={"plan": PLAN, "why": "essai"}, headers={"Idempotency-Key": "plan-de-73"}
    )
    assert plan.status_code == 200, plan.text
    async with (
        browsing.person("cpts", territories=("73",)) as coordinator,
        browsing.person("ars", territories=("73",)) as room,
    ):
        # a wall is opened in another browser, which then signs out
        wall = await room.open("/pilotage/reglages")
        await wall.get_by_label("Où se trouve cet écran").fill("Salle de crise")
        await wall.get_by_role("button", name="Ouvrir le mur ici").click()
        await wall.locator("#state", has_text="En direct").wait_for()
        await browsing.accounts.sign_out(room.token)
        waiting = wall.locator(".figures div", has_text="Demandes en attente").locator("dd")
        assert await waiting.inner_text() == "1"
        assert await wall.locator(".strip", has_text="Normal").is_visible()
        assert await violations(wall) == []

        # what is there now, and what comes, without a reload
        page = await coordinator.open("/pilotage")
        card = page.locator(".big", has_text="demandes en attente").locator("dd")
        assert await card.inner_text() == "1"
        await page.locator("#live[data-state=on]").wait_for()
        asked = await regulator.ask(wish(service.geography.by_code("73065"), profession="SF", delay="4H"))  # type: ignore[arg-type]
        await page.locator(".big", has_text="demandes en attente").locator("dd", has_text="2").wait_for()
        await wall.locator(".figures div", has_text="Demandes en attente").locator("dd", has_text="2").wait_for()

        # tension: its effects first, by keyboard; then everybody sees it
        await page.get_by_role("link", name="Changer de niveau").click()
        await page.get_by_label("Tension").check()
        await page.get_by_label("Pourquoi").fill("Bronchiolite, SAMU saturé")
        await page.keyboard.press("Enter")
        effects = page.locator(".effects")
        await effects.get_by_text("Rayon accordé").wait_for()
        assert await effects.get_by_role("row", name="Rayon accordé").inner_text() == (
            "Rayon accordé (% du rayon demandé)\t100\t125"
        )
        assert await violations(page) == []
        assert (await ars.get("/v1/crisis", territory="73")).json()["territories"][0]["level"] == "normal"
        await effects.get_by_role("button", name="Confirmer : tension").click()
        await page.locator("#level", has_text="Tension").wait_for()
        await wall.locator(".strip.tension").wait_for()
        assert (await ars.get("/v1/territories/73/settings")).json()["radius_pct"] == 125
        assert await page.get_by_role("cell", name="Bronchiolite, SAMU saturé").is_visible()
        # straight from a drill nothing changes for anybody
        await page.get_by_label("Crise").check()
        await page.get_by_label("Pourquoi").fill("Exercice annuel")
        await page.get_by_label("C'est un exercice").check()
        await page.get_by_role("button", name="Voir ce que cela change").click()
        await page.get_by_role("button", name="Confirmer : crise (exercice)").click()
        await page.get_by_text("Exercice : crise").first.wait_for()
        await wall.locator(".strip.tension", has_text="EXERCICE CRISE").wait_for()
        assert (await ars.get("/v1/territories/73/settings")).json()["radius_pct"] == 125

        # the figures as a file
        await regulator.act("cancel", asked["request_id"], {"reason": "regulator"})
        await page.get_by_role("link", name="Besoins et délais").click()
        async with page.expect_download() as waited:
            await page.get_by_role("link", name="Télécharger (CSV) : Demandes et délais par niveau d'urgence").click()
        file = tmp_path / "tiers.csv"
        await (await waited.value).save_as(file)
        rows = list(csv.DictReader(io.StringIO(file.read_text(encoding="utf-8-sig")), delimiter=";"))
        assert {row["Niveau"][:2]: row["Servies"] for row in rows} == {"T0": "0", "T1": "0", "T2": "5", "T3": "0"}

        # the wall goes dark when it is closed
        await page.goto(f"{service.url}/pilotage/reglages")
        await page.get_by_role("button", name="Fermer l'écran Salle de crise").click()
        await wall.locator("#state[data-state=stale]", has_text="Écran fermé").wait_for()


async def test_a_level_seen_before_another_declared_one_lowers_nothing(browsing: Browsing) -> None:
    service = browsing.service
    ars = await service.key("ars", territories=("05",))
    async with browsing.person("cpts", territories=("05",)) as coordinator:
        page = await coordinator.open("/pilotage/crise")
        await page.locator("#live[data-state=on]").wait_for()
        await page.get_by_label("Tension").check()
        await page.get_by_label("Pourquoi").fill("Standard saturé")
        await page.get_by_role("button", name="Voir ce que cela change").click()
        await page.get_by_role("heading", name="Normal → Tension").wait_for()
        # meanwhile somebody else declares more
        declared = await ars.post("/v1/crisis", {"scope": "05", "level": "crise", "why": "plan blanc"})
        assert declared.status_code == 200, declared.text
        await page.locator("#level", has_text="Crise").wait_for()
        await page.get_by_role("button", name="Confirmer : tension").click()
        await page.get_by_role("alert").get_by_text("Ce niveau a changé entre-temps").wait_for()
        assert (await ars.get("/v1/crisis", territory="05")).json()["territories"][0]["level"] == "crise"
        # looked at again, it may be lowered
        await page.get_by_role("button", name="Voir ce que cela change").click()
        await page.get_by_role("heading", name="Crise → Tension").wait_for()
        await page.get_by_role("button", name="Confirmer : tension").click()
        await page.locator("#level", has_text="Tension").wait_for()


async def test_what_one_is_writing_stays_when_the_page_renews_itself(browsing: Browsing) -> None:
    service = browsing.service
    ars = await service.key("ars", territories=("09",))
    declared = await ars.post("/v1/crisis", {"scope": "09", "level": "tension", "why": "canicule"})
    assert declared.status_code == 200, declared.text
    async with browsing.person("cpts", territories=("09",)) as coordinator:
        page = await coordinator.open("/pilotage/crise")
        await page.locator("#live[data-state=on]").wait_for()
        await page.get_by_text("Appeler les cabinets qui y ont consenti").click()
        await page.get_by_label("Message").fill("Merci d'ouvrir ce soir")
        await page.keyboard.press("Home")
        declared = await ars.post("/v1/crisis", {"scope": "09", "level": "crise", "why": "plan blanc"})
        await page.locator("#level", has_text="Crise").wait_for()
        # one goes on where one was
        await page.keyboard.type("Urgent. ")
        assert await page.get_by_label("Message").input_value() == "Urgent. Merci d'ouvrir ce soir"
        # also on what has no name of its own
        send = page.get_by_role("button", name="Envoyer l'appel")
        await send.focus()
        declared = await ars.post("/v1/crisis", {"scope": "09", "level": "tension", "why": "mieux"})
        await page.locator("#level", has_text="Tension").wait_for()
        assert await send.evaluate("one => one === document.activeElement")
        assert await page.get_by_label("Valable (heures)").input_value() == "12"


async def test_a_wall_says_when_it_is_old_and_finds_the_service_again(browsing: Browsing) -> None:
    async with browsing.person("ars", territories=("38",)) as room:
        wall = await room.open("/mural?territoire=38")
        await wall.locator("#state", has_text="En direct").wait_for()
        # the clock of the page is moved on, not waited for
        await wall.evaluate("() => { const before = Date.now; Date.now = () => before() + 3600e3; }")
        await room.context.set_offline(True)
        await wall.locator("#state[data-state=stale]", has_text="Sans nouvelles depuis").wait_for()
        assert await violations(wall) == []
        await room.context.set_offline(False)
        await wall.locator("#state[data-state=fresh]").wait_for()


async def test_public_figures_need_no_account_and_name_nobody(browsing: Browsing) -> None:
    context = await browsing.browser.new_context(viewport={"width": 320, "height": 640})
    page = await context.new_page()
    answer = await page.goto(browsing.service.url + "/chiffres")
    assert answer is not None and answer.status == 200
    assert answer.headers["cache-control"] == "public, max-age=600"
    assert "set-cookie" not in answer.headers
    assert await violations(page) == []
    assert await fits(page)
    await context.close()
