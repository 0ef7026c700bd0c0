"""Laws of matching: the market against a plain model, eligibility and cost against the day log, the joint optimum."""

import json
import math
import random
from collections.abc import Sequence
from dataclasses import fields, replace
from functools import cache
from typing import Any
from unittest import mock

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sas_matcher.domain.vocabulary import Tier
from sas_matcher.matching import candidates as module
from sas_matcher.matching.candidates import Asking, Candidates, OpenRequest, find_all, find_candidates
from sas_matcher.matching.engine import Pick, build_problem
from sas_matcher.matching.limits import Under
from sas_matcher.matching.market import Market
from sas_matcher.matching.places import PlaceRow, site_json
from sas_matcher.matching.terms import Terms
from sas_matcher.travel import EARTH_RADIUS_KM, box_around
from solver import check, solve, solve_flow
from tests.matching_cases import LYON, NOW, all_candidates, market_of, place, request
from tests.solver_cases import linear_assignment
from tests.unit.test_engine import everywhere, run, total

laws = settings(max_examples=80, deadline=None)


def km_between(a: tuple[float, float], b: tuple[float, float]) -> float:
    """Haversine in plain Python."""
    lat, lon, other_lat, other_lon = map(math.radians, (*a, *b))
    h = math.sin((other_lat - lat) / 2) ** 2
    h += math.cos(lat) * math.cos(other_lat) * math.sin((other_lon - lon) / 2) ** 2
    return 2 * EARTH_RADIUS_KM * math.asin(math.sqrt(h))


# -- the market ------------------------------------------------------------------------------------------------

News = tuple[str, int, int, int]
"""What, slot id, version, and seats left or (of a record) start in minutes."""

VERSIONED = st.lists(
    st.tuples(st.sampled_from(("put", "left", "gone")), st.integers(1, 4), st.integers(0, 9)), max_size=30
)


def told(market: Market, news: Sequence[News]) -> None:
    for what, slot_id, version, value in news:
        if what == "put":
            where = {"mode": "tele"} if value % 3 == 0 else {"lat": 45.0 + value}
            market.put([place(slot_id, value, version=version, left=value % 5, **where)])
        elif what == "left":
            market.set_left(slot_id, value % 5, version)
        else:
            market.discard(slot_id, version)


def expected(news: Sequence[News]) -> dict[int, tuple[int, int]]:
    """The law: whatever the order, the newest record and the newest count of seats of each slot."""
    state: dict[int, tuple[int, int]] = {}
    for slot_id in {slot for _, slot, _, _ in news}:
        mine = sorted((version, what, value) for what, slot, version, value in news if slot == slot_id)
        records = [(what, value) for _, what, value in mine if what != "left"]
        seats = [value % 5 for _, what, value in mine if what != "gone"]
        if records and records[-1][0] == "put":
            state[slot_id] = (place(slot_id, records[-1][1]).start, seats[-1])
    return state


def held(market: Market) -> dict[int, tuple[int, int]]:
    state = {}
    for slot_id in (1, 2, 3, 4):
        located = market.find(slot_id)
        if located is not None:
            part, row = located
            assert part.column("slot_id")[row] == slot_id
            state[slot_id] = (int(part.column("start")[row]), int(part.column("left")[row]))
            assert state[slot_id][1] == market.left_of(slot_id)
    return state


@laws
@given(VERSIONED, st.randoms(use_true_random=False))
def test_news_in_any_order_lead_to_the_same_market(drawn: list[tuple[str, int, int]], chance: random.Random) -> None:
    news = [(what, slot, 2 * number, value) for number, (what, slot, value) in enumerate(drawn)]
    chance.shuffle(news)
    market = Market()
    told(market, news)
    assert held(market) == expected(news)
    told(market, news)  # heard twice
    assert held(market) == expected(news)
    parts = list(market._partitions.values())
    assert len(market) == sum(part.size for part in parts) == len(expected(news))
    for part in parts:
        keys = list(zip(part.column("start").tolist(), part.column("slot_id").tolist(), strict=True))
        assert keys == sorted(keys)


@laws
@given(VERSIONED, st.integers(0, 10))
def test_dropping_what_has_started_keeps_the_rest(drawn: list[tuple[str, int, int]], minute: int) -> None:
    news = [(what, slot, number, value) for number, (what, slot, value) in enumerate(drawn)]
    market, now = Market(), place(1, minute).start
    told(market, news)
    dropped = market.drop_before(now)
    rest = {slot: state for slot, state in expected(news).items() if state[0] >= now}
    assert held(market) == rest and dropped == len(expected(news)) - len(rest)


FRANCE = st.tuples(st.floats(41.0, 51.5), st.floats(-5.5, 10.0))
OVERSEAS = st.sampled_from(((16.0, -61.5), (14.64, -61.0), (4.9, -52.3), (-21.0, 55.5), (-12.8, 45.0), (0.0, -0.0)))


@settings(max_examples=60, deadline=None)
@given(
    st.one_of(FRANCE, OVERSEAS),
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 2 * math.pi)), min_size=1, max_size=15),
    st.one_of(st.floats(0.1, 150.0), st.floats(150.0, 6_000.0)),
)
def test_near_covers_the_circle(
    centre: tuple[float, float], around: list[tuple[float, float]], radius_km: float
) -> None:
    """Places at any bearing up to the rim, also where a square ends and where meridians converge."""
    places = []
    for number, (share, bearing) in enumerate(around):
        angle = share * radius_km / EARTH_RADIUS_KM
        lat, lon = map(math.radians, centre)
        to_lat = math.asin(math.sin(lat) * math.cos(angle) + math.cos(lat) * math.sin(angle) * math.cos(bearing))
        to_lon = lon + math.atan2(
            math.sin(bearing) * math.sin(angle) * math.cos(lat), math.cos(angle) - math.sin(lat) * math.sin(to_lat)
        )
        places.append(place(number, lat=math.degrees(to_lat), lon=math.degrees(to_lon)))
    # another point of the net of squares, so that a far circle looks at squares and not at every place
    places += [place(1_000 + n, lat=-80 + n * 0.5, lon=-170.0, profession="PED") for n in range(100)]
    market = market_of(places)
    seen = {int(n) for part in market.near("MG", "cabinet", *centre, radius_km) for n in part.column("slot_id")}
    within = {p.slot_id for p in places if p.profession == "MG" and km_between(centre, (p.lat, p.lon)) <= radius_km}
    assert within <= seen
    box = box_around(*centre, radius_km)
    assert all(box.south <= p.lat <= box.north and box.west <= p.lon <= box.east for p in places if p.slot_id in within)


# -- eligibility and cost --------------------------------------------------------------------------------------

DAY_BEGINS = int(NOW) - 9 * 3600
OFFERS = ("enfant", "pmr", "ecg")
PEOPLE = ("A", "B", "C", None)
CHANCE = st.integers(0, 2**32).map(random.Random)
"""A source of chance: free choices alone would seldom meet (one candidate in thirty examples)."""


def drawn_places(chance: random.Random, most: int = 30) -> list[PlaceRow]:
    """Places that mostly fit a request of ``drawn_request``, and miss it in one way or another."""

    def seldom(usual: Any, *others: Any) -> Any:
        return usual if chance.random() < 0.9 else chance.choice(others)

    return [
        place(
            number,
            seldom(chance.randint(-10, 250), 0, 3, 60),
            lat=LYON[0] + chance.choice((0.0, 0.01, 0.05, -0.1, 0.23, 0.25, 0.27)),
            lon=LYON[1] + chance.choice((0.0, 0.02, -0.1, 0.3, 0.36)),
            mode=seldom("cabinet", "tele", "visite"),
            profession=seldom("MG", "PED"),
            specialty=seldom(None, "SM38", "SM39"),
            offers=tuple(offer for offer in OFFERS if chance.random() < 0.85),
            left=seldom(1, 0, 3),
            landmass=seldom(1, 2),
            professional=chance.choice(PEOPLE),
        )
        for number in range(chance.randint(0, most))
    ]


def drawn_request(chance: random.Random, name: str = "r") -> OpenRequest:
    def seldom(usual: Any, *others: Any) -> Any:
        return usual if chance.random() < 0.9 else chance.choice(others)

    return request(
        name,
        modes=seldom(("cabinet", "tele"), ("cabinet",), ("tele",), ("visite", "cabinet"), ("cabinet", "cabinet")),
        tier=chance.choice(list(Tier)),
        created_at=seldom(NOW, NOW - 0.5, NOW - 900, NOW - 7_000),
        deadline=NOW + chance.choice((3_600, 3_599.5, 14_400)),
        radius_km=chance.choice((2.0, 10.0, 30.0)),
        needs=seldom((), ("pmr",), ("ecg", "enfant"), ("unheard of",)),
        mt=chance.choice((*PEOPLE, "unheard of")),
        specialty=seldom(None, "SM38", "SM15"),
        not_slots=frozenset(chance.sample(range(30), chance.randint(0, 3))),
        not_professionals=seldom(frozenset(), frozenset({"A"}), frozenset({"unheard of"}), frozenset({"B", "C"})),
    )


def exact_cost(row: PlaceRow, wanting: OpenRequest, now: float, terms: Terms) -> float | None:
    """*Feasibility* and *Score* of the day log, word by word; None when the place may not be given."""
    tele = row.mode == "tele"
    km = 0.0 if tele else km_between((row.lat, row.lon), (wanting.lat, wanting.lon))
    travel_min = 0.0 if tele else terms.base_min + terms.min_per_km * km
    feasible = (
        row.profession == wanting.profession
        and row.mode in wanting.modes
        and set(wanting.needs) <= set(row.offers)
        and (tele or km <= wanting.radius_km)
        and wanting.created_at <= row.start <= wanting.deadline
        and row.left > 0
        and row.start - now >= 60 * travel_min
        # beyond the day log: a seat that begins in this very instant, the sea, the specialty, what was declined
        and row.start > now
        and (tele or row.landmass == wanting.landmass)
        and wanting.specialty in (None, row.specialty)
        and row.slot_id not in wanting.not_slots
        and row.professional not in wanting.not_professionals
    )
    if not feasible:
        return None
    wait_min = (row.start - wanting.created_at) / 60
    bonus = terms.mt_bonus_min if wanting.mt is not None and row.professional == wanting.mt else 0.0
    return 10 * travel_min + 10 * terms.tiers[wanting.tier].wait_weight * wait_min - 10 * bonus


@laws
@given(CHANCE, st.booleans(), st.sampled_from((0, 60, 8_000)))
def test_what_is_found_together_is_what_is_found_alone(chance: random.Random, full: bool, few: int) -> None:
    """Whatever a territory has set, and whoever looks for places beside one."""
    rows = [
        row._replace(
            own=chance.random() < 0.1,
            source=chance.choice(("a", "b")),
            site=site_json((chance.choice(("69", "01")), row.professional, *("",) * 9)),
        )
        for row in drawn_places(chance, 60)
    ]
    market = Market()
    if chance.random() < 0.5:
        rules = {"version": 1, "period": "day", "zone": "Europe/Paris", "source": None}
        market.load_limits(
            (json.dumps({"id": n, "counts": counts, "members": [f"p:{who}"], **rules}), f"[[{DAY_BEGINS}, {left}]]")
            for n, (counts, who, left) in enumerate((("patients", "A", 1), ("children", "B", 0), ("patients", "C", 0)))
        )
    market.put(rows)
    market.reserve({"69": chance.choice((0, 50))})
    market.doubt({"a": chance.choice((0.0, 7.5))})
    asked = []
    for number in range(chance.randint(1, 8)):
        terms = Terms(
            mt_first=chance.random() < 0.5,
            fair_load_min=chance.choice((0.0, 4.0)),
            tele_bonus_min=chance.choice((0.0, 8.0)),
            borrow=chance.choice(({}, {"01": 40})),
            borrow_km=40.0,
        )
        drawn = drawn_request(chance, f"r{number}")
        promised = chance.choice((None, *range(5)))
        asked.append(Asking.of(replace(drawn, promised=promised, child=chance.random() < 0.5), terms))
    with mock.patch.object(module, "FEW", few):
        together = find_all(market, asked, NOW, full=full)
    for asking, found in zip(asked, together, strict=True):
        alone = find_candidates(market, asking.request, NOW, asking.terms, full=full)
        for field in fields(Candidates):
            one, other = getattr(alone, field.name), getattr(found, field.name)
            if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
                assert one.dtype == other.dtype and one.tolist() == other.tolist(), field.name
            elif isinstance(one, Under) and isinstance(other, Under):
                assert (one.combos.tolist(), one.child) == (other.combos.tolist(), other.child)
            else:
                assert one == other, field.name


@settings(max_examples=250, deadline=None)
@given(CHANCE, st.sampled_from((NOW, NOW + 0.4, NOW + 3_000)), st.booleans())
def test_candidates_are_those_of_the_day_log(chance: random.Random, now: float, mt_first: bool) -> None:
    rows, wanting, terms = drawn_places(chance), drawn_request(chance), Terms(mt_first=mt_first)
    found = find_candidates(market_of(rows), wanting, now, terms)
    by_rule = {row.slot_id: cost for row in rows if (cost := exact_cost(row, wanting, now, terms)) is not None}
    assert sorted(found.slot_id.tolist()) == sorted(by_rule)
    of_mt = {row.slot_id for row in rows if wanting.mt is not None and row.professional == wanting.mt}
    only_mt = mt_first and not of_mt.isdisjoint(by_rule)
    for at, slot_id in enumerate(found.slot_id.tolist()):
        row = rows[slot_id]
        assert abs(found.cost[at] - by_rule[slot_id]) <= 0.5 + 1e-6
        assert (found.start[at], found.left[at], found.key[at]) == (row.start, row.left, row.key)
        assert found.is_mt[at] == (slot_id in of_mt)
        assert found.allowed[at] == (slot_id in of_mt if only_mt else True)
        assert (found.travel_min[at] == 0) == (row.mode == "tele")
    # one request: nothing is cheaper, among what may be picked
    (pick,) = run([wanting], [found], terms)
    may = sorted(found.cost[found.allowed].tolist())
    assert (pick.candidates.cost[pick.row] if pick.row >= 0 else None) == (may[0] if may else None)


@laws
@given(FRANCE, st.floats(0.01, 0.5), st.booleans())
def test_a_place_exactly_on_the_rim_is_within(centre: tuple[float, float], degrees: float, east: bool) -> None:
    """The boxes that come before the distance must not lose the rim to rounding."""
    there = (centre[0], centre[1] + degrees) if east else (centre[0] + degrees, centre[1])
    market = market_of([place(1, 200, lat=there[0], lon=there[1])])
    wide = request("r", lat=centre[0], lon=centre[1], radius_km=200.0)
    found = find_candidates(market, wide, NOW, Terms())
    assume(len(found) == 1)
    assert len(find_candidates(market, replace(wide, radius_km=float(found.km[0])), NOW, Terms())) == 1


# -- the joint optimum -------------------------------------------------------------------------------------------


def least_total(batch: Sequence[OpenRequest], found: Sequence[Candidates], terms: Terms) -> int:
    """Try everything."""
    seats = {int(n): int(k) for c in found for n, k in zip(c.slot_id, c.left, strict=True)}
    names = sorted(seats)

    @cache
    def best(number: int, left: tuple[int, ...]) -> int:
        if number == len(batch):
            return 0
        least = terms.tiers[batch[number].tier].value + best(number + 1, left)
        for slot_id, cost in zip(found[number].slot_id.tolist(), found[number].cost.tolist(), strict=True):
            at = names.index(slot_id)
            if left[at]:
                least = min(least, cost + best(number + 1, (*left[:at], left[at] - 1, *left[at + 1 :])))
        return least

    return best(0, tuple(seats[name] for name in names))


def assert_fair(picks: Sequence[Pick], found: Sequence[Candidates], terms: Terms) -> None:
    """No seat is given twice, and nobody is left without a place while one that is worth it is free."""
    taken: dict[int, int] = {}
    for pick in picks:
        if pick.slot_id is not None:
            taken[pick.slot_id] = taken.get(pick.slot_id, 0) + 1
    for pick, candidates in zip(picks, found, strict=True):
        left = [k - taken.get(n, 0) for n, k in zip(candidates.slot_id.tolist(), candidates.left.tolist(), strict=True)]
        assert all(k >= 0 for k in left)
        if pick.row < 0:
            worth = candidates.cost < terms.tiers[pick.request.tier].value
            assert not any(k > 0 and w for k, w in zip(left, worth.tolist(), strict=True))
        assert all(left[row] > 0 and row != pick.row for row in pick.alternatives)
        costs = [int(candidates.cost[row]) for row in pick.alternatives]
        assert costs == sorted(costs) and len(costs) <= 4
        if pick.row >= 0:
            free = sorted(c for row, c in enumerate(candidates.cost.tolist()) if left[row] > 0 and row != pick.row)
            assert costs == free[:4]


def drawn_batch(chance: random.Random) -> list[OpenRequest]:
    return [drawn_request(chance, f"r{number}") for number in range(chance.randint(1, 5))]


@laws
@given(CHANCE)
def test_a_batch_is_decided_best_for_all(chance: random.Random) -> None:
    terms, batch = Terms(), drawn_batch(chance)
    found = all_candidates(market_of(drawn_places(chance, 9)), batch)
    picks = run(batch, found)
    assert total(picks) == least_total(batch, found, terms)
    assert {pick.gap for pick in picks} == {0}
    assert_fair(picks, found, terms)


@laws
@given(CHANCE, st.booleans(), st.booleans())
def test_whatever_the_solver_does_nobody_misses_a_free_place(
    chance: random.Random, mt_first: bool, answers: bool
) -> None:
    """Solver late or out of time, médecin traitant first or not."""
    terms, batch = Terms(mt_first=mt_first), drawn_batch(chance)
    found = all_candidates(market_of(drawn_places(chance, 9)), batch, terms=terms)
    picks = run(batch, found, terms, answer=solve if answers else lambda problem: None, late=True)
    assert_fair(picks, found, terms)
    if not mt_first and picks[0].gap >= 0:
        assert total(picks) - least_total(batch, found, terms) <= picks[0].gap


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32), st.booleans(), st.booleans())
def test_out_of_time_in_a_burst_nobody_misses_a_free_place(seed: int, mt_first: bool, answers: bool) -> None:
    """The gap is proven also when the loop was cut short."""
    market, batch = crowd(seed, 90, 120, spread=0.0, mt_first=mt_first)
    terms = Terms(mt_first=mt_first)
    found = all_candidates(market, batch, terms=terms)
    picks = run(batch, found, terms, answer=solve if answers else lambda problem: None, late=True)
    assert_fair(picks, found, terms)
    if not mt_first:
        full, *_ = build_problem(batch, everywhere(found), terms)
        missed = total(picks) - solve_flow(full).objective
        assert missed >= 0
        if answers:
            assert missed <= picks[0].gap


def crowd(
    seed: int, requests: int, places: int, *, spread: float, mt_first: bool = False
) -> tuple[Market, list[OpenRequest]]:
    """People of one town for places that they all rank much alike."""
    chance = np.random.default_rng(seed)
    market = market_of(
        place(
            n,
            int(chance.integers(20, 700)),
            lat=LYON[0] + chance.normal() * 0.1,
            lon=LYON[1] + chance.normal() * 0.1,
            left=int(chance.integers(1, 3)),
            offers=OFFERS[: int(chance.integers(0, 4))],
            professional=f"P{n % 40}",
        )
        for n in range(places)
    )
    tiers = chance.choice(4, requests, p=[0.1, 0.3, 0.4, 0.2])
    return market, [
        request(
            f"r{n}",
            lat=LYON[0] + spread * chance.normal(),
            lon=LYON[1] + spread * chance.normal(),
            tier=list(Tier)[tier],
            deadline=NOW + (3_600, 14_400, 43_200, 43_200)[tier],
            needs=OFFERS[: int(chance.integers(0, 2))],
            mt=f"P{chance.integers(0, 80)}",
        )
        for n, tier in enumerate(tiers.tolist())
    ]


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from((0.0, 0.01, 0.1)), st.sampled_from((60, 200, 500)))
def test_the_loop_ends_at_the_optimum_over_all_pairs(seed: int, spread: float, places: int) -> None:
    """Against the flow and another algorithm on every feasible arc, in bursts with too many and too few places."""
    market, batch = crowd(seed, 120, places, spread=spread)
    found = all_candidates(market, batch)
    picks = run(batch, found)
    full, *_ = build_problem(batch, everywhere(found), Terms())
    plan = solve_flow(full)
    check(full, plan)
    assert total(picks) == plan.objective == linear_assignment(full)
    assert {pick.gap for pick in picks} == {0}
    assert_fair(picks, found, Terms())


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 2**32), st.booleans(), st.booleans(), st.randoms(use_true_random=False))
def test_order_of_arrival_within_a_batch_changes_nothing(
    seed: int, answers: bool, mt_first: bool, chance: random.Random
) -> None:
    market, batch = crowd(seed, 60, 80, spread=0.01)
    terms = Terms(mt_first=mt_first)
    results = []
    for _ in range(2):
        found = all_candidates(market, batch, terms=terms)
        picks = run(batch, found, terms, answer=solve if answers else lambda problem: None)
        results.append(
            {
                p.request.id: (p.slot_id, p.reasons, [int(p.candidates.slot_id[row]) for row in p.alternatives])
                for p in picks
            }
        )
        chance.shuffle(batch)
    assert results[0] == results[1]
