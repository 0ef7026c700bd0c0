"""Checks a plan under limits without trusting whoever made it: rules, prices of slots and groups, lower bound.

Shares no code with the solvers but the definitions of ``Problem``, ``Plan`` and ``Limits``. Prices are Lagrange
multipliers: y_s ≥ 0 of each slot's places and z_g ≥ 0 of each group's. For any of them ::

    Σ_r min(penalty_r, min over arcs (cost + y_s + Σ z of the groups around s))
      − Σ_s places_s · y_s − Σ_g Σ_{n < places_g} max(0, z_g − step_g · (load_g + n))

is below every plan, as its last sum is the most that a group can earn at its price (the conjugate of its convex cost).
Packing rows only remove plans, so the bound holds with them too. At the prices of an optimal flow it is equal to the
objective (strong duality), which proves it.
"""

import numpy as np
from numpy.typing import NDArray

from solver.limits import Limits
from solver.problem import NotOptimalError, Plan, PlanError, Problem
from solver.verify import check

Prices = tuple[NDArray[np.int64], NDArray[np.int64]]
"""int64[S] of the slots and int64[G] of the groups, ≥ 0."""


def check_limits(problem: Problem, limits: Limits, plan: Plan, *, rows: bool = True) -> int:
    """Recompute every rule of a plan under limits; return its objective, the cost of load included.

    Args:
        problem: The problem.
        limits: Its limits.
        plan: The plan; its own objective is without the cost of load.
        rows: Whether packing rows must hold too; the flow, a relaxation, knows none.

    Raises:
        PlanError: With the first rule broken and the row that breaks it.
    """
    check(problem, plan)
    load = limits.group_load.tolist()
    taken = [0] * len(load)
    extra = 0
    for slot in plan.slot[plan.slot >= 0].tolist():
        group = int(limits.slot_group[slot])
        while group >= 0:
            extra += int(limits.group_step[group]) * (load[group] + taken[group])
            taken[group] += 1
            if taken[group] > limits.group_capacity[group]:
                raise PlanError(f"Group {group} has {limits.group_capacity[group]} places, it takes more.")
            group = int(limits.group_parent[group])
    used = set(plan.arc[plan.arc >= 0].tolist())
    counts = [0] * limits.row_capacity.size
    for arc, row in zip(limits.row_arc.tolist(), limits.row_of.tolist(), strict=True):
        counts[row] += arc in used
        if rows and counts[row] > limits.row_capacity[row]:
            raise PlanError(f"Row {row} allows {limits.row_capacity[row]} of its arcs, more are used.")
    return plan.objective + extra


def limit_bound(problem: Problem, limits: Limits, prices: Prices) -> int:
    """A value that no plan under the limits goes below, cost of load included, for any prices ≥ 0.

    Raises:
        ValueError: A price is missing or negative.
    """
    slot_price, group_price = prices
    if slot_price.shape != problem.capacity.shape or group_price.shape != limits.group_capacity.shape:
        raise ValueError("Expected one price for each slot and group.")
    if (slot_price.size and slot_price.min() < 0) or (group_price.size and group_price.min() < 0):
        raise ValueError("Expected prices >= 0.")
    requests = problem.penalty.size
    to_pay = slot_price + prices_around(limits, group_price)
    utilities = problem.penalty.copy()
    np.minimum.at(utilities, problem.arc_request, problem.arc_cost + to_pay[problem.arc_slot])
    total: int = sum(utilities.tolist())
    for price, places in zip(slot_price.tolist(), problem.capacity.tolist(), strict=True):
        total -= price * min(places, requests)
    for group, price in enumerate(group_price.tolist()):
        step, load = int(limits.group_step[group]), int(limits.group_load[group])
        places = min(int(limits.group_capacity[group]), requests)
        total -= sum(max(0, price - step * (load + n)) for n in range(places)) if price else 0
    return total


def prices_around(limits: Limits, group_price: NDArray[np.int64]) -> NDArray[np.int64]:
    """What the groups around each slot cost together: int64[S] from int64[G]."""
    around = [0] * (group_price.size + 1)  # the last one is for −1, no group
    for group in range(group_price.size - 1, -1, -1):  # outer ones have higher rows
        around[group] = int(group_price[group]) + around[limits.group_parent[group]]
    return np.array(around, np.int64)[limits.slot_group]


def limit_prices(problem: Problem, limits: Limits, plan: Plan) -> Prices:
    """The least prices that support an optimal plan of the flow (packing rows left out).

    Potentials of slots and groups are raised from zero along the exchanges that the plan leaves open (to a dearer
    place, out of a full one, into a group that could take one more) until nothing moves.

    Raises:
        NotOptimalError: The bound at these prices is below the plan: it can be improved.
        PlanError: The plan is not feasible.
    """
    objective = check_limits(problem, limits, plan, rows=False)
    slots, groups = problem.capacity.size, limits.group_capacity.size
    sink = groups
    head = np.where(limits.slot_group < 0, sink, limits.slot_group)
    parent = np.where(limits.group_parent < 0, sink, limits.group_parent)
    slot_taken = np.bincount(plan.slot[plan.slot >= 0], minlength=slots)
    taken = limits.loads(slot_taken)
    served = plan.arc >= 0
    arcs = (problem.arc_cost < problem.penalty[problem.arc_request]).nonzero()[0]
    request, slot, cost = problem.arc_request[arcs], problem.arc_slot[arcs], problem.arc_cost[arcs]
    waiting = ~served[request]
    floor = np.zeros(slots, np.int64)
    np.maximum.at(floor, slot[waiting], problem.penalty[request[waiting]] - cost[waiting])
    request, slot, cost = request[~waiting], slot[~waiting], cost[~waiting]
    left, gain = plan.slot[request], problem.arc_cost[plan.arc[request]] - cost
    used_slot, open_slot = slot_taken > 0, (slot_taken < problem.capacity).nonzero()[0]
    last = limits.group_step * (limits.group_load + taken - 1)
    following = limits.group_step * (limits.group_load + taken)
    used_group, open_group = taken > 0, (taken < limits.group_capacity).nonzero()[0]
    price, at_group = floor, np.zeros(groups + 1, np.int64)
    for _ in range(slots + groups + 2):
        before = price.copy(), at_group.copy()
        np.maximum.at(price, slot, before[0][left] + gain)
        np.maximum.at(at_group, head[open_slot], price[open_slot])
        np.maximum.at(at_group, parent[open_group], at_group[open_group] - following[open_group])
        at_group[:-1] = np.where(used_group, np.maximum(at_group[:-1], at_group[parent] + last), at_group[:-1])
        price = np.where(used_slot, np.maximum(price, at_group[head]), price)
        if (before[0] == price).all() and (before[1] == at_group).all():
            break
    prices = np.maximum(0, price - at_group[head]), np.maximum(0, at_group[:-1] - at_group[parent])
    if limit_bound(problem, limits, prices) != objective:
        raise NotOptimalError("No prices support the plan: it can be improved.")
    return prices
