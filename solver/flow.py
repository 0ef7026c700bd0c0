"""The exact solvers: min-cost flow for a batch, an equal shortcut for one request.

``solve`` runs on the live path, for a batch of one when it is quiet, so it is plain numpy with as few calls as
possible. With 32 candidates each, checking the problem and solving it takes 13 µs for one request, 0.15 ms for ten,
1.5 ms for a hundred and 19 ms for a thousand (``python -m tests.bench.solver``, 2-core Linux machine, OR-Tools 9.15).

The network: request → slot (capacity 1, the cost of the arc), request → sink (capacity 1, the penalty), slot
→ sink or slot → group → sink (places left). Every request supplies one unit, so leaving everyone unserved is
feasible and any status but optimal is a defect. Negative costs need no shift: the cost-scaling solver takes
them, and on this acyclic network no negative cycle exists.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from ortools.graph.python.min_cost_flow import SimpleMinCostFlow

from solver.greedy import solve_greedy
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

TIE_BITS = 12
"""Bits of the tie-break under the costs; 12 left no assignment to chance among 1 000 requests (matching
study)."""


def solve(problem: Problem, *, stop: Callable[[], bool] | None = None) -> Plan:
    """Solve exactly: one request by ``solve_single``, more by ``solve_flow``.

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


def solve_flow(problem: Problem) -> Plan:
    """Solve exactly by min-cost flow (``SimpleMinCostFlow``: cost scaling, Goldberg 1997), for any size.

    Among the plans of least objective it takes the one with the least sum of tie-breaks: a 12-bit mix of the
    keys per arc used, 2¹² per unserved request. Costs are multiplied by more than that sum can reach, so no
    unit of true cost is ever given up for it. What the tie-break leaves open is decided by the order of nodes
    and arcs, which is that of the keys. So the plan does not depend on the order of rows. Costs so large that
    the product would reach ``COST_LIMIT`` get fewer bits, down to none; they stay exact and independent of
    the order of rows.

    Raises:
        EngineError: The solver did not return an optimum.
    """
    arc = np.full(problem.penalty.size, -1, np.int32)
    arcs = worthwhile(problem, problem.arc_order)
    if arcs.size:
        flow = _network(problem, arcs)
        status = flow.solve()
        if status != SimpleMinCostFlow.OPTIMAL:
            raise EngineError(f"The flow solver returned {status.name} instead of OPTIMAL.")
        chosen = arcs[flow.flows(np.arange(arcs.size, dtype=np.int32)) > 0]
        arc[problem.arc_request[chosen]] = chosen
    return plan_of(problem, arc, "flow")


def _network(problem: Problem, arcs: NDArray[np.intp]) -> SimpleMinCostFlow:
    """The flow network over the given arcs, all rows numbered by key; its first arcs are the given ones."""
    requests, slots = problem.penalty.size, problem.slot_order.size
    request_node = inverse(problem.request_order, requests)
    slot_node = inverse(problem.slot_order, problem.capacity.size) + requests
    group_tail, group_capacity, slot_head = _group_layer(problem, requests + slots)
    sink = requests + slots + group_tail.size
    arc_cost, penalty = _scaled_costs(problem, arcs, sink + 1)
    request_nodes = np.arange(requests, dtype=np.int32)
    slot_head[slot_head < 0] = sink
    tail = (
        request_node[problem.arc_request[arcs]],
        request_nodes,
        np.arange(requests, requests + slots),
        group_tail,
    )
    head = (
        slot_node[problem.arc_slot[arcs]],
        np.full(requests, sink),
        slot_head,
        np.full(group_tail.size, sink),
    )
    # No slot can take more than every request: the cut keeps huge capacities out of the solver's sums.
    places = np.minimum(np.concatenate((problem.capacity[problem.slot_order], group_capacity)), requests)
    flow = SimpleMinCostFlow()
    flow.add_arcs_with_capacity_and_unit_cost(
        np.concatenate(tail, dtype=np.int32, casting="same_kind"),
        np.concatenate(head, dtype=np.int32, casting="same_kind"),
        np.concatenate((np.ones(arcs.size + requests, np.int64), places)),
        np.concatenate((arc_cost, penalty, np.zeros(places.size, np.int64))),
    )
    flow.set_nodes_supplies(request_nodes, np.ones(requests, np.int64))
    flow.set_node_supply(sink, -requests)
    return flow


def _group_layer(problem: Problem, first_node: int) -> tuple[NDArray[np.intp], NDArray[np.int64], NDArray[np.intp]]:
    """The groups of the slots with arcs: nodes and capacities; and the head of each slot (−1 for the sink).

    Groups carry no key; they are numbered by the first of their slots in the order of keys.
    """
    head = np.full(problem.slot_order.size, -1, np.intp)
    if problem.quotas is None:
        return np.empty(0, np.intp), np.empty(0, np.int64), head
    slot_group, capacity = problem.quotas
    group = slot_group[problem.slot_order]
    grouped = (group >= 0).nonzero()[0]
    row, first = np.unique(group[grouped], return_index=True)
    row = row[first.argsort()]
    head[grouped] = inverse(row.astype(np.intp), capacity.size)[group[grouped]] + first_node
    return np.arange(first_node, first_node + row.size), capacity[row], head


def _scaled_costs(problem: Problem, arcs: NDArray[np.intp], nodes: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Costs of the arcs, and penalties by request key, with the tie-break below them."""
    cost, penalty = problem.arc_cost[arcs], problem.penalty[problem.request_order]
    requests, largest = penalty.size, max(-lowest(cost), highest(cost), highest(penalty))
    # A single request ranks its arcs by the whole mix: no two are equal, so the flow has one optimum.
    choices = (arcs.size,) if requests == 1 else tuple(1 << bits for bits in range(TIE_BITS, 0, -1))
    for steps in choices:
        scale = requests * steps + 1
        if (largest + 1) * scale * (nodes + 1) < COST_LIMIT:
            mix = tie_mix(problem, arcs)
            tie = inverse(mix.argsort(), arcs.size) if requests == 1 else mix >> np.uint64(65 - steps.bit_length())
            return cost * scale + tie.astype(np.int64), penalty * scale + steps
    return cost, penalty
