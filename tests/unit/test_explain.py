"""What people read: typed reasons in the day log's order, plain units, French sentences."""

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import orjson
import pytest

from sas_matcher.domain.vocabulary import Tier
from sas_matcher.matching.candidates import OpenRequest, find_candidates
from sas_matcher.matching.doubts import USUAL_SHARE, doubt_min, phantom_share
from sas_matcher.matching.explain import PlaceGoneError, at_text, explain, hour_text, wait_text, why_none
from sas_matcher.matching.market import Market
from sas_matcher.matching.places import PlaceRow
from sas_matcher.matching.terms import Terms
from tests.matching_cases import NOW, all_candidates, market_of, place, request
from tests.unit.test_engine import run

PARIS = ZoneInfo("Europe/Paris")


def explained(market: Market, *batch: OpenRequest, now: float = NOW, terms: Terms | None = None) -> dict[str, Any]:
    """The decision on the first request of a batch, as it is stored."""
    terms = terms or Terms()
    pick = run(batch, all_candidates(market, batch, now, terms), terms)[0]
    document: dict[str, Any] = orjson.loads(orjson.dumps(explain(market, pick, now, PARIS, terms)))
    return document


def reason(market: Market, wanting: OpenRequest, now: float = NOW) -> dict[str, Any]:
    return why_none(market, wanting, find_candidates(market, wanting, now, Terms()), now, Terms())


# -- why none --------------------------------------------------------------------------------------------------

FAR = 46.2  # 49 km north: beyond 30 km, within 50


def test_reasons_of_none_come_in_the_day_logs_order() -> None:
    """Each place added takes the search one step further; a reason is the first that is true."""
    wanting = request("r", needs=("pmr",), modes=("cabinet", "visite"))
    steps = [
        ("NO_SLOT_FOR_PROFESSION", place(1, profession="PED")),
        ("MODE_NOT_OFFERED", place(2, mode="tele")),
        ("NEED_NOT_OFFERED", place(3, offers=("enfant",))),
        ("NO_SLOT_IN_RADIUS", place(4, lat=FAR)),
        ("NO_SLOT_BEFORE_DEADLINE", place(5, 241)),
        ("ALL_TAKEN", place(6, left=0)),
    ]
    market = Market()
    assert reason(market, wanting)["reason"] == "NO_SLOT_FOR_PROFESSION"
    for code, added in steps:
        market.put([added])
        assert reason(market, wanting)["reason"] == code
    # within the radius: one place in another mode, one without what is needed, one too late, one taken
    assert reason(market, wanting)["counts"] == {"profession": 4, "mode": 3, "needs": 2, "radius": 2, "in_time": 1}
    market.put([place(7, lat=FAR, offers=("ecg",))])
    farther = request("r", needs=("ecg",), modes=("cabinet", "visite"))
    assert reason(market, farther)["counts"] == {"profession": 6, "mode": 5, "needs": 1, "radius": 0, "in_time": 0}


def limited(counts: str, left: int, *places: PlaceRow) -> Market:
    """A market under a limit of the first place's professional."""
    market = market_of(places)
    day = int(datetime(2026, 1, 11, 23, tzinfo=UTC).timestamp())
    market.hear_limits(
        "limit",
        {
            **{"id": 1, "version": 1, "counts": counts, "period": "day", "zone": "Europe/Paris", "source": None},
            "members": [f"p:{orjson.loads(places[0].site)['professional']}"],
        },
    )
    market.limits.set_left(1, day, left, 1)
    return market


def test_a_place_that_a_limit_closes_is_named_as_such() -> None:
    """The ledger tells a closed place with no seat left; the limit says why."""
    market = limited("patients", 0, place(1, left=0), place(2, left=0))
    none = reason(market, request("r"))
    assert none["reason"] == "LIMIT_REACHED"
    assert none["sentence"].endswith("(2) sont pris ou fermés par une limite du cabinet (1).")
    assert reason(limited("patients", 1, place(1, left=0)), request("r"))["reason"] == "ALL_TAKEN"
    assert reason(limited("visits", 0, place(1, left=0)), request("r"))["reason"] == "ALL_TAKEN"


def test_a_limit_on_children_closes_free_places_to_children_only() -> None:
    market = limited("children", 0, place(1))
    assert reason(market, request("r", child=True))["reason"] == "LIMIT_REACHED"
    assert explained(market, request("r"))["place"]["slot_id"] == 1
    assert reason(market, request("r", child=True, not_slots=frozenset({1})))["reason"] == "LIMIT_REACHED"


def test_places_that_go_to_others_are_not_closed_by_a_limit() -> None:
    market = limited("patients", 1, place(1), place(2, professional="990"))
    document = explained(market, request("late", tier=Tier.T3), request("a"), request("b"))
    assert document["none"]["reason"] == "ALL_TAKEN" and "vont à d'autres" in document["none"]["sentence"]


@pytest.mark.parametrize(
    ("code", "wanting", "places"),
    [
        ("NO_SLOT_FOR_PROFESSION", {}, [place(1, landmass=2)]),
        ("NO_SLOT_FOR_PROFESSION", {}, [place(1, lat=48.0)]),
        ("NO_SLOT_FOR_PROFESSION", {}, [place(1, -5)]),
        ("NO_SLOT_FOR_PROFESSION", {"specialty": "SM15"}, [place(1)]),
        ("NO_SLOT_FOR_PROFESSION", {"specialty": "SM15"}, [place(1, specialty="SM38")]),
        ("NEED_NOT_OFFERED", {"needs": ("never offered here",)}, [place(1)]),
        ("NEED_NOT_OFFERED", {"needs": ("enfant", "pmr")}, [place(1, offers=("enfant",)), place(2, offers=("pmr",))]),
        ("NO_SLOT_BEFORE_DEADLINE", {"modes": ("tele",)}, [place(1, 241, mode="tele", lat=48.0)]),
        ("NO_SLOT_BEFORE_DEADLINE", {}, [place(1, 2)]),
        ("ALL_TAKEN", {"modes": ("tele",)}, [place(1, 10, mode="tele", lat=-21.0, lon=55.5, landmass=9, left=0)]),
        ("ALL_TAKEN", {"radius_km": 60.0}, [place(1, 200, lat=FAR, left=0)]),
    ],
)
def test_each_reason_of_none(code: str, wanting: dict[str, Any], places: list[Any]) -> None:
    assert reason(market_of(places), request("r", **wanting))["reason"] == code


def test_sentences_of_none() -> None:
    def said(*places: Any, **wanting: Any) -> str:
        text: str = reason(market_of(places), request("r", **wanting))["sentence"]
        assert text.startswith("Pas de place pour l'instant : ") and text.endswith(".")
        return text.removeprefix("Pas de place pour l'instant : ").removesuffix(".")

    assert said() == "aucun créneau de cette profession à moins de 50 km"
    assert said(radius_km=80.0) == "aucun créneau de cette profession à moins de 80 km"
    assert said(place(1, lat=FAR)) == "aucun créneau dans le rayon ; le plus proche est à 48,9 km"
    assert said(place(1, left=0), place(2, left=0)) == "tous les créneaux possibles (2) sont pris"
    assert said(place(1, 300)) == "aucun créneau joignable avant l'échéance"
    assert said(place(1), not_slots=frozenset({1})) == "les places encore libres ont déjà été déclinées"
    assert said(place(1, left=0), not_slots=frozenset({1})) == "tous les créneaux possibles (1) sont pris"


def test_who_loses_the_last_place_to_others_of_the_batch_hears_so() -> None:
    document = explained(market_of([place(1)]), request("r"), request("s", tier=Tier.T0))
    assert document["place"] is None and document["alternatives"] == [] and document["reasons"] == []
    assert document["none"]["reason"] == "ALL_TAKEN"
    assert document["sentence"] == (
        "Pas de place pour l'instant : les places possibles vont à d'autres patients, plus urgents ou sans autre choix."
    )


def test_nearest_is_that_of_the_fitting_ones() -> None:
    market = market_of([place(1, lat=FAR), place(2, lat=46.1, offers=())])
    assert reason(market, request("r", needs=("pmr",)))["nearest_km"] == 48.9
    assert reason(market, request("r", profession="PED"))["nearest_km"] is None


# -- a place ---------------------------------------------------------------------------------------------------


def test_a_decision_in_plain_units() -> None:
    document = explained(market_of([place(1, 60, lat=45.85, capacity=3, left=2)]), request("r"), now=NOW)
    assert document["decided_at"] == "2026-01-12T08:00:00+00:00"
    assert (document["policy"], document["method"], document["batch_size"], document["gap_min"]) == (
        "firm", "single", 1, 0.0,
    )  # fmt: skip
    shown = document["place"]
    assert shown["start"] == "2026-01-12T10:00:00+01:00" and shown["end"] == "2026-01-12T10:15:00+01:00"
    assert (shown["slot_id"], shown["mode"], shown["profession"], shown["booking_kind"]) == (
        1,
        "cabinet",
        "MG",
        "routine",
    )
    assert (shown["capacity"], shown["left_before"], shown["is_mt"]) == (3, 2, False)
    assert shown["distance_km"] == 10.01 and shown["travel_min"] == 22.5 and shown["travel_source"] == "estimate"
    assert shown["travel_range_min"][0] < shown["travel_min"] < shown["travel_range_min"][1]
    assert shown["wait_min"] == 60.0 and shown["offers"] == ["enfant", "pmr"]
    assert shown["site"]["insee"] == "69123"
    assert document["cost"] == {
        "travel_min": 22.5, "wait_weighted_min": 15.0, "mt_bonus_min": 0.0, "total_min": 37.5,
    }  # fmt: skip


def test_waiting_counts_from_the_request_and_is_shown_from_now() -> None:
    document = explained(market_of([place(1, 60)]), request("r", created_at=NOW - 1_200))
    assert document["place"]["wait_min"] == 60.0
    assert document["cost"]["wait_weighted_min"] == 20.0


@pytest.mark.parametrize("tier", list(Tier))
def test_cost_parts_add_up_to_the_total_that_was_compared(tier: Tier) -> None:
    places = [place(n, 11 + 7 * n, lat=45.76 + 0.0037 * n, professional=f"P{n % 3}") for n in range(1, 40)]
    market = market_of([*places, place(90, 3, professional="P1"), place(91, 50, mode="tele")])
    wanting = request("r", tier=tier, mt="P1", modes=("cabinet", "tele"), created_at=NOW - 17)
    found = find_candidates(market, wanting, NOW, Terms())
    costs = dict(zip(found.slot_id.tolist(), found.cost.tolist(), strict=True))
    document = explained(market, wanting)
    shown = [(document["place"], document["cost"]), *((a, a["cost"]) for a in document["alternatives"])]
    assert len(shown) == 5
    for seen, cost in shown:
        parts = cost["travel_min"] + cost["wait_weighted_min"] - cost["mt_bonus_min"]
        assert parts == pytest.approx(cost["total_min"], abs=1e-9)
        assert cost["total_min"] == costs[seen["slot_id"]] / 10
        assert abs(cost["travel_min"] - seen["travel_min"]) <= 0.1001 and cost["wait_weighted_min"] >= 0


def test_a_place_of_a_source_that_shows_phantoms_ranks_below_its_equal_and_says_why() -> None:
    places = [place(1, 60, source="fhir:menteur"), place(2, 60.5, source="agenda"), place(3, 90, source="agenda")]
    market = market_of(places)
    assert explained(market, request("r"))["place"]["slot_id"] == 1
    market.doubt({"fhir:menteur": doubt_min(40, 20), "fhir:inconnu": 5.0})
    document = explained(market, request("r"))
    assert document["place"]["slot_id"] == 2 and "doubt_min" not in document["cost"]
    (other, _) = document["alternatives"]
    assert (other["slot_id"], other["cost"]["doubt_min"]) == (1, 2.65)
    parts = other["cost"]["travel_min"] + other["cost"]["wait_weighted_min"] + other["cost"]["doubt_min"]
    assert parts == pytest.approx(other["cost"]["total_min"], abs=1e-9)
    # a small cost: a place half an hour later is not better for it
    assert other["cost"]["total_min"] < document["alternatives"][1]["cost"]["total_min"]
    market.doubt({})
    assert explained(market, request("r"))["place"]["slot_id"] == 1


def test_the_share_of_phantoms_starts_at_the_usual_and_follows_what_was_tried() -> None:
    assert phantom_share(0, 0) == pytest.approx(USUAL_SHARE)
    assert phantom_share(1, 1) < 0.11 and 0.85 < phantom_share(200, 200) < 1
    assert phantom_share(1000, 0) < 0.002
    assert doubt_min(0, 0) == pytest.approx(0.45)


def test_alternatives_are_places_with_their_cost() -> None:
    document = explained(market_of(place(n, 10 * n) for n in range(1, 8)), request("r"))
    assert [a["slot_id"] for a in document["alternatives"]] == [2, 3, 4, 5]
    assert all(a["cost"]["total_min"] >= document["cost"]["total_min"] for a in document["alternatives"])


def test_the_fallback_claims_no_gap() -> None:
    market, batch = market_of([place(1)]), [request("r"), request("s")]
    pick = run(batch, all_candidates(market, batch), answer=lambda problem: None)[0]
    assert explain(market, pick, NOW, PARIS, Terms())["gap_min"] is None


def test_a_place_that_changed_under_the_pick_is_not_explained() -> None:
    market = market_of([place(1, 10), place(2, 20), place(3, 30)])
    batch = [request("r")]
    (pick,) = run(batch, all_candidates(market, batch))
    market.discard(2, 9)
    assert [a["slot_id"] for a in explain(market, pick, NOW, PARIS, Terms())["alternatives"]] == [3]
    market.put([place(1, 11, version=2)])
    with pytest.raises(PlaceGoneError):
        explain(market, pick, NOW, PARIS, Terms())
    market.discard(1, 9)
    with pytest.raises(PlaceGoneError):
        explain(market, pick, NOW, PARIS, Terms())


# -- sentences -------------------------------------------------------------------------------------------------


def test_waiting_as_people_say_it() -> None:
    texts = [wait_text(minutes) for minutes in (-0.4, 0, 34.6, 59.4, 59.6, 60, 125, 1_500)]
    assert texts == ["0 min", "0 min", "35 min", "59 min", "1 h 00", "1 h 00", "2 h 05", "25 h 00"]


def test_hours_across_midnight_and_clock_changes() -> None:
    now = datetime(2026, 1, 12, 23, 50, tzinfo=PARIS)

    def said(day: int, hour: int, minute: int) -> str:
        return hour_text(datetime(2026, 1, day, hour, minute, tzinfo=PARIS), now)

    assert said(12, 23, 55) == "23 h 55"
    assert said(13, 0, 5) == "demain 0 h 05"
    assert said(14, 8, 0) == "le 14/01 à 8 h 00"
    summer = datetime(2026, 3, 28, 23, 30, tzinfo=PARIS)
    assert hour_text(datetime(2026, 3, 29, 1, 5, tzinfo=UTC).astimezone(PARIS), summer) == "demain 3 h 05"


@pytest.mark.parametrize(
    ("places", "wanting", "sentence"),
    [
        (
            [place(1, 60, lat=45.85), place(2, 200, lat=45.80)],
            {"tier": Tier.T0},
            "10 h 00, dans 1 h 00, à 10,0 km (environ 22 min, estimation) : la plus tôt, "
            "le meilleur compromis trajet-attente.",
        ),
        (
            [place(1, 20, mode="tele")],
            {"modes": ("tele",)},
            "9 h 20, dans 20 min, en téléconsultation : seule place possible, la plus tôt.",
        ),
        (
            [place(1, 45, mode="visite", lat=45.85), place(2, 200, mode="visite", lat=45.85)],
            {"modes": ("visite",)},
            "9 h 45, dans 45 min, visite à domicile, depuis 10,0 km (environ 22 min, estimation) : la plus proche, "
            "la plus tôt.",
        ),
        (
            [place(1, 30, professional="MT"), place(2, 20, lat=45.80)],
            {"mt": "MT"},
            "9 h 30, dans 30 min, à 0,0 km (environ 3 min, estimation) : chez le médecin traitant, la plus proche.",
        ),
    ],
)
def test_sentences(places: list[Any], wanting: dict[str, Any], sentence: str) -> None:
    assert explained(market_of(places), request("r", **wanting))["sentence"] == sentence


def test_the_sentence_names_the_day_when_it_is_another() -> None:
    evening = NOW + 14 * 3600 + 50 * 60
    wanting = request("r", tier=Tier.T2, created_at=evening, deadline=evening + 86_400)
    assert explained(market_of([place(1, 905)]), wanting, now=evening)["sentence"].startswith(
        "demain 0 h 05, dans 15 min, "
    )


@pytest.mark.parametrize(("days", "said"), [(0, "à 8 h 05"), (1, "demain à 8 h 05"), (2, "le 15/01 à 8 h 05")])
def test_an_instant_is_said_as_people_do(days: int, said: str) -> None:
    now = datetime(2026, 1, 13, 7, tzinfo=UTC)
    assert at_text(datetime(2026, 1, 13 + days, 8, 5, tzinfo=UTC), now) == said
