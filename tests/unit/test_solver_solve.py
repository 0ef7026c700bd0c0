"""What solve, solve_single, solve_flow and solve_greedy decide in cases small enough to read."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from ortools.graph.python.min_cost_flow import SimpleMinCostFlow

from solver import EngineError, Plan, Problem, check, solve, solve_flow, solve_greedy, solve_single
from solver.problem import COST_LIMIT, tie_mix
from tests.solver_cases import linear_assignment, make, pairs, shuffled, town

solvers = pytest.mark.parametrize("solver", [solve, solve_flow, solve_greedy])
Solver = Callable[[Problem], Plan]


def test_one_request_goes_the_short_way_more_by_flow() -> None:
    assert solve(make([(0, 0, 1)], [9], [1])).method == "single"
    assert solve(make([(0, 0, 1)], [9, 9], [1])).method == "flow"
    assert solve_greedy(make([(0, 0, 1)], [9], [1])).method == "greedy"


def test_stop_is_asked_once_before_the_flow() -> None:
    """True means no time left: the greedy plan, marked as such. One request is exact in any case."""
    asked: list[bool] = []

    def stop() -> bool:
        asked.append(True)
        return len(asked) > 1

    problem = make([(0, 0, 1), (1, 0, 2)], [9, 9], [1])
    assert solve(problem, stop=stop).method == "flow"
    assert solve(problem, stop=stop).method == "greedy"
    assert len(asked) == 2
    assert solve(make([(0, 0, 1)], [9], [1]), stop=stop).method == "single"


def test_flow_gives_way_where_greedy_does_not() -> None:
    """Both want slot 0; the second has no other, the first has one nearly as good."""
    problem = make([(0, 0, 1), (0, 1, 2), (1, 0, 3)], [100, 100], [1, 1])
    assert solve_flow(problem).slot.tolist() == [1, 0]
    assert solve_flow(problem).objective == 5
    assert solve_greedy(problem).slot.tolist() == [0, -1]
    assert solve_greedy(problem).objective == 101


def test_greedy_serves_the_urgent_first() -> None:
    problem = make([(0, 0, 1), (1, 0, 50)], [100, 100], [1], rank=[3, 0])
    assert solve_greedy(problem).slot.tolist() == [-1, 0]


def test_greedy_takes_the_cheaper_of_equal_rank() -> None:
    problem = make([(0, 0, 9), (1, 0, 8)], [100, 100], [1])
    assert solve_greedy(problem).slot.tolist() == [-1, 0]


@solvers
@pytest.mark.parametrize(("cost", "slot"), [(9, 0), (10, -1), (11, -1)])
@pytest.mark.parametrize("others", [0, 1])
def test_cost_equal_to_the_penalty_means_unserved(solver: Solver, cost: int, slot: int, others: int) -> None:
    plan = solver(make([(0, 0, cost)], [10] * (1 + others), [1]))
    assert plan.slot[0] == slot
    assert plan.arc[0] == slot
    assert plan.objective == min(cost, 10) + 10 * others


@solvers
@pytest.mark.parametrize("others", [0, 1])
def test_closed_slots_and_groups_take_nobody(solver: Solver, others: int) -> None:
    """A slot without places and a slot of a group without places, both cheaper than the open one."""
    arcs = [(0, 0, 1), (0, 1, 2), (0, 2, 3)]
    problem = make(arcs, [10] * (1 + others), [0, 5, 1], slot_group=[-1, 0, 1], group_capacity=[0, 1])
    plan = solver(problem)
    assert plan.slot[0] == 2
    check(problem, plan)


@solvers
def test_capacity_and_quota_are_filled_not_exceeded(solver: Solver) -> None:
    """Slot 0 has two places, slots 1 and 2 share a quota of one."""
    arcs = [(r, s, 10 * s + r) for r in range(5) for s in range(3)]
    problem = make(arcs, [100] * 5, [2, 5, 5], slot_group=[-1, 0, 0], group_capacity=[1])
    plan = solver(problem)
    check(problem, plan)
    assert sorted(plan.slot.tolist()) == [-1, -1, 0, 0, 1]


@solvers
def test_negative_cost_is_a_bonus(solver: Solver) -> None:
    plan = solver(make([(0, 0, -60), (0, 1, 0), (1, 1, -5)], [0, 10], [1, 1]))
    assert plan.slot.tolist() == [0, 1]
    assert plan.objective == -65


@solvers
def test_huge_capacities_are_harmless(solver: Solver) -> None:
    """Summed up as they are, these capacities overflow inside the flow solver."""
    big = (1 << 63) - 1
    arcs = [(r, s, s) for r in range(3) for s in range(3)]
    plan = solver(make(arcs, [9] * 3, [big] * 3, slot_group=[0, 0, 0], group_capacity=[big]))
    assert plan.slot.tolist() == [0, 0, 0]


@solvers
@pytest.mark.parametrize("requests", [0, 1, 2])
@pytest.mark.parametrize("slots", [0, 1])
def test_without_arcs_nobody_is_served(solver: Solver, requests: int, slots: int) -> None:
    plan = solver(make([], [7] * requests, [1] * slots))
    assert plan.slot.tolist() == plan.arc.tolist() == [-1] * requests
    assert plan.slot.dtype == plan.arc.dtype == np.int32
    assert plan.objective == 7 * requests


@pytest.mark.parametrize("requests", [0, 2])
def test_single_refuses_any_other_number(requests: int) -> None:
    with pytest.raises(ValueError, match="Expected one request"):
        solve_single(make([], [1] * requests, []))


def test_ties_are_spread_not_taken_by_the_lowest_key() -> None:
    """With all costs equal, different requests prefer different slots: the mix is not linear in the keys."""
    chosen = {
        int(solve(make([(0, s, 5) for s in range(8)], [9], [1] * 8, request_key=[k])).slot[0]) for k in range(1, 60)
    }
    assert chosen == set(range(8))


def test_tie_mix_is_pinned() -> None:
    """Decisions are replayed years later: the tie-break of given keys never changes."""
    problem = make([(0, 0, 1), (1, 1, 1)], [9, 9], [1, 1], request_key=[1, 2], slot_key=[3, 4])
    assert [hex(m) for m in tie_mix(problem, np.arange(2)).tolist()] == ["0x86d6fd953217ae03", "0xdf54701ebc7a7be9"]


def test_tie_break_never_costs_a_unit() -> None:
    """200 requests whose tie-breaks sum up to far more than one unit of the raw costs."""
    for seed in range(5):
        base = town(200, 200, 12, seed)
        problem = replace(base, arc_cost=base.arc_cost % 2, penalty=base.penalty // 5_000)
        assert solve_flow(problem).objective == linear_assignment(problem)


@pytest.mark.parametrize("seed", range(2))
def test_tie_break_has_twelve_bits(seed: int) -> None:
    """300 requests, each to all of 300 slots at the same cost: the least sum of 12-bit mixes, by another algorithm."""
    base = town(300, 300, 300, seed)
    ties = (tie_mix(base, np.arange(base.arc_cost.size)) >> np.uint64(52)).astype(np.int64)
    plan = solve_flow(replace(base, arc_cost=np.zeros_like(ties)))
    unserved = 1_000 * (1 << 12)  # serve as many as possible, as the penalty asks for
    by_ties = replace(base, arc_cost=ties, penalty=np.full(300, unserved))
    assert sum(int(ties[a]) if a >= 0 else unserved for a in plan.arc) == linear_assignment(by_ties)


def test_tie_break_gives_way_as_costs_grow() -> None:
    """At every magnitude up to the limit: exact, and the same for any order of rows."""
    base = town(30, 25, 8, seed=2)
    base = replace(base, arc_cost=base.arc_cost // 1000)
    optimum = linear_assignment(base)
    for bits in range(0, 48, 4):
        factor = min(1 << bits, (COST_LIMIT - 1) // (40_000 * 57))
        problem = replace(base, arc_cost=base.arc_cost * factor, penalty=base.penalty * factor)
        plan, other = solve_flow(problem), shuffled(problem, bits)
        assert plan.objective == factor * optimum
        assert pairs(problem, plan) == pairs(other, solve_flow(other))


def test_any_status_but_optimal_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(SimpleMinCostFlow):  # type: ignore[misc]
        def solve(self) -> object:
            return SimpleMinCostFlow.BAD_RESULT

    monkeypatch.setattr("solver.flow.SimpleMinCostFlow", Broken)
    with pytest.raises(EngineError, match="returned BAD_RESULT instead of OPTIMAL"):
        solve_flow(make([(0, 0, 1)], [9], [1]))
