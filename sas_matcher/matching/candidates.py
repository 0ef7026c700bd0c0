"""From a request and the live places to its candidates: every place that it could be given, with its cost.

Pure but for reading the market. Times in epoch seconds, costs in tenths of a minute.
"""

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from sas_matcher.domain.vocabulary import Mode, Tier
from sas_matcher.matching.limits import Under
from sas_matcher.matching.market import KM_PER_DEGREE, SLACK, Floats, Ints, Market, Partition
from sas_matcher.matching.sharing import URGENT, kept, lent
from sas_matcher.matching.terms import TIER_RANK, UNITS_PER_MIN, Terms
from sas_matcher.travel import haversine_km, travel_min
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


def _rows(
    market: Market,
    part: Partition,
    request: OpenRequest,
    meeting: npt.NDArray[np.bool_] | None,
    now: float,
    reach_km: float,
    mt: int,
    *,
    tele: bool,
    full: bool,
) -> Ints:
    """Rows of a partition that pass every filter but distance and lead; the cheap box test comes first."""
    # the ledger gives no seat that begins in this very instant
    first = max(math.floor(now) + 1, math.ceil(request.created_at))
    window = part.window(first, math.floor(request.deadline))
    if window.start >= window.stop:
        return np.empty(0, np.intp)
    keep = np.ones(window.stop - window.start, np.bool_) if full else part.column("left")[window] > 0
    if meeting is not None:
        keep &= meeting[part.column("offers")[window]]
    if request.specialty is not None:
        keep &= part.column("specialty")[window] == market.specialties.known(request.specialty)
    if not tele:
        keep &= np.abs(part.column("lat")[window] - request.lat) <= SLACK * reach_km / KM_PER_DEGREE
        keep &= part.column("landmass")[window] == request.landmass
    own = part.column("own")[window]
    if own.any():
        # its practice lets only its own patients have it for now; a seat that was promised stays promised
        keep &= ~own | (part.column("professional")[window] == mt)
        keep |= own & (part.column("slot_id")[window] == (request.promised or 0))
    rows: Ints = keep.nonzero()[0] + window.start
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
    tier = terms.tiers[request.tier]
    mt = market.professionals.known(request.mt) if request.mt is not None else -2
    meeting = market.offers.meeting(request.needs) if request.needs else None
    parts: list[tuple[Partition, Ints]] = []
    away = 0  # rows with a distance; those without come last
    reach = max(request.radius_km, terms.borrow_km) if terms.borrow else request.radius_km
    for mode in sorted(set(request.modes), key=Mode.TELE.__eq__):
        tele = mode == Mode.TELE
        for part in market.near(request.profession, mode, request.lat, request.lon, reach):
            rows = _rows(market, part, request, meeting, now, reach, mt, tele=tele, full=full)
            if rows.size:
                parts.append((part, rows))
                away += 0 if tele else rows.size

    def column(name: str) -> npt.NDArray[Any]:
        columns = [part.column(name)[rows] for part, rows in parts]
        if len(columns) == 1:
            return columns[0]
        return np.concatenate(columns) if columns else np.empty(0, np.int64)

    start = column("start")
    km, travel = np.zeros(start.size), np.zeros(start.size)
    km[:away] = haversine_km(request.lat, request.lon, column("lat")[:away], column("lon")[:away])
    travel[:away] = travel_min(km[:away], terms.base_min, terms.min_per_km)
    # télé has no distance, which is within any radius
    near = km <= request.radius_km
    if terms.borrow:
        near |= (km <= terms.borrow_km) & lent(market, column("slot_id"), column("site"), terms.borrow)
    fit = (near & (start - now >= 60 * travel)).nonzero()[0]
    under = None
    if market.limits:
        under = Under(market.limits, column("limits")[fit], request.child)
        if not full:
            open_ones = (~under.reached()).nonzero()[0]
            fit, under = fit[open_ones], under.taken(open_ones)
    start, km, travel = start[fit], km[fit], travel[fit]
    professional = column("professional")[fit]
    is_mt = professional == mt
    # where the territory wants it, nobody else is proposed while the médecin traitant has a place in time
    allowed = is_mt if terms.mt_first and is_mt.any() else np.ones(is_mt.size, np.bool_)
    wait_min = (start - request.created_at) / 60
    minutes = travel + tier.wait_weight * wait_min - terms.mt_bonus_min * is_mt
    if terms.tele_bonus_min:
        minutes = minutes - terms.tele_bonus_min * (fit >= away)
    load = None
    if terms.fair_load_min and not full:
        load = market.loads([part for part, _ in parts], now)[professional]
        minutes = minutes + terms.fair_load_min * load
    by_source = market.doubts()
    doubt = None if by_source is None else by_source[column("source")[fit]]
    if doubt is not None:
        minutes = minutes + doubt
    cost = np.rint(UNITS_PER_MIN * minutes).astype(np.int64)
    return Candidates(
        slot_id=column("slot_id")[fit],
        key=column("key")[fit].astype(np.uint64),
        start=start,
        km=km,
        travel_min=travel,
        is_mt=is_mt,
        cost=cost,
        left=column("left")[fit].astype(np.int64),
        allowed=allowed,
        picked=short_list(cost, allowed),
        worth=terms.worth(request.tier, now - request.created_at),
        professional=professional,
        until=column("until")[fit],
        tele=fit >= away,
        under=under,
        load=load,
        doubt_min=doubt,
    )


def short_list(cost: Ints, among: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp]:
    """Return the rows to list first: the CHEAPEST of those ``among``, in order, then some of the others."""
    rows = among.nonzero()[0]
    return rows[spread_selection(cost[rows], cheapest=CHEAPEST, spread=SPREAD)]
