"""From a request and the live places to its candidates: every place that it could be given, with its cost.

Pure but for reading the market. Times in epoch seconds, costs in tenths of a minute.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

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


def _fitting(
    market: Market, table: Rows, request: OpenRequest, now: float, box: Box | None, mt: int, *, full: bool
) -> Ints:
    """Return the rows that pass every filter but distance and lead; without a box, distance does not matter."""
    keep = np.ones(len(table), np.bool_) if full else table.column("left") > 0
    if box is not None:
        # the box cuts most, and compares faster than anything is gathered
        lat, lon = table.column("lat"), table.column("lon")
        keep &= lat >= box.south
        keep &= lat <= box.north
        keep &= lon >= box.west
        keep &= lon <= box.east
        keep &= table.column("landmass") == request.landmass
    if request.specialty is not None:
        keep &= table.column("specialty") == market.specialties.known(request.specialty)
    rows: Ints = keep.nonzero()[0]
    if request.needs:
        rows = rows[market.offers.meeting(request.needs)[table.column("offers")[rows]]]
    own = table.column("own")
    if np.count_nonzero(own):
        # its practice lets only its own patients have it for now; a seat that was promised stays promised
        keep = own & (table.column("slot_id") == (request.promised or 0))
        keep[rows[~own[rows] | (table.column("professional")[rows] == mt)]] = True
        rows = keep.nonzero()[0]
    if request.not_slots:
        rows = rows[~np.isin(table.column("slot_id")[rows], list(request.not_slots))]
    if request.not_professionals:
        banned = [market.professionals.known(name) for name in request.not_professionals]
        rows = rows[~np.isin(table.column("professional")[rows], banned)]
    if market.reserves and TIER_RANK[request.tier] > URGENT:
        # a seat that was promised stays promised, whatever is kept since
        for_urgent = kept(market, table.taken(rows), now)
        rows = rows[~for_urgent | (table.column("slot_id")[rows] == request.promised)]
    return rows


def _in_reach(
    market: Market, table: Rows, rows: Ints, request: OpenRequest, radius_km: float, now: float, terms: Terms
) -> tuple[Rows, Floats, Floats]:
    """Return those of some rows that the patient can be at in time, with their distance (km) and travel (min)."""
    if not rows.size:
        return Rows([]), np.empty(0), np.empty(0)
    km = haversine_km(request.lat, request.lon, table.column("lat")[rows], table.column("lon")[rows])
    travel = travel_min(km, terms.base_min, terms.min_per_km)
    near = km <= radius_km
    if terms.borrow:
        slot_ids, sites = table.column("slot_id")[rows], table.column("site")[rows]
        near |= (km <= terms.borrow_km) & lent(market, slot_ids, sites, terms.borrow)
    fit = (near & (table.column("start")[rows] - now >= 60 * travel)).nonzero()[0]
    return table.taken(rows[fit]), km[fit], travel[fit]


_NO_PLACES: Final[Mapping[str, Any]] = {
    **{name: np.empty(0, ROW[name]) for name in ("slot_id", "key", "start", "professional", "until")},
    **dict.fromkeys(("km", "travel_min"), np.empty(0)),
    **dict.fromkeys(("is_mt", "allowed", "tele"), np.empty(0, np.bool_)),
    **dict.fromkeys(("cost", "left"), np.empty(0, np.int64)),
    "picked": np.empty(0, np.intp),
}


def find_candidates(
    market: Market,
    request: OpenRequest,
    now: float,
    terms: Terms,
    *,
    full: bool = False,
    radius_km: float | None = None,
    deadline: float | None = None,
) -> Candidates:
    """Return every free place that the request could be given, firm, at the instant ``now``.

    With ``full`` also those without a free seat: the seats behind promises may still move. ``radius_km`` and
    ``deadline`` (epoch seconds) stand for the request's own.

    The eligibility is the day log's (*Feasibility*): profession, mode, needs ⊆ offers, distance ≤ radius unless
    téléconsultation, ``now < start ≤ deadline``, and ``start − now ≥ travel`` so that the patient can be there; plus
    specialty, landmass (no place across the sea) and what the request has declined.
    """
    mt = market.professionals.known(request.mt) if request.mt is not None else -2
    # the ledger gives no seat that begins in this very instant
    first = max(math.floor(now) + 1, math.ceil(request.created_at))
    last = math.floor(request.deadline if deadline is None else deadline)
    away: list[tuple[Partition, slice]] = []
    online: list[tuple[Partition, slice]] = []
    visited: list[Partition] = []
    radius = request.radius_km if radius_km is None else radius_km
    reach = max(radius, terms.borrow_km) if terms.borrow else radius
    box = box_around(request.lat, request.lon, reach)
    # sorted, so that equal costs go the same way everywhere
    for mode in sorted(set(request.modes)):
        for part in market.near(request.profession, mode, request.lat, request.lon, reach):
            visited.append(part)
            window = part.window(first, last)
            if window.start < window.stop:
                (online if mode == Mode.TELE else away).append((part, window))
    places, km, travel = Rows(away), np.empty(0), np.empty(0)
    if away:
        fitting = _fitting(market, places, request, now, box, mt, full=full)
        places, km, travel = _in_reach(market, places, fitting, request, radius, now, terms)
    tele = np.zeros(km.size, np.bool_)
    if online:
        # no distance, which is within any radius, and nowhere to go in time
        table = Rows(online)
        video = table.taken(_fitting(market, table, request, now, None, mt, full=full))
        places = Rows([*places.parts, *video.parts])
        nowhere = np.zeros(len(video))
        km, travel = np.concatenate((km, nowhere)), np.concatenate((travel, nowhere))
        tele = np.concatenate((tele, np.ones(len(video), np.bool_)))
    worth = terms.worth(request.tier, now - request.created_at)
    if not len(places):
        return Candidates(**_NO_PLACES, worth=worth)
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
        worth=worth,
        professional=professional,
        until=places.column("until"),
        tele=tele,
        under=under,
        load=load,
        doubt_min=doubt,
    )


def short_list(cost: Ints, among: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp]:
    """Return the rows to list first: the CHEAPEST of those ``among``, in order, then some of the others."""
    if np.count_nonzero(among) == among.size:
        return spread_selection(cost, cheapest=CHEAPEST, spread=SPREAD)
    rows = among.nonzero()[0]
    return rows[spread_selection(cost[rows], cheapest=CHEAPEST, spread=SPREAD)]
