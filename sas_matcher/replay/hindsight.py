"""The exact hindsight optimum of a day log: the welfare of someone who had known the whole file in advance.

An assignment of requests to seats, solved exactly. A seat is one place of a slot while it exists: slots have as many
as their capacity says at the time, from their publication on, so a slot that grows or shrinks has seats with windows
of their own. Phantom and withdrawn slots and cancelled requests are left out, and no notice is needed. A slot that
shrinks to a number above zero may so be given to more people than bookings in order of time could reach (early ones
on the seats that go, late ones on those that stay): the optimum is then a bound from above, never from below.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from sas_matcher.replay.daylog import DayLog, Request, Slot
from sas_matcher.travel import haversine_km
from solver import Plan, Problem, request_utilities, slot_prices, solve_flow, spread_selection

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

SCALE: Final = 1000
"""Steps per tenth of a minute in the solver's integers: 2 000 requests lose less than 1 tenth in all by rounding."""

CHEAPEST: Final = 16
SPREAD: Final = 16
ADDED: Final = 32
"""Arcs of a request at first, and added per round where the prices ask for it: the settings of the matching study.
They decide the speed only: rounds go on until nothing omitted can improve the plan."""


@dataclass(frozen=True, slots=True)
class Hindsight:
    """The optimum: welfare in tenths of a minute, served per tier (every tier is listed), slot id per request id."""

    welfare: float
    served: dict[str, int]
    slot_of: dict[str, str]


@dataclass(frozen=True, slots=True, eq=False)
class _Seats:
    """Windows of seats, as parallel arrays sorted by start; ``row`` tells which seats share one capacity.

    Several windows of one row mean that these seats come and go.
    """

    row: Ints
    opens: Floats
    closes: Floats
    start: Floats
    lat: Floats
    lon: Floats
    slot: Ints


@dataclass(frozen=True, slots=True, eq=False)
class _Arcs:
    """Feasible rows of one request with their costs, cheapest pruned list in ``listed`` (positions)."""

    row: Ints
    slot: Ints
    cost: Floats
    scaled: Ints
    listed: npt.NDArray[np.intp]


def _windows(steps: list[tuple[float, int]]) -> list[tuple[int, list[tuple[float, float]]]]:
    """Seats of one slot: (how many, when they exist as [from, to)), one item for each level of capacity."""
    ends = [t for t, _ in steps[1:]] + [float("inf")]
    below = 0
    seats = []
    for level in sorted({capacity for _, capacity in steps} - {0}):
        spans: list[tuple[float, float]] = []
        for (opens, capacity), closes in zip(steps, ends, strict=True):
            if capacity < level or opens >= closes:
                continue
            if spans and spans[-1][1] == opens:
                spans[-1] = (spans[-1][0], closes)
            else:
                spans.append((opens, closes))
        seats.append((level - below, spans))
        below = level
    return seats


def _lay_out(day: DayLog) -> tuple[list[Slot], Ints, dict[tuple[str, str], _Seats]]:
    """Real slots, places of each row of seats, and the windows by (profession, mode)."""
    slots: list[Slot] = []
    places: list[int] = []
    parts: dict[tuple[str, str], list[tuple[int, float, float, int]]] = {}
    for slot in (event.slot for event in day.slots):
        if slot.refused_after_min is not None or slot.id in day.withdrawn_at:
            continue
        for count, spans in _windows([(float(t), c) for t, c in day.capacities[slot.id]]):
            for opens, closes in spans:
                part = parts.setdefault((slot.profession, slot.mode), [])
                part.append((len(places), opens, closes, len(slots)))
            places.append(count)
        slots.append(slot)
    seats = {}
    for key, windows in parts.items():
        windows.sort(key=lambda w: slots[w[3]].start)
        row, opened, closed, at = zip(*windows, strict=True)
        seats[key] = _Seats(
            np.array(row, np.int64),
            np.array(opened),
            np.array(closed),
            np.array([slots[i].start for i in at], np.float64),
            np.array([slots[i].lat for i in at], np.float64),
            np.array([slots[i].lon for i in at], np.float64),
            np.array(at, np.int64),
        )
    return slots, np.array(places, np.int64), seats


class _Finder:
    """Finds the seats that a request may be given, with their costs."""

    def __init__(self, day: DayLog) -> None:
        self.meta = day.meta
        self.terms = {t.tier: t for t in day.meta.tiers}
        self.slots, self.places, self.seats = _lay_out(day)
        sets: dict[frozenset[str], int] = {}
        self.offer_set = np.array(
            [sets.setdefault(frozenset(s.offers), len(sets)) for s in self.slots], np.int64
        )  # few slots differ in their offers: needs are compared once per kind of offer
        self.offer_kinds = list(sets)
        names: dict[str, int] = {}
        self.professional = np.array([names.setdefault(s.professional, len(names)) for s in self.slots], np.int64)
        self.professionals = names
        self._meets: dict[frozenset[str], npt.NDArray[np.bool_]] = {}

    def _meeting(self, needs: frozenset[str]) -> npt.NDArray[np.bool_]:
        if needs not in self._meets:
            kinds = np.array([needs <= kind for kind in self.offer_kinds], np.bool_)
            self._meets[needs] = kinds[self.offer_set]
        return self._meets[needs]

    def arcs(self, request: Request, t: float) -> _Arcs:
        """Every row of seats that the request could get firm at some instant, and worth its value."""
        terms = self.terms[request.tier]
        found: list[tuple[Ints, Ints, Floats]] = []
        for mode in sorted(set(request.modes)):
            seats = self.seats.get((request.profession, mode))
            if seats is None:
                continue
            low = int(seats.start.searchsorted(t, "left"))
            high = int(seats.start.searchsorted(float(request.deadline), "right"))
            at = np.arange(low, high)[self._meeting(frozenset(request.needs))[seats.slot[low:high]]]
            travel = np.zeros(at.size)
            if mode != "tele":
                km = haversine_km(request.lat, request.lon, seats.lat[at], seats.lon[at])
                at, km = at[km <= request.radius_km], km[km <= request.radius_km]
                travel = self.meta.base_min + self.meta.min_per_km * km
            soonest = np.maximum(seats.opens[at], t)
            usable = (soonest < seats.closes[at]) & (seats.start[at] - soonest >= 60.0 * travel)
            at, travel = at[usable], travel[usable]
            row, first = np.unique(seats.row[at], return_index=True)
            at, travel = at[first], travel[first]
            wait = (seats.start[at] - t) / 60.0
            is_mt = self.professional[seats.slot[at]] == self.professionals.get(request.mt or "", -1)
            found.append(
                (row, seats.slot[at], 10.0 * (travel + terms.wait_weight * wait - self.meta.mt_bonus_min * is_mt))
            )
        if not found:
            none = np.empty(0, np.int64)
            return _Arcs(none, none, np.empty(0), none, np.empty(0, np.intp))
        row, slot = (np.concatenate([f[i] for f in found]) for i in (0, 1))
        cost = np.concatenate([f[2] for f in found])
        worth = cost < terms.value
        row, slot, cost = row[worth], slot[worth], cost[worth]
        scaled = np.rint(SCALE * cost).astype(np.int64)
        return _Arcs(row, slot, cost, scaled, spread_selection(scaled, CHEAPEST, SPREAD))


def _problem(requests: list[Request], arcs: list[_Arcs], finder: _Finder) -> Problem:
    return Problem(
        arc_request=np.repeat(np.arange(len(arcs), dtype=np.int32), [a.listed.size for a in arcs]),
        arc_slot=np.concatenate([a.row[a.listed] for a in arcs]).astype(np.int32),
        arc_cost=np.concatenate([a.scaled[a.listed] for a in arcs]),
        penalty=np.array([round(SCALE * finder.terms[r.tier].value) for r in requests], np.int64),
        rank=np.zeros(len(requests), np.int64),  # only a fallback would read it
        capacity=finder.places,
        request_key=np.arange(len(requests), dtype=np.uint64),
        slot_key=np.arange(finder.places.size, dtype=np.uint64),
    )


def _widen(problem: Problem, plan: Plan, arcs: list[_Arcs]) -> bool:
    """Add to the lists what may improve the plan at its own prices; False when it is optimal over all arcs."""
    prices = slot_prices(problem, plan)
    utilities = request_utilities(problem, prices).tolist()
    wider = False
    for number, a in enumerate(arcs):
        reduced = a.scaled + prices[a.row]
        helpful = reduced < utilities[number]
        helpful[a.listed] = False
        more = np.flatnonzero(helpful)
        if more.size:
            best = more[np.argsort(reduced[more], kind="stable")[:ADDED]]
            arcs[number] = _Arcs(a.row, a.slot, a.cost, a.scaled, np.concatenate((a.listed, best)))
            wider = True
    return wider


def hindsight(day: DayLog) -> Hindsight:
    """The best that could have been done with this day (see the module docstring).

    Each round solves on pruned lists of seats and prices the omitted ones; it ends when none can help, which proves
    the plan optimal over all feasible pairs. 2 000 requests on 5 000 slots take about a second.
    """
    finder = _Finder(day)
    served = {t.tier: 0 for t in day.meta.tiers}
    live = [event for event in day.requests if event.request.id not in day.cancelled_at]
    found = [finder.arcs(event.request, event.t) for event in live]
    pairs = [(event.request, arcs) for event, arcs in zip(live, found, strict=True) if arcs.row.size]
    requests, arcs = [r for r, _ in pairs], [a for _, a in pairs]
    if not requests:
        return Hindsight(0.0, served, {})
    while True:
        problem = _problem(requests, arcs, finder)
        plan = solve_flow(problem)
        if not _widen(problem, plan, arcs):
            break
    offsets = np.cumsum([0, *(a.listed.size for a in arcs)])
    welfare = 0.0
    slot_of = {}
    for number, (request, a) in enumerate(zip(requests, arcs, strict=True)):
        arc = int(plan.arc[number])
        if arc >= 0:
            at = a.listed[arc - int(offsets[number])]
            welfare += finder.terms[request.tier].value - float(a.cost[at])
            slot_of[request.id] = finder.slots[int(a.slot[at])].id
    served |= Counter(r.tier for r in requests if r.id in slot_of)
    return Hindsight(welfare, served, slot_of)
