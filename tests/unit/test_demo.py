"""The demonstration's plan, board and screen; the whole of it runs in tests/e2e/test_demo.py."""

import io
import itertools
import json
import shutil
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from rich.console import Console

from adapters.geo import Gazetteer
from sas_matcher.cli import host
from sas_matcher.cli.french import FailureError
from sas_matcher.client import Request
from sas_matcher.demo.board import Board
from sas_matcher.demo.plan import (
    FEWEST_GPS,
    SCENE_S,
    SOONEST,
    Day,
    more_places,
    ordinary_speed,
    places_of,
    scenes,
    schedule,
    world_of,
)
from sas_matcher.demo.screen import Screen
from sas_matcher.demo.world import World
from tests.unit.test_cli import NONE
from tests.unit.test_client import REQUEST

PARIS = ZoneInfo("Europe/Paris")
MONDAY = date(2026, 11, 23)


@cache
def world(*codes: str) -> World:
    gazetteer = Gazetteer.load()
    communes = [commune for code in codes for commune in gazetteer.communes_of(code)]
    return world_of("demo-test", communes, gazetteer.territories)


def local(hour: int, minute: int = 0, day: date = MONDAY) -> datetime:
    return datetime(day.year, day.month, day.day, hour, minute, tzinfo=PARIS)


# -- what is opened ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hour", [7, 8, 12, 17])
def test_in_sas_hours_the_days_are_ordinary(hour: int) -> None:
    plan = schedule(local(hour), 2)
    assert plan.note is None
    assert [(day.day, day.hours) for day in plan.days] == [(MONDAY, None), (MONDAY + timedelta(days=1), None)]


@pytest.mark.parametrize(
    "when",
    [
        local(3),
        local(6, 59),
        local(18),
        local(23, 59),
        local(12, 0, date(2026, 11, 22)),
        local(11, 0, date(2026, 11, 21)),
    ],
    ids=["night", "early", "late", "midnight", "Sunday", "end of Saturday"],
)
def test_outside_them_there_are_places_within_the_hour_and_it_is_said(when: datetime) -> None:
    plan = schedule(when, 1)
    assert (
        plan.note is not None
        and f"{when.hour} h {when.minute:02d}" in plan.note
        and "hors des heures du SAS" in plan.note
    )
    slots = [slot for day in plan.days for slot in places_of(world("48"), "demo-48", day, when.astimezone(UTC))]
    starts = [datetime.fromisoformat(slot["start"]) for slot in slots]
    assert any(start < when + timedelta(hours=1) for start in starts)
    assert len(slots) > 50


def test_more_days_follow_the_two_of_a_night() -> None:
    days = schedule(local(23), 4).days
    assert [day.day - MONDAY for day in days] == [timedelta(days=n) for n in range(4)]
    assert [day.hours for day in days] == [(0, 24), (0, 24), None, None]


def test_the_same_day_is_drawn_the_same_and_only_what_is_to_come() -> None:
    """A second start finds its places again instead of doubling them."""
    day, now = Day(MONDAY, None, ""), local(10).astimezone(UTC)
    first, later = (
        places_of(world("48"), "demo-48", day, now),
        places_of(world("48"), "demo-48", day, now + timedelta(hours=2)),
    )
    assert {json.dumps(slot) for slot in later} < {json.dumps(slot) for slot in first}
    assert min(datetime.fromisoformat(slot["start"]) for slot in first) > now + SOONEST


def test_ids_of_different_draws_never_meet() -> None:
    now, rng = local(10).astimezone(UTC), np.random.default_rng(1)
    ordinary, clock_round = Day(MONDAY, None, ""), Day(MONDAY, (0, 24), "-24h")
    draws = [places_of(world("48"), "demo-48", day, now) for day in (ordinary, clock_round)]
    draws += [more_places(world("48"), ordinary, now, "101500", n, rng, 20) for n in (1, 2)]
    draws.append(more_places(world("48"), ordinary, now, "101501", 1, rng, 20))
    assert all(draws)
    counts = Counter(slot["external_id"] for slots in draws for slot in slots)
    assert set(counts.values()) == {1}


def test_more_places_are_few_and_to_come() -> None:
    now, rng = local(18, 30).astimezone(UTC), np.random.default_rng(1)
    slots = more_places(world("48"), Day(MONDAY, None, ""), now, "r", 1, rng, 3)
    assert len(slots) == 3
    assert all(datetime.fromisoformat(slot["start"]) > now for slot in slots)
    assert more_places(world("48"), Day(MONDAY, None, ""), local(20).astimezone(UTC), "r", 1, rng, 3) == []
    assert more_places(world("48"), Day(MONDAY - timedelta(days=1), None, ""), now, "r", 1, rng, 3) == []


def test_a_small_departement_has_enough_practitioners_to_show() -> None:
    assert sum(p.profession == "MG" for p in world("48").professionals) > 0.6 * FEWEST_GPS


# -- how fast ----------------------------------------------------------------------------------------------------


def test_at_the_ordinary_speed_scenes_follow_one_another_as_promised() -> None:
    drawn = list(itertools.islice(scenes(world("69"), MONDAY, "Europe/Paris", np.random.default_rng(2)), 600))
    gaps = np.array([scene.after_s for scene in drawn])
    assert (gaps >= 0).all()
    assert np.mean(gaps) / ordinary_speed(world("69"), MONDAY) == pytest.approx(SCENE_S, rel=0.25)


def test_days_follow_one_another_without_a_night() -> None:
    drawn = list(itertools.islice(scenes(world("48"), MONDAY, "Europe/Paris", np.random.default_rng(2)), 60))
    assert max(scene.after_s for scene in drawn) < 12 * 3600
    assert {8 <= scene.virtual.astimezone(PARIS).hour < 20 for scene in drawn} == {True}


def test_all_of_france_asks_by_one_clock() -> None:
    """Else a demonstration of France would show La Réunion only for three quarters of an hour."""
    drawn = list(itertools.islice(scenes(world("48", "974"), MONDAY, "Europe/Paris", np.random.default_rng(2)), 80))
    assert {8 <= scene.virtual.astimezone(PARIS).hour < 20 for scene in drawn} == {True}


def test_a_sunday_plays_the_next_working_day() -> None:
    scene = next(scenes(world("48"), date(2026, 11, 22), "Europe/Paris", np.random.default_rng(2)))
    assert scene.virtual.astimezone(PARIS).date() == MONDAY


# -- board and screen --------------------------------------------------------------------------------------------


def board_with_a_day() -> Board:
    board = Board(now=lambda: local(10, 5))
    board.live.update({"MG": 40, "DENT": 2})
    board.states.update({"firm": 7, "waiting": 1, "held": 2})
    board.answers_ms.extend([10.0, 20.0, 30.0, 400.0])
    board.decided(Request.of(REQUEST), "T1 MG Mende")
    board.decided(Request.of(NONE), "T1 MG Florac")
    board.say("confirmée", "T1 MG Mende")
    return board


def test_percentiles_are_nearest_ranks() -> None:
    board = Board(now=lambda: local(10))
    assert board.percentile_ms(0.5) is None
    board.answers_ms.extend(float(n) for n in range(1, 101))
    assert [board.percentile_ms(share) for share in (0.0, 0.5, 0.95, 0.99, 1.0)] == [1.0, 50.0, 95.0, 99.0, 100.0]


def test_decisions_are_counted_told_and_kept_apart_from_the_rest() -> None:
    heard: list[str] = []
    board = Board(now=lambda: local(10), heard=lambda line: heard.append(line.plain()))
    board.decided(Request.of(REQUEST), "T1 MG Mende")
    board.decided(Request.of(NONE), "T1 MG Florac")
    board.decided(Request.of({**NONE, "decision": None}), "T1 MG Chirac")
    assert board.done == {"places gardées": 1, "sans place": 1, "sans réponse": 1}
    assert heard[0] == (
        "10:00:00  place        T1 MG Mende : 14 h 00, la plus proche. Dr Olive Fictif-Houx, Cabinet fictif Houx, Mende"
    )
    assert "aucun créneau joignable avant l'échéance" in heard[1]
    assert (len(board.decisions), len(board.lines)) == (2, 1)


@pytest.mark.parametrize(("width", "height"), [(80, 24), (100, 30), (160, 50)])
@pytest.mark.parametrize("note", [None, "Il est 3 h 00 un lundi."])
def test_the_screen_fits_and_says_what_matters(width: int, height: int, note: str | None) -> None:
    console = Console(file=io.StringIO(), width=width, height=height, record=True, force_terminal=True)
    console.print(Screen(board_with_a_day(), "SAS Lozère (48)", note, ["curl http://127.0.0.1:8069", "deux", "trois"]))
    lines = console.export_text().rstrip("\n").split("\n")
    assert len(lines) <= height
    text = "\n".join(lines)
    for expected in (
        "SAS Lozère (48)",
        "42 places libres",
        "7 confirmées",
        "p95  400 ms",
        "T1 MG Florac",
        "Pas de place pour l'instant",
        "curl http://127.0.0.1:8069",
        "Ctrl-C arrête tout",
        note or "",
    ):
        assert expected in text


# -- the folder --------------------------------------------------------------------------------------------------


def test_a_folder_belongs_to_one_demonstration_at_a_time(tmp_path: Path) -> None:
    with host._folder(tmp_path / "demo", fresh=False), pytest.raises(FailureError, match="tourne déjà"):
        host._folder(tmp_path / "demo", fresh=False).__enter__()
    with host._folder(tmp_path / "demo", fresh=False) as state:
        assert state == {}


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "postgres" / "data").mkdir(parents=True)
    with pytest.raises(FailureError, match="contient autre chose qu'une démonstration"):
        host._folder(tmp_path, fresh=True).__enter__()
    assert (tmp_path / "postgres" / "data").is_dir()


def test_fresh_forgets_and_keep_finds_again(tmp_path: Path) -> None:
    (tmp_path / "postgres" / "data").mkdir(parents=True)
    (tmp_path / "demo.json").write_text('{"keys": {"regulator": "k"}}')
    with host._folder(tmp_path, fresh=False) as state:
        assert state == {"keys": {"regulator": "k"}}
    with host._folder(tmp_path, fresh=True) as state:
        assert state == {}
    assert not (tmp_path / "postgres").exists()


def test_a_damaged_note_is_a_first_start(tmp_path: Path) -> None:
    (tmp_path / "postgres" / "data").mkdir(parents=True)
    (tmp_path / "demo.json").write_text("{oops")
    with host._folder(tmp_path, fresh=False) as state:
        assert state == {}


def test_a_full_disk_is_told_before_anything_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": 12_000_000})
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage)
    with pytest.raises(FailureError, match=r"il reste 12 Mo .* il en faut 400 .*--data"):
        host._folder(tmp_path, fresh=False).__enter__()
