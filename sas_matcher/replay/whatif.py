"""What else would have changed a day: the same day log with more places, and the two outcomes side by side.

Pure: a day log goes in, another comes out; replaying both is the caller's.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, time
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from sas_matcher.replay.compare import Outcome
from sas_matcher.replay.daylog import DayLog, Instant, Meta, Slot, SlotPublished
from sas_matcher.replay.daylog_file import DayLogError, day_lines, read_lines

MINUTES: Final = 15
"""Length of an added consultation (field figures: 15 to 18 minutes)."""


@dataclass(frozen=True, slots=True)
class Practice:
    """Places to be added at one point: ``count`` slots for ``capacity`` patients each, evenly between two hours.

    ``opens`` and ``closes`` are local times of the log's first day; the last slot ends by ``closes`` where they fit.
    """

    count: int
    lat: float
    lon: float
    profession: str = "MG"
    mode: str = "cabinet"
    capacity: int = 1
    opens: time = time(9)
    closes: time = time(18)


def local(meta: Meta, hour: time) -> Instant:
    """An hour of the log's first day, in its own time zone."""
    zone = ZoneInfo(meta.timezone)
    first = datetime.fromtimestamp(meta.start, zone).date()
    return Instant.parse(datetime.combine(first, hour, zone).isoformat())


def slots_of(day: DayLog, practice: Practice) -> list[SlotPublished]:
    """Draw up the slots of an added practice, published when the log starts.

    They offer what the nearest slot of the same profession and mode does; nothing where there is none.

    Raises:
        ValueError: The hours are the wrong way round, or lie outside the log.
    """
    opens, closes = local(day.meta, practice.opens), local(day.meta, practice.closes)
    if not day.meta.start <= opens < closes <= day.meta.end:
        raise ValueError("Expected opens < closes, both within the log.")
    like = [e.slot for e in day.slots if (e.slot.profession, e.slot.mode) == (practice.profession, practice.mode)]
    shrink = math.cos(math.radians(practice.lat))

    def apart(slot: Slot) -> tuple[float, str]:
        return math.hypot(slot.lat - practice.lat, (slot.lon - practice.lon) * shrink), slot.id

    offers = min(like, key=apart).offers if like else ()
    known = {event.slot.id for event in day.slots}
    # a second addition has names of its own
    series = next(n for n in range(1, len(known) + 2) if f"ajout{n}-1" not in known)
    span = max(0.0, closes - opens - 60 * MINUTES)
    slots = []
    for number in range(practice.count):
        # whole minutes, as people publish
        start = opens + 60 * round(span * number / max(1, practice.count - 1) / 60)
        slot = Slot(
            id=f"ajout{series}-{number + 1}",
            professional=f"ajout{series}",
            structure=None,
            source="cpts",
            lat=practice.lat,
            lon=practice.lon,
            start=Instant(start, opens.offset_s),
            end=Instant(start + 60 * MINUTES, opens.offset_s),
            capacity=practice.capacity,
            mode=practice.mode,
            profession=practice.profession,
            offers=offers,
        )
        slots.append(SlotPublished(day.meta.start, slot))
    return slots


def read_slots(day: DayLog, lines: Sequence[bytes]) -> list[SlotPublished]:
    """Read ``slot.published`` lines of the day log's format, without its first line, in any order of time.

    Raises:
        DayLogError: A line is wrong, is something else, or names a slot that the day has already.
    """
    meta = next(iter(day_lines(DayLog(day.meta, ()))))
    known = {event.slot.id for event in day.slots}
    slots = []
    for number, line in enumerate(lines, 1):
        try:
            # one at a time: the order of time matters in a log, not in an addition
            _, event = read_lines((meta, line))
        except DayLogError as wrong:
            raise DayLogError(number, wrong.problem) from None
        if not isinstance(event, SlotPublished):
            raise DayLogError(number, "seuls des événements « slot.published » sont attendus.")
        if event.slot.id in known:
            raise DayLogError(number, f"créneau « {event.slot.id} » déjà donné.")
        known.add(event.slot.id)
        slots.append(event)
    return slots


def with_slots(day: DayLog, added: Iterable[SlotPublished]) -> DayLog:
    """Return the day with more slots; one that is published before the log starts is there at its start."""
    first = day.meta.start
    at = (event if event.t >= first else replace(event, t=first) for event in added)
    return DayLog(day.meta, tuple(sorted((*day.events, *at), key=lambda event: event.t)))


class Change(NamedTuple):
    """One figure before and after, None where there is none; ``digits`` after the comma are worth reading."""

    label: str
    before: float | None
    after: float | None
    digits: int


def changes(before: Outcome, after: Outcome) -> list[Change]:
    """What a change changed, tier by tier, then in all. Welfare in % of the optimum of the day as it was."""
    old, new = before.score, after.score
    rows = [
        Change(f"servis {tier}, sur {n}", old.served[tier], new.served[tier], 0) for tier, n in old.requests.items()
    ]
    rows += [
        Change(f"attente {tier} (min)", old.mean_wait_min[tier], new.mean_wait_min[tier], 0) for tier in old.requests
    ]
    most = before.best.welfare
    welfare = [100 * each.welfare / most if most else None for each in (old, new)]
    return [
        *rows,
        Change("trajet (min)", old.mean_travel_min, new.mean_travel_min, 1),
        Change("bien-être (% de l'optimum d'avant)", welfare[0], welfare[1], 1),
        Change("prévenus en deux minutes (%)", before.told, after.told, 1),
        Change("promesses rompues", old.broken_promises, new.broken_promises, 0),
        Change("promesses déplacées", old.moves, new.moves, 0),
    ]
