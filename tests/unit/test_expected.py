"""What is expected where too few days were recorded: drawn for the day, the same every time, yielding to records."""

import dataclasses
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from adapters.geo import Gazetteer
from sas_matcher.matching.forecast import Forecast, HistoryDay
from sas_matcher.matching.pairs import Codes
from sas_matcher.matching.terms import Terms
from sas_matcher.replay.daylog import DayLog
from sas_matcher.replay.expected import EXPECTED, ExpectedDays, expected_beside, expected_days
from sas_matcher.replay.history import KnownDays, RecordedDays, expected_day, one_landmass
from sas_matcher.replay.simulate import simulate
from sas_matcher.replay.terms import terms_of

GEOGRAPHY = Gazetteer.load()
TUESDAY, SATURDAY, SUNDAY, ARMISTICE = date(2026, 1, 13), date(2026, 1, 17), date(2026, 1, 18), date(2026, 11, 11)
LOZERE = GEOGRAPHY.communes_of("48")


def drawn(territory: str, day: date) -> list[DayLog]:
    return expected_days(GEOGRAPHY.communes_of(territory), day, territories=GEOGRAPHY.territories)


def known(recorded: int, enough: int = EXPECTED) -> ExpectedDays:
    """A territory of which some days were recorded."""
    days = [simulate("S0", LOZERE, n, territories=GEOGRAPHY.territories) for n in range(recorded)]
    tiers = terms_of(days[0].meta)[1] if days else {}
    return ExpectedDays(
        KnownDays(days, tiers), GEOGRAPHY.communes_of, GEOGRAPHY.territories, GEOGRAPHY.landmass_of, enough
    )


def learned(history: ExpectedDays, day: date = TUESDAY) -> list[bool]:
    """Of each day learned from whether it is expected, not recorded."""
    return [each.expected for each in history.learn("48", day, Terms(), Codes())]


def figures(days: Sequence[HistoryDay]) -> list[list[float]]:
    return [[*day.requests.created, *day.requests.lat, *day.slots.start, *day.slots.published] for day in days]


def test_what_is_expected_is_of_the_day_and_the_same_every_time() -> None:
    tuesday, again, saturday = drawn("48", TUESDAY), drawn("48", TUESDAY), drawn("48", SATURDAY)
    assert len(tuesday) == EXPECTED and tuesday == again
    assert len({day.events for day in tuesday}) == EXPECTED, "each of its own"
    ahead = [made.t - day.meta.start for day in saturday for made in day.requests]
    assert ahead and min(ahead) >= 8 * 3600 and max(ahead) < 12 * 3600, "a Saturday ends at noon"
    assert any(made.t - day.meta.start > 14 * 3600 for day in tuesday for made in day.requests)
    assert drawn("48", SUNDAY) == drawn("48", ARMISTICE) == []
    assert drawn("67", date(2026, 12, 26)) == [], "a holiday of Alsace and Moselle only"
    assert drawn("48", date(2026, 12, 26)) != []


def test_no_day_is_expected_that_simulate_draws_of_itself() -> None:
    """Else a measurement of expected days on simulated ones would find the day itself among them."""
    alike = simulate("S0", LOZERE, 0, territories=GEOGRAPHY.territories, day=TUESDAY)
    assert alike.events not in {day.events for day in drawn("48", TUESDAY)}


def test_more_is_expected_where_more_people_live() -> None:
    mean = {code: np.mean([len(day.requests) for day in drawn(code, TUESDAY)]) for code in ("48", "69")}
    people = {code: GEOGRAPHY.territories[code].population for code in mean}
    assert mean["69"] / mean["48"] == pytest.approx(people["69"] / people["48"], rel=0.4)


def test_nothing_is_expected_before_it_was_drawn_and_nothing_of_yesterday() -> None:
    history = known(0)
    assert learned(history) == []
    assert history.expect("48", TUESDAY)
    assert learned(history) == [True] * EXPECTED
    assert history.expect("48", TUESDAY) and learned(history, SATURDAY) == []
    assert not history.expect("48", SUNDAY) and learned(history, SUNDAY) == []
    assert not history.expect("99", TUESDAY), "no such territory"


@pytest.mark.parametrize(("recorded", "expected"), [(1, EXPECTED - 1), (EXPECTED, 0), (EXPECTED + 1, 0)])
def test_recorded_days_come_first_and_with_enough_of_them_nothing_is_drawn(recorded: int, expected: int) -> None:
    history = known(recorded)
    assert history.count("48", TUESDAY) == recorded
    assert history.expect("48", TUESDAY) == (expected > 0)
    assert learned(history) == [False] * recorded + [True] * expected


def test_the_files_that_were_recorded_are_counted_not_read(tmp_path: Path) -> None:
    (tmp_path / "48").mkdir()
    (tmp_path / "48" / "2026-01-12.jsonl").write_text("{broken\n")
    where = (GEOGRAPHY.communes_of, GEOGRAPHY.territories, one_landmass)
    history = ExpectedDays(RecordedDays(tmp_path, one_landmass), *where)
    assert history.count("48", TUESDAY) == 1
    assert history.expect("48", TUESDAY)
    # the damaged day is left out, and said in the log; it is not replaced by an invented one
    assert learned(history) == [True] * (EXPECTED - 1)


def test_the_level_of_what_is_expected_follows_who_calls() -> None:
    """At noon of a day with a tenth of the model's calls far less is expected than was drawn; with ten times, more."""
    days = [expected_day(day, Terms(), Codes()) for day in drawn("69", TUESDAY)]
    forecast, noon = Forecast(days[1:], Terms(), 0), 12 * 3600.0
    morning = np.sort(days[0].requests.created[days[0].requests.created <= noon])
    levels = {}
    for share, calls in ((0.1, morning[::10]), (1.0, morning), (10.0, np.repeat(morning, 10))):
        forecast.hear(calls)
        levels[share] = float(np.mean(forecast.levels(noon)[0]))
    assert levels[0.1] < 0.2 and 0.7 < levels[1.0] < 1.4 and levels[10.0] > 4


def test_a_replay_expects_what_the_live_service_does() -> None:
    """The days that a recorded batch says its desk learned from are drawn again for a day log of the same date."""
    day = simulate("S0", LOZERE, 3, territories=GEOGRAPHY.territories, day=TUESDAY)
    history = known(2)
    assert history.expect("48", TUESDAY)
    live = [each for each in history.learn("48", TUESDAY, Terms(), Codes()) if each.expected]
    again = KnownDays([], {}, expected_beside(day, 2)).learn("48", TUESDAY, Terms(), Codes())
    assert figures(again) == figures(live)
    invented = dataclasses.replace(day, meta=dataclasses.replace(day.meta, territory="etude-city-0"))
    assert expected_beside(invented, 2) == []
