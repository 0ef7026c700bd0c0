"""Laws of the certificate: what it proves about a plan that was found on pruned lists."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from solver import OmittedArcs, Problem, certify, check, solve_flow, solve_greedy
from tests.solver_cases import arcs_of, brute_force, omitted_of, problems, town, with_arcs

laws = settings(max_examples=150, deadline=None)


@st.composite
def pruned(draw: st.DrawFn) -> tuple[Problem, Problem, OmittedArcs]:
    """A full problem, the same with some arcs left out, and those arcs."""
    full = draw(problems())
    arcs = arcs_of(full)
    keep = draw(st.lists(st.booleans(), min_size=len(arcs), max_size=len(arcs)))
    listed = [arc for arc, kept in zip(arcs, keep, strict=True) if kept]
    return full, with_arcs(full, listed), omitted_of([a for a, k in zip(arcs, keep, strict=True) if not k])


@laws
@given(pruned())
def test_gap_is_never_below_the_true_gap(case: tuple[Problem, Problem, OmittedArcs]) -> None:
    full, listed, omitted = case
    plan = solve_flow(listed)
    certificate = certify(listed, plan, omitted)
    true_gap = plan.objective - brute_force(full)
    assert certificate.gap >= true_gap >= 0
    assert certificate.bound == plan.objective - certificate.gap
    assert certificate.optimal == (certificate.gap == 0) == (certificate.violated.cost.size == 0)


@laws
@given(pruned(), st.lists(st.integers(0, 80), min_size=6, max_size=6))
def test_gap_of_any_plan_at_any_prices(case: tuple[Problem, Problem, OmittedArcs], prices: list[int]) -> None:
    """A greedy plan with prices from elsewhere gets a valid gap too."""
    full, listed, omitted = case
    plan = solve_greedy(listed)
    some_prices = np.array(prices[: full.capacity.size], np.int64)
    certificate = certify(listed, plan, omitted, prices=some_prices)
    assert certificate.gap >= plan.objective - brute_force(full)


@laws
@given(pruned())
def test_adding_the_violated_arcs_leads_to_the_full_optimum(
    case: tuple[Problem, Problem, OmittedArcs],
) -> None:
    full, listed, omitted = case
    for _ in range(omitted.cost.size + 1):
        certificate = certify(listed, solve_flow(listed), omitted)
        if certificate.optimal:
            break
        v = certificate.violated
        added = list(zip(v.request.tolist(), v.slot.tolist(), v.cost.tolist(), strict=True))
        listed = with_arcs(listed, [*arcs_of(listed), *added])
    assert certificate.optimal
    assert certificate.bound == brute_force(full)


def test_burst_of_pruned_lists_is_repaired_by_pricing() -> None:
    """300 requests on 300 places with their 6 cheapest arcs: refuted first, the optimum of all arcs in the end.

    Prices by a function, which gives only the best omitted arcs of each request, as a store would.
    """
    full = town(300, 300, 60, seed=1)
    by_cost = np.lexsort((full.arc_cost, full.arc_request)).reshape(300, 60)
    arcs = arcs_of(full)
    listed = with_arcs(full, [arcs[a] for a in by_cost[:, :6].ravel()])

    def price(prices: NDArray[np.int64], utilities: NDArray[np.int64]) -> OmittedArcs:
        reduced = full.arc_cost + prices[full.arc_slot]
        best = np.lexsort((reduced, full.arc_request)).reshape(300, 60)[:, :10].ravel()
        best = best[reduced[best] < utilities[full.arc_request[best]]]
        return OmittedArcs(full.arc_request[best], full.arc_slot[best], full.arc_cost[best])

    optimum = solve_flow(full).objective
    first = solve_flow(listed)
    certificate = certify(listed, first, price)
    assert not certificate.optimal
    assert certificate.gap >= first.objective - optimum > 0
    for _ in range(20):
        plan = solve_flow(listed)
        certificate = certify(listed, plan, price)
        if certificate.optimal:
            break
        v = certificate.violated
        added = list(zip(v.request.tolist(), v.slot.tolist(), v.cost.tolist(), strict=True))
        listed = with_arcs(listed, [*arcs_of(listed), *added])
    check(listed, plan)
    assert certificate.optimal
    assert plan.objective == optimum
