"""The regulator's day in a real browser: ask, confirm, others' changes, cuts, a hold that runs out; all by keyboard."""

import asyncio
from datetime import datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from playwright.async_api import Page, Route, expect

from adapters.geo.gazetteer import Commune
from tests.api.running import Caller, next_spot, rpps, slot, wish
from tests.browser.desk import NARROW, Browsing, unreached, violations

HELD = "#answer .shown.is-held"


async def spot_with_places(browsing: Browsing, *minutes: float, **changes: Any) -> tuple[Commune, Caller]:
    """A commune that no other test uses, with places in so many minutes, and the practice that publishes them."""
    service = browsing.service
    spot, practice = next_spot(service.geography), await service.practice()
    at = service.clock.now()
    if minutes:
        await practice.publish(*[slot(spot, at + timedelta(minutes=m), **changes) for m in minutes])
    return spot, practice


async def ask(page: Page, spot: Commune, words: str = "24h") -> None:
    """Ask by the line, as one types it."""
    await page.keyboard.press("F9")
    await page.keyboard.type(f"{spot.code} {words}")
    await page.keyboard.press("Enter")


async def settled(page: Page) -> None:
    """Wait as somebody does who reads the answer first: for a moment the keys do not act on what has just come."""
    await page.locator("#answer:not(.settling):not([aria-busy=true])").wait_for()


async def press(page: Page, key: str) -> None:
    """Press a key of the answer, which was read before."""
    await settled(page)
    await page.keyboard.press(key)


async def test_the_main_day_by_keyboard(browsing: Browsing) -> None:
    spot, practice = await spot_with_places(browsing, 120, 180, 240)
    async with browsing.person("osnp") as osnp, await practice.listen() as heard:
        page = await osnp.open("/regulation")
        await expect(page.locator("#phrase")).to_be_focused()
        await page.keyboard.type(f"{spot.code}")
        keys = ["Space", "<", "4", "h", "Enter"]
        for key in keys:
            await page.keyboard.press(key)
        await page.locator(HELD).wait_for()
        assert len(keys) <= 12
        await expect(page.locator("#shown-title")).to_be_focused()
        first = await page.locator(".shown").get_attribute("data-id")
        assert await page.locator(".countdown strong").inner_text() != ""
        assert await violations(page) == []
        # another place, by one key; never the same again
        before = await page.locator("#shown-title").inner_text()
        await press(page, "F4")
        await expect(page.locator("#shown-title")).not_to_have_text(before)
        await page.locator(HELD).wait_for()
        await press(page, "F2")
        await page.locator("#answer .shown.is-firm").wait_for()
        await heard.event("booking.firm")
        await expect(page.locator(f"#row-{first}")).to_contain_text("Confirmée")
        assert await violations(page) == []
        await press(page, "Shift+F4")
        await expect(page.locator("#shown-title")).to_have_text("Annulée")
        await heard.event("booking.cancelled")


async def test_the_line_fills_the_form_and_the_form_counts(browsing: Browsing) -> None:
    spot, _ = await spot_with_places(browsing, 120, offers=["enfant"])
    async with browsing.person("osnp", territories=(spot.territory, "69")) as osnp:
        page = await osnp.open("/regulation")
        await page.keyboard.type("kiné 3 ans 69003 < 3 h fièvre")
        await expect(page.locator("#commune")).to_have_value("Lyon 3e Arrondissement (69383)")
        await expect(page.locator("#profession")).to_have_value("KINE")
        await expect(page.locator("#delay")).to_have_value("2H")
        await expect(page.locator("#age")).to_have_value("enfant")
        await expect(page.locator("input[value=enfant]")).to_be_checked()
        await page.get_by_text("Non compris : « fievre ».").wait_for()
        assert await violations(page) == []
        # by hand: what was changed in the form after the line was read is what counts
        await page.select_option("#profession", "MG")
        await page.fill("#commune", f"{spot.name} ({spot.code})")
        await page.select_option("#delay", "24H")
        await page.get_by_role("button", name="Demander une place").click()
        await page.locator(HELD).wait_for()
        request = await browsing.service.stores.ledger.requests_of_key(osnp.key_id, None, None, 5)
        assert f'"insee" : "{spot.code}"' in request[0] and '"age_band" : "enfant"' in request[0]
        # a need that cannot be: said beside, what was typed stays
        await page.fill("#phrase", "mg nullepartville")
        await page.keyboard.press("Enter")
        await page.get_by_role("alert").get_by_text("commune inconnue : « nullepartville »").wait_for()
        await page.fill("#phrase", f"P1 {spot.code}")
        await page.keyboard.press("Enter")
        await page.get_by_role("alert").get_by_text("orienter AMU/SMUR").first.wait_for()
        assert await violations(page) == []


async def test_enter_does_not_wait_for_the_reading_of_the_line(browsing: Browsing) -> None:
    spot, _ = await spot_with_places(browsing, 120)
    async with browsing.person("osnp") as osnp:
        page = await osnp.open("/regulation")
        stuck, begun = asyncio.Event(), asyncio.Event()

        async def hold(route: Route) -> None:
            begun.set()
            await stuck.wait()
            await route.abort()

        await page.route("**/regulation/lire", hold)
        await page.keyboard.type(f"{spot.code} 4h")
        await asyncio.wait_for(begun.wait(), 15)
        await page.keyboard.press("Enter")
        await page.locator(HELD).wait_for()
        stuck.set()


async def test_a_slow_reading_loses_nothing_of_what_is_typed_after_it_nor_of_what_is_set_by_hand(
    browsing: Browsing,
) -> None:
    spot, _ = await spot_with_places(browsing, 60, 120)
    async with browsing.person("osnp") as osnp:
        page = await osnp.open("/regulation")
        stuck, begun = asyncio.Event(), asyncio.Event()

        async def hold(route: Route) -> None:
            begun.set()
            await stuck.wait()
            await route.continue_()

        await page.route("**/regulation/lire", hold, times=1)
        await page.keyboard.type(f"{spot.code}")
        await asyncio.wait_for(begun.wait(), 15)
        await page.keyboard.type(" enfant")
        await expect(page.locator("input[name=read]")).to_have_value(f"{spot.code} enfant")
        stuck.set()
        await page.select_option("#age", "")
        await page.uncheck("input[value=enfant]")
        await page.select_option("#delay", "48H")
        # the next line is read while the answer to this one is on its way, and that does not write over it
        stuck.clear()
        begun.clear()
        await page.route("**/regulation/demandes", hold, times=1)
        await page.focus("#phrase")
        await page.keyboard.press("Enter")
        await asyncio.wait_for(begun.wait(), 15)
        await page.keyboard.press("F9")
        await page.keyboard.type("kiné 69003 2h")
        await expect(page.locator("#profession")).to_have_value("KINE")
        stuck.set()
        await page.locator(HELD).wait_for()
        assert await page.input_value("#profession") == "KINE" and await page.input_value("#delay") == "2H"
        (row,) = await browsing.service.rows("select delay, age_band from request where key_id = $1", osnp.key_id)
        assert tuple(row) == ("48H", None)


async def test_what_is_set_by_hand_while_the_line_is_read_counts(browsing: Browsing) -> None:
    spot, _ = await spot_with_places(browsing, 60, 120)
    async with browsing.person("osnp") as osnp:
        page = await osnp.open("/regulation")
        stuck, begun = asyncio.Event(), asyncio.Event()

        async def hold(route: Route) -> None:
            begun.set()
            await stuck.wait()
            await route.continue_()

        await page.route("**/regulation/lire", hold)
        await page.keyboard.type(f"{spot.code} enfant 4h")
        await asyncio.wait_for(begun.wait(), 15)
        await page.select_option("#delay", "48H")
        await page.check("input[value=tele]")
        stuck.set()
        await expect(page.locator("#age")).to_have_value("enfant")
        assert await page.input_value("#delay") == "48H"
        await expect(page.locator("input[value=cabinet]")).to_be_checked()
        await expect(page.locator("input[value=tele]")).to_be_checked()
        # the line changes: it says everything anew
        await page.focus("#phrase")
        await page.keyboard.press("End")
        await page.keyboard.type(" tp")
        await expect(page.locator("input[value=tiers_payant]")).to_be_checked()
        assert await page.input_value("#delay") == "4H"
        await expect(page.locator("input[value=tele]")).not_to_be_checked()
        # Enter before the reading of what was typed last
        stuck.clear()
        begun.clear()
        await page.keyboard.press("Home")
        await page.keyboard.type("mg ")
        await asyncio.wait_for(begun.wait(), 15)
        await page.uncheck("input[value=tiers_payant]")
        await page.select_option("#age", "adulte")
        await page.uncheck("input[value=enfant]")
        await page.focus("#phrase")
        await page.keyboard.press("Enter")
        await page.locator(HELD).wait_for()
        stuck.set()
        sql = "select delay, age_band, modes, needs from request where key_id = $1"
        (row,) = await browsing.service.rows(sql, osnp.key_id)
        assert tuple(row) == ("4H", "adulte", ["cabinet"], [])
        # and what is set by hand for the next one while an answer is on its way is not written over by it
        stuck.clear()
        begun.clear()
        await page.route("**/regulation/demandes", hold, times=1)
        await page.keyboard.press("F9")
        await page.keyboard.press("Enter")
        await asyncio.wait_for(begun.wait(), 15)
        await page.select_option("#age", "senior")
        stuck.set()
        await expect(page.locator("#list .row")).to_have_count(2)
        assert await page.input_value("#age") == "senior"


async def test_after_an_answer_that_never_came_the_next_need_gets_its_own_place(browsing: Browsing) -> None:
    spot, practice = await spot_with_places(browsing, 120, 180)
    await practice.publish(slot(spot, browsing.service.clock.now() + timedelta(minutes=60), profession="PED"))
    async with browsing.person("osnp") as osnp:
        page = await osnp.open("/regulation")
        await ask(page, spot, "4h")
        await page.locator(HELD).wait_for()

        async def lost(route: Route) -> None:
            await route.fetch()
            await route.abort()

        # asked and committed, but the answer is lost on its way …
        await page.route("**/regulation/demandes", lost, times=1)
        await ask(page, spot, "2h")
        await page.get_by_text("Le service ne répond pas").wait_for()
        await page.locator("#list .row").nth(1).wait_for()
        # … also when the page renews by itself what it shows
        async with page.expect_response("**/regulation/demandes/*"):
            await page.evaluate("sas.say('sas-refresh')")
        await expect(page.locator("#shown-title")).to_be_visible()
        # the same again is the same request; the next patient has another one
        await page.focus("#phrase")
        await page.keyboard.press("Enter")
        await expect(page.locator("#shown-title")).to_be_focused()
        await expect(page.locator("#list .row")).to_have_count(2)
        await page.get_by_text("Cette demande était déjà faite").wait_for()
        assert await violations(page) == []
        # two patients may need the same
        await page.focus("#phrase")
        await page.keyboard.press("Enter")
        await expect(page.locator("#list .row")).to_have_count(3)
        await page.get_by_text("Cette demande était déjà faite").wait_for(state="detached")
        await page.route("**/regulation/demandes", lost, times=1)
        await ask(page, spot, "1h")
        await page.get_by_text("Le service ne répond pas").wait_for()
        await ask(page, spot, "pédiatre 4h")
        await page.locator("#answer .shown[data-about^='Pédiatr']").wait_for()
        await expect(page.locator("#list .row")).to_have_count(5)
        browsing.complaints.clear()  # the browser says of each lost answer what the test is about


async def test_who_got_no_place_in_time_stays_on_the_page_to_be_called_back(browsing: Browsing) -> None:
    spot, _ = await spot_with_places(browsing, 120)
    far, _ = await spot_with_places(browsing)
    async with browsing.person("osnp") as osnp:
        page = await osnp.open("/regulation")
        await page.locator("#live[data-state=on]").wait_for()
        await ask(page, far, "30 min")
        await page.locator("#answer .shown.is-waiting").wait_for()
        late = await page.locator(".shown").get_attribute("data-id")
        await ask(page, spot, "4h")
        await page.locator(HELD).wait_for()
        # its time passes while another patient is on the line
        browsing.service.clock.ahead += timedelta(minutes=31)
        row = page.locator(f"#row-{late}.is-unserved")
        await row.get_by_text("Sans place").wait_for()
        await page.get_by_role("status").get_by_text("Échéance passée sans place").wait_for(state="attached")
        assert await violations(page) == []
        await page.reload()
        await row.click()
        await page.get_by_role("heading", name="Échéance passée sans place : patient à rappeler").wait_for()
        assert await violations(page) == []
        # once opened it makes room for those that nobody has looked at yet, and stays
        await page.reload()
        await expect(page.locator("#list .row").last).to_have_id(f"row-{late}")
        # for three hours
        browsing.service.clock.ahead += timedelta(hours=3)
        await page.evaluate("sas.say('sas-refresh')")
        await row.wait_for(state="detached")


async def test_a_late_answer_does_not_take_the_place_of_what_was_opened_meanwhile(browsing: Browsing) -> None:
    spot, _ = await spot_with_places(browsing, 60, 120, 180, 240)
    async with browsing.person("osnp") as osnp:
        page = await osnp.open("/regulation")
        await ask(page, spot, "4h")
        await page.locator(HELD).wait_for()
        first = await page.locator(".shown").get_attribute("data-id")
        await ask(page, spot, "8h")
        await page.locator(f"{HELD}:not([data-id='{first}'])").wait_for()
        second = await page.locator(".shown").get_attribute("data-id")
        on_the_way, opened = asyncio.Event(), asyncio.Event()

        async def slow(route: Route) -> None:
            answer = await route.fetch()
            on_the_way.set()
            await opened.wait()
            await route.fulfill(response=answer)

        await page.route("**/autre", slow)
        before = await page.locator(f"#row-{second}").inner_text()
        await press(page, "F4")
        await asyncio.wait_for(on_the_way.wait(), 15)
        await page.locator(f"#row-{first}").click()
        await page.locator(f".shown[data-id='{first}']").wait_for()
        opened.set()
        await page.get_by_text("Une réponse est arrivée entre-temps").wait_for()
        await expect(page.locator(f"#row-{second}")).not_to_have_text(before)
        assert await page.locator(".shown").get_attribute("data-id") == first
        # nor does the answer to a need take the focus from the line where the next one is being typed
        opened.clear()
        on_the_way.clear()
        await page.route("**/regulation/demandes", slow)
        await ask(page, spot, "12h")
        await asyncio.wait_for(on_the_way.wait(), 15)
        await page.keyboard.press("F9")
        await page.keyboard.type("ki")
        opened.set()
        await page.locator(f"{HELD}:not([data-id='{first}'])").wait_for()
        await page.keyboard.type("né")
        assert await page.input_value("#phrase") == "kiné"


async def test_a_key_pressed_twice_acts_once(browsing: Browsing) -> None:
    spot, _ = await spot_with_places(browsing, 60, 120, 180, 240)
    async with browsing.person("osnp") as osnp:
        page = await osnp.open("/regulation")
        await ask(page, spot, "8h")
        await page.locator(HELD).wait_for()
        title, acts = page.locator("#shown-title"), []
        page.on("request", lambda r: acts.append(r.url) if r.method == "POST" and "/demandes/" in r.url else None)
        # pressed before the place can have been read
        await page.keyboard.press("F2")
        await settled(page)
        assert acts == []
        # twice: while the first is on its way, and when the next place is there, which nobody has read out
        on_the_way, told = asyncio.Event(), asyncio.Event()

        async def slow(route: Route) -> None:
            on_the_way.set()
            await told.wait()
            await route.continue_()

        await page.route("**/autre", slow)
        before = await title.inner_text()
        await page.keyboard.press("F4")
        await asyncio.wait_for(on_the_way.wait(), 15)
        assert await page.locator("#answer").get_attribute("aria-busy") == "true"
        assert await violations(page) == []
        await page.keyboard.press("F4")
        await page.keyboard.press("F2")
        # as soon as the answer is on the page
        await page.evaluate(
            """() => {
              const press = (key) => document.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
              document.body.addEventListener("htmx:afterSettle", () => { press("F4"); press("F2"); }, { once: true });
            }"""
        )
        told.set()
        await expect(title).not_to_have_text(before)
        await settled(page)
        assert len(acts) == 1 and await page.locator(HELD).count() == 1
        # the same for a double click on what is replaced under it
        before = await title.inner_text()
        await page.get_by_role("button", name="Autre place").click()
        await expect(title).not_to_have_text(before)
        await page.mouse.down(click_count=2)
        await page.mouse.up(click_count=2)
        await settled(page)
        assert len(acts) == 2
        await page.keyboard.press("F2")
        await page.locator("#answer .shown.is-firm").wait_for()


async def test_what_others_do_is_seen_at_once(browsing: Browsing) -> None:
    spot, practice = await spot_with_places(browsing, 120)
    async with browsing.person("osnp") as osnp, browsing.person("regulator", name="Dr Collègue Fictif") as colleague:
        page, other = await osnp.open("/regulation"), await colleague.open("/regulation")
        await other.locator("#live[data-state=on]").wait_for()
        await ask(page, spot)
        await page.locator(HELD).wait_for()
        await press(page, "F2")
        await page.locator("#answer .shown.is-firm").wait_for()
        # the practice refuses, through its own channel: the request is looked for again, here nothing is left
        (booking,) = (await practice.get("/v1/bookings", **_window(browsing))).json()["bookings"]
        await practice.post(f"/v1/bookings/{booking['booking_id']}/refuse", {})
        await page.get_by_role("status").get_by_text("la recherche reprend").wait_for(state="attached")
        await page.locator("#answer .shown.is-waiting").wait_for()
        assert await violations(page) == []
        # a place appears: it is found without anybody asking
        await practice.publish(slot(spot, browsing.service.clock.now() + timedelta(minutes=200)))
        await page.locator(HELD).wait_for()
        # handed over: it leaves this screen and comes to the colleague's
        await page.get_by_text("Confier à un collègue").click()
        await page.select_option("#colleague", label="Dr Collègue Fictif")
        await page.get_by_role("button", name="Confier", exact=True).click()
        await page.get_by_text("Demande confiée").first.wait_for()
        await other.locator(".row.is-held").click()
        await other.locator(HELD).wait_for()
        await press(other, "F2")
        await other.locator("#answer .shown.is-firm").wait_for()


def _window(browsing: Browsing) -> dict[str, str]:
    now = browsing.service.clock.now()
    return {"from": (now - timedelta(hours=1)).isoformat(), "to": (now + timedelta(days=2)).isoformat()}


async def test_nothing_fits_and_what_would_is_one_key_away(browsing: Browsing) -> None:
    spot, _ = await spot_with_places(browsing, 180, km_north=12.0)
    async with browsing.person("osnp") as osnp:
        page = await osnp.open("/regulation")
        await ask(page, spot, "24h 5 km")
        await page.locator("#answer .shown.is-waiting").wait_for()
        await page.get_by_role("heading", name="Ce qui trouverait une place").wait_for()
        assert await violations(page) == []
        await press(page, "F2")
        await page.locator(HELD).wait_for()
        # the one it replaces is closed
        await expect(page.locator("#list .row")).to_have_count(1)


async def test_promises_and_en_sus_in_progress(browsing: Browsing) -> None:
    spot, practice = await spot_with_places(browsing, 120)
    service = browsing.service
    cpts = await service.key("cpts", territories=(spot.territory,))
    steps = [{"kind": "ask", "name": "Cabinets proches", "waves": 1, "at_once": 1, "wait_min": 30}]
    ladder = {"steps": steps, "why": "essai"}
    path = f"/v1/territories/{spot.territory}"
    await cpts.http.put(f"{path}/ladder", json=ladder, headers={"Idempotency-Key": f"echelle-{spot.code}"})
    consent = {
        "professional": {"rpps": rpps(), "name": "Dr Fictif"},
        "source_kind": "liberal",
        "location": {"lat": spot.lat, "lon": spot.lon, "insee": spot.code},
        "profession": "PED",
        "ask_from": "00:00",
        "ask_to": "24:00",
        "days": [1, 2, 3, 4, 5, 6, 7],
        "most_a_day": 5,
    }
    await practice.http.put("/v1/overflow/cabinet", json=consent)
    policy = {"policy": dict.fromkeys(("T0", "T1", "T2", "T3"), "promise"), "why": "essai"}
    await cpts.patch(f"{path}/settings", policy)
    async with browsing.person("osnp", territories=(spot.territory,)) as osnp:
        page = await osnp.open("/regulation")
        told = asyncio.Event()

        async def slow(route: Route) -> None:
            answer = await route.fetch()
            if route.request.method == "POST":
                await told.wait()
            await route.fulfill(response=answer)

        # also where somebody is asked before the answer is on the page
        await page.locator("#live[data-state=on]").wait_for()
        await page.route("**/regulation/demandes", slow)
        await ask(page, spot, "pédiatre 4h")
        await page.locator("#list .row").get_by_text("En sus : 1 sollicité").wait_for()
        told.set()
        await page.get_by_role("heading", name="En sus : des professionnels sont sollicités").wait_for()
        await page.get_by_text("En sus : 1 sollicité").wait_for()
        assert await violations(page) == []
        # the matcher reads a territory's setting every few seconds: asked again until it promises
        for _ in range(20):
            await ask(page, spot, "4h")
            await page.locator("#answer .shown[data-about^='Médecine générale']").wait_for()
            if await page.locator("#answer .shown.is-promised").count():
                break
            await press(page, "Shift+F4")
            await expect(page.locator("#shown-title")).to_have_text("Annulée")
        await page.get_by_role("heading", name="Promesse : sera vu avant").wait_for()
        assert await violations(page) == []
        # broken or kept, the practice takes its place back: the regulator is told at once
        (slot_id,) = await service.rows(
            "select s.external_id from booking b join slot s on s.id = b.slot_id "
            "where b.state = 'promised' and b.ended_at is null and s.insee = $1",
            spot.code,
        )
        await practice.post("/v1/slots/withdraw", {"external_ids": [slot_id["external_id"]]})
        await page.get_by_role("status").get_by_text("la recherche reprend").wait_for(state="attached")
        await page.locator("#answer .shown.is-waiting").wait_for()
        await page.get_by_text("Le cabinet a repris la place promise.").wait_for()


async def test_a_promise_that_the_crisis_breaks_is_shown_at_once_and_so_is_the_next_best(browsing: Browsing) -> None:
    spot, practice = await spot_with_places(browsing, 60)
    service, settings = browsing.service, f"/v1/territories/{spot.territory}/settings"
    ars, other = await service.key("ars", territories=(spot.territory,)), await service.regulator()
    tiers = ("T0", "T1", "T2", "T3")
    promise = {"policy": dict.fromkeys(tiers, "promise"), "crisis_allowed": True, "why": "essai"}
    assert (await ars.patch(settings, promise)).status_code == 200
    # the matcher looks at the settings every few seconds: started anew it has them
    await service.stop_core()
    await service.start_core()
    async with browsing.person("osnp", territories=(spot.territory,)) as osnp:
        page = await osnp.open("/regulation")
        await ask(page, spot, "48h")
        await page.get_by_role("heading", name="Promesse : sera vu avant").wait_for()
        asked = await other.ask(wish(spot, delay="4H"))
        assert asked["status"] == "waiting"
        crisis = {"policy": dict.fromkeys(tiers, "auto"), "crisis": True, "why": "essai"}
        assert (await ars.patch(settings, crisis)).status_code == 200
        broken = "Promesse rompue par la crise, patient à rappeler"
        await page.get_by_role("status").get_by_text(broken).wait_for(state="attached")
        await page.get_by_role("heading", name="Promesse rompue par la crise : patient à rappeler").wait_for()
        await page.locator("#list .row", has_text="Promesse rompue").wait_for()
        assert await violations(page) == []
        await other.until(asked["request_id"], lambda d: d["status"] in ("held", "promised"))
        # the best that comes next is there without anybody asking, and says that the patient was told something else
        await practice.publish(slot(spot, service.clock.now() + timedelta(minutes=200)))
        # a desk that promises looks at those who wait every five minutes, and when it starts
        await service.stop_core()
        await service.start_core()
        await page.get_by_text("La promesse d'avant a été rompue").wait_for()
        await page.get_by_role("heading", name="Promesse : sera vu avant").wait_for()
        assert await violations(page) == []


async def test_the_offer_of_72_hours_in_six_buckets_and_a_place_taken_from_it(browsing: Browsing) -> None:
    spot, _ = await spot_with_places(browsing, 100, 300, 30 * 60)
    async with browsing.person("osnp") as osnp:
        page = await osnp.open("/regulation")
        await ask(page, spot, "48h")
        await page.locator(HELD).wait_for()
        await page.keyboard.press("F8")
        dialog = page.get_by_role("dialog", name="Offre des 72 heures")
        await dialog.wait_for()
        assert await dialog.locator("thead th").count() == 7
        assert await violations(page) == []
        # the late one
        await dialog.locator("tbody button").last.click()
        await dialog.wait_for(state="hidden")
        await page.get_by_text("choisie par le régulateur").wait_for()


async def test_the_parts_of_the_page_do_not_wait_for_one_another(browsing: Browsing) -> None:
    spot, practice = await spot_with_places(browsing, 60, 120)
    async with browsing.person("osnp") as osnp:
        page = await osnp.open("/regulation")
        await page.locator("#live[data-state=on]").wait_for()
        await page.wait_for_load_state("networkidle")
        on_the_way, go = asyncio.Event(), asyncio.Event()

        async def slow(route: Route) -> None:
            answer = await route.fetch()
            on_the_way.set()
            await go.wait()
            await route.fulfill(response=answer)

        # the list is slow; the offer is asked for meanwhile, and the list again after it
        await page.route("**/regulation/demandes", slow, times=1)
        await page.evaluate("sas.say('sas-refresh')")
        await asyncio.wait_for(on_the_way.wait(), 15)
        await page.fill("#commune", f"{spot.name} ({spot.code})")
        await page.keyboard.press("F8")
        await page.evaluate("sas.say('sas-refresh')")
        dialog = page.get_by_role("dialog", name="Offre des 72 heures")
        await dialog.wait_for()
        go.set()
        await page.keyboard.press("Escape")
        # a list that was read before something happened is asked for again
        await ask(page, spot, "4h")
        await page.locator(HELD).wait_for()
        first = await page.locator(".shown").get_attribute("data-id")
        await press(page, "F2")
        await page.locator("#answer .shown.is-firm").wait_for()
        await ask(page, spot, "8h")
        await page.locator(HELD).wait_for()
        on_the_way.clear()
        go.clear()
        await page.route("**/regulation/demandes/*/confirmer", slow, times=1)
        await press(page, "F2")
        await asyncio.wait_for(on_the_way.wait(), 15)
        # the other one's place goes while the answer, which has the list of before, is on its way
        (booked,) = await browsing.service.rows("select booking_id::text as id from request where id = $1::uuid", first)
        await practice.post(f"/v1/bookings/{booked['id']}/refuse", {})
        await page.locator(f"#row-{first}:not(.is-firm)").wait_for()
        go.set()
        await page.locator("#answer .shown.is-firm").wait_for()
        await page.locator(f"#row-{first}:not(.is-firm)").wait_for()


async def test_the_offer_stays_while_it_is_read_and_does_not_come_over_the_next_line(browsing: Browsing) -> None:
    spot, practice = await spot_with_places(browsing, 60, 120)
    async with browsing.person("osnp") as osnp:
        page = await osnp.open("/regulation")
        await ask(page, spot, "4h")
        await page.locator(HELD).wait_for()
        await press(page, "F2")
        await page.locator("#answer .shown.is-firm").wait_for()
        await page.keyboard.press("F8")
        dialog = page.get_by_role("dialog", name="Offre des 72 heures")
        await dialog.wait_for()
        # what is behind it changes by itself
        (booking,) = (await practice.get("/v1/bookings", **_window(browsing))).json()["bookings"]
        await practice.post(f"/v1/bookings/{booking['booking_id']}/refuse", {})
        await page.locator("#answer .shown:not(.is-firm)").wait_for()
        await expect(dialog).to_be_visible()
        await page.keyboard.press("Escape")
        # an offer that comes late does not open over the next line
        on_the_way, go = asyncio.Event(), asyncio.Event()

        async def slow(route: Route) -> None:
            answer = await route.fetch()
            on_the_way.set()
            await go.wait()
            await route.fulfill(response=answer)

        await page.route("**/regulation/offre", slow)
        await page.keyboard.press("F8")
        await asyncio.wait_for(on_the_way.wait(), 15)
        await page.keyboard.press("F9")
        await page.keyboard.type("ki")
        async with page.expect_event("requestfinished", lambda done: done.url.endswith("/offre")):
            go.set()
        await page.keyboard.type("né")
        await expect(page.locator("input[name=read]")).to_have_value("kiné")
        await expect(dialog).to_be_hidden()
        # from the line itself it is only a key away
        await page.unroute("**/regulation/offre")
        await page.keyboard.press("F8")
        await dialog.wait_for()


async def test_a_hold_runs_out_on_screen_and_is_looked_for_again(browsing: Browsing) -> None:
    spot, _ = await spot_with_places(browsing, 120)
    async with browsing.person("osnp") as osnp:
        page = await osnp.open("/regulation", moving_clock=True)
        await ask(page, spot)
        await page.locator(HELD).wait_for()
        # the page counts by itself …
        await page.clock.fast_forward(160_000)
        await page.locator(".countdown.soon").wait_for()
        ahead = browsing.service.clock.ahead
        try:
            # … and asks the service what became of the place when nothing is left
            browsing.service.clock.ahead += timedelta(seconds=181)
            await page.clock.fast_forward(30_000)
            await page.locator("#answer .shown.is-lapsed").wait_for()
            assert await violations(page) == []
            await press(page, "F2")
            await page.locator(HELD).wait_for()
        finally:
            browsing.service.clock.ahead = ahead


async def test_a_cut_network_and_an_ended_session(browsing: Browsing) -> None:
    spot, practice = await spot_with_places(browsing, 120)
    login = await browsing.account("osnp", password="une phrase assez longue")
    async with browsing.signed_in(login) as osnp:
        page = await osnp.open("/regulation")
        await ask(page, spot)
        await page.locator(HELD).wait_for()
        await press(page, "F2")
        await page.locator("#answer .shown.is-firm").wait_for()
        await osnp.context.set_offline(True)
        await page.locator("#live[data-state=off]").wait_for()
        # meanwhile the practice withdraws the place
        (booking,) = (await practice.get("/v1/bookings", **_window(browsing))).json()["bookings"]
        await practice.post(f"/v1/bookings/{booking['booking_id']}/refuse", {})
        await page.fill("#phrase", f"{spot.code} 4h")
        await page.keyboard.press("Enter")
        await page.get_by_text("Le service ne répond pas").wait_for()
        assert await violations(page) == []
        assert await page.input_value("#phrase") == f"{spot.code} 4h"
        await osnp.context.set_offline(False)
        await page.locator("#live[data-state=on]").wait_for()
        await page.locator("#answer .shown.is-waiting").wait_for()
        await browsing.accounts.sign_out(osnp.token)
        await page.focus("#phrase")
        await page.keyboard.press("Enter")
        await page.get_by_role("dialog", name="Votre session est terminée").wait_for()
        await page.keyboard.type("une phrase assez longue")
        await page.keyboard.press("Enter")
        await page.get_by_role("dialog", name="Votre session est terminée").wait_for(state="hidden")
        assert await page.input_value("#phrase") == f"{spot.code} 4h"
        await page.keyboard.press("F9")
        await page.keyboard.press("Enter")
        await expect(page.locator("#list .row")).to_have_count(2)
    browsing.complaints.clear()  # the browser says of each refused connection what the test is about


async def test_opened_from_a_regulators_software_without_the_address(browsing: Browsing) -> None:
    spot, _ = await spot_with_places(browsing, 120)
    query = f"origin=lrm-test&inseecode={spot.code}&city=x&streetnumber=12&streetname=rue+Secrete"
    query += "&specialty=urn:oid:1.2.250.1.213.2.28%7CSM54&practitioner=urn:oid:1.2.250.1.71.4.2.1%7C810000000012"
    query += "&delay=4H&caseref=DR-42"
    async with browsing.person("osnp") as osnp:
        page = await osnp.open(f"/?{query}")
        await page.locator("#commune").wait_for()
        assert "Secrete" not in page.url and "origin" not in page.url and "Secrete" not in await page.content()
        assert await page.input_value("#commune") == f"{spot.name} ({spot.code})"
        assert await page.input_value("#delay") == "4H" and await page.input_value("#mt") == "10000000012"
        await page.get_by_text("Adresse non reprise").wait_for()
        await page.get_by_role("button", name="Demander une place").click()
        await page.locator(HELD).wait_for()
        assert "DR-42" in await page.locator("#lrm").input_value()
        # once: the opening is used up
        await page.reload()
        assert await page.input_value("#commune") == ""
        await page.goto(browsing.service.url + "/?origin=inconnu&inseecode=69123")
        await page.get_by_text("Flux désactivé").wait_for()


async def test_the_file_number_is_of_one_patient(browsing: Browsing) -> None:
    spot, _ = await spot_with_places(browsing, 60, 120, 180, 240, 300, 360)
    query = f"origin=lrm-test&inseecode={spot.code}&practitioner=urn:oid:1.2.250.1.71.4.2.1%7C810000000012"
    files = "select case_ref, mt, delay from request where key_id = $1 order by created_at"
    async with browsing.person("osnp") as osnp:
        page = await osnp.open(f"/?{query}&caseref=DR-43")
        file = page.get_by_label("Dossier", exact=True)
        await expect(file).to_have_value("DR-43")
        assert await violations(page) == []
        # what the line does not say stays as the software gave it
        await page.focus("#phrase")
        await page.keyboard.type("4h")
        await expect(page.locator("input[name=read]")).to_have_value("4h")
        await expect(page.locator("#commune")).to_have_value(f"{spot.name} ({spot.code})")
        await expect(page.locator("#mt")).to_have_value("10000000012")
        await expect(file).to_have_value("DR-43")
        await page.keyboard.press("Enter")
        await page.locator(HELD).wait_for()
        await page.locator(".shown .about").get_by_text("dossier DR-43").wait_for()
        # the next patient is another one
        await expect(file).to_have_count(0)
        await ask(page, spot, "8h")
        await page.locator(".shown .about", has_text="dossier").wait_for(state="detached")
        # Enter before the line is read, with what the software gave
        await page.goto(f"{browsing.service.url}/?{query}&caseref=DR-44")
        await file.wait_for()
        await page.keyboard.type("12h")
        await page.keyboard.press("Enter")
        await page.locator(HELD).wait_for()
        # left without asking: the next one does not get it either, nor does the reading of its line
        await page.goto(f"{browsing.service.url}/?{query}&caseref=DR-45")
        await file.wait_for()
        await ask(page, spot, "48h")
        await page.locator(HELD).wait_for()
        # another request was opened before the answer came
        on_the_way, opened = asyncio.Event(), asyncio.Event()

        async def slow(route: Route) -> None:
            answer = await route.fetch()
            on_the_way.set()
            await opened.wait()
            await route.fulfill(response=answer)

        await page.goto(f"{browsing.service.url}/?{query}&caseref=DR-47")
        await file.wait_for()
        await page.route("**/regulation/demandes", slow, times=1)
        await page.focus("#phrase")
        await page.keyboard.press("Enter")
        await asyncio.wait_for(on_the_way.wait(), 15)
        await page.locator(".row").first.click()
        await page.locator(HELD).wait_for()
        opened.set()
        await expect(file).to_have_count(0)
        # taken out by hand
        await page.goto(f"{browsing.service.url}/?{query}&caseref=DR-46")
        await file.fill("")
        await page.focus("#phrase")
        await page.keyboard.press("Enter")
        await page.locator(HELD).wait_for()
    rows = await browsing.service.rows(files, osnp.key_id)
    doctor = "10000000012"
    assert [tuple(row) for row in rows] == [
        ("DR-43", doctor, "4H"),
        (None, None, "8H"),
        ("DR-44", doctor, "12H"),
        (None, None, "48H"),
        ("DR-47", doctor, "24H"),
        (None, doctor, "24H"),
    ]


async def test_the_text_for_the_file_is_dated_and_the_page_renews_itself_at_midnight(browsing: Browsing) -> None:
    spot, _ = await spot_with_places(browsing, 26 * 60)
    service = browsing.service
    async with browsing.person("osnp") as osnp:
        # a feed that says nothing: it is not what renews the page here
        await osnp.context.route_web_socket("**/flux", lambda _: None)
        page = await osnp.open("/regulation", moving_clock=True)
        await ask(page, spot, "48h")
        await page.locator(HELD).wait_for()
        place = (service.clock.now() + timedelta(minutes=26 * 60)).astimezone(ZoneInfo("Europe/Paris"))
        assert f"{place:%d/%m/%Y} à {place:%-H}\u00a0h\u00a0" in await page.locator("#lrm").input_value()
        await press(page, "F2")
        await page.locator("#answer .shown.is-firm").wait_for()
        await page.wait_for_load_state("networkidle")
        # by the service's clock, which is not the browser's
        now = service.clock.now().astimezone(ZoneInfo("Europe/Paris"))
        midnight = datetime.combine(now.date() + timedelta(days=1), time(), now.tzinfo)
        left = int((midnight - now).total_seconds())
        asked: list[str] = []
        page.on("request", lambda sent: asked.append(sent.url))
        await page.clock.fast_forward(1000 * (left - 60))
        await page.evaluate("new Promise((done) => setTimeout(done, 5))")
        assert asked == []
        async with page.expect_response("**/regulation/demandes/*"):
            await page.clock.fast_forward(75_000)


@pytest.mark.parametrize("viewport", [NARROW, {"width": 683, "height": 384}], ids=["phone", "zoom-200"])
async def test_narrow_and_enlarged(browsing: Browsing, viewport: dict[str, int]) -> None:
    spot, _ = await spot_with_places(browsing, 120, 300)
    async with browsing.person("osnp", viewport=viewport, scheme="dark") as osnp:
        page = await osnp.open("/regulation")
        await ask(page, spot)
        await page.locator(HELD).wait_for()
        assert await violations(page) == []
        assert await page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


async def test_everything_is_reached_by_tab_and_shows_its_focus(browsing: Browsing) -> None:
    spot, _ = await spot_with_places(browsing, 120, 300)
    async with browsing.person("osnp") as osnp:
        page = await osnp.open("/regulation")
        await ask(page, spot)
        await page.locator(HELD).wait_for()
        assert await unreached(page) == []


async def test_weight_of_the_first_load(browsing: Browsing) -> None:
    spot, _ = await spot_with_places(browsing, 120, 300)
    async with browsing.person("osnp") as osnp:
        page = await osnp.context.new_page()
        cdp = await osnp.context.new_cdp_session(page)
        await cdp.send("Network.enable")
        weights: list[float] = []
        cdp.on("Network.loadingFinished", lambda done: weights.append(done["encodedDataLength"]))
        await page.goto(browsing.service.url + "/regulation", wait_until="networkidle")
        await ask(page, spot)
        await page.locator("#map .leaflet-overlay-pane").wait_for(state="attached")
        await asyncio.sleep(0)
        # with the map, which is only loaded with the first answer
        assert sum(weights) <= 200_000, sum(weights)
