"""Hours into instants, against an oracle that walks through days and minutes and uses no library of rules.

Many more cases, against another library of rules and other clocks: ``python -m tests.bench.recurrence``.
"""

import calendar
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from typing import Any, Final
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sas_matcher.domain.agenda import MOST_PIECES, MOST_TRIED, Closure, Hours, Piece, TooManyPiecesError, Week
from sas_matcher.recurrence import _Away, closed, days, expand, instant, parse_rule

ZONES: Final = (
    "Europe/Paris",
    "Indian/Reunion",
    "America/Guadeloupe",
    "America/Cayenne",
    "Indian/Mayotte",
    "America/Miquelon",  # changes its clocks on other days than Paris
    "Pacific/Noumea",
    "Pacific/Tahiti",
    "Pacific/Marquesas",  # half an hour off
)
DAY_NAMES: Final = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
ONE_DAY: Final = timedelta(days=1)
MINUTE: Final = timedelta(minutes=1)
# around every change of clocks of two years, and between them
FIRST, LAST = date(2026, 1, 1), date(2027, 12, 31)

dates = st.dates(FIRST, LAST)
clocks = st.times(time(0), time(23, 59)).map(lambda at: at.replace(second=0, microsecond=0))
zones = st.sampled_from(ZONES)


@st.composite
def rules(draw: st.DrawFn) -> str:
    """Draw a rule that ``parse_rule`` takes."""
    frequency = draw(st.sampled_from(["DAILY", "WEEKLY", "MONTHLY"]))
    parts = [f"FREQ={frequency}"]
    if draw(st.booleans()):
        parts.append(f"INTERVAL={draw(st.integers(1, 6))}")
    match frequency, draw(st.sampled_from(["none", "byday", "bymonthday"])):
        case "WEEKLY", "byday":
            parts.append("BYDAY=" + ",".join(draw(st.lists(st.sampled_from(DAY_NAMES), min_size=1, unique=True))))
        case "MONTHLY", "byday":
            ranks = st.just("") if draw(st.booleans()) else st.sampled_from(["1", "2", "3", "4", "5", "-1", "-2"])
            named = st.tuples(ranks, st.sampled_from(DAY_NAMES)).map("".join)
            parts.append("BYDAY=" + ",".join(draw(st.lists(named, min_size=1, max_size=3, unique=True))))
        case "MONTHLY", "bymonthday":
            numbers = st.integers(-31, 31).filter(bool)
            parts.append(
                "BYMONTHDAY=" + ",".join(map(str, draw(st.lists(numbers, min_size=1, max_size=3, unique=True))))
            )
    if frequency == "WEEKLY" and draw(st.booleans()):
        parts.append(f"WKST={draw(st.sampled_from(DAY_NAMES))}")
    match draw(st.sampled_from(["none", "count", "until"])):
        case "count":
            parts.append(f"COUNT={draw(st.integers(1, 40))}")
        case "until":
            parts.append(f"UNTIL={draw(dates):%Y%m%d}")
    return ";".join(parts)


def walk(rule: str, first: date, last: date) -> Iterator[date]:
    """Yield the days of a rule from its first day on, by looking at every day (RFC 5545, 3.3.10)."""
    parts = dict(part.split("=") for part in rule.split(";"))
    interval, count = int(parts.get("INTERVAL", 1)), int(parts.get("COUNT", 10**9))
    until = date.fromisoformat(parts["UNTIL"]) if "UNTIL" in parts else last
    week_starts = DAY_NAMES.index(parts.get("WKST", "MO"))

    def week(day: date) -> date:
        return day - timedelta(days=(day.weekday() - week_starts) % 7)

    def hit(day: date) -> bool:
        length = calendar.monthrange(day.year, day.month)[1]
        match parts["FREQ"]:
            case "DAILY":
                return (day - first).days % interval == 0
            case "WEEKLY":
                named = parts.get("BYDAY", DAY_NAMES[first.weekday()]).split(",")
                return (week(day) - week(first)).days // 7 % interval == 0 and DAY_NAMES[day.weekday()] in named
        if ((day.year - first.year) * 12 + day.month - first.month) % interval:
            return False
        if "BYDAY" in parts:
            name, rank, back = DAY_NAMES[day.weekday()], (day.day - 1) // 7 + 1, (length - day.day) // 7 + 1
            return not {name, f"{rank}{name}", f"-{back}{name}"}.isdisjoint(parts["BYDAY"].split(","))
        numbers = [int(number) for number in parts.get("BYMONTHDAY", str(first.day)).split(",")]
        return day.day in numbers or day.day - length - 1 in numbers

    day = first
    while day <= min(until, last) and count:
        if hit(day):
            count -= 1
            yield day
        day += ONE_DAY


def wall(when: datetime, zone: str) -> datetime:
    """Return the wall clock at an instant."""
    return when.astimezone(ZoneInfo(zone)).replace(tzinfo=None, fold=0)


@cache
def first_reading(local: datetime, zone: str) -> datetime:
    """Return the first instant at which the wall clock shows a time; where it never does, by the offset before."""
    offsets = {ZoneInfo(zone).utcoffset(local + hours * timedelta(hours=1)) for hours in range(-26, 27)}
    found = [local - offset for offset in offsets if offset is not None]
    shown = [when for when in found if wall(when.replace(tzinfo=UTC), zone) == local]
    before = ZoneInfo(zone).utcoffset(local - ONE_DAY)
    assert before is not None
    return min(shown, default=local - before).replace(tzinfo=UTC)


@given(rules(), dates, dates, st.integers(0, 120), st.lists(dates, max_size=5), st.lists(dates, max_size=5))
@settings(max_examples=500, deadline=None)
def test_days_are_those_that_a_walk_through_the_calendar_finds(
    rule: str, first: date, begin: date, length: int, without: list[date], more: list[date]
) -> None:
    last = begin + timedelta(days=length)
    hours = Hours("h", first, time(9), time(10), rule, frozenset(without), frozenset(more), each_min=15)
    expected = sorted(day for day in ({*walk(rule, first, last)} | {*more}) - {*without} if begin <= day <= last)
    assert days(hours, begin, last) == expected


@given(st.builds(datetime.combine, dates, clocks), zones)
@settings(max_examples=500, deadline=None)
def test_a_wall_clock_time_is_its_first_instant(local: datetime, zone: str) -> None:
    assert instant(local, zone) == first_reading(local, zone)


# nights of changed clocks: Paris and Saint-Pierre-et-Miquelon, spring and autumn
CHANGES: Final = (date(2026, 3, 29), date(2026, 10, 25), date(2026, 3, 8), date(2026, 11, 1))


@st.composite
def weeks(draw: st.DrawFn) -> tuple[Week, datetime, datetime]:
    """Draw an agenda and a window, often around a change of clocks."""
    around = draw(st.sampled_from(CHANGES) | dates)
    near = st.integers(-2, 2).map(lambda number: around + number * ONE_DAY)
    hours = []
    for number in range(draw(st.integers(1, 3))):
        kind: dict[str, Any] = draw(
            st.fixed_dictionaries({"each_min": st.sampled_from([5, 15, 20, 60])})
            | st.fixed_dictionaries({"capacity": st.integers(1, 20), "piece_min": st.sampled_from([None, 30, 60, 240])})
        )
        one = Hours(
            f"h{number}", draw(near), draw(clocks), draw(clocks), draw(st.none() | st.just("FREQ=DAILY")), **kind
        )
        if one.lasts <= timedelta(hours=16):
            hours.append(one)
    closures = []
    for _ in range(draw(st.integers(0, 3))):
        start = datetime.combine(draw(near), draw(clocks))
        closures.append(Closure(start, start + timedelta(minutes=draw(st.integers(1, 2_000)))))
    begin = datetime.combine(around - 2 * ONE_DAY, draw(clocks), UTC)
    return Week(draw(zones), tuple(hours), tuple(closures)), begin, begin + timedelta(days=4)


def seats_by_range(pieces: list[Piece], hours: Hours, zone: str, day: date) -> int:
    start = first_reading(datetime.combine(day, hours.start), zone)
    end = first_reading(datetime.combine(day, hours.start) + hours.lasts, zone)
    return sum(p.capacity for p in pieces if p.hours == hours.id and start <= p.starts < end)


@given(weeks())
@settings(max_examples=300, deadline=None)
def test_slots_lie_in_their_hours_never_in_a_closure_and_none_is_missing(
    drawn: tuple[Week, datetime, datetime],
) -> None:
    week, after, until = drawn
    pieces = expand(week, after, until)
    assert pieces == sorted(pieces, key=lambda p: (p.starts, p.ends, p.hours))
    assert len({(p.hours, p.key) for p in pieces}) == len(pieces), "a key names one slot"
    by_id = {hours.id: hours for hours in week.hours}
    for piece in pieces:
        assert after < piece.starts < until and piece.starts < piece.ends and piece.capacity >= 1
        minute = piece.starts
        while week.closures and minute < piece.ends:  # what the clock on the wall shows is in no closure
            shown = wall(minute, week.zone)
            assert not any(one.start <= shown < one.end for one in week.closures), (piece, shown)
            minute += 5 * MINUTE
        hours = by_id[piece.hours]
        spans = [
            (first_reading(begin, week.zone), first_reading(begin + hours.lasts, week.zone))
            for begin in (
                datetime.combine(piece.starts.date() + number * ONE_DAY, hours.start) for number in range(-3, 3)
            )
        ]
        assert any(start <= piece.starts and piece.ends <= end for start, end in spans), piece
        if hours.each_min is not None:
            assert (piece.ends - piece.starts, piece.capacity) == (timedelta(minutes=hours.each_min), 1)
    shown_by_hours = {one: {p.starts for p in pieces if p.hours == one} for one in by_id}
    spans = [closed(one, week.zone) for one in week.closures]
    for hours in week.hours:
        window = (after.date() - 2 * ONE_DAY, until.date() + 2 * ONE_DAY)
        for day in {hours.first} if hours.repeat is None else walk(hours.repeat, hours.first, window[1]):
            start = first_reading(datetime.combine(day, hours.start), week.zone)
            end = first_reading(datetime.combine(day, hours.start) + hours.lasts, week.zone)
            if hours.capacity is not None:
                assert seats_by_range(pieces, hours, week.zone, day) <= hours.capacity
                if after < start and end < until and start < end and not any(a < end and b > start for a, b in spans):
                    assert seats_by_range(pieces, hours, week.zone, day) == hours.capacity
                continue
            step = timedelta(minutes=hours.each_min or 0)
            while start + step <= end:
                free = not any(a < start + step and b > start for a, b in spans)
                assert (start in shown_by_hours[hours.id]) == (free and after < start < until), (hours, start)
                start += step


def test_a_night_is_an_hour_longer_or_shorter_when_clocks_change_and_a_morning_is_not() -> None:
    night = Hours("nuit", date(2026, 3, 28), time(22), time(6), "FREQ=DAILY", each_min=60)
    morning = Hours("matin", date(2026, 3, 27), time(8), time(9), "FREQ=DAILY", each_min=15)

    def count(day: date, hours: Hours) -> int:
        begin = instant(datetime.combine(day, time(12)), "Europe/Paris")
        return len(expand(Week("Europe/Paris", (hours,)), begin, begin + ONE_DAY))

    assert [count(date(2026, *day), night) for day in ((3, 28), (3, 29), (10, 24), (10, 25))] == [7, 8, 9, 8]
    (first, *_) = expand(
        Week("Europe/Paris", (morning,)), datetime(2026, 3, 29, tzinfo=UTC), datetime(2026, 3, 30, tzinfo=UTC)
    )
    assert wall(first.starts, "Europe/Paris").time() == time(8) and first.starts.hour == 6


def test_an_agenda_that_explodes_is_stopped() -> None:
    """Also a rule that begins years ago costs no walk through them."""
    many = tuple(Hours(f"h{n}", date(2020, 1, 1), time(8), time(20), "FREQ=DAILY", each_min=5) for n in range(300))
    begin = datetime(2099, 1, 1, tzinfo=UTC)
    with pytest.raises(TooManyPiecesError):
        expand(Week("Europe/Paris", many), begin, begin + timedelta(days=7))
    assert MOST_PIECES < 300 * 144 * 7


def test_an_agenda_that_is_closed_costs_no_more_than_one_that_is_open() -> None:
    """Three hundred closures that tile a day and ten thousand ranges on it took 24 s, and no slot came out."""
    day = datetime.combine(date(2026, 11, 27), time())
    tiles = tuple(Closure(day + n * 5 * MINUTE, day + (n + 1) * 5 * MINUTE) for n in range(288))
    begin = datetime(2026, 11, 26, tzinfo=UTC)
    each = 12 * 12

    def ranges(number: int) -> Week:
        hours = tuple(Hours(f"h{n}", day.date(), time(8), time(20), each_min=5) for n in range(number))
        return Week("Europe/Paris", hours, tiles)

    assert expand(ranges(MOST_TRIED // each), begin, begin + timedelta(days=7)) == []
    for many in (ranges(MOST_TRIED // each + 1), ranges(10_000)):
        with pytest.raises(TooManyPiecesError):
            expand(many, begin, begin + timedelta(days=7))
    # and what is cut is not compared with every closure
    spans = [closed(one, "Europe/Paris") for one in tiles]
    assert list(_Away(spans).within(spans[7])) == [(spans[0][0], spans[-1][1])]
    assert list(_Away(spans[::2]).within((spans[7][0], spans[10][0]))) == [spans[8]]


REFUSED: Final = """
FREQ=HOURLY FREQ=WEEKLY; FREQ=WEEKLY;FREQ=DAILY FREQ=WEEKLY;BYSETPOS=1 FREQ=MONTHLY;INTERVAL=12 FREQ=WEEKLY;WKST=XX
FREQ=MONTHLY;BYDAY=MO;BYMONTHDAY=1 FREQ=WEEKLY;BYDAY=6MO FREQ=MONTHLY;BYDAY=MO,1TU FREQ=DAILY;BYMONTHDAY=1
"""


@pytest.mark.parametrize("text", ["", *REFUSED.split()])
def test_rules_that_might_never_end_or_mean_something_else_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parse_rule(text)
