"""Calendars: available minus busy, whatever programs write; what cannot be read in full is refused."""

import asyncio
import ssl
import threading
from datetime import date, datetime
from typing import Any

import httpx
import pytest
from dateutil.rrule import rrulestr

from adapters.agenda.apart import read_calendar
from adapters.agenda.fetch import MOST_BYTES, Fetcher
from adapters.agenda.ics import read_ics
from sas_matcher.domain.agenda import FeedError
from tests.network import Network

DAY = date(2026, 11, 23)  # a Monday


def calendar(*parts: str) -> bytes:
    lines = [
        "BEGIN:VCALENDAR",
        "VERSION:2.0",
        "PRODID:-//fictif//FR",
        *(line for part in parts for line in part.split()),
        "",
    ]
    return "\r\n".join([*lines[:-1], "END:VCALENDAR", ""]).encode()


def available(*lines: str, more: str = "") -> str:
    return f"BEGIN:VAVAILABILITY UID:v {more} BEGIN:AVAILABLE UID:a {' '.join(lines)} END:AVAILABLE END:VAVAILABILITY"


def event(*lines: str) -> str:
    return f"BEGIN:VEVENT UID:e {' '.join(lines)} END:VEVENT"


def read(*parts: str, days: int = 7, zone: str = "Europe/Paris", each: int = 30) -> Any:
    return read_ics(calendar(*parts), zone, DAY, days, each)


def free(found: Any) -> list[str]:
    assert found.errors == []
    return [f"{one['first']} {one['start']}-{one['end']}" for one in found.hours]


def busy(found: Any) -> list[str]:
    return [f"{one['from']}/{one['to']}" for one in found.closures]


MORNING = ("DTSTART;TZID=Europe/Paris:20261102T083000", "DTEND;TZID=Europe/Paris:20261102T120000")


def test_a_weekly_rule_and_its_exceptions() -> None:
    found = read(available(*MORNING, "RRULE:FREQ=WEEKLY;BYDAY=MO,TU,TH", "EXDATE;TZID=Europe/Paris:20261124T083000"))
    assert free(found) == ["2026-11-23 08:30-12:00", "2026-11-26 08:30-12:00"]
    assert {one["each_min"] for one in found.hours} == {30} and found.hours[0]["id"] == "ics-20261123T0830-30"


def test_what_is_busy_is_a_closure_and_its_words_are_not_kept() -> None:
    found = read(
        available(*MORNING, "RRULE:FREQ=DAILY"),
        event("SUMMARY:Madame_Dupont", "DESCRIPTION:x", "DTSTART:20261123T080000Z", "DTEND:20261123T082959Z"),
        event("DTSTART;VALUE=DATE:20261125"),
        event("DTSTART:20261124T080000Z", "DURATION:PT45M", "TRANSP:TRANSPARENT"),
        event("DTSTART:20261124T080000Z", "DURATION:PT45M", "STATUS:CANCELLED"),
        event("DTSTART:20261124T080000Z"),
        "BEGIN:VFREEBUSY FREEBUSY;FBTYPE=BUSY:20261127T090000Z/PT1H,20261127T093000Z/20261127T110000Z END:VFREEBUSY",
    )
    assert busy(found) == [
        "2026-11-23T09:00/2026-11-23T09:30",
        "2026-11-25T00:00/2026-11-26T00:00",
        "2026-11-27T10:00/2026-11-27T12:00",
    ]
    assert "Dupont" not in str(found) and {one["booked"] for one in found.closures} == {"keep"}


def test_one_occurrence_that_was_moved_replaces_its_own() -> None:
    found = read(
        event("DTSTART;TZID=Europe/Paris:20261102T090000", "DURATION:PT1H", "RRULE:FREQ=WEEKLY;BYDAY=MO,WE"),
        event("RECURRENCE-ID;TZID=Europe/Paris:20261125T090000", "DTSTART:20261126T140000Z", "DURATION:PT1H"),
    )
    assert busy(found) == ["2026-11-23T09:00/2026-11-23T10:00", "2026-11-26T15:00/2026-11-26T16:00"]


def test_the_smaller_priority_decides_where_availabilities_overlap() -> None:
    week = available(*MORNING, "RRULE:FREQ=DAILY", more="PRIORITY:5")
    away = (
        "BEGIN:VAVAILABILITY UID:w PRIORITY:1 DTSTART;TZID=Europe/Paris:20261124T000000 "
        "DTEND;TZID=Europe/Paris:20261126T000000 BEGIN:AVAILABLE UID:b DTSTART;TZID=Europe/Paris:20261125T140000 "
        "DTEND;TZID=Europe/Paris:20261125T150000 END:AVAILABLE END:VAVAILABILITY"
    )
    assert free(read(week, away, days=4)) == [
        "2026-11-23 08:30-12:00",
        "2026-11-25 14:00-15:00",
        "2026-11-26 08:30-12:00",
    ]


def test_an_event_of_category_snp_is_a_place() -> None:
    found = read(event("CATEGORIES:Travail,SNP", "DTSTART:20261123T130000Z", "DTEND:20261123T140000Z"))
    assert free(found) == ["2026-11-23 14:00-15:00"] and found.closures == []


@pytest.mark.parametrize(
    ("zone", "expected"),
    [("Indian/Reunion", "12:30-16:00"), ("America/Guadeloupe", "04:30-08:00"), ("Europe/Paris", "09:30-13:00")],
)
def test_instants_are_told_on_the_clock_of_the_place(zone: str, expected: str) -> None:
    found = read(available("DTSTART:20261123T083000Z", "DTEND:20261123T120000Z"), zone=zone)
    assert free(found) == [f"2026-11-23 {expected}"]


def test_floating_times_folded_lines_and_zones_of_outlook() -> None:
    floating = read(available("DTSTART:20261123T083000", "DTEND:20261123T120000"), zone="Indian/Reunion")
    assert free(floating) == ["2026-11-23 08:30-12:00"]
    outlook = calendar("BEGIN:VEVENT", "CATEGORIES:SNP", "DURATION:PT1H", "END:VEVENT").replace(
        b"DURATION", b'DTSTART;TZID="Romance Stan\r\n dard Time":20261123T083000\r\nDURATION'
    )
    assert free(read_ics(outlook, "Indian/Reunion", DAY, 7, 30)) == ["2026-11-23 11:30-12:30"]


def test_a_rule_keeps_the_wall_clock_and_ends_when_it_says() -> None:
    rule = "RRULE:FREQ=DAILY;UNTIL=20261125T073000Z"
    found = read(available("DTSTART;TZID=Europe/Paris:20261001T083000", "DURATION:PT1H", rule))
    assert free(found) == [f"2026-11-{day} 08:30-09:30" for day in (23, 24, 25)]


@pytest.mark.parametrize("start", ["20201005", "20241230", "20261123"])
@pytest.mark.parametrize(
    "rule", ["DAILY;INTERVAL=3", "WEEKLY;INTERVAL=2;BYDAY=MO,SU", "WEEKLY;INTERVAL=3;WKST=SU;BYDAY=SU,TU"]
)
def test_a_rule_of_years_ago_gives_the_days_that_a_walk_through_them_gives(rule: str, start: str) -> None:
    text = f"FREQ={rule}"
    found = read(event(f"DTSTART:{start}T080000", "DURATION:PT1H", f"RRULE:{text}"), days=60)
    walked = rrulestr(text, dtstart=datetime.fromisoformat(f"{start}T080000"))
    window = (datetime(2026, 11, 23), datetime(2027, 1, 22))  # noqa: DTZ001 - the clock on the wall
    assert busy(found) == [f"{day:%Y-%m-%d}T08:00/{day:%Y-%m-%d}T09:00" for day in walked.between(*window)]


@pytest.mark.parametrize(
    ("part", "word"),
    [
        ("BEGIN:VEVENT DTSTART:demain END:VEVENT", "n'est pas une date"),
        ("BEGIN:VEVENT END:VEVENT", "sans DTSTART"),
        ("BEGIN:VEVENT DTSTART;TZID=Mars/Olympus:20261123T080000 DURATION:PT1H END:VEVENT", "fuseau inconnu"),
        ("BEGIN:VEVENT DTSTART:20261123T080000Z DURATION:1H END:VEVENT", "n'est pas une durée"),
        ("BEGIN:VEVENT DTSTART:20261123T080000Z DURATION:PT1H RRULE:FREQ=SECONDLY END:VEVENT", "plus fine que le jour"),
        ("BEGIN:VEVENT DTSTART:20261123T080000Z DURATION:PT1H RRULE:FREQ=LUNAR END:VEVENT", "répétition illisible"),
        ("BEGIN:VEVENT DTSTART:20261123T080000Z END:VTODO", "ne ferme pas"),
        ("BEGIN:VEVENT DTSTART:20261123T080000Z", "ne ferme pas"),
        ("BEGIN:A BEGIN:A BEGIN:A BEGIN:A END:A END:A END:A END:A", "trop imbriqués"),
        ("n'importe_quoi", "n'est pas une ligne"),
    ],
)
def test_what_cannot_be_read_in_full_is_refused_with_its_line(part: str, word: str) -> None:
    found = read(available(*MORNING), part)
    (error,) = found.errors
    assert word in error.message and error.line > 3 and found.hours == []


def test_half_a_calendar_and_none_are_refused() -> None:
    whole = calendar(available(*MORNING), event("DTSTART:20261123T080000Z", "DURATION:PT1H"))
    for cut in (whole[: len(whole) // 2], b"", b"<html></html>", whole + whole, b"\x00\xff"):
        assert read_ics(cut, "Europe/Paris", DAY, 7, 30).errors, cut


def test_what_lasts_for_centuries_counts_for_the_days_that_are_read() -> None:
    """A closure of the year 900 could not even be written as a date that is read again."""
    lasts = "DTSTART:09000101T080000Z", "DTEND:99991231T235959Z"
    assert busy(read(event(*lasts))) == ["2026-11-23T00:00/2026-11-30T00:00"]
    marked = read(event("DTSTART:20000101T080000Z", "DTEND:21000101T080000Z", "CATEGORIES:SNP"))
    assert marked.hours[0]["first"] in ("2026-11-22", "2026-11-23") and marked.hours[-1]["first"] == "2026-11-29"


def test_too_many_repetitions_are_refused() -> None:
    many = [event("DTSTART:20200101T080000Z", "DURATION:PT1H", "RRULE:FREQ=DAILY") for _ in range(4_000)]
    (error,) = read(*many[:10], *["BEGIN:VTODO END:VTODO"] * 20_000).errors
    assert "20000 éléments" in error.message


async def test_five_thousand_events_and_a_bomb_are_read_calendar() -> None:
    events = [
        event(f"DTSTART:202611{23 + n % 7}T{8 + n % 10:02d}{n % 60:02d}00Z", "DURATION:PT10M") for n in range(5_000)
    ]
    body = calendar(available(*MORNING, "RRULE:FREQ=DAILY"), *events)
    found, bomb = await asyncio.gather(
        read_calendar(body, "Europe/Paris", DAY, 15, 15),
        # days that never come: the library would look for each through eight thousand years
        read_calendar(
            calendar(
                *[event("DTSTART:20200101T080000Z", "DURATION:PT1H", "RRULE:FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30")] * 500
            ),
            *("Europe/Paris", DAY, 15, 15),
        ),
    )
    assert found == read_ics(body, "Europe/Paris", DAY, 15, 15)
    assert len(found.hours) == 15 and found.errors == [] and found.closures
    assert [error.message for error in bomb.errors] == [
        "illisible, ou trop long à lire ; publiez moins, ou plus simplement"
    ]


# -- from its address ------------------------------------------------------------------------------------------------


def fetcher(
    answer: httpx.Response, *addresses: str, inside: tuple[str, ...] = ()
) -> tuple[Fetcher, list[httpx.Request]]:
    asked: list[httpx.Request] = []

    def reply(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return answer

    async def resolve(host: str, port: int) -> list[str]:
        return list(addresses)

    return Fetcher(inside, resolve=resolve, transport=Network(reply)), asked


async def test_the_connection_goes_to_the_address_that_was_checked() -> None:
    one, asked = fetcher(httpx.Response(200, content=b"BEGIN"), "93.184.216.34")
    assert await one.fetch("https://agenda.example/secret.ics") == b"BEGIN"
    assert asked[0].url.host == "93.184.216.34" and asked[0].headers["Host"] == "agenda.example"
    assert asked[0].extensions["sni_hostname"] == "agenda.example"


async def test_the_authorities_are_read_once_and_beside_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading them takes 20 ms, a manifest names a hundred files, and the loop is the one that matches patients."""
    made: list[int] = []
    make = ssl.create_default_context

    def counted(*args: Any, **named: Any) -> ssl.SSLContext:
        made.append(threading.get_ident())
        return make(*args, **named)

    monkeypatch.setattr(ssl, "create_default_context", counted)

    async def here(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    one = Fetcher(("agenda.chu:1",), resolve=here)
    for _ in range(3):
        with pytest.raises(FeedError, match="ne répond pas"):
            await one.fetch("https://agenda.chu:1/x.ics")
    assert len(made) == 1 and threading.get_ident() not in made


OURS = """
127.0.0.1 10.1.2.3 192.168.1.1 169.254.169.254 100.64.0.1 0.0.0.0 224.0.0.1 ::1 fd00::1 fe80::1 ff02::1
::ffff:10.0.0.1 2002:7f00:1::
"""


@pytest.mark.parametrize("address", OURS.split())
async def test_nothing_of_our_own_network_is_asked(address: str) -> None:
    for addresses in ((address,), ("93.184.216.34", address)):
        one, asked = fetcher(httpx.Response(200), *addresses)
        with pytest.raises(FeedError, match="réseau privé"):
            await one.fetch("https://agenda.example/x.ics")
        assert asked == []


async def test_a_host_of_our_own_may_be_allowed_and_only_it_goes_without_tls() -> None:
    one, asked = fetcher(httpx.Response(200, content=b"x"), "10.1.2.3", inside=("agenda.chu:8080",))
    assert await one.fetch("http://agenda.chu:8080/x.ics") == b"x" and len(asked) == 1
    for url in ("http://agenda.chu/x.ics", "http://agenda.example/x.ics", "ftp://agenda.example/x.ics"):
        with pytest.raises(FeedError, match="https://"):
            await one.fetch(url)


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        (httpx.Response(302, headers={"Location": "http://127.0.0.1/"}), "adresse finale"),
        (httpx.Response(404), "répond 404"),
        (httpx.Response(200, content=b"x" * (MOST_BYTES + 1)), "8 Mio"),
    ],
)
async def test_what_an_address_may_answer_instead(answer: httpx.Response, word: str) -> None:
    one, asked = fetcher(answer, "93.184.216.34")
    with pytest.raises(FeedError, match=word):
        await one.fetch("https://agenda.example/secret")
    assert len(asked) == 1


async def test_an_address_that_does_not_answer_is_not_repeated() -> None:
    """It may hold a secret."""

    async def nowhere(host: str, port: int) -> list[str]:
        raise OSError(f"no such host: {host}")

    with pytest.raises(FeedError, match="ne répond pas") as wrong:
        await Fetcher(resolve=nowhere).fetch("https://agenda.example/secret")
    assert "agenda.example" not in str(wrong.value) and "secret" not in str(wrong.value)
