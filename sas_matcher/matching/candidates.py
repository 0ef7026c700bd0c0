"""From a request and the live places to its candidates: every place that it could be given, with its cost.

Pure but for reading the market. Times in epoch seconds, costs in tenths of a minute.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from sas_matcher.domain.vocabulary import Mode, Tier
from sas_matcher.matching.limits import Under
from sas_matcher.matching.market import Market
from sas_matcher.matching.partitions import ROW, Floats, Ints, Partition, Rows
from sas_matcher.matching.sharing import URGENT, kept, lent
from sas_matcher.matching.terms import TIER_RANK, UNITS_PER_MIN, Terms
from sas_matcher.travel import Box, box_around, haversine_km, travel_min
from solver import spread_selection

CHEAPEST: Final = 16  # with SPREAD: served 2 976 of 2 976 in the study's burst, 32 cheapest only 2 369
SPREAD: Final = 16
FEW: Final = 8_000  # rows up to which requests are looked for together: of more, numpy's calls are no more the cost
ANY: Final = -3  # no specialty is asked for: −1 is the number of who has none, −2 of one that nobody has


@dataclass(frozen=True, slots=True)
class OpenRequest:
    """A request as matching sees it. Times in epoch seconds; ``lat``/``lon`` already rounded at the door."""

    id: str
    key: int
    territory: str
    lat: float
    lon: float
    landmass: int
    profession: str
    specialty: str | None
    modes: tuple[str, ...]
    tier: Tier
    created_at: float
    deadline: float
    radius_km: float
    needs: tuple[str, ...]
    mt: str | None
    version: int
    not_slots: frozenset[int] = frozenset()
    not_professionals: frozenset[str] = frozenset()
    # the slot behind its promise, and whether it ever had one
    promised: int | None = None
    was_promised: bool = False
    # whether limits on children count it
    child: bool = False
    # the radius that was asked for, where its territory widens it
    asked_km: float | None = None
    # where the médecin traitant goes first: what came of it (see ``explain.MT_TEXT``), and until when he is waited for
    mt_said: str | None = None
    mt_until: float | None = None


@dataclass(frozen=True, slots=True)
class Candidates:
    """Feasible free places of one request, all of them, as parallel arrays (n rows, unordered).

    ``travel_min`` is 0 for téléconsultation; ``cost`` in tenths of a minute; ``allowed`` marks the rows that may be
    picked without being asked for (all, or the médecin traitant's only); ``picked`` holds the rows listed for the
    solve: the CHEAPEST in order, then SPREAD, then more where ``Bids.lengthen`` finds that the rest may help.
    """

    slot_id: Ints
    key: npt.NDArray[np.uint64]
    start: Ints
    km: Floats
    travel_min: Floats
    is_mt: npt.NDArray[np.bool_]
    cost: Ints
    left: Ints
    allowed: npt.NDArray[np.bool_]
    picked: npt.NDArray[np.intp]
    # what serving the request is worth now, tenths of a minute
    worth: int
    # who receives, and until when he sees nobody else
    professional: Ints
    until: Ints
    # which are consultations by video
    tele: npt.NDArray[np.bool_]
    # what limits of practices count this request, where there are any
    under: Under | None = None
    # patients whom each one's professional has already, where loads are spread
    load: Ints | None = None
    # minutes in ``cost`` for places that their source shows and may not have, where any source is doubted
    doubt_min: Floats | None = None

    def __len__(self) -> int:
        return len(self.slot_id)

    @property
    def free(self) -> npt.NDArray[np.bool_]:
        """Which rows have a seat for the request: one is left, and no limit of its practice is reached."""
        free = self.left > 0
        return free if self.under is None else free & ~self.under.reached()


class Asking(NamedTuple):
    """What is looked for: places for a request, by the terms of its territory.

    ``radius_km`` and ``deadline`` (epoch seconds) are the request's own, or what they might be instead.
    """

    request: OpenRequest
    terms: Terms
    radius_km: float
    deadline: float

    @classmethod
    def of(cls, request: OpenRequest, terms: Terms) -> "Asking":
        """Ask for a request as it is."""
        return cls(request, terms, request.radius_km, request.deadline)


Windows: TypeAlias = list[tuple[Partition, slice]]


class _Wanted(NamedTuple):
    """Where to look for one request, which may have so many places: away, and by video; ``mt`` is −2 for nobody."""

    request: OpenRequest
    terms: Terms
    radius_km: float
    box: Box
    mt: int
    away: Windows
    online: Windows
    visited: list[Partition]
    size: int


def _wanted(market: Market, asking: Asking, now: float) -> _Wanted:
    request, terms, radius_km, deadline = asking
    # the ledger gives no seat that begins in this very instant
    first, last = max(math.floor(now) + 1, math.ceil(request.created_at)), math.floor(deadline)
    away: Windows = []
    online: Windows = []
    visited: list[Partition] = []
    size = 0
    reach = max(radius_km, terms.borrow_km) if terms.borrow else radius_km
    box = box_around(request.lat, request.lon, reach)
    # sorted, so that equal costs go the same way everywhere
    for mode in sorted(set(request.modes)):
        for part in market.within(request.profession, mode, box):
            visited.append(part)
            window = part.window(first, last)
            if window.start < window.stop:
                (online if mode == Mode.TELE else away).append((part, window))
                size += window.stop - window.start
    mt = market.professionals.known(request.mt) if request.mt is not None else -2
    return _Wanted(request, terms, radius_km, box, mt, away, online, visited, size)


Whose: TypeAlias = Ints | None
"""The number of each row's request in a group; None where there is one only, whose are all."""


def _each(values: Sequence[Any], whose: Whose) -> Any:
    """Return for each row the value of whose it is; for one request alone its value: numpy spreads it by itself."""
    return values[0] if whose is None else np.array(values)[whose]


def _some(whose: Whose, rows: Ints) -> Whose:
    return None if whose is None else whose[rows]


class _Table(Rows):
    """Windows of a group of requests as one table."""

    def __init__(self, windows: Sequence[Windows]) -> None:
        super().__init__([window for of_one in windows for window in of_one])
        self.whose: Whose = None
        if len(windows) > 1:
            sizes = [sum([rows.stop - rows.start for _, rows in of_one]) for of_one in windows]
            self.whose = np.repeat(np.arange(len(windows)), sizes)


def _fitting(market: Market, table: _Table, group: Sequence[_Wanted], now: float, *, away: bool, full: bool) -> Ints:
    """Return the rows that pass every filter but distance and lead; where one is not ``away`` distance is none."""
    if not len(table):
        return np.empty(0, np.intp)
    requests, whose = [one.request for one in group], table.whose
    keep = np.ones(len(table), np.bool_) if full else table.column("left") > 0
    if away:
        # the box cuts most, and compares faster than anything is gathered
        south, north, west, east = (_each(edges, whose) for edges in zip(*(one.box for one in group), strict=True))
        lat, lon = table.column("lat"), table.column("lon")
        keep &= lat >= south
        keep &= lat <= north
        keep &= lon >= west
        keep &= lon <= east
        keep &= table.column("landmass") == _each([r.landmass for r in requests], whose)
    rows: Ints = keep.nonzero()[0]
    if any(r.specialty is not None for r in requests):
        numbers = [ANY if r.specialty is None else market.specialties.known(r.specialty) for r in requests]
        wanted = _each(numbers, _some(whose, rows))
        rows = rows[(wanted == ANY) | (table.column("specialty")[rows] == wanted)]
    if any(r.needs for r in requests):
        meeting, offers = [market.offers.meeting(r.needs) for r in requests], table.column("offers")[rows]
        rows = rows[meeting[0][offers] if whose is None else np.array(meeting)[whose[rows], offers]]
    own = table.column("own")
    if np.count_nonzero(own):
        # its practice lets only its own patients have it for now; a seat that was promised stays promised
        keep = own & (table.column("slot_id") == _each([r.promised or 0 for r in requests], whose))
        theirs = table.column("professional")[rows] == _each([one.mt for one in group], _some(whose, rows))
        keep[rows[~own[rows] | theirs]] = True
        rows = keep.nonzero()[0]
    for number, request in enumerate(requests):
        if request.not_slots or request.not_professionals:
            banned = [market.professionals.known(name) for name in request.not_professionals]
            declined = np.isin(table.column("slot_id")[rows], list(request.not_slots))
            declined |= np.isin(table.column("professional")[rows], banned)
            rows = rows[~declined if whose is None else ~declined | (whose[rows] != number)]
    if market.reserves and any(TIER_RANK[r.tier] > URGENT for r in requests):
        # a seat that was promised stays promised, whatever is kept since
        free = ~kept(market, table.taken(rows), now)
        free |= table.column("slot_id")[rows] == _each([r.promised or 0 for r in requests], _some(whose, rows))
        rows = rows[free | _each([TIER_RANK[r.tier] <= URGENT for r in requests], _some(whose, rows))]
    return rows


def _in_reach(
    market: Market, table: _Table, rows: Ints, group: Sequence[_Wanted], now: float
) -> tuple[Ints, Floats, Floats]:
    """Return those of some rows that the patient can be at in time, with their distance (km) and travel (min)."""
    if not rows.size:
        return rows, np.empty(0), np.empty(0)
    whose = _some(table.whose, rows)
    lat, lon = _each([one.request.lat for one in group], whose), _each([one.request.lon for one in group], whose)
    km = haversine_km(lat, lon, table.column("lat")[rows], table.column("lon")[rows])
    base_min = _each([one.terms.base_min for one in group], whose)
    travel = travel_min(km, base_min, _each([one.terms.min_per_km for one in group], whose))
    near = km <= _each([one.radius_km for one in group], whose)
    for number, one in enumerate(group):
        if one.terms.borrow:
            lend = lent(market, table.column("slot_id")[rows], table.column("site")[rows], one.terms.borrow)
            near |= lend & (km <= one.terms.borrow_km) & (True if whose is None else whose == number)
    fit = (near & (table.column("start")[rows] - now >= 60 * travel)).nonzero()[0]
    return rows[fit], km[fit], travel[fit]


_NO_PLACES: Final[Mapping[str, Any]] = {
    **{name: np.empty(0, ROW[name]) for name in ("slot_id", "key", "start", "professional", "until")},
    **dict.fromkeys(("km", "travel_min"), np.empty(0)),
    **dict.fromkeys(("is_mt", "allowed", "tele"), np.empty(0, np.bool_)),
    **dict.fromkeys(("cost", "left"), np.empty(0, np.int64)),
    "picked": np.empty(0, np.intp),
}


def find_candidates(
    market: Market, request: OpenRequest, now: float, terms: Terms, *, full: bool = False
) -> Candidates:
    """Return every free place that a request could be given, firm, at the instant ``now`` (see ``find_all``)."""
    return find_all(market, [Asking.of(request, terms)], now, full=full)[0]


def find_all(market: Market, asked: Sequence[Asking], now: float, *, full: bool = False) -> list[Candidates]:
    """Return for each of some requests every free place that it could be given, firm, at the instant ``now``.

    With ``full`` also those without a free seat: the seats behind promises may still move.

    The eligibility is the day log's (*Feasibility*): profession, mode, needs ⊆ offers, distance ≤ radius unless
    téléconsultation, ``now < start ≤ deadline``, and ``start − now ≥ travel`` so that the patient can be there; plus
    specialty, landmass (no place across the sea) and what the request has declined.

    What is found for one does not depend on the others: they are looked for together because numpy takes as long for
    the few hundred rows of one as for those of ten.
    """
    wanted = [_wanted(market, asking, now) for asking in asked]
    few = [one for one in wanted if one.size <= FEW]
    together = iter(_found(market, few, now, full=full) if few else ())
    return [next(together) if one.size <= FEW else _found(market, [one], now, full=full)[0] for one in wanted]


def _found(market: Market, group: Sequence[_Wanted], now: float, *, full: bool) -> list[Candidates]:
    """Find the places of some requests together."""
    here = _possible(market, group, now, full=full)
    places, whose, tele = here.places, here.whose, here.tele
    worth = [one.terms.worth(one.request.tier, now - one.request.created_at) for one in group]
    if not len(places):
        return [Candidates(**_NO_PLACES, worth=value) for value in worth]
    start, professional = places.column("start"), places.column("professional")
    bounds = [0, start.size] if whose is None else whose.searchsorted(np.arange(len(group) + 1)).tolist()
    slices = [slice(low, high) for low, high in pairwise(bounds)]
    wait_min = (start - _each([one.request.created_at for one in group], whose)) / 60
    minutes = here.travel + _each([one.terms.tiers[one.request.tier].wait_weight for one in group], whose) * wait_min
    is_mt, allowed = np.zeros(start.size, np.bool_), np.ones(start.size, np.bool_)
    if any(one.mt >= 0 for one in group):
        is_mt = professional == _each([one.mt for one in group], whose)
        minutes = minutes - _each([one.terms.mt_bonus_min for one in group], whose) * is_mt
        for one, mine in zip(group, slices, strict=True):
            if one.terms.mt_first and is_mt[mine].any():
                # where the territory wants it, nobody else is proposed while the médecin traitant has a place in time
                allowed[mine] = is_mt[mine]
    if any(one.terms.tele_bonus_min for one in group):
        minutes = minutes - _each([one.terms.tele_bonus_min for one in group], whose) * tele
    loads: list[Ints | None] = [None] * len(group)
    for number, (one, mine) in enumerate(zip(group, slices, strict=True)):
        if one.terms.fair_load_min and not full:
            load = loads[number] = market.loads(one.visited, now)[professional[mine]]
            minutes[mine] += one.terms.fair_load_min * load
    by_source = market.doubts()
    doubt = None if by_source is None else by_source[places.column("source")]
    if doubt is not None:
        minutes = minutes + doubt
    cost = np.rint(UNITS_PER_MIN * minutes).astype(np.int64)
    slot_id, key, until = places.column("slot_id"), places.column("key"), places.column("until")
    left, combos = places.column("left").astype(np.int64), places.column("limits") if market.limits else None
    found = []
    for one, mine, load_of_one, value in zip(group, slices, loads, worth, strict=True):
        if mine.start == mine.stop:
            found.append(Candidates(**_NO_PLACES, worth=value))
            continue
        found.append(
            Candidates(
                slot_id=slot_id[mine],
                key=key[mine],
                start=start[mine],
                km=here.km[mine],
                travel_min=here.travel[mine],
                is_mt=is_mt[mine],
                cost=cost[mine],
                left=left[mine],
                allowed=allowed[mine],
                picked=short_list(cost[mine], allowed[mine]),
                worth=value,
                professional=professional[mine],
                until=until[mine],
                tele=tele[mine],
                under=None if combos is None else Under(market.limits, combos[mine], one.request.child),
                load=load_of_one,
                doubt_min=None if doubt is None else doubt[mine],
            )
        )
    return found


class _Possible(NamedTuple):
    """Places that the requests of a group could be given, request by request: where, how far, and for whom."""

    places: Rows
    whose: Whose
    km: Floats
    travel: Floats
    tele: npt.NDArray[np.bool_]

    def taken(self, rows: Ints) -> "_Possible":
        """Return some of them, by their numbers."""
        whose = _some(self.whose, rows)
        return _Possible(self.places.taken(rows), whose, self.km[rows], self.travel[rows], self.tele[rows])


def _possible(market: Market, group: Sequence[_Wanted], now: float, *, full: bool) -> _Possible:
    """Look for places away, then by video."""
    away = _Table([one.away for one in group])
    fit, km, travel = _in_reach(market, away, _fitting(market, away, group, now, away=True, full=full), group, now)
    here = _Possible(away.taken(fit), _some(away.whose, fit), km, travel, np.zeros(fit.size, np.bool_))
    if any(one.online for one in group):
        # no distance, which is within any radius, and nowhere to go in time
        online = _Table([one.online for one in group])
        rows = _fitting(market, online, group, now, away=False, full=full)
        nowhere = np.zeros(rows.size)
        km, travel = np.concatenate((km, nowhere)), np.concatenate((travel, nowhere))
        tele = np.concatenate((here.tele, np.ones(rows.size, np.bool_)))
        here = _Possible(here.places.followed_by(online.taken(rows)), None, km, travel, tele)
        if away.whose is not None and online.whose is not None:
            whose = np.concatenate((away.whose[fit], online.whose[rows]))
            here = here._replace(whose=whose).taken(whose.argsort(kind="stable"))
    if market.limits and not full:
        combos, child = here.places.column("limits"), _each([one.request.child for one in group], here.whose)
        reached = np.where(child, *(Under(market.limits, combos, child=c).reached() for c in (True, False)))
        here = here.taken((~reached).nonzero()[0])
    return here


def short_list(cost: Ints, among: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp]:
    """Return the rows to list first: the CHEAPEST of those ``among``, in order, then some of the others."""
    if np.count_nonzero(among) == among.size:
        return spread_selection(cost, cheapest=CHEAPEST, spread=SPREAD)
    rows = among.nonzero()[0]
    return rows[spread_selection(cost[rows], cheapest=CHEAPEST, spread=SPREAD)]
