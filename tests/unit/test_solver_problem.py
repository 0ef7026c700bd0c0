"""Guards of Problem, and what its derived orders mean."""

import pickle
from dataclasses import FrozenInstanceError, replace
from typing import Any

import numpy as np
import pytest

from solver import CostRangeError, Problem, ProblemError, solve_flow
from solver.problem import COST_LIMIT
from tests.solver_cases import make, pairs, town

ARCS = [(0, 0, 5), (0, 1, 7), (1, 1, 3)]


def base(**changes: Any) -> Problem:
    problem = make(ARCS, [10, 10], [1, 1], slot_group=[0, -1], group_capacity=[1])
    return replace(problem, **changes)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("arc_request", np.array([0, 0, 1]), r"Expected arc_request to be a numpy array int32\[n\], got int64\[3\]"),
        ("arc_slot", np.array([0, 1, 1], np.uint32), "Expected arc_slot to be a numpy array int32"),
        ("arc_cost", np.array([5.0, 7, 3]), r"got float64\[3\]"),
        ("arc_cost", [5, 7, 3], "got list"),
        ("arc_cost", np.zeros((3, 1), np.int64), r"got int64\[3, 1\]"),
        ("penalty", np.array([1.0, 2.0]), "Expected penalty"),
        ("rank", np.array([0, 0], np.int32), "Expected rank"),
        ("capacity", np.array([1, 1], np.int32), "Expected capacity"),
        ("request_key", np.array([1, 2]), "Expected request_key"),
        ("slot_key", np.array([1, 2]), "Expected slot_key"),
        ("slot_group", np.array([0, 0]), "Expected slot_group"),
        ("group_capacity", np.array([0], np.int32), "Expected group_capacity"),
        ("arc_slot", np.array([0, 1], np.int32), "Expected 3 values in arc_slot, got 2"),
        ("arc_cost", np.array([0, 1]), "Expected 3 values in arc_cost, got 2"),
        ("rank", np.array([0]), "Expected 2 values in rank, got 1"),
        ("request_key", np.array([1], np.uint64), "Expected 2 values in request_key, got 1"),
        ("slot_key", np.array([1], np.uint64), "Expected 2 values in slot_key, got 1"),
        ("slot_group", np.array([0], np.int32), "Expected 2 values in slot_group, got 1"),
        ("arc_request", np.array([0, 0, 2], np.int32), "Expected 0 <= arc_request < 2, got 2 at 2"),
        ("arc_request", np.array([0, -1, 1], np.int32), "Expected 0 <= arc_request < 2, got -1 at 1"),
        ("arc_slot", np.array([0, 2, 1], np.int32), "Expected 0 <= arc_slot < 2, got 2 at 1"),
        ("arc_slot", np.array([-1, 0, 1], np.int32), "Expected 0 <= arc_slot < 2, got -1 at 0"),
        ("slot_group", np.array([0, 1], np.int32), "Expected -1 <= slot_group < 1, got 1 at 1"),
        ("slot_group", np.array([-2, 0], np.int32), "Expected -1 <= slot_group < 1, got -2 at 0"),
        ("penalty", np.array([10, -1]), "Expected penalty >= 0, got -1 at 1"),
        ("capacity", np.array([-3, 1]), "Expected capacity >= 0, got -3 at 0"),
        ("group_capacity", np.array([-1]), "Expected group_capacity >= 0, got -1 at 0"),
        ("slot_group", None, "Expected slot_group and group_capacity together"),
        ("group_capacity", None, "Expected slot_group and group_capacity together"),
        ("request_key", np.array([4, 4], np.uint64), "distinct values of request_key, rows [01] and [01] share"),
        ("slot_key", np.array([4, 4], np.uint64), "distinct values of slot_key, rows [01] and [01] share"),
        (
            "arc_slot",
            np.array([1, 1, 1], np.int32),
            "Expected one arc per pair of request and slot, got several for request 0 and slot 1",
        ),
    ],
)
def test_refused(name: str, value: object, message: str) -> None:
    with pytest.raises(ProblemError, match=message):
        base(**{name: value})


def test_single_request_refuses_repeated_arcs_and_keys() -> None:
    """The short path of one request has guards of its own."""
    with pytest.raises(ProblemError, match="several for slot 1"):
        make([(0, 1, 5), (0, 1, 6)], [10], [1, 1])
    with pytest.raises(ProblemError, match="distinct values of slot_key"):
        make([(0, 0, 5), (0, 1, 6)], [10], [1, 1], slot_key=[7, 7])


def test_slots_without_arcs_may_share_a_key() -> None:
    """They take no part: a store may leave its empty rows unkeyed."""
    problem = make(ARCS, [10, 10], [1, 1, 0, 0], slot_key=[5, 6, 0, 0])
    assert problem.slot_order.tolist() == [0, 1]


@pytest.mark.parametrize(("where", "sign"), [("arc_cost", 1), ("arc_cost", -1), ("penalty", 1)])
def test_costs_beyond_exact_arithmetic_are_refused(where: str, sign: int) -> None:
    """Two requests, two slots, one group, one sink: six nodes."""
    largest = (COST_LIMIT - 1) // 7
    value = np.array([0, 0, sign * largest] if where == "arc_cost" else [0, largest])
    base(**{where: value})
    with pytest.raises(CostRangeError, match=r"Expected max\|cost\| \* \(nodes \+ 1\) < 2\*\*61"):
        base(**{where: value + sign * (value != 0)})


def test_costs_at_the_limit_are_solved_exactly() -> None:
    """No room for the tie-break is left there; the optimum and its independence of row order remain."""
    largest = (COST_LIMIT - 1) // 6
    arcs = [(0, 0, 0), (0, 1, 1), (1, 0, 0), (1, 1, 2)]
    problem = make(arcs, [largest, largest], [1, 1])
    plan = solve_flow(problem)
    assert plan.objective == 1
    assert pairs(problem, plan) == {1: 102, 2: 101}


def test_orders_go_by_key() -> None:
    problem = make([(0, 0, 1), (0, 1, 2), (1, 1, 3)], [9, 9], [1, 1, 1], request_key=[20, 10], slot_key=[8, 7, 1])
    assert problem.request_order.tolist() == [1, 0]
    assert problem.slot_order.tolist() == [1, 0]
    assert problem.arc_order.tolist() == [2, 1, 0]


def test_problem_is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        base().penalty = np.zeros(2, np.int64)  # type: ignore[misc]


def test_problem_and_plan_cross_a_process_border() -> None:
    """A worker process gets the problem and returns the plan: both survive pickling."""
    problem = town(8, 20, 5, seed=3)
    again = pickle.loads(pickle.dumps(problem))
    plan = pickle.loads(pickle.dumps(solve_flow(again)))
    assert plan.arc.tolist() == solve_flow(problem).arc.tolist()
