"""What a practice says once of its week: hours that recur on its own clock, and when it is closed.

All times here are on the wall clock of the place (no offset): half past eight stays half past eight when clocks change.
``sas_matcher.recurrence`` turns them into instants.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from typing import Any, Final, NamedTuple

SHOWN: Final = timedelta(days=7)
"""How far ahead an agenda is published, rolling: unscheduled care looks 48 h ahead, the national platform 72 h."""
LONGEST_RANGE: Final = timedelta(hours=16)
"""Longest hours without a break: 8 h to midnight in a centre; never a whole day, which would meet the next."""
QUICK: Final = "plus-"
"""How the ids of hours begin that a quick action added."""
LONGEST_INDIVIDUAL: Final = timedelta(hours=4)
"""One patient for longer is a plage that was given capacity 1."""
FEED_DAYS: Final = 15
"""Local days of a subscribed calendar that are taken over: twice ``SHOWN``, so that a broken one lasts a week."""
MOST_LINES: Final = 10_000
"""Lines of one imported table: three months of a centre."""
MOST_PIECES: Final = 5_000
"""Slots of one agenda within ``SHOWN``: a centre of 30 professionals at 20 a day has 4 200."""
MOST_TRIED: Final = 4 * MOST_PIECES
"""Slots that are cut for these, with those that a closure takes and those of the days around: guess, a centre that is
closed for the week has 5 400."""


@dataclass(frozen=True, slots=True)
class Hours:
    """A range of a day, once or recurring, and what it is cut into.

    Attributes:
        id: the practice's own name, unique in its agenda.
        first: day of the first range; the rule counts from it.
        start, end: on the wall clock; an end that is not after the start is on the next day.
        repeat: rule of RFC 5545 (``FREQ=WEEKLY;BYDAY=MO,TU``) as ``recurrence.parse_rule`` takes it; None: once.
        except_on: days of the rule on which there is none.
        also_on: more days with the same hours.
        each_min: minutes of each individual time; None for a plage.
        capacity: patients of the whole range, for a plage; None for individual times.
        piece_min: a plage is published in pieces of so many minutes, so that what is left of it is offered while it
            runs (a slot is offered until it starts); None: in one piece.
    """

    id: str
    first: date
    start: time
    end: time
    repeat: str | None = None
    except_on: frozenset[date] = frozenset()
    also_on: frozenset[date] = frozenset()
    each_min: int | None = None
    capacity: int | None = None
    piece_min: int | None = None

    @property
    def lasts(self) -> timedelta:
        """Length on the wall clock."""
        day = datetime.combine(self.first, self.start)
        end = datetime.combine(self.first, self.end)
        return end - day if end > day else end + timedelta(days=1) - day


@dataclass(frozen=True, slots=True)
class Closure:
    """The practice is away from ``start`` until ``end``, on the wall clock."""

    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Week:
    """All hours and closures of one agenda, and the zone (IANA name) of its wall clock."""

    zone: str
    hours: tuple[Hours, ...] = ()
    closures: tuple[Closure, ...] = field(default=())


class Piece(NamedTuple):
    """A slot to be: which hours it comes from, a key that stays the same as long as its time does, and its seats."""

    hours: str
    key: str
    starts: datetime
    ends: datetime
    capacity: int


class LineError(NamedTuple):
    """What is wrong with a line of what is imported: number, column ("": all of it), in French, with the fix."""

    line: int
    column: str
    message: str


class Import(NamedTuple):
    """What a reader made of a file: hours and closures as an agenda's document has them, what is wrong, its length."""

    hours: list[dict[str, Any]]
    errors: list[LineError]
    lines: int
    closures: Sequence[dict[str, Any]] = ()


class FeedError(Exception):
    """A subscribed calendar cannot be had or read; the message is French, for people, without its address."""


def one_day(
    name: str,
    start: datetime,
    end: datetime,
    *,
    each_min: int | None = None,
    capacity: int | None = None,
    mode: str = "cabinet",
    booking_kind: str = "routine",
) -> dict[str, Any]:
    """Return hours of a single day, on the wall clock, as an agenda's document has them."""
    return {
        "id": name,
        "first": start.date().isoformat(),
        "start": start.strftime("%H:%M"),
        "end": end.strftime("%H:%M"),
        "repeat": None,
        "except_on": [],
        "also_on": [],
        "each_min": each_min,
        "capacity": capacity,
        "piece_min": None,
        "mode": mode,
        "booking_kind": booking_kind,
        "offers": None,
        "visibility": None,
        "info": None,
        "acceptance": None,
        "accept_min": None,
        "hand_back_min": None,
        "open": True,
    }


class TooManyPiecesError(ValueError):
    """The agenda gives more than ``MOST_PIECES`` slots within the days that are shown, or ``MOST_TRIED`` were cut."""
