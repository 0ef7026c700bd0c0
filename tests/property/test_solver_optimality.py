"""Laws of the solvers, on small problems against brute force and on larger ones against another algorithm."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from solver import (
    NotOptimalError,
    Plan,
    Problem,
    bound,
    check,
    request_utilities,
    slot_prices,
    solve,
    solve_flow,
    solve_greedy,
    solve_single,
)
from solver.problem import tie_mix
from tests.solver_cases import (
    arcs_of,
    brute_force,
    linear_assignment,
    pairs,
    problems,
    shuffled,
    town,
    with_arcs,
    with_one_more_place,
)

laws = settings(max_examples=150, deadline=None)


@laws
@given(problems())
def test_flow_is_feasible_and_optimal(problem: Problem) -> None:
    """Nothing that brute force finds is better, with capacities and quotas."""
    plan = solve_flow(problem)
    check(problem, plan)
    assert plan.objective == brute_force(problem)


@laws
@given(problems())
def test_greedy_is_feasible_and_never_better_than_the_flow(problem: Problem) -> None:
    plan = solve_greedy(problem)
    check(problem, plan)
    assert plan.objective >= solve_flow(problem).objective


@laws
@given(problems(cost=6), st.integers(0, 1000))
def test_order_of_rows_changes_nothing(problem: Problem, seed: int) -> None:
    """Requests, slots, groups and arcs in any order: the same public ids are matched, ties included."""
    other = shuffled(problem, seed)
    for solver in (solve, solve_flow, solve_greedy):
        assert pairs(problem, solver(problem)) == pairs(other, solver(other))


@laws
@given(problems(requests=(1, 1), slots=12, cost=4))
def test_single_equals_flow(problem: Problem) -> None:
    """Same slot, same arc, same objective, also where many costs tie or equal the penalty."""
    single, flow = solve_single(problem), solve_flow(problem)
    assert (single.slot.tolist(), single.arc.tolist(), single.objective) == (
        flow.slot.tolist(),
        flow.arc.tolist(),
        flow.objective,
    )


@laws
@given(problems(requests=(2, 6), cost=6))
def test_tie_break_is_the_least_sum_of_mixes(problem: Problem) -> None:
    """Of all plans of least objective: the top 12 bits of the mix per arc used, 2¹² per unserved request."""
    useful = [arc for arc in arcs_of(problem) if arc[2] < problem.penalty[arc[0]]]
    problem = with_arcs(problem, useful)
    tie = (tie_mix(problem, np.arange(len(useful))) >> np.uint64(52)).astype(np.int64)
    weight = 1_000_000
    lexicographic = replace(
        problem, arc_cost=problem.arc_cost * weight + tie, penalty=problem.penalty * weight + (1 << 12)
    )
    plan = solve_flow(problem)
    sum_of_ties = sum(int(tie[a]) if a >= 0 else 1 << 12 for a in plan.arc)
    assert plan.objective * weight + sum_of_ties == brute_force(lexicographic)


@laws
@given(problems())
def test_prices_prove_the_optimum(problem: Problem) -> None:
    """Strong duality; and the plan keeps to the prices: what each request costs is its utility."""
    plan = solve_flow(problem)
    prices = slot_prices(problem, plan)
    assert bound(problem, prices) == plan.objective
    paid = [
        int(problem.arc_cost[a] + prices[s]) if a >= 0 else int(problem.penalty[r])
        for r, (a, s) in enumerate(zip(plan.arc, plan.slot, strict=True))
    ]
    assert request_utilities(problem, prices).tolist() == paid


@laws
@given(problems())
def test_price_is_the_gain_of_one_more_place(problem: Problem) -> None:
    """The least dual price of a slot is exactly what one more place of it would save."""
    prices = slot_prices(problem, solve_flow(problem))
    best = brute_force(problem)
    assert prices.tolist() == [
        best - brute_force(with_one_more_place(problem, s)) for s in range(problem.capacity.size)
    ]


@laws
@given(problems(), st.data())
def test_prices_exist_exactly_for_optimal_plans(problem: Problem, data: st.DataObject) -> None:
    """Of any feasible plan, prices are found if and only if it is optimal."""
    left = problem.capacity.tolist()
    quota = [] if problem.group_capacity is None else problem.group_capacity.tolist()
    arc = np.full(problem.penalty.size, -1, np.int32)
    for a in data.draw(st.permutations(range(problem.arc_cost.size))):
        r, s = problem.arc_request[a], problem.arc_slot[a]
        group = -1 if problem.slot_group is None else int(problem.slot_group[s])
        useful = problem.arc_cost[a] < problem.penalty[r]
        if arc[r] < 0 and useful and left[s] and (group < 0 or quota[group]):
            arc[r] = a
            left[s] -= 1
            if group >= 0:
                quota[group] -= 1
    dropped = data.draw(st.lists(st.integers(0, max(0, arc.size - 1)), max_size=1 if arc.size else 0))
    arc[dropped] = -1
    slot = np.array([problem.arc_slot[a] if a >= 0 else -1 for a in arc], np.int32)
    cost = [problem.arc_cost[a] if a >= 0 else problem.penalty[r] for r, a in enumerate(arc)]
    plan = Plan(slot, arc, int(sum(cost)), "greedy")
    check(problem, plan)
    if plan.objective == brute_force(problem):
        slot_prices(problem, plan)
    else:
        with pytest.raises(NotOptimalError):
            slot_prices(problem, plan)


@laws
@given(problems(), st.lists(st.integers(0, 80), min_size=6, max_size=6))
def test_any_prices_give_a_lower_bound(problem: Problem, prices: list[int]) -> None:
    """Weak duality."""
    assume(problem.penalty.size)
    any_prices = np.array(prices[: problem.capacity.size], np.int64)
    assert bound(problem, any_prices) <= brute_force(problem)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("requests", "slots", "capacity"), [(150, 400, 1), (200, 60, 3), (60, 500, 2)])
def test_larger_problems_agree_with_linear_assignment(requests: int, slots: int, capacity: int, seed: int) -> None:
    problem = town(requests, slots, 20, seed, capacity=capacity)
    plan = solve_flow(problem)
    check(problem, plan)
    assert plan.objective == linear_assignment(problem) == bound(problem, slot_prices(problem, plan))


@pytest.mark.parametrize("seed", range(3))
def test_larger_problems_do_not_depend_on_the_order_of_rows(seed: int) -> None:
    """Costs from 0 to 5 only, so that nearly all is decided by the tie-break; and none of it costs a unit."""
    base = town(200, 150, 20, seed)
    problem = replace(base, arc_cost=base.arc_cost % 6)
    plan = solve_flow(problem)
    assert plan.objective == linear_assignment(problem)
    for other in (shuffled(problem, seed + 1), shuffled(problem, seed + 2)):
        assert pairs(other, solve_flow(other)) == pairs(problem, plan)
        assert pairs(other, solve_greedy(other)) == pairs(problem, solve_greedy(problem))
