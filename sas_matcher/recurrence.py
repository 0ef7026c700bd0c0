"""Hours of a week into instants: recurrence, exceptions, closures, clocks that change. Pure.

The rule is expanded in local days by python-dateutil; each day's range then becomes two instants of its zone, so that a
change of clocks lengthens or shortens a night but never moves a morning (RFC 5545, 3.3.5 and 3.3.10).
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from typing import Any, Final
from zoneinfo import ZoneInfo

from dateutil.rrule import DAILY, FR, MO, MONTHLY, SA, SU, TH, TU, WE, WEEKLY, rrule

from sas_matcher.domain.agenda import (
    LONGEST_INDIVIDUAL,
    MOST_PIECES,
    MOST_TRIED,
    Closure,
    Hours,
    Piece,
    TooManyPiecesError,
    Week,
)

Span = tuple[datetime, datetime]

_FREQUENCIES: Final = {"DAILY": DAILY, "WEEKLY": WEEKLY, "MONTHLY": MONTHLY}
# A rule within these always has a next day, so that expanding it is never a search through all centuries.
_MOST_INTERVAL: Final = {"DAILY": 366, "WEEKLY": 53, "MONTHLY": 6}
_MOST_COUNT: Final = 1_000
_DAYS: Final = {"MO": MO, "TU": TU, "WE": WE, "TH": TH, "FR": FR, "SA": SA, "SU": SU}
_PART: Final = re.compile(r"([A-Z]{3,10})=([A-Z0-9,+-]{1,120})")
_BYDAY: Final = re.compile(r"([+-]?[1-5])?(MO|TU|WE|TH|FR|SA|SU)")


def parse_rule(text: str) -> dict[str, Any]:
    """Read a rule of RFC 5545 as far as agendas need it; returns arguments of ``dateutil.rrule.rrule``.

    FREQ is DAILY, WEEKLY or MONTHLY; INTERVAL, COUNT or UNTIL (a day, included), BYDAY (not for DAILY; with a position
    for MONTHLY only), BYMONTHDAY (MONTHLY), WKST.

    Raises:
        ValueError: in French, what cannot be used and what can.
    """
    parts: dict[str, str] = {}
    for part in text.split(";"):
        match = _PART.fullmatch(part)
        if match is None or match[1] in parts:
            raise ValueError(f"« {part[:40]} » n'est pas lisible ; attendu par exemple FREQ=WEEKLY;BYDAY=MO,TU")
        parts[match[1]] = match[2]
    name = parts.pop("FREQ", "")
    if name not in _FREQUENCIES:
        raise ValueError("FREQ doit être DAILY, WEEKLY ou MONTHLY")
    rule: dict[str, Any] = {"freq": _FREQUENCIES[name], "wkst": MO}
    if {"COUNT", "UNTIL"} <= parts.keys() or {"BYDAY", "BYMONTHDAY"} <= parts.keys():
        raise ValueError("COUNT et UNTIL, ou BYDAY et BYMONTHDAY, ne vont pas ensemble ; gardez l'un des deux")
    return rule | dict(_argument(name, key, value) for key, value in parts.items())


def _argument(frequency: str, key: str, value: str) -> tuple[str, Any]:
    """Return one part of a rule as an argument."""
    match key:
        case "INTERVAL":
            return "interval", _number(key, value, 1, _MOST_INTERVAL[frequency])
        case "COUNT":
            return "count", _number(key, value, 1, _MOST_COUNT)
        case "UNTIL":
            return "until", _day(value)
        case "WKST" if value in _DAYS:
            return "wkst", _DAYS[value]
        case "BYDAY" if frequency != "DAILY":
            named = [_weekday(day, frequency) for day in value.split(",")]
            if len({day.n is None for day in named}) > 1:
                # dateutil would ask for both at once
                raise ValueError("BYDAY : tous les jours avec un rang (1MO), ou aucun ; faites deux plages")
            return "byweekday", named
        case "BYMONTHDAY" if frequency == "MONTHLY":
            numbers = [_number(key, day, -31, 31) for day in value.split(",")]
            if 0 in numbers:
                raise ValueError("BYMONTHDAY va de 1 à 31, ou de -31 à -1")
            return "bymonthday", numbers
    raise ValueError(f"{key}={value[:20]} ne convient pas avec FREQ={frequency}")


def _number(key: str, text: str, least: int, most: int) -> int:
    if re.fullmatch(r"[+-]?[0-9]{1,4}", text) is None or not least <= int(text) <= most:
        raise ValueError(f"{key} doit être un nombre de {least} à {most}")
    return int(text)


def _day(text: str) -> datetime:
    try:
        return datetime.strptime(text, "%Y%m%d").replace(tzinfo=None)  # noqa: DTZ007 - a day of the local calendar
    except ValueError:
        raise ValueError("UNTIL doit être un jour, inclus, par exemple UNTIL=20261231") from None


def _weekday(text: str, frequency: str) -> Any:
    match = _BYDAY.fullmatch(text)
    if match is None or (match[1] and frequency != "MONTHLY"):
        raise ValueError(f"BYDAY={text[:20]} : attendu MO à SU ; un rang (1MO, -1FR) seulement avec FREQ=MONTHLY")
    return _DAYS[match[2]](int(match[1])) if match[1] else _DAYS[match[2]]


def days(hours: Hours, first: date, last: date) -> list[date]:
    """Return the local days from ``first`` to ``last`` (both included) on which hours begin, in order."""
    if hours.repeat is None:
        found = {hours.first}
    else:
        rule = parse_rule(hours.repeat)
        start = hours.first if "count" in rule or first <= hours.first else _nearer(rule, hours.first, first)
        window = (datetime.combine(first, time()), datetime.combine(last, time()))
        found = {
            day.date() for day in rrule(dtstart=datetime.combine(start, time()), **rule).between(*window, inc=True)
        }
    return sorted(day for day in (found | hours.also_on) - hours.except_on if first <= day <= last)


def _nearer(rule: dict[str, Any], start: date, first: date) -> date:
    """Return a later day on which a rule without COUNT may as well start: years of days need not be walked through."""
    interval = rule.get("interval", 1)
    if rule["freq"] != MONTHLY:
        step = interval * (7 if rule["freq"] == WEEKLY else 1)
        return start + timedelta(days=(first - start).days // step * step)
    months = ((first.year - start.year) * 12 + first.month - start.month) // interval * interval
    if not months:
        return start
    if not {"byweekday", "bymonthday"} & rule.keys():
        rule["bymonthday"] = start.day
    year, month = divmod(start.year * 12 + start.month - 1 + months, 12)
    return date(year, month + 1, 1)


@cache
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


def instant(local: datetime, zone: str) -> datetime:
    """Return the instant of a wall-clock time: the first of two; one that is skipped counts by the offset before it."""
    return local.replace(tzinfo=_zone(zone), fold=0).astimezone(UTC)


def closed(closure: Closure, zone: str) -> Span:
    """Return a closure as instants, the widest reading where clocks change: nobody is sent to a closed door."""

    def both(local: datetime) -> tuple[datetime, datetime]:
        first, second = (local.replace(tzinfo=_zone(zone), fold=fold).astimezone(UTC) for fold in (0, 1))
        return first, second

    return min(both(closure.start)), max(both(closure.end))


def expand(week: Week, after: datetime, until: datetime) -> list[Piece]:
    """Return the slots of an agenda that start after an instant and before another, by start.

    Individual times keep the grid of their range; one that meets a closure is gone as a whole. A plage loses the closed
    part, and of its patients the share that no longer has time.

    Raises:
        TooManyPiecesError: more than ``MOST_PIECES``, or more than ``MOST_TRIED`` were cut for them.
    """
    away = _Away(closed(closure, week.zone) for closure in week.closures)
    first = after.astimezone(_zone(week.zone)).date() - timedelta(days=1)  # hours of yesterday may run past midnight
    last = until.astimezone(_zone(week.zone)).date()
    pieces: list[Piece] = []
    tried = 0
    for hours in week.hours:
        for day in days(hours, first, last):
            begin = datetime.combine(day, hours.start)
            span = instant(begin, week.zone), instant(begin + hours.lasts, week.zone)
            # those that come out do not tell what it costs to find that there are none
            tried += max(0, -((span[0] - span[1]) // _step(hours, span)))
            if tried > MOST_TRIED:
                raise TooManyPiecesError
            for start, end, capacity in _cut(hours, span, away):
                if after < start < until:
                    key = f"{start:%Y%m%dT%H%MZ}-{int((end - start).total_seconds()) // 60}"
                    pieces.append(Piece(hours.id, key, start, end, capacity))
            if len(pieces) > MOST_PIECES:
                raise TooManyPiecesError
    return sorted(pieces, key=lambda piece: (piece.starts, piece.ends, piece.hours))


class _Away:
    """When a practice is closed: spans by start, none of which meets or touches another."""

    def __init__(self, spans: Iterable[Span]) -> None:
        self._begins: list[datetime] = []
        self._stops: list[datetime] = []
        for begin, stop in sorted(spans):
            if self._stops and begin <= self._stops[-1]:
                self._stops[-1] = max(self._stops[-1], stop)
            else:
                self._begins.append(begin)
                self._stops.append(stop)

    def meets(self, span: Span) -> bool:
        """Tell whether some closure lies in a span, even in part."""
        return bisect_right(self._stops, span[0]) < bisect_left(self._begins, span[1])

    def within(self, span: Span) -> Iterator[Span]:
        """Return the closures that meet a span, by start."""
        low, high = bisect_right(self._stops, span[0]), bisect_left(self._begins, span[1])
        return zip(self._begins[low:high], self._stops[low:high], strict=True)


def _step(hours: Hours, span: Span) -> timedelta:
    """Return how long the pieces of a range are."""
    minutes = hours.each_min or hours.piece_min
    # clocks that change may leave nothing of a range
    return max(span[1] - span[0], timedelta(minutes=1)) if minutes is None else timedelta(minutes=minutes)


def _cut(hours: Hours, span: Span, away: _Away) -> Iterator[tuple[datetime, datetime, int]]:
    """Yield (start, end, seats) of a range."""
    start, end = span
    step = _step(hours, span)
    if hours.each_min is not None:
        while start + step <= end:
            if not away.meets((start, start + step)):
                yield start, start + step, 1
            start += step
        return
    seats = hours.capacity or 0
    while start < end:
        stop = min(end, start + step)
        # rounded on the whole range, so that the pieces have its patients together
        here = seats * (stop - span[0]) // (end - span[0]) - seats * (start - span[0]) // (end - span[0])
        for left, right in open_parts((start, stop), away.within((start, stop))):
            if share := here * (right - left) // (stop - start):
                # what is left for one patient is an individual time, which ends sooner
                yield left, right if share > 1 else min(right, left + LONGEST_INDIVIDUAL), share
        start = stop


def open_parts(span: Span, away: Iterable[Span]) -> Iterator[Span]:
    """Yield what is left of a span outside some others, which come by start."""
    start, end = span
    for begin, stop in away:
        if begin > start:
            yield start, min(begin, end)
        start = max(start, stop)
        if start >= end:
            return
    yield start, end
