"""What a territory sets in a tension or a crisis: wider radius, places kept for urgent requests, lent ones, video."""

import numpy as np
import pytest

from sas_matcher.domain.policy import DEFAULT_SETTING
from sas_matcher.domain.vocabulary import Tier
from sas_matcher.matching.candidates import find_candidates
from sas_matcher.matching.explain import why_none
from sas_matcher.matching.market import Market
from sas_matcher.matching.places import site_json
from sas_matcher.matching.sharing import RELEASE_S, lots
from sas_matcher.matching.terms import Terms
from sas_matcher.services.matcher.rules import Rules
from tests.matching_cases import LYON, NOW, market_of, place, request

MANY = 400


def _market(reserve: int = 0, start_min: float = 180, **changes: object) -> Market:
    market = market_of([place(n, start_min, **changes) for n in range(1, MANY + 1)])
    market.reserve({"69": reserve})
    return market


def _slots(market: Market, tier: Tier, now: float = NOW, terms: Terms | None = None, **changes: object) -> set[int]:
    found = find_candidates(market, request("r", tier=tier, **changes), now, terms or Terms())
    return set(found.slot_id.tolist())


def test_a_share_falls_evenly_on_slots() -> None:
    drawn = lots(np.arange(1, 100_001))
    assert drawn.min() == 0 and drawn.max() == 99
    counts = np.bincount(drawn)
    assert counts.min() > 900 and counts.max() < 1_100


def test_kept_places_are_for_urgent_requests_until_they_are_released() -> None:
    market = _market(reserve=30)
    everything = set(range(1, MANY + 1))
    assert _slots(market, Tier.T0) == _slots(market, Tier.T1) == everything
    others = _slots(market, Tier.T2)
    assert _slots(market, Tier.T3) == others
    assert 0.6 * MANY < len(others) < 0.8 * MANY
    # the same ones each time, and more of them for a larger share
    assert _slots(market, Tier.T2) == others
    market.reserve({"69": 50})
    assert _slots(market, Tier.T2) < others
    released = NOW + 180 * 60 - RELEASE_S
    assert _slots(market, Tier.T2, released - 1) < everything
    assert _slots(market, Tier.T2, released) == everything


def test_a_promised_seat_stays_with_its_promise_whatever_is_kept_since() -> None:
    market = _market(reserve=80)
    (kept, *_) = sorted(_slots(market, Tier.T0) - _slots(market, Tier.T2))
    assert kept in _slots(market, Tier.T2, promised=kept)


def test_only_the_territory_that_keeps_places_keeps_them() -> None:
    market = _market()
    market.reserve({"38": 80})
    assert len(_slots(market, Tier.T3)) == MANY


def test_whoever_finds_only_kept_places_is_told_so() -> None:
    market = market_of([place(n, 180) for n in range(1, 200) if lots(np.array([n]))[0] < 50])
    market.reserve({"69": 50})
    wanting = request("r", tier=Tier.T2)
    why = why_none(market, wanting, find_candidates(market, wanting, NOW, Terms()), NOW, Terms())
    assert why["reason"] == "KEPT_FOR_URGENT"
    assert "gardées" in why["sentence"]


def test_a_neighbour_lends_the_share_that_it_agreed_to() -> None:
    """Ain lends 25 %: these are within reach beyond the radius asked for, the others are not."""
    far = LYON[0] + 0.4  # 44 km
    values = ("01", "99", "Dr Fictif", None, None, "liberal", far, LYON[1], "01053", "Cabinet", None)
    market = _market(site=site_json(values), lat=far)
    terms = Terms(borrow={"01": 25}, borrow_km=60.0)
    assert _slots(market, Tier.T1) == set()
    lent = _slots(market, Tier.T1, terms=terms)
    assert 0.15 * MANY < len(lent) < 0.35 * MANY
    assert _slots(market, Tier.T1, terms=Terms(borrow={"38": 25}, borrow_km=60.0)) == set()
    assert _slots(market, Tier.T1, terms=Terms(borrow={"01": 25}, borrow_km=40.0)) == set()
    # what is kept for urgent requests is not what is lent
    market.reserve({"01": 75})
    assert _slots(market, Tier.T3, terms=terms) == lent


def test_a_consultation_by_video_is_worth_more_where_the_territory_says_so() -> None:
    market = market_of([place(1, 60), place(2, 60, mode="tele")])
    wanting = request("r", modes=("cabinet", "tele"))
    plain, preferred = (find_candidates(market, wanting, NOW, Terms(tele_bonus_min=m)) for m in (0.0, 12.0))
    assert plain.tele.tolist() == [False, True]
    assert (plain.cost - preferred.cost).tolist() == [0, 120]


@pytest.mark.parametrize(("pct", "asked", "reach"), [(100, 30.0, 30.0), (150, 30.0, 45.0), (300, 80.0, 150.0)])
def test_a_radius_is_widened_from_what_was_asked_and_never_twice(pct: int, asked: float, reach: float) -> None:
    rules = Rules()
    rules.load({"69": {**DEFAULT_SETTING, "radius_pct": pct}})
    once = rules.reaching(request("r", radius_km=asked))
    assert (once.radius_km, rules.reaching(once).radius_km) == (reach, reach)
    # and goes back when the territory does
    rules.load({"69": DEFAULT_SETTING})
    assert rules.reaching(once).radius_km == asked
