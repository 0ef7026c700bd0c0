"""Packing rows put back into a plan of the flow, without CP-SAT: quick enough for the path of a batch."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from solver.limits import Limits
from solver.problem import Plan, Problem, plan_of, tie_mix, worthwhile


def repaired(problem: Problem, limits: Limits, relaxed: Plan) -> Plan:
    """Make the optimal flow of a problem keep the packing rows, and say how far from the optimum that may be.

    Args:
        problem: The problem.
        limits: Its limits.
        relaxed: The optimal flow, which knows no packing rows.

    Returns:
        ``relaxed`` itself when it breaks none; else a plan that says what it costs above that bound.
    """
    if not (limits.row_counts(relaxed) > limits.row_capacity).any():
        return relaxed
    arc = repair(problem, limits, relaxed.arc, greedy_order(problem))
    plan = plan_of(problem, arc, "repair")
    slack = total(problem, limits, arc) - total(problem, limits, relaxed.arc)
    return replace(plan, relaxed=relaxed, slack=slack, gap=slack)


def _slots_taken(problem: Problem, arc: NDArray[np.int32]) -> NDArray[np.int64]:
    return np.bincount(problem.arc_slot[arc[arc >= 0]], minlength=problem.capacity.size)


def total(problem: Problem, limits: Limits, arc: NDArray[np.int32]) -> int:
    """Costs, penalties and cost of load of the arcs that the requests use."""
    return plan_of(problem, arc, "greedy").objective + limits.load_cost(limits.loads(_slots_taken(problem, arc)))


def greedy_order(problem: Problem) -> NDArray[np.intp]:
    """The arcs worth using, most urgent first, then the cheapest, then by the tie-break of the keys."""
    arcs = worthwhile(problem, problem.arc_order)
    rank = problem.rank[problem.arc_request[arcs]]
    return arcs[np.lexsort((tie_mix(problem, arcs), problem.arc_cost[arcs], rank))]


def repair(problem: Problem, limits: Limits, arc: NDArray[np.int32], order: NDArray[np.intp]) -> NDArray[np.int32]:
    """Make a plan of the flow keep the packing rows: who breaks one goes, the least urgent first; then fill up."""
    rows: dict[int, list[int]] = {}
    for used, row in zip(limits.row_arc.tolist(), limits.row_of.tolist(), strict=True):
        rows.setdefault(used, []).append(row)
    row_left, places = limits.row_capacity.tolist(), problem.capacity.tolist()
    group_taken, parent = [0] * limits.group_parent.size, limits.group_parent.tolist()
    capacity, step, load = limits.group_capacity.tolist(), limits.group_step.tolist(), limits.group_load.tolist()
    slot_group, penalty = limits.slot_group.tolist(), problem.penalty.tolist()
    repaired = np.full(arc.size, -1, np.int32)

    def give(number: int) -> None:
        """Use an arc if every limit allows it and its cost, load included, is worth it."""
        request, slot = int(problem.arc_request[number]), int(problem.arc_slot[number])
        mine = rows.get(number, [])
        if repaired[request] >= 0 or not places[slot] or any(row_left[row] == 0 for row in mine):
            return
        cost, path, group = int(problem.arc_cost[number]), [], slot_group[slot]
        while group >= 0:
            if group_taken[group] >= capacity[group]:
                return
            cost += step[group] * (load[group] + group_taken[group])
            path.append(group)
            group = parent[group]
        if cost >= penalty[request]:
            return
        repaired[request] = number
        places[slot] -= 1
        for row in mine:
            row_left[row] -= 1
        for group in path:
            group_taken[group] += 1

    of_flow = np.zeros(problem.arc_cost.size, np.bool_)
    of_flow[arc[arc >= 0]] = True
    for number in order[of_flow[order]].tolist():
        give(number)
    for number in order[~of_flow[order]].tolist():
        give(number)
    return repaired
