"""Day logs of the matching study: seven kinds of invented days on plain geometry, hard enough to tell policies apart.

The matching study measured policies on 250 000 inhabitants, 400 requests a day at ×1, 640 slots (about 720
places) over two days, 55 % known at midnight and the rest published 30 to 300 minutes ahead, tiers 6/22/42/30 %. That
generator is not ours. This one has the same numbers; its geometry and radii were set so that the fair human peer
(``fcfs-nearest``) reaches about the same share of the hindsight welfare as there, kind by kind: 90, 65, 45, 70, 78, 72
and 75 % over ten seeds, against 92, 66, 44, 71, 76, 74 and 76. Percentages measured on it are properties of the
generator, not of France.

The people and practices of a kind are the same whatever the seed, which draws the day: days of other seeds are the
history of a territory. The five kinds of the city share theirs.
"""

import math
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from sas_matcher.replay.daylog import (
    DayLog,
    Event,
    Instant,
    Meta,
    Request,
    RequestCancelled,
    RequestCreated,
    Slot,
    SlotPublished,
    SlotWithdrawn,
    TierTerms,
)

TIERS: Final = (
    TierTerms("T0", 60, 40_000, 1.0),
    TierTerms("T1", 240, 20_000, 0.25),
    TierTerms("T2", 1440, 10_000, 0.05),
    TierTerms("T3", 2880, 5_000, 0.03),
)
"""The terms of the day log's own example."""

BASE_MIN, MIN_PER_KM, MT_BONUS_MIN, NOTICE_MIN = 3.0, 1.95, 6.0, 30.0
"""As in the day log's own example."""

REQUESTS, SLOTS = 400, 640
TIER_SHARES: Final = (0.06, 0.22, 0.42, 0.30)
KNOWN_SHARE: Final = 0.55
LEAD_MIN: Final = (30.0, 300.0)
WIDE_SHARE, WIDE = 0.042, (2, 7)
"""The study's numbers; 4.2 % of the slots with 2 to 6 places make 720 places of 640 slots."""

HOURS: Final = np.array([0.07, 0.12, 0.13, 0.11, 0.07, 0.06, 0.08, 0.08, 0.08, 0.08, 0.07, 0.05])
"""Requests of the hours 8 to 19 (field figures, a guess there)."""

NIGHT_SHARE: Final = 0.08
"""G: requests outside these hours, evenly."""

SLOT_HOURS: Final = np.array([6, 7, 8, 9, 9, 4, 4, 7, 8, 8, 6, 3]) / 79
"""G: where in the day practices leave places, as in the demonstration's world."""

FIRST_DAY_SHARE: Final = 0.70
"""G: slots of the first day, when the requests come, against the second."""

PROFESSIONALS: Final = 240
PROFESSIONS: Final = {"MG": 0.64, "PED": 0.18, "DENT": 0.18}
SLOT_TELE, SLOT_VISITE = 0.12, 0.08
REQUEST_TELE, REQUEST_VISITE = 0.35, 0.06
OFFERS: Final = {"enfant": 0.88, "pmr": 0.8, "secteur1": 0.65, "tiers_payant": 0.55, "ecg": 0.35, "suture": 0.2}
NEEDS: Final = {"enfant": 0.28, "secteur1": 0.15, "tiers_payant": 0.1, "pmr": 0.07, "suture": 0.02}
SOURCES: Final = {"liberal": 0.5, "cds": 0.2, "cpts": 0.1, "msp": 0.15, "sos": 0.05}
MT_SHARE, PHONE_SHARE = 0.15, 0.75
"""G, near the shares seen in the format's sample."""

RADIUS_FACTORS: Final = (0.8, 0.9, 1.0, 1.1, 1.3)
"""Spread of the radii, as seen in the format's sample."""

FLASH_FACTOR, FLASH_HOUR, FLASH_HOURS = 10.0, 17, 2
"""The study's two hours at ×10; when they come is ours."""

ORIGIN: Final = (45.0, 4.0)
"""Where the plane of the kilometres touches the globe: nowhere in particular."""

KM_PER_DEGREE: Final = 111.2


class Town(NamedTuple):
    """A cluster of people and practices: centre and spread in km, its shares of both (brought to a sum of 1)."""

    east: float
    north: float
    spread: float
    people: float
    practices: float


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of day: ``plan`` names its geometry, ``rate`` multiplies its requests, the rest are shares.

    The study does not say the rates of the last three kinds; ×2 is ours, as its figures lie between those of ×1 and ×3.
    """

    plan: str
    rate: float
    radii_km: tuple[float, ...]
    flash: bool = False
    phantoms: float = 0.0
    cancellations: float = 0.0
    withdrawals: float = 0.0


CITY_RADII: Final = (4.5, 6.0, 7.5)

KINDS: Final = {
    "city-x1": Kind("city", 1.0, CITY_RADII),
    "city-x3": Kind("city", 3.0, CITY_RADII),
    "city-x10": Kind("city", 10.0, CITY_RADII),
    "flash": Kind("city", 1.0, CITY_RADII, flash=True),
    "rural": Kind("rural", 2.0, (50.0,)),
    "two": Kind("two", 2.0, (12.0, 20.0, 26.0)),
    "noise": Kind("city", 2.0, CITY_RADII, phantoms=0.06, cancellations=0.08, withdrawals=0.02),
}


def _city(rng: np.random.Generator) -> list[Town]:
    """A town with half of everything, and four around it at 17 km."""
    angles = (rng.uniform(0, math.pi / 2) + math.pi / 2 * np.arange(4)).tolist()
    ring = [Town(17 * math.cos(a), 17 * math.sin(a), 3.0, 0.125, 0.125) for a in angles]
    return [Town(0, 0, 6.0, 0.5, 0.5), *ring]


def _rural(rng: np.random.Generator) -> list[Town]:
    """A small town with four tenths of the practices and 14 villages within 50 km, of which 5 have any."""
    angles, distances = rng.uniform(0, 2 * math.pi, 14), 50 * np.sqrt(rng.random(14))
    villages = [
        Town(r * math.cos(a), r * math.sin(a), 2.5, 0.06, 0.12 if n < 5 else 0.0)
        for n, (a, r) in enumerate(zip(angles.tolist(), distances.tolist(), strict=True))
    ]
    return [Town(0, 0, 2.0, 0.16, 0.4), *villages]


def _two(rng: np.random.Generator) -> list[Town]:
    """Two towns 25 km apart: the larger has seven tenths of the people and less than half of the practices."""
    turn = rng.uniform(0, 2 * math.pi)
    return [Town(0, 0, 5.0, 0.7, 0.45), Town(25 * math.cos(turn), 25 * math.sin(turn), 4.0, 0.3, 0.55)]


_PLANS: Final = {"city": _city, "rural": _rural, "two": _two}


class _Practice(NamedTuple):
    professional: str
    structure: str | None
    source: str
    lat: float
    lon: float
    profession: str
    offers: tuple[str, ...]
    minutes: int


def _pick(shares: dict[str, float], rng: np.random.Generator) -> str:
    names, weights = list(shares), np.array(list(shares.values()))
    return names[int(rng.choice(len(names), p=weights / weights.sum()))]


def _some(chances: dict[str, float], rng: np.random.Generator) -> tuple[str, ...]:
    draws = rng.random(len(chances)).tolist()
    return tuple(name for (name, chance), u in zip(chances.items(), draws, strict=True) if u < chance)


class StudyTerritory:
    """The people and practices of a plan, the same every day."""

    def __init__(self, plan: str, number: int) -> None:
        rng = np.random.default_rng((list(_PLANS).index(plan), number))
        self.towns = _PLANS[plan](rng)
        self.people = np.array([town.people for town in self.towns])
        self.people /= self.people.sum()
        practices = np.array([town.practices for town in self.towns])
        homes = rng.choice(len(self.towns), size=PROFESSIONALS, p=practices / practices.sum())
        self.practices = [self._practice(n, int(home), rng) for n, home in enumerate(homes)]
        # G: some give many places and some few
        self.activity: npt.NDArray[np.float64] = rng.gamma(3.0, size=PROFESSIONALS)
        self.activity /= self.activity.sum()

    def _practice(self, number: int, town: int, rng: np.random.Generator) -> _Practice:
        source = _pick(SOURCES, rng)
        structure = None if source == "liberal" else f"st{number // 3:03d}"
        lat, lon = self.point(town, rng)
        minutes = int(rng.choice((10, 15, 20)))
        return _Practice(
            f"p{number:04d}", structure, source, lat, lon, _pick(PROFESSIONS, rng), _some(OFFERS, rng), minutes
        )

    def point(self, town: int, rng: np.random.Generator) -> tuple[float, float]:
        """A place in a town, in degrees."""
        east, north, spread, _, _ = self.towns[town]
        u, v = rng.normal(size=2).tolist()
        lat = ORIGIN[0] + (north + spread * v) / KM_PER_DEGREE
        lon = ORIGIN[1] + (east + spread * u) / (KM_PER_DEGREE * math.cos(math.radians(ORIGIN[0])))
        return round(lat, 6), round(lon, 6)

    def home(self, rng: np.random.Generator) -> tuple[float, float]:
        """Where somebody lives."""
        return self.point(int(rng.choice(len(self.towns), p=self.people)), rng)


class _Clock(NamedTuple):
    """Minutes since the midnight at which the log starts, as instants."""

    midnight: Instant

    def at(self, minutes: float) -> Instant:
        """To the second."""
        return Instant(self.midnight + round(60 * minutes), self.midnight.offset_s)


def _sessions(territory: StudyTerritory, rng: np.random.Generator) -> list[tuple[int, _Practice, str]]:
    """Starts in minutes with practice and mode: 640 slots in runs of 1 to 4, none over another of its professional."""
    drawn: list[tuple[int, _Practice, str]] = []
    busy: dict[str, list[tuple[int, int]]] = {}
    while len(drawn) < SLOTS:
        practice = territory.practices[int(rng.choice(PROFESSIONALS, p=territory.activity))]
        day = 0 if rng.random() < FIRST_DAY_SHARE else 1440
        start = day + 60 * (8 + int(rng.choice(12, p=SLOT_HOURS))) + 5 * int(rng.integers(12))
        length = int(rng.integers(1, 5)) * practice.minutes
        u = rng.random()
        mode = "cabinet"
        if practice.profession != "DENT" and u < SLOT_TELE:
            mode = "tele"
        elif practice.profession == "MG" and u > 1 - SLOT_VISITE:
            mode = "visite"
        taken = busy.setdefault(practice.professional, [])
        if any(start < end and begin < start + length for begin, end in taken):
            continue
        taken.append((start, start + length))
        drawn.extend((begin, practice, mode) for begin in range(start, start + length, practice.minutes))
    return sorted(drawn[:SLOTS], key=lambda item: (item[0], item[1].professional))


def _slots(kind: Kind, territory: StudyTerritory, clock: _Clock, rng: np.random.Generator) -> list[Event]:
    events: list[Event] = []
    for number, (begin, practice, mode) in enumerate(_sessions(territory, rng)):
        start = clock.at(begin)
        known = rng.random() < KNOWN_SHARE
        opened = clock.at(0.0 if known else max(0.0, begin - float(rng.uniform(*LEAD_MIN))))
        wide = rng.random() < WIDE_SHARE
        fate = rng.random()
        slot = Slot(
            id=f"s{number:05d}",
            professional=practice.professional,
            structure=practice.structure,
            source=practice.source,
            lat=practice.lat,
            lon=practice.lon,
            start=start,
            end=clock.at(begin + practice.minutes),
            capacity=int(rng.integers(*WIDE)) if wide else 1,
            mode=mode,
            profession=practice.profession,
            offers=practice.offers,
            refused_after_min=int(rng.integers(3, 11)) if fate < kind.phantoms else None,
        )
        events.append(SlotPublished(opened, slot))
        if kind.phantoms <= fate < kind.phantoms + kind.withdrawals:
            gone = Instant(opened + int((start - opened) * rng.random()), opened.offset_s)
            events.append(SlotWithdrawn(gone, slot.id))
    return events


def _calls(kind: Kind, rng: np.random.Generator) -> list[float]:
    """Minutes since midnight of the day's requests, in order."""
    count = int(rng.poisson(REQUESTS * kind.rate))
    night = rng.random(count) < NIGHT_SHARE
    by_day = 480 + 60 * (rng.choice(HOURS.size, size=count, p=HOURS / HOURS.sum()) + rng.random(count))
    minutes = np.where(night, (1200 + 720 * rng.random(count)) % 1440, by_day)
    if kind.flash:
        usual = HOURS[FLASH_HOUR - 8 :][:FLASH_HOURS].sum() / HOURS.sum() * (1 - NIGHT_SHARE)
        extra = int(rng.poisson(REQUESTS * kind.rate * usual * (FLASH_FACTOR - 1)))
        minutes = np.concatenate((minutes, 60 * (FLASH_HOUR + FLASH_HOURS * rng.random(extra))))
    return [float(m) for m in np.sort(minutes)]


def _requests(
    kind: Kind, territory: StudyTerritory, clock: _Clock, end: Instant, rng: np.random.Generator
) -> list[Event]:
    doctors = [p.professional for p in territory.practices if p.profession == "MG"]
    events: list[Event] = []
    for number, minutes in enumerate(_calls(kind, rng)):
        t = clock.at(minutes)
        tier = TIERS[int(rng.choice(len(TIERS), p=TIER_SHARES))]
        profession = _pick(PROFESSIONS, rng)
        u = rng.random()
        modes: tuple[str, ...] = ("cabinet",)
        if profession != "DENT" and u < REQUEST_TELE:
            modes = ("cabinet", "tele")
        elif profession == "MG" and u > 1 - REQUEST_VISITE:
            modes = ("visite",)
        lat, lon = territory.home(rng)
        known_doctor = profession == "MG" and rng.random() < MT_SHARE
        radius = float(rng.choice(kind.radii_km)) * float(rng.choice(RADIUS_FACTORS))
        request = Request(
            id=f"r{number:05d}",
            lat=lat,
            lon=lon,
            profession=profession,
            modes=modes,
            tier=tier.tier,
            deadline=Instant(min(t + 60 * tier.max_delay_min, end), t.offset_s),
            radius_km=round(radius, 1),
            needs=_some(NEEDS, rng),
            mt=doctors[int(rng.integers(len(doctors)))] if known_doctor else None,
            on_phone=bool(rng.random() < PHONE_SHARE),
        )
        events.append(RequestCreated(t, request))
        if rng.random() < kind.cancellations:
            # G: minutes to a few hours after the call
            events.append(RequestCancelled(Instant(t + 60 * int(rng.integers(5, 180)), t.offset_s), request.id))
    return events


def study(kind: str, seed: int, *, territory: int = 0, day: date = date(2026, 1, 12)) -> DayLog:
    """Draw a day of the study: requests on ``day``, slots on it and the next.

    Args:
        kind: One of ``KINDS``.
        seed: Of the day; the same arguments give the same log.
        territory: Number of the territory, for other people and practices of the same plan.
        day: Its date, local in Paris.

    Raises:
        ValueError: The kind is unknown.
    """
    if kind not in KINDS:
        raise ValueError(f"Expected one of {', '.join(KINDS)}, got {kind!r}.")
    what = KINDS[kind]
    zone = ZoneInfo("Europe/Paris")
    start = Instant.parse(datetime.combine(day, time(), zone).isoformat())
    end = Instant.parse(datetime.combine(day + timedelta(days=2), time(), zone).isoformat())
    rng = np.random.default_rng((list(KINDS).index(kind), seed))
    people = StudyTerritory(what.plan, territory)
    clock = _Clock(start)
    events = _slots(what, people, clock, rng) + _requests(what, people, clock, end, rng)
    meta = Meta(
        f"etude-{what.plan}-{territory}", zone.key, start, end, BASE_MIN, MIN_PER_KM, TIERS, MT_BONUS_MIN, NOTICE_MIN
    )
    return DayLog(meta, tuple(sorted(events, key=lambda event: event.t)))
