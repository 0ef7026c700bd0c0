"""Honest day logs of a territory: the demonstration's invented world put through the field's scenario pack.

Professionals, places and demand are those of ``demo`` on real communes. Here they become a day log, with what
goes wrong on the market (phantom slots, withdrawals, cuts, cancelled requests) and what the stories S0 to S9 change.
National supply exceeds demand: scarcity is local and temporal, so score per zone and hour.

Tags as in the figures of the field: S seen in the source, D derived, G our guess. A day log cannot say that distance
is not travel (islands, S8) nor that a regulator is missing other than by the instant of the request (S5).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, time, timedelta
from typing import Final, Literal
from zoneinfo import ZoneInfo

import numpy as np

from sas_matcher.demo.demand import DemandModel, requests_of_day
from sas_matcher.demo.supply import SATURDAY_SHARE, SLOTS_PER_PROFESSIONAL, openings, slots_of_day
from sas_matcher.demo.world import SOURCES, CommuneRow, Json, TerritoryRow, World, build_world
from sas_matcher.domain.duty import Hours, sas_hours
from sas_matcher.domain.vocabulary import DELAY_SPAN, Delay, tier_of
from sas_matcher.replay.daylog import (
    DayLog,
    Event,
    Instant,
    Meta,
    Request,
    RequestCancelled,
    RequestCreated,
    Slot,
    SlotCapacity,
    SlotPublished,
    SlotWithdrawn,
)
from sas_matcher.replay.study import BASE_MIN, MIN_PER_KM, MT_BONUS_MIN, NOTICE_MIN, TIERS

Level = Literal["low", "mid", "high"]
Chance = np.random.Generator


@dataclass(frozen=True, slots=True)
class Market:
    """What goes wrong with slots and requests; shares of all of them.

    ``mirrored`` (S, Vite Ma Dose) and ``declared`` (G): phantoms among public and professional slots, and among those
    declared to the SAS. ``withdrawn`` and ``resized`` (G: the field knows 3 to 5 changes a slot and day, most of them
    bookings of others). ``cancelled`` (G) requests. ``on_phone`` (G): the caller is on the line.
    """

    mirrored: float
    declared: float
    withdrawn: float
    resized: float
    cancelled: float
    on_phone: float = 0.75


MARKETS: Final[dict[Level, Market]] = {
    "low": Market(0.04, 0.010, 0.01, 0.01, 0.04),
    "mid": Market(0.06, 0.015, 0.02, 0.02, 0.08),
    "high": Market(0.08, 0.020, 0.04, 0.04, 0.12),
}

DEMANDS: Final[dict[Level, tuple[float, float, float]]] = {
    "low": (0.50, 0.40, 0.24),
    "mid": (0.55, 0.45, 0.35),
    "high": (0.60, 0.50, 0.50),
}
"""Ambulatory share, share in SAS hours, share that needs a slot (S, G, D: derivation of the load)."""

REFUSED_MIN: Final = (3, 11)
"""G: minutes after which a practice refuses a booking on a phantom slot."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """One story: when, how much is asked and offered, and which faults come with it.

    ``rate`` multiplies demand and ``supply`` the slots; ``model`` changes the demand model; ``radius_km`` overrides the
    territory's; ``hours`` override the SAS hours of the first day; ``batched`` requests are call-backs made together at
    the half hour.
    """

    title: str
    day: date
    rate: float = 1.0
    supply: float = 1.0
    model: Mapping[str, object] = field(default_factory=dict)
    sources: Mapping[str, float] = field(default_factory=lambda: SOURCES)
    radius_km: float | None = None
    hours: Hours | None = None
    batched: float = 0.0
    fault: Literal["none", "visits", "zone", "editor"] = "none"


_FLU = {
    "MG": 0.84, "DENT": 0.05, "PED": 0.04, "SF": 0.01, "KINE": 0.02, "IDE": 0.02, "PSY": 0.01, "SPE": 0.01,
}  # fmt: skip
_AFTERNOONS = (0.05, 0.08, 0.09, 0.08, 0.06, 0.08, 0.11, 0.12, 0.12, 0.10, 0.07, 0.04)

_PACK: Final = {
    "S0": Scenario("mardi ordinaire", date(2026, 1, 13)),
    # G: twice the share of paediatricians, two children in five
    "S1": Scenario(
        "lundi de grippe",
        date(2026, 1, 12),
        rate=1.55,
        supply=0.9,
        model={"professions": _FLU, "children": 0.40, "burst_cv": 0.30},
    ),
    "S2": Scenario("semaine de Noël et grève", date(2026, 12, 22), rate=1.6, supply=0.4),
    # G: six in ten are call-backs
    "S3": Scenario(
        "semaine de Covid",
        date(2026, 3, 17),
        rate=4.0,
        supply=0.7,
        model={"tele": 0.4, "visite": 0.1, "burst_cv": 0.30},
        batched=0.6,
    ),
    # G: seniors from 0.22 to 0.40, the hours of the afternoon; half of its visits are missing
    "S4": Scenario(
        "canicule",
        date(2026, 7, 7),
        rate=1.3,
        model={"seniors": 0.40, "visite": 0.14, "by_hour": _AFTERNOONS},
        fault="visits",
    ),
    "S5": Scenario("accident collectif", date(2026, 1, 13), fault="zone"),
    "S6": Scenario("panne d'un éditeur", date(2026, 1, 13), fault="editor"),
    # S: 78 files per 100 inhabitants in Lozère, 50 km; G: structures carry the supply
    "S7": Scenario(
        "campagne",
        date(2026, 1, 13),
        model={"files_per_inhabitant": 0.78},
        sources={"msp": 0.6, "cds": 0.2, "liberal": 0.2},
        radius_km=50.0,
    ),
    "S8": Scenario("outre-mer", date(2026, 1, 13)),
    "S9": Scenario("nuit du changement d'heure", date(2026, 10, 25), hours=(0, 24)),
}

SCENARIOS: Final = {
    **_PACK,
    # S: the two that the field also wants at twice the demand, and its hardest honest case for freshness
    "S2x2": replace(_PACK["S2"], title="semaine de Noël et grève, demande ×2", rate=2.0),
    "S3x2": replace(_PACK["S3"], title="semaine de Covid, demande ×2", rate=2.0),
    "S1+S6": replace(_PACK["S1"], title="lundi de grippe et panne d'un éditeur", fault="editor"),
}
"""S9 falls on the night of 25 hours; ``day`` gives the one of 23 (29 March 2026)."""

ZONE_KM, ZONE_HOURS, ZONE_DEFERRED = 8.0, (14, 17), 0.8
"""S5: around the largest town (G), three hours, regulators −80 %."""

RELEASE_MIN: Final = 10.0
"""G: minutes over which the deferred requests of S5 come."""

EDITOR_SHARE, EDITOR_HOURS, EDITOR_TAKEN = 0.30, (10, 11), 0.3
"""S6: share of the slots, one hour (S for both); of those that stay shown, the share booked elsewhere meanwhile (G)."""


class _Clock:
    """Instants of a territory, written in its own time."""

    def __init__(self, world: World, day: date, days: int) -> None:
        people: dict[str, int] = {}
        for commune in world.communes:
            zone = world.territories[commune.territory].timezone
            people[zone] = people.get(zone, 0) + commune.population
        self.name = max(sorted(people), key=lambda zone: people[zone])
        self.zones = {zone: ZoneInfo(zone) for zone in people}
        self.zone_of = {c.code: self.zones[world.territories[c.territory].timezone] for c in world.communes}
        self.main = self.zones[self.name]
        self.start = self.local(day, 0)
        self.end = self.local(day + timedelta(days=days), 0)

    def local(self, day: date, hour: int) -> Instant:
        return Instant.parse(datetime.combine(day, time(hour), self.main).isoformat())

    def instant(self, seconds: float, insee: str) -> Instant:
        """Whole seconds in the local time of a commune."""
        moment = datetime.fromtimestamp(round(seconds), self.zone_of.get(insee, self.main))
        return Instant.parse(moment.isoformat())


@dataclass(slots=True)
class _Offer:
    """A slot on its way into the log, with what happens to it after its publication."""

    t: Instant
    slot: Slot
    insee: str
    declared: bool
    later: list[Event] = field(default_factory=list)


@dataclass(slots=True)
class _Call:
    """A request on its way into the log."""

    t: Instant
    request: Request
    cancelled_at: Instant | None = None


def _slot(body: Json, number: int) -> Slot:
    structure = body["structure"]
    person = body["professional"]
    return Slot(
        id=f"s{number:06d}",
        # a range of a centre names nobody: the centre stands for its team
        professional=person["rpps"] if person is not None else structure["finess"],
        structure=structure["finess"] if structure is not None else None,
        source=body["source_kind"],
        lat=body["location"]["lat"],
        lon=body["location"]["lon"],
        start=Instant.parse(body["start"]),
        end=Instant.parse(body["end"]),
        capacity=body["capacity"],
        mode=body["mode"],
        profession=body["profession"],
        offers=tuple(body["offers"]),
    )


def _offers(world: World, days: Sequence[date], scenario: Scenario, clock: _Clock, rng: Chance) -> list[_Offer]:
    """The slots of the days, each published when ``openings`` says, or at the start of the log if before."""
    bodies: list[Json] = []
    for number, day in enumerate(days):
        hours = (scenario.hours if number == 0 else None) or sas_hours(day)
        if hours is None:
            continue
        share = SATURDAY_SHARE if day.weekday() == 5 else 1.0
        slots = round(SLOTS_PER_PROFESSIONAL * share * scenario.supply * len(world.professionals))
        bodies += slots_of_day(world, day, rng, slots=max(1, slots), hours=hours)
    offers = []
    for number, (body, opened) in enumerate(zip(bodies, openings(bodies, rng), strict=True)):
        insee = body["location"]["insee"]
        t = clock.instant(max(opened.timestamp(), clock.start), insee)
        slot = _slot(body, number)
        # overseas clocks may be ahead of the log's first midnight
        if t <= slot.start:
            offers.append(_Offer(t, slot, insee, body["visibility"] in ("snp", "cpts")))
    return offers


def _spoil(offers: list[_Offer], market: Market, rng: Chance) -> None:
    """Make some slots phantoms, take some back, give some another capacity, all between publication and start."""
    fates = rng.random((len(offers), 3)).tolist()
    moments = rng.random(len(offers)).tolist()
    delays = rng.integers(*REFUSED_MIN, size=len(offers)).tolist()
    for offer, (ghost, fate, size), moment, delay in zip(offers, fates, moments, delays, strict=True):
        slot = offer.slot
        if ghost < (market.declared if offer.declared else market.mirrored):
            offer.slot = replace(slot, refused_after_min=delay)
            continue
        t = Instant(offer.t + int((slot.start - offer.t) * moment), offer.t.offset_s)
        if fate < market.withdrawn:
            offer.later.append(SlotWithdrawn(t, slot.id))
        elif fate < market.withdrawn + market.resized:
            # G: as many grow by a place as lose one
            offer.later.append(SlotCapacity(t, slot.id, slot.capacity + (1 if size < 0.5 else -1)))


def _calls(
    world: World, day: date, scenario: Scenario, level: Level, clock: _Clock, rng: Chance
) -> list[tuple[Instant, Json, str]]:
    """Bodies of the day's requests with their instants and communes."""
    ambulatory, in_hours, needing = DEMANDS[level]
    model = DemandModel(ambulatory=ambulatory, in_sas_hours=in_hours, needing_slot=needing)
    model = replace(model, **scenario.model)  # type: ignore[arg-type]
    home = {c.code: c for c in world.communes}
    calls = []
    for at, body in requests_of_day(world, day, rng, scenario.rate, model=model, hours=scenario.hours):
        insee = body.get("insee", "")
        if insee:
            body |= {"lat": home[insee].lat, "lon": home[insee].lon}
        calls.append((clock.instant(at.timestamp(), insee), body, insee))
    return calls


def _requests(
    calls: list[tuple[Instant, Json, str]], scenario: Scenario, market: Market, clock: _Clock, rng: Chance
) -> list[_Call]:
    """Requests in the log's words; deadlines are the Hub's delays, at the latest the end of the log."""
    made = []
    draws = rng.random((len(calls), 4)).tolist()
    for (t, body, _), (batched, phone, gone, after) in zip(calls, draws, strict=True):
        span = DELAY_SPAN[Delay(body["delay"])].total_seconds()
        called_back = batched < scenario.batched
        at = Instant(-(-t // 1800) * 1800, t.offset_s) if called_back else t
        request = Request(
            id="",
            lat=body["lat"],
            lon=body["lon"],
            profession=body["profession"],
            modes=tuple(body["modes"]),
            tier=tier_of(Delay(body["delay"])).value,
            deadline=Instant(min(at + span, clock.end), t.offset_s),
            radius_km=body["radius_km"] if scenario.radius_km is None else scenario.radius_km,
            needs=tuple(body["needs"]),
            mt=body["mt"],
            on_phone=not called_back and phone < market.on_phone,
        )
        call = _Call(at, request)
        if gone < market.cancelled:
            # G: from five minutes to three hours after the call
            call.cancelled_at = Instant(at + 300 + int(10_500 * after), at.offset_s)
        made.append(call)
    return made


# --- faults


def _lack_visits(offers: list[_Offer], clock: _Clock, day: date, rng: Chance) -> list[_Offer]:
    """S4: half of the afternoon's home visits are not offered (G)."""
    noon = clock.local(day, 13)
    kept = rng.random(len(offers)).tolist()
    return [
        o
        for o, u in zip(offers, kept, strict=True)
        if not (o.slot.mode == "visite" and o.slot.start >= noon and u < 0.5)
    ]


def _near(lat: float, lon: float, centre: CommuneRow) -> bool:
    """Within ``ZONE_KM`` of a town hall, on a flat earth."""
    north, east = lat - centre.lat, (lon - centre.lon) * float(np.cos(np.radians(centre.lat)))
    return float(np.hypot(north, east)) * 111.2 <= ZONE_KM


def _close_zone(
    world: World, offers: list[_Offer], calls: list[_Call], clock: _Clock, day: date, rng: Chance
) -> list[_Offer]:
    """S5: the largest town is closed for three hours; its slots of that time are taken back, its requests wait.

    Four fifths of the zone's requests of that time come in a burst when it reopens; their delays count from then.
    """
    centre = max(world.communes, key=lambda commune: (commune.population, commune.code))
    closing, opening = (clock.local(day, hour) for hour in ZONE_HOURS)
    kept = []
    for offer in offers:
        inside = closing <= offer.slot.start < opening and _near(offer.slot.lat, offer.slot.lon, centre)
        if inside and offer.t >= closing:
            continue
        if inside:
            offer.later = [event for event in offer.later if event.t < closing]
            offer.later.append(SlotWithdrawn(Instant(closing, offer.t.offset_s), offer.slot.id))
        kept.append(offer)
    draws = rng.random((len(calls), 2)).tolist()
    for call, (deferred, place) in zip(calls, draws, strict=True):
        if not closing <= call.t < opening or not _near(call.request.lat, call.request.lon, centre):
            continue
        if deferred < ZONE_DEFERRED:
            t = Instant(round(opening + 60 * RELEASE_MIN * place), call.t.offset_s)
            deadline = Instant(min(call.request.deadline + (t - call.t), clock.end), call.t.offset_s)
            call.request = replace(call.request, deadline=deadline, on_phone=False)
            if call.cancelled_at is not None:
                call.cancelled_at = Instant(call.cancelled_at + (t - call.t), call.t.offset_s)
            call.t = t
    return kept


def _cut_editor(offers: list[_Offer], clock: _Clock, day: date, rng: Chance) -> None:
    """S6: the slots of one editor's practices vanish or go stale for an hour.

    Half of the practices vanish: no place until the hour is over. The others stay shown while their places are booked
    elsewhere; when the feed is back, the slots that went are taken back, with what was booked on them meanwhile.
    """
    down, up = (clock.local(day, hour) for hour in EDITOR_HOURS)
    practices = sorted({offer.slot.structure or offer.slot.professional for offer in offers})
    share = dict(zip(practices, rng.random(len(practices)).tolist(), strict=True))
    booked = rng.random(len(offers)).tolist()
    for offer, u in zip(offers, booked, strict=True):
        slot, kind = offer.slot, share[offer.slot.structure or offer.slot.professional]
        if kind >= EDITOR_SHARE or slot.start < down or offer.t >= up:
            continue
        if kind < EDITOR_SHARE / 2:
            if offer.t >= down:  # what is published in the hour is seen after it
                offer.t = Instant(min(up, slot.start), offer.t.offset_s)
            elif not offer.later:
                offer.later.append(SlotCapacity(Instant(down, offer.t.offset_s), slot.id, 0))
                if slot.start >= up:
                    offer.later.append(SlotCapacity(Instant(up, offer.t.offset_s), slot.id, slot.capacity))
        elif slot.start >= up and u < EDITOR_TAKEN:
            offer.later = [event for event in offer.later if event.t < up]
            offer.later.append(SlotWithdrawn(Instant(up, offer.t.offset_s), slot.id))


# --- the log


def _log(world: World, offers: list[_Offer], calls: list[_Call], clock: _Clock) -> DayLog:
    events: list[Event] = []
    for offer in offers:
        events.append(SlotPublished(offer.t, offer.slot))
        events += (event for event in offer.later if event.t >= offer.t)
    calls.sort(key=lambda call: call.t)
    for number, call in enumerate(calls):
        request = replace(call.request, id=f"r{number:06d}")
        events.append(RequestCreated(call.t, request))
        if call.cancelled_at is not None and call.cancelled_at < clock.end:
            events.append(RequestCancelled(call.cancelled_at, request.id))
    codes = {commune.territory for commune in world.communes}
    meta = Meta(
        codes.pop() if len(codes) == 1 else "FR",
        clock.name,
        clock.start,
        clock.end,
        BASE_MIN,
        MIN_PER_KM,
        TIERS,
        MT_BONUS_MIN,
        NOTICE_MIN,
    )
    return DayLog(meta, tuple(sorted(events, key=lambda event: event.t)))


def simulate(
    scenario: str,
    communes: Sequence[CommuneRow],
    seed: int,
    level: Level = "mid",
    *,
    territories: Mapping[str, TerritoryRow],
    day: date | None = None,
    people: int = 0,
) -> DayLog:
    """Draw a day log: requests on one day, slots on it and the next.

    Args:
        scenario: One of ``SCENARIOS``.
        communes: Where people live, each inhabitant once: a département's, or all of France.
        seed: Of the day; the same arguments give the same log.
        level: Demand and faults, low, mid or high.
        territories: Time zone and radius of each commune's territory.
        day: Local date of the requests instead of the scenario's.
        people: Seed of the professionals, apart from the day's: other days of the same people are their history.

    Raises:
        ValueError: The scenario or level is unknown, or the communes have no inhabitants.
    """
    if scenario not in SCENARIOS or level not in MARKETS:
        raise ValueError(f"Expected one of {', '.join(SCENARIOS)} and low, mid or high, got {scenario!r}, {level!r}.")
    story, market = SCENARIOS[scenario], MARKETS[level]
    first = day or story.day
    world = build_world(communes, np.random.default_rng(people), territories=territories, sources=story.sources)
    clock = _Clock(world, first, days=2)
    rng = np.random.default_rng((list(SCENARIOS).index(scenario), list(MARKETS).index(level), seed))
    offers = _offers(world, (first, first + timedelta(days=1)), story, clock, rng)
    _spoil(offers, market, rng)
    calls = _requests(_calls(world, first, story, level, clock, rng), story, market, clock, rng)
    if story.fault == "visits":
        offers = _lack_visits(offers, clock, first, rng)
    elif story.fault == "zone":
        offers = _close_zone(world, offers, calls, clock, first, rng)
    elif story.fault == "editor":
        _cut_editor(offers, clock, first, rng)
    return _log(world, offers, calls, clock)
