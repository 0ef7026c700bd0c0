"""From a request and the live places to its candidates: every place that it could be given, with its cost.

Pure but for reading the market. Times in epoch seconds, costs in tenths of a minute.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from sas_matcher.domain.vocabulary import Mode, Tier
from sas_matcher.matching.limits import Under
from sas_matcher.matching.market import Market
from sas_matcher.matching.partitions import ROW, Floats, Ints, Partition
from sas_matcher.matching.sharing import URGENT, kept, lent
from sas_matcher.matching.terms import TIER_RANK, UNITS_PER_MIN, Terms
from sas_matcher.travel import Box, box_around, haversine_km, travel_min
from solver import spread_selection

CHEAPEST: Final = 16  # with SPREAD: served 2 976 of 2 976 in the study's burst, 32 cheapest only 2 369
SPREAD: Final = 16


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


class _Rows:
    """Rows of several partitions, read as one table; only the columns that are asked for are gathered."""

    def __init__(self, parts: Sequence[tuple[Partition, Ints]]) -> None:
        self.parts = parts

    def __len__(self) -> int:
        return sum(rows.size for _, rows in self.parts)

    def column(self, name: str) -> npt.NDArray[Any]:
        """Return a column of all rows."""
        columns = [part.column(name)[rows] for part, rows in self.parts]
        if len(columns) == 1:
            return columns[0]
        return np.concatenate(columns) if columns else np.empty(0, ROW[name])

    def taken(self, kept: Ints) -> "_Rows":
        """Return some of the rows, by their numbers, ascending."""
        if len(self.parts) == 1:
            part, rows = self.parts[0]
            return _Rows([(part, rows[kept])])
        parts, first, low = [], 0, 0
        for part, rows in self.parts:
            end = first + rows.size
            high = int(kept.searchsorted(end))
            if high > low:
                parts.append((part, rows[kept[low:high] - first]))
            first, low = end, high
        return _Rows(parts)


def _in_reach(
    market: Market, rows: _Rows, request: OpenRequest, now: float, terms: Terms
) -> tuple[_Rows, Floats, Floats]:
    """Return the rows that the patient can be at in time, with their distance (km) and travel (min)."""
    if not rows.parts:
        return rows, np.empty(0), np.empty(0)
    km = haversine_km(request.lat, request.lon, rows.column("lat"), rows.column("lon"))
    travel = travel_min(km, terms.base_min, terms.min_per_km)
    near = km <= request.radius_km
    if terms.borrow:
        near |= (km <= terms.borrow_km) & lent(market, rows.column("slot_id"), rows.column("site"), terms.borrow)
    fit = (near & (rows.column("start") - now >= 60 * travel)).nonzero()[0]
    return rows.taken(fit), km[fit], travel[fit]


def _rows(
    market: Market,
    part: Partition,
    request: OpenRequest,
    meeting: npt.NDArray[np.bool_] | None,
    now: float,
    box: Box | None,
    mt: int,
    *,
    full: bool,
) -> Ints:
    """Rows of a partition that pass every filter but distance and lead; without a box, distance does not matter."""
    # the ledger gives no seat that begins in this very instant
    first = max(math.floor(now) + 1, math.ceil(request.created_at))
    window = part.window(first, math.floor(request.deadline))
    if window.start >= window.stop:
        return np.empty(0, np.intp)
    keep = np.ones(window.stop - window.start, np.bool_) if full else part.column("left")[window] > 0
    if box is not None:
        # the box cuts most, and compares faster than anything is gathered
        lat, lon = part.column("lat")[window], part.column("lon")[window]
        keep &= lat >= box.south
        keep &= lat <= box.north
        keep &= lon >= box.west
        keep &= lon <= box.east
        keep &= part.column("landmass")[window] == request.landmass
    if request.specialty is not None:
        keep &= part.column("specialty")[window] == market.specialties.known(request.specialty)
    rows: Ints = keep.nonzero()[0] + window.start
    if meeting is not None:
        rows = rows[meeting[part.column("offers")[rows]]]
    own = part.column("own")[window]
    if own.any():
        # its practice lets only its own patients have it for now; a seat that was promised stays promised
        keep = own & (part.column("slot_id")[window] == (request.promised or 0))
        keep[rows[~part.column("own")[rows] | (part.column("professional")[rows] == mt)] - window.start] = True
        rows = keep.nonzero()[0] + window.start
    if request.not_slots and rows.size:
        rows = rows[~np.isin(part.column("slot_id")[rows], list(request.not_slots))]
    if request.not_professionals and rows.size:
        banned = [market.professionals.known(name) for name in request.not_professionals]
        rows = rows[~np.isin(part.column("professional")[rows], banned)]
    if market.reserves and TIER_RANK[request.tier] > URGENT and rows.size:
        # a seat that was promised stays promised, whatever is kept since
        rows = rows[~kept(market, part, rows, now) | (part.column("slot_id")[rows] == request.promised)]
    return rows


def find_candidates(
    market: Market, request: OpenRequest, now: float, terms: Terms, *, full: bool = False
) -> Candidates:
    """Return every free place that the request could be given, firm, at the instant ``now``.

    With ``full`` also those without a free seat: the seats behind promises may still move.

    The eligibility is the day log's (*Feasibility*): profession, mode, needs ⊆ offers, distance ≤ radius unless
    téléconsultation, ``now < start ≤ deadline``, and ``start − now ≥ travel`` so that the patient can be there; plus
    specialty, landmass (no place across the sea) and what the request has declined.
    """
    mt = market.professionals.known(request.mt) if request.mt is not None else -2
    meeting = market.offers.meeting(request.needs) if request.needs else None
    away: list[tuple[Partition, Ints]] = []
    online: list[tuple[Partition, Ints]] = []
    visited: list[Partition] = []
    reach = max(request.radius_km, terms.borrow_km) if terms.borrow else request.radius_km
    box = box_around(request.lat, request.lon, reach)
    # sorted, so that equal costs go the same way everywhere
    for mode in sorted(set(request.modes)):
        video = mode == Mode.TELE
        for part in market.near(request.profession, mode, request.lat, request.lon, reach):
            visited.append(part)
            rows = _rows(market, part, request, meeting, now, None if video else box, mt, full=full)
            if rows.size:
                (online if video else away).append((part, rows))
    places, km, travel = _in_reach(market, _Rows(away), request, now, terms)
    tele = np.zeros(km.size, np.bool_)
    if online:
        # no distance, which is within any radius, and nowhere to go in time
        places = _Rows([*places.parts, *online])
        nowhere = np.zeros(len(places) - km.size)
        km, travel = np.concatenate((km, nowhere)), np.concatenate((travel, nowhere))
        tele = np.concatenate((tele, nowhere == 0))
    under = None
    if market.limits:
        under = Under(market.limits, places.column("limits"), request.child)
        if not full:
            open_ones = (~under.reached()).nonzero()[0]
            places, under = places.taken(open_ones), under.taken(open_ones)
            km, travel, tele = km[open_ones], travel[open_ones], tele[open_ones]
    start, professional = places.column("start"), places.column("professional")
    wait_min = (start - request.created_at) / 60
    minutes = travel + terms.tiers[request.tier].wait_weight * wait_min
    is_mt, allowed = np.zeros(start.size, np.bool_), np.ones(start.size, np.bool_)
    if mt >= 0:
        is_mt = professional == mt
        minutes = minutes - terms.mt_bonus_min * is_mt
        if terms.mt_first and is_mt.any():
            # where the territory wants it, nobody else is proposed while the médecin traitant has a place in time
            allowed = is_mt
    if terms.tele_bonus_min:
        minutes = minutes - terms.tele_bonus_min * tele
    load = None
    if terms.fair_load_min and not full:
        load = market.loads(visited, now)[professional]
        minutes = minutes + terms.fair_load_min * load
    by_source = market.doubts()
    doubt = None if by_source is None else by_source[places.column("source")]
    if doubt is not None:
        minutes = minutes + doubt
    cost = np.rint(UNITS_PER_MIN * minutes).astype(np.int64)
    return Candidates(
        slot_id=places.column("slot_id"),
        key=places.column("key"),
        start=start,
        km=km,
        travel_min=travel,
        is_mt=is_mt,
        cost=cost,
        left=places.column("left").astype(np.int64),
        allowed=allowed,
        picked=short_list(cost, allowed),
        worth=terms.worth(request.tier, now - request.created_at),
        professional=professional,
        until=places.column("until"),
        tele=tele,
        under=under,
        load=load,
        doubt_min=doubt,
    )


def short_list(cost: Ints, among: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp]:
    """Return the rows to list first: the CHEAPEST of those ``among``, in order, then some of the others."""
    if among.all():
        return spread_selection(cost, cheapest=CHEAPEST, spread=SPREAD)
    rows = among.nonzero()[0]
    return rows[spread_selection(cost[rows], cheapest=CHEAPEST, spread=SPREAD)]
