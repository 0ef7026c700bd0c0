"""Candidates and the decision of a batch, by example."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from sas_matcher.domain.policy import MOST_AGEING_PCT_PER_H
from sas_matcher.domain.vocabulary import Tier
from sas_matcher.matching import engine
from sas_matcher.matching.candidates import Candidates, OpenRequest, find_candidates
from sas_matcher.matching.engine import SOON, Pick, build_problem, decide
from sas_matcher.matching.market import Market
from sas_matcher.matching.terms import Terms
from solver import Plan, Problem, solve
from tests.matching_cases import NOW, all_candidates, market_of, place, request

MT_FIRST = Terms(mt_first=True)


def run(
    batch: Sequence[OpenRequest],
    found: Sequence[Candidates],
    terms: Terms | None = None,
    *,
    answer: Callable[[Problem], Plan | None] = solve,
    late: bool = False,
) -> list[Pick]:
    """Decide a batch with a solver that answers at once."""
    work = decide(batch, found, terms or Terms(), lambda: late)
    plan = None
    while True:
        try:
            problem = work.send(plan)
        except StopIteration as done:
            picks: list[Pick] = done.value
            return picks
        plan = None if problem is None else answer(problem)


def chosen(market: Market, batch: Sequence[OpenRequest], terms: Terms | None = None) -> dict[str, int | None]:
    found = all_candidates(market, batch, terms=terms)
    return {pick.request.id: pick.slot_id for pick in run(batch, found, terms)}


def slots(found: Candidates) -> set[int]:
    return set(found.slot_id.tolist())


def test_lead_must_be_travel_and_deadline_includes_its_instant() -> None:
    """3 minutes base: a place next door starts in 3 minutes at the earliest, a télé in the next second."""
    market = market_of(
        [
            place(1, 2.98),
            place(2, 3),
            place(3, 240),
            place(4, 240.02),
            place(5, 1 / 60, mode="tele"),
            place(6, 0, mode="tele"),
        ]
    )
    assert slots(find_candidates(market, request("r", modes=("cabinet", "tele")), NOW, Terms())) == {2, 3, 5}


def test_the_order_of_the_modes_asked_for_does_not_matter() -> None:
    """A visit and a consultation that cost the same: the same one comes first whatever the order, in every process."""
    market = market_of([place(1, mode="visite"), place(2), place(3, mode="visite"), place(4)])
    for modes in ("visite", "cabinet"), ("cabinet", "visite"):
        found = find_candidates(market, request("r", modes=modes), NOW, Terms())
        assert found.slot_id[found.picked].tolist() == [2, 4, 1, 3]


def test_a_place_that_starts_within_this_second_has_started() -> None:
    """Instants have fractions, starts have not; nor does the ledger give one that begins in this very instant."""
    market = market_of([place(1, 0, mode="tele")])
    assert not len(find_candidates(market, request("r", modes=("tele",)), NOW + 0.4, Terms()))
    assert not len(find_candidates(market, request("r", modes=("tele",)), NOW, Terms()))
    early = request("r", modes=("tele",), created_at=NOW - 60)
    assert len(find_candidates(market, early, NOW - 0.4, Terms()))


def test_no_place_before_the_request_was_made() -> None:
    market = market_of([place(1, 5), place(2, 15), place(3, 10, mode="tele"), place(4, 11, mode="tele")])
    wanting = request("r", created_at=NOW + 600.5, modes=("cabinet", "tele"))
    assert slots(find_candidates(market, wanting, NOW, Terms())) == {2, 4}


def test_declined_slots_and_professionals_never_come_back() -> None:
    market = market_of([place(1), place(2), place(3, professional="A"), place(4, professional=None)])
    refused = request("r", not_slots=frozenset({1}), not_professionals=frozenset({"A", "never seen here"}))
    assert slots(find_candidates(market, refused, NOW, Terms())) == {2, 4}


def test_nobody_is_the_medecin_traitant_of_a_place_without_a_name() -> None:
    market = market_of([place(1, professional=None)])
    found = find_candidates(market, request("r", mt="unknown here"), NOW, Terms())
    assert found.is_mt.tolist() == [False]


def test_an_unknown_specialty_is_not_met_by_places_without_one() -> None:
    market = market_of([place(1, profession="SPE"), place(2, profession="SPE", specialty="SM38")])
    assert slots(find_candidates(market, request("r", profession="SPE", specialty="SM15"), NOW, Terms())) == set()
    assert slots(find_candidates(market, request("r", profession="SPE", specialty="SM38"), NOW, Terms())) == {2}
    assert slots(find_candidates(market, request("r", profession="SPE"), NOW, Terms())) == {1, 2}


def test_a_mode_named_twice_counts_once() -> None:
    found = find_candidates(market_of([place(1)]), request("r", modes=("cabinet", "cabinet")), NOW, Terms())
    assert found.slot_id.tolist() == [1]


def test_cost_is_in_tenths_of_a_minute() -> None:
    """T0: 3 minutes of travel and 60 of wait weighing 1, less 6 for the médecin traitant."""
    market = market_of([place(1, 60, professional="MT"), place(2, 60), place(3, 60, mode="tele")])
    found = find_candidates(market, request("r", tier=Tier.T0, mt="MT", modes=("cabinet", "tele")), NOW, Terms())
    costs = dict(zip(found.slot_id.tolist(), found.cost.tolist(), strict=True))
    assert costs == {1: 570, 2: 630, 3: 600}
    assert found.travel_min[found.slot_id == 3] == 0


def test_the_short_list_is_cheapest_then_spread() -> None:
    found = find_candidates(market_of(place(n, 5 + n) for n in range(1, 201)), request("r"), NOW, Terms())
    order = found.cost.argsort(kind="stable")
    assert found.picked[:16].tolist() == order[:16].tolist()
    assert len(found.picked) == len(set(found.picked.tolist())) == 32


def test_nothing_at_all_is_a_problem_too() -> None:
    batch = [request("a"), request("b")]
    found = all_candidates(Market(), batch)
    problem, slot_ids, _ = build_problem(batch, found, Terms())
    assert (len(problem.arc_cost), slot_ids.tolist()) == (0, [])
    assert [pick.row for pick in run(batch, found)] == [-1, -1]
    assert [pick.row for pick in run(batch[:1], found[:1])] == [-1]


def test_a_place_that_costs_more_than_the_request_is_worth_is_not_taken() -> None:
    """T0 is worth 40 000, waiting a minute costs 10: never after 4 000 minutes."""
    late = request("r", tier=Tier.T0, deadline=NOW + 60 * 9_999)
    for minutes, slot_id in ((3_996, 1), (3_997, None)):
        market = market_of([place(1, minutes)])
        assert chosen(market, [late]) == {"r": slot_id}
        both = [late, request("s", profession="PED")]
        assert chosen(market, both)["r"] == slot_id
        assert run(both, all_candidates(market, both), answer=lambda problem: None)[0].slot_id == slot_id


def test_the_most_urgent_gets_the_only_place() -> None:
    batch = [request(f"r{tier}", tier=tier) for tier in Tier]
    for turned in (batch, batch[::-1]):
        assert chosen(market_of([place(1)]), turned) == {"rT0": 1, "rT1": None, "rT2": None, "rT3": None}


def test_a_slot_of_several_seats_serves_as_many() -> None:
    got = chosen(market_of([place(1, left=2, capacity=3)]), [request(f"r{n}") for n in range(4)])
    assert sorted(got.values(), key=str) == [1, 1, None, None]


# -- the médecin traitant first --------------------------------------------------------------------------------


def test_where_the_territory_wants_it_the_medecin_traitant_wins_at_any_cost() -> None:
    market = market_of([place(1, 10), place(2, 230, professional="MT")])
    wanting = request("r", mt="MT")
    assert chosen(market, [wanting]) == {"r": 1}
    assert chosen(market, [wanting], MT_FIRST) == {"r": 2}
    assert chosen(market, [request("s", mt="other")], MT_FIRST) == {"s": 1}


def test_when_their_doctor_has_one_place_for_two_the_other_patient_goes_elsewhere() -> None:
    market = market_of([place(1, 10), place(2, 230, professional="MT")])
    batch = [request("T0", tier=Tier.T0, mt="MT"), request("T2", tier=Tier.T2, mt="MT")]
    assert chosen(market, batch, MT_FIRST) == {"T0": 2, "T2": 1}
    late = run(batch, all_candidates(market, batch, terms=MT_FIRST), MT_FIRST, late=True)
    assert [pick.slot_id for pick in late] == [2, 1]
    greedy = run(batch, all_candidates(market, batch, terms=MT_FIRST), MT_FIRST, answer=lambda problem: None)
    assert [pick.slot_id for pick in greedy] == [2, 1]


def test_reasons_with_the_medecin_traitant_first_do_not_claim_a_compromise() -> None:
    market = market_of([place(1, 10), place(2, 230, professional="MT")])
    batch = [request("r", mt="MT")]
    (pick,) = run(batch, all_candidates(market, batch, terms=MT_FIRST), MT_FIRST)
    assert pick.reasons == ["MEDECIN_TRAITANT", "NEAREST"]
    assert [int(pick.candidates.slot_id[row]) for row in pick.alternatives] == [1]


# -- bursts ----------------------------------------------------------------------------------------------------


def burst(requests: int, places: int) -> tuple[list[OpenRequest], list[Candidates]]:
    """Identical requests for places along a line: everyone's cheapest are the same."""
    market = market_of(place(n, 30 + n % 200, lat=45.76 + n * 1e-5) for n in range(1, places + 1))
    one = request("r0", tier=Tier.T2, deadline=NOW + 86_400)
    batch = [replace(one, id=f"r{n}", key=n + 1) for n in range(requests)]
    found = find_candidates(market, one, NOW, Terms())
    return batch, [found] * requests


def everywhere(found: Sequence[Candidates]) -> list[Candidates]:
    return [replace(c, picked=np.arange(len(c))) for c in found]


def total(picks: Sequence[Pick], terms: Terms | None = None) -> int:
    tiers = (terms or Terms()).tiers
    return sum(int(p.candidates.cost[p.row]) if p.row >= 0 else tiers[p.request.tier].value for p in picks)


def test_in_a_burst_nobody_is_left_without_a_place_and_the_plan_is_optimal() -> None:
    """32 listed places for 300: the loop must find the other 268."""
    batch, found = burst(300, 2_000)
    picks = run(batch, found)
    assert {pick.gap for pick in picks} == {0} and {pick.method for pick in picks} == {"flow"}
    taken = [pick.slot_id for pick in picks]
    assert None not in taken and len(set(taken)) == 300
    assert total(picks) == int(np.sort(found[0].cost)[:300].sum())


@pytest.mark.parametrize("answer", [solve, lambda problem: None])
def test_out_of_time_nobody_is_left_without_a_place_either(answer: Callable[[Problem], Plan | None]) -> None:
    batch, found = burst(300, 2_000)
    picks = run(batch, found, answer=answer, late=True)
    taken = [pick.slot_id for pick in picks]
    assert None not in taken and len(set(taken)) == 300
    optimum = int(np.sort(found[0].cost)[:300].sum())
    if picks[0].method == "flow":
        assert total(picks) - optimum <= picks[0].gap
    else:
        assert {pick.gap for pick in picks} == {-1} and total(picks) == optimum


def test_the_gap_of_a_plan_cut_short_counts_what_was_gained_after_it() -> None:
    """Plan and gap add up to the same lower bound before and after the free places were handed out."""
    batch, found = burst(60, 500)
    problem, slot_ids, _ = build_problem(batch, found, Terms())
    plan = solve(problem)
    bids = engine.Bids.of(problem, slot_ids, plan)
    bound = plan.objective - sum(bids.lengthen(number, c)[1] for number, c in enumerate(found))
    picks = run(batch, found, late=True)
    assert picks[0].gap > 0 and total(picks) < plan.objective
    assert total(picks) - picks[0].gap == bound


def test_a_place_left_out_is_listed_only_if_it_helps_at_its_price() -> None:
    """Slot 2 costs the first request less than it pays now, but someone else would pay more for it."""
    market = market_of([place(1), place(2)])
    batch = [request("a"), request("b"), request("c")]
    terms, either = Terms(), all_candidates(market, batch)

    def listing(number: int, costs: Sequence[int], picked: Sequence[int]) -> Candidates:
        return replace(either[number], cost=np.array(costs), picked=np.array(picked))

    def lengthened(first: int) -> tuple[bool, int]:
        found = [listing(0, (10, first), [0]), listing(1, (10, 20), [0, 1]), listing(2, (0, 20_000 - 9), [1])]
        problem, slot_ids, _ = build_problem(batch, found, terms)
        plan = solve(problem)
        assert plan.slot.tolist() == [0, 1, -1]
        longer, missed = engine.Bids.of(problem, slot_ids, plan).lengthen(0, found[0])
        return longer is not found[0], missed

    # slot 2 is worth 9 to the third; slot 1 then 19 to the second: the first pays 29
    assert lengthened(28) == (False, 0)
    assert lengthened(20) == (False, 0)
    assert lengthened(19) == (True, 1)
    assert lengthened(0) == (True, 20)


def test_a_plan_that_comes_too_late_leaves_the_one_before_it() -> None:
    batch, found = burst(60, 500)
    asked: list[Problem] = []

    def only_the_first(problem: Problem) -> Plan | None:
        asked.append(problem)
        return solve(problem) if len(asked) == 1 else None

    picks = run(batch, found, answer=only_the_first)
    assert len(asked) == 2
    assert {pick.method for pick in picks} == {"flow"} and picks[0].gap >= 0
    assert None not in [pick.slot_id for pick in picks]


def test_the_fallback_goes_by_tier_and_cost_never_by_arrival() -> None:
    market = market_of([place(1, 10), place(2, 20), place(3, 30)])
    batch = [request(f"r{n}", tier=tier) for n, tier in enumerate((Tier.T3, Tier.T1, Tier.T0, Tier.T2))]
    for turned in (batch, batch[::-1]):
        picks = run(turned, all_candidates(market, turned), answer=lambda problem: None)
        got = {pick.request.id: (pick.slot_id, pick.method) for pick in picks}
        assert got == {n: (s, "greedy") for n, s in (("r2", 1), ("r1", 2), ("r3", 3), ("r0", None))}


def test_work_pauses_so_that_others_may_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "BREATH", 10)
    batch, found = burst(100, 300)
    for answer in (solve, lambda problem: None):
        pauses, plan = 0, None
        work = decide(batch, found, Terms(), lambda: False)
        with pytest.raises(StopIteration):
            while True:
                problem = work.send(plan)
                plan = None if problem is None else answer(problem)
                pauses += problem is None
        assert pauses >= 20


# -- alternatives and reasons ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("requests", "places"), [(50, 60), (SOON + 72, SOON + 82)])
def test_alternatives_are_free_cheapest_first_and_four_at_the_most(requests: int, places: int) -> None:
    """Also where all that is sorted at first is taken."""
    batch, found = burst(requests, places)
    picks = run(batch, found)
    taken = {pick.slot_id for pick in picks}
    free = [n for n in found[0].slot_id[found[0].cost.argsort(kind="stable")].tolist() if n not in taken]
    costs = dict(zip(found[0].slot_id.tolist(), found[0].cost.tolist(), strict=True))
    for pick in picks:
        offered = [int(found[0].slot_id[row]) for row in pick.alternatives]
        assert len(offered) == 4 and not taken & set(offered)
        assert [costs[n] for n in offered] == [costs[n] for n in free[:4]]


def test_a_slot_with_a_seat_left_after_the_batch_is_an_alternative_to_others_only() -> None:
    market = market_of([place(1, 10, left=2, capacity=2), place(2, 200)])
    picks = run([request("r")], all_candidates(market, [request("r")]))
    assert [int(picks[0].candidates.slot_id[row]) for row in picks[0].alternatives] == [2]
    batch = [request("r"), request("s", not_slots=frozenset({1}))]
    picks = run(batch, all_candidates(market, batch))
    assert [pick.slot_id for pick in picks] == [1, 2]
    assert picks[0].alternatives == picks[1].alternatives == []


def test_reason_codes() -> None:
    market = market_of(
        [place(1, 30, professional="MT"), place(2, 40, lat=45.80), place(3, 25, mode="tele"), place(4, 200)]
    )

    def reasons(*blocked: int, **changes: object) -> list[str]:
        batch = [request("r", not_slots=frozenset(blocked), modes=("cabinet", "tele"), **changes)]
        return run(batch, all_candidates(market, batch))[0].reasons

    assert reasons(mt="MT") == ["MEDECIN_TRAITANT", "NEAREST", "LEAST_COST"]
    assert reasons() == ["EARLIEST", "LEAST_COST"]
    assert reasons(1, 3) == ["EARLIEST", "LEAST_COST"]
    assert reasons(3) == ["NEAREST", "EARLIEST", "LEAST_COST"]
    assert reasons(1, 2, 3) == ["ONLY_PLACE", "NEAREST", "EARLIEST", "LEAST_COST"]


def test_nearest_is_said_of_places_one_travels_to() -> None:
    """A télé is at no distance and does not take the word away from the nearest cabinet."""
    market = market_of([place(1, 4), place(2, 200, mode="tele"), place(3, 4, lat=45.77)])
    batch = [request("r", modes=("cabinet", "tele"))]
    assert run(batch, all_candidates(market, batch))[0].reasons[0] == "NEAREST"


def test_who_steps_back_for_others_is_told_so() -> None:
    market = market_of([place(1, 10), place(2, 60, offers=())])
    batch = [request("r"), request("s", needs=("pmr",))]
    picks = run(batch, all_candidates(market, batch))
    assert [(pick.slot_id, pick.reasons[-1]) for pick in picks] == [(2, "BEST_FOR_ALL"), (1, "LEAST_COST")]


def test_no_place_has_no_reasons_and_no_alternatives() -> None:
    market = market_of([place(1)])
    batch = [request("r", tier=Tier.T0), request("s")]
    assert [(p.row >= 0, p.alternatives) for p in run(batch, all_candidates(market, batch))] == [
        (True, []),
        (False, []),
    ]
    assert run(batch, all_candidates(market, batch))[1].reasons == []


# -- ageing -------------------------------------------------------------------------------------------------------


def test_who_has_waited_long_comes_first_only_where_a_rule_says_so() -> None:
    """One place for two of the same tier: the nearer fresh one costs less, the old one has aged 2 % an hour."""
    market = market_of([place(1, 60)])
    old = request("old", tier=Tier.T3, created_at=NOW - 40 * 3600, deadline=NOW + 8 * 3600)
    fresh = request("fresh", tier=Tier.T3, deadline=NOW + 48 * 3600)
    assert chosen(market, [old, fresh]) == {"old": None, "fresh": 1}
    assert chosen(market, [old, fresh], Terms(ageing_per_h=0.02)) == {"old": 1, "fresh": None}


def test_the_oldest_of_a_tier_never_outweighs_a_fresh_one_of_the_next() -> None:
    market = market_of([place(1, 60)])
    old = request("old", tier=Tier.T3, created_at=NOW - 46 * 3600, deadline=NOW + 2 * 3600)
    fresh = request("fresh", tier=Tier.T2, deadline=NOW + 24 * 3600)
    assert chosen(market, [old, fresh], Terms(ageing_per_h=MOST_AGEING_PCT_PER_H / 100)) == {"old": None, "fresh": 1}
