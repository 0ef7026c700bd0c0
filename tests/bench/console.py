"""Measure the pages in a real Chromium: ``python -m tests.bench.console [--pages 500] [--changes 60]``.

Real service processes on embedded servers, 69's invented places. What is measured, each from the person's side:

- *change*: from the practice's call (a held place is withdrawn) to the change of the regulation page, and from the
  regulator's (a place is confirmed) to the change of the practice's page, while ``--pages`` pages are open, regulators'
  and practices' by halves; the others listen as pages do, by websockets with sessions of their own;
- *server*: the whole call of asking as the page makes it, answer rendered;
- *typing*: a person's speed (``DELAY_MS`` a key), from the first key to the place on the screen;
- *interactive*: cold cache, CPU slowed down four times (CDP): the end of the scripts or of the last long task.
"""

import argparse
import asyncio
import contextlib
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from uuid import uuid4
from zoneinfo import ZoneInfo

import httpx
import orjson
from playwright.async_api import Page, async_playwright
from websockets.asyncio.client import connect

from adapters.geo import Gazetteer
from sas_matcher.bootstrap.access import accounts_of, issue_key
from sas_matcher.bootstrap.stores import Stores, open_stores
from sas_matcher.config import Settings
from sas_matcher.console.visit import COOKIE, csrf_of
from sas_matcher.demo.plan import places_of, schedule, world_of
from sas_matcher.domain.vocabulary import Role
from sas_matcher.services.keys import KeyWish
from sas_matcher.supervise import Service
from tests.api.running import eventually
from tests.bench.figures import percentile
from tests.browser.conftest import CHROMIUM

TERRITORY: Final = "69"
LINE: Final = "69003 enfant <24h"
DELAY_MS: Final = 120
"""Between two keys of somebody who types with all fingers (about 80 words a minute is 150)."""
SOURCE: Final = "bench"
DOCTOR: Final = "10999999999"
_LASTS: Final = timedelta(minutes=15)
_PLACE: Final[dict[str, Any]] = {
    "professional": {"rpps": DOCTOR, "name": "Dr Fictif Mesure"},
    "structure": None,
    "source_kind": "liberal",
    "location": {"lat": 45.99, "lon": 4.72, "insee": "69264", "label": "Cabinet fictif, Villefranche"},
    "mode": "cabinet",
    "profession": "MG",
    "offers": ["pmr"],
}
_WISH: Final = {"insee": "69264", "profession": "MG", "delay": "24H", "radius_km": 10}
HELD: Final = "#answer .shown.is-held"
_WATCH: Final = """() => { window.changes = []; new MutationObserver(() => {
    const now = document.querySelector('#answer .shown');
    const said = now ? now.dataset.id + ' ' + now.dataset.version : '';
    if (said !== window.last) { window.last = said; window.changes.push(Date.now()); }
}).observe(document.querySelector('#answer'), {childList: true, subtree: true}); }"""
_WATCH_BOARD: Final = """() => { const rows = () => document.querySelectorAll('#board [data-mark^="b-"]').length;
    window.changes = []; let last = rows(); new MutationObserver(() => {
        if (rows() !== last) { last = rows(); window.changes.push(Date.now()); }
    }).observe(document.querySelector('#board'), {childList: true, subtree: true}); }"""
_SEEN: Final = """() => new Promise((done) => { const look = () =>
    window.changes.length ? done(window.changes[0]) : setTimeout(look, 10); look(); })"""
_LONG: Final = """() => { window.long = []; new PerformanceObserver((list) => { for (const task of list.getEntries())
    window.long.push(task.startTime + task.duration); }).observe({type: 'longtask', buffered: true}); }"""


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def told(name: str, values_ms: list[float], bar_ms: float) -> None:
    """Print a line of figures."""
    p50, p95 = percentile(values_ms, 0.5), percentile(values_ms, 0.95)
    say(f"{name:<42} p50 {p50:7.0f} ms   p95 {p95:7.0f} ms   bar {bar_ms:.0f} ms   n {len(values_ms)}")


async def session(stores: Stores, login: str, doctor: str = "") -> tuple[str, str]:
    """Create an account of a regulator, or of a doctor's practice; returns the token of its session, its key's id."""
    accounts = accounts_of(stores.ledger, stores.clock, stores.ids)
    regulator = KeyWish(Role.OSNP, f"Poste {login}", (TERRITORY,))
    practice = KeyWish(Role.DELEGATE, f"Cabinet {login}", professionals=(doctor,), source=SOURCE)
    await accounts.add(login, None, practice if doctor else regulator)
    token = await accounts.open(login)
    return token, (await accounts.account_of(token)).key.id


@contextlib.asynccontextmanager
async def listening(url: str, stores: Stores, count: int) -> AsyncIterator[None]:
    """Keep so many pages open."""

    async def listen(token: str) -> None:
        headers = {"Cookie": f"{COOKIE}={token}"}
        address = url.replace("http", "ws") + "/flux"
        async with connect(address, additional_headers=headers, origin=url, proxy=None) as socket:  # type: ignore[arg-type]
            async for text in socket:
                if orjson.loads(text)["type"] == "ping":
                    await socket.send('{"type":"pong"}')

    tasks = []
    for number in range(count):
        token, _ = await session(stores, f"page-{number}", f"1099{number:07d}" if number % 2 else "")
        tasks.append(asyncio.create_task(listen(token)))
    await asyncio.sleep(1.0)
    assert not any(task.done() for task in tasks)
    yield
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def changes(page: Page, stores: Stores, practice: httpx.AsyncClient, key_id: str, count: int) -> list[float]:
    """Withdraw the held place again and again; returns how long each took to be seen, in ms."""
    await page.keyboard.type(LINE)
    await page.keyboard.press("Enter")
    await page.locator(HELD).wait_for()
    await page.evaluate(_WATCH)
    took = []
    for _ in range(count):
        (text,) = await stores.ledger.requests_of_key(key_id, ["held"], None, 1)
        slot_id = orjson.loads(text)["booking"]["slot_id"]
        (row,) = await stores.ledger.fetch("select external_id from slot where id = $1", slot_id)
        await page.evaluate("window.changes = []")
        began = time.time()
        answer = await practice.post("/v1/slots/withdraw", json={"external_ids": [row["external_id"]]})
        answer.raise_for_status()
        # by promise: the pages' policy forbids the strings that ``wait_for_function`` evaluates
        seen = await page.evaluate(_SEEN)
        took.append(seen - 1000 * began)
        await page.locator(HELD).wait_for()
        await asyncio.sleep(0.1)
    return took


def _once() -> dict[str, str]:
    return {"Idempotency-Key": str(uuid4())}


async def bookings(page: Page, practice: httpx.AsyncClient, regulator: httpx.AsyncClient, count: int) -> list[float]:
    """Confirm place after place of the doctor whose page is open; returns how long each took to be seen, in ms."""
    first = datetime.now(UTC).replace(second=0, microsecond=0) + timedelta(hours=1)
    slots = [
        {**_PLACE, "external_id": f"vu-{number}", "start": start.isoformat(), "end": (start + _LASTS).isoformat()}
        for number, start in enumerate(first + number * _LASTS for number in range(count))
    ]
    answer = await practice.post("/v1/slots", json={"slots": slots})
    answer.raise_for_status()
    await page.evaluate(_WATCH_BOARD)
    took = []
    for slot_id in (result["slot_id"] for result in answer.json()["results"]):
        asked = (await regulator.post("/v1/requests", json=_WISH, headers=_once())).raise_for_status().json()
        path = f"/v1/requests/{asked['request_id']}"
        # the place that is offered first may be another; this one is taken, then confirmed
        if (asked["booking"] or {}).get("slot_id") != slot_id:
            (await regulator.post(f"{path}/take", json={"slot_id": slot_id}, headers=_once())).raise_for_status()
        await asyncio.sleep(0.1)
        await page.evaluate("window.changes = []")
        began = time.time()
        (await regulator.post(f"{path}/confirm", json={}, headers=_once())).raise_for_status()
        took.append(await page.evaluate(_SEEN) - 1000 * began)
    return took


async def asking(url: str, token: str, count: int) -> list[float]:
    """Ask as the page does; returns ms of each call."""
    took = []
    headers = {"Origin": url, "x-csrf": csrf_of(token), "HX-Request": "true"}
    async with httpx.AsyncClient(base_url=url, cookies={COOKIE: token}, headers=headers, trust_env=False) as http:
        for _ in range(count):
            began = time.perf_counter()
            answer = await http.post("/regulation/demandes", data={"phrase": LINE, "once": str(uuid4())})
            took.append(1000 * (time.perf_counter() - began))
            assert answer.status_code == 200 and "is-held" in answer.text, answer.text[:300]
            request = answer.text.split('data-id="')[1].split('"')[0]
            await http.post(f"/regulation/demandes/{request}/annuler", data={"once": str(uuid4())})
    return took


async def typing(page: Page) -> float:
    """Type at a person's speed from a blank form; returns ms to the place."""
    began = time.perf_counter()
    await page.keyboard.type(LINE, delay=DELAY_MS)
    await page.keyboard.press("Enter")
    await page.locator(HELD).wait_for()
    return 1000 * (time.perf_counter() - began)


async def interactive(browser: Any, url: str, token: str) -> float:
    """Load the page with a cold cache on a slow CPU; returns ms until it is interactive."""
    context = await browser.new_context()
    await context.add_cookies([{"name": COOKIE, "value": token, "url": url}])
    page = await context.new_page()
    cdp = await context.new_cdp_session(page)
    await cdp.send("Emulation.setCPUThrottlingRate", {"rate": 4})
    await page.goto(url + "/regulation", wait_until="networkidle")
    await page.evaluate(_LONG)
    await asyncio.sleep(0.5)
    ends = await page.evaluate(
        "[performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd, ...window.long]"
    )
    assert await page.evaluate("document.activeElement.id === 'phrase' && Boolean(window.sas)")
    await context.close()
    return float(max(ends))


async def cabinet(browser: Any, url: str, stores: Stores, practice: httpx.AsyncClient, count: int) -> None:
    """Open a practice's page and measure how soon it shows what a regulator confirms."""
    context = await browser.new_context()
    token, _ = await session(stores, "doctor", DOCTOR)
    await context.add_cookies([{"name": COOKIE, "value": token, "url": url}])
    page = await context.new_page()
    await page.goto(url + "/cabinet")
    await page.locator("#live[data-state=on]").wait_for()
    _, key = await issue_key(stores, KeyWish(Role.OSNP, "Régulation fictive", (TERRITORY,)))
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=60, trust_env=False) as regulator:
        told("a booking appears at the practice", await bookings(page, practice, regulator, count), 200)
    await context.close()


async def measure(settings: Settings, pages: int, count: int) -> None:
    """Publish, open the pages, measure and print."""
    url = f"http://127.0.0.1:{settings.port}"
    async with open_stores(settings, 30) as stores, async_playwright() as driver:
        geography = Gazetteer.load()
        _, key = await issue_key(stores, KeyWish(Role.MANAGER, "Agenda fictif", professionals=("*",), source=SOURCE))
        async with httpx.AsyncClient(
            base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=60, trust_env=False
        ) as practice:

            async def ready() -> bool:
                return (await practice.get("/readyz")).status_code == 200

            await eventually(ready, 60)
            world = world_of("bench-console", geography.communes_of(TERRITORY), geography.territories)
            now = datetime.now(UTC)
            days = schedule(now.astimezone(ZoneInfo("Europe/Paris")), 3).days
            soon = now + timedelta(minutes=2)
            slots = [s for day in days for s in places_of(world, "bench", day, now)]
            slots = [slot for slot in slots if datetime.fromisoformat(slot["start"]) > soon]
            for first in range(0, len(slots), 2_000):
                (await practice.post("/v1/slots", json={"slots": slots[first : first + 2_000]})).raise_for_status()
            browser = await driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            token, key_id = await session(stores, "observed")
            say(f"{len(slots)} places, {pages} pages, load {os.getloadavg()[0]:.1f}")
            context = await browser.new_context()
            await context.add_cookies([{"name": COOKIE, "value": token, "url": url}])
            page = await context.new_page()
            await page.goto(url + "/regulation")
            told("from a blank form to a held place, typed", [await typing(page)], 10_000)
            await page.reload()
            await page.locator("#live[data-state=on]").wait_for()
            told("server part of asking", await asking(url, (await session(stores, "asks"))[0], count), 150)
            async with listening(url, stores, pages - 1):
                told("a change by the practice appears", await changes(page, stores, practice, key_id, count), 200)
                await cabinet(browser, url, stores, practice, count)
            await context.close()
            told("interactive, CPU slowed 4×", [await interactive(browser, url, token) for _ in range(5)], 1_500)
            await browser.close()


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pages", type=int, default=500)
    parser.add_argument("--changes", type=int, default=60)
    wishes = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sas-console-") as folder:
        os.chmod(folder, 0o755)
        settings = Settings(port=0, territories=(TERRITORY,), data_dir=Path(folder), log_level="warning")
        with Service(settings) as service:
            asyncio.run(measure(service.settings, wishes.pages, wishes.changes))


if __name__ == "__main__":
    main()
