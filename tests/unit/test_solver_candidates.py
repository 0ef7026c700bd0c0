"""The choice of candidates: 16 cheapest and 16 spread."""

import numpy as np
import pytest

from solver import spread_selection


def test_sixteen_cheapest_and_sixteen_spread() -> None:
    """Of 176 by cost: ranks 0 to 15, then the middle of each band of ten."""
    costs = np.random.default_rng(1).permutation(176)
    got = costs[spread_selection(costs)]
    assert got.tolist() == [*range(16), *range(21, 176, 10)]


def test_short_lists_are_kept_whole() -> None:
    costs = np.array([3, 1, 2, 1])
    assert spread_selection(costs).tolist() == [1, 3, 2, 0]
    assert spread_selection(np.empty(0, np.int64)).tolist() == []


def test_no_spread_is_the_cheapest_only() -> None:
    assert spread_selection(np.array([5, -4, 3, 2]), 2, 0).tolist() == [1, 3]


@pytest.mark.parametrize(("cheapest", "spread"), [(0, 16), (16, -1)])
def test_counts_out_of_range_are_refused(cheapest: int, spread: int) -> None:
    with pytest.raises(ValueError, match="Expected cheapest >= 1 and spread >= 0"):
        spread_selection(np.arange(50), cheapest, spread)


@pytest.mark.parametrize("sign", [1, -1])
def test_costs_too_large_to_order_exactly_are_refused(sign: int) -> None:
    costs = np.arange(64) * sign
    costs[7] = sign * ((1 << 56) - 2)
    assert (spread_selection(costs, 1, 1)[0] == 7) == (sign < 0)
    costs[7] = sign * ((1 << 56) - 1)
    with pytest.raises(ValueError, match="Expected"):
        spread_selection(costs, 1, 1)
