"""From open requests and live places to picks: candidates, one joint solve, what each pick was chosen over.

The order of the requests in a batch never matters: ties break on stable public ids (see ``solver``). Everything here is
synchronous and pure but for reading the market; the seats that a batch takes are written by the caller once the ledger
has said yes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from sas_matcher.domain.vocabulary import Mode, Tier
from sas_matcher.matching.market import KM_PER_DEGREE, Floats, Ints, Market, Partition
from sas_matcher.matching.terms import TIER_RANK, Terms
from sas_matcher.travel import haversine_km, travel_min
from solver import Plan, Problem, request_utilities, slot_prices, spread_selection

CHEAPEST: Final = 16  # with SPREAD: served 2 976 of 2 976 in the study's burst, 32 cheapest only 2 369
SPREAD: Final = 16
ADDED: Final = 32  # arcs added for each request and round: certified in 4 rounds at 1 000 × 10 000 in the study
ALTERNATIVES: Final = 4
UNITS_PER_MIN: Final = 10  # costs are tenths of a minute


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


@dataclass(frozen=True, slots=True)
class Candidates:
    """Feasible free places of one request, all of them, as parallel arrays (n rows, unordered).

    ``travel_min`` is 0 for téléconsultation; ``cost`` in tenths of a minute; ``allowed`` marks the rows that may be
    picked without being asked for (all, or the médecin traitant's only); ``picked`` holds the rows listed for the
    solve (CHEAPEST + SPREAD at first, more where ``widen`` finds that the rest may help).
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

    def __len__(self) -> int:
        return len(self.slot_id)


@dataclass(slots=True)
class Pick:
    """What the batch decided for one request: ``row`` into its candidates, or −1 for no place."""

    request: OpenRequest
    candidates: Candidates
    row: int
    method: str
    batch_size: int
    gap: int = 0
    alternatives: list[int] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)

    @property
    def slot_id(self) -> int | None:
        """The slot to claim."""
        return int(self.candidates.slot_id[self.row]) if self.row >= 0 else None


def _rows(market: Market, part: Partition, request: OpenRequest, need: int, now: float, tele: bool) -> Ints:
    """Rows of a partition that pass every filter but distance and lead; the cheap box test comes first."""
    window = part.window(int(max(now, request.created_at)), int(request.deadline))
    if window.start >= window.stop:
        return np.empty(0, np.intp)
    keep = part.column("left")[window] > 0
    if need:
        keep &= (part.column("offers")[window] & need) == need
    if request.specialty is not None:
        keep &= part.column("specialty")[window] == market.specialties.known(request.specialty)
    if not tele:
        reach = request.radius_km / KM_PER_DEGREE
        keep &= np.abs(part.column("lat")[window] - request.lat) <= reach
        keep &= part.column("landmass")[window] == request.landmass
    rows: Ints = np.flatnonzero(keep) + window.start
    if request.not_slots and rows.size:
        rows = rows[~np.isin(part.column("slot_id")[rows], list(request.not_slots))]
    if request.not_professionals and rows.size:
        banned = [market.professionals.known(name) for name in request.not_professionals]
        rows = rows[~np.isin(part.column("professional")[rows], banned)]
    return rows


def find_candidates(market: Market, request: OpenRequest, now: float, terms: Terms) -> Candidates:
    """Return every free place that the request could be given, firm, at the instant ``now``.

    The eligibility is the day log's (*Feasibility*): profession, mode, needs ⊆ offers, distance ≤ radius unless
    téléconsultation, ``now ≤ start ≤ deadline``, and ``start − now ≥ travel`` so that the patient can be there; plus
    specialty, landmass (no place across the sea) and what the request has declined.
    """
    tier = terms.tiers[request.tier]
    mt = market.professionals.known(request.mt) if request.mt is not None else -2
    need = market.need_mask(request.needs)
    parts: list[tuple[Partition, Ints, Floats]] = []
    for mode in request.modes if need is not None else ():
        tele = mode == Mode.TELE
        for part in market.near(request.profession, mode, request.lat, request.lon, request.radius_km):
            rows = _rows(market, part, request, need or 0, now, tele)
            if not rows.size:
                continue
            if tele:
                km = np.zeros(rows.size)
            else:
                km = haversine_km(request.lat, request.lon, part.column("lat")[rows], part.column("lon")[rows])
                inside = km <= request.radius_km
                rows, km = rows[inside], km[inside]
            travel = np.zeros(rows.size) if tele else travel_min(km, terms.base_min, terms.min_per_km)
            in_time = part.column("start")[rows] - now >= 60 * travel
            rows, km, travel = rows[in_time], km[in_time], travel[in_time]
            if rows.size:
                parts.append((part, rows, np.stack((km, travel))))
    if not parts:
        empty = np.empty(0, np.int64)
        none = np.empty(0)
        return Candidates(
            empty,
            empty.astype(np.uint64),
            empty,
            none,
            none,
            np.empty(0, np.bool_),
            empty,
            empty,
            np.empty(0, np.bool_),
            np.empty(0, np.intp),
        )

    def column(name: str) -> npt.NDArray[np.int64]:
        if len(parts) == 1:
            only: npt.NDArray[np.int64] = parts[0][0].column(name)[parts[0][1]]
            return only
        return np.concatenate([part.column(name)[rows] for part, rows, _ in parts])

    km, travel = np.concatenate([trip for _, _, trip in parts], axis=1)
    start = column("start")
    is_mt = column("professional") == mt
    # where the territory wants it, nobody else is proposed while the médecin traitant has a place in time
    allowed = is_mt if terms.mt_first and is_mt.any() else np.ones(is_mt.size, np.bool_)
    wait_min = (start - request.created_at) / 60
    minutes = travel + tier.wait_weight * wait_min - terms.mt_bonus_min * is_mt
    cost = np.rint(UNITS_PER_MIN * minutes).astype(np.int64)
    rows = np.flatnonzero(allowed)
    picked = rows[spread_selection(cost[rows], cheapest=CHEAPEST, spread=SPREAD)]
    return Candidates(
        slot_id=column("slot_id"),
        key=column("key").astype(np.uint64),
        start=start,
        km=km,
        travel_min=travel,
        is_mt=is_mt,
        cost=cost,
        left=column("left").astype(np.int64),
        allowed=allowed,
        picked=picked,
    )


def build_problem(requests: Sequence[OpenRequest], found: Sequence[Candidates], terms: Terms) -> tuple[Problem, Ints]:
    """Gather the listed candidates of all requests into one flow problem; also returns its slot ids, sorted."""
    counts = [len(c.picked) for c in found]
    slot_ids = np.concatenate([c.slot_id[c.picked] for c in found])
    unique, first, arc_slot = np.unique(slot_ids, return_index=True, return_inverse=True)
    lefts = np.concatenate([c.left[c.picked] for c in found])
    keys = np.concatenate([c.key[c.picked] for c in found])
    problem = Problem(
        arc_request=np.repeat(np.arange(len(requests), dtype=np.int32), counts),
        arc_slot=arc_slot.astype(np.int32),
        arc_cost=np.concatenate([c.cost[c.picked] for c in found]),
        penalty=np.array([terms.tiers[r.tier].value for r in requests], np.int64),
        rank=np.array([TIER_RANK[r.tier] for r in requests], np.int64),
        capacity=lefts[first],
        request_key=np.array([r.key for r in requests], np.uint64),
        slot_key=keys[first],
    )
    return problem, unique


def widen(problem: Problem, slot_ids: Ints, plan: Plan, found: Sequence[Candidates]) -> tuple[list[Candidates], int]:
    """Price every candidate left out of the solve; list those that might improve the plan.

    Everyone's cheapest places are the same places, so short lists lose requests in a burst (20 % in the matching
    study). At the slot prices of the plan, an omitted place helps only if its cost and price together are below what
    the request costs now; a place outside the problem is free.

    Returns:
        The candidates with longer lists, and the proven bound of what the plan may miss (tenths of a minute): 0 means
        that the plan is optimal over all feasible pairs, and that nothing was added.
    """
    prices = slot_prices(problem, plan)
    utilities = request_utilities(problem, prices).tolist()
    gap = 0
    wider = list(found)
    for number, candidates in enumerate(found):
        omitted = candidates.allowed.copy()
        omitted[candidates.picked] = False
        rows = np.flatnonzero(omitted & (candidates.cost < utilities[number]))
        if not rows.size:
            continue
        at = np.minimum(slot_ids.searchsorted(candidates.slot_id[rows]), len(slot_ids) - 1)
        price = np.where(slot_ids[at] == candidates.slot_id[rows], prices[at], 0)
        reduced = candidates.cost[rows] + price - utilities[number]
        helpful = reduced < 0
        if helpful.any():
            gap -= int(reduced.min())
            best = rows[helpful][np.argsort(reduced[helpful], kind="stable")[:ADDED]]
            wider[number] = replace(candidates, picked=np.concatenate((candidates.picked, best)))
    return wider, gap


def finish(requests: Sequence[OpenRequest], found: Sequence[Candidates], plan: Plan, gap: int) -> list[Pick]:
    """Read the plan and add to each pick the free alternatives of that instant and the reason codes."""
    offsets = np.cumsum([0, *(len(c.picked) for c in found)]).tolist()
    picks = []
    for number, (request, candidates) in enumerate(zip(requests, found, strict=True)):
        arc = int(plan.arc[number])
        row = int(candidates.picked[arc - offsets[number]]) if arc >= 0 else -1
        picks.append(Pick(request, candidates, row, plan.method, len(requests), gap))
    taken: dict[int, int] = {}
    for pick in picks:
        if pick.slot_id is not None:
            taken[pick.slot_id] = taken.get(pick.slot_id, 0) + 1
    for pick in picks:
        pick.alternatives = _alternatives(pick, taken)
        pick.reasons = _reasons(pick)
    return picks


def _alternatives(pick: Pick, taken: dict[int, int]) -> list[int]:
    """Up to four next cheapest places still free after this batch, each at another site or hour than those before."""
    found = pick.candidates
    chosen: list[int] = []
    # 64 cheapest are plenty to find four free ones: a batch takes few of one request's places
    count = min(len(found), 64)
    order = np.argpartition(found.cost, count - 1)[:count] if count else np.empty(0, np.intp)
    for row in order[np.lexsort((found.slot_id[order], found.cost[order]))].tolist():
        slot_id = int(found.slot_id[row])
        if row == pick.row or found.left[row] - taken.get(slot_id, 0) <= 0:
            continue
        chosen.append(row)
        if len(chosen) == ALTERNATIVES:
            break
    return chosen


def _reasons(pick: Pick) -> list[str]:
    """Reason codes of a pick, most telling first (see ``explain.REASON_TEXT``)."""
    if pick.row < 0:
        return []
    found, row = pick.candidates, pick.row
    codes = []
    if found.is_mt[row]:
        codes.append("MEDECIN_TRAITANT")
    if len(found) == 1:
        codes.append("ONLY_PLACE")
    if found.km[row] <= found.km.min() and found.travel_min[row] > 0:
        codes.append("NEAREST")
    if found.start[row] == found.start.min():
        codes.append("EARLIEST")
    codes.append("LEAST_COST" if found.cost[row] == found.cost.min() else "BEST_FOR_ALL")
    return codes
