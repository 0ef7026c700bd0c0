"""Agendas against ical.js and the clocks of ICU: ``python -m tests.bench.recurrence …/ical.js/dist/ical.js [CASES]``.

Draws rules, exceptions, days, hours and zones of France (overseas ones; half of the windows around a change of clocks),
lets ``sas_matcher.recurrence.expand`` (dateutil, zoneinfo) and Node (ical.js 2: ``npm install ical.js@2``; ``Intl``)
make ranges of them, and stops at the first difference. None of the two knows the other's code or tables.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from random import Random
from typing import Any, Final

from sas_matcher.domain.agenda import Hours, Week
from sas_matcher.recurrence import expand
from tests.property.test_recurrence import walk

ZONES: Final = (
    *("Europe/Paris", "America/Miquelon"),  # the two that change their clocks, on different days
    *("America/Guadeloupe", "America/Martinique", "America/Cayenne", "America/St_Barthelemy", "America/Marigot"),
    *("Indian/Reunion", "Indian/Mayotte", "Pacific/Noumea", "Pacific/Wallis"),
    *("Pacific/Tahiti", "Pacific/Marquesas", "Pacific/Gambier"),
)
NAMES: Final = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
FIRST: Final = date(2025, 1, 1)
SPAN: Final = 3 * 365
# changes of clocks, of Paris and of Saint-Pierre-et-Miquelon
CHANGES: Final = tuple(
    date(*day) for day in ((2026, 3, 29), (2026, 10, 25), (2027, 3, 28), (2027, 10, 31), (2026, 3, 8), (2026, 11, 1))
)
SEED: Final = 20261126
BATCH: Final = 1_000
DAY: Final = timedelta(days=1)


def _rule(rng: Random) -> str:
    """Draw a rule that agendas take."""
    frequency = rng.choice(("DAILY", "WEEKLY", "MONTHLY"))
    parts = [f"FREQ={frequency}"]
    if rng.random() < 0.5:
        parts.append(f"INTERVAL={rng.randint(1, 6)}")
    if frequency == "WEEKLY" and rng.random() < 0.7:
        parts.append("BYDAY=" + ",".join(sorted(rng.sample(NAMES, rng.randint(1, 5)), key=NAMES.index)))
    if frequency == "MONTHLY":
        days = rng.sample(NAMES, rng.randint(1, 3))
        ranked = [rng.choice(("1", "2", "3", "4", "5", "-1", "-2")) + day for day in days]
        numbers = sorted(rng.sample([*range(-31, 0), *range(1, 32)], rng.randint(1, 3)))
        by = rng.choice(("", "BYDAY=" + ",".join(days), "BYDAY=" + ",".join(ranked)))
        parts.append(by or "BYMONTHDAY=" + ",".join(map(str, numbers)))
    if frequency == "WEEKLY" and rng.random() < 0.5:
        parts.append(f"WKST={rng.choice(NAMES)}")
    match rng.randrange(3):
        case 1:
            parts.append(f"COUNT={rng.randint(1, 60)}")
        case 2:
            parts.append(f"UNTIL={_day(rng):%Y%m%d}")
    return ";".join(parts)


def _day(rng: Random) -> date:
    return FIRST + timedelta(days=rng.randrange(SPAN))


def _case(rng: Random) -> dict[str, Any]:
    begin = rng.choice(CHANGES) - timedelta(days=rng.randrange(4)) if rng.random() < 0.5 else _day(rng)
    around = [begin + timedelta(days=rng.randrange(-3, 12)) for _ in range(rng.randrange(6))]
    return {
        "rule": _rule(rng),
        "first": (begin - timedelta(days=rng.randrange(900))).isoformat(),
        "start": f"{rng.randrange(24):02}:{rng.randrange(0, 60, 5):02}",
        "minutes": rng.randrange(5, 16 * 60 + 1, 5),
        "zone": rng.choice(ZONES),
        "without": sorted({day.isoformat() for day in around[::2]}),
        "more": sorted({day.isoformat() for day in around[1::2]}),
        "begin": begin.isoformat(),
        "end": (begin + timedelta(days=rng.randrange(1, 40))).isoformat(),
    }


def _ours(case: dict[str, Any]) -> list[tuple[int, int]]:
    """Return what the service publishes: (start, end) in epoch milliseconds of each range, and of some days more."""
    start = time.fromisoformat(case["start"])
    first = date.fromisoformat(case["first"])
    end = (datetime.combine(first, start) + timedelta(minutes=case["minutes"])).time()
    days = {name: frozenset(map(date.fromisoformat, case[name])) for name in ("without", "more")}
    hours = Hours("h", first, start, end, case["rule"], days["without"], days["more"], capacity=2)
    begin, last = (date.fromisoformat(case[name]) for name in ("begin", "end"))
    # by half a day more than any clock is from UTC; what begins on other local days is cut off below
    window = datetime.combine(begin, time(), UTC) - timedelta(hours=36), datetime.combine(last, time(), UTC)
    pieces = expand(Week(case["zone"], (hours,)), window[0], window[1] + timedelta(hours=60))
    return [(int(1000 * piece.starts.timestamp()), int(1000 * piece.ends.timestamp())) for piece in pieces]


def _within(spans: list[tuple[int, int]], low: int, high: int) -> list[tuple[int, int]]:
    # a range of which nothing is left when clocks jump is none
    return sorted((start, end) for start, end in spans if low < start < high and start < end)


def _cases(count: int) -> Iterator[dict[str, Any]]:
    rng = Random(SEED)
    for _ in range(count):
        yield _case(rng)


def main(library: Path, count: int) -> int:
    """Compare; returns the number of ranges that both agree on.

    Raises:
        AssertionError: names the first case on which they differ.
    """
    node = ["node", str(Path(__file__).with_suffix(".mjs")), str(library)]
    ranges = walked = 0
    cases = list(_cases(count))
    for at in range(0, count, BATCH):
        part = cases[at : at + BATCH]
        asked = [_asked(case) for case in part]
        walked += sum("walked" in one for one in asked)
        done = subprocess.run(
            node, input="\n".join(map(json.dumps, asked)), stdout=subprocess.PIPE, text=True, check=True, timeout=600
        )
        for case, line in zip(part, done.stdout.splitlines(), strict=True):
            low, high = (
                int(1000 * datetime.combine(date.fromisoformat(case[name]), time(), UTC).timestamp())
                for name in ("begin", "end")
            )
            theirs = _within([(start, end) for start, end in json.loads(line)], low, high)
            ours = _within(_ours(case), low, high)
            assert ours == theirs, (case, ours, theirs)
            ranges += len(ours)
        sys.stderr.write(f"\r{at + len(part)} cases, {ranges} ranges")
    sys.stdout.write(
        f"\n{count - walked} cases against ical.js, {walked} that it cannot begin against a walk through the days; "
        f"{ranges} ranges, no difference\n"
    )
    return ranges


def _asked(case: dict[str, Any]) -> dict[str, Any]:
    """Return a case as Node gets it: some days more, so that neither side's window cuts what is compared.

    ical.js refuses a rule with ranks whose first month has no such day (a fifth Tuesday), or begins it a month later
    whatever INTERVAL says: its days are then those of the walk of the property tests, which uses no library.
    """
    begin, end = (date.fromisoformat(case[name]) for name in ("begin", "end"))
    wide: dict[str, Any] = {"begin": (begin - 3 * DAY).isoformat(), "end": (end + 3 * DAY).isoformat()}
    first = date.fromisoformat(case["first"])
    parts = dict(part.split("=") for part in case["rule"].split(";"))
    if parts["FREQ"] == "MONTHLY" and not parts.get("BYDAY", "MO")[0].isalpha():
        month = walk(f"FREQ=MONTHLY;BYDAY={parts['BYDAY']}", first.replace(day=1), first.replace(day=28) + 4 * DAY)
        if not any(day.month == first.month for day in month):
            wide["walked"] = [day.isoformat() for day in walk(case["rule"], first, end + 3 * DAY)]
    return case | wide


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 100_000)
