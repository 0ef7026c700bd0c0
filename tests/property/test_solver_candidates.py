"""Laws of the choice of candidates."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from solver import spread_selection

costs_of = st.lists(st.integers(-50, 50), max_size=120)
in_runs = st.lists(st.lists(st.integers(-50, 50), min_size=40, max_size=60).map(sorted), max_size=4).map(
    lambda runs: [cost for run in runs for cost in run]
)
"""In order but for a few breaks, as places by video are."""


@given(st.one_of(costs_of, in_runs), st.integers(1, 20), st.integers(0, 20))
def test_selection_equals_a_full_sort(costs: list[int], cheapest: int, spread: int) -> None:
    """The cheapest in order, then the middles of equal bands of the rest, ties by position."""
    ordered = sorted(range(len(costs)), key=lambda i: (costs[i], i))
    if len(costs) > cheapest + spread:
        rest = len(costs) - cheapest
        middles = [cheapest + (2 * i + 1) * rest // (2 * spread) for i in range(spread)]
        expected = ordered[:cheapest] + [ordered[m] for m in middles]
    else:
        expected = ordered
    got = spread_selection(np.array(costs, np.int64), cheapest, spread)
    assert got.tolist() == expected
    assert len(set(got.tolist())) == min(len(costs), cheapest + spread)
