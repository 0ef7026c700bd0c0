"""An invented world of unscheduled care on the real communes of France, for demonstrations and load tests.

Professionals and structures are drawn from numbers of the field; what is drawn exists nowhere (``identity``). What
they publish is drawn by ``supply``, what regulators ask for by ``demand``. All of it is a function of its arguments:
communes and territories come in as rows, chance as a numpy ``Generator``, the day as a date. The same seed gives the
same world, places and requests.

Tags of the numbers of the three: S seen in the source, D derived, G our guess; all of them are parameters.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from sas_matcher.demo import identity

Json = dict[str, Any]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

GPS_PER_INHABITANT = 57_000 / 67_000_000
"""General practitioners in town (background figure) over the inhabitants they were counted with."""

PARTICIPATION = 0.25
"""G: share of general practitioners who take SAS patients (CPTS du Voironnais, 37 answers): ≈ 14 000."""

PROFESSIONS = {
    "MG": 0.86, "DENT": 0.05, "PED": 0.02, "SF": 0.01, "KINE": 0.02, "IDE": 0.02, "PSY": 0.01, "SPE": 0.01,
}  # fmt: skip
"""G: profession mix; ``SPE`` is the table's "other"."""

SOURCES = {"liberal": 0.62, "msp": 0.16, "cds": 0.10, "cpts": 0.07, "sos": 0.05}
"""G: through what practices places are offered; no source was found."""

TELE_SHARE, VISITE_SHARE = 0.05, 0.07
"""S and G: téléconsultation and home visits among places and requests; the rest is at the practice."""

_SPECIALTY = {"MG": ("SM54",), "PED": ("SM40",), "SPE": ("SM38", "SM39", "SM15")}
_SIZES = {"liberal": (1, 5), "cpts": (1, 4), "msp": (4, 9), "cds": (3, 9), "sos": (4, 13)}
_SMALLEST_TOWN = {"liberal": 300, "cpts": 300, "msp": 1_500, "cds": 5_000, "sos": 30_000}

BY_TELE = frozenset({"MG", "PED", "PSY", "SF"})
"""G: professions that see patients by téléconsultation."""

AT_HOME = frozenset({"MG", "IDE", "KINE", "SF"})
"""G: professions that visit."""


class CommuneRow(Protocol):
    """What is read of a commune: INSEE code, name, territory, inhabitants, town hall in degrees."""

    @property
    def code(self) -> str: ...  # noqa: D102
    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def territory(self) -> str: ...  # noqa: D102
    @property
    def population(self) -> int: ...  # noqa: D102
    @property
    def lat(self) -> float: ...  # noqa: D102
    @property
    def lon(self) -> float: ...  # noqa: D102


class TerritoryRow(Protocol):
    """What is read of a territory: IANA time zone, default search radius in km (0: none)."""

    @property
    def timezone(self) -> str: ...  # noqa: D102
    @property
    def default_radius_km(self) -> float: ...  # noqa: D102


class Structure(NamedTuple):
    """An invented practice, centre or association; ``commune`` is a row of ``World.communes``."""

    finess: str
    kind: str
    name: str
    commune: int
    lat: float
    lon: float
    phone: str | None


class Professional(NamedTuple):
    """An invented professional at the place where he works.

    ``workplace`` and ``publisher`` are rows of ``World.structures``: the address, and who publishes his
    places (his CPTS or his workplace; ``None`` if he does so alone). ``minutes`` is the length of his
    consultations.
    """

    rpps: str
    name: str
    profession: str
    specialty: str | None
    source_kind: str
    workplace: int
    publisher: int | None
    minutes: int
    offers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class World:
    """Communes with their territories, and the invented structures and professionals on them."""

    communes: tuple[CommuneRow, ...]
    territories: Mapping[str, TerritoryRow]
    structures: tuple[Structure, ...]
    professionals: tuple[Professional, ...]

    @property
    def population(self) -> int:
        """Inhabitants of its communes."""
        return sum(commune.population for commune in self.communes)


def draw(rng: np.random.Generator, shares: Mapping[str, float], size: int) -> list[str]:
    """Draw ``size`` keys of ``shares``, which are brought to a sum of 1."""
    names, weights = list(shares), np.array(list(shares.values()), dtype=np.float64)
    return [names[i] for i in rng.choice(len(names), size=size, p=weights / weights.sum()).tolist()]


def _spread_km(population: int) -> float:
    """G: typical distance of an address from the town hall, 0.3 km in a hamlet to 1.5 km in a large town."""
    return 0.3 + 1.2 * min(1.0, population / 40_000)


def near(commune: CommuneRow, rng: np.random.Generator) -> tuple[float, float]:
    """Return a point around the town hall, at most 2 spreads off in each direction; degrees, 5 decimals."""
    north, east = np.clip(rng.normal(size=2), -2.0, 2.0) * _spread_km(commune.population) / 111.2
    return (
        round(commune.lat + float(north), 5),
        round(commune.lon + float(east) / float(np.cos(np.radians(commune.lat))), 5),
    )


def _towns(communes: Sequence[CommuneRow], kind: str) -> tuple[Ints, Floats]:
    """Rows where a structure of ``kind`` may stand, with weights; the largest commune if all are small."""
    population = np.array([c.population for c in communes], dtype=np.float64)
    rows = np.flatnonzero(population >= min(_SMALLEST_TOWN[kind], population.max()))
    weights = population[rows] ** 1.1  # G: practices gather in towns a little more than people do
    return rows.astype(np.int64), weights / weights.sum()


def _sizes(kind: str, members: int, rng: np.random.Generator) -> list[int]:
    """Numbers of professionals of the structures of a kind, summing to ``members``."""
    low, high = _SIZES[kind]
    drawn = rng.integers(low, high, size=members // low + 1)
    ends = np.minimum(np.cumsum(drawn), members)
    return [int(n) for n in np.diff(ends, prepend=0) if n > 0]


def _members(kind: str, size: int, professions: Mapping[str, float], rng: np.random.Generator) -> list[str]:
    """Professions of members: one in a practice, mostly one in a centre, a GP first in an MSP."""
    if kind == "sos":
        return ["MG"] * size
    if kind == "msp":
        return ["MG", *draw(rng, professions, size - 1)]
    main = draw(rng, professions, 1)[0]
    if kind == "cds":
        others = zip(draw(rng, professions, size - 1), rng.random(size - 1).tolist(), strict=True)
        return [main, *(main if u < 0.7 else other for other, u in others)]
    return [main] * size


def _offers(kind: str, profession: str, rng: np.random.Generator) -> tuple[str, ...]:
    """Draw what a professional offers; centres and MSP are in secteur 1 with tiers payant, the rest is G."""
    salaried = kind in ("cds", "msp")
    chances = {
        "enfant": 1.0 if profession == "PED" else 0.9,
        "nourrisson": 1.0 if profession == "PED" else 0.6 if profession in ("MG", "SF") else 0.1,
        "pmr": 0.9 if salaried else 0.5,
        "secteur1": 1.0 if salaried else 0.85,
        "tiers_payant": 1.0 if salaried else 0.5,
        "anglais": 0.15,
        "vaccination": 0.4 if profession in ("MG", "IDE", "PED", "SF") else 0.0,
        "ecg": 0.3 if profession == "MG" else 0.0,
        "suture": 0.2 if profession == "MG" else 0.0,
    }
    draws = zip(chances.items(), rng.random(len(chances)).tolist(), strict=True)
    return tuple(offer for (offer, chance), u in draws if u < chance)


def build_world(
    communes: Sequence[CommuneRow],
    rng: np.random.Generator,
    *,
    territories: Mapping[str, TerritoryRow],
    participation: float = PARTICIPATION,
    professions: Mapping[str, float] = PROFESSIONS,
    sources: Mapping[str, float] = SOURCES,
) -> World:
    """Draw professionals and structures, placed by population and gathered by structure and profession.

    Args:
        communes: Where people live, each inhabitant once (arrondissements, not whole cities); at least one.
        rng: Source of chance.
        territories: Territory of each commune, by code.
        participation: Share of general practitioners who offer places, in (0, 1]; 1 for the open market.
        professions: Shares of the professions; "MG" is needed, the others follow it.
        sources: Shares of ``liberal``, ``msp``, ``cds``, ``cpts`` and ``sos``.

    Returns:
        The world; at least one professional.

    Raises:
        ValueError: If there are no inhabitants, no "MG", or ``participation`` is out of range.
    """
    inhabitants = sum(commune.population for commune in communes)
    if inhabitants <= 0:
        raise ValueError("Expected at least one inhabitant.")
    if not 0.0 < participation <= 1.0:
        raise ValueError("Expected 0 < participation <= 1.")
    if professions.get("MG", 0.0) <= 0.0:
        raise ValueError('Expected a share of "MG" > 0.')
    gps = participation * GPS_PER_INHABITANT * inhabitants
    total = max(1, round(gps * sum(professions.values()) / professions["MG"]))
    structures: list[Structure] = []
    professionals: list[Professional] = []
    cpts_of: dict[str, int] = {}

    def add_structure(kind: str, commune: int) -> int:
        town = communes[commune]
        lat, lon = near(town, rng)
        structures.append(
            Structure(
                identity.fictitious_finess(len(structures)),
                kind,
                identity.structure_name(kind, town.name, rng),
                commune,
                lat,
                lon,
                identity.phone(town.territory, rng) if rng.random() < 0.9 else None,
            )
        )
        return len(structures) - 1

    bounds = np.cumsum(list(sources.values())) / sum(sources.values())
    ends = np.round(bounds * total).astype(np.int64)
    for kind, count in zip(sources, np.diff(ends, prepend=0).tolist(), strict=True):
        rows, weights = _towns(communes, kind)
        sizes = _sizes(kind, count, rng)
        for size, commune in zip(sizes, rng.choice(rows, size=len(sizes), p=weights).tolist(), strict=True):
            territory = communes[commune].territory
            workplace = add_structure("liberal" if kind == "cpts" else kind, commune)
            publisher: int | None = workplace
            if kind == "cpts":
                if territory not in cpts_of:
                    cpts_of[territory] = add_structure("cpts", commune)
                publisher = cpts_of[territory]
            elif kind == "liberal" and size == 1:
                publisher = None
            for profession in _members(kind, size, professions, rng):
                specialties = _SPECIALTY.get(profession, (None,))
                professionals.append(
                    Professional(
                        identity.fictitious_rpps(len(professionals)),
                        identity.professional_name(profession, rng),
                        profession,
                        specialties[int(rng.integers(len(specialties)))],
                        kind,
                        workplace,
                        publisher,
                        15 if rng.random() < 0.6 else 20,
                        _offers(kind, profession, rng),
                    )
                )
    return World(tuple(communes), dict(territories), tuple(structures), tuple(professionals))
