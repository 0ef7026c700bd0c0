"""Pure parts of the benchmark: percentiles, ratios of runs in turn, the schedule of the open loop."""

from itertools import islice, pairwise
from statistics import mean, pstdev

import pytest

from tests.bench.figures import percentile, ratio, schedule
from tests.bench.market import SPOT_KM, SPOTS, empty_spots, france
from tests.bench.wire import message


@pytest.mark.parametrize(("share", "value"), [(0.01, 1), (0.5, 50), (0.95, 95), (0.99, 99), (0.991, 100), (1.0, 100)])
def test_a_percentile_is_a_value_that_was_seen(share: float, value: float) -> None:
    assert percentile([float(n) for n in range(100, 0, -1)], share) == value


def test_the_99th_percentile_of_few_values_is_the_largest() -> None:
    assert percentile([3.0, 1.0, 2.0], 0.99) == 3.0


@pytest.mark.parametrize(("values", "share"), [([], 0.5), ([1.0], 0.0), ([1.0], 1.1)])
def test_a_percentile_of_nothing_is_refused(values: list[float], share: float) -> None:
    with pytest.raises(ValueError, match="Expected"):
        percentile(values, share)


def test_runs_are_compared_pair_by_pair_before_they_are_summed_up() -> None:
    """The machine slowed down by ten for the second pair: no ratio moves. A ratio of medians would say 0.5 or 5."""
    result = ratio([4.0, 40.0, 6.0], [2.0, 20.0, 2.0])
    assert (result.median, result.least, result.greatest) == (2.0, 2.0, 3.0)
    assert str(result) == "2.00 (2.00 to 3.00)"


@pytest.mark.parametrize(("ours", "theirs"), [([1.0], []), ([], []), ([1.0, 2.0], [1.0]), ([1.0], [0.0])])
def test_runs_without_a_partner_are_refused(ours: list[float], theirs: list[float]) -> None:
    with pytest.raises(ValueError, match="as many runs"):
        ratio(ours, theirs)


def test_the_schedule_is_the_same_for_the_same_seed_and_in_order() -> None:
    instants = schedule(50, 10, seed=3)
    assert instants == schedule(50, 10, seed=3) != schedule(50, 10, seed=4)
    assert len(instants) == 500
    assert instants == sorted(instants)
    assert 0 <= instants[0] < instants[-1] <= 10


def test_the_schedule_comes_in_bursts_as_a_poisson_stream_does() -> None:
    """Gaps of a Poisson stream are exponential: their spread is their mean. A metronome's would be zero."""
    gaps = [later - earlier for earlier, later in pairwise(schedule(100, 100, seed=1))]
    assert mean(gaps) == pytest.approx(0.01, rel=0.01)
    assert pstdev(gaps) == pytest.approx(0.01, rel=0.1)


def test_a_schedule_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="rate"):
        schedule(0.01, 1, seed=0)


def test_a_call_tells_its_length() -> None:
    call = message("POST", "/request", "127.0.0.1", b"x: y\r\n", b"12345")
    assert call == b"POST /request HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 5\r\nx: y\r\n\r\n12345"


def test_a_spot_is_out_of_reach_of_every_practice_and_of_every_other_spot() -> None:
    """Otherwise a request at a spot could be served by something else than the place that is measured."""
    geography, world = france()
    spots = empty_spots(geography, world)
    first = list(islice(spots, 300))
    # nowhere in Paris, its ring and Mayotte is two kilometres from every practice of the invented world
    assert len({spot.territory for spot in first[:SPOTS]}) == SPOTS == len(geography.territories) - 5
    reach = 2 * SPOT_KM / 111  # degrees of latitude; of longitude twice that is enough up to 60° N
    points = [(s.lat, s.lon) for s in world.structures] + [(spot.lat, spot.lon) for spot in first]
    for number, spot in enumerate(first):
        others = points[: len(world.structures) + number]
        assert not any(abs(lat - spot.lat) < reach and abs(lon - spot.lon) < 2 * reach for lat, lon in others)
