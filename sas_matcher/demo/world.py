"""An invented world of unscheduled care on the real communes of France, for demonstrations and load tests.

Professionals, structures and demand are drawn from numbers of the field; what is drawn exists nowhere
(``identity``). Everything is a function of its arguments: communes and territories come in as rows, chance as a
numpy ``Generator``, the day as a date. The same seed gives the same world, places and requests.

Tags of the numbers below: S seen in the source, D derived, G our guess; all of them are parameters.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from sas_matcher.demo import identity
from sas_matcher.demo.calendar import local_texts, opening
from sas_matcher.domain.duty import Hours, sas_hours

Json = dict[str, Any]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

GPS_PER_INHABITANT = 57_000 / 67_000_000
"""General practitioners in town (background figure) over the inhabitants they were counted with."""

PARTICIPATION = 0.25
"""G: share of general practitioners who take SAS patients (CPTS du Voironnais, 37 answers): ≈ 14 000."""

SLOTS_PER_PROFESSIONAL = 1.5
"""D: 14 000 effectors offer 14 000 to 28 000 SAS places a day, 1 to 2 each."""

OPEN_MARKET_SLOTS = 285_000
"""D: places a day if 57 000 practitioners opened all theirs, 5 each (``build_world(participation=1)``)."""

PROFESSIONS = {
    "MG": 0.86, "DENT": 0.05, "PED": 0.02, "SF": 0.01, "KINE": 0.02, "IDE": 0.02, "PSY": 0.01, "SPE": 0.01,
}  # fmt: skip
"""G: profession mix; ``SPE`` is the table's "other"."""

SOURCES = {"liberal": 0.62, "msp": 0.16, "cds": 0.10, "cpts": 0.07, "sos": 0.05}
"""G: through what practices places are offered; no source was found."""

TELE_SHARE, VISITE_SHARE = 0.05, 0.07
"""S and G: téléconsultation and home visits among places and requests; the rest is at the practice."""

PLAGE_SHARE = 0.10
"""G: share of places published as a range for several patients without individual times."""

SATURDAY_SHARE = 0.35
"""G: places of a Saturday morning (a third of the hours) against a weekday."""

LATE_MORNING, LATE_LAST = 0.30, 0.20
"""G: places opened the same morning, and less than 2 h before their start."""

RADIUS_WITHOUT_DEFAULT_KM = 30.0
"""G: radius asked for in Guyane and Mayotte, for which the national platform sets none."""

_SPECIALTY = {"MG": ("SM54",), "PED": ("SM40",), "SPE": ("SM38", "SM39", "SM15")}
_SIZES = {"liberal": (1, 5), "cpts": (1, 4), "msp": (4, 9), "cds": (3, 9), "sos": (4, 13)}
_SMALLEST_TOWN = {"liberal": 300, "cpts": 300, "msp": 1_500, "cds": 5_000, "sos": 30_000}
_TELE = frozenset({"MG", "PED", "PSY", "SF"})
_VISITE = frozenset({"MG", "IDE", "KINE", "SF"})
_GRID_MIN = 5
_HOUR_WEIGHT = np.array([6, 7, 8, 9, 9, 4, 4, 7, 8, 8, 6, 3], dtype=np.float64)
"""G: where in the day practices leave places, hours 8 to 19: thin over noon and in the evening."""


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


def _draw(rng: np.random.Generator, shares: Mapping[str, float], size: int) -> list[str]:
    """Draw ``size`` keys of ``shares``, which are brought to a sum of 1."""
    names, weights = list(shares), np.array(list(shares.values()), dtype=np.float64)
    return [names[i] for i in rng.choice(len(names), size=size, p=weights / weights.sum()).tolist()]


def _spread_km(population: int) -> float:
    """G: typical distance of an address from the town hall, 0.3 km in a hamlet to 1.5 km in a large town."""
    return 0.3 + 1.2 * min(1.0, population / 40_000)


def _near(commune: CommuneRow, rng: np.random.Generator) -> tuple[float, float]:
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
        return ["MG", *_draw(rng, professions, size - 1)]
    main = _draw(rng, professions, 1)[0]
    if kind == "cds":
        others = zip(_draw(rng, professions, size - 1), rng.random(size - 1).tolist(), strict=True)
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
        lat, lon = _near(town, rng)
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


def _counts(world: World, cells: Ints, total: int, rng: np.random.Generator) -> Ints:
    """Places per professional: uneven between structures and inside them, never more than his ``cells``."""
    if total > cells.sum():
        raise ValueError(f"Expected at most {int(cells.sum())} slots for these professionals and hours.")
    shared = rng.gamma(3.0, size=len(world.structures))  # G: colleagues resemble each other
    weights = shared[[p.workplace for p in world.professionals]] * rng.gamma(2.0, size=cells.size)
    counts = np.zeros(cells.size, dtype=np.int64)
    while (missing := total - int(counts.sum())) > 0:
        free = np.where(counts < cells, weights, 0.0)
        counts = np.minimum(counts + rng.multinomial(missing, free / free.sum()), cells)
    return counts


def _chosen_cells(counts: Ints, minutes: int, step: int, first_hour: int, rng: np.random.Generator) -> list[Ints]:
    """For each professional the cells of ``step`` minutes that he opens, in order: weighted, none twice."""
    cells = minutes // step
    hours = (first_hour + np.arange(cells) * step // 60) % 24
    inside = (hours >= 8) & (hours < 20)
    weights = np.where(inside, _HOUR_WEIGHT[np.clip(hours - 8, 0, 11)], 2.0)
    ranks = np.argsort(rng.exponential(size=(counts.size, cells)) / weights, axis=1)
    return [np.sort(row[:n]) for row, n in zip(ranks, counts.tolist(), strict=True)]


def _modes(professionals: Sequence[Professional], rng: np.random.Generator) -> list[str]:
    """Draw the mode of one place of each; SOS Médecins mostly visits, dentists do neither visit nor tele."""
    visits = VISITE_SHARE - SOURCES["sos"] * 0.6
    modes = []
    for professional, u in zip(professionals, rng.random(len(professionals)).tolist(), strict=True):
        if professional.source_kind == "sos":
            modes.append("visite" if u < 0.6 else "cabinet")
        elif professional.profession in _VISITE and u < visits / 0.86:
            modes.append("visite")
        elif professional.profession in _TELE and u > 1.0 - TELE_SHARE / 0.85:
            modes.append("tele")
        else:
            modes.append("cabinet")
    return modes


def _fragments(world: World) -> tuple[list[Json], list[Json], list[Json]]:
    """JSON of each professional, structure and address, shared by all their slots."""
    people = [{"rpps": p.rpps, "name": p.name} for p in world.professionals]
    structures = [{"finess": s.finess, "kind": s.kind, "name": s.name} for s in world.structures]
    locations = [
        {
            "lat": s.lat,
            "lon": s.lon,
            "insee": world.communes[s.commune].code,
            "label": s.name,
            "phone": s.phone,
        }
        for s in world.structures
    ]
    return people, structures, locations


def slots_of_day(
    world: World,
    day: date,
    rng: np.random.Generator,
    *,
    slots: int | None = None,
    hours: Hours | None = None,
) -> list[Json]:
    """Draw the places of a day as items of ``POST /v1/slots``, ordered by start.

    Places of one professional do not overlap, plages apart. Individual places last 15 or 20 minutes; a tenth
    are plages for 2 to 8 patients, which centres and SOS Médecins publish without a name. Nested objects are
    shared between slots: read them, do not change them. ``external_id`` holds commune, day and number: a
    second draw of the same day has the same ids.

    Args:
        world: From ``build_world``.
        day: Local date in every territory.
        rng: Source of chance.
        slots: How many; default 1.5 per professional, fewer on Saturdays.
        hours: Local opening and closing hour (0 to 24) instead of the SAS hours; needed to get places on a
            Sunday, a public holiday or at night.

    Returns:
        Slots; empty outside SAS hours.

    Raises:
        ValueError: If ``slots`` does not fit into the hours.
    """
    window = hours or sas_hours(day)
    if window is None:
        return []
    if slots is None:
        share = SATURDAY_SHARE if day.weekday() == 5 else 1.0
        slots = round(SLOTS_PER_PROFESSIONAL * share * len(world.professionals))
    of = [world.communes[world.structures[p.workplace].commune].territory for p in world.professionals]
    groups: dict[tuple[str, int], list[int]] = {}
    for index, professional in enumerate(world.professionals):
        zone = world.territories[of[index]].timezone
        groups.setdefault((zone, professional.minutes), []).append(index)
    opened = {zone: opening(day, window, zone) for zone, _ in groups}
    cells = np.zeros(len(world.professionals), dtype=np.int64)
    for (zone, step), members in groups.items():
        cells[members] = opened[zone][1] // step
    counts = _counts(world, cells, slots, rng)
    drawn: list[tuple[datetime, Json]] = []
    fragments = _fragments(world)
    for (zone, step), members in groups.items():
        start, minutes = opened[zone]
        texts = local_texts(start, minutes, _GRID_MIN, zone)
        active = [i for i in members if counts[i] > 0]
        chosen = _chosen_cells(counts[active], minutes, step, window[0], rng)
        owners = [i for i, row in zip(active, chosen, strict=True) for _ in row]
        begins = (np.concatenate(chosen) * step).tolist() if chosen else []
        instants = [start + timedelta(minutes=m) for m in range(0, minutes, _GRID_MIN)]
        bodies = _bodies(world, owners, begins, minutes, texts, fragments, rng)
        drawn.extend((instants[m // _GRID_MIN], body) for m, body in zip(begins, bodies, strict=True))
    drawn.sort(key=lambda pair: pair[0])
    for number, (_, body) in enumerate(drawn):
        insee = body["location"]["insee"]
        body["external_id"] = f"fictif-{insee}-{day:%Y%m%d}-{number:06d}"
    return [body for _, body in drawn]


def _bodies(
    world: World,
    owners: Sequence[int],
    begins: Sequence[int],
    closing: int,
    texts: Sequence[str],
    fragments: tuple[list[Json], list[Json], list[Json]],
    rng: np.random.Generator,
) -> list[Json]:
    """Slots of ``owners`` beginning ``begins`` minutes after opening; ``closing`` is the last end."""
    people, structures, locations = fragments
    professionals = [world.professionals[i] for i in owners]
    modes = _modes(professionals, rng)
    plage = (rng.random(len(owners)) < PLAGE_SHARE).tolist()
    capacity = rng.integers(2, 9, size=len(owners)).tolist()
    visibility = _draw(rng, {"snp": 0.60, "public": 0.25, "pro": 0.15}, len(owners))  # G
    bodies = []
    for k, (owner, p) in enumerate(zip(owners, professionals, strict=True)):
        begin, seats, length = begins[k], 1, p.minutes
        if plage[k]:
            seats = min(capacity[k], (closing - begin) // p.minutes)
            length = seats * p.minutes
        unnamed = seats > 1 and p.source_kind in ("cds", "sos")
        bodies.append(
            {
                "external_id": "",
                "professional": None if unnamed else people[owner],
                "structure": None if p.publisher is None else structures[p.publisher],
                "source_kind": p.source_kind,
                "location": locations[p.workplace],
                "start": texts[begin // _GRID_MIN],
                "end": texts[(begin + length) // _GRID_MIN],
                "capacity": seats,
                "mode": modes[k],
                "booking_kind": "walkin" if seats > 1 else "routine",
                "profession": p.profession,
                "specialty": p.specialty,
                "offers": list(p.offers),
                "visibility": "cpts" if p.source_kind == "cpts" and visibility[k] != "snp" else visibility[k],
            }
        )
    return bodies


def openings(slots: Sequence[Json], rng: np.random.Generator) -> list[datetime]:
    """Draw the instant (UTC) at which each place is published, always before its start.

    20 % (``LATE_LAST``) between 10 min and 2 h before the start; 30 % (``LATE_MORNING``) the same morning, in
    the 90 minutes up to 9 h local or up to 10 min before the start; the others 12 to 36 h before.
    """
    kinds, shifts = rng.random(len(slots)).tolist(), rng.random(len(slots)).tolist()
    result = []
    for slot, kind, u in zip(slots, kinds, shifts, strict=True):
        start = datetime.fromisoformat(slot["start"])
        if kind < LATE_LAST:
            at = start - timedelta(minutes=10 + 110 * u)
        elif kind < LATE_LAST + LATE_MORNING:
            at = min(start - timedelta(minutes=10), start.replace(hour=9, minute=0)) - timedelta(minutes=90 * u)
        else:
            at = start - timedelta(hours=12 + 24 * u)
        result.append(at.astimezone(UTC))
    return result


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
    if profession in _VISITE and u < model.visite:
        return ["visite"]
    if profession in _TELE and u > 1.0 - model.tele:
        return ["tele", "cabinet"]
    return ["cabinet", "tele"] if profession in _TELE and rng.random() < 0.3 else ["cabinet"]


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
    profession, tier = _draw(rng, model.professions, 1)[0], _draw(rng, model.tiers, 1)[0]
    delays = DELAYS[tier]
    age_band = _age_band(profession, model, rng)
    place: Json = {"insee": commune.code}
    if rng.random() < model.with_coordinates:
        lat, lon = _near(commune, rng)
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
