"""What regulators of the invented world ask for in a day; tags of numbers as in ``world``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import NamedTuple

import numpy as np

from sas_matcher.demo.calendar import opening
from sas_matcher.demo.world import (
    AT_HOME,
    BY_TELE,
    PROFESSIONS,
    TELE_SHARE,
    VISITE_SHARE,
    CommuneRow,
    Floats,
    Json,
    World,
    draw,
    near,
)
from sas_matcher.domain.duty import Hours, sas_hours

RADIUS_WITHOUT_DEFAULT_KM = 30.0
"""G: radius asked for in Guyane and Mayotte, for which the national platform sets none."""


class TimedRequest(NamedTuple):
    """A request and the instant (UTC) at which a regulator sends it."""

    at: datetime
    body: Json


@dataclass(frozen=True, slots=True)
class DemandModel:
    """Numbers of the demand; defaults are the middle of each range.

    ``files_per_inhabitant`` (S, DREES 2022) regulation files a year, of which ``ambulatory`` (S), of which
    ``in_sas_hours`` (G), of which ``needing_slot`` (D), over ``open_days`` weekday equivalents.
    ``by_weekday`` Monday to Sunday (Monday S, rest G; Sunday only with hours given). ``by_hour`` 8 to 19 h
    (G). ``tiers`` (G). ``burst_cv`` spread of a territory's day about its mean (G; 0.30 in an epidemic).
    ``children`` (G) with ``infants`` among them. ``with_mt`` requests whose médecin traitant is known to the
    world (G). ``with_coordinates`` requests with an address instead of a commune (G).
    """

    files_per_inhabitant: float = 0.31
    ambulatory: float = 0.55
    in_sas_hours: float = 0.45
    needing_slot: float = 0.35
    open_days: float = 285.0
    by_weekday: tuple[float, ...] = (1.15, 0.98, 0.97, 0.96, 1.02, 0.45, 0.45)
    by_hour: tuple[float, ...] = (0.07, 0.12, 0.13, 0.11, 0.07, 0.06, 0.08, 0.08, 0.08, 0.08, 0.07, 0.05)
    tiers: Mapping[str, float] = field(default_factory=lambda: {"T0": 0.03, "T1": 0.12, "T2": 0.70, "T3": 0.15})
    professions: Mapping[str, float] = field(default_factory=lambda: PROFESSIONS)
    tele: float = TELE_SHARE
    visite: float = VISITE_SHARE
    burst_cv: float = 0.15
    children: float = 0.275
    infants: float = 0.25
    seniors: float = 0.22
    with_mt: float = 0.25
    with_coordinates: float = 0.50

    def per_inhabitant_day(self, day: date) -> float:
        """Expected requests per inhabitant on ``day`` at rate 1."""
        yearly = self.files_per_inhabitant * self.ambulatory * self.in_sas_hours * self.needing_slot
        return yearly / self.open_days * self.by_weekday[day.weekday()]


DELAYS = {
    "T0": ("DEL0", "ASAP", "30M", "45M", "1H"),
    "T1": ("2H", "4H"),
    "T2": ("8H", "12H", "24H"),
    "T3": ("48H",),
}
"""Hub Santé delay codes of each tier."""


def _hour_shares(model: DemandModel, hours: Hours) -> Floats:
    """Share of requests in each local hour of ``hours``; outside 8 to 20 h a flat 0.02 weighs (G)."""
    weights = [model.by_hour[h - 8] if 8 <= h < 20 else 0.02 for h in range(*hours)]
    return np.array(weights) / sum(weights)


def _age_band(profession: str, model: DemandModel, rng: np.random.Generator) -> str:
    u, v = rng.random(2)
    if profession == "PED" or u < model.children:
        return "nourrisson" if v < model.infants else "enfant"
    return "senior" if u > 1.0 - model.seniors else "adulte"


def _wanted_modes(profession: str, model: DemandModel, rng: np.random.Generator) -> list[str]:
    """Modes that would do, the wanted one first; 3 in 10 who can come also take a tele (G)."""
    u = rng.random()
    if profession in AT_HOME and u < model.visite:
        return ["visite"]
    if profession in BY_TELE and u > 1.0 - model.tele:
        return ["tele", "cabinet"]
    return ["cabinet", "tele"] if profession in BY_TELE and rng.random() < 0.3 else ["cabinet"]


def _needs(age_band: str, rng: np.random.Generator) -> list[str]:
    """Needs of a patient: his age if a child, else now and then access, tariff or language (G)."""
    needs = [age_band] if age_band in ("nourrisson", "enfant") else []
    chances = {"tiers_payant": 0.10, "pmr": 0.15 if age_band == "senior" else 0.02, "anglais": 0.02}
    draws = zip(chances.items(), rng.random(len(chances)).tolist(), strict=True)
    return needs + [need for (need, chance), u in draws if u < chance]


def requests_of_day(
    world: World,
    day: date,
    rng: np.random.Generator,
    rate: float = 1.0,
    *,
    model: DemandModel | None = None,
    hours: Hours | None = None,
) -> list[TimedRequest]:
    """Draw the requests that regulators make in a day, as bodies of ``POST /v1/requests``, in order of time.

    Each territory has a Poisson number about its population's share, with a gamma-drawn rate of its own (calm
    and busy days); hours follow the model's profile in local time.

    Args:
        world: From ``build_world``.
        day: Local date in every territory.
        rng: Source of chance.
        rate: Multiple of ordinary demand: 1.55 flu peak, 4 a COVID week.
        model: Numbers of the demand.
        hours: Local opening and closing hour instead of the SAS hours, see ``slots_of_day``.

    Returns:
        Requests; empty outside SAS hours.

    Raises:
        ValueError: If ``rate`` is negative or not finite.
    """
    if not 0.0 <= rate < float("inf"):
        raise ValueError("Expected a finite rate >= 0.")
    window, model = hours or sas_hours(day), model or DemandModel()
    if window is None:
        return []
    rows_of: dict[str, list[int]] = {}
    for row, commune in enumerate(world.communes):
        rows_of.setdefault(commune.territory, []).append(row)
    doctors: dict[int, list[str]] = {}
    for p in world.professionals:
        if p.profession == "MG":
            doctors.setdefault(world.structures[p.workplace].commune, []).append(p.rpps)
    shares = _hour_shares(model, window)
    shape = 1.0 / model.burst_cv**2
    result = []
    for territory, rows in rows_of.items():
        people = np.array([world.communes[row].population for row in rows], dtype=np.float64)
        mean = rate * float(people.sum()) * model.per_inhabitant_day(day)
        count = int(rng.poisson(mean * rng.gamma(shape) / shape))
        if count == 0:
            continue
        start, minutes = opening(day, window, world.territories[territory].timezone)
        places = rng.choice(rows, size=count, p=people / people.sum()).tolist()
        # hours of the profile stretch over the real length, so that 23 and 25 h days are covered too
        moments = (rng.choice(shares.size, size=count, p=shares) + rng.random(count)) / shares.size * minutes
        radius = world.territories[territory].default_radius_km or RADIUS_WITHOUT_DEFAULT_KM
        for row, moment in zip(places, moments.tolist(), strict=True):
            body = _request(world.communes[row], radius, doctors.get(row, []), model, rng)
            result.append(TimedRequest(start + timedelta(seconds=int(moment * 60)), body))
    result.sort(key=lambda request: request.at)
    return result


def _request(
    commune: CommuneRow, radius_km: float, doctors: Sequence[str], model: DemandModel, rng: np.random.Generator
) -> Json:
    """Draw one request from ``commune``; ``doctors`` are the RPPS among whom a médecin traitant may be."""
    profession, tier = draw(rng, model.professions, 1)[0], draw(rng, model.tiers, 1)[0]
    delays = DELAYS[tier]
    age_band = _age_band(profession, model, rng)
    place: Json = {"insee": commune.code}
    if rng.random() < model.with_coordinates:
        lat, lon = near(commune, rng)
        place = {"lat": lat, "lon": lon}
    known = bool(doctors) and profession == "MG" and rng.random() < model.with_mt
    return {
        **place,
        "profession": profession,
        "modes": _wanted_modes(profession, model, rng),
        "delay": delays[int(rng.integers(len(delays)))],
        "radius_km": float(radius_km),
        "needs": _needs(age_band, rng),
        "age_band": age_band,
        "mt": doctors[int(rng.integers(len(doctors)))] if known else None,
        "priority": "P2" if tier in ("T0", "T1") else "P3",
    }
