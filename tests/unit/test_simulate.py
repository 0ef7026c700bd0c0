"""Drawn day logs: the numbers asked for, the stories told, the same from the same seed, as hard as they should be."""

from collections import Counter
from dataclasses import replace
from datetime import date
from functools import cache
from statistics import mean

import pytest

from adapters.geo import Gazetteer
from sas_matcher.replay.daylog import DayLog, Instant, Request, Slot, SlotCapacity
from sas_matcher.replay.daylog_file import day_lines, parse_day
from sas_matcher.replay.hindsight import hindsight
from sas_matcher.replay.simulate import MARKETS, SCENARIOS, Level, simulate
from sas_matcher.replay.study import KINDS, TIER_SHARES, study
from tests.bench.study import STUDY, peer_share

GAZETTEER = Gazetteer.load()


@cache
def drawn(kind: str, seed: int = 0) -> DayLog:
    return study(kind, seed)


@cache
def story(scenario: str, territory: str = "69", seed: int = 0, level: Level = "mid") -> DayLog:
    communes = GAZETTEER.communes_of(territory)
    return simulate(scenario, communes, seed, level, territories=GAZETTEER.territories)


def slots(day: DayLog) -> list[Slot]:
    return [event.slot for event in day.slots]


def requests(day: DayLog) -> list[Request]:
    return [event.request for event in day.requests]


def clock(instant: Instant) -> str:
    return instant.iso()[11:16]


# --- the study


@pytest.mark.parametrize("kind", KINDS)
def test_the_study_has_its_numbers(kind: str) -> None:
    days = [drawn(kind, seed) for seed in range(3)]
    leads = [event.slot.start - event.t for day in days for event in day.slots if event.t > day.meta.start]
    assert {len(day.slots) for day in days} == {640}
    assert mean(sum(slot.capacity for slot in slots(day)) for day in days) == pytest.approx(720, rel=0.04)
    assert mean(event.t == day.meta.start for day in days for event in day.slots) == pytest.approx(0.55, abs=0.04)
    assert 30 * 60 <= min(leads) <= max(leads) <= 300 * 60
    assert {s.start < day.meta.start + 86400 for day in days for s in slots(day)} == {True, False}
    tiers = Counter(request.tier for day in days for request in requests(day))
    shares = [tiers[f"T{n}"] / tiers.total() for n in range(4)]
    assert shares == pytest.approx(TIER_SHARES, abs=0.035)


@pytest.mark.parametrize(("kind", "count"), [("city-x1", 400), ("city-x3", 1200), ("city-x10", 4000)])
def test_the_rate_multiplies_the_requests(kind: str, count: int) -> None:
    assert mean(len(drawn(kind, seed).requests) for seed in range(3)) == pytest.approx(count, rel=0.07)


def test_the_flash_is_two_hours_at_ten_times_the_rate() -> None:
    def between(day: DayLog) -> int:
        return sum(17 <= int(clock(event.t)[:2]) < 19 for event in day.requests)

    calm, flash = (sum(between(drawn(kind, seed)) for seed in range(3)) for kind in ("city-x1", "flash"))
    assert flash / calm == pytest.approx(10, rel=0.25)
    others = [len(drawn(kind, 1).requests) - between(drawn(kind, 1)) for kind in ("city-x1", "flash")]
    assert others[1] == pytest.approx(others[0], rel=0.15)


def test_only_noise_is_noisy() -> None:
    for kind in KINDS:
        day = drawn(kind)
        faults = (
            sum(slot.refused_after_min is not None for slot in slots(day)) / 640,
            len(day.withdrawn_at) / 640,
            len(day.cancelled_at) / len(day.requests),
        )
        assert faults == pytest.approx((0.06, 0.02, 0.08) if kind == "noise" else (0, 0, 0), abs=0.025)
        assert (faults > (0, 0, 0)) == (kind == "noise")


def test_days_of_a_kind_share_their_people_and_territories_do_not() -> None:
    def people(day: DayLog) -> dict[str, tuple[float, float]]:
        return {slot.professional: (slot.lat, slot.lon) for slot in slots(day)}

    monday, other = people(drawn("city-x1", 0)), people(drawn("flash", 1))
    common = monday.keys() & other.keys()
    assert len(common) > 80
    assert all(monday[name] == other[name] for name in common)
    elsewhere = people(study("city-x1", 0, territory=1))
    assert not set(monday.values()) & set(elsewhere.values())


def test_nobody_of_the_study_sees_two_patients_at_once() -> None:
    for kind in KINDS:
        last: dict[str, Instant] = {}
        for slot in sorted(slots(drawn(kind)), key=lambda slot: slot.start):
            assert slot.start >= last.get(slot.professional, slot.start)
            last[slot.professional] = slot.end


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="village"):
        study("village", 1)


def test_the_date_may_be_chosen() -> None:
    summer = study("city-x1", 0, day=date(2026, 7, 14))
    assert summer.meta.start.iso() == "2026-07-14T00:00:00+02:00"
    assert [r.id for r in requests(summer)] == [r.id for r in requests(drawn("city-x1"))]


@pytest.mark.parametrize("kind", KINDS)
def test_the_study_is_as_hard_as_the_matching_study(kind: str) -> None:
    """One day or two of each here; ``python -m tests.bench.study`` has ten."""
    days = [drawn(kind, seed) for seed in range(1 if kind in ("city-x3", "city-x10", "two") else 2)]
    peer = mean(peer_share(day, hindsight(day).welfare)[0] for day in days)
    assert peer == pytest.approx(STUDY[kind][0], abs=6)


# --- the scenario pack


@pytest.mark.parametrize("kind", KINDS)
def test_a_study_can_be_read_back_and_drawn_again(kind: str) -> None:
    day = drawn(kind)
    assert parse_day(day_lines(day)) == day == study(kind, 0)
    assert drawn(kind, 1) != day


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_story_can_be_read_back_and_drawn_again(scenario: str) -> None:
    day = story(scenario)
    again = simulate(scenario, GAZETTEER.communes_of("69"), 0, territories=GAZETTEER.territories)
    assert parse_day(day_lines(day)) == day == again
    assert story(scenario, seed=1) != day
    assert day.meta.territory == "69"
    assert all(day.meta.start <= event.t < day.meta.end for event in day.events)
    assert all(event.t <= event.slot.start for event in day.slots)
    assert all(event.t <= event.request.deadline <= day.meta.end for event in day.requests)


def count(scenario: str, **where: int) -> float:
    return mean(len(story(scenario, seed=seed).requests) for seed in range(4))


@pytest.mark.parametrize(
    ("scenario", "rate", "supply"), [("S1", 1.55 * 1.15 / 0.98, 0.9), ("S2", 1.6, 0.4), ("S3", 4, 0.7)]
)
def test_demand_and_supply_follow_the_story(scenario: str, rate: float, supply: float) -> None:
    """Against the ordinary Tuesday; days of the epidemic vary by 30 %, so four of them say little more than this."""
    assert count(scenario) / count("S0") == pytest.approx(rate, rel=0.35)
    assert len(story(scenario).slots) / len(story("S0").slots) == pytest.approx(supply, rel=0.01)


def test_levels_bring_more_demand_and_more_faults() -> None:
    levels: tuple[Level, ...] = ("low", "mid", "high")
    days = [[story("S0", seed=seed, level=level) for seed in range(3)] for level in levels]
    demand = [mean(len(day.requests) for day in some) for some in days]
    assert demand[1] / demand[0] == pytest.approx(0.0866 / 0.048, rel=0.3)
    assert demand[2] / demand[1] == pytest.approx(0.15 / 0.0866, rel=0.3)
    for fault in (
        lambda day: sum(slot.refused_after_min is not None for slot in slots(day)),
        lambda day: len(day.withdrawn_at),
        lambda day: len(day.cancelled_at) / len(day.requests),
    ):
        low, mid, high = (mean(fault(day) for day in some) for some in days)
        assert low < mid < high


def test_the_phantoms_are_those_of_the_market() -> None:
    """60 % declared to the SAS with 1.5 %, the rest mirrored with 6 %."""
    ghosts = [slot.refused_after_min is not None for seed in range(4) for slot in slots(story("S0", seed=seed))]
    market = MARKETS["mid"]
    assert mean(ghosts) == pytest.approx(0.6 * market.declared + 0.4 * market.mirrored, rel=0.25)


def test_the_epidemic_calls_back_in_batches_and_wants_teleconsultation() -> None:
    day = story("S3")
    batched = [event for event in day.requests if clock(event.t)[3:] in ("00", "30") and event.t % 60 == 0]
    assert len(batched) / len(day.requests) == pytest.approx(0.6, abs=0.08)
    assert not any(event.request.on_phone for event in batched)
    tele, usual = (mean(r.modes[0] == "tele" for r in requests(story(s))) for s in ("S3", "S0"))
    assert tele > 0.25 > 0.12 > usual


def test_the_flu_is_the_childrens() -> None:
    flu, usual = (
        mean("enfant" in r.needs or "nourrisson" in r.needs for r in requests(story(s))) for s in ("S1", "S0")
    )
    assert flu > usual + 0.05


def test_the_heat_lacks_afternoon_visits_and_asks_for_them() -> None:
    def visits(scenario: str, afternoon: bool) -> int:
        return sum(
            slot.mode == "visite" and (int(clock(slot.start)[:2]) >= 13) == afternoon
            for seed in range(4)
            for slot in slots(story(scenario, seed=seed))
            if slot.start < story(scenario, seed=seed).meta.start + 86400
        )

    assert visits("S4", afternoon=True) / visits("S0", afternoon=True) == pytest.approx(0.5, abs=0.17)
    assert visits("S4", afternoon=False) / visits("S0", afternoon=False) == pytest.approx(1.0, abs=0.3)
    asked, usual = (
        mean("visite" in r.modes for n in range(4) for r in requests(story(s, seed=n))) for s in ("S4", "S0")
    )
    assert asked > 1.4 * usual


def test_the_closed_zone_has_no_slots_and_its_requests_come_after() -> None:
    closed, usual = story("S5"), story("S0")
    hours = ("14", "15", "16")
    centre = max(GAZETTEER.communes_of("69"), key=lambda c: c.population)

    def inside(place: Slot | Request) -> bool:
        return abs(place.lat - centre.lat) < 0.04 and abs(place.lon - centre.lon) < 0.05

    first_day = [slot for slot in slots(closed) if slot.start < closed.meta.start + 86400]
    shut = [slot for slot in first_day if inside(slot) and clock(slot.start)[:2] in hours]
    assert len(shut) > 10
    assert all(clock(closed.withdrawn_at[slot.id]) <= "14:00" for slot in shut)

    def calls(day: DayLog, clocks: tuple[str, ...]) -> float:
        return sum(inside(e.request) and clock(e.t).startswith(clocks) for e in day.requests) / len(day.requests)

    assert calls(closed, hours) < 0.5 * calls(usual, hours)
    assert calls(closed, ("17:0",)) > 3 * calls(usual, ("17:0",))


def test_the_editors_slots_vanish_for_an_hour() -> None:
    day = story("S6")
    cuts = [e for e in day.events if isinstance(e, SlotCapacity) and clock(e.t) == "10:00" and e.capacity == 0]
    back = {e.slot_id for e in day.events if isinstance(e, SlotCapacity) and clock(e.t) == "11:00"}
    late = {slot.id for slot in slots(day) if slot.start >= day.meta.start + 11 * 3600}
    assert 0.08 < len(cuts) / len(day.slots) < 0.25
    assert {e.slot_id for e in cuts} & late == back
    sizes = {slot.id: slot.capacity for slot in slots(day)}
    assert all(day.capacities[slot_id][-1][1] == sizes[slot_id] for slot_id in back)
    stale = [t for t in day.withdrawn_at.values() if clock(t) == "11:00"]
    assert len(stale) > 10 > sum(clock(t) == "11:00" for t in story("S0").withdrawn_at.values())


def test_flu_and_outage_may_come_together() -> None:
    flu, both, outage = story("S1"), story("S1+S6"), story("S6")
    assert both.meta.start == flu.meta.start != outage.meta.start
    assert len(both.slots) == len(flu.slots) < len(outage.slots)
    cuts = [e for e in both.events if isinstance(e, SlotCapacity) and clock(e.t) == "10:00" and e.capacity == 0]
    assert 0.08 < len(cuts) / len(both.slots) < 0.25


@pytest.mark.parametrize("scenario", ["S2", "S3"])
def test_twice_the_demand_is_the_same_story(scenario: str) -> None:
    plain, twice = SCENARIOS[scenario], SCENARIOS[f"{scenario}x2"]
    assert replace(twice, rate=plain.rate, title=plain.title) == plain and twice.rate == 2.0
    assert len(story(f"{scenario}x2").slots) == len(story(scenario).slots)


def test_the_country_is_asked_from_far_and_gathered() -> None:
    country, usual = story("S7", "48"), story("S0", "48")
    assert {r.radius_km for r in requests(country)} == {50.0}
    assert {slot.source for slot in slots(country)} <= {"msp", "cds", "liberal"}
    calls = [mean(len(story(s, "48", seed=n).requests) for n in range(6)) for s in ("S7", "S0")]
    assert calls[0] / calls[1] == pytest.approx(0.78 / 0.31, rel=0.35)
    assert usual.meta.territory == country.meta.territory == "48"


@pytest.mark.parametrize(("territory", "offset"), [("974", "+04:00"), ("971", "-04:00")])
def test_overseas_has_its_own_clock(territory: str, offset: str) -> None:
    day = story("S8", territory)
    assert {event.t.iso()[-6:] for event in day.events} == {offset}
    assert clock(day.meta.start) == "00:00"
    assert all(8 <= int(clock(slot.start)[:2]) < 20 for slot in slots(day))


def test_the_night_of_25_hours() -> None:
    day = story("S9")
    assert day.meta.end - day.meta.start == 49 * 3600
    doubled = [slot.start.iso()[-6:] for slot in slots(day) if slot.start.iso()[:13] == "2026-10-25T02"]
    assert {"+02:00", "+01:00"} == set(doubled)
    assert {event.t.iso()[-6:] for event in day.requests} == {"+02:00", "+01:00"}


def test_the_night_of_23_hours() -> None:
    communes = GAZETTEER.communes_of("69")
    day = simulate("S9", communes, 0, territories=GAZETTEER.territories, day=date(2026, 3, 29))
    assert day.meta.end - day.meta.start == 47 * 3600
    assert not any(slot.start.iso()[:13] == "2026-03-29T02" for slot in slots(day))
    assert any(slot.start.iso()[:13] == "2026-03-29T03" for slot in slots(day))


def test_days_share_their_people() -> None:
    communes = GAZETTEER.communes_of("48")
    names = [{slot.professional for slot in slots(story("S0", "48", seed=seed))} for seed in range(2)]
    other = simulate("S0", communes, 0, territories=GAZETTEER.territories, people=1)
    assert names[0] & names[1]
    sites = {(slot.lat, slot.lon) for slot in slots(story("S0", "48"))}
    assert not sites & {(slot.lat, slot.lon) for slot in slots(other)}


def test_several_territories_are_one_log() -> None:
    communes = [c for code in ("48", "974") for c in GAZETTEER.communes_of(code)]
    day = simulate("S0", communes, 0, territories=GAZETTEER.territories)
    assert day.meta.territory == "FR"
    assert day.meta.timezone == "Indian/Reunion"  # where most of these people live
    assert {slot.start.iso()[-6:] for slot in slots(day)} == {"+01:00", "+04:00"}


@pytest.mark.parametrize(("scenario", "level"), [("S10", "mid"), ("S0", "middle")])
def test_unknown_stories_are_refused(scenario: str, level: Level) -> None:
    with pytest.raises(ValueError, match="S0, S1"):
        simulate(scenario, GAZETTEER.communes_of("48"), 0, level, territories=GAZETTEER.territories)
