"""Seats that desks cede to one another: who holds one moves or, in a crisis on both sides, is displaced."""

import itertools
from dataclasses import replace

import pytest

from sas_matcher.domain.vocabulary import Tier
from sas_matcher.matching.candidates import OpenRequest, find_candidates
from sas_matcher.matching.commitment import PRESETS
from sas_matcher.matching.market import Market
from sas_matcher.matching.places import PlaceRow
from sas_matcher.matching.terms import Terms
from sas_matcher.matching.territory import TerritoryDesk
from sas_matcher.services.matcher.desks import Desks, Recorded, Round
from tests.unit.test_desks import MIDNIGHT, NOW, place, request


class Two:
    """Two territories' desks that see each other's places, and a ledger that knows the seats taken."""

    def __init__(self, here: str = "crisis", there: str = "crisis", reserve: int = 0) -> None:
        self.market = Market()
        self.desks = Desks(None, lambda: None)
        self.seat: dict[str, int] = {}
        self.versions = itertools.count(2)
        for territory, policy in (("69", here), ("01", there)):
            terms = Terms(urgent_reserve_pct=reserve)
            desk = TerritoryDesk(MIDNIGHT, 0, terms, PRESETS[policy], lambda _: [], market=self.market)
            self.desks.prepare(territory, desk)
            self.desks.open(territory)

    def publish(self, *places: PlaceRow) -> None:
        self.market.put(places)
        for row in places:
            self.desks.place("69", NOW, row)

    def refuse(self, now: float, *asked: OpenRequest) -> Round:
        """A round of which the ledger takes nothing: it is away."""
        for who in asked:
            self.desks.take_in(now, who, find_candidates(self.market, who, now, Terms(), full=True))
        done = self.desks.decide(now)
        for territory, decision in done.decisions:
            self.desks[territory].settle(decision, "unknown")
        return done

    def call(self, *asked: OpenRequest, now: float = NOW, recorded: Recorded | None = None) -> Round:
        for who in asked:
            self.desks.take_in(now, who, find_candidates(self.market, who, now, Terms(), full=True))
        return self.round(now, recorded)

    def round(self, now: float, recorded: Recorded | None = None) -> Round:
        done = self.desks.decide(now, recorded)
        assert len({d.request_id for _, d in done.decisions}) == len(done.decisions), "one claim for a request"
        free = {slot: self.market.left_of(slot) for slot in (1, 2, 3) if slot in self.market}
        for _, decision in done.decisions:
            before = self.seat.pop(decision.request_id, None) if decision.what != "none" else None
            if before is not None:
                free[before] += 1
        for territory, decision in done.decisions:
            word = {"promise": "promised", "move": "moved", "firm": "held", "displace": "displaced", "none": "told"}
            if decision.slot_id is not None:
                free[decision.slot_id] -= 1
                self.seat[decision.request_id] = decision.slot_id
            self.desks[territory].settle(decision, word[decision.what])
        assert min(free.values()) >= 0, "a seat was given twice"
        for slot, left in free.items():
            self.market.set_left(slot, left, next(self.versions))
            self.desks.left(slot, left)
        return done


def there(name: str, tier: Tier, created_at: float = NOW + 2, minutes: float = 600) -> OpenRequest:
    return replace(request(name, tier, created_at, minutes), territory="01")


def said(done: Round) -> dict[str, tuple[str, int | None]]:
    return {decision.request_id: (decision.what, decision.slot_id) for _, decision in done.decisions}


def test_who_can_be_seen_elsewhere_moves_for_an_urgent_caller_of_another_territory() -> None:
    """The later seat is of no use to the caller; no promise is broken, whatever the policy."""
    two = Two("promise", "promise")
    two.publish(place(1, 60), place(2, 300))
    assert said(two.call(request("a", minutes=400))) == {"a": ("promise", 1)}
    done = two.call(there("urgent", Tier.T0, minutes=90), now=NOW + 2)
    assert said(done) == {"a": ("move", 2), "urgent": ("promise", 1)}
    assert [(seat.territory, seat.slot_id, seat.displaced) for seat in done.ceded] == [("69", 1, None)]
    assert two.round(NOW + 3).decisions == []


def test_a_promise_of_another_territory_is_displaced_where_both_are_in_a_crisis() -> None:
    two = Two()
    two.publish(place(1, 60))
    two.call(request("a", Tier.T3))
    done = two.call(there("urgent", Tier.T0, minutes=90), now=NOW + 2)
    assert said(done) == {"a": ("displace", None), "urgent": ("promise", 1)}
    assert [(seat.territory, seat.slot_id, seat.displaced) for seat in done.ceded] == [("69", 1, "a")]
    # who lost it is told its next place like anybody
    two.publish(place(2, 300))
    assert ("a", ("promise", 2)) in said(two.call(request("a", Tier.T3), now=NOW + 3)).items()


@pytest.mark.parametrize(("here", "its"), [("promise", "crisis"), ("crisis", "promise"), ("auto", "auto")])
def test_a_promise_is_not_broken_for_another_territory_unless_both_may_break_theirs(here: str, its: str) -> None:
    two = Two(here, its)
    two.publish(place(1, 60))
    two.call(request("a", Tier.T3))
    done = two.call(there("urgent", Tier.T0, minutes=90), now=NOW + 2)
    assert said(done) == {"urgent": ("none", None)}
    assert done.ceded == []


@pytest.mark.parametrize(("holder", "caller"), [(Tier.T1, Tier.T1), (Tier.T0, Tier.T1), (Tier.T3, Tier.T2)])
def test_neither_equals_nor_the_not_urgent_displace_anybody(holder: Tier, caller: Tier) -> None:
    two = Two()
    two.publish(place(1, 60))
    assert said(two.call(request("a", holder)))["a"][0] == "promise"
    assert said(two.call(there("b", caller, minutes=90), now=NOW + 2)) == {"b": ("none", None)}


def test_of_several_the_lowest_tier_loses_and_of_those_the_last_who_called() -> None:
    two = Two()
    two.publish(place(1, 60, left=3))
    for at, (name, tier) in enumerate([("t2", Tier.T2), ("t3", Tier.T3), ("late", Tier.T3)]):
        assert said(two.call(request(name, tier, NOW + at / 10), now=NOW + at / 10))[name] == ("promise", 1)
    done = two.call(there("urgent", Tier.T0, minutes=90), now=NOW + 2)
    assert said(done) == {"late": ("displace", None), "urgent": ("promise", 1)}


def test_a_seat_that_is_firm_stays() -> None:
    two = Two("firm", "crisis")
    two.publish(place(1, 60))
    assert said(two.call(request("a", Tier.T3))) == {"a": ("firm", 1)}
    assert said(two.call(there("urgent", Tier.T0, minutes=90), now=NOW + 2)) == {"urgent": ("none", None)}


def test_where_the_practice_offers_fewer_than_are_promised_none_is_ceded() -> None:
    """Whoever gave up his seat would only fill the gap."""
    two = Two()
    two.publish(place(1, 60, left=2))
    two.call(request("a", Tier.T3), request("b", Tier.T3))
    two.desks.left(1, -1)
    desks = two.desks
    who = there("urgent", Tier.T0, minutes=90)
    desks.take_in(
        NOW + 2,
        who := there("urgent", Tier.T0, minutes=90),
        find_candidates(two.market, who, NOW + 2, Terms(), full=True),
    )
    assert desks.decide(NOW + 2, Recorded({}, {}, {})).ceded == []
    assert desks["69"].yields(1, 0) is None
    assert desks["69"].make_way([1], NOW + 2) is None


@pytest.mark.parametrize("displaced", [True, False])
def test_a_seat_whose_claim_the_ledger_did_not_take_is_still_behind_its_promise(displaced: bool) -> None:
    """Counted as gone, it would make its holder move, or go without."""
    two = Two()
    two.publish(place(1, 60), *(() if displaced else (place(2, 300),)))
    two.call(request("a", Tier.T3, minutes=400))
    urgent = there("urgent", Tier.T0, minutes=90)
    refused = two.refuse(NOW + 2, urgent)
    assert [seat.displaced for seat in refused.ceded] == ["a" if displaced else None]
    assert two.desks["69"].holds(1)
    assert two.desks["69"].yields(1, 0) == (3, "a"), "as many seats as promises"
    # asked again, all comes as it would have come
    assert said(two.round(NOW + 3)) == said(refused)


@pytest.mark.parametrize("displaced", [True, False])
def test_a_round_decided_again_cedes_what_it_ceded(displaced: bool) -> None:
    """A recorded day knows one territory: the caller is not there, and the seat goes all the same."""
    more = () if displaced else (place(2, 300),)
    two, again = Two(), Two()
    for it in (two, again):
        it.publish(place(1, 60), *more)
        it.call(request("a", Tier.T3, minutes=400))
    done = two.call(there("urgent", Tier.T0, minutes=90), now=NOW + 2)
    redone = again.call(now=NOW + 2, recorded=Recorded({}, {}, {}, done.ceded))
    assert said(redone) == {name: what for name, what in said(done).items() if name == "a"}
    assert redone.ceded == []


def test_decisions_do_not_hang_on_who_else_is_open() -> None:
    """Nothing is left where nobody is urgent, or everybody has a place."""
    two = Two()
    two.publish(place(1, 60), place(2, 70))
    two.call(request("a", Tier.T3))
    assert two.call(there("t2", Tier.T2), now=NOW + 2).ceded == []
    done = two.call(there("urgent", Tier.T0, minutes=80), now=NOW + 3)
    assert [decision.what for _, decision in done.decisions if decision.request_id == "urgent"] != ["none"]
