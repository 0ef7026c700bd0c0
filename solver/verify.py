"""Checks a plan without trusting whoever made it: rules, prices, lower bound, certificate of optimality.

Shares no code with the solvers but the definition of ``Problem`` and ``Plan``.

Prices are the dual of the assignment. The price y_s ≥ 0 of a slot is what the last of its places is worth,
the quota of its group included; ``u_r = min(penalty_r, min over arcs of cost + y_s)`` is then what request r
costs at best at these prices. For any y, ``Σ u_r − Σ worth of the places at y`` is a lower bound of every
plan (weak duality), and equal to the objective at the prices of an optimal plan. An arc left out of the
problem can improve the plan only if its cost + y_s is below u_r; lowering u_r to that value keeps the bound
valid for the problem with all arcs, which gives the proven gap.
"""

from collections.abc import Callable
from dataclasses import dataclass
from operator import mul
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solver.problem import NotOptimalError, Plan, PlanError, Problem

MAX_VIOLATED = 32
"""Violated arcs reported per request: adding 32 needed the fewest rounds to the full optimum (matching
study)."""


@dataclass(frozen=True, slots=True, eq=False)
class OmittedArcs:
    """Feasible arcs that were left out of a problem.

    Attributes:
        request: integer[N], row of the request.
        slot: integer[N], row of the slot.
        cost: int64[N], tenths of a minute.
    """

    request: NDArray[np.integer[Any]]
    slot: NDArray[np.integer[Any]]
    cost: NDArray[np.int64]


Pricing = Callable[[NDArray[np.int64], NDArray[np.int64]], OmittedArcs]
"""Prices int64[S] and utilities int64[R] in; omitted arcs out, at least the one of least cost + price of
every request that has one below its utility. Lets the caller price from its own store, without listing every
arc."""


@dataclass(frozen=True, slots=True, eq=False)
class Certificate:
    """What is proven about a plan with regard to all arcs, listed and omitted.

    Attributes:
        optimal: No plan on all arcs is better.
        gap: No plan on all arcs is better by more than this, in tenths of a minute, ≥ 0.
        bound: No plan on all arcs has a smaller objective (objective − gap).
        prices: int64[S], the slot prices that prove it.
        utilities: int64[R], what each request costs at these prices on the listed arcs.
        violated: The omitted arcs that may improve the plan, by request, most promising first, at most 32 of
            each. Add them to the problem and solve again to come closer to the full optimum.
    """

    optimal: bool
    gap: int
    bound: int
    prices: NDArray[np.int64]
    utilities: NDArray[np.int64]
    violated: OmittedArcs


def check(problem: Problem, plan: Plan) -> None:
    """Recompute every rule and the objective of a plan from the problem alone.

    Raises:
        PlanError: With the first rule broken and the row that breaks it.
    """
    requests, arcs = problem.penalty.size, problem.arc_cost.size
    for name, rows in (("slot", plan.slot), ("arc", plan.arc)):
        if rows.shape != (requests,):
            raise PlanError(f"Expected one {name} per request ({requests}), got shape {rows.shape}.")
    arc = plan.arc.astype(np.int64)
    _fail_where((arc < -1) | (arc >= arcs), "arc", arc, "is no arc of the problem")
    served = (arc >= 0).nonzero()[0]
    used = arc[served]
    expected_slot = np.full(requests, -1, np.int64)
    expected_slot[served] = problem.arc_slot[used]
    wrong_end = np.zeros(requests, np.bool_)
    wrong_end[served] = problem.arc_request[used] != served
    _fail_where(wrong_end, "arc", arc, "belongs to another request")
    _fail_where(plan.slot != expected_slot, "slot", plan.slot, "is not that of its arc")
    useless = np.zeros(requests, np.bool_)
    useless[served] = problem.arc_cost[used] >= problem.penalty[served]
    _fail_where(useless, "arc", arc, "costs no less than leaving the request unserved")
    taken, group_taken = _places_taken(problem, plan)
    _fail_beyond("slot", taken, problem.capacity)
    if problem.group_capacity is not None:
        _fail_beyond("group", group_taken, problem.group_capacity)
    objective = _total(problem.arc_cost[used]) + _total(problem.penalty[arc < 0])
    if plan.objective != objective:
        raise PlanError(f"Objective is {plan.objective}, its arcs and penalties add up to {objective}.")


def slot_prices(problem: Problem, plan: Plan) -> NDArray[np.int64]:
    """The least prices that support an optimal plan: int64[S], tenths of a minute, a group's price included.

    The price of a slot is what one more place of it would gain by the best chain of exchanges: for an
    unserved request penalty − cost, for a served one that would move there its present cost + price − cost;
    within a full group every slot is worth at least the dearest of its slots that has a free place. Iterated
    from zero to the least fixed point. Free places must come out at price 0 and no served request above its
    penalty.

    Raises:
        PlanError: The plan is not even feasible (as ``check``).
        NotOptimalError: No prices support the plan: it can be improved on the listed arcs.
    """
    check(problem, plan)
    penalty, slots = problem.penalty, problem.capacity.size
    served = plan.arc >= 0
    own_cost = np.where(served, problem.arc_cost[plan.arc], penalty) if problem.arc_cost.size else penalty
    # What r would gain by moving to s, before the price of the place it leaves; the useless arcs never bind.
    arcs = (problem.arc_cost < penalty[problem.arc_request]).nonzero()[0]
    request, slot = problem.arc_request[arcs], problem.arc_slot[arcs]
    gain = own_cost[request] - problem.arc_cost[arcs]
    prices = np.zeros(slots, np.int64)
    waiting = ~served[request]
    np.maximum.at(prices, slot[waiting], gain[waiting])
    left, slot, gain = plan.slot[request[~waiting]], slot[~waiting], gain[~waiting]
    taken, group_taken = _places_taken(problem, plan)
    raise_groups = _group_floor(problem, taken, group_taken)
    before = np.full(slots, -1, np.int64)
    rounds = np.count_nonzero(taken) + 2  # a chain of exchanges leaves each taken slot once at most
    while (moved := prices != before).any():
        if rounds == 0:
            raise NotOptimalError("The prices have no fixed point: some requests gain by exchanging their slots.")
        rounds -= 1
        before = prices.copy()
        active = moved[left]
        np.maximum.at(prices, slot[active], before[left[active]] + gain[active])
        raise_groups(prices)
    free = taken < problem.capacity
    if problem.quotas is not None:
        group, group_capacity = problem.quotas
        free &= np.append(group_taken < group_capacity, True)[group]
    if (wasted := (free & (prices > 0)).nonzero()[0]).size:
        at = int(wasted[0])
        raise NotOptimalError(f"Slot {at} has a free place that would gain {prices[at]}.")
    if (dear := (own_cost[served] + prices[plan.slot[served]] > penalty[served]).nonzero()[0]).size:
        at = int(served.nonzero()[0][dear[0]])
        raise NotOptimalError(f"Request {at} holds a place that another request needs more.")
    return prices


def request_utilities(problem: Problem, prices: NDArray[np.int64]) -> NDArray[np.int64]:
    """What each request costs at best at these slot prices, int64[R]: its penalty, or cost + price."""
    utilities = problem.penalty.copy()
    arcs = _open_slots(problem)[problem.arc_slot].nonzero()[0]
    request, slot = problem.arc_request[arcs], problem.arc_slot[arcs]
    np.minimum.at(utilities, request, problem.arc_cost[arcs] + prices[slot])
    return utilities


def bound(problem: Problem, prices: NDArray[np.int64]) -> int:
    """A value that no plan on the listed arcs goes below, for any slot prices ≥ 0 (weak duality).

    Equal to the objective at the prices of an optimal plan (strong duality).

    Raises:
        ValueError: A price is missing, negative, or above 2⁶¹.
    """
    _expect_prices(problem, prices)
    return _total(request_utilities(problem, prices)) - _worth_of_places(problem, prices)


def certify(
    problem: Problem,
    plan: Plan,
    omitted: OmittedArcs | Pricing,
    *,
    prices: NDArray[np.int64] | None = None,
) -> Certificate:
    """Prove a plan optimal over all arcs, or bound how far it is from that.

    The gap is ``Σ_r (u_r − min(u_r, min over omitted arcs of cost + y_s))`` for an optimal plan of the listed
    arcs; for any other plan, with prices from elsewhere, the distance to the dual bound is added. It is never
    below the true gap, and was 2.3 to 3.0 times it when lists were pruned (matching study).

    Args:
        problem: The problem with the listed arcs.
        plan: A feasible plan of it.
        omitted: The arcs left out, or a function that prices them.
        prices: int64[S] ≥ 0, for a plan that is not optimal, such as a greedy one: any prices give a valid
            gap, those of the last solve a close one. By default those of the plan itself.

    Raises:
        PlanError: The plan is not feasible.
        NotOptimalError: Without ``prices``, when the plan is not optimal on the listed arcs.
        ValueError: Omitted arcs or prices do not fit the problem.
    """
    if prices is None:
        prices = slot_prices(problem, plan)
    else:
        check(problem, plan)
        _expect_prices(problem, prices)
    utilities = request_utilities(problem, prices)
    if not isinstance(omitted, OmittedArcs):
        omitted = omitted(prices, utilities)
    _expect_omitted(problem, omitted)
    reduced = omitted.cost + prices[omitted.slot] - utilities[omitted.request]
    at = ((reduced < 0) & _open_slots(problem)[omitted.slot]).nonzero()[0]
    at = at[np.lexsort((problem.slot_key[omitted.slot[at]], reduced[at], omitted.request[at]))]
    request = omitted.request[at]
    first = np.ones(at.size, np.bool_)
    first[1:] = request[1:] != request[:-1]
    start = first.nonzero()[0]
    lower = _total(utilities) + _total(reduced[at[start]]) - _worth_of_places(problem, prices)
    gap = plan.objective - lower
    kept = at[np.arange(at.size) - start[first.cumsum() - 1] < MAX_VIOLATED] if at.size else at
    violated = OmittedArcs(omitted.request[kept], omitted.slot[kept], omitted.cost[kept])
    return Certificate(gap == 0, gap, lower, prices, utilities, violated)


def _places_taken(problem: Problem, plan: Plan) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    taken = np.bincount(plan.slot[plan.slot >= 0], minlength=problem.capacity.size)
    if problem.quotas is None:
        return taken, np.zeros(0, np.int64)
    group, capacity = problem.quotas
    grouped = (group >= 0).nonzero()[0]
    group_taken = np.zeros(capacity.size, np.int64)
    np.add.at(group_taken, group[grouped], taken[grouped])
    return taken, group_taken


def _group_floor(
    problem: Problem, taken: NDArray[np.int64], group_taken: NDArray[np.int64]
) -> Callable[[NDArray[np.int64]], None]:
    """A function that raises prices in place: in a full group, all to the dearest slot with a free place."""
    if problem.quotas is None:
        return lambda prices: None
    group, capacity = problem.quotas
    full = group_taken >= capacity
    inside = np.append(full, False)[group].nonzero()[0]
    free = inside[taken[inside] < problem.capacity[inside]]
    groups = full.size

    def raise_prices(prices: NDArray[np.int64]) -> None:
        floor = np.zeros(groups, np.int64)
        np.maximum.at(floor, group[free], prices[free])
        prices[inside] = np.maximum(prices[inside], floor[group[inside]])

    return raise_prices


def _open_slots(problem: Problem) -> NDArray[np.bool_]:
    """Slots that can take anyone at all, bool[S]."""
    has_places = problem.capacity > 0
    if problem.quotas is not None:
        group, capacity = problem.quotas
        has_places &= np.append(capacity > 0, True)[group]
    return has_places


def _worth_of_places(problem: Problem, prices: NDArray[np.int64]) -> int:
    """Least worth of all places at these prices: a group's part taken out of them where its quota is smaller.

    A slot never takes more than R, so its capacity counts up to R. Summed in unbounded integers.
    """
    requests = problem.penalty.size
    priced = (prices > 0).nonzero()[0]
    worth = _dot(np.minimum(problem.capacity[priced], requests), prices[priced])
    if problem.quotas is None:
        return worth
    slot_group, group_capacity = problem.quotas
    groups = group_capacity.size
    grouped = (slot_group >= 0).nonzero()[0]
    group = slot_group[grouped]
    common = np.full(groups, np.iinfo(np.int64).max)
    np.minimum.at(common, group, prices[grouped])
    room = np.zeros(groups, np.int64)
    np.add.at(room, group, np.minimum(problem.capacity[grouped], requests))
    spare = room - np.minimum(group_capacity, room)
    return worth - _dot(spare, common)


def _total(values: NDArray[np.int64]) -> int:
    """Sum in unbounded integers."""
    total: int = sum(values.tolist())
    return total


def _dot(a: NDArray[np.int64], b: NDArray[np.int64]) -> int:
    """Scalar product in unbounded integers."""
    product: int = sum(map(mul, a.tolist(), b.tolist()))
    return product


def _fail_where(broken: NDArray[np.bool_], name: str, rows: NDArray[Any], reason: str) -> None:
    if broken.any():
        at = int(broken.argmax())
        raise PlanError(f"Request {at}: {name} {rows[at]} {reason}.")


def _fail_beyond(name: str, taken: NDArray[np.int64], capacity: NDArray[np.int64]) -> None:
    if (over := (taken > capacity).nonzero()[0]).size:
        at = int(over[0])
        raise PlanError(f"{name.capitalize()} {at} takes {taken[at]} requests, it has {capacity[at]} places.")


def _expect_prices(problem: Problem, prices: NDArray[np.int64]) -> None:
    if prices.shape != problem.capacity.shape or prices.dtype != np.int64:
        raise ValueError(f"Expected int64[{problem.capacity.size}] prices, got {prices.dtype}{list(prices.shape)}.")
    if prices.size and not 0 <= prices.min() <= prices.max() <= 1 << 61:
        raise ValueError("Expected 0 <= prices <= 2**61.")


def _expect_omitted(problem: Problem, omitted: OmittedArcs) -> None:
    n = omitted.cost.size
    for name, rows, size in (
        ("request", omitted.request, problem.penalty.size),
        ("slot", omitted.slot, problem.capacity.size),
    ):
        if rows.shape != (n,):
            raise ValueError(f"Expected {n} rows in omitted.{name}, got shape {rows.shape}.")
        if n and not 0 <= rows.min() <= rows.max() < size:
            raise ValueError(f"Expected 0 <= omitted.{name} < {size}.")
    if omitted.cost.dtype != np.int64 or (n and not -(1 << 60) < omitted.cost.min() <= omitted.cost.max() < 1 << 60):
        raise ValueError("Expected omitted.cost as int64 with |cost| < 2**60.")
