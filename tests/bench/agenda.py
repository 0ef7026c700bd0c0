"""How long the ways into an agenda take: ``python -m tests.bench.agenda``. Reading only; no server is started."""

import asyncio
import sys
import time
from datetime import UTC, datetime, timedelta

from adapters.agenda.apart import read_calendar
from adapters.agenda.csv_lines import read_csv
from adapters.agenda.smart import read_smart
from tests.unit.test_agenda_csv import big, table
from tests.unit.test_agenda_ics import DAY, MORNING, available, calendar, event
from tests.unit.test_agenda_smart import ndjson, slot


def main() -> None:
    """Print a line for each."""
    began = time.perf_counter()

    def tell(what: str, count: int) -> None:
        nonlocal began
        sys.stdout.write(f"{what}: {time.perf_counter() - began:.2f} s, {count} hours\n")
        began = time.perf_counter()

    lines = table(*big(10_000))
    began = time.perf_counter()
    tell("csv, 10 000 lines", len(read_csv(lines).hours))
    free = available(*MORNING, "RRULE:FREQ=DAILY")
    clocks = [f"T{8 + n % 10:02d}{n % 60:02d}00" for n in range(5_000)]
    once = [event(f"DTSTART:202611{23 + n % 7}{at}Z", "DURATION:PT10M") for n, at in enumerate(clocks)]
    weekly = [
        event(
            f"DTSTART;TZID=Europe/Paris:202501{1 + n % 28:02d}{at}", "DURATION:PT10M", "RRULE:FREQ=WEEKLY;BYDAY=MO,WE"
        )
        for n, at in enumerate(clocks)
    ]
    for what, events in (("dated", once), ("weekly since 2025", weekly)):
        body = calendar(free, *events)
        began = time.perf_counter()
        tell(f"ics, 5 000 events, {what}", len(asyncio.run(read_calendar(body, "Europe/Paris", DAY, 15, 15)).hours))
    start = datetime(2026, 11, 23, 7, tzinfo=UTC)
    quarter = timedelta(minutes=15)
    slots = [
        slot(n, start=(start + n % 600 * quarter).isoformat(), end=(start + (n % 600 + 1) * quarter).isoformat())
        for n in range(20_000)
    ]
    files = [("Slot", ndjson(*slots[at : at + 400])) for at in range(0, 20_000, 400)]
    began = time.perf_counter()
    tell("smart, 50 files of 400 slots", len(read_smart(files, "Europe/Paris", DAY, 15, ()).hours))


if __name__ == "__main__":
    main()
