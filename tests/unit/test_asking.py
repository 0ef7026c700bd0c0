"""Whom to ask when no place fits, in which wave, and when: the pure decisions."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from sas_matcher.domain.vocabulary import Tier
from sas_matcher.matching.asking import Move, Person, Step, chance_of_yes, choose_wave, may_be_asked, next_move
from sas_matcher.matching.candidates import OpenRequest
from sas_matcher.matching.terms import Terms

NOW = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)  # a Monday, 9 h in Paris
PARIS = ZoneInfo("Europe/Paris")
ASK = Step(name="Cabinets proches", ask=True, waves=2, at_once=3)
MMG = Step(name="MMG", ask=False, what="mmg", wait=timedelta(minutes=10))
END = Step(name="Réorienter", ask=False, what="reorient")


def request(**changes: Any) -> OpenRequest:
    """Return a request in Lyon that reaches 10 km."""
    known: dict[str, Any] = {
        **{"id": "r", "key": 1, "territory": "69", "lat": 45.75, "lon": 4.85, "landmass": 0, "profession": "MG"},
        **{"specialty": None, "modes": ("cabinet",), "tier": Tier.T1, "created_at": NOW.timestamp()},
        **{"deadline": NOW.timestamp() + 4 * 3600, "radius_km": 10.0, "needs": (), "mt": None, "version": 1},
    }
    return OpenRequest(**{**known, **changes})


def person(number: int, *, km: float = 2.0, **changes: Any) -> Person:
    """Return a doctor so many kilometres north, who may be asked on weekdays from 8 to 20 h."""
    known = Person(
        id=number,
        professional=f"{number}",
        lat=45.75 + km / 111.195,
        lon=4.85,
        landmass=0,
        modes=("cabinet",),
        cpts=None,
        zone=PARIS,
        from_minute=480,
        to_minute=1200,
        days=(1, 2, 3, 4, 5),
        most_a_day=3,
    )
    return replace(known, **changes)


def wave(*persons: Person, step: Step = ASK, now: datetime = NOW, **changes: Any) -> list[int]:
    """Return whom the step asks, in order."""
    return [a.person.id for a in choose_wave(step, request(**changes), persons, now, Terms())[0]]


def move(
    *persons: Person, at: tuple[int, int] = (0, 0), ladder: tuple[Step, ...] = (ASK, MMG, END), insee: str = "69383"
) -> Move | None:
    """Return the next move."""
    return next_move(ladder, request(), insee, persons, at, NOW, Terms())


def test_the_chance_starts_at_the_prior_and_learns() -> None:
    assert chance_of_yes(person(1)) == pytest.approx(13 / 29)
    assert chance_of_yes(person(1, answered=29)) == pytest.approx(13 / 58)
    assert chance_of_yes(person(1, answered=29, yes=29)) == pytest.approx(42 / 58)
    # less for each question that they already got today
    assert chance_of_yes(person(1, today=2)) == pytest.approx(0.95**2 * 13 / 29)
    # in the end it is what they do
    assert chance_of_yes(person(1, answered=10_000, yes=1_000)) == pytest.approx(0.1, abs=0.002)


def test_who_says_yes_more_often_comes_first_and_of_equals_the_nearer() -> None:
    near, far = person(1, km=2), person(2, km=8)
    assert wave(far, near) == [1, 2]
    assert wave(replace(far, answered=20, yes=15), near) == [2, 1]
    assert wave(replace(near, answered=20, yes=1), far) == [2, 1]


def test_the_medecin_traitant_comes_before_who_is_as_near() -> None:
    assert wave(person(1), person(2), mt="2") == [2, 1]


def test_no_more_than_at_once_and_fewer_when_a_yes_is_likely_enough() -> None:
    people = [person(n) for n in range(1, 9)]
    assert wave(*people) == [1, 2, 3]
    # 1 - (16/29)^2 = .70, ^3 = .83
    assert wave(*people, step=replace(ASK, at_once=8, sure=0.7)) == [1, 2, 3]
    assert wave(*people, step=replace(ASK, at_once=8, sure=0.69)) == [1, 2]
    assert choose_wave(ASK, request(), people, NOW, Terms())[1] == 8


@pytest.mark.parametrize(
    ("utc", "asked"),
    [
        ("2026-11-23T06:59:59", False),
        ("2026-11-23T07:00:00", True),
        ("2026-11-23T18:59:59", True),
        ("2026-11-23T19:00:00", False),
        ("2026-11-28T10:00:00", False),  # a Saturday
        ("2026-07-20T06:00:00", True),  # summer time: 8 h in Paris
    ],
)
def test_quiet_hours_are_local(utc: str, asked: bool) -> None:
    assert may_be_asked(person(1), datetime.fromisoformat(utc).replace(tzinfo=UTC)) == asked


def test_quiet_hours_of_overseas_are_theirs() -> None:
    there = person(1, zone=ZoneInfo("Indian/Reunion"))
    assert may_be_asked(there, datetime(2026, 11, 23, 4, tzinfo=UTC))
    assert not may_be_asked(there, datetime(2026, 11, 23, 16, tzinfo=UTC))


def test_the_cap_of_the_day_holds() -> None:
    assert may_be_asked(person(1, today=2), NOW)
    assert not may_be_asked(person(1, today=3), NOW)


@pytest.mark.parametrize(
    ("changes", "step"),
    [
        ({"km": 11}, ASK),
        ({"km": 6}, replace(ASK, radius_km=5.0)),
        ({"landmass": 1}, ASK),
        ({"modes": ("tele",)}, ASK),
        ({"cpts": "690000002"}, replace(ASK, cpts=("690000001",))),
        ({}, replace(ASK, cpts=("690000001",))),
    ],
    ids=["too far", "outside the step", "sea", "mode", "other community", "no community"],
)
def test_who_is_not_asked(changes: dict[str, Any], step: Step) -> None:
    assert wave(person(1, **changes), step=step) == []


def test_a_step_may_reach_further_than_the_request_and_video_knows_no_distance() -> None:
    assert wave(person(1, km=30), step=replace(ASK, radius_km=40.0)) == [1]
    assert wave(person(1, km=300, modes=("tele",), landmass=3), modes=("cabinet", "tele")) == [1]
    assert wave(person(1, cpts="690000001"), step=replace(ASK, cpts=("690000001",))) == [1]


def test_wave_after_wave_then_the_next_rung_until_the_end() -> None:
    first = move(person(1), person(2))
    assert first is not None and (first.step, first.wave, first.of) == (0, 1, 2)
    assert first.next_at == NOW + ASK.wait
    second = move(person(3), at=(0, 1))
    assert second is not None and (second.step, second.wave) == (0, 2)
    told = move(person(4), at=(0, 2))
    assert told is not None and (told.step, told.asked, told.next_at) == (1, (), NOW + MMG.wait)
    last = move(person(4), at=(1, 1))
    assert last is not None and (last.step, last.next_at) == (2, None)
    assert move(person(4), at=(2, 1)) is None


def test_a_rung_without_anybody_is_passed_at_once_and_said() -> None:
    told = move()
    assert told is not None and (told.step, told.passed) == (1, ("Cabinets proches",))
    # who was asked already on it is no reason to say so
    told = move(at=(0, 1))
    assert told is not None and (told.step, told.passed) == (1, ())
    assert move(ladder=(ASK,)) is None


def test_a_rung_of_a_community_is_for_its_communes() -> None:
    ladder = (replace(ASK, communes=("69001",)), END)
    there, elsewhere = move(person(1), ladder=ladder, insee="69001"), move(person(1), ladder=ladder)
    assert there is not None and there.step == 0
    assert elsewhere is not None and (elsewhere.step, elsewhere.passed) == (1, ())


def test_after_the_last_wave_of_the_last_rung_there_is_no_next_one() -> None:
    only = move(person(1), ladder=(replace(ASK, waves=1),))
    assert only is not None and only.next_at is None


def test_a_rung_of_the_medecin_traitant_asks_nobody_else_and_has_its_own_time() -> None:
    first = Step(name="Médecin traitant", ask=True, only_mt=True, wait=timedelta(minutes=2))
    mine, other = person(1, km=25), person(2)
    asked = next_move((first, ASK), request(mt="1"), "69383", (mine, other), (0, 0), NOW, Terms())
    assert asked is not None and [a.person.id for a in asked.asked] == [1]
    assert asked.next_at == NOW + timedelta(minutes=2)
    # then the others; and at once where there is none, or where they may not be asked
    for mt, persons in ((None, (mine, other)), ("1", (replace(mine, today=3), other))):
        asked = next_move((first, ASK), request(mt=mt), "69383", persons, (0, 0), NOW, Terms())
        assert asked is not None and (asked.step, [a.person.id for a in asked.asked]) == (1, [2])
        assert asked.passed == ("Médecin traitant",)
