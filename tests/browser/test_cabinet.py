"""The day of a practice in a real browser: places, patients, questions, stop; live, by keyboard, for nobody else."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from playwright.async_api import Page, Route

from adapters.geo.gazetteer import Commune
from tests.api.running import Caller, next_spot, rpps, wish
from tests.browser.desk import Browsing, Person, violations

PARIS = ZoneInfo("Europe/Paris")
PASSWORD = "une phrase assez longue"


class Practice:
    """A doctor, in a commune of their own, who keeps an agenda here; a regulator of that commune."""

    def __init__(self, browsing: Browsing, spot: Commune, key: Caller, regulator: Caller, number: str) -> None:
        self.browsing, self.spot, self.key, self.regulator, self.number = browsing, spot, key, regulator, number
        self.rights: dict[str, Any] = {"professionals": (number,), "source": f"cabinet-{number}"}

    @classmethod
    async def open(cls, browsing: Browsing, **agenda: Any) -> "Practice":
        number, spot = rpps(), next_spot(browsing.service.geography)
        key = await browsing.service.key("professional", professionals=(number,), source=f"cabinet-{number}")
        self = cls(browsing, spot, key, await browsing.service.regulator(), number)
        document = {
            "professional": {"rpps": number, "name": f"Dr Fictif {number[-4:]}"},
            "source_kind": "liberal",
            "location": {"lat": spot.lat, "lon": spot.lon, "insee": spot.code, "label": "Cabinet fictif"},
            "profession": "MG",
            **agenda,
        }
        answer = await key.http.put("/v1/agendas/cabinet", json=document)
        assert answer.status_code == 200, answer.text
        return self

    def clock(self, minutes: float) -> str:
        """Say what the clock of the place shows in so many minutes."""
        return (self.browsing.service.clock.now() + timedelta(minutes=minutes)).astimezone(PARIS).strftime("%H:%M")

    async def places(self, count: int, first: float, last: float) -> None:
        """Publish quick places from one minute to another, from now."""
        body = {"count": count, "start": self.clock(first), "end": self.clock(last)}
        answer = await self.key.post("/v1/agendas/cabinet/places", body)
        assert answer.status_code == 200, answer.text

    async def patient(self, **changes: Any) -> str:
        """Let a regulator find and confirm a place here; returns the request."""
        asked = await self.regulator.ask(wish(self.spot, **changes))
        await self.regulator.act("confirm", asked["request_id"])
        return str(asked["request_id"])


@asynccontextmanager
async def at_work(practice: Practice, role: str = "delegate", **more: Any) -> AsyncIterator[Page]:
    """A colleague's page of today, listening."""
    async with practice.browsing.person(role, **practice.rights, **more) as somebody:
        yield await opened(somebody)


async def opened(somebody: Person, path: str = "/cabinet") -> Page:
    page = await somebody.open(path)
    await page.locator("#live[data-state=on]").wait_for()
    return page


async def test_the_main_day_by_keyboard(browsing: Browsing) -> None:
    practice = await Practice.open(browsing)
    async with at_work(practice) as page, at_work(practice, "professional") as colleague:
        # quick places: A, number, hours, Enter
        await page.keyboard.press("a")
        await page.keyboard.type("3")
        await page.fill("#q-start", practice.clock(20))
        await page.fill("#q-end", practice.clock(100))
        await page.keyboard.press("Enter")
        await page.get_by_text("3 places publiées").wait_for()
        await page.locator(".chip.free", has_text="0 sur 3").wait_for()
        assert await violations(page) == []
        # two bookings arrive by themselves, with a sound once it is asked for
        await page.locator("h1").click()
        await page.keyboard.press("s")
        await page.locator("#sound[aria-pressed=true]").wait_for()
        rung = int(await page.locator("#board").get_attribute("data-rung") or 0)
        first = await practice.patient(age_band="enfant")
        await page.locator("[data-row]", has_text="Plage 1 sur 3").wait_for()
        await page.locator(f'#board[data-rung="{rung + 1}"]').wait_for()
        second = await practice.patient()
        for one in (page, colleague):
            await one.locator("[data-row]", has_text="Plage 2 sur 3").wait_for()
        # one is refused with a reason; the colleague's page and the regulator know at once
        await page.locator("summary", has_text="2 patients").click()
        await page.locator("details .tag", has_text="Enfant").wait_for()
        await page.locator("details li", has_text="Enfant").get_by_role("button", name="Refuser").click()
        await page.get_by_role("heading", name="Refuser ce rendez-vous").wait_for()
        assert await violations(page) == []
        await page.keyboard.press("3")
        for one in (page, colleague):
            await one.locator(".row.gone .tag", has_text="Refusé").wait_for()
        assert (await practice.regulator.request(first))["status"] != "firm"
        # the plage begins: one came
        browsing.service.clock.ahead += timedelta(minutes=30)
        await page.evaluate("sas.say('sas-tick')")
        await page.locator("[data-row]", has_text="Plage 1 sur 3").locator("[data-key=v]").wait_for()
        await page.locator("[data-row]", has_text="Plage 1 sur 3").focus()
        await page.keyboard.press("v")
        await page.locator("[data-row]", has_text="1 venu").wait_for()
        assert (await practice.regulator.request(second))["status"] == "fulfilled"
        await colleague.locator("[data-row]", has_text="1 venu").wait_for()


async def test_single_places_bookings_and_the_stop(browsing: Browsing) -> None:
    now = browsing.service.clock.now().astimezone(PARIS)
    tomorrow = (now + timedelta(days=1)).date().isoformat()
    hours = [
        {"id": "demain", "first": tomorrow, "start": "09:00", "end": "10:00", "each_min": 30},
        {"id": "bientot", "first": now.date().isoformat(), "start": _at(now, 20), "end": _at(now, 40), "each_min": 20},
    ]
    practice = await Practice.open(browsing, hours=hours, acceptance="explicit", accept_min=10)
    async with at_work(practice) as page:
        # a booking that is to be accepted: the countdown, then O; it begins, and nobody came: L
        request = await practice.patient(delay="1H")
        row = page.locator(".asked [data-row]")
        await row.locator("[data-until]", has_text="min").wait_for()
        assert await violations(page) == []
        await page.keyboard.press("o")
        await page.get_by_text("Rendez-vous accepté").wait_for()
        await row.wait_for(state="detached")
        browsing.service.clock.ahead += timedelta(minutes=25)
        await page.evaluate("sas.say('sas-tick')")
        await page.locator(".row.due").focus()
        await page.keyboard.press("l")
        await page.locator(".row.noshow").wait_for()
        assert (await practice.regulator.request(request))["status"] == "noshow"
        # a place is taken off in two clicks, and put back; the other stays
        half_past = page.locator("label.chip", has_text="9 h 30")
        await half_past.click()
        await page.get_by_role("button", name="Retirer les places cochées").click()
        await page.locator("label.chip.withdrawn", has_text="9 h 30").wait_for()
        assert await page.locator("label.chip.free").count() == 1
        # everything stops, and goes on; what was taken off by hand stays off
        await page.locator("h1").click()
        await page.keyboard.press("x")
        await page.get_by_role("heading", name="Tout arrêter jusqu'à minuit ?").wait_for()
        assert await violations(page) == []
        await page.keyboard.press("1")
        await page.get_by_text("aucune place n'est proposée").wait_for()
        await page.get_by_role("button", name="Reprendre").click()
        await page.get_by_text("Reprise").wait_for()
        await page.locator("label.chip.withdrawn", has_text="9 h 30").click()
        await page.get_by_role("button", name="Les remettre").click()
        await page.locator("label.chip.free", has_text="9 h 30").wait_for()


def _at(now: datetime, minutes: int) -> str:
    return (now + timedelta(minutes=minutes)).strftime("%H:%M")


async def test_a_question_en_sus_is_answered_with_one_key(browsing: Browsing) -> None:
    practice = await Practice.open(browsing)
    ladder = {"steps": [{"kind": "ask", "name": "Cabinets", "waves": 1, "at_once": 3, "wait_min": 5}], "why": "essai"}
    ars = await browsing.service.key("ars", territories=(practice.spot.territory,))
    path = f"/v1/territories/{practice.spot.territory}/ladder"
    answer = await ars.http.put(path, json=ladder, headers={"Idempotency-Key": f"echelle-{practice.number}"})
    assert answer.status_code == 200, answer.text
    async with browsing.person("professional", **practice.rights) as doctor:
        page = await opened(doctor, "/cabinet/accords")
        await page.fill("#o-from", "00:00")
        await page.fill("#o-to", "23:59")
        for day in ("samedi", "dimanche"):
            await page.get_by_role("region", name="En sus").get_by_label(day).check()
        await page.get_by_role("button", name="Donner l'accord").click()
        await page.get_by_role("status").get_by_text("Accord en vigueur").wait_for()
        await page.get_by_role("button", name="Poser la limite").click()
        await page.get_by_role("status").get_by_text("Limite en vigueur").wait_for()
        assert await violations(page) == []
        await page.goto(browsing.service.url + "/cabinet")
        asked = await practice.regulator.ask(wish(practice.spot, delay="8H"))
        row = page.locator(".asked [data-row]", has_text="En sus")
        await row.locator("[data-until]", has_text="min").wait_for()
        assert await violations(page) == []
        await page.keyboard.press("o")
        held = await practice.regulator.until(asked["request_id"], lambda d: d["status"] == "held")
        (answered,) = (await practice.key.get("/v1/questions", state="accepted")).json()["questions"]
        assert answered["booking_id"] == held["booking"]["booking_id"]
        await row.wait_for(state="detached")


async def test_the_week_is_said_once_and_a_table_is_checked_line_by_line(browsing: Browsing, tmp_path: Path) -> None:
    practice = await Practice.open(browsing)
    async with browsing.person("delegate", password=PASSWORD, **practice.rights) as secretary:
        page = await opened(secretary, "/cabinet/agendas/cabinet")
        for day in ("lundi", "jeudi"):
            await page.get_by_label(day).check()
        await page.get_by_role("button", name="Ajouter la plage").click()
        await page.get_by_role("status").get_by_text("Plage ajoutée").wait_for()
        await page.get_by_role("rowheader", name="lundi, jeudi").wait_for()
        await page.fill("#start", "12:00")
        await page.get_by_role("button", name="Ajouter la plage").click()
        await page.get_by_role("alert").get_by_text("au plus ; faites deux plages").wait_for()
        assert await page.input_value("#start") == "12:00"
        soon = (browsing.service.clock.now().astimezone(PARIS) + timedelta(days=2)).date()
        good = f"date;debut;fin;duree\n{soon};09:00;10:00;20\n"
        table = tmp_path / "places.csv"
        table.write_text(good + f"{soon};26:00;10:00;20\n{soon};14:00;15:00;x\n", encoding="utf-8")
        await page.set_input_files("#csv-file", table)
        await page.get_by_text("2 erreurs").wait_for()
        lines = page.locator("#csv-preview tbody tr")
        assert [await lines.nth(n).locator("th").inner_text() for n in range(2)] == ["3", "4"]
        assert await page.get_by_role("button", name="Publier ce tableau").count() == 0
        assert await violations(page) == []
        table.write_text(good, encoding="utf-8")
        await page.set_input_files("#csv-file", table)
        take = page.get_by_role("button", name="Publier ce tableau")
        await take.wait_for()
        # the session ends before it is published: whoever signs in again goes on with the same table
        await secretary.context.clear_cookies()
        await take.click()
        await page.fill("#again-password", PASSWORD)
        await page.keyboard.press("Enter")
        await page.locator("#again").wait_for(state="hidden")
        await take.click()
        await page.get_by_text("1 ligne d'un tableau").wait_for()
        await page.goto(browsing.service.url + "/cabinet")
        await page.locator("label.chip.free", has_text="9 h 40").wait_for()


async def test_everybody_sees_and_changes_only_their_own(browsing: Browsing) -> None:
    mine, other = await Practice.open(browsing), await Practice.open(browsing)
    await other.places(2, 30, 90)
    await other.patient()
    booked = (
        await other.key.get("/v1/bookings", **{"from": "2020-01-01T00:00:00Z", "to": "2099-01-01T00:00:00Z"})
    ).json()
    booking = booked["bookings"][0]["booking_id"]
    async with at_work(mine) as page:
        assert await page.locator(".chip[class*=free] input, [data-row]").count() == 0
        url = browsing.service.url
        for path in (f"/cabinet?pour=p:{other.number}", "/cabinet/agendas/nord"):
            answer = await page.goto(url + path)
            assert answer is not None and answer.status == 404
        await page.goto(url + "/cabinet")
        status = await page.evaluate(
            """async (booking) => { const form = new FormData(document.getElementById("quick"));
            const own = {csrf: form.get("csrf"), once: form.get("once")};
            const sent = new URLSearchParams({...own, booking, outcome: "noshow"});
            return (await fetch("/cabinet/venu", {method: "POST", body: sent})).status; }""",
            booking,
        )
        assert status == 404
    assert (await other.key.get(f"/v1/bookings/{booking}")).json()["state"] == "firm"


async def test_whoever_runs_several_centres_works_for_one_at_a_time(browsing: Browsing) -> None:
    spot = next_spot(browsing.service.geography)
    source = f"gestion-{rpps()}"
    codes = ("690000101", "690000102")
    runs = await browsing.service.key("gestionnaire", territories=(spot.territory,), structures=codes, source=source)
    for number, code in enumerate(codes):
        document = {
            "structure": {"finess": code, "name": f"Centre fictif {number}", "kind": "cds"},
            "source_kind": "cds",
            "location": {"lat": spot.lat, "lon": spot.lon, "insee": spot.code},
            "profession": "MG",
            "hours": [
                {
                    "id": "j",
                    "first": "2026-11-01",
                    "start": "09:00",
                    "end": "09:30",
                    "repeat": "FREQ=DAILY",
                    "each_min": 30,
                }
            ],
        }
        answer = await runs.http.put(f"/v1/agendas/centre-{number}", json=document)
        assert answer.status_code == 200, answer.text
    rights = {"territories": (spot.territory,), "structures": codes, "source": source}
    async with browsing.person("gestionnaire", **rights) as manager:
        page = await opened(manager)
        assert await page.locator("#pour option").all_inner_texts() == ["Centre fictif 0", "Centre fictif 1"]
        await page.select_option("#pour", "s:690000102")
        await page.wait_for_url("**pour=s%3A690000102")
        await page.get_by_role("link", name="Agendas").click()
        await page.get_by_role("link", name="centre-1").wait_for()
        assert await page.get_by_role("link", name="centre-0").count() == 0
        # a colleague is let in for one centre, and sees no other
        await page.get_by_role("link", name="Équipe").click()
        await page.fill("#i-login", f"accueil-{source[-6:]}")
        await page.fill("#i-name", "Accueil fictif")
        await page.get_by_role("button", name="Créer le compte").click()
        await page.get_by_text("montré cette seule fois").wait_for()
        assert await violations(page) == []
    async with browsing.signed_in(f"accueil-{source[-6:]}") as colleague:
        page = await colleague.open("/cabinet/agendas")
        await page.get_by_role("link", name="centre-1").wait_for()
        assert await page.get_by_role("link", name="centre-0").count() == 0
        assert await page.locator("#pour").count() == 0


async def test_a_key_pressed_while_the_board_renews_itself_counts(browsing: Browsing) -> None:
    practice = await Practice.open(browsing)
    await practice.places(1, 20, 40)
    request = await practice.patient()
    booking = (await practice.regulator.request(request))["booking"]["booking_id"]
    async with at_work(practice) as page:
        browsing.service.clock.ahead += timedelta(minutes=45)
        await page.evaluate("sas.say('sas-tick')")
        await page.locator(".row.due").focus()
        # the board asks for itself twice, and its answers are slow: they were read before the key's act
        read, acted = asyncio.Event(), asyncio.Event()

        async def slow(route: Route) -> None:
            answer = await route.fetch()
            read.set()
            await acted.wait()
            await route.fulfill(response=answer)

        await page.route("**/cabinet/tableau*", slow)
        await page.evaluate("sas.say('sas-tick'); sas.say('sas-tick')")
        await read.wait()
        await page.keyboard.press("l")
        await page.locator(".row.noshow").wait_for()
        assert (await practice.regulator.request(request))["status"] == "noshow"
        # what was read before the act never comes back over it, and the board goes on renewing itself
        await page.evaluate(
            """() => {
              const board = document.getElementById("board");
              const look = () => { if (board.querySelector(".row.due")) board.dataset.stale = "1"; };
              new MutationObserver(look).observe(board, { childList: true });
            }"""
        )
        acted.set()
        await practice.key.post(f"/v1/bookings/{booking}/outcome", {"outcome": "fulfilled"})
        await page.locator(".row.fulfilled").wait_for()
        assert await page.locator("#board[data-stale]").count() == 0
        # what is still on its way would fail in the test after this one
        await page.unroute_all(behavior="ignoreErrors")


async def test_a_second_click_a_double_click_or_a_held_key_acts_once(browsing: Browsing) -> None:
    practice = await Practice.open(browsing)
    async with at_work(practice) as page:
        sent: list[str] = []
        slow = True

        async def answer(route: Route) -> None:
            sent.append(route.request.url)
            answer = await route.fetch()
            await asyncio.sleep(0.3 if slow else 0)
            await route.fulfill(response=answer)

        for path in ("places", "refuser"):
            await page.route(f"**/cabinet/{path}*", answer)
        await page.fill("#q-count", "2")
        await page.fill("#q-start", practice.clock(20))
        await page.fill("#q-end", practice.clock(100))
        publish = page.get_by_role("button", name="Publier")
        published = page.locator(".chip.free", has_text="0 sur 2")
        # an impatient second click comes before the answer to the first
        await publish.click()
        await publish.click()
        await page.get_by_text("2 places publiées").wait_for()
        slow = False
        # that of a double click comes after it
        box = await publish.bounding_box()
        assert box is not None
        await page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        await page.mouse.down(click_count=2)
        await page.mouse.up(click_count=2)
        await page.evaluate(_LOOK)
        assert len(sent) == 1
        # a real second act counts, also by a key; a key that is held is one
        await page.focus("#q-count")
        await page.keyboard.down("Enter")
        await published.nth(1).wait_for()
        await page.get_by_text("2 places publiées").wait_for()
        await page.keyboard.down("Enter")
        await page.keyboard.up("Enter")
        await page.evaluate(_LOOK)
        assert await published.count() == len(sent) == 2
        # a reason is given once
        await practice.patient()
        await page.locator("summary", has_text="1 patient").click()
        await page.locator("details li").get_by_role("button", name="Refuser").click()
        slow = True
        await page.keyboard.press("3")
        await page.keyboard.press("3")
        await page.get_by_text("Refusé : le patient est replacé ailleurs").wait_for()
        await page.locator("#refuse").wait_for(state="hidden")
        await page.evaluate(_LOOK)
        assert len(sent) == 3, sent
        await page.unroute_all(behavior="ignoreErrors")


async def test_an_hour_is_of_the_day_that_is_shown(browsing: Browsing) -> None:
    practice = await Practice.open(browsing)
    async with at_work(practice, "professional") as page:
        (request,) = await asked_of(practice, 1, "24H")
        row = page.locator(".asked [data-row]")
        at, day = row.get_by_label("Heure proposée"), row.get_by_label("Jour proposé")
        # an hour of today that has passed is not one of tomorrow; what was typed stays as the page renews itself
        passed, proposed = practice.clock(-10), await at.input_value()
        await at.fill(passed)
        await page.evaluate(_LOOK)
        assert await at.input_value() == passed
        await row.get_by_role("button", name="Oui, à cette heure").click()
        await page.get_by_role("alert").get_by_text("est déjà passé").wait_for()
        assert (await practice.regulator.request(request))["status"] != "held"
        # what nobody has touched is as the service proposes it now
        await at.fill(proposed)
        browsing.service.clock.ahead += timedelta(minutes=6)
        await page.evaluate(_LOOK)
        assert await at.input_value() > proposed
        # tomorrow is said, by both
        await day.select_option("demain")
        await at.fill(practice.clock(-120))
        await page.evaluate(_LOOK)
        assert await day.locator("option:checked").inner_text() == "demain"
        await row.get_by_role("button", name="Oui, à cette heure").click()
        await page.get_by_text("Oui transmis, pour demain").wait_for()
        held = await practice.regulator.until(request, lambda d: d["status"] == "held")
        start = datetime.fromisoformat(held["decision"]["place"]["start"]).astimezone(PARIS)
        assert start.date() == (browsing.service.clock.now().astimezone(PARIS) + timedelta(days=1)).date()


async def test_what_is_told_while_a_window_is_open_is_told_in_it(browsing: Browsing) -> None:
    practice = await Practice.open(browsing)
    await practice.places(1, 20, 40)
    request = await practice.patient()
    async with at_work(practice) as page:
        await page.locator("[data-refuse]").click()
        window = page.get_by_role("dialog", name="Refuser ce rendez-vous")
        # no answer, then a refusal: the patient has called off meanwhile
        await page.route("**/cabinet/refuser*", lambda route: route.abort())
        await page.keyboard.press("1")
        await window.get_by_role("alert").get_by_text("Le service ne répond pas").wait_for()
        await page.unroute("**/cabinet/refuser*")
        await practice.regulator.act("cancel", request, {"reason": "patient"})
        await page.keyboard.press("1")
        told = page.locator("#refuse [role=alert] .bad", has_not_text="Le service ne répond pas")
        await told.wait_for()
        assert await violations(page) == []
        text = await told.inner_text()
        # it stays on the page
        await page.keyboard.press("Escape")
        await page.locator("body > .notices [role=alert]", has_text=text).wait_for()


async def asked_of(practice: Practice, count: int, delay: str) -> list[str]:
    """Let a practice consent to patients en sus, and so many requests ask it; returns them."""
    ars = await practice.browsing.service.key("ars", territories=(practice.spot.territory,))
    steps = [{"kind": "ask", "name": "Cabinets", "waves": 1, "at_once": 3, "wait_min": 15}]
    path = f"/v1/territories/{practice.spot.territory}/ladder"
    key = {"Idempotency-Key": f"echelle-{practice.number}"}
    answer = await ars.http.put(path, json={"steps": steps, "why": "essai"}, headers=key)
    assert answer.status_code == 200, answer.text
    agenda = (await practice.key.get("/v1/agendas/cabinet")).json()
    site = {name: agenda[name] for name in ("professional", "source_kind", "location", "profession")}
    week = [1, 2, 3, 4, 5, 6, 7]
    consent = {**site, "ask_from": "00:00", "ask_to": "24:00", "days": week, "most_a_day": 5}
    answer = await practice.key.http.put("/v1/overflow/oui", json=consent)
    assert answer.status_code == 200, answer.text
    return [str((await practice.regulator.ask(wish(practice.spot, delay=delay)))["request_id"]) for _ in range(count)]


async def test_a_key_never_answers_a_question_that_nobody_has_read(browsing: Browsing) -> None:
    practice = await Practice.open(browsing)
    async with at_work(practice, "professional") as page:
        await asked_of(practice, 2, "8H")
        rows = page.locator(".asked [data-row]")
        await rows.nth(1).wait_for()
        # an impatient second O falls on the instant at which the first question has gone
        await page.evaluate(
            """() => {
              const board = document.getElementById("board");
              const o = () => document.body.dispatchEvent(new KeyboardEvent("keydown", { key: "o", bubbles: true }));
              new MutationObserver(() => {
                const count = board.querySelectorAll(".asked [data-row]").length;
                if (String(count) !== board.dataset.count) { board.dataset.count = count; o(); }
              }).observe(board, { childList: true });
              board.dataset.count = 2;
            }"""
        )
        sent: list[str] = []
        page.on("request", lambda request: sent.append(request.url) if request.method == "POST" else None)
        await page.keyboard.press("o")
        await page.locator("#board[data-count='1']").wait_for()
        await page.evaluate(_LOOK)
        assert len(sent) == 1
        # what is chosen now is to be seen; read, it is answered
        await page.locator(".asked [data-row][aria-current]").wait_for()
        assert await rows.count() == 1
        while await rows.count():
            await page.keyboard.press("n")
            await page.evaluate(_LOOK)
        assert len(sent) == 2 and sent[1].endswith("/cabinet/non")


async def test_an_act_is_answered_whatever_renews_itself_meanwhile(browsing: Browsing) -> None:
    practice = await Practice.open(browsing)
    await practice.places(1, 20, 40)
    await practice.patient()
    async with at_work(practice) as page:
        browsing.service.clock.ahead += timedelta(minutes=45)
        await page.evaluate("sas.say('sas-tick')")
        due = page.locator(".row.due")
        await due.wait_for()

        async def told_first(route: Route) -> None:
            # what the act has changed is told, asked for and shown before its own answer comes
            answer = await route.fetch()
            await page.evaluate("htmx.ajax('GET', '/cabinet/tableau', {source: '#arrivals', target: '#board'})")
            await route.fulfill(response=answer)

        await page.route("**/cabinet/venu*", told_first)
        await due.get_by_role("button", name="Pas venu").click()
        await page.get_by_text("Noté : le patient n'est pas venu").wait_for()
        await page.locator(".row.noshow").wait_for()
        await page.unroute_all(behavior="ignoreErrors")


_LOOK = "htmx.ajax('GET', '/cabinet/tableau', {target: '#board'})"
