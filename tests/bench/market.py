"""What is published and asked: the invented world on all of France, and spots that only one place can serve."""

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final, NamedTuple

import numpy as np

from adapters.geo import Gazetteer
from sas_matcher.demo.demand import requests_of_day
from sas_matcher.demo.supply import OPEN_MARKET_SLOTS, slots_of_day
from sas_matcher.demo.world import World, build_world

SEED: Final = 20_261_123
DAY: Final = date(2026, 11, 23)  # a Monday; only its shape is used, see ``live_slots``
REQUESTS: Final = 20_000  # bodies to choose from; an ordinary day has about 7 000
LEAD: Final = timedelta(minutes=10)
SPOT_KM: Final = 0.2
SPOTS: Final = 96  # territories that have an empty spot: all but the densest five

Json = dict[str, Any]


class Spot(NamedTuple):
    """A point where nobody else offers anything, and the commune it lies in."""

    territory: str
    insee: str
    lat: float
    lon: float


def france() -> tuple[Gazetteer, World]:
    """Build the open market's world: every general practitioner takes part."""
    geography = Gazetteer.load()
    communes = [c for code in geography.territories for c in geography.communes_of(code) if c.population > 0]
    rng = np.random.default_rng(SEED)
    return geography, build_world(communes, rng, territories=geography.territories, participation=1.0)


def live_slots(world: World, count: int, now: datetime) -> list[Json]:
    """Draw a day's places and let that day begin ten minutes from now in every time zone.

    What is measured must not depend on the hour of measuring: at night no place would be within a delay of 4 h.
    """
    rng = np.random.default_rng(SEED + 1)
    begins = (now + LEAD).replace(second=0, microsecond=0)
    slots = slots_of_day(world, DAY, rng, slots=count)
    for slot in slots:
        start, end = datetime.fromisoformat(slot["start"]), datetime.fromisoformat(slot["end"])
        opening = start.replace(hour=8, minute=0)
        slot["start"] = (begins + (start - opening)).astimezone(UTC).isoformat()
        slot["end"] = (begins + (end - opening)).astimezone(UTC).isoformat()
    return slots


def request_bodies(world: World) -> list[bytes]:
    """Draw requests of all France by population, as bodies of ``POST /v1/requests`` without what names them."""
    rng = np.random.default_rng(SEED + 2)
    bodies: list[bytes] = []
    while len(bodies) < REQUESTS:
        for request in requests_of_day(world, DAY, rng, 2.0):
            wish = {name: value for name, value in request.body.items() if value is not None}
            bodies.append(json.dumps(wish, separators=(",", ":")).encode())
    return bodies[:REQUESTS]


def empty_spots(geography: Gazetteer, world: World) -> Iterator[Spot]:
    """Yield, territory by territory in turn, town halls two kilometres from all practices and one another."""
    taken: set[tuple[int, int]] = set()
    for structure in world.structures:
        taken |= _around(structure.lat, structure.lon)
    free = {
        code: [c for c in geography.communes_of(code) if c.population > 0 and _cell(c.lat, c.lon) not in taken]
        for code in geography.territories
    }
    for turn in range(max(len(communes) for communes in free.values())):
        for code, communes in free.items():
            commune = communes[turn] if turn < len(communes) else None
            if commune is not None and _cell(commune.lat, commune.lon) not in taken:
                taken |= _around(commune.lat, commune.lon)
                yield Spot(code, commune.code, round(commune.lat, 3), round(commune.lon, 3))


def _cell(lat: float, lon: float) -> tuple[int, int]:
    """Cell of at least two kilometres in each direction, up to 52° N."""
    return int(lat // 0.03), int(lon // 0.03)


def _around(lat: float, lon: float) -> set[tuple[int, int]]:
    row, column = _cell(lat, lon)
    return {(row + d, column + e) for d in (-1, 0, 1) for e in (-1, 0, 1)}


def spot_request(spot: Spot, name: str) -> Json:
    """Ask for a general practitioner at a spot, and nowhere else."""
    return {
        "lat": spot.lat,
        "lon": spot.lon,
        "profession": "MG",
        "modes": ["cabinet"],
        "delay": "12H",
        "radius_km": SPOT_KM,
        "case_ref": name,
    }


def spot_slot(spot: Spot, name: str, number: int, start: datetime) -> Json:
    """Build the place that serves ``spot_request``."""
    return {
        "external_id": name,
        "professional": {"rpps": f"{99_000_000_000 + number}", "name": "Dr Banc d'Essai"},
        "source_kind": "liberal",
        "location": {"lat": spot.lat, "lon": spot.lon, "insee": spot.insee},
        "start": start.isoformat(),
        "end": (start + timedelta(minutes=15)).isoformat(),
        "mode": "cabinet",
        "profession": "MG",
    }


def bulks(slots: Sequence[Json], size: int) -> Iterator[list[Json]]:
    """Cut slots into calls."""
    for at in range(0, len(slots), size):
        yield list(slots[at : at + size])


__all__ = [
    "OPEN_MARKET_SLOTS",
    "SPOTS",
    "Spot",
    "bulks",
    "empty_spots",
    "france",
    "live_slots",
    "request_bodies",
    "spot_request",
    "spot_slot",
]
