"""What would help who has no place: each concession by example, and all of them against plain brute force."""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import count
from typing import Any

import orjson
import pytest
from hypothesis import given, settings

from sas_matcher.api.openapi import NO_PLACE_SCHEMA, RELAXATION_SCHEMA
from sas_matcher.domain.vocabulary import MAY_SERVE, PROFESSION_LABELS, Tier
from sas_matcher.matching import engine
from sas_matcher.matching.candidates import OpenRequest, find_candidates
from sas_matcher.matching.explain import explain
from sas_matcher.matching.market import Market
from sas_matcher.matching.places import PlaceRow, stable_key
from sas_matcher.matching.relax import Concession, Relaxation, relaxations
from sas_matcher.matching.terms import Terms
from tests.matching_cases import LYON, NOW, all_candidates, market_of, place, request
from tests.property.test_matching import CHANCE, drawn_places, drawn_request, exact_cost, km_between
from tests.unit.test_engine import run
from tests.unit.test_explain import PARIS, explained

FAR = 46.2  # 48.9 km north: 18.9 km beyond the radius of 30


def helped(wanting: OpenRequest, *places: PlaceRow, taken: Mapping[int, int] | None = None) -> list[Relaxation]:
    return looked_for(market_of(places), wanting, taken=taken)


def looked_for(
    market: Market, wanting: OpenRequest, terms: Terms | None = None, taken: Mapping[int, int] | None = None
) -> list[Relaxation]:
    terms = terms or Terms()
    return relaxations(market, wanting, find_candidates(market, wanting, NOW, terms), NOW, terms, taken)


def ways(*places: PlaceRow, **wanting: Any) -> list[tuple[tuple[str, ...], int]]:
    """Concessions and slot of each way found."""
    found = helped(request("r", **wanting), *places)
    return [(tuple(one.concessions), int(one.candidates.slot_id[one.row])) for one in found]


@pytest.mark.parametrize(
    ("wanting", "there", "concessions", "size"),
    [
        ({}, {"lat": FAR, "start_min": 120}, ("radius",), 1.95 * 18.926),
        ({}, {"start_min": 300}, ("deadline",), 0.25 * 60),
        ({"tier": Tier.T3}, {"start_min": 300}, ("deadline",), 0.03 * 60),
        ({}, {"mode": "tele", "lat": 48.0}, ("mode",), 15),
        ({"modes": ("tele",)}, {}, ("mode",), 15),
        ({"needs": ("pmr", "ecg")}, {}, ("need",), 30),
        ({"profession": "PED", "specialty": "SM40"}, {}, ("profession",), 60),
        ({"needs": ("enfant",)}, {"profession": "PED"}, ("profession",), 60),
        ({}, {"lat": FAR, "start_min": 300}, ("radius", "deadline"), 1.95 * 18.926 + 15),
        ({}, {"mode": "visite", "lat": FAR, "start_min": 120}, ("radius", "mode"), 1.95 * 18.926 + 15),
        ({"needs": ("ecg",)}, {"start_min": 300}, ("deadline", "need"), 15 + 30),
    ],
)
def test_each_concession(wanting: dict[str, Any], there: dict[str, Any], concessions: tuple[str], size: float) -> None:
    (way,) = helped(request("r", **wanting), place(7, **there))
    assert way.concessions == concessions and way.candidates.slot_id[way.row] == 7
    assert way.size_min == pytest.approx(size, abs=0.01)


@pytest.mark.parametrize(
    ("wanting", "there"),
    [
        ({}, {"lat": 47.2, "start_min": 239}),  # 160 km
        ({}, {"start_min": 2_881}),  # 48 h after the call and a minute
        ({}, {"landmass": 2}),
        ({}, {"left": 0}),
        ({}, {"start_min": 2}),  # nobody gets there in time
        ({}, {"profession": "PED"}),  # no child
        ({"profession": "DENT"}, {}),
        ({"needs": ("ecg", "lsf")}, {}),  # two needs would have to go
        ({"needs": ("ecg",), "profession": "PED"}, {}),
        ({"not_slots": frozenset({7})}, {"lat": FAR, "start_min": 120}),
    ],
)
def test_nothing_beyond_the_bounds_helps(wanting: dict[str, Any], there: dict[str, Any]) -> None:
    assert helped(request("r", **wanting), place(7, **there)) == []


def test_a_place_that_is_not_worth_the_trip_does_not_help() -> None:
    """At 6 min a kilometre 138 km cost 831 min, more than serving the lowest tier is worth (500 min)."""
    market, wanting = market_of([place(7, 2_000, lat=47.0)]), request("r", tier=Tier.T3, deadline=NOW + 172_800)
    assert looked_for(market, wanting, Terms(min_per_km=6.0)) == []
    assert looked_for(market, wanting)[0].concessions == ("radius",)


def test_the_smallest_comes_first_and_two_are_given_up_only_where_one_is_not_enough() -> None:
    places = [
        place(1, 120, lat=FAR),
        place(2, 300),
        place(3, mode="tele"),
        place(4, 245, lat=FAR),
        place(5, mode="visite", start_min=250),
    ]
    assert ways(*places) == [(("mode",), 3), (("deadline",), 2), (("radius",), 1)]
    assert ways(places[3], places[4]) == [(("deadline", "mode"), 5), (("radius", "deadline"), 4)]


def test_of_several_places_the_nearest_beyond_and_the_soonest_after() -> None:
    places = [*(place(n, 180, lat=45.76 + 0.3 + 0.05 * n) for n in (2, 1, 3)), *(place(n, 240 + n) for n in (12, 11))]
    assert ways(*places) == [(("deadline",), 11), (("radius",), 1)]


def test_a_place_that_the_batch_gives_to_another_does_not_help() -> None:
    places = [place(1, 120, lat=FAR, left=2), place(2, 180, lat=46.3)]
    (way,) = helped(request("r"), *places, taken={1: 1})
    assert way.candidates.slot_id[way.row] == 1
    (way,) = helped(request("r"), *places, taken={1: 2})
    assert way.candidates.slot_id[way.row] == 2
    # in a batch: s, more urgent and with a wider radius, takes the place that would have helped r
    batch = [request("r"), request("s", radius_km=60.0, tier=Tier.T0)]
    market = market_of([place(1, 120, lat=FAR)])
    picks = run(batch, all_candidates(market, batch))
    assert picks[1].slot_id == 1 and explain(market, picks[0], NOW, PARIS, Terms())["none"]["would_help"] == []


def test_one_place_is_shown_once() -> None:
    """It lacks two needs of which either could go: no; it is out of time in another mode: once."""
    assert ways(place(1, mode="tele"), needs=("pmr",)) == [(("mode",), 1)]
    assert ways(place(1, offers=()), place(2, 120, lat=FAR, offers=("pmr",)), needs=("pmr", "pmr")) == [
        (("need",), 1),
        (("radius",), 2),
    ]


def test_what_fits_as_it_is_and_goes_to_others_is_no_concession() -> None:
    """A policy may keep a free place for who needs it more: giving up a need or going farther would not get it."""
    assert ways(place(1), place(2, 300), needs=("pmr",)) == [(("deadline",), 2)]


def test_four_are_shown() -> None:
    places = [
        place(1, 120, lat=FAR),
        place(2, 300),
        place(3, mode="tele"),
        place(4, mode="visite"),
        place(5, offers=()),
    ]
    assert [one for one, _ in ways(*places, needs=("pmr",))] == [("mode",), ("mode",), ("deadline",), ("need",)]


def test_who_may_serve_is_a_profession_of_the_sas_and_never_itself() -> None:
    for profession, others in MAY_SERVE.items():
        assert {profession, *(name for name, _ in others)} <= set(PROFESSION_LABELS)
        assert profession not in {name for name, _ in others}


# -- brute force -------------------------------------------------------------------------------------------------


def changed(wanting: OpenRequest) -> Iterator[tuple[str | None, float, OpenRequest]]:
    yield None, 0, wanting
    for mode in {"cabinet", "tele", "visite"} - set(wanting.modes):
        yield "mode", 15, replace(wanting, modes=(mode,))
    for need in set(wanting.needs):
        yield "need", 30, replace(wanting, needs=tuple(n for n in wanting.needs if n != need))
    if wanting.profession == "MG" and {"enfant", "nourrisson"} & set(wanting.needs):
        yield "profession", 60, replace(wanting, profession="PED", specialty=None)
    if wanting.profession == "PED":
        yield "profession", 60, replace(wanting, profession="MG", specialty=None)


def by_trying_all(rows: Sequence[PlaceRow], wanting: OpenRequest, terms: Terms) -> dict[int, dict[Any, float]]:
    """Number of concessions → (concessions, modes, needs, profession) → least size."""
    least: dict[int, dict[Any, float]] = {1: {}, 2: {}}
    tier = terms.tiers[wanting.tier]
    for kind, base, other in changed(wanting):
        wide = replace(
            other, radius_km=max(150.0, other.radius_km), deadline=max(other.deadline, other.created_at + 172_800)
        )
        for row in rows:
            cost = exact_cost(row, wide, NOW, terms)
            if cost is None or round(cost) >= tier.value or exact_cost(row, wanting, NOW, terms) is not None:
                continue
            km = 0.0 if row.mode == "tele" else km_between((row.lat, row.lon), (wanting.lat, wanting.lon))
            far, late = max(0.0, km - wanting.radius_km), max(0.0, row.start - wanting.deadline)
            names = [n for n, given in (("radius", far), ("deadline", late), (kind, kind)) if given and n]
            if 1 <= len(names) <= 2:
                key = (tuple(names), other.modes, other.needs, other.profession)
                size = base + terms.min_per_km * far + tier.wait_weight * late / 60
                least[len(names)][key] = min(size, least[len(names)].get(key, size))
    return least


@settings(max_examples=300, deadline=None)
@given(CHANCE)
def test_the_smallest_concessions_are_those_of_brute_force(chance: random.Random) -> None:
    numbers = count(100)
    rows = drawn_places(chance, 8)
    for _ in range(chance.randint(0, 8)):
        # far and late, of other kinds
        rows.append(
            place(
                next(numbers),
                chance.choice((30, 245, 400, 900, 2_870, 2_890)),
                lat=LYON[0] + chance.choice((0.0, 0.3, 0.6, 1.2, 1.4)),
                mode=chance.choice(("cabinet", "cabinet", "tele", "visite")),
                profession=chance.choice(("MG", "MG", "PED")),
                offers=chance.choice((("enfant", "pmr"), ("enfant",), ())),
                left=chance.choice((0, 1)),
            )
        )
    terms = Terms()
    wanting = replace(drawn_request(chance), profession=chance.choice(("MG", "PED", "DENT")), mt=None)
    expected = by_trying_all(rows, wanting, terms)
    known = expected[1] or expected[2]
    found = looked_for(market_of(rows), wanting, terms)
    assert len(found) <= 4 and bool(found) == bool(known)
    sizes = [one.size_min for one in found]
    assert sizes == sorted(sizes)
    if found:
        assert sizes[0] == pytest.approx(min(known.values()))
    assert len({int(one.candidates.slot_id[one.row]) for one in found}) == len(found)
    for one in found:
        key = (tuple(map(str, one.concessions)), one.request.modes, one.request.needs, one.request.profession)
        assert one.size_min == pytest.approx(known[key])
        # what it would have to ask for finds exactly this place
        row = next(r for r in rows if r.slot_id == one.candidates.slot_id[one.row])
        assert exact_cost(row, replace(one.request, radius_km=one.request.radius_km + 1e-9), NOW, terms) is not None


# -- as it is told -------------------------------------------------------------------------------------------------


def test_what_would_help_in_the_document() -> None:
    market = market_of(
        [place(1, 300), place(2, 120, lat=FAR), place(3, mode="tele", offers=("enfant",), profession="PED")]
    )
    none = explained(market, request("r"))["none"]
    later, farther = none["would_help"]
    assert (later["concessions"], later["size_min"], later["sentence"]) == (["deadline"], 15.0, "1 h 00 plus tard")
    assert later["ask"] == {"delay": "8H"} and later["place"]["slot_id"] == 1
    assert later["place"]["cost"]["total_min"] == pytest.approx(3 + 0.25 * 300)
    assert farther["sentence"] == "à 18,9 km de plus" and farther["ask"] == {"radius_km": 49.0}
    assert farther["place"]["distance_km"] == 48.93
    child = explained(market, request("r", needs=("enfant",), radius_km=5.0, deadline=NOW + 7_200))["none"][
        "would_help"
    ]
    assert [way["sentence"] for way in child[:2]] == ["3 h 00 plus tard", "à 43,9 km de plus"]
    (tele,) = explained(market_of([place(1, mode="tele")]), request("r"))["none"]["would_help"]
    assert (tele["ask"], tele["sentence"]) == ({"modes": ["cabinet", "tele"]}, "en téléconsultation")
    (less,) = explained(market_of([place(1)]), request("r", needs=("pmr", "ecg")))["none"]["would_help"]
    assert (less["ask"], less["sentence"]) == ({"needs": ["pmr"]}, "sans « ecg »")
    (other,) = explained(market_of([place(1)]), request("r", profession="PED"))["none"]["would_help"]
    assert other["ask"] == {"profession": "MG", "specialty": None}
    assert other["sentence"] == "par une autre profession (médecine générale)"


def test_the_schema_names_what_the_document_has() -> None:
    none = explained(market_of([place(2, 120, lat=FAR)]), request("r"))["none"]
    assert set(none) == set(NO_PLACE_SCHEMA["properties"]) == set(NO_PLACE_SCHEMA["required"])
    assert set(none["would_help"][0]) == set(RELAXATION_SCHEMA["properties"])
    named: Any = RELAXATION_SCHEMA["properties"]
    assert named["concessions"]["items"]["enum"] == list(Concession)


def test_in_a_surge_the_most_urgent_are_helped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "HELPED", 2)
    market = market_of([place(1, 120, lat=FAR)])
    # the least urgent would come first by its key
    low, *others = sorted(("a", "b", "c"), key=stable_key)
    batch = [request(low, tier=Tier.T3), *(request(name) for name in others)]
    picks = run(batch, all_candidates(market, batch))
    told = [explain(market, pick, NOW, PARIS, Terms())["none"]["would_help"] for pick in picks]
    assert [None if way is None else len(orjson.loads(orjson.dumps(way))) for way in told] == [None, 1, 1]
