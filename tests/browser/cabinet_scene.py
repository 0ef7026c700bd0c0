"""A doctor whose day is full, for pictures of the practice's pages: patients, a question, a table with errors."""

from datetime import datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from playwright.async_api import Page

from tests.api.running import wish
from tests.browser.desk import Browsing

NUMBER: Final = "10000000012"
SOURCE: Final = "cabinet-images"
INSEE: Final = "69264"
"""Villefranche-sur-Saône: a town of its own, so that requests find this doctor."""


async def a_practice(browsing: Browsing) -> dict[str, Any]:
    """Make the doctor, the agenda and the patients; returns the rights of the account."""
    service, zone = browsing.service, ZoneInfo("Europe/Paris")
    spot, now = browsing.spot(INSEE), service.clock.now().astimezone(ZoneInfo("Europe/Paris"))
    doctor = await service.key("professional", professionals=(NUMBER,), source=SOURCE)
    regulator = await service.regulator()
    soon = (now + timedelta(minutes=40)).replace(minute=0)
    today = now.date().isoformat()
    site = {
        "professional": {"rpps": NUMBER, "name": "Dr Marguerite Fictif"},
        "source_kind": "liberal",
        "location": {"lat": spot.lat, "lon": spot.lon, "insee": spot.code, "label": "12 rue des Tilleuls (fictive)"},
        "profession": "MG",
    }
    agenda = {
        **site,
        "offers": ["pmr", "tiers_payant", "enfant", "nourrisson"],
        "acceptance": "tacit",
        "accept_min": 30,
        "info": "2e étage, code B12",
        "hours": [
            {
                **{"id": "matin", "first": "2026-11-02", "start": "08:30", "end": "12:00", "each_min": 30},
                "repeat": "FREQ=WEEKLY;BYDAY=MO,TU,WE,TH,FR,SA,SU",
            },
            {
                **{"id": "libre", "first": "2026-11-02", "start": "14:00", "end": "18:00", "capacity": 8},
                "repeat": "FREQ=WEEKLY;BYDAY=MO,TU,WE,TH,FR",
                "booking_kind": "walkin",
            },
            {"id": "tele", "first": today, "start": f"{soon:%H:%M}", "end": f"{soon + timedelta(hours=1):%H:%M}"}
            | {"each_min": 20},
        ],
        "closures": [{"from": "2026-12-24T12:00", "to": "2027-01-04T00:00"}],
    }
    await _put(doctor, "/v1/agendas/cabinet", agenda)
    await _put(doctor, "/v1/limits/enfants", {"professionals": [NUMBER], "counts": "children", "most": 4})
    await _put(doctor, "/v1/subscriptions/agenda", _SUBSCRIPTION)
    await browsing.account("delegate", professionals=(NUMBER,), source=SOURCE, name="Secrétariat fictif")
    patients: tuple[dict[str, Any], ...] = (
        {"needs": ["enfant"]},
        {"needs": ["pmr"]},
        {"mt": NUMBER},
        {"age_band": "senior"},
        {},
    )
    for changes in patients:
        asked = await regulator.ask(wish(spot, **changes))
        await regulator.act("confirm", asked["request_id"])
    window = {"from": now.isoformat(), "to": (now + timedelta(days=3)).isoformat()}
    booked = (await doctor.get("/v1/bookings", **window)).json()["bookings"]
    for booking in booked[:3]:
        await doctor.post(f"/v1/bookings/{booking['booking_id']}/accept")
    late = [one for one in booked if datetime.fromisoformat(one["start"]).astimezone(zone).date() == now.date()]
    if late:
        # the first one has come
        service.clock.ahead += datetime.fromisoformat(late[0]["start"]) - service.clock.now() + timedelta(minutes=2)
        done = {"outcome": "fulfilled"}
        await doctor.post(f"/v1/bookings/{late[0]['booking_id']}/outcome", done)
    days = [1, 2, 3, 4, 5, 6, 7]
    consent = {**site, "ask_from": "00:00", "ask_to": "24:00", "days": days, "most_a_day": 5, "modes": ["visite"]}
    consent["offers"] = ["shimaore"]  # what nobody else here has a place for
    await _put(doctor, "/v1/overflow/visites", consent)
    steps = [{"kind": "ask", "name": "Cabinets proches", "waves": 1, "at_once": 3, "wait_min": 8}]
    ars = await service.key("ars", territories=(spot.territory,), name="Veille fictive")
    await _put(ars, f"/v1/territories/{spot.territory}/ladder", {"steps": steps, "why": "essai"}, "echelle-images")
    await regulator.ask(wish(spot, modes=["visite"], delay="8H", age_band="senior", needs=["shimaore"]))
    return {"professionals": (NUMBER,), "source": SOURCE, "name": "Dr Marguerite Fictif"}


_SUBSCRIPTION: Final = {
    "way": "webhook",
    "address": "https://agenda.example/sas",
    "kinds": ["booking.made", "booking.cancelled", "question.asked"],
}


async def _put(caller: Any, path: str, body: Any, key: str = "") -> None:
    answer = await caller.http.put(path, json=body, headers={"Idempotency-Key": key} if key else {})
    assert answer.status_code == 200, answer.text


async def asked(page: Page) -> None:
    """Wait for the question en sus."""
    await page.locator(".asked [data-until]").first.wait_for()


async def refusing(page: Page) -> None:
    """Open the window in which a booking is refused."""
    await page.locator("[data-refuse]").first.click()


async def stopping(page: Page) -> None:
    """Open the window that stops everything."""
    await page.keyboard.press("x")


async def keys(page: Page) -> None:
    """Open the list of keys."""
    await page.keyboard.press("?")


async def with_table(page: Page) -> None:
    """Show what is wrong with a table."""
    lines = "date;debut;fin;duree\n2026-12-01;09:00;10:00;20\n2026-12-01;26:00;10:00;20\n2026-12-02;14:00;15:00;x\n"
    table = {"name": "places.csv", "mimeType": "text/csv", "buffer": lines.encode()}
    await page.set_input_files("#csv-file", table)  # type: ignore[arg-type]
    await page.get_by_text("2 erreurs").wait_for()
