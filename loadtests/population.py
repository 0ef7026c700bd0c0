"""A small fictitious population on the communes that the service itself names, as anyone outside would build it.

Professionals, practices and needs are invented; only communes and their inhabitants are real. Everything is a function
of its arguments, chance included.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

Json = dict[str, Any]

PROFESSIONS: Final = {"MG": 0.86, "DENT": 0.05, "PED": 0.03, "SF": 0.02, "KINE": 0.02, "IDE": 0.02}
"""Guess: mostly general practitioners."""
DELAYS: Final = {"1H": 0.05, "2H": 0.05, "4H": 0.15, "8H": 0.25, "12H": 0.25, "24H": 0.25}
"""Guess: most needs are for today."""
OFFERS: Final = ("enfant", "nourrisson", "pmr", "tiers_payant", "secteur1")
NEEDS: Final = {"enfant": 0.2, "pmr": 0.05, "tiers_payant": 0.05}
PLAGE_SHARE: Final = 0.15
FIRST_RPPS: Final = 98_000_000_000
"""Above all numbers given out so far: nobody real is meant."""
TOWNS: Final = 10
"""Communes of each territory: few, so that a handful of practices is within everybody's reach."""
QUARTER: Final = timedelta(minutes=15)


class Commune(NamedTuple):
    """What is needed of a commune."""

    code: str
    name: str
    population: int
    lat: float
    lon: float


class Professional(NamedTuple):
    """An invented professional at the place of practice."""

    rpps: str
    name: str
    profession: str
    commune: Commune
    lat: float
    lon: float
    offers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Population:
    """Communes to live in, by inhabitants."""

    communes: Sequence[Commune]

    def commune(self, rng: random.Random) -> Commune:
        """Draw where somebody lives."""
        return rng.choices(self.communes, [c.population for c in self.communes])[0]

    def request(self, rng: random.Random, case_ref: str) -> Json:
        """Draw a need, as a body of ``POST /v1/requests``."""
        commune = self.commune(rng)
        return {
            "insee": commune.code,
            "profession": _draw(rng, PROFESSIONS),
            "modes": ["cabinet", "tele"] if rng.random() < 0.2 else ["cabinet"],
            "delay": _draw(rng, DELAYS),
            "needs": [need for need, chance in NEEDS.items() if rng.random() < chance],
            "priority": "P2",
            "case_ref": case_ref,
        }

    def practice(self, rng: random.Random, number: int, size: int) -> list[Professional]:
        """Draw the professionals of the n-th practice, together at one address."""
        commune = self.commune(rng)
        lat = round(commune.lat + rng.uniform(-0.01, 0.01), 5)
        lon = round(commune.lon + rng.uniform(-0.01, 0.01), 5)
        return [
            Professional(
                rpps=str(FIRST_RPPS + 100 * number + member),
                name=f"Dr Fictif {number}-{member}",
                profession=_draw(rng, PROFESSIONS),
                commune=commune,
                lat=lat,
                lon=lon,
                offers=tuple(offer for offer in OFFERS if rng.random() < 0.7),
            )
            for member in range(size)
        ]


def _draw(rng: random.Random, shares: Mapping[str, float]) -> str:
    return rng.choices(list(shares), list(shares.values()))[0]


def slot(professional: Professional, rng: random.Random, name: str, now: datetime) -> Json:
    """Draw a place within the next eight hours, as an item of ``POST /v1/slots``.

    Times lie on a grid of quarters, so that a professional now and then offers the same time twice: the two places are
    then alternatives, of which the service must give away one.
    """
    capacity = rng.randint(2, 6) if rng.random() < PLAGE_SHARE else 1
    start = now.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1) + rng.randrange(28) * QUARTER
    return {
        "external_id": name,
        "professional": {"rpps": professional.rpps, "name": professional.name},
        "source_kind": "liberal",
        "location": {"lat": professional.lat, "lon": professional.lon, "insee": professional.commune.code},
        "start": start.isoformat(),
        "end": (start + QUARTER * capacity).isoformat(),
        "capacity": capacity,
        "mode": "tele" if rng.random() < 0.05 else "cabinet",
        "booking_kind": "walkin" if capacity > 1 else "routine",
        "profession": professional.profession,
        "offers": list(professional.offers),
    }


def read_population(get: Callable[[str], Json], territories: Sequence[str]) -> Population:
    """Ask the service for the largest communes of some territories.

    Args:
        get: reads a path of the service as JSON.
        territories: codes of départements.

    Raises:
        LookupError: the service knows no commune there.
    """
    communes: dict[str, Commune] = {}
    for territory in territories:
        # INSEE codes begin with the code of their département
        for found in get(f"/v1/communes?q={territory}&territory={territory}&limit={TOWNS}")["communes"]:
            commune = Commune(found["code"], found["name"], found["population"], found["lat"], found["lon"])
            communes[commune.code] = commune
    if not any(commune.population > 0 for commune in communes.values()):
        raise LookupError(f"no communes in {', '.join(territories)}")
    return Population(list(communes.values()))
