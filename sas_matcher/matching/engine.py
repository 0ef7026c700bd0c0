"""From open requests and live places to picks: candidates, one joint solve, what each pick was chosen over.

The order of the requests in a batch never matters: ties break on stable public ids (see ``solver``). Everything here is
pure but for reading the market, and runs without a loop of events: ``decide`` is a generator that hands out the
problems to be solved and pauses now and then. The seats that a batch takes are written by the caller once the ledger
has said yes.
"""

import heapq
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from sas_matcher.matching.candidates import CHEAPEST, Candidates, OpenRequest, short_list
from sas_matcher.matching.forecast import NOTHING_LEARNED, Learned
from sas_matcher.matching.partitions import Ints
from sas_matcher.matching.posing import Fair, Room, limits_between, overlapping
from sas_matcher.matching.terms import TIER_RANK, UNITS_PER_MIN, Terms
from solver import (
    Plan,
    Problem,
    prices_around,
    request_utilities,
    slot_prices,
)

ADDED: Final = 32  # arcs added for each request and round: certified in 4 rounds at 1 000 × 10 000 in the study
ALTERNATIVES: Final = 4  # shown beside the place: what fits on the screen of somebody on the phone
SOON: Final = 128  # rows sorted at first: a crisis takes the cheapest dozens, alternatives come soon after
HELPED: Final = 25  # requests of a batch for which help is looked for, 1 to 5 ms each: a surge must not wait for it
_TIMES: Final = ("professional", "start", "until")
BREATH: Final = 50  # requests looked at between two pauses: about 1 ms


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
    # seats that the batch takes, by slot; and whether to look for what would help, when there is no place
    taken: Mapping[int, int] = field(default_factory=dict)
    helped: bool = True
    # the policy it was decided under, what the seat is worth to those still to come (tenths of a minute), and from how
    # many recorded and expected days that is known
    policy: str = "firm"
    price: float | None = None
    learned: Learned = NOTHING_LEARNED

    @property
    def slot_id(self) -> int | None:
        """The slot to claim."""
        return int(self.candidates.slot_id[self.row]) if self.row >= 0 else None


def build_problem(
    requests: Sequence[OpenRequest], found: Sequence[Candidates], terms: Terms
) -> tuple[Problem, Ints, tuple[int, ...]]:
    """Gather the listed candidates of all requests into one flow problem.

    Returns:
        The problem, its slot ids, sorted, and the number of the limit's turn that each of its groups is.
    """
    counts = [len(c.picked) for c in found]
    slot_ids = np.concatenate([c.slot_id[c.picked] for c in found])
    unique, first, arc_slot = np.unique(slot_ids, return_index=True, return_inverse=True)
    lefts = np.concatenate([c.left[c.picked] for c in found])
    keys = np.concatenate([c.key[c.picked] for c in found])
    arc_request, arcs_to = np.repeat(np.arange(len(requests), dtype=np.int32), counts), arc_slot.astype(np.int32)
    listed = [c.under.taken(c.picked) if c.under is not None else None for c in found]
    times = [np.concatenate([getattr(c, name)[c.picked] for c in found])[first] for name in _TIMES]
    cliques = overlapping(*times) if terms.exclusive_times and len(requests) > 1 else []
    fair = Fair(times[0], round(UNITS_PER_MIN * terms.fair_load_min)) if terms.fair_load_min else None
    limits, turns = limits_between(listed, arc_request, arcs_to, lefts[first], cliques, fair)
    problem = Problem(
        arc_request=arc_request,
        arc_slot=arcs_to,
        arc_cost=np.concatenate([c.cost[c.picked] for c in found]),
        penalty=np.array([c.worth for c in found], np.int64),
        rank=np.array([TIER_RANK[r.tier] for r in requests], np.int64),
        capacity=lefts[first],
        request_key=np.array([r.key for r in requests], np.uint64),
        slot_key=keys[first],
        limits=limits,
    )
    return problem, unique, turns


Work: TypeAlias = Generator[Problem | None, Plan | None, list[Pick]]


def decide(batch: Sequence[OpenRequest], found: Sequence[Candidates], terms: Terms, late: Callable[[], bool]) -> Work:
    """Choose the best for a batch as a whole: work that pauses for whoever runs it.

    Solves on short lists, then lengthens them where a place left out may help, until the plan is proven optimal over
    all feasible pairs. Yields a problem to be sent its plan (or None: it could not be had in time), and None from time
    to time so that others may run. When ``late`` says so the loop ends with what it has and the proven bound of what
    that may miss. Nobody is left without a place while one that is worth it is free.

    Returns:
        One pick per request, with alternatives that the batch leaves free and reason codes. ``gap`` is in tenths of a
        minute: 0 when optimal, −1 when unknown (method ``greedy``: no plan came in time).
    """
    found = list(found)
    chosen = [-1] * len(batch)
    method, gap = "greedy", -1
    if len(batch) == 1:
        # the live path when it is quiet: nobody to share with, so the head of the short list is the optimum
        best = found[0].picked[:1].tolist()
        if best and found[0].cost[best[0]] < found[0].worth:
            chosen = best
        method, gap = "single", 0
    while len(batch) > 1:
        problem, slot_ids, turns = build_problem(batch, found, terms)
        plan = yield problem
        if plan is None:
            break
        chosen, method, gap = _chosen_rows(plan, found), plan.method, plan.slack
        yield None
        bids = Bids.of(problem, slot_ids, plan, turns)
        longer = False
        for number, candidates in enumerate(found):
            found[number], missed = bids.lengthen(number, candidates)
            longer |= found[number] is not candidates
            gap += missed
            if number % BREATH == BREATH - 1:
                yield None
        if not longer:
            # no pair left out is in any better plan: what was proven of those listed is proven of all
            gap = plan.gap
            break
        if late():
            break
    if gap != 0:
        gained = yield from _fill(batch, found, terms, chosen)
        # what a fair load adds to the places filled in was not counted
        gap = -1 if gap < 0 or (gained and terms.fair_load_min) else gap - gained
    return (yield from _written(batch, found, chosen, terms, method, gap))


def _chosen_rows(plan: Plan, found: Sequence[Candidates]) -> list[int]:
    """The candidate row that each request got, −1 for none."""
    rows, offset = [], 0
    for arc, candidates in zip(plan.arc.tolist(), found, strict=True):
        rows.append(int(candidates.picked[arc - offset]) if arc >= 0 else -1)
        offset += len(candidates.picked)
    return rows


@dataclass(frozen=True, slots=True)
class Bids:
    """What the places of a solved problem are worth, and what each request can have at these prices.

    Everyone's cheapest places are the same places, so short lists lose requests in a burst (20 % in the matching
    study). At the prices of an optimal plan an omitted place helps only if its cost and price together are below what
    the request costs now; a place outside the problem is free.
    """

    slot_ids: Ints
    prices: Ints
    utilities: list[int]
    unserved: list[bool]
    limit_price: Mapping[int, int]
    reach: int = 0

    @classmethod
    def of(cls, problem: Problem, slot_ids: Ints, plan: Plan, turns: Sequence[int] = ()) -> "Bids":
        """Read prices from a problem of ``build_problem`` and its optimal plan.

        Where packing rows kept the plan off the flow, the flow's prices bound it, and a place at a loss below ``reach``
        (what the plan costs above that bound) may be in a better plan, if that is searched for.
        """
        if problem.limits is None or plan.prices is None:
            prices = to_pay = slot_prices(problem, plan)
            limit_price: dict[int, int] = {}
        else:
            prices, of_group = plan.prices
            to_pay = prices + prices_around(problem.limits, of_group)
            limit_price = {turn: price for turn, price in zip(turns, of_group.tolist(), strict=True) if price and turn}
        utilities = request_utilities(problem, to_pay).tolist()
        reach = plan.slack if plan.method == "cp-sat" else 0
        return cls(slot_ids, prices, utilities, (plan.arc < 0).tolist(), limit_price, reach)

    def lengthen(self, number: int, candidates: Candidates) -> tuple[Candidates, int]:
        """List the omitted places that may improve the plan for one request.

        Returns:
            The same object when there is none, else a longer list; and how much the request may gain by them at the
            most (tenths of a minute). The sum over all requests bounds what the plan misses.
        """
        utility = self.utilities[number]
        if self.unserved[number] and not candidates.allowed.all():
            # the médecin traitant's place went to someone more urgent: now the others are as good
            everyone = np.ones(len(candidates), np.bool_)
            short = short_list(candidates.cost, everyone)
            rows = np.concatenate((short, np.setdiff1d(candidates.picked, short)))
            return replace(candidates, allowed=everyone, picked=rows), max(1, utility - int(candidates.cost.min()))
        listed = candidates.picked
        if listed.size == len(candidates) or (
            # the list begins with the cheapest, in order: if one of them is too dear, so is all that was left out
            listed.size >= CHEAPEST and candidates.cost[listed[CHEAPEST - 1]] >= utility + self.reach
        ):
            return candidates, 0
        omitted = candidates.allowed & (candidates.cost < utility + self.reach)
        omitted[candidates.picked] = False
        rows = omitted.nonzero()[0]
        if not rows.size:
            return candidates, 0
        at = np.minimum(self.slot_ids.searchsorted(candidates.slot_id[rows]), len(self.slot_ids) - 1)
        price = np.where(self.slot_ids[at] == candidates.slot_id[rows], self.prices[at], 0)
        if self.limit_price and candidates.under is not None:
            price = price + candidates.under.taken(rows).priced(self.limit_price)
        reduced = candidates.cost[rows] + price - utility
        best = reduced.argsort(kind="stable")[:ADDED]
        best = best[reduced[best] < self.reach]
        if not best.size:
            return candidates, 0
        missed = max(0, -int(reduced[best[0]]))
        return replace(candidates, picked=np.concatenate((candidates.picked, rows[best]))), missed


def _in_order(candidates: Candidates, *, mt_first: bool) -> Iterator[npt.NDArray[np.intp]]:
    """Rows from the cheapest on, some at a time; with ``mt_first`` those that may be picked unasked come first."""
    # the short list begins with the cheapest: most callers need no more
    head = candidates.picked[:CHEAPEST] if mt_first or candidates.allowed.all() else candidates.picked[:0]
    yield head
    others = np.ones(len(candidates), np.bool_)
    others[head] = False
    groups = (candidates.allowed, ~candidates.allowed) if mt_first else (others,)
    for group in groups:
        rows = (others & group).nonzero()[0]
        cost = candidates.cost[rows]
        # hardly anybody looks at all of them: the cheapest are sorted apart, a third of the time in a batch of 1 000
        dear = cost > np.partition(cost, SOON)[SOON] if rows.size > SOON else np.zeros(rows.size, np.bool_)
        for part in (~dear, dear):
            some = rows[part]
            yield some[np.lexsort((candidates.slot_id[some], candidates.cost[some]))]


def _free_in_order(candidates: Candidates, taken: Mapping[int, int], *, mt_first: bool) -> Iterator[int]:
    """Rows in order that are still free when they are asked for."""
    for rows in _in_order(candidates, mt_first=mt_first):
        # as lists: one number of an array takes longer than all the rest of the loop
        for row, slot_id, left in zip(
            rows.tolist(), candidates.slot_id[rows].tolist(), candidates.left[rows].tolist(), strict=True
        ):
            if left > taken.get(slot_id, 0):
                yield row


def _fill(
    batch: Sequence[OpenRequest], found: Sequence[Candidates], terms: Terms, chosen: list[int]
) -> Generator[None, None, int]:
    """Give the requests without a place the cheapest free one, in place: most urgent tier first, then least cost.

    Looks at all candidates, never at the order of arrival: the fallback when no plan came in time, and the last step
    of a plan that is not proven optimal. Returns what it gained, in tenths of a minute.
    """
    taken = _taken(found, chosen)
    room = _room(found, chosen, terms)
    gained = 0
    for tier in sorted(terms.tiers, key=TIER_RANK.__getitem__):
        members = [n for n, request in enumerate(batch) if request.tier == tier and chosen[n] < 0]
        free = {n: _free_rows(found[n], taken) for n in members}
        queue: list[tuple[bool, int, int, int, int]] = []
        for turn, number in enumerate(members):
            _queue_next(queue, free[number], found[number], batch[number].key, number)
            if turn % BREATH == BREATH - 1:
                yield None
        while queue:
            _, cost, key, number, row = heapq.heappop(queue)
            slot_id = int(found[number].slot_id[row])
            if found[number].left[row] > taken.get(slot_id, 0) and room.fits(found[number], row):
                chosen[number] = row
                room.take(found[number], row)
                taken[slot_id] = taken.get(slot_id, 0) + 1
                gained += found[number].worth - cost
            else:
                _queue_next(queue, free[number], found[number], key, number)
            if len(queue) % BREATH == 0:
                yield None
    return gained


def _free_rows(candidates: Candidates, taken: Mapping[int, int]) -> Iterator[int]:
    """Rows in order that are worth it and still free when they are asked for."""
    for row in _free_in_order(candidates, taken, mt_first=True):
        if candidates.cost[row] < candidates.worth:
            yield row


def _queue_next(
    queue: list[tuple[bool, int, int, int, int]], free: Iterator[int], candidates: Candidates, key: int, number: int
) -> None:
    """Let a request wait for its turn with its next free place; equal costs go by the request's stable key."""
    row = next(free, -1)
    if row >= 0:
        heapq.heappush(queue, (not candidates.allowed[row], int(candidates.cost[row]), key, number, row))


def _taken(found: Sequence[Candidates], chosen: Sequence[int]) -> Counter[int]:
    """Seats that these choices take, by slot."""
    return Counter(int(c.slot_id[row]) for c, row in zip(found, chosen, strict=True) if row >= 0)


def _room(found: Sequence[Candidates], chosen: Sequence[int], terms: Terms) -> Room:
    """What limits of practices and the times of professionals leave after these choices."""
    room = Room(exclusive_times=terms.exclusive_times)
    for candidates, row in zip(found, chosen, strict=True):
        if row >= 0:
            room.take(candidates, row)
    return room


def _written(
    batch: Sequence[OpenRequest],
    found: Sequence[Candidates],
    chosen: Sequence[int],
    terms: Terms,
    method: str,
    gap: int,
) -> Generator[None, None, list[Pick]]:
    """Write down the choices, with the alternatives that all of them leave free and with reason codes."""
    taken, room = _taken(found, chosen), _room(found, chosen, terms)
    without = sorted(
        (n for n, row in enumerate(chosen) if row < 0), key=lambda n: (TIER_RANK[batch[n].tier], batch[n].key)
    )
    helped = set(without[:HELPED])
    picks = []
    for number, (request, candidates, row) in enumerate(zip(batch, found, chosen, strict=True)):
        pick = Pick(request, candidates, row, method, len(batch), gap, taken=taken, helped=number in helped)
        picks.append(picked(pick, room))
        if number % BREATH == BREATH - 1:
            yield None
    return picks


def picked(pick: Pick, room: Room | None = None) -> Pick:
    """Complete a pick with the alternatives that the batch leaves free and with reason codes."""
    pick.alternatives = _alternatives(pick, pick.taken, room or Room(exclusive_times=False))
    pick.reasons = _reasons(pick)
    return pick


def _alternatives(pick: Pick, taken: Mapping[int, int], room: Room) -> list[int]:
    """Up to four next cheapest places that are still free after this batch; none for a request without a place."""
    if pick.row < 0:
        return []
    found = pick.candidates
    free = (
        row
        for row in _free_in_order(found, taken, mt_first=False)
        if row != pick.row and room.fits(found, row, instead_of=pick.row)
    )
    return list(islice(free, ALTERNATIVES))


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
    if found.travel_min[row] > 0 and not ((found.km < found.km[row]) & (found.travel_min > 0)).any():
        codes.append("NEAREST")
    if found.start[row] == found.start.min():
        codes.append("EARLIEST")
    if found.cost[row] == found.cost.min():
        codes.append("LEAST_COST")
    elif found.allowed.all():
        # else the médecin traitant came first, which is said already
        codes.append("BEST_FOR_ALL")
    return codes
