"""Laws of distance, names and nearest communes."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.geo import Gazetteer
from adapters.geo.gazetteer import normalise
from sas_matcher.travel import haversine_km, travel_min, travel_range_min

LAT, LON = st.floats(-90, 90), st.floats(-180, 180)
GAZETTEER = Gazetteer.load()
INHABITED = np.array(
    [i for i, c in enumerate(GAZETTEER.codes) if c not in ("75056", "69123", "13055") and GAZETTEER.population[i] > 0]
)


@given(LAT, LON, LAT, LON, LAT, LON)
def test_distance_is_a_metric(a: float, b: float, c: float, d: float, e: float, f: float) -> None:
    ab, ba = haversine_km(a, b, c, d), haversine_km(c, d, a, b)
    assert abs(ab - ba) < 1e-6
    assert 0 <= ab <= 20_016
    # within 1 m: near the antipodes arcsin loses digits
    assert haversine_km(a, b, e, f) <= ab + haversine_km(c, d, e, f) + 1e-3


@given(st.floats(0, 500), st.floats(0, 500))
def test_travel_grows_with_distance_and_stays_in_its_range(a: float, b: float) -> None:
    assert (travel_min(a) <= travel_min(b)) or a > b
    low, high = travel_range_min(a)
    assert low <= travel_min(a) <= high


@given(st.text(max_size=40))
def test_normalising_twice_changes_nothing_and_leaves_plain_words(text: str) -> None:
    once = normalise(text)
    assert normalise(once) == once
    assert all(ch.isascii() and (ch.isalnum() or ch == " ") and not ch.isupper() for ch in once)


@given(st.sampled_from(range(len(GAZETTEER))))
@settings(deadline=None)
def test_every_commune_is_found_by_its_own_name_code_and_postcodes(row: int) -> None:
    commune = next(c for c in [GAZETTEER.by_code(GAZETTEER.codes[row])] if c is not None)
    for typed in (commune.name, commune.name.upper().replace("-", " "), commune.code, *commune.postcodes):
        assert commune in GAZETTEER.search(typed, 200)


@given(st.text(max_size=20))
@settings(deadline=None)
def test_search_never_fails_and_gives_no_commune_twice(text: str) -> None:
    found = GAZETTEER.search(text, 50)
    assert len({c.code for c in found}) == len(found) <= 50


@given(st.floats(-60, 60), st.floats(-180, 179.9))
@settings(deadline=None, max_examples=60)
def test_nearest_is_nearest_wherever_on_earth(lat: float, lon: float) -> None:
    got = GAZETTEER.nearest(lat, lon)
    km = haversine_km(lat, lon, GAZETTEER.lat[INHABITED], GAZETTEER.lon[INHABITED])
    assert float(haversine_km(lat, lon, got.lat, got.lon)) <= float(km.min()) + 1e-9
