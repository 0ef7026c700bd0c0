"""The checker refuses what is wrong, each rule by itself; prices and certificates in cases small enough to read."""

from dataclasses import FrozenInstanceError
from typing import Any

import numpy as np
import pytest

from solver import (
    NotOptimalError,
    Plan,
    PlanError,
    bound,
    certify,
    check,
    request_utilities,
    slot_prices,
    solve_flow,
    solve_greedy,
)
from tests.solver_cases import make, omitted_of

PROBLEM = make(
    [(0, 0, 5), (0, 1, 7), (1, 1, 3), (1, 2, 20), (2, 1, 4), (2, 2, 8)],
    [10, 10, 10],
    [1, 2, 1],
    slot_group=[-1, 0, 0],
    group_capacity=[2],
)


def plan_with(arc: list[int], *, slot: list[int] | None = None, objective: int | None = None) -> Plan:
    """A plan by its arcs, with slots and objective that fit them unless given."""
    fitting = [int(PROBLEM.arc_slot[a]) if 0 <= a < 6 else -1 for a in arc]
    total = sum(int(PROBLEM.arc_cost[a]) if 0 <= a < 6 else 10 for a in arc)
    return Plan(
        np.array(fitting if slot is None else slot, np.int32),
        np.array(arc, np.int32),
        total if objective is None else objective,
        "flow",
    )


def test_a_right_plan_passes() -> None:
    check(PROBLEM, plan_with([0, 2, 4]))
    check(PROBLEM, plan_with([-1, -1, -1]))


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (plan_with([0, 2]), r"Expected one slot per request \(3\), got shape \(2,\)"),
        (plan_with([0, 2], slot=[0, 1, -1]), r"Expected one arc per request \(3\), got shape \(2,\)"),
        (plan_with([6, 2, -1]), "Request 0: arc 6 is no arc of the problem"),
        (plan_with([0, -2, -1]), "Request 1: arc -2 is no arc of the problem"),
        (plan_with([0, 4, -1]), "Request 1: arc 4 belongs to another request"),
        (plan_with([0, 2, -1], slot=[1, 1, -1]), "Request 0: slot 1 is not that of its arc"),
        (plan_with([0, 2, -1], slot=[0, 1, 2]), "Request 2: slot 2 is not that of its arc"),
        (plan_with([0, 3, -1]), "Request 1: arc 3 costs no less than leaving the request unserved"),
        (plan_with([1, 2, 4]), "Slot 1 takes 3 requests, it has 2 places"),
        (plan_with([1, 2, 5]), "Group 0 takes 3 requests, it has 2 places"),
        (plan_with([0, 2, 4], objective=11), "Objective is 11, its arcs and penalties add up to 12"),
    ],
)
def test_a_wrong_plan_is_refused(plan: Plan, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        check(PROBLEM, plan)


def test_serving_at_the_penalty_is_refused() -> None:
    """Cost == penalty means unserved: such a place is taken for nothing."""
    problem = make([(0, 0, 10)], [10], [1])
    with pytest.raises(PlanError, match="costs no less"):
        check(problem, Plan(np.array([0], np.int32), np.array([0], np.int32), 10, "flow"))


def test_wrong_plans_get_neither_prices_nor_certificate() -> None:
    wrong = plan_with([1, 2, 4])
    with pytest.raises(PlanError):
        slot_prices(PROBLEM, wrong)
    with pytest.raises(PlanError):
        certify(PROBLEM, wrong, omitted_of([]), prices=np.zeros(3, np.int64))


def test_a_lost_place_is_priced_at_what_it_would_gain() -> None:
    """Two want one place; the loser would gain 6, so that is the price."""
    problem = make([(0, 0, 1), (1, 0, 4)], [10, 10], [1])
    assert slot_prices(problem, solve_flow(problem)).tolist() == [6]


def test_the_price_of_a_full_group_is_in_each_of_its_slots() -> None:
    """One place for two slots: a further place in either would serve the other request."""
    problem = make([(0, 0, 1), (1, 1, 4)], [10, 10], [1, 1], slot_group=[0, 0], group_capacity=[1])
    plan = solve_flow(problem)
    prices = slot_prices(problem, plan)
    assert prices.tolist() == [6, 6]
    assert bound(problem, prices) == plan.objective == 11


def test_prices_pass_through_full_groups() -> None:
    """Slots 1 and 2 share one place. Request 2 wants slot 0, whose holder could go to slot 2 at 3 more.

    One more place in slot 0 would gain 20; in slot 2, or in slot 1 by the shared place, 3 less, and what request 1
    pays there does not matter.
    """
    arcs = [(0, 0, 1), (0, 2, 4), (1, 1, 1), (2, 0, 80)]
    problem = make(arcs, [100] * 3, [1, 1, 1], slot_group=[-1, 0, 0], group_capacity=[1])
    plan = solve_flow(problem)
    assert plan.slot.tolist() == [0, 1, -1]
    assert slot_prices(problem, plan).tolist() == [20, 17, 17]


def test_an_exchange_that_gains_is_found() -> None:
    """Each holds the slot that is dear for it: no fixed point."""
    problem = make([(0, 0, 5), (0, 1, 1), (1, 0, 1), (1, 1, 5)], [90, 90], [1, 1])
    crossed = Plan(np.array([0, 1], np.int32), np.array([0, 3], np.int32), 10, "flow")
    with pytest.raises(NotOptimalError, match="no fixed point"):
        slot_prices(problem, crossed)


def test_a_place_left_free_is_found() -> None:
    problem = make([(0, 0, 5)], [9, 9], [1])
    idle = Plan(np.array([-1, -1], np.int32), np.array([-1, -1], np.int32), 18, "flow")
    with pytest.raises(NotOptimalError, match="Slot 0 has a free place that would gain 4"):
        slot_prices(problem, idle)


def test_a_free_place_in_a_group_with_room_is_found() -> None:
    problem = make([(0, 0, 5)], [9, 9], [1], slot_group=[0], group_capacity=[1])
    idle = Plan(np.array([-1, -1], np.int32), np.array([-1, -1], np.int32), 18, "flow")
    with pytest.raises(NotOptimalError, match="Slot 0 has a free place"):
        slot_prices(problem, idle)


def test_a_place_given_to_the_wrong_one_is_found() -> None:
    problem = make([(0, 0, 5), (1, 0, 5)], [9, 90], [1])
    unjust = Plan(np.array([0, -1], np.int32), np.array([0, -1], np.int32), 95, "flow")
    with pytest.raises(NotOptimalError, match="Request 0 holds a place that another request needs more"):
        slot_prices(problem, unjust)


def test_long_chains_of_exchange_are_followed() -> None:
    """Request r holds slot r and could move to slot r + 1; the last slot is wanted by one who has nothing.

    Each slot is then worth what the last one would gain, less the detours on the way.
    """
    n = 40
    arcs = [(r, r, 10) for r in range(n)] + [(r, r - 1, 11) for r in range(1, n)] + [(n, n - 1, 0)]
    problem = make(arcs, [1000] * n + [500], [1] * n)
    prices = slot_prices(problem, solve_flow(problem))
    assert prices.tolist() == [500 - (n - 1 - s) for s in range(n)]


def test_utilities_ignore_slots_that_take_nobody() -> None:
    """At price 0 a closed slot or group would look like a bargain."""
    problem = make([(0, 0, 1), (0, 1, 2), (0, 2, 6)], [9], [0, 1, 1], slot_group=[-1, 0, -1], group_capacity=[0])
    assert request_utilities(problem, np.zeros(3, np.int64)).tolist() == [6]


def test_certificate_of_full_lists_is_clean() -> None:
    plan = solve_flow(PROBLEM)
    certificate = certify(PROBLEM, plan, omitted_of([]))
    assert certificate.optimal
    assert (certificate.gap, certificate.bound) == (0, plan.objective)
    assert certificate.violated.cost.size == 0
    with pytest.raises(FrozenInstanceError):
        certificate.gap = 1  # type: ignore[misc]


def test_certificate_names_the_arcs_that_were_left_out() -> None:
    """Request 0 pays 8; omitted arcs of 5 and 3 would do, one of 8 would not, nor one to a closed slot."""
    problem = make([(0, 0, 8)], [10, 10], [1, 1, 1, 1, 0])
    omitted = omitted_of([(0, 1, 5), (0, 2, 3), (0, 3, 8), (0, 4, 0)])
    certificate = certify(problem, solve_flow(problem), omitted)
    assert not certificate.optimal
    assert certificate.gap == 5
    assert certificate.violated.slot.tolist() == [2, 1]
    assert certificate.violated.cost.tolist() == [3, 5]


def test_at_most_32_violated_arcs_of_each_request() -> None:
    slots = 50
    problem = make([], [100, 100], [1] * slots)
    omitted = omitted_of([(r, s, s) for r in (1, 0) for s in reversed(range(slots))])
    certificate = certify(problem, solve_flow(problem), omitted)
    assert certificate.violated.request.tolist() == [0] * 32 + [1] * 32
    assert certificate.violated.cost.tolist() == [*range(32), *range(32)]


def test_pricing_function_gets_prices_and_utilities() -> None:
    problem = make([(0, 0, 1), (1, 0, 4)], [10, 10], [1])
    seen: list[list[int]] = []

    def price(prices: Any, utilities: Any) -> Any:
        seen.extend((prices.tolist(), utilities.tolist()))
        return omitted_of([])

    assert certify(problem, solve_flow(problem), price).optimal
    assert seen == [[6], [7, 10]]


def test_greedy_plan_needs_prices_from_elsewhere() -> None:
    """With those of the optimum, its gap is its true distance from it."""
    problem = make([(0, 0, 1), (0, 1, 2), (1, 0, 3)], [100, 100], [1, 1])
    greedy, best = solve_greedy(problem), solve_flow(problem)
    with pytest.raises(NotOptimalError):
        certify(problem, greedy, omitted_of([]))
    certificate = certify(problem, greedy, omitted_of([]), prices=slot_prices(problem, best))
    assert not certificate.optimal
    assert certificate.gap == greedy.objective - best.objective == 96


@pytest.mark.parametrize(
    ("prices", "message"),
    [
        (np.zeros(2, np.int64), "Expected int64"),
        (np.zeros(3), "Expected int64"),
        (np.array([0, -1, 0]), "Expected 0 <= prices"),
        (np.array([0, (1 << 61) + 1, 0]), "Expected 0 <= prices"),
    ],
)
def test_prices_that_prove_nothing_are_refused(prices: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bound(PROBLEM, prices)
    with pytest.raises(ValueError, match=message):
        certify(PROBLEM, solve_flow(PROBLEM), omitted_of([]), prices=prices)


@pytest.mark.parametrize(
    ("arcs", "message"),
    [
        ([(3, 0, 1)], "omitted.request < 3"),
        ([(-1, 0, 1)], "omitted.request < 3"),
        ([(0, 3, 1)], "omitted.slot < 3"),
        ([(0, -1, 1)], "omitted.slot < 3"),
        ([(0, 0, 1 << 60)], "omitted.cost as int64"),
        ([(0, 0, -(1 << 60))], "omitted.cost as int64"),
    ],
)
def test_omitted_arcs_that_do_not_fit_are_refused(arcs: list[tuple[int, int, int]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        certify(PROBLEM, solve_flow(PROBLEM), omitted_of(arcs))


@pytest.mark.parametrize("column", ["request", "slot", "cost"])
def test_omitted_columns_must_match(column: str) -> None:
    omitted = omitted_of([(0, 0, 1), (1, 1, 1)])
    object.__setattr__(omitted, column, np.zeros(1) if column == "cost" else np.zeros(1, np.int32))
    with pytest.raises(ValueError, match="omitted"):
        certify(PROBLEM, solve_flow(PROBLEM), omitted)


def test_sums_do_not_overflow() -> None:
    """2⁴⁰ tenths of a minute on each of many priced places: the bound is beyond 64 bits and still exact."""
    n, price = 40, 1 << 61
    problem = make([], [0] * n, [1 << 62] * n)
    assert bound(problem, np.full(n, price)) == -n * n * price
