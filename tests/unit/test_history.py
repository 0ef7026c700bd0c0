"""Earlier days of a territory: the newest are learned from, never the one being written, never a broken one."""

import json
import shutil
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from sas_matcher.domain.vocabulary import Tier
from sas_matcher.matching.pairs import Codes
from sas_matcher.matching.terms import Terms
from sas_matcher.replay.daylog_file import read_day
from sas_matcher.replay.history import LEARNED, KnownDays, RecordedDays, history_day, one_landmass
from sas_matcher.replay.terms import terms_of
from tests.daylog_cases import at, created, day_of, published

SAMPLE = Path(__file__).parents[1] / "data" / "daylog" / "day.jsonl"


TODAY = date(2026, 1, 20)


@pytest.fixture
def days(tmp_path: Path) -> RecordedDays:
    (tmp_path / "69").mkdir()
    for number in range(1, 21):
        shutil.copy(SAMPLE, tmp_path / "69" / f"2026-01-{number:02}.jsonl")
    (tmp_path / "69" / "2026-01-19.batches.jsonl").write_text("{}\n")
    return RecordedDays(tmp_path, one_landmass)


def test_a_territory_without_recorded_days_has_no_history(days: RecordedDays) -> None:
    assert days.count("69", TODAY) == LEARNED and days.count("01", TODAY) == 0


def test_the_newest_full_days_are_learned_from(days: RecordedDays, tmp_path: Path) -> None:
    assert len(days.learn("69", TODAY, Terms(), Codes())) == LEARNED
    for path in (tmp_path / "69").glob("2026-01-[01]*.jsonl"):
        path.unlink()
    # what is left is today's, still being written
    assert not days.count("69", TODAY) and days.learn("69", TODAY, Terms(), Codes()) == []


def test_a_day_that_cannot_be_read_is_left_out(days: RecordedDays, tmp_path: Path) -> None:
    for path in (tmp_path / "69").glob("2026-01-0*.jsonl"):
        path.unlink()
    (tmp_path / "69" / "2026-01-12.jsonl").write_text("{broken\n")
    # a day of another engine, with more tiers than the service has
    meta, *rest = SAMPLE.read_text().splitlines()
    document = json.loads(meta)
    document["tiers"] = [{**document["tiers"][0], "tier": f"X{number}"} for number in range(len(Tier) + 1)]
    (tmp_path / "69" / "2026-01-13.jsonl").write_text("\n".join([json.dumps(document), *rest]) + "\n")
    assert len(days.learn("69", TODAY, Terms(), Codes())) == 8


def test_a_recorded_day_knows_specialties() -> None:
    codes = Codes()
    word = "specialty:SM26"
    day = day_of(
        published(at("07:00"), "s", at("10:00"), offers=["pmr", word]),
        published(at("07:00"), "plain", at("10:00"), offers=["pmr"]),
        created(at("08:00"), "r", at("12:00"), needs=["pmr", word]),
        created(at("08:00"), "other", at("12:00"), needs=["pmr"]),
    )
    learned = history_day(day, terms_of(day.meta)[1], Terms(), codes)
    # the desk's own number for it
    wanted = [codes.name("specialty SM26"), -1]
    assert learned.requests.specialty.tolist() == learned.slots.specialty.tolist() == wanted
    assert len(set(learned.requests.need.tolist())) == len(set(learned.slots.offer.tolist())) == 1


def test_a_day_is_learned_from_its_own_midnight_in_the_numbers_of_today() -> None:
    day, codes = read_day(SAMPLE), Codes()
    assert codes.name("KINE") == 0
    learned = history_day(day, terms_of(day.meta)[1], Terms(), codes)
    kept = [made.request for made in day.requests if made.request.id not in day.cancelled_at]
    assert (learned.requests.profession == 0).sum() == sum(request.profession == "KINE" for request in kept)
    real = [s.slot for s in day.slots if s.slot.refused_after_min is None and s.slot.id not in day.withdrawn_at]
    assert 0 < len(learned.requests) == len(kept) < len(day.requests), "who cancelled took no place"
    assert 0 < len(learned.slots) == len(real) < len(list(day.slots)), "phantoms and what was withdrawn gave none"
    assert 0 <= learned.requests.created.min() < learned.requests.created.max() <= 2 * 86_400
    later = replace(day, events=day.events[: len(day.events) // 2])
    assert KnownDays([day, later], terms_of(day.meta)[1]).count("69", TODAY)


def test_a_day_is_not_over_before_it_is_over_there(days: RecordedDays) -> None:
    """The file of a day is being written until midnight of the territory, wherever the clock of the machine stands."""
    assert len(days.learn("69", date(2026, 1, 3), Terms(), Codes())) == 2


def test_an_island_is_learned_apart_as_its_places_are_numbered() -> None:
    day = read_day(SAMPLE)
    learned = history_day(day, terms_of(day.meta)[1], Terms(), Codes(), lambda lats, lons: np.full(len(lats), 7))
    assert set(learned.requests.landmass) == set(learned.slots.landmass) == {7}
