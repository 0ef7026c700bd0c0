"""The document of an agenda, read and changed: pure.

It has the shape of the API's agenda; ``quick``: what the quick actions added (``hours``, ``stops``); ``imported``: what
came from a file (``origin``, ``at``, ``hours``, ``closures``). These are apart, so that whoever sends the agenda anew
undoes no stop.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from typing import Any, Final

from sas_matcher.domain.agenda import (
    LONGEST_INDIVIDUAL,
    MOST_PIECES,
    MOST_TRIED,
    SHOWN,
    Closure,
    Hours,
    Piece,
    TooManyPiecesError,
    Week,
    one_day,
)
from sas_matcher.domain.errors import ConflictError, InvalidInputError
from sas_matcher.ports.ledger import TakenPlage
from sas_matcher.recurrence import expand
from sas_matcher.services.publish import OF_AGENDAS

NO_EXTRAS: Final[Mapping[str, Any]] = {
    "quick": {"hours": [], "stops": []},
    "imported": {"origin": None, "at": None, "hours": [], "closures": []},
}
QUICK_KEPT: Final = timedelta(hours=48)  # how long a repeated quick action is known, as other Idempotency-Keys
MOST_QUICK: Final = 100  # quick places and stops that an agenda keeps at a time
LONGEST_QUICK: Final = timedelta(hours=12)  # a day's work
_GRID: Final = timedelta(minutes=5)  # quick places of a range that has begun start at the next such mark


def slot_name(agenda: str, piece: Piece) -> str:
    """Return the external id of a piece; it stays the same as long as the time does."""
    return f"{OF_AGENDAS}{agenda}/{piece.hours}/{piece.key}"


def week_of(document: Mapping[str, Any], zone: str) -> Week:
    """Read the hours in use and the closures of an agenda's document, those of the quick actions too."""
    hours = tuple(_hours_of(one) for one in all_hours(document) if one["open"])
    return Week(zone, hours, tuple(map(closure_of, all_closures(document))))


def all_hours(document: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the hours that were said, added and imported."""
    yield from document["hours"]
    yield from document["quick"]["hours"]
    yield from document["imported"]["hours"]


def _hours_of(one: Mapping[str, Any]) -> Hours:
    return Hours(
        one["id"],
        date.fromisoformat(one["first"]),
        time.fromisoformat(one["start"]),
        time.fromisoformat(one["end"]),
        one["repeat"],
        frozenset(map(date.fromisoformat, one["except_on"])),
        frozenset(map(date.fromisoformat, one["also_on"])),
        one["each_min"],
        one["capacity"],
        one["piece_min"],
    )


def all_closures(document: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the closures that were said, those of stops and those imported."""
    yield from document["closures"]
    yield from document["quick"]["stops"]
    yield from document["imported"]["closures"]


def closure_of(one: Mapping[str, Any]) -> Closure:
    """Read a closure of a document."""
    return Closure(datetime.fromisoformat(one["from"]), datetime.fromisoformat(one["to"]))


def pieces_of(week: Week, now: datetime) -> list[Piece]:
    """Cut what is shown of a week.

    Raises:
        InvalidInputError: too many slots.
    """
    try:
        return expand(week, now, now + SHOWN)
    except TooManyPiecesError:
        message = (
            f"plus de {MOST_PIECES} créneaux sur {SHOWN.days} jours, ou de {MOST_TRIED} avec ceux que des fermetures "
            "ôtent ; faites plusieurs agendas, ou des plages"
        )
        raise InvalidInputError.of("hours", message) from None


def without_taken(pieces: Sequence[Piece], name: str, taken: Sequence[TakenPlage]) -> list[Piece]:
    """Return the pieces without the seats that patients of plages have which are shown no longer.

    A plage that is cut by a closure, or told anew, comes back under another key; who has a place in the old one is seen
    within the same hours, so that many seats less are offered, the last ones first.
    """
    kept = {slot_name(name, piece) for piece in pieces}
    seats = [piece.capacity for piece in pieces]
    for plage in taken:
        if plage.external_id in kept:
            continue
        hours, away = plage.external_id.split("/")[2], plage.seats
        for number in reversed(range(len(pieces))):
            piece = pieces[number]
            if piece.hours == hours and piece.starts < plage.ends and piece.ends > plage.starts:
                less = min(away, seats[number])
                seats[number], away = seats[number] - less, away - less
    left = (piece._replace(capacity=count) for piece, count in zip(pieces, seats, strict=True) if count)
    return [
        one if one.capacity > 1 else one._replace(ends=min(one.ends, one.starts + LONGEST_INDIVIDUAL)) for one in left
    ]


def text_of(local: datetime) -> str:
    """Return a wall-clock time as documents write it."""
    return local.strftime("%Y-%m-%dT%H:%M")


def quick_hours(name: str, wish: Mapping[str, Any], here: datetime) -> dict[str, Any]:
    """Return the hours of quick places, under a name; ``here``: the wall clock of the place.

    Raises:
        InvalidInputError: the range is over, or too long.
    """
    day = here.date() if wish["day"] is None else date.fromisoformat(wish["day"])
    start = datetime.combine(day, time.fromisoformat(wish["start"]))
    end = datetime.combine(day, time.fromisoformat(wish["end"]))
    if end <= start:
        end += timedelta(days=1)
    if start <= here:
        begun = (here - datetime.combine(here.date(), time())) // _GRID + 1
        start = datetime.combine(here.date(), time()) + begun * _GRID
    if end < start + 3 * _GRID:
        raise InvalidInputError.of("end", "la plage est finie, ou presque ; choisissez une heure à venir")
    if day > here.date() + SHOWN:
        raise InvalidInputError.of("day", f"dans {SHOWN.days} jours au plus ; au-delà, ajoutez une plage à l'agenda")
    longest = LONGEST_INDIVIDUAL if wish["count"] == 1 else LONGEST_QUICK
    if end - start > longest:
        hours = int(longest.total_seconds()) // 3600
        raise InvalidInputError.of("end", f"{hours} h au plus entre le début et la fin")
    added = one_day(name, start, end, capacity=wish["count"], mode=wish["mode"], booking_kind=wish["booking_kind"])
    # whoever adds places for soon wants them filled
    return {**added, "hand_back_min": 0}


def pruned(document: Mapping[str, Any], here: datetime) -> dict[str, Any]:
    """Return a document without quick actions that are long over."""
    old = here - QUICK_KEPT
    quick = document["quick"]
    return {
        **document,
        "quick": {
            "hours": [one for one in quick["hours"] if one["first"] >= old.date().isoformat()],
            "stops": [one for one in quick["stops"] if one["to"] >= text_of(old)],
        },
    }


def with_single(document: Mapping[str, Any], spans: Sequence[tuple[datetime, datetime]], back: bool) -> dict[str, Any]:
    """Return a document with some times taken off one by one, or put ``back``; spans on the wall clock of the place.

    They are stops that say ``single``: who has a place keeps it, and the end of a stop is not theirs.

    Raises:
        ConflictError: more than ``MOST_QUICK`` stops at a time.
    """
    named = [(text_of(start), text_of(end)) for start, end in spans]
    left = [one for one in document["quick"]["stops"] if not one.get("single") or (one["from"], one["to"]) not in named]
    if not back:
        left += [{"from": start, "to": end, "booked": "keep", "single": True} for start, end in dict.fromkeys(named)]
    if len(left) > MOST_QUICK:
        raise ConflictError(f"{MOST_QUICK} retraits au plus à la fois ; ajoutez plutôt une fermeture à l'agenda.")
    return {**document, "quick": {**document["quick"], "stops": left}}
