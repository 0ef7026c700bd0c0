"""The invented world: nobody in it can exist, its shares are the field's, its clock is the territory's."""

import json
import re
import time
from collections import Counter, defaultdict
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest

from adapters.geo import Gazetteer
from sas_matcher.demo import identity
from sas_matcher.demo.demand import DELAYS, DemandModel, requests_of_day
from sas_matcher.demo.supply import OPEN_MARKET_SLOTS, openings, slots_of_day
from sas_matcher.demo.world import PROFESSIONS, SOURCES, Json, World, build_world
from sas_matcher.domain import vocabulary as v
from sas_matcher.domain.duty import easter, is_public_holiday, sas_hours
from sas_matcher.travel import haversine_km

TUESDAY, SATURDAY, SUNDAY = date(2026, 11, 24), date(2026, 11, 28), date(2026, 11, 29)
SPRING, AUTUMN = date(2026, 3, 29), date(2026, 10, 25)  # Sundays of clock change in Europe


def world_of(*territories: str, seed: int = 7, participation: float = 0.25) -> World:
    gazetteer = Gazetteer.load()
    communes = [c for t in territories for c in gazetteer.communes_of(t)]
    return build_world(
        communes, np.random.default_rng(seed), territories=gazetteer.territories, participation=participation
    )


@pytest.fixture(scope="module")
def world() -> World:
    return world_of("69", "48", "971", "974")


@pytest.fixture(scope="module")
def slots(world: World) -> list[Json]:
    return slots_of_day(world, TUESDAY, np.random.default_rng(1))


def passes_luhn(digits: str) -> bool:
    """Luhn's check written the other way round than in the product."""
    total = 0
    for position, digit in enumerate(map(int, reversed(digits))):
        total += digit if position % 2 == 0 else sum(divmod(2 * digit, 10))
    return total % 10 == 0


def test_luhn_key_agrees_with_known_numbers() -> None:
    assert identity.luhn_key("7992739871") == 3
    for known in ("732829320", "404833048"):  # SIREN often given as examples of the check
        assert passes_luhn(known)
        assert identity.luhn_key(known[:-1]) == int(known[-1])


def test_no_identifier_of_the_world_can_be_real(world: World) -> None:
    rpps, finess = [p.rpps for p in world.professionals], [s.finess for s in world.structures]
    assert all(re.fullmatch(r"99\d{9}", r) and not passes_luhn(r) for r in rpps)
    assert all(re.fullmatch(r"99\d{7}", f) and not passes_luhn(f) for f in finess)
    assert len(set(rpps)) == len(rpps)
    assert len(set(finess)) == len(finess)


@pytest.mark.parametrize("serial", [-1, 10**8])
def test_serial_that_does_not_fit_is_refused(serial: int) -> None:
    with pytest.raises(ValueError, match="serial"):
        identity.fictitious_rpps(serial)


def test_every_name_says_that_it_is_invented(world: World) -> None:
    assert all("fictif" in p.name.casefold() for p in world.professionals)
    assert all("fictif" in s.name.casefold() or "fictive" in s.name.casefold() for s in world.structures)


def test_family_names_are_common_nouns_behind_the_word_fictif(world: World) -> None:
    """No table of real surnames: each name is a given name and "Fictif-" with a plant or a stone."""
    for professional in world.professionals:
        given, family = professional.name.removeprefix("Dr ").split(" ")
        assert given in identity.GIVEN
        assert family.removeprefix("Fictif-") in identity.FAMILY


def test_telephones_are_of_the_blocks_for_fiction(world: World) -> None:
    phones = [s.phone for s in world.structures if s.phone]
    blocks = "01 99 00|02 61 91|03 53 01|04 65 71|05 36 49|06 39 98"
    assert phones and all(re.fullmatch(rf"(?:{blocks}) \d\d \d\d", phone) for phone in phones)
    by_territory = {world.communes[s.commune].territory: s.phone[:2] for s in world.structures if s.phone is not None}
    assert by_territory == {"69": "04", "48": "04", "971": "06", "974": "06"}


def test_numbers_follow_population_and_participation() -> None:
    quarter, whole = world_of("69"), world_of("69", participation=1.0)
    gps = sum(p.profession == "MG" for p in quarter.professionals)
    assert gps == pytest.approx(0.25 * 57_000 / 67_000_000 * quarter.population, rel=0.08)
    assert len(whole.professionals) == pytest.approx(4 * len(quarter.professionals), rel=0.01)


def test_professions_and_sources_have_their_shares() -> None:
    people = world_of("59", "62", "80", "02", "60", participation=1.0).professionals
    professions, sources = (Counter(getattr(p, name) for p in people) for name in ("profession", "source_kind"))
    for profession, share in PROFESSIONS.items():
        assert professions[profession] / len(people) == pytest.approx(share, abs=0.025)
    for source, share in SOURCES.items():
        assert sources[source] / len(people) == pytest.approx(share, abs=0.005)


def test_practices_stand_near_the_town_hall_of_their_commune(world: World) -> None:
    for s in world.structures:
        commune = world.communes[s.commune]
        assert haversine_km(s.lat, s.lon, commune.lat, commune.lon) < 4.5


def test_supply_is_clustered_by_structure_and_profession(world: World) -> None:
    """Uniform placing would give one professional a structure and no two colleagues of one trade more than chance."""
    members: dict[int, list[str]] = defaultdict(list)
    for p in world.professionals:
        members[p.workplace].append(p.profession)
    groups = [m for m in members.values() if len(m) > 1]
    assert sum(map(len, groups)) > 0.6 * len(world.professionals)
    rare = [m for m in groups if any(x not in ("MG",) for x in m)]
    assert any(len(m) > 1 and set(m) == {m[0]} and m[0] != "MG" for m in rare)


def test_slots_have_the_published_shape(slots: list[Json]) -> None:
    keys = {
        "external_id", "professional", "structure", "source_kind", "location", "start", "end", "capacity", "mode",
        "booking_kind", "profession", "specialty", "offers", "visibility",
    }  # fmt: skip
    offers = {o.value for o in v.Offer}
    for slot in slots:
        assert set(slot) == keys
        assert v.SourceKind(slot["source_kind"]) and v.Mode(slot["mode"]) and v.Visibility(slot["visibility"])
        assert v.BookingKind(slot["booking_kind"]) and v.Profession(slot["profession"])
        assert slot["specialty"] is None or v.SPECIALTIES[slot["specialty"]][1] == slot["profession"]
        assert set(slot["offers"]) <= offers and len(set(slot["offers"])) == len(slot["offers"])
        assert set(slot["location"]) == {"lat", "lon", "insee", "label", "phone"}
        assert slot["professional"] is not None or slot["structure"] is not None
        assert slot["structure"] is None or set(slot["structure"]) == {"finess", "kind", "name"}
    assert len({slot["external_id"] for slot in slots}) == len(slots)
    assert json.loads(json.dumps(slots)) == slots


def test_individual_slots_last_15_to_20_minutes_and_plages_hold_several(slots: list[Json]) -> None:
    plages = 0
    for slot in slots:
        minutes = (datetime.fromisoformat(slot["end"]) - datetime.fromisoformat(slot["start"])).total_seconds() / 60
        if slot["capacity"] == 1:
            assert minutes in (15, 20)
            assert slot["booking_kind"] == "routine"
        else:
            plages += 1
            assert minutes / slot["capacity"] in (15, 20)
            assert slot["booking_kind"] == "walkin"
    assert 0.05 < plages / len(slots) < 0.15
    assert any(slot["professional"] is None for slot in slots)


def test_slots_keep_the_hours_of_their_own_clock(slots: list[Json]) -> None:
    offset = {"69": 1, "48": 1, "971": -4, "974": 4}
    seen = set()
    for slot in slots:
        start, end = datetime.fromisoformat(slot["start"]), datetime.fromisoformat(slot["end"])
        insee = slot["location"]["insee"]
        territory = insee[:3] if insee.startswith("97") else insee[:2]
        seen.add(territory)
        assert start.utcoffset() == timedelta(hours=offset[territory])
        assert start.date() == TUESDAY and start.hour >= 8
        assert end <= start.replace(hour=20, minute=0)
    assert seen == set(offset)
    assert [s["start"] for s in slots] == [
        s["start"] for s in sorted(slots, key=lambda s: datetime.fromisoformat(s["start"]))
    ]


def overlapping(slots: list[Json]) -> int:
    by_person: dict[str, list[tuple[datetime, datetime]]] = defaultdict(list)
    for slot in slots:
        if slot["professional"] and slot["capacity"] == 1:
            spans = (datetime.fromisoformat(slot["start"]), datetime.fromisoformat(slot["end"]))
            by_person[slot["professional"]["rpps"]].append(spans)
    return sum(a[1] > b[0] for spans in by_person.values() for a, b in zip(sorted(spans), sorted(spans)[1:]))  # noqa: B905


def test_nobody_offers_two_individual_places_at_once(world: World) -> None:
    crowded = slots_of_day(world, TUESDAY, np.random.default_rng(4), slots=12 * len(world.professionals))
    assert overlapping(crowded) == 0
    crowded.append({**next(s for s in crowded if s["professional"] and s["capacity"] == 1)})
    assert overlapping(crowded) == 1


@pytest.mark.parametrize(("day", "hours"), [(SPRING, 23), (TUESDAY, 24), (AUTUMN, 25)])
def test_days_of_clock_change_lose_and_double_no_place(day: date, hours: int) -> None:
    """With every cell of the day asked for, a professional has one place for each quarter of the real hours."""
    full = world_of("48")
    someone = next(p for p in full.professionals if p.minutes == 15)
    one = World(full.communes, full.territories, full.structures, (someone,))
    every = slots_of_day(one, day, np.random.default_rng(2), slots=hours * 4, hours=(0, 24))
    starts = [datetime.fromisoformat(s["start"]).astimezone(UTC) for s in every]
    assert len(set(starts)) == len(starts) == hours * 4
    assert starts[-1] - starts[0] == timedelta(hours=hours, minutes=-15)
    for s in every:
        length = datetime.fromisoformat(s["end"]) - datetime.fromisoformat(s["start"])
        assert length == timedelta(minutes=15) * s["capacity"]
    local = [datetime.fromisoformat(s["start"]) for s in every]
    assert all(instant.date() == day for instant in local)
    two = [s for s in every if "T02:" in s["start"]]
    assert len(two) == {23: 0, 24: 4, 25: 8}[hours]
    with pytest.raises(ValueError, match="at most"):
        slots_of_day(one, day, np.random.default_rng(2), slots=hours * 4 + 1, hours=(0, 24))


def test_no_places_and_no_requests_outside_sas_hours(world: World) -> None:
    for day in (SUNDAY, date(2026, 12, 25), date(2026, 4, 6)):
        assert slots_of_day(world, day, np.random.default_rng(1)) == []
        assert requests_of_day(world, day, np.random.default_rng(1)) == []
    saturday = slots_of_day(world, SATURDAY, np.random.default_rng(1))
    assert saturday and all(8 <= datetime.fromisoformat(s["start"]).hour < 12 for s in saturday)
    assert slots_of_day(world, SUNDAY, np.random.default_rng(1), hours=(9, 18))
    assert requests_of_day(world, SUNDAY, np.random.default_rng(1), hours=(9, 18))


def test_easter_and_holidays_of_known_years() -> None:
    assert [easter(y) for y in (2000, 2024, 2025, 2026, 2038)] == [
        date(2000, 4, 23), date(2024, 3, 31), date(2025, 4, 20), date(2026, 4, 5), date(2038, 4, 25),
    ]  # fmt: skip
    days = [date(2026, 1, 1) + timedelta(days=n) for n in range(365)]
    assert sum(map(is_public_holiday, days)) == 11
    assert is_public_holiday(date(2026, 5, 14)) and is_public_holiday(date(2026, 5, 25))
    assert sas_hours(SATURDAY) == (8, 12)


def test_same_seed_same_world_places_and_requests(world: World, slots: list[Json]) -> None:
    assert world_of("69", "48", "971", "974").professionals == world.professionals
    assert world_of("69", "48", "971", "974", seed=8).professionals != world.professionals
    assert slots_of_day(world, TUESDAY, np.random.default_rng(1)) == slots
    first, second = (requests_of_day(world, TUESDAY, np.random.default_rng(5)) for _ in range(2))
    assert first == second


def test_places_open_before_they_start_and_some_late(slots: list[Json]) -> None:
    opened = openings(slots, np.random.default_rng(3))
    starts = [datetime.fromisoformat(s["start"]) for s in slots]
    lead = [start - at for start, at in zip(starts, opened, strict=True)]
    assert min(lead) >= timedelta(minutes=10)
    same_day = sum(at.astimezone(s.tzinfo).date() == s.date() for at, s in zip(opened, starts, strict=True))
    assert 0.45 < same_day / len(slots) < 0.62
    assert sum(d < timedelta(hours=2) for d in lead) / len(slots) > 0.17


@pytest.fixture(scope="module")
def many(world: World) -> list[Json]:
    return [r.body for r in requests_of_day(world, TUESDAY, np.random.default_rng(6), rate=40.0)]


def test_requests_have_the_published_shape(world: World, many: list[Json]) -> None:
    known = {p.rpps for p in world.professionals if p.profession == "MG"}
    keys = {"profession", "modes", "delay", "radius_km", "needs", "age_band", "mt", "priority"}
    for body in many:
        assert set(body) - keys in ({"insee"}, {"lat", "lon"})
        assert keys <= set(body)
        assert v.Profession(body["profession"]) and v.AgeBand(body["age_band"])
        assert body["modes"] and all(v.Mode(m) for m in body["modes"])
        assert set(body["needs"]) <= {o.value for o in v.Offer}
        assert body["mt"] is None or body["mt"] in known
        assert body["priority"] == ("P2" if v.tier_of(v.Delay(body["delay"])) in ("T0", "T1") else "P3")
    assert {body["radius_km"] for body in many} == {5.0, 50.0, 10.0}
    assert any(body["mt"] for body in many)


def test_delays_of_each_tier_are_the_vocabulary_s() -> None:
    assert {t: {d.value for d in v.Delay if v.tier_of(d) == t} for t in v.Tier} == {
        t: set(codes) for t, codes in DELAYS.items()
    }


def test_demand_has_the_shares_of_the_field(many: list[Json]) -> None:
    n = len(many)
    assert n > 5_000
    tiers = Counter(v.tier_of(v.Delay(b["delay"])) for b in many)
    for tier, share in {"T0": 0.03, "T1": 0.12, "T2": 0.70, "T3": 0.15}.items():
        assert tiers[v.Tier(tier)] / n == pytest.approx(share, abs=0.02)
    children = sum(b["age_band"] in ("nourrisson", "enfant") for b in many) / n
    assert 0.25 <= children <= 0.32
    modes = Counter(b["modes"][0] for b in many)
    assert modes["cabinet"] / n == pytest.approx(0.88, abs=0.02)
    assert modes["visite"] / n == pytest.approx(0.07, abs=0.015)
    assert Counter(b["profession"] for b in many)["MG"] / n == pytest.approx(0.86, abs=0.02)
    assert all(b["age_band"] in ("nourrisson", "enfant") for b in many if b["profession"] == "PED")


def test_demand_follows_rate_weekday_and_hour(world: World) -> None:
    def count(day: date, rate: float = 1.0) -> float:
        model = DemandModel(burst_cv=1e-3)
        return float(
            np.mean([len(requests_of_day(world, day, np.random.default_rng(s), rate, model=model)) for s in range(12)])
        )

    expected = 0.31 * 0.55 * 0.45 * 0.35 / 285 * world.population
    assert count(TUESDAY) == pytest.approx(0.98 * expected, rel=0.06)
    assert count(date(2026, 11, 23)) == pytest.approx(1.15 * expected, rel=0.06)
    assert count(TUESDAY, 4.0) == pytest.approx(4 * 0.98 * expected, rel=0.04)
    assert requests_of_day(world, TUESDAY, np.random.default_rng(1), 0.0) == []
    timed = requests_of_day(world, TUESDAY, np.random.default_rng(2), 40.0)
    assert [r.at for r in timed] == sorted(r.at for r in timed)
    lyon = [r for r in timed if r.body.get("insee", "").startswith("69")]
    hours = Counter(r.at.hour + 1 for r in lyon)  # November: UTC+1
    assert set(hours) == set(range(8, 20))
    assert hours[10] / len(lyon) == pytest.approx(0.13, abs=0.02)
    assert hours[19] / len(lyon) == pytest.approx(0.05, abs=0.02)


@pytest.mark.parametrize("rate", [-1.0, float("inf"), float("nan")])
def test_rate_that_is_none_is_refused(world: World, rate: float) -> None:
    with pytest.raises(ValueError, match="rate"):
        requests_of_day(world, TUESDAY, np.random.default_rng(1), rate)


def test_territories_without_a_default_radius_get_one() -> None:
    mayotte = world_of("976")
    requests = requests_of_day(mayotte, TUESDAY, np.random.default_rng(1), 20.0)
    assert requests and {r.body["radius_km"] for r in requests} == {30.0}


def test_worlds_that_cannot_be_are_refused() -> None:
    gazetteer = Gazetteer.load()
    some = gazetteer.communes_of("48")
    rng, territories = np.random.default_rng(1), gazetteer.territories
    with pytest.raises(ValueError, match="inhabitant"):
        build_world([], rng, territories=territories)
    for share in (0.0, 1.5, float("nan")):
        with pytest.raises(ValueError, match="participation"):
            build_world(some, rng, territories=territories, participation=share)
    with pytest.raises(ValueError, match="MG"):
        build_world(some, rng, territories=territories, professions={"DENT": 1.0})


def test_the_smallest_world_has_somebody() -> None:
    gazetteer = Gazetteer.load()
    hamlet = min((c for c in gazetteer.communes_of("48") if c.population), key=lambda c: c.population)
    tiny = build_world([hamlet], np.random.default_rng(1), territories=gazetteer.territories)
    assert len(tiny.professionals) == 1


def test_a_tenth_of_the_open_market_is_drawn_in_a_tenth_of_fifteen_seconds() -> None:
    gazetteer = Gazetteer.load()
    communes = [c for t in ("59", "62", "69", "31", "971") for c in gazetteer.communes_of(t)]
    begin = time.process_time()
    world = build_world(communes, np.random.default_rng(1), territories=gazetteer.territories, participation=1.0)
    slots = slots_of_day(world, TUESDAY, np.random.default_rng(2), slots=OPEN_MARKET_SLOTS // 10)
    assert time.process_time() - begin < 1.5
    assert len(slots) == 28_500
