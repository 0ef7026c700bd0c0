"""A small fictitious population on the communes that the service itself names, as anyone outside would build it.

Professionals, practices and needs are invented; only communes and their inhabitants are real. Everything is a function
of its arguments, chance included.
"""

import random
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from loadtests.scenarios import DELAYS, SUPPLY, Scenario

Json = dict[str, Any]

OFFERS: Final = ("enfant", "nourrisson", "pmr", "tiers_payant", "secteur1")
NEEDS: Final = {"pmr": 0.05, "tiers_payant": 0.05}
PLAGE_SHARE: Final = 0.15
FIRST_RPPS: Final = 98_000_000_000
"""Above all numbers given out so far: nobody real is meant."""
TOWNS: Final = 10
"""Communes of each territory: few, so that a handful of practices is within everybody's reach."""
QUARTER: Final = timedelta(minutes=15)
DAY_QUARTERS: Final = 36
"""Places begin within the next nine hours: what is left of a working day at ten."""
NIGHT_QUARTERS: Final = 12
"""On the night of a change of clocks: within the next three hours, which the doubled one is part of."""
TOMORROW: Final = 0.15
"""Share of the places that lie a day later (G)."""


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
    """Communes to live in, by territory, the largest first."""

    towns: Mapping[str, Sequence[Commune]]
    story: Scenario = field(default_factory=lambda: Scenario("", "2026-01-13T10:00+01:00"))

    def commune(self, rng: random.Random, territories: Sequence[str], most: int = 0) -> Commune:
        """Draw where somebody lives: any territory alike, its communes by inhabitants (of the ``most`` largest)."""
        known = self.towns[rng.choice(territories)]
        known = known[: most or len(known)]
        return rng.choices(known, [commune.population for commune in known])[0]

    def request(self, rng: random.Random, case_ref: str, territories: Sequence[str]) -> Json:
        """Draw a need, as a body of ``POST /v1/requests``."""
        story = self.story
        luck = rng.random()
        modes = ["visite"] if luck < story.visite else ["cabinet", "tele"] if luck > 1 - story.tele else ["cabinet"]
        adults = 1 - story.children - story.seniors
        age = _draw(rng, {"enfant": story.children, "senior": story.seniors, "adulte": adults})
        needs = [need for need, chance in NEEDS.items() if rng.random() < chance]
        return {
            "insee": self.commune(rng, territories).code,
            "profession": _draw(rng, story.professions),
            "modes": modes,
            "delay": _draw(rng, DELAYS),
            "needs": [*needs, "enfant"] if age == "enfant" else needs,
            "age_band": age,
            "priority": "P2",
            "case_ref": case_ref,
            **({} if story.radius_km is None else {"radius_km": story.radius_km}),
        }

    def practice(
        self, rng: random.Random, number: int, size: int, territories: Sequence[str], first: int = 0
    ) -> list[Professional]:
        """Draw the professionals of the n-th practice, together at one address, numbered from ``first`` on."""
        commune = self.commune(rng, territories, self.story.clustered)
        lat = round(commune.lat + rng.uniform(-0.01, 0.01), 5)
        lon = round(commune.lon + rng.uniform(-0.01, 0.01), 5)
        return [
            Professional(
                rpps=str(FIRST_RPPS + 100_000 * number + first + member),
                name=f"Dr Fictif {number}-{first + member}",
                profession=_draw(rng, SUPPLY),
                commune=commune,
                lat=lat,
                lon=lon,
                offers=tuple(offer for offer in OFFERS if rng.random() < 0.7),
            )
            for member in range(size)
        ]

    def slot(self, professional: Professional, rng: random.Random, name: str, now: datetime, busy: set[int]) -> Json:
        """Draw a place to come, as an item of ``POST /v1/slots``; ``busy`` are the professional's quarters, added to.

        Times lie on a grid of quarters and do not overlap: hindsight on a recorded day knows nothing of alternatives
        (the races test them).
        """
        capacity = rng.randint(2, 6) if rng.random() < PLAGE_SHARE else 1
        first = now.replace(minute=now.minute // 15 * 15, second=0, microsecond=0) + 2 * QUARTER
        reach = NIGHT_QUARTERS if self.story.night else DAY_QUARTERS
        while True:
            start = first + rng.randrange(reach) * QUARTER
            if not self.story.night and rng.random() < TOMORROW:
                start += timedelta(days=1)
            number = int(start.timestamp()) // 900
            wanted = set(range(number, number + capacity))
            if not wanted & busy:
                break
            capacity, reach = 1, reach + 1  # a full day goes on a little longer
        busy |= wanted
        luck = rng.random()
        tele, visite = self.story.places_tele, self.story.places_visite
        return {
            "external_id": name,
            "professional": {"rpps": professional.rpps, "name": professional.name},
            "source_kind": "liberal",
            "location": {"lat": professional.lat, "lon": professional.lon, "insee": professional.commune.code},
            "start": start.isoformat(),
            "end": (start + QUARTER * capacity).isoformat(),
            "capacity": capacity,
            "mode": "tele" if luck < tele else "visite" if luck > 1 - visite else "cabinet",
            "booking_kind": "walkin" if capacity > 1 else "routine",
            "profession": professional.profession,
            "offers": list(professional.offers),
        }


def _draw(rng: random.Random, shares: Mapping[str, float]) -> str:
    return rng.choices(list(shares), list(shares.values()))[0]


def read_population(get: Callable[[str], Json], territories: Sequence[str], story: Scenario) -> Population:
    """Ask the service for the largest communes of some territories.

    Args:
        get: reads a path of the service as JSON.
        territories: codes of départements.
        story: what its people need.

    Raises:
        LookupError: the service knows no inhabited commune in one of them.
    """
    towns: dict[str, list[Commune]] = defaultdict(list)
    for territory in territories:
        # INSEE codes begin with the code of their département
        for found in get(f"/v1/communes?q={territory}&territory={territory}&limit={TOWNS}")["communes"]:
            if found["population"] > 0:
                towns[territory].append(
                    Commune(found["code"], found["name"], found["population"], found["lat"], found["lon"])
                )
        if not towns[territory]:
            raise LookupError(f"no communes in {territory}")
    return Population({name: sorted(found, key=lambda c: -c.population) for name, found in towns.items()}, story)
