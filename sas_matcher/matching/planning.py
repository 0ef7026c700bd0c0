"""The plan: what is open now, solved together with imagined rests of the day.

A plan prices every seat in each future and gives each open request the seat that suits all of them best at the mean of
these prices. It is a function of its task, so that it can run in a process of its own while the desk goes on answering
(``desk``); only the forecast, which reads earlier days once, stays where the plans are made.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from sas_matcher.matching.forecast import Forecast, Future, HistoryDay
from sas_matcher.matching.limits import Over
from sas_matcher.matching.pairs import Bools, Floats, Ints, Pairs, Slots, short_lists
from sas_matcher.matching.posing import limits_between
from sas_matcher.matching.prices import FAR, seat_losses
from sas_matcher.matching.terms import Terms
from solver import Plan, Problem, prices_around, request_utilities, slot_prices, solve, solve_flow

CHEAPEST: Final = 24
SPREAD: Final = 12
"""Arcs of one request that are solved with: cheapest, and evenly over the rest (matching study §3)."""

ADDED: Final = 32
"""Arcs of one request added in a round where the rest may help; as in ``engine``."""

ROUNDS: Final = 8
"""Rounds of adding after which the proven gap is stated instead: the study certified 1 000 × 10 000 in four."""


@dataclass(frozen=True, slots=True, eq=False)
class FieldTask:
    """One profession of a plan.

    Attributes:
        profession: its code.
        live: every pair of an open request and a slot that could still be told (arcs A).
        penalty: float[R], of leaving each request of the desk without a place.
        price: float[S], of the slots for who is here, where no future is to be drawn; else None.
    """

    profession: int
    live: Pairs
    penalty: Floats
    price: Floats | None


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """What a plan is made from: the desk as it was at ``now`` (seconds since the day's midnight).

    Attributes:
        slots: all slots of the desk, S rows.
        meets: of the ``Codes`` of slots and earlier days.
        left: int64[S], seats that are not firm.
        calls: float[C], when each request of today was made.
        beyond: float[R], the least cost of pairs that are not in ``live`` though feasible (infinite: there are none).
        over: limits of practices over the slots, what they leave including the seats behind promises; None for none.
    """

    now: float
    slots: Slots
    meets: Bools
    left: Ints
    calls: Floats
    futures: int
    fields: tuple[FieldTask, ...]
    beyond: Floats
    over: Over | None = None


@dataclass(slots=True, eq=False)
class Outlook:
    """One future as solved last.

    Attributes:
        day: the earlier day it was drawn from, −1 for a future in which nobody comes.
        price: by slot, for who comes new; ``spare``: seats that can still be spent at it.
        utility: what each open request costs at best; ``coming``: the same by row of the earlier day.
    """

    day: int
    price: Floats
    utility: Floats
    coming: Floats
    spare: Ints


@dataclass(frozen=True, slots=True, eq=False)
class FieldPlan:
    """The plan of one profession.

    Attributes:
        arc: intp[R], the pair of ``FieldTask.live`` that each request gets, −1 for none.
        price: float[S], of each slot in the mean of the futures, for who is here.
        outlooks: the futures, one by one; none where none was drawn.
        gap: tenths of a minute that the assignment may miss of the optimum over all pairs; 0 is a proof.
    """

    profession: int
    arc: npt.NDArray[np.intp]
    price: Floats
    outlooks: list[Outlook]
    gap: int


@dataclass(slots=True, eq=False)
class Planner:
    """Makes plans for one territory and one day; remembers what it learned of earlier days."""

    weekday: int = 0
    forecast: Forecast | None = None

    @classmethod
    def learned(cls, history: Sequence[HistoryDay], terms: Terms, seed: int = 0, weekday: int = 0) -> "Planner":
        """A planner that has read earlier days (none: nothing is forecast, and nothing priced but who is here)."""
        return cls(weekday, Forecast(history, terms, seed) if history else None)

    def plan(self, task: Task) -> list[FieldPlan]:
        """Solve what is open with each future, price the seats, assign."""
        return [self._plan(task, item) for item in task.fields]

    def _plan(self, task: Task, item: FieldTask) -> FieldPlan:
        # equal choices go by rows, not by which slots happened to be paired together
        order = np.argsort(item.live.request * len(task.slots) + item.live.slot, kind="stable")
        pairs = item.live.where(order)
        keep = pruned(pairs)
        live = pairs.where(keep)
        seats = np.maximum(task.left, 0)
        outlooks, least = [], []
        for future in self._futures(task, item.profession) if item.price is None else ():
            outlook, low = _solve(live, future, item.penalty, seats)
            outlooks.append(outlook)
            least.append(low)
        price: Floats = np.mean(least, axis=0) if item.price is None else item.price
        arc, gap = assigned(pairs, keep, price, item.penalty, seats, task.beyond, task.over)
        arc[arc >= 0] = order[arc[arc >= 0]]
        return FieldPlan(item.profession, arc, price, outlooks, gap)

    def _futures(self, task: Task, profession: int) -> Sequence[Future | None]:
        """Futures to plan with; one without anybody to come where there is no history."""
        if self.forecast is None:
            return [None]
        self.forecast.hear(task.calls)
        days = self.forecast.pick_days(task.now, task.futures, self.weekday)
        return [self.forecast.future(profession, day, task.now, task.slots, task.meets) for day in days]


def _problem(request: Ints, slot: Ints, cost: Floats, penalty: Floats, capacity: Ints) -> Problem:
    return Problem(
        arc_request=request.astype(np.int32),
        arc_slot=slot.astype(np.int32),
        arc_cost=np.rint(cost).astype(np.int64),
        penalty=np.rint(penalty).astype(np.int64),
        rank=np.zeros(penalty.size, np.int64),
        capacity=np.maximum(capacity, 0),
        request_key=np.arange(penalty.size, dtype=np.uint64),
        slot_key=np.arange(capacity.size, dtype=np.uint64),
    )


def _solve(live: Pairs, future: Future | None, penalty: Floats, left: Ints) -> tuple[Outlook, Floats]:
    """One future: the greatest prices for who comes new, the least for who is here."""
    here, seats = penalty.size, left.size
    request, slot, cost = [live.request], [live.slot], [live.cost]
    capacity, worth = left, penalty
    if future is not None:
        coming = Pairs.join([future.live, _moved(future.own, seats)])
        coming = coming.where(pruned(coming))
        request.append(coming.request + here)
        slot.append(coming.slot)
        cost.append(coming.cost)
        capacity = np.concatenate((left, future.slots.capacity))
        worth = np.concatenate((penalty, future.requests.value[future.draws]))
    # the solver's time grows with the rows, and most slots have passed: only those with arcs are numbered
    asks, row_of = _numbered(np.concatenate(request), worth.size)
    places, column_of = _numbered(np.concatenate(slot), capacity.size)
    arcs = _problem(
        row_of[np.concatenate(request)],
        column_of[np.concatenate(slot)],
        np.concatenate(cost),
        worth[asks],
        np.maximum(capacity[places], 0),
    )
    plan = solve_flow(arcs)
    low = slot_prices(arcs, plan)
    high = seat_losses(
        arcs.arc_request, arcs.arc_slot, arcs.arc_cost.astype(float), worth[asks], arcs.capacity, plan.arc
    )
    utility = worth.astype(np.float64)
    utility[asks] = request_utilities(arcs, low)
    used = np.bincount(arcs.arc_slot[plan.arc[plan.arc >= 0]], minlength=places.size)
    by_row = np.zeros(0)
    if future is not None:
        by_row = np.zeros(len(future.requests))
        by_row[future.draws] = utility[here:]
    # what others here would pay shows when they are planned together; only who is still to come must be priced
    wanted = np.zeros(places.size, np.bool_)
    taken = plan.arc[asks >= here]
    wanted[arcs.arc_slot[taken[taken >= 0]]] = True
    live_seats = places < seats
    price, spare, floor = np.where(left > 0, 0.0, FAR), np.maximum(left, 0), np.zeros(seats)
    price[places[live_seats]] = high[live_seats]
    spare[places[live_seats]] = np.where(high < FAR, np.maximum(1, arcs.capacity - used), 0)[live_seats]
    floor[places[live_seats]] = np.where(wanted, low, 0)[live_seats]
    return Outlook(-1 if future is None else future.day, price, utility[:here], by_row, spare), floor


def _numbered(rows: Ints, size: int) -> tuple[Ints, Ints]:
    """The distinct rows in order, and the number of each of ``size`` among them."""
    there = np.zeros(size, np.bool_)
    there[rows] = True
    return np.flatnonzero(there), np.cumsum(there) - 1


def assigned(
    pairs: Pairs,
    keep: npt.NDArray[np.intp],
    price: Floats,
    penalty: Floats,
    left: Ints,
    beyond: Floats,
    over: Over | None = None,
) -> tuple[npt.NDArray[np.intp], int]:
    """Assign at least cost plus price, and prove it over all pairs.

    Solves on the pairs kept, then adds those that may improve the plan at its own prices, until there is none (as
    ``engine.decide`` does for a batch).

    Args:
        pairs: all feasible pairs.
        keep: rows of ``pairs`` to begin with.
        price: float[S], added to the cost of each slot.
        penalty: float[R], of leaving a request without a place.
        left: int64[S], seats.
        beyond: float[R], least cost of what is feasible and not even in ``pairs``.
        over: limits of practices, kept as in a batch: in the flow where they nest, else by repair, within the gap.

    Returns:
        The row of ``pairs`` for each request, −1 for none; and the proven gap in tenths of a minute.
    """
    cost = np.rint(pairs.cost + price[pairs.slot])
    asked = np.unique(pairs.request)
    for _ in range(ROUNDS):
        keep = keep[np.argsort(pairs.request[keep], kind="stable")]
        problem = _problem(pairs.request[keep], pairs.slot[keep], cost[keep], penalty, left)
        plan, utility, price_of = _priced(problem, over)
        reduced = cost + price_of(pairs) - utility[pairs.request]
        reduced[left[pairs.slot] <= 0] = 0
        missed = np.zeros(penalty.size)
        np.minimum.at(missed, pairs.request, reduced)
        more = np.flatnonzero(reduced < 0)
        if not more.size:
            slack = plan.gap
            break
        slack = plan.slack
        more = more[np.lexsort((pairs.slot[more], reduced[more], pairs.request[more]))]
        request = pairs.request[more]
        first = np.flatnonzero(np.r_[True, request[1:] != request[:-1]])
        rank = np.arange(more.size) - np.repeat(first, np.diff(np.r_[first, more.size]))
        keep = np.concatenate((keep, more[rank < ADDED]))
    arc = np.full(penalty.size, -1, np.intp)
    got = plan.arc >= 0
    arc[got] = keep[plan.arc[got]]
    out_of_sight = np.maximum(0.0, utility[asked] - beyond[asked])
    return arc, slack + int(np.maximum(-missed[asked], out_of_sight).sum())


def _priced(problem: Problem, over: Over | None) -> tuple[Plan, Ints, Callable[[Pairs], Ints]]:
    """Solve under the limits; returns also what each request costs at these prices, and the price of any pair."""
    if over is not None:
        bounds = problem.arc_request.searchsorted(np.arange(problem.penalty.size + 1)).tolist()
        listed = [over.under(r, problem.arc_slot[bounds[r] : bounds[r + 1]]) for r in range(problem.penalty.size)]
        limits, turns = limits_between(listed, problem.arc_request, problem.arc_slot, problem.capacity)
        if limits is not None:
            # who was promised a place comes first where a repair must choose
            rank = np.unique(-problem.penalty, return_inverse=True)[1].astype(np.int64)
            plan = solve(replace(problem, limits=limits, rank=rank))
            dual, of_group = plan.prices if plan.prices is not None else (np.zeros(0, np.int64), np.zeros(0, np.int64))
            utility = request_utilities(problem, dual + prices_around(limits, of_group))
            dear = {turn: price for turn, price in zip(turns, of_group.tolist(), strict=True) if price and turn}
            return plan, utility, lambda pairs: dual[pairs.slot] + over.priced(pairs.request, pairs.slot, dear)
    plan = solve_flow(problem)
    prices = slot_prices(problem, plan)
    return plan, request_utilities(problem, prices), lambda pairs: prices[pairs.slot]


def _moved(pairs: Pairs, by: int) -> Pairs:
    return Pairs(pairs.request, pairs.slot + by, pairs.travel_s, pairs.cost)


def pruned(pairs: Pairs) -> npt.NDArray[np.intp]:
    """Rows of the cheapest arcs of each request, and of some spread over the rest."""
    return short_lists(pairs, CHEAPEST, SPREAD)
