"""Laws of the invented world that hold for any seed and any number."""

import re

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sas_matcher.demo.identity import fictitious_finess, fictitious_rpps, luhn_key


def luhn_sum(digits: str) -> int:
    return sum(int(d) if i % 2 == 0 else sum(divmod(2 * int(d), 10)) for i, d in enumerate(reversed(digits)))


@given(st.integers(0, 10**8 - 1))
def test_rpps_never_pass_their_check(serial: int) -> None:
    rpps = fictitious_rpps(serial)
    assert re.fullmatch(r"99\d{9}", rpps)
    assert luhn_sum(rpps) % 10 == 5


@given(st.integers(0, 10**6 - 1))
def test_finess_never_pass_their_check(serial: int) -> None:
    finess = fictitious_finess(serial)
    assert re.fullmatch(r"99\d{7}", finess)
    assert luhn_sum(finess) % 10 == 5


@given(st.from_regex(r"\A[0-9]{1,20}\Z"))
def test_the_key_makes_the_check_pass(digits: str) -> None:
    assert luhn_sum(digits + str(luhn_key(digits))) % 10 == 0


@given(st.integers(0, 2**32), st.integers(1, 400), st.integers(0, 23))
@settings(max_examples=25, deadline=None)
def test_the_number_asked_for_is_the_number_drawn(seed: int, slots: int, first_hour: int) -> None:
    from datetime import date

    from adapters.geo import Gazetteer
    from sas_matcher.demo.supply import slots_of_day
    from sas_matcher.demo.world import build_world

    gazetteer = Gazetteer.load()
    rng = np.random.default_rng(seed)
    world = build_world(gazetteer.communes_of("90"), rng, territories=gazetteer.territories, participation=1.0)
    hours = (first_hour, min(24, first_hour + 6))
    drawn = slots_of_day(world, date(2026, 10, 25), rng, slots=min(slots, 2 * len(world.professionals)), hours=hours)
    assert len(drawn) == min(slots, 2 * len(world.professionals))
