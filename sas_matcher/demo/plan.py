"""What a demonstration opens and how fast it is played: functions of the hour, the world and the wishes."""

import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import NamedTuple

import numpy as np

from sas_matcher.demo.demand import DemandModel, requests_of_day
from sas_matcher.demo.supply import SLOTS_PER_PROFESSIONAL, slots_of_day
from sas_matcher.demo.world import (
    GPS_PER_INHABITANT,
    PARTICIPATION,
    CommuneRow,
    Json,
    Structure,
    TerritoryRow,
    World,
    build_world,
)
from sas_matcher.domain.duty import WEEKDAY_HOURS, Hours, sas_hours

ROUND_THE_CLOCK: Hours = (0, 24)
LAST_HOURS = 2
"""So long before closing time a demonstration has too few places left to show much."""
FEWEST_GPS = 60
"""In a small département more practitioners take part, so that there is something to see."""
LARGE = 5_000
"""Professionals of a world that has places enough at any hour without being made denser."""
SCENE_S = 1.2
"""Seconds between two requests at the default speed; with what follows on each, something happens every second."""
SOONEST = timedelta(minutes=3)
"""Places that start sooner are not published: they would be past before the last call has arrived."""


class Day(NamedTuple):
    """Places of a local day: ``hours`` instead of the SAS hours, and a mark that keeps their ids apart."""

    day: date
    hours: Hours | None
    mark: str

    @property
    def name(self) -> str:
        """What tells this day's places from others."""
        return f"{self.day:%Y%m%d}{self.mark}"


@dataclass(frozen=True, slots=True)
class Schedule:
    """The days to publish; ``note`` says in French when they are not the ordinary ones."""

    days: tuple[Day, ...]
    note: str | None


def schedule(local: datetime, days: int) -> Schedule:
    """Choose the days whose places are published, so that there are live ones at any hour of any day.

    Args:
        local: The present local time.
        days: How many days, from today on.
    """
    today = local.date()
    hours = sas_hours(today)
    later = [Day(today + timedelta(days=n), None, "") for n in range(1, days)]
    if hours is not None and hours[0] - 1 <= local.hour < hours[1] - LAST_HOURS:
        return Schedule((Day(today, None, ""), *later), None)
    both = [Day(today + timedelta(days=n), ROUND_THE_CLOCK, "-24h") for n in (0, 1)]
    note = (
        f"Il est {local.hour} h {local.minute:02d} un {_WEEKDAYS[local.weekday()]} : hors des heures du SAS, "
        "ou presque (8 h-20 h, samedi 8 h-12 h). "
        "La démonstration ouvre donc des places jour et nuit, aujourd'hui et demain."
    )
    return Schedule((*both, *later[1:]), note)


_WEEKDAYS = ("lundi", "mardi", "mercredi", "jeudi", "vendredi", "samedi", "dimanche")


def seed_of(name: str) -> int:
    """Return the seed of a demonstration's world: the same name, the same people."""
    return zlib.crc32(name.encode())


def world_of(name: str, communes: Sequence[CommuneRow], territories: Mapping[str, TerritoryRow]) -> World:
    """Draw the people of a demonstration."""
    gps = PARTICIPATION * GPS_PER_INHABITANT * sum(commune.population for commune in communes)
    participation = min(1.0, PARTICIPATION * max(1.0, FEWEST_GPS / gps))
    return build_world(
        communes, np.random.default_rng(seed_of(name)), territories=territories, participation=participation
    )


def places_of(world: World, name: str, day: Day, now: datetime) -> list[Json]:
    """Return a day's places that are still to come; another draw of the same day gives the same ones.

    Args:
        world: The people.
        name: Of the demonstration, for the seed.
        day: Which day.
        now: The present instant.
    """
    rng = np.random.default_rng([seed_of(name), day.day.toordinal(), len(day.mark)])
    if day.hours is None:
        drawn = slots_of_day(world, day.day, rng)
    else:
        # as dense as in the ordinary hours
        more = (day.hours[1] - day.hours[0]) / (WEEKDAY_HOURS[1] - WEEKDAY_HOURS[0])
        if len(world.professionals) > LARGE:
            more = 1.0
        count = round(SLOTS_PER_PROFESSIONAL * more * len(world.professionals))
        drawn = slots_of_day(world, day.day, rng, slots=count, hours=day.hours)
    return _to_come(drawn, day.mark, now)


def _to_come(drawn: Sequence[Json], mark: str, now: datetime) -> list[Json]:
    soonest = now + SOONEST
    return [
        {**slot, "external_id": slot["external_id"] + mark}
        for slot in drawn
        if datetime.fromisoformat(slot["start"]) > soonest
    ]


def more_places(
    world: World, day: Day, now: datetime, run: str, draw: int, rng: np.random.Generator, count: int
) -> list[Json]:
    """Return up to ``count`` places more that practices open in the course of a day.

    Args:
        world: The people.
        day: Which day.
        now: The present instant.
        run: Tells this start of the demonstration from others, for the ids.
        draw: Number of this draw in the run.
        rng: Source of chance.
        count: How many at the most.
    """
    hours = day.hours or sas_hours(day.day)
    if hours is None:
        return []
    drawn = slots_of_day(world, day.day, rng, slots=max(count * 4, len(world.professionals)), hours=hours)
    coming = _to_come(drawn, f"-{run}-{draw}", now)
    chosen = sorted(rng.choice(len(coming), size=min(count, len(coming)), replace=False).tolist()) if coming else []
    return [coming[index] for index in chosen]


class Scene(NamedTuple):
    """A request of the virtual day: when (virtual instant), virtual seconds after the one before, and its body."""

    virtual: datetime
    after_s: float
    body: Json


def _virtual_day(today: date) -> date:
    """Return an ordinary weekday: today if it is one, else the next."""
    while sas_hours(today) != WEEKDAY_HOURS:
        today += timedelta(days=1)
    return today


class _OneClock(NamedTuple):
    """A territory that lives by the demonstration's clock."""

    timezone: str
    default_radius_km: float


def scenes(world: World, today: date, timezone: str, rng: np.random.Generator) -> Iterator[Scene]:
    """Yield the requests of calm virtual days, one day after the other, without end; nights are skipped.

    All territories ask by the same clock: in a demonstration of France, nothing would happen for hours otherwise
    but on La Réunion.
    """
    day = _virtual_day(today)
    clocks = {code: _OneClock(timezone, row.default_radius_km) for code, row in world.territories.items()}
    world = replace(world, territories=clocks)
    while True:
        before = None
        for at, body in requests_of_day(world, day, rng, hours=WEEKDAY_HOURS):
            yield Scene(at, 0.0 if before is None else (at - before).total_seconds(), body)
            before = at


def ordinary_speed(world: World, today: date) -> float:
    """Return how many virtual seconds pass in one so that requests come ``SCENE_S`` apart on average."""
    expected = world.population * DemandModel().per_inhabitant_day(_virtual_day(today))
    seconds = (WEEKDAY_HOURS[1] - WEEKDAY_HOURS[0]) * 3600
    return seconds / max(1.0, expected) / SCENE_S


def busiest_centre(world: World) -> Structure:
    """Return the centre or maison de santé that publishes for most professionals; of a tiny world any structure."""
    counted = Counter(p.publisher for p in world.professionals if p.publisher is not None)
    shared = [row for row in counted if world.structures[row].kind in ("cds", "msp")]
    return world.structures[max(shared or range(len(world.structures)), key=lambda row: (counted[row], -row))]
