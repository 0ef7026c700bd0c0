"""Travel estimates agree with the day log's formula and say how rough they are."""

import math

import numpy as np
import pytest

from sas_matcher.travel import TRAVEL_SOURCE, haversine_km, travel_min, travel_range_min


def test_distance_of_a_degree_on_the_equator_and_half_the_globe() -> None:
    assert haversine_km(0, 0, 0, 1) == pytest.approx(6371.0088 * math.pi / 180, rel=1e-12)
    assert haversine_km(0, 0, 0, 180) == pytest.approx(6371.0088 * math.pi, rel=1e-12)
    assert haversine_km(45.1, 4.2, 45.1, 4.2) == 0


def test_rounding_at_the_antipodes_does_no_harm() -> None:
    """For some of these pairs the haversine comes out as 1 + 2e-16, the root of which must still be 1."""
    rng = np.random.default_rng(0)
    lat, lon = rng.uniform(-90, 90, 50_000), rng.uniform(-180, 0, 50_000)
    assert haversine_km(lat, lon, -lat, lon + 180) == pytest.approx(6371.0088 * math.pi, rel=1e-7)


def test_paris_to_lyon() -> None:
    assert haversine_km(48.8566, 2.3522, 45.7640, 4.8357) == pytest.approx(391.5, abs=0.5)


def test_distance_broadcasts() -> None:
    km = haversine_km(np.array([[45.0], [46.0]]), 4.0, np.array([45.0, 46.0, 47.0]), 4.0)
    assert km.shape == (2, 3)
    assert km[0, 0] == km[1, 1] == 0


def test_travel_is_the_day_logs_formula() -> None:
    assert travel_min(0) == 3.0
    assert travel_min(10) == pytest.approx(22.5)
    assert travel_min(np.array([0.0, 10.0]), base_min=1, min_per_km=2).tolist() == [1.0, 21.0]


def test_range_holds_the_estimate_and_is_the_stated_spread() -> None:
    low, high = travel_range_min(np.array([0.0, 10.0]))
    assert low[0] == high[0] == 3.0
    assert low[1] == pytest.approx(3 + 10 * 1.2 * 60 / 50)
    assert high[1] == pytest.approx(3 + 10 * 1.4 * 60 / 30)


def test_an_estimate_is_called_one() -> None:
    assert TRAVEL_SOURCE == "estimate"
