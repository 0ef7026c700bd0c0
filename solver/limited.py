"""Packing rows on top of the flow: bound by the flow, greedy repair, then CP-SAT where the flow breaks a row.

Building a CP-SAT model costs 10 µs for each arc and solving 0.1 s for 100 requests (matching study), so this is never
on the path of one request: a process of its own runs it within a budget. Only the connected components in which the
flow breaks a row go to CP-SAT; elsewhere the flow is the optimum already. The hint is the repaired plan: an infeasible
one was worse than none.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from ortools.sat.python import cp_model

from solver.flow import solve_flow
from solver.limits import Limits
from solver.problem import EngineError, Plan, Problem, plan_of, worthwhile
from solver.repair import greedy_order, repair, total
from solver.verify_limits import limit_prices

DETERMINISTIC_S = 2.0
"""Default budget of CP-SAT in its own deterministic seconds, a count of work that is the same on any machine."""
_NOTHING_PROVEN = -(1 << 62)


@dataclass(frozen=True, slots=True, eq=False)
class LimitedPlan:
    """A plan that keeps every limit, and what is proven of it.

    Attributes:
        plan: Who gets which place; its ``objective`` is without the cost of load.
        objective: Objective with the cost of load, tenths of a minute.
        bound: No plan that keeps the limits has a smaller objective.
        method: ``flow`` no row was broken; ``repair`` the repaired flow was within its bound, or is all there is;
            ``cp-sat`` CP-SAT had a hand in it.
        searched: Requests that went to CP-SAT.
        relaxed: The optimal flow without the packing rows.
    """

    plan: Plan
    objective: int
    bound: int
    method: Literal["flow", "repair", "cp-sat"]
    searched: int
    relaxed: Plan

    @property
    def gap(self) -> int:
        """How far the plan is from the optimum at the most, tenths of a minute; 0 when it is optimal."""
        return self.objective - self.bound


def solve_limited(problem: Problem, limits: Limits, *, deterministic_s: float = DETERMINISTIC_S) -> LimitedPlan:
    """Solve under all limits, exactly where the budget allows, else with its proven gap.

    Args:
        problem: The assignment problem, without quotas of its own.
        limits: Groups, costs of load and packing rows.
        deterministic_s: Budget of CP-SAT for all components together, spent from the smallest on; 0 repairs only.

    Returns:
        The same plan for any order of rows and on any machine, as long as OR-Tools is the same version.

    Raises:
        ProblemError: The limits do not fit the problem.
        EngineError: OR-Tools failed.
    """
    relaxed = solve_flow(problem, limits)
    bound = total(problem, limits, relaxed.arc)
    broken = limits.row_counts(relaxed) > limits.row_capacity
    if not broken.any():
        return LimitedPlan(relaxed, bound, bound, "flow", 0, relaxed)
    order = greedy_order(problem)
    arc = repair(problem, limits, relaxed.arc, order)
    label = _components(problem, limits)
    method: Literal["repair", "cp-sat"] = "repair"
    searched, budget = 0, deterministic_s
    of_row = np.zeros(limits.row_capacity.size, np.int64)
    of_row[limits.row_of] = label[problem.arc_request[limits.row_arc]]
    where = np.unique(of_row[broken])
    for component in sorted(
        where.tolist(), key=lambda name: (np.count_nonzero(label == name), _key(problem, label, name))
    ):
        members = label == component
        before = _part(problem, limits, arc, members)
        low = _part(problem, limits, relaxed.arc, members)
        if before == low or budget <= 0:
            continue
        found, proven, spent = _search(problem, limits, arc, members, order, budget)
        budget -= spent
        method, searched = "cp-sat", searched + int(np.count_nonzero(members))
        bound += max(0, min(proven, before) - low)
        arc = found if _part(problem, limits, found, members) < before else arc
    plan = plan_of(problem, arc, method)
    return LimitedPlan(plan, total(problem, limits, arc), bound, method, searched, relaxed)


def search(problem: Problem, deterministic_s: float = DETERMINISTIC_S) -> Plan:
    """Solve a problem under its own limits as ``solve_limited`` does, in the shape of ``solve``.

    Raises:
        ValueError: The problem has no limits.
    """
    if problem.limits is None:
        raise ValueError("Expected a problem with limits.")
    found = solve_limited(problem, problem.limits, deterministic_s=deterministic_s)
    prices = limit_prices(problem, problem.limits, found.relaxed)
    if found.method == "flow":
        return replace(found.plan, prices=prices)
    slack = found.objective - total(problem, problem.limits, found.relaxed.arc)
    return replace(found.plan, relaxed=found.relaxed, slack=slack, gap=found.gap, prices=prices)


def _key(problem: Problem, label: NDArray[np.int64], component: int) -> int:
    return int(problem.request_key[label == component].min())


def _part(problem: Problem, limits: Limits, arc: NDArray[np.int32], members: NDArray[np.bool_]) -> int:
    """The objective of some requests alone, in whose groups nobody else is."""
    own = np.where(members, arc, -1).astype(np.int32)
    return total(problem, limits, own) - int(problem.penalty[~members].sum())


def _components(problem: Problem, limits: Limits) -> NDArray[np.int64]:
    """The connected component of each request, int64[R]: joined by a slot, a group or a packing row in common."""
    requests, slots, groups = problem.penalty.size, problem.capacity.size, limits.group_parent.size
    first_group, first_row = requests + slots, requests + slots + groups
    grouped, inside = (limits.slot_group >= 0).nonzero()[0], (limits.group_parent >= 0).nonzero()[0]
    arcs = worthwhile(problem, problem.arc_order)
    one: NDArray[np.intp] = np.concatenate(
        (problem.arc_request[arcs], grouped + requests, inside + first_group, problem.arc_request[limits.row_arc])
    )
    other: NDArray[np.intp] = np.concatenate(
        (
            problem.arc_slot[arcs] + requests,
            limits.slot_group[grouped] + first_group,
            limits.group_parent[inside] + first_group,
            limits.row_of + first_row,
        )
    )
    label = np.arange(first_row + limits.row_capacity.size, dtype=np.int64)
    while True:
        low: NDArray[np.int64] = np.minimum(label[one], label[other])
        before = label.copy()
        np.minimum.at(label, one, low)
        np.minimum.at(label, other, low)
        label = label[label]  # jump to the label's own label: few rounds also along chains
        if (label == before).all():
            return label[:requests]


def _search(
    problem: Problem,
    limits: Limits,
    arc: NDArray[np.int32],
    members: NDArray[np.bool_],
    order: NDArray[np.intp],
    budget: float,
) -> tuple[NDArray[np.int32], int, float]:
    """Improve a feasible plan on one component by CP-SAT: the new arcs, a proven bound there, the budget spent."""
    # by request and slot key, so that the model is the same for any order of rows
    mine = problem.arc_order[np.isin(problem.arc_order, order) & members[problem.arc_request[problem.arc_order]]]
    model = cp_model.CpModel()
    use = {number: model.new_bool_var("") for number in mine.tolist()}
    hinted = set(arc[members].tolist())
    for number, variable in use.items():
        model.add_hint(variable, number in hinted)
    for variables in _gathered(use, problem.arc_request).values():
        model.add_at_most_one(variables)
    for slot, variables in _gathered(use, problem.arc_slot).items():
        _at_most(model, variables, int(problem.capacity[slot]))
    variables_in_order = list(use.values())
    for positions, most in _rows_in_order(limits, list(use)):
        _at_most(model, [variables_in_order[at] for at in positions], most)
    saved = [int(problem.arc_cost[n] - problem.penalty[problem.arc_request[n]]) for n in use]
    load_terms, load_weights = _add_groups(model, problem, limits, use, hinted)
    model.minimize(cp_model.LinearExpr.weighted_sum([*use.values(), *load_terms], [*saved, *load_weights]))
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.random_seed = 0
    solver.parameters.linearization_level = 2
    solver.parameters.max_deterministic_time = budget
    status = solver.solve(model)
    spent = solver.response_proto.deterministic_time
    if status == cp_model.UNKNOWN:
        return arc, _NOTHING_PROVEN, spent
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        raise EngineError(f"CP-SAT returned {solver.status_name(status)}, although serving nobody is feasible.")
    found = np.where(members, -1, arc).astype(np.int32)
    for number, variable in use.items():
        if solver.boolean_value(variable):
            found[problem.arc_request[number]] = number
    unserved = int(problem.penalty[members].sum())
    # costs are whole: so is the optimum
    return found, unserved + math.ceil(solver.best_objective_bound - 1e-6), spent


def _rows_in_order(limits: Limits, numbers: list[int]) -> list[tuple[list[int], int]]:
    """Packing rows as positions of their arcs in ``numbers``, with their capacity: rows have no key of their own."""
    position = {number: at for at, number in enumerate(numbers)}
    inside: dict[int, list[int]] = {}
    for number, row in zip(limits.row_arc.tolist(), limits.row_of.tolist(), strict=True):
        if number in position:
            inside.setdefault(row, []).append(position[number])
    return sorted((sorted(positions), int(limits.row_capacity[row])) for row, positions in inside.items())


def _gathered(use: Mapping[int, cp_model.IntVar], of: NDArray[np.int32]) -> dict[int, list[cp_model.IntVar]]:
    """The variables of the arcs by request or slot."""
    gathered: dict[int, list[cp_model.IntVar]] = {}
    for number, variable in use.items():
        gathered.setdefault(int(of[number]), []).append(variable)
    return gathered


def _at_most(model: cp_model.CpModel, variables: list[cp_model.IntVar], most: int) -> None:
    if most < len(variables):
        model.add(cp_model.LinearExpr.sum(variables) <= most)


def _add_groups(
    model: cp_model.CpModel,
    problem: Problem,
    limits: Limits,
    use: Mapping[int, cp_model.IntVar],
    hinted: Collection[int],
) -> tuple[list[cp_model.IntVar], list[int]]:
    """Add quotas and costs of load; returns the terms that these add to the objective, with their weights."""
    inside: dict[int, list[int]] = {}
    for number in use:
        group = int(limits.slot_group[problem.arc_slot[number]])
        while group >= 0:
            inside.setdefault(group, []).append(number)
            group = int(limits.group_parent[group])
    terms, weights = [], []
    for group, numbers in inside.items():
        variables = [use[number] for number in numbers]
        most, step = int(limits.group_capacity[group]), int(limits.group_step[group])
        _at_most(model, variables, most)
        if step == 0:
            continue
        # one turn for each patient, dearer each time: the cheap ones fill up by themselves
        turns = [model.new_bool_var("") for _ in range(min(most, len(variables)))]
        model.add(cp_model.LinearExpr.sum(variables) == cp_model.LinearExpr.sum(turns))
        taken = sum(number in hinted for number in numbers)
        for turn, variable in enumerate(turns):
            model.add_hint(variable, turn < taken)
            terms.append(variable)
            weights.append(step * (int(limits.group_load[group]) + turn))
    return terms, weights
