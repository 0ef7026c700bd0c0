"""What a practice sees at a glance: its places of three days, and the patients who have one. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import groupby
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

import orjson

from sas_matcher.services.publish import OF_AGENDAS

DAYS: Final = 3  # today and the next two: as far as the national platform shows places
FRESH: Final = timedelta(minutes=15)
"""How long a booking or its end is marked as new: who comes back from a patient still sees it (guess)."""


class Place(NamedTuple):
    """A place of a practice as its page shows it; a plage has a capacity above one.

    ``held``: a regulator is deciding; ``promised``: may still move, so it is shown as free until its hour is told.
    """

    record: Mapping[str, Any]
    start: datetime
    end: datetime
    capacity: int
    left: int
    taken: int
    held: int
    promised: int
    arrived: int
    missed: int
    handed_back: int
    withdrawn: bool

    @property
    def slot_id(self) -> int:
        """Its number."""
        return int(self.record["slot_id"])

    @property
    def agenda(self) -> str | None:
        """Name of the agenda that it was cut out of; None for what came otherwise."""
        external = str(self.record["external_id"])
        return external.split("/")[1] if external.startswith(OF_AGENDAS) else None

    @property
    def owners(self) -> dict[str, Any]:
        """Who receives, in the shape of the API's slot."""
        one = self.record
        person = one["professional"] and {"rpps": one["professional"], "name": one["professional_name"]}
        house = one["structure"] and {
            "finess": one["structure"],
            "name": one["structure_name"],
            "kind": one["source_kind"],
        }
        return {"professional": person, "structure": house}

    @property
    def is_plage(self) -> bool:
        """Tell whether it takes several patients."""
        return self.capacity > 1

    @property
    def is_walkin(self) -> bool:
        """Tell whether patients come without an hour of their own."""
        return bool(self.record["booking_kind"] == "walkin")

    @property
    def who(self) -> str:
        """Who receives, as pages say it."""
        one = self.record
        return str(one["professional_name"] or one["structure_name"] or one["professional"] or one["structure"])

    @property
    def free(self) -> int:
        """Seats that nobody has for sure and no regulator is deciding on; none of what is closed."""
        if self.withdrawn or self.handed_back:
            return 0
        return min(self.capacity - self.taken - self.held, self.left + self.promised)

    @property
    def state(self) -> str:
        """Say what it is: booked, handed_back, withdrawn, free, held, or closed (by a limit, or by another booking)."""
        if self.taken and (self.withdrawn or self.taken >= self.capacity or not self.is_plage):
            return "booked"
        if self.withdrawn:
            return "withdrawn"
        if self.handed_back:
            return "handed_back"
        if self.free > 0:
            return "free"
        return "held" if self.held else "closed"


@dataclass
class Row:
    """The places of one professional (or of a structure without one) on one day, in order."""

    who: str
    places: list[Place]
    now: datetime

    def count(self, state: str) -> int:
        """Return how many seats are in a state; nobody comes to a free one that has begun."""
        if state == "booked":
            return sum(place.taken for place in self.places)
        if state == "free":
            return sum(place.free for place in self.places if place.start > self.now)
        return sum(place.capacity for place in self.places if place.state == state)


@dataclass
class Day:
    """A day of the board."""

    date: date
    rows: list[Row]

    def count(self, state: str) -> int:
        """Return how many seats of the day are in a state."""
        return sum(row.count(state) for row in self.rows)


def window_of(now: datetime, zone: ZoneInfo, days: int = DAYS) -> tuple[datetime, datetime]:
    """Return when today began on the clock of a zone, and when so many days are over."""
    begun = datetime.combine(now.astimezone(zone).date(), datetime.min.time(), zone)
    return begun, datetime.combine(begun.date() + timedelta(days=days), datetime.min.time(), zone)


def place_of(row: tuple[str, int, str, Mapping[str, Any]]) -> Place:
    """Read what ``Publishing.published`` says of a slot."""
    text, left, status, counts = row
    record = orjson.loads(text)
    start, end = datetime.fromisoformat(record["start"]), datetime.fromisoformat(record["end"])
    return Place(
        record=record,
        start=start,
        end=end,
        capacity=record["capacity"],
        left=left,
        taken=counts["taken"],
        held=counts["held"],
        promised=counts["promised"],
        arrived=counts["arrived"],
        missed=counts["missed"],
        handed_back=counts["handed_back"] or 0,
        withdrawn=status == "withdrawn",
    )


def days_of(places: Iterable[Place], now: datetime, zone: ZoneInfo) -> list[Day]:
    """Sort places into days and, within these, professionals."""
    first = now.astimezone(zone).date()
    days = [Day(first + timedelta(days=number), []) for number in range(DAYS)]

    def rank(place: Place) -> tuple[date, str, datetime, datetime]:
        return place.start.astimezone(zone).date(), place.who, place.start, place.end

    for (on, who), found in groupby(sorted(places, key=rank), key=lambda one: rank(one)[:2]):
        if 0 <= (number := (on - first).days) < DAYS:
            days[number].rows.append(Row(who, list(found), now))
    return days


@dataclass
class Visitor:
    """A patient who has a place, or no longer has it: what the practice may know, and what is to be said now.

    Attributes:
        booking: its document.
        state: answer (to be accepted), due (has begun: did they come?), coming, fulfilled, noshow, gone.
        is_new: it came, or ended, within ``FRESH``.
    """

    booking: Mapping[str, Any]
    state: str
    is_new: bool
    start: datetime
    end: datetime

    @property
    def accept_until(self) -> str | None:
        """Until when it is to be accepted."""
        acceptance = self.booking["acceptance"]
        return acceptance["until"] if acceptance and self.state == "answer" else None


def visitor_of(document: str, now: datetime) -> Visitor:
    """Read a booking of a practice."""
    booking = orjson.loads(document)
    start, end = datetime.fromisoformat(booking["start"]), datetime.fromisoformat(booking["end"])
    since = datetime.fromisoformat(booking["ended_at"] or booking["firm_at"])
    acceptance = booking["acceptance"]
    if booking["state"] != "firm":
        state = booking["state"] if booking["ended_at"] is None else "gone"
    elif acceptance and acceptance["accepted_at"] is None and start > now:
        state = "answer"
    else:
        state = "due" if start <= now else "coming"
    return Visitor(booking, state, now - since < FRESH, start, end)


@dataclass
class Plage:
    """A plage that has patients: how many are expected and came, and who they are."""

    place: Place
    visitors: list[Visitor]

    @property
    def start(self) -> datetime:
        """When it begins."""
        return self.place.start

    @property
    def is_new(self) -> bool:
        """Tell whether one of them came lately."""
        return any(visitor.is_new for visitor in self.visitors)

    @property
    def waiting(self) -> int:
        """How many are expected of whom nothing is said yet."""
        return self.place.taken - self.place.arrived - self.place.missed


@dataclass
class Patients:
    """Those of one day: single visitors and plages, in order."""

    date: date
    entries: list[Visitor | Plage]


def patients_of(visitors: Sequence[Visitor], places: Iterable[Place], zone: ZoneInfo) -> list[Patients]:
    """Sort patients into days; those of a plage stand together."""
    plages = {place.slot_id: Plage(place, []) for place in places if place.is_plage and place.taken}
    entries: list[Visitor | Plage] = []
    for visitor in visitors:
        plage = plages.get(visitor.booking["slot_id"])
        if plage is None or visitor.state == "gone":
            entries.append(visitor)
        else:
            plage.visitors.append(visitor)
    entries += plages.values()
    entries.sort(key=lambda one: one.start)
    days = groupby(entries, key=lambda one: one.start.astimezone(zone).date())
    return [Patients(on, list(found)) for on, found in days]
