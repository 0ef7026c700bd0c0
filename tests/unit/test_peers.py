"""The peers by example: the nearest free place, and the national engine's cards."""

import hashlib
import random
from datetime import timedelta, timezone
from typing import Any

import pytest

from sas_matcher.domain.vocabulary import Tier
from sas_matcher.matching.candidates import OpenRequest
from sas_matcher.matching.engine import Pick
from sas_matcher.matching.explain import REASON_TEXT, explain
from sas_matcher.matching.peers import PEERS, Search, choose
from sas_matcher.matching.places import PlaceRow, site_json
from sas_matcher.matching.terms import Terms
from tests.matching_cases import LYON, NOW, all_candidates, market_of, place, request

PARIS = timezone(timedelta(hours=1))
FAR = 1 / 111.195  # degrees of latitude in a kilometre


def spot(
    slot_id: int,
    km: float,
    start_min: float = 60,
    *,
    who: str | None = None,
    structure: str | None = None,
    source: str = "liberal",
    **changes: Any,
) -> PlaceRow:
    """A free place so many km north of the request, on the card of its professional (one for each slot)."""
    lat, lon, who = LYON[0] + km * FAR, LYON[1], who or f"pro{slot_id:04d}"
    values = ("69", who, "Dr Fictif", structure, None, source, lat, lon, "69123", "Cabinet", None)
    return place(slot_id, start_min, lat=lat, lon=lon, professional=who, site=site_json(values), **changes)


def decided(
    policy: str, rows: list[PlaceRow], batch: list[OpenRequest], *, radius: float = 0.0, seed: int = 0
) -> list[Pick]:
    market = market_of(rows)
    return choose(policy, batch, all_candidates(market, batch), Search(market, NOW, PARIS, radius, seed))


def slot_of(policy: str, rows: list[PlaceRow], asked: OpenRequest | None = None, **search: Any) -> int | None:
    (pick,) = decided(policy, rows, [asked or request("r")], **search)
    return pick.slot_id


@pytest.mark.parametrize("policy", PEERS)
def test_who_called_first_is_served_first_whatever_his_urgency_and_the_order_of_the_batch(policy: str) -> None:
    rows = [spot(1, 2), spot(2, 1, capacity=2, left=2)]
    batch = [
        request("c", created_at=NOW - 60),
        request("b", created_at=NOW - 60, tier=Tier.T0),
        request("a", tier=Tier.T0),
        request("d", created_at=NOW - 90, tier=Tier.T3),
    ]
    for _ in range(5):
        random.Random(7).shuffle(batch)
        got = {pick.request.id: pick.slot_id for pick in decided(policy, rows, batch)}
        assert got == {"d": 2, "b": 2, "c": 1, "a": None}


@pytest.mark.parametrize("policy", PEERS)
def test_a_pick_names_the_peer_and_its_reasons_have_words(policy: str) -> None:
    rows = [spot(n, n) for n in range(1, 9)]
    picks = decided(policy, rows, [request("a", created_at=NOW - 1), request("b")])
    for pick, slot in zip(picks, (1, 2), strict=True):
        assert (pick.slot_id, pick.method, pick.gap, pick.batch_size) == (slot, policy, -1, 2)
        assert pick.reasons and set(pick.reasons) <= set(REASON_TEXT)
        others = [int(pick.candidates.slot_id[row]) for row in pick.alternatives]
        # what the other one got is no alternative
        assert others == [n for n in (2, 3, 4, 5, 6) if n > slot and n != 2][: len(others)] and len(others) >= 3


@pytest.mark.parametrize(
    ("policy", "got", "none"),
    [
        ("fcfs-nearest", "la plus proche qui reste", "sont allées à qui a appelé avant"),
        ("official", "première carte qui convient", "n'ont pas été montrées par les règles du moteur national"),
    ],
)
def test_a_peer_explains_itself_truthfully(policy: str, got: str, none: str) -> None:
    market = market_of([spot(1, 1), spot(2, 2)])
    batch = [request(name, created_at=NOW + n) for n, name in enumerate("abc")]
    picks = choose(policy, batch, all_candidates(market, batch), Search(market, NOW, PARIS))
    first, _, last = (explain(market, pick, NOW, PARIS, Terms()) for pick in picks)
    assert (first["policy"], first["method"], first["gap_min"]) == (policy, policy, None)
    assert got in first["sentence"]
    assert last["place"] is None
    assert none in last["sentence"]


@pytest.mark.parametrize("policy", PEERS)
def test_a_place_too_costly_for_the_live_service_is_taken_all_the_same(policy: str) -> None:
    """Neither weighs a place against what others may need: only what fits counts."""
    far = request("r", tier=Tier.T3, radius_km=400, deadline=NOW + 40 * 3600)
    assert slot_of(policy, [spot(1, 300, 20 * 60)], far) == 1


def test_no_other_policy_is_a_peer() -> None:
    with pytest.raises(ValueError, match="fcfs-nearest, official"):
        decided("firm", [], [])


def test_the_nearest_place_wins_over_the_sooner_one_and_the_medecin_traitant() -> None:
    rows = [spot(1, 5, 30), spot(2, 4.9, 200), spot(3, 6, 30, who="MT")]
    assert slot_of("fcfs-nearest", rows, request("r", mt="MT")) == 2


def test_equally_near_places_go_in_the_order_of_publication_and_tele_is_nearest() -> None:
    assert slot_of("fcfs-nearest", [spot(4, 1, 30), spot(3, 1, 90)]) == 3
    (pick,) = decided("fcfs-nearest", [spot(1, 0), spot(2, 80, mode="tele")], [request("r", modes=("cabinet", "tele"))])
    assert (pick.slot_id, pick.reasons) == (2, ["NO_TRAVEL"])


# --- official


def test_the_nearest_card_gives_its_earliest_though_a_later_card_has_a_sooner_one() -> None:
    rows = [spot(1, 1, 200, who="near"), spot(2, 1, 150, who="near"), spot(3, 2, 20)]
    assert slot_of("official", rows) == 2


def test_equally_near_cards_go_by_descending_id() -> None:
    assert slot_of("official", [spot(1, 1, who="a"), spot(2, 1, who="b"), spot(3, 1, who="A")]) == 2


def test_a_centre_is_one_card_at_its_nearest_place() -> None:
    rows = [
        spot(1, 3, 30, who="x", structure="CDS", source="cds"),
        spot(2, 1, 90, who="y", structure="CDS", source="cds"),
        spot(3, 2, 60),
    ]
    assert slot_of("official", rows) == 1
    # elsewhere everyone has a card of his own
    apart = [spot(n, km, start, structure="MSP", source="msp") for n, km, start in ((1, 3, 30), (2, 1, 90))]
    assert slot_of("official", apart) == 2


def test_the_circle_holds_for_tele_too() -> None:
    wish = request("r", modes=("cabinet", "tele"), radius_km=20)
    assert slot_of("official", [spot(1, 21, mode="tele")], wish) is None
    assert slot_of("official", [spot(1, 19, mode="tele")], wish) == 1


def test_the_medecin_traitant_comes_first_whatever_the_circle() -> None:
    rows = [spot(1, 1), spot(2, 90, 90, who="MT", mode="tele"), spot(3, 3, 120, who="MT")]
    wish = request("r", modes=("cabinet", "tele"), mt="MT", radius_km=20)
    (pick,) = decided("official", rows, [wish])
    assert (pick.slot_id, pick.reasons) == (3, ["MEDECIN_TRAITANT"])
    (pick,) = decided("official", rows[:2], [wish])
    assert (pick.slot_id, pick.reasons) == (2, ["MEDECIN_TRAITANT"])


def test_nothing_is_shown_after_the_day_after_tomorrow() -> None:
    """NOW is 9 h: midnight of the third day is 63 hours away."""
    wish = request("r", deadline=NOW + 100 * 3600)
    assert slot_of("official", [spot(1, 1, 63 * 60)], wish) is None
    assert slot_of("official", [spot(1, 1, 63 * 60 - 1)], wish) == 1


def test_a_cpts_is_read_where_its_first_member_stands_even_one_with_nothing_that_fits() -> None:
    rows = [
        spot(1, 1, structure="C", source="cpts", mode="visite"),
        spot(2, 2),
        spot(3, 3, structure="C", source="cpts"),
    ]
    assert slot_of("official", rows) == 3
    assert slot_of("official", rows[1:]) == 2


def drawn(seed: int, page: int, card: str) -> str:
    return hashlib.sha256(f"{seed}|r|{page}|{card}".encode()).hexdigest()


def card(row: PlaceRow) -> str:
    return f"{row.professional}|{row.lat}|{row.lon}"


def test_a_widened_circle_loses_the_order_of_distance() -> None:
    rows = [spot(n, n) for n in range(6, 30)]
    seen = set()
    for seed in range(10):
        (pick,) = decided("official", rows, [request("r")], radius=5, seed=seed)
        first = max(rows, key=lambda row: drawn(seed, 0, card(row)))
        assert (pick.slot_id, pick.reasons) == (first.slot_id, ["WIDER_CIRCLE"])
        seen.add(pick.slot_id)
    assert len(seen) > 5
    # not before the platform's own circle was read, in order of distance
    (pick,) = decided("official", [*rows, spot(1, 4.9), spot(2, 4)], [request("r")], radius=5)
    assert (pick.slot_id, pick.reasons) == (2, ["FIRST_CARD"])


def test_some_cards_of_a_widened_circle_are_never_shown() -> None:
    """150 cards, one of which fits: pages are cuts of different permutations."""
    rows = [spot(1, 20), *(spot(n, 10, mode="visite") for n in range(2, 151))]
    found = []
    for seed in range(12):
        pages = [sorted(rows, key=lambda row: drawn(seed, p, card(row)), reverse=True) for p in range(2)]
        shown = {row.slot_id for row in (*pages[0][:100], *pages[1][100:])}
        found.append(slot_of("official", rows, radius=5, seed=seed) == 1)
        assert found[-1] == (1 in shown)
    assert len(set(found)) == 2
    # an address search is one order: everything comes
    assert slot_of("official", rows) == 1


def test_a_card_whose_last_place_this_batch_took_is_not_shown_any_more() -> None:
    """The CPTS card stood where its taken member was."""
    rows = [
        spot(1, 1, structure="C", source="cpts"),
        spot(2, 2),
        spot(3, 3, structure="C", source="cpts"),
    ]
    batch = [request("a", created_at=NOW - 2), request("b", created_at=NOW - 1)]
    assert [pick.slot_id for pick in decided("official", rows, batch)] == [1, 2]
