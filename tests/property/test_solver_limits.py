"""Laws of limits: nested quotas and fair load in the flow, packing rows by CP-SAT, all against plain brute force."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from solver import (
    CostRangeError,
    Limits,
    NotOptimalError,
    Plan,
    PlanError,
    Problem,
    ProblemError,
    check_limits,
    limit_bound,
    limit_prices,
    overlap_cliques,
    solve_flow,
    solve_greedy,
)
from solver import limited as limited_module
from solver.limited import solve_limited
from tests.solver_cases import make, no_limits, pairs, problems, shuffled_limits, town

laws = settings(max_examples=150, deadline=None)


@st.composite
def limited(draw: st.DrawFn, *, rows: int = 0, requests: int = 5) -> tuple[Problem, Limits]:
    """A small problem with a forest of groups, some of which charge for load, and packing rows."""
    problem = draw(problems(requests=(1, requests), slots=5, groups=False))
    slots, arcs = problem.capacity.size, problem.arc_cost.size
    groups = draw(st.integers(0, 4))
    parents = [draw(st.sampled_from([-1, *range(g + 1, groups)])) for g in range(groups)]

    def several(values: st.SearchStrategy[int], size: int) -> list[int]:
        return draw(st.lists(values, min_size=size, max_size=size))

    members = [(arc, row) for row in range(rows) for arc in range(arcs) if draw(st.booleans())]
    return problem, no_limits(
        problem,
        slot_group=several(st.integers(-1, groups - 1), slots),
        group_parent=parents,
        group_capacity=several(st.integers(0, 4), groups),
        group_step=several(st.sampled_from((0, 0, 3, 10)), groups),
        group_load=several(st.integers(0, 2), groups),
        row_arc=[arc for arc, _ in members],
        row_of=[row for _, row in members],
        row_capacity=several(st.integers(0, 2), rows),
    )


def least(problem: Problem, limits: Limits, *, rows: bool = True) -> int:
    """The least objective by trying every choice of everyone."""
    options: list[list[int]] = [[-1] for _ in range(problem.penalty.size)]
    for arc, request in enumerate(problem.arc_request.tolist()):
        options[request].append(arc)
    best = int(problem.penalty.sum())

    def path(slot: int) -> list[int]:
        groups, group = [], int(limits.slot_group[slot])
        while group >= 0:
            groups.append(group)
            group = int(limits.group_parent[group])
        return groups

    row_of = [limits.row_of[limits.row_arc == arc].tolist() if rows else [] for arc in range(problem.arc_cost.size)]

    def go(request: int, cost: int, slots: Sequence[int], groups: Sequence[int], left: Sequence[int]) -> None:
        nonlocal best
        if request == len(options):
            best = min(best, cost)
            return
        for arc in options[request]:
            if arc < 0:
                go(request + 1, cost + int(problem.penalty[request]), slots, groups, left)
                continue
            slot, more = int(problem.arc_slot[arc]), int(problem.arc_cost[arc])
            mine = path(slot)
            if not slots[slot] or not all(groups[g] < limits.group_capacity[g] for g in mine):
                continue
            if not all(left[row] for row in row_of[arc]):
                continue
            more += sum(int(limits.group_step[g] * (limits.group_load[g] + groups[g])) for g in mine)
            go(
                request + 1,
                cost + more,
                [n - (s == slot) for s, n in enumerate(slots)],
                [n + (g in mine) for g, n in enumerate(groups)],
                [n - (row in row_of[arc]) for row, n in enumerate(left)],
            )

    go(0, 0, problem.capacity.tolist(), [0] * limits.group_parent.size, limits.row_capacity.tolist())
    return best


# -- what stays in the flow ----------------------------------------------------------------------------------------


@laws
@given(limited())
def test_nested_quotas_and_fair_load_stay_integral_and_optimal(case: tuple[Problem, Limits]) -> None:
    problem, limits = case
    plan = solve_flow(problem, limits)
    objective = check_limits(problem, limits, plan)
    assert objective == least(problem, limits)
    # proven by the independent checker too: the duals meet it
    assert limit_bound(problem, limits, limit_prices(problem, limits, plan)) == objective


@laws
@given(limited(), st.lists(st.integers(0, 80), min_size=9, max_size=9))
def test_any_prices_give_a_bound(case: tuple[Problem, Limits], prices: list[int]) -> None:
    problem, limits = case
    slots, groups = problem.capacity.size, limits.group_parent.size
    some = np.array(prices[:slots], np.int64), np.array(prices[5 : 5 + groups], np.int64)
    assert limit_bound(problem, limits, some) <= least(problem, limits)


@laws
@given(limited())
def test_a_plan_that_can_be_improved_has_no_prices(case: tuple[Problem, Limits]) -> None:
    problem, limits = case
    for plan in (solve_greedy(problem), nobody(problem)):
        try:
            objective = check_limits(problem, limits, plan)
        except PlanError:
            continue
        if objective > least(problem, limits):
            with pytest.raises(NotOptimalError):
                limit_prices(problem, limits, plan)


@laws
@given(limited(rows=2), st.integers(0, 1000))
def test_order_of_rows_changes_nothing(case: tuple[Problem, Limits], seed: int) -> None:
    problem, limits = case
    other, others = shuffled_limits(problem, limits, seed)
    assert pairs(problem, solve_flow(problem, limits)) == pairs(other, solve_flow(other, others))
    plan, same = solve_limited(problem, limits), solve_limited(other, others)
    assert (plan.objective, plan.bound, plan.method) == (same.objective, same.bound, same.method)
    assert pairs(problem, plan.plan) == pairs(other, same.plan)


def nobody(problem: Problem) -> Plan:
    none = np.full(problem.penalty.size, -1, np.int32)
    return Plan(none, none, int(problem.penalty.sum()), "greedy")


def test_fair_load_spreads_what_costs_alone_would_pile_up() -> None:
    """Four patients, two professionals of whom one is a little nearer."""
    arcs = [(r, s, 10 if s < 4 else 12) for r in range(4) for s in range(8)]
    problem = make(arcs, [1_000] * 4, [1] * 8)
    group = [0] * 4 + [1] * 4

    def loads(step: int, load: tuple[int, int] = (0, 0)) -> list[int]:
        limits = no_limits(
            problem,
            slot_group=group,
            group_parent=[-1, -1],
            group_capacity=[9, 9],
            group_step=[step, step],
            group_load=load,
        )
        plan = solve_flow(problem, limits)
        limit_prices(problem, limits, plan)
        return [int(load) for load in limits.loads(np.bincount(plan.slot, minlength=8))]

    assert loads(0) == [4, 0]
    assert loads(5) == [2, 2]
    assert loads(5, (2, 0)) == [1, 3], "what was given this morning counts"


def test_a_shared_cap_of_a_centre_binds_beyond_the_quotas_inside() -> None:
    problem = make([(r, r, 10) for r in range(4)], [100, 200, 300, 400], [1] * 4)
    limits = no_limits(
        problem,
        slot_group=[0, 0, 1, 1],
        group_parent=[2, 2, -1],
        group_capacity=[2, 1, 2],
        group_step=[0] * 3,
        group_load=[0] * 3,
    )
    plan = solve_flow(problem, limits)
    assert plan.slot.tolist() == [-1, 1, -1, 3]
    with pytest.raises(PlanError, match="Group 2 has 2"):
        check_limits(problem, limits, served(problem, [0, 1, -1, 3]))
    with pytest.raises(PlanError, match="Group 1 has 1"):
        check_limits(problem, limits, served(problem, [-1, -1, 2, 3]))


def served(problem: Problem, arcs: list[int]) -> Plan:
    arc = np.array(arcs, np.int32)
    used = arc[arc >= 0]
    slot = np.full(arc.size, -1, np.int32)
    slot[arc >= 0] = problem.arc_slot[used]
    cost = int(problem.arc_cost[used].sum() + problem.penalty[arc < 0].sum())
    return Plan(slot, arc, cost, "greedy")


def test_a_tight_town_is_proven_by_its_prices() -> None:
    """300 requests on 200 slots in quotas, centres and costs of load: too many for brute force, so by duality."""
    problem = town(300, 200, 8, seed=5, capacity=2)
    people = [slot // 5 for slot in range(200)]
    limits = no_limits(
        problem,
        slot_group=people,
        group_parent=[*(40 + person // 10 for person in range(40)), *[-1] * 4],
        group_capacity=[*[4] * 40, 30, 35, 40, 25],
        group_step=[*[25] * 40, *[3] * 4],
        group_load=[*range(3), *[0] * 41],
    )
    plan = solve_flow(problem, limits)
    objective = check_limits(problem, limits, plan)
    assert limit_bound(problem, limits, limit_prices(problem, limits, plan)) == objective
    assert limits.loads(np.bincount(plan.slot[plan.slot >= 0], minlength=200))[40:].tolist() == [30, 35, 40, 25]


# -- what breaks it --------------------------------------------------------------------------------------------------


@laws
@given(limited(rows=2))
def test_with_packing_rows_cp_sat_finds_the_optimum(case: tuple[Problem, Limits]) -> None:
    problem, limits = case
    found = solve_limited(problem, limits)
    assert check_limits(problem, limits, found.plan) == found.objective == least(problem, limits)
    assert found.gap == 0
    assert (found.searched == 0) == (found.method != "cp-sat")


@laws
@given(limited(rows=2))
def test_without_a_budget_the_repair_keeps_every_limit_and_states_its_gap(case: tuple[Problem, Limits]) -> None:
    problem, limits = case
    found = solve_limited(problem, limits, deterministic_s=0)
    assert check_limits(problem, limits, found.plan) == found.objective
    assert found.bound <= least(problem, limits) <= found.objective
    assert found.bound == least(problem, limits, rows=False) and found.method in ("flow", "repair")


def test_one_child_a_day_and_only_the_component_that_carries_it_is_searched() -> None:
    """Two children want two slots of one professional; a third request, elsewhere, is none of CP-SAT's business."""
    problem = make([(0, 0, 10), (0, 1, 11), (1, 0, 10), (1, 1, 30), (2, 2, 5)], [100, 100, 100], [1, 1, 1])
    limits = no_limits(problem, row_arc=[0, 1, 2, 3], row_of=[0] * 4, row_capacity=[1])
    assert limits.row_counts(solve_flow(problem, limits)).tolist() == [2]
    found = solve_limited(problem, limits)
    assert found.objective == 10 + 100 + 5 and found.gap == 0 and found.searched == 2
    with pytest.raises(PlanError, match="Row 0 allows 1"):
        check_limits(problem, limits, served(problem, [0, 3, 4]))
    check_limits(problem, limits, served(problem, [0, 3, 4]), rows=False)


def test_a_repair_within_the_bound_is_not_searched() -> None:
    """Wherever the tie-break sends the two children, the other slot costs the same."""
    arcs = [(0, 0, 10), (0, 1, 10), (1, 2, 10), (1, 3, 10)]
    methods = set()
    for key in range(200, 232):
        problem = make(arcs, [100, 100], [1] * 4, slot_key=[key, key + 100, key + 200, key + 300])
        found = solve_limited(problem, no_limits(problem, row_arc=[0, 2], row_of=[0, 0], row_capacity=[1]))
        assert (found.objective, found.gap, found.searched) == (20, 0, 0)
        methods.add(found.method)
    assert methods == {"flow", "repair"}


def test_the_repair_serves_nobody_at_more_than_it_is_worth() -> None:
    """The child that has to go could go to a professional who has too much already."""
    problem = make([(0, 0, 10), (1, 1, 20), (1, 2, 30)], [100, 100], [1] * 3)
    limits = no_limits(
        problem, slot_group=[-1, -1, 0], group_parent=[-1], group_capacity=[5], group_step=[35], group_load=[2],
        row_arc=[0, 1], row_of=[0, 0], row_capacity=[1],
    )  # fmt: skip
    found = solve_limited(problem, limits, deterministic_s=0)
    assert (found.objective, found.plan.slot.tolist()) == (110, [0, -1])


def test_the_budget_goes_to_the_smallest_component_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three children of one professional, two of another: those of two may have what the repair took them."""
    asked, search = [], limited_module._search

    def watched(*arguments: Any) -> Any:
        asked.append(int(np.count_nonzero(arguments[3])))
        return search(*arguments)

    monkeypatch.setattr(limited_module, "_search", watched)
    arcs = [(r, r, 10) for r in range(5)]
    problem = make(arcs, [100] * 5, [1] * 5)
    limits = no_limits(problem, row_arc=range(5), row_of=[0, 0, 0, 1, 1], row_capacity=[1, 1])
    assert solve_limited(problem, limits).gap == 0
    assert asked == [2, 3]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.integers(-1, 2), st.integers(0, 20), st.integers(1, 6)), max_size=12),
)
def test_cliques_say_as_much_as_all_overlapping_pairs(drawn: list[tuple[int, int, int]]) -> None:
    professional, start, length = (np.array(column, np.int64) for column in zip(*drawn, strict=True)) if drawn else (
        np.empty(0, np.int64),
    ) * 3  # fmt: skip
    end = start + length
    told = {
        (int(a), int(b))
        for clique in overlap_cliques(professional, start, end)
        for a in clique
        for b in clique
        if a < b
    }
    expected = {
        (a, b)
        for a in range(len(drawn))
        for b in range(a + 1, len(drawn))
        if professional[a] == professional[b] >= 0 and start[a] < end[b] and start[b] < end[a]
    }
    assert told == expected
    cliques = [set(clique.tolist()) for clique in overlap_cliques(professional, start, end)]
    assert not any(a < b for a in cliques for b in cliques), "none inside another"


# -- what is no limit ------------------------------------------------------------------------------------------------


def test_limits_that_do_not_fit_are_refused() -> None:
    problem = make([(0, 0, 1)], [10], [1])
    good = no_limits(
        problem, slot_group=[0], group_parent=[1, -1], group_capacity=[1, 1], group_step=[0, 0], group_load=[0, 0]
    )
    good.check(problem)

    def ints(*values: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        return np.array(values, np.int64)

    for wrong in (
        replace(good, group_parent=np.array([-1, 0], np.int32)),
        replace(good, group_parent=np.array([0, -1], np.int32)),
        replace(good, slot_group=np.array([2], np.int32)),
        replace(good, slot_group=np.array([0, 0], np.int32)),
        replace(good, group_capacity=ints(1, -1)),
        replace(good, group_step=ints(-1, 0)),
        replace(good, group_load=ints(0)),
        replace(good, row_arc=np.array([1], np.int32), row_of=np.array([0], np.int32), row_capacity=ints(1)),
        replace(good, row_arc=np.array([0], np.int32), row_of=np.array([1], np.int32), row_capacity=ints(1)),
    ):
        with pytest.raises(ProblemError):
            solve_flow(problem, wrong)
    with pytest.raises(CostRangeError):
        solve_flow(problem, replace(good, group_step=ints(1 << 58, 0), group_load=ints(9, 0)))
    with pytest.raises(ProblemError, match="in the problem too"):
        solve_flow(make([(0, 0, 1)], [10], [1], slot_group=[0], group_capacity=[1]), good)
    with pytest.raises(ValueError, match="one price"):
        limit_bound(problem, good, (ints(1, 2), ints(0, 0)))
    with pytest.raises(ValueError, match=">= 0"):
        limit_bound(problem, good, (ints(1), ints(0, -1)))
