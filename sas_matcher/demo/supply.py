"""What the practices of the invented world publish in a day, and when they do; tags of numbers as in ``world``."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

import numpy as np

from sas_matcher.demo.calendar import local_texts, opening
from sas_matcher.demo.world import (
    AT_HOME,
    BY_TELE,
    SOURCES,
    TELE_SHARE,
    VISITE_SHARE,
    Ints,
    Json,
    Professional,
    World,
    draw,
)
from sas_matcher.domain.duty import Hours, sas_hours

SLOTS_PER_PROFESSIONAL = 1.5
"""D: 14 000 effectors offer 14 000 to 28 000 SAS places a day, 1 to 2 each."""

OPEN_MARKET_SLOTS = 285_000
"""D: places a day if 57 000 practitioners opened all theirs, 5 each (``build_world(participation=1)``)."""

PLAGE_SHARE = 0.10
"""G: share of places published as a range for several patients without individual times."""

SATURDAY_SHARE = 0.35
"""G: places of a Saturday morning (a third of the hours) against a weekday."""

LATE_MORNING, LATE_LAST = 0.30, 0.20
"""G: places opened the same morning, and less than 2 h before their start."""

_GRID_MIN = 5
"""Minutes between the instants that are prepared as text: consultations of 15 and of 20 both fall on them."""

_HOUR_WEIGHT = np.array([6, 7, 8, 9, 9, 4, 4, 7, 8, 8, 6, 3], dtype=np.float64)
"""G: where in the day practices leave places, hours 8 to 19: thin over noon and in the evening."""


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
        elif professional.profession in AT_HOME and u < visits / 0.86:
            modes.append("visite")
        elif professional.profession in BY_TELE and u > 1.0 - TELE_SHARE / 0.85:
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
    visibility = draw(rng, {"snp": 0.60, "public": 0.25, "pro": 0.15}, len(owners))  # G
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
