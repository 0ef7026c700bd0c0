"""The exact solvers: min-cost flow for a batch, an equal shortcut for one request.

``solve`` runs on the live path, for a batch of one when it is quiet, so it is plain numpy with as few calls as
possible. With 32 candidates each, checking the problem and solving it takes 13 µs for one request, 0.15 ms for ten,
1.5 ms for a hundred and 19 ms for a thousand (``python -m tests.bench.solver``, 2-core Linux machine, OR-Tools 9.15).

With ``Limits`` groups nest, and load may cost: slot → group → group around it → … → sink, one arc of one place
for each patient where the next one costs more.

The network: request → slot (capacity 1, the cost of the arc), request → sink (capacity 1, the penalty), slot
→ sink or slot → group → sink (places left). Every request supplies one unit, so leaving everyone unserved is
feasible and any status but optimal is a defect. Negative costs need no shift: the cost-scaling solver takes
them, and on this acyclic network no negative cycle exists.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from ortools.graph.python.min_cost_flow import SimpleMinCostFlow

from solver.greedy import solve_greedy
from solver.limits import Limits
from solver.problem import (
    COST_LIMIT,
    EngineError,
    Plan,
    Problem,
    highest,
    inverse,
    lowest,
    plan_of,
    tie_mix,
    worthwhile,
)
from solver.repair import repaired
from solver.verify_limits import limit_prices

TIE_BITS = 12
"""Bits of the tie-break under the costs; 12 left no assignment to chance among 1 000 requests (matching
study)."""


def solve(problem: Problem, *, stop: Callable[[], bool] | None = None) -> Plan:
    """Solve exactly: one request by ``solve_single``, more by ``solve_flow``; keeps limits, where there are some.

    Packing rows that the flow breaks are repaired; how far from the optimum that may be is the plan's ``gap``.

    The flow solver has no time limit, cannot be interrupted and holds the interpreter lock for the whole
    solve. Whoever must answer by a deadline therefore bounds the size beforehand (about 2 000 arcs take 2
    ms), or solves in a worker process and calls ``solve_greedy`` when it does not answer in time; a thread
    does not help.

    Args:
        problem: The assignment problem.
        stop: Asked once, before the flow starts; true means that the time is spent already, and the plan is
            that of ``solve_greedy``. One request is solved exactly in any case, as that costs less than the
            greedy does.

    Returns:
        The plan; ``method`` tells whether it is exact.

    Raises:
        EngineError: The flow solver failed.
    """
    if problem.limits is not None:
        flow = solve_flow(problem, problem.limits)
        # here and not where the plan is read: of a large problem they take as long as the plan, in the same process
        return replace(repaired(problem, problem.limits, flow), prices=limit_prices(problem, problem.limits, flow))
    if problem.penalty.size == 1:
        return solve_single(problem)
    if stop is not None and stop():
        return solve_greedy(problem)
    return solve_flow(problem)


def solve_single(problem: Problem) -> Plan:
    """Solve a problem of one request: its cheapest open arc, or none when no cost is below the penalty.

    Gives the same plan as ``solve_flow``, ties included, as long as the flow has room for the tie-break (see
    there).

    Raises:
        ValueError: The problem has not exactly one request.
    """
    if problem.penalty.size != 1:
        raise ValueError(f"Expected one request, got {problem.penalty.size}.")
    arcs = (problem.capacity[problem.arc_slot] > 0).nonzero()[0]
    if problem.quotas is not None:
        arcs = worthwhile(problem, arcs)
    cost = problem.arc_cost[arcs]
    penalty = int(problem.penalty[0])
    best = int(cost[cost.argmin()]) if arcs.size else penalty
    if best >= penalty:
        return Plan(np.array([-1], np.int32), np.array([-1], np.int32), penalty, "single")
    tied = (cost == best).nonzero()[0]
    arc = int(arcs[tied[0] if tied.size == 1 else tied[tie_mix(problem, arcs[tied]).argmin()]])
    slot = problem.arc_slot[arc]
    return Plan(np.array([slot], np.int32), np.array([arc], np.int32), best, "single")


def solve_flow(problem: Problem, limits: Limits | None = None) -> Plan:
    """Solve exactly by min-cost flow (``SimpleMinCostFlow``: cost scaling, Goldberg 1997), for any size.

    Among the plans of least objective it takes the one with the least sum of tie-breaks: a 12-bit mix of the
    keys per arc used, 2¹² per unserved request. Costs are multiplied by more than that sum can reach, so no
    unit of true cost is ever given up for it. What the tie-break leaves open is decided by the order of nodes
    and arcs, which is that of the keys. So the plan does not depend on the order of rows. Costs so large that
    the product would reach ``COST_LIMIT`` get fewer bits, down to none; they stay exact and independent of
    the order of rows.

    Args:
        problem: The assignment problem.
        limits: Nested groups with quotas and convex costs of load, which keep the optimum integral; packing rows are
            left out, so that the plan is a relaxation of them (``solver.limited``).

    Raises:
        EngineError: The solver did not return an optimum.
        ProblemError: The limits do not fit the problem.
    """
    if limits is not None:
        limits.check(problem)
    arc = np.full(problem.penalty.size, -1, np.int32)
    arcs = worthwhile(problem, problem.arc_order)
    if arcs.size:
        flow = _network(problem, arcs, limits)
        status = flow.solve()
        if status != SimpleMinCostFlow.OPTIMAL:
            raise EngineError(f"The flow solver returned {status.name} instead of OPTIMAL.")
        chosen = arcs[flow.flows(np.arange(arcs.size, dtype=np.int32)) > 0]
        arc[problem.arc_request[chosen]] = chosen
    return plan_of(problem, arc, "flow")


def _network(problem: Problem, arcs: NDArray[np.intp], limits: Limits | None) -> SimpleMinCostFlow:
    """The flow network over the given arcs, all rows numbered by key; its first arcs are the given ones."""
    requests, slots = problem.penalty.size, problem.slot_order.size
    request_node = inverse(problem.request_order, requests)
    slot_node = inverse(problem.slot_order, problem.capacity.size) + requests
    first = requests + slots
    layer = _group_layer(problem, first) if limits is None else _limit_layer(problem, limits, first)
    sink = first + layer.nodes
    arc_cost, penalty, scale = _scaled_costs(problem, arcs, sink + 1, highest(layer.cost) * max(1, layer.nodes))
    request_nodes = np.arange(requests, dtype=np.int32)
    tail = (
        request_node[problem.arc_request[arcs]],
        request_nodes,
        np.arange(requests, requests + slots),
        layer.tail,
    )
    head = (
        slot_node[problem.arc_slot[arcs]],
        np.full(requests, sink),
        np.where(layer.slot_head < 0, sink, layer.slot_head),
        np.where(layer.head < 0, sink, layer.head),
    )
    # No slot can take more than every request: the cut keeps huge capacities out of the solver's sums.
    places = np.minimum(np.concatenate((problem.capacity[problem.slot_order], layer.capacity)), requests)
    flow = SimpleMinCostFlow()
    flow.add_arcs_with_capacity_and_unit_cost(
        np.concatenate(tail, dtype=np.int32, casting="same_kind"),
        np.concatenate(head, dtype=np.int32, casting="same_kind"),
        np.concatenate((np.ones(arcs.size + requests, np.int64), places)),
        np.concatenate((arc_cost, penalty, np.zeros(slots, np.int64), layer.cost * scale)),
    )
    flow.set_nodes_supplies(request_nodes, np.ones(requests, np.int64))
    flow.set_node_supply(sink, -requests)
    return flow


class _Layer(NamedTuple):
    """What lies between slots and sink: arcs by node (head −1: the sink), and the head of each slot with an arc."""

    nodes: int
    tail: NDArray[np.intp]
    head: NDArray[np.intp]
    capacity: NDArray[np.int64]
    cost: NDArray[np.int64]
    slot_head: NDArray[np.intp]


def _group_layer(problem: Problem, first_node: int) -> _Layer:
    """The groups of the slots with arcs, each with one arc to the sink.

    Groups carry no key; they are numbered by the first of their slots in the order of keys.
    """
    slot_head = np.full(problem.slot_order.size, -1, np.intp)
    none, no_cost = np.empty(0, np.intp), np.empty(0, np.int64)
    if problem.quotas is None:
        return _Layer(0, none, none, no_cost, no_cost, slot_head)
    slot_group, capacity = problem.quotas
    group = slot_group[problem.slot_order]
    grouped = (group >= 0).nonzero()[0]
    row, first = np.unique(group[grouped], return_index=True)
    row = row[first.argsort()]
    slot_head[grouped] = inverse(row.astype(np.intp), capacity.size)[group[grouped]] + first_node
    tail = np.arange(first_node, first_node + row.size)
    return _Layer(row.size, tail, np.full(row.size, -1), capacity[row], np.zeros(row.size, np.int64), slot_head)


def _limit_layer(problem: Problem, limits: Limits, first_node: int) -> _Layer:
    """The forest of groups, numbered by the first slot inside each in the order of keys, inner ones first.

    A group with a cost of load has one arc of one place for each patient it may get, dearer each time.
    """
    groups, requests = limits.group_parent.size, problem.penalty.size
    group = limits.slot_group[problem.slot_order]
    first_slot = np.full(groups + 1, problem.slot_order.size, np.intp)  # the last one is for −1, no group
    np.minimum.at(first_slot, group, np.arange(group.size))
    reach = np.zeros(groups + 1, np.int64)
    np.add.at(reach, group, np.minimum(problem.capacity[problem.slot_order], requests))
    depth = np.zeros(groups, np.intp)
    for inner, parent in enumerate(limits.group_parent.tolist()):
        if parent >= 0:
            first_slot[parent] = min(first_slot[parent], first_slot[inner])
            reach[parent] += min(reach[inner], limits.group_capacity[inner])
            depth[parent] = max(depth[parent], depth[inner] + 1)
    node = np.append(inverse(np.lexsort((depth, first_slot[:-1])), groups) + first_node, -1)
    most = np.minimum(np.minimum(limits.group_capacity, reach[:-1]), requests)
    # one arc for a group without a cost of load, else one for each place
    number = np.where(limits.group_step > 0, most, 1)
    of = np.repeat(np.arange(groups), number)
    turn = np.arange(of.size) - np.repeat(number.cumsum() - number, number)
    stepped = limits.group_step[of] > 0
    order = np.lexsort((turn, node[of]))
    of, turn, stepped = of[order], turn[order], stepped[order]
    return _Layer(
        groups,
        node[of],
        node[limits.group_parent[of]],
        np.where(stepped, 1, most[of]),
        limits.group_step[of] * (limits.group_load[of] + turn) * stepped,
        node[group],
    )


def _scaled_costs(
    problem: Problem, arcs: NDArray[np.intp], nodes: int, load_cost: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """Costs of the arcs, and penalties by request key, with the tie-break below them; and the scale above it.

    ``load_cost`` is the most that groups add to a path, for the range only.
    """
    cost, penalty = problem.arc_cost[arcs], problem.penalty[problem.request_order]
    requests, largest = penalty.size, max(-lowest(cost), highest(cost), highest(penalty), load_cost)
    # A single request ranks its arcs by the whole mix: no two are equal, so the flow has one optimum.
    choices = (arcs.size,) if requests == 1 else tuple(1 << bits for bits in range(TIE_BITS, 0, -1))
    for steps in choices:
        scale = requests * steps + 1
        if (largest + 1) * scale * (nodes + 1) < COST_LIMIT:
            mix = tie_mix(problem, arcs)
            tie = inverse(mix.argsort(), arcs.size) if requests == 1 else mix >> np.uint64(65 - steps.bit_length())
            return cost * scale + tie.astype(np.int64), penalty * scale + steps, scale
    return cost, penalty, 1
