"""The ways into an agenda, whole: read, taken over and published in PostgreSQL; replayed; broken half-way.

``python -m tests.bench.agenda_whole`` starts an embedded PostgreSQL (durable) and prints a line for each way and turn,
with what the agenda reports. It fails when a replay changes anything, or when what is broken takes anything away.
"""

import asyncio
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from adapters.agenda.csv_lines import read_csv
from adapters.agenda.feeds import FeedReader
from adapters.embedded import start_postgres
from adapters.geo import Gazetteer
from adapters.postgres.agenda import PostgresAgendas
from adapters.postgres.ledger import PostgresLedger
from adapters.postgres.migrate import migrate
from sas_matcher.domain.errors import InvalidInputError
from sas_matcher.services.agenda.agendas import Agendas
from sas_matcher.services.agenda.feed import AgendaFeeds
from sas_matcher.services.agenda.show import AgendaShow
from sas_matcher.services.publish import Publisher, Publishing
from tests.conftest import Recorder
from tests.ledger_cases import StillClock, add_regulator
from tests.unit.test_agenda_ics import available, calendar, event
from tests.unit.test_agenda_smart import URL, Web, manifest, ndjson, slot

NOW: Final = datetime(2026, 11, 22, 20, tzinfo=UTC)  # Sunday evening: the whole of Monday to Saturday is shown
KEY: Final = "regul69"
CENTRE: Final = Publisher("centre", frozenset(), frozenset({"690000001"}))
AGENDA: Final[dict[str, Any]] = {
    "professional": None,
    "structure": {"finess": "690000001", "kind": "cds", "name": "Centre fictif"},
    "source_kind": "cds",
    "location": {"lat": 45.757, "lon": 4.832, "insee": "69382", "label": "Centre fictif", "phone": None},
    "profession": "MG",
    "specialty": None,
    "offers": [],
    "visibility": "snp",
    "info": None,
    "acceptance": None,
    "accept_min": None,
    "hand_back_min": None,
    "hours": [],
    "closures": [],
    "feed": None,
    "version": None,
}
Turn = Callable[[], Awaitable[tuple[dict[str, Any], str | None]]]


class Office:
    """A centre with one agenda at a time."""

    def __init__(self, ledger: PostgresLedger) -> None:
        geography, self.clock = Gazetteer.load(), StillClock(NOW)
        self.store = PostgresAgendas(ledger)
        self.showing = AgendaShow(self.store, Publishing(ledger, self.clock, geography), self.clock, geography)
        self.agendas = Agendas(self.store, self.showing, self.clock)

    async def csv(self, body: bytes) -> tuple[dict[str, Any], str | None]:
        """Take a table in; returns the agenda, and what was wrong."""
        wrong = None
        try:
            await self.agendas.take_in(CENTRE, KEY, "csv", "csv", read_csv(body))
        except InvalidInputError as refused:
            wrong = refused.detail
        return await self.agendas.one(CENTRE, "csv"), wrong

    async def feed(self, name: str, web: Web) -> tuple[dict[str, Any], str | None]:
        """Let the feed of an agenda be read now; returns the agenda, and what was wrong."""
        self.clock.instant += timedelta(minutes=10)
        reading = FeedReader(web).read
        await AgendaFeeds(self.store, self.agendas, self.showing, self.clock, reading).look()
        agenda = await self.agendas.one(CENTRE, name)
        return agenda, agenda["feed_state"]["failed"]


def _worked() -> float:
    """Return the processor time of this process and of the readers that it started (s)."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


async def _turn(what: str, turn: Turn) -> tuple[dict[str, Any], str | None]:
    began, worked = time.perf_counter(), _worked()
    agenda, wrong = await turn()
    took, worked = time.perf_counter() - began, _worked() - worked
    report = agenda["shown"]["report"] or {}
    counts = ", ".join(
        f"{report[name]} {name}" for name in ("created", "updated", "unchanged", "closed") if name in report
    )
    spent = f"{took:.2f} s ({worked:.2f} s of processor without PostgreSQL's)"
    sys.stdout.write(f"{what}: {spent}, version {agenda['version']}, {wrong or counts}\n")
    sys.stdout.flush()
    return agenda, wrong


async def _way(what: str, good: Turn, broken: Turn) -> None:
    first, wrong = await _turn(f"{what}, good", good)
    assert wrong is None and first["shown"]["report"]["created"] > 1_000, first["shown"]
    again, wrong = await _turn(f"{what}, replayed", good)
    assert wrong is None and again["version"] == first["version"], "a replay changes nothing"
    after, wrong = await _turn(f"{what}, broken half-way", broken)
    assert wrong is not None and after["version"] == first["version"], "what is broken takes nothing away"
    assert after["imported"] == first["imported"]


async def run(url: str) -> None:
    """Take in a table of 10 000 lines, a calendar of 5 000 events, a manifest of 50 files with 20 000 slots."""
    await migrate(url)
    await add_regulator(url, KEY)
    ledger = await PostgresLedger.connect(url, Recorder())
    office = Office(ledger)
    await office.agendas.put(CENTRE, KEY, "csv", AGENDA)
    first = date(2026, 11, 24)  # from Monday on they would be more than an agenda may publish
    days = [f"{first + timedelta(days=n // 110):%d/%m/%Y}" for n in range(10_000)]
    lines = [f"{day};{8 + n % 11}h;{9 + n % 11}h;{5 + n % 110 // 11};" for n, day in enumerate(days)]
    table = "\r\n".join(["date;debut;fin;duree;places", *lines, ""]).encode()
    wrong = table.replace(lines[5_000].encode(), b"31/02/2027;8h;9h;60;", 1)
    await _way("csv, 10 000 lines", lambda: office.csv(table), lambda: office.csv(wrong))

    start = NOW.replace(hour=7) + timedelta(days=1)
    feed: dict[str, Any] = {"kind": "ics", "url": "https://agenda.example/a.ics", "each_min": 5, "schedules": []}
    await office.agendas.put(CENTRE, KEY, "ics", {**AGENDA, "feed": feed})
    free = available(
        "DTSTART;TZID=Europe/Paris:20261102T073000", "DTEND;TZID=Europe/Paris:20261102T213000", "RRULE:FREQ=DAILY"
    )
    busy = [
        event(f"DTSTART:{start + timedelta(days=n % 14, minutes=n // 14 % 60):%Y%m%dT%H%M%SZ}", "DURATION:PT2M")
        for n in range(5_000)
    ]
    body = calendar(free, *busy)
    whole, half = Web({feed["url"]: body}), Web({feed["url"]: body[: len(body) // 2]})
    await _way("ics, 5 000 events", lambda: office.feed("ics", whole), lambda: office.feed("ics", half))

    await office.agendas.remove(CENTRE, KEY, "ics")  # else it would be read as well
    feed = {"kind": "smart", "url": URL, "each_min": None, "schedules": []}
    await office.agendas.put(CENTRE, KEY, "smart", {**AGENDA, "feed": feed})
    quarter = timedelta(minutes=15)
    begins = [start + timedelta(days=n % 15) + n // 15 % 40 * quarter for n in range(10_000)]
    slots = [slot(n, start=at.isoformat(), end=(at + quarter).isoformat()) for n, at in enumerate(begins)]
    base = URL.rpartition("/")[0]
    files = {f"{base}/slots-{n}.ndjson": ndjson(*slots[n * 200 : n * 200 + 200]) for n in range(50)}
    files |= {URL: manifest(*(f"slots-{n}.ndjson" for n in range(50)))}
    cut = {**files, f"{base}/slots-25.ndjson": files[f"{base}/slots-25.ndjson"][:-40]}
    await _way(
        "smart, 50 files of 200 slots",
        lambda: office.feed("smart", Web(files)),
        lambda: office.feed("smart", Web(cut)),
    )
    await ledger.close()


def main() -> None:
    """Run it on a server of its own."""
    folder = Path(tempfile.mkdtemp(prefix="sas-bench-"))
    folder.chmod(0o755)
    try:
        server = start_postgres(folder / "postgres", durable=True)
        try:
            asyncio.run(run(server.url))
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
