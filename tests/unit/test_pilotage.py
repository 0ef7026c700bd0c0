"""What the pages of Pilotage draw and foretell, without a browser."""

from typing import Any

import pytest

from sas_matcher.console import words
from sas_matcher.console.charts import columns, reach, round_up
from sas_matcher.domain.policy import DEFAULT_SETTING
from sas_matcher.services.crisis.effects import NAMES, effects

PLAN: dict[str, Any] = {
    "tension": {"settings": {"radius_pct": 125}, "call": {"text": "Merci d'ouvrir", "hours": 4}},
    "crise": {"settings": {"radius_pct": 150, "policy": {"T3": "crisis"}}, "borrow": True, "text": "Point à 14 h"},
}


def standing(level: str = "normal", plan: Any = PLAN, **changes: Any) -> dict[str, Any]:
    return {"level": level, "plan": plan and {"plan": plan}, "applied": {}, "before": {}, **changes}


def test_a_level_is_foretold_setting_by_setting() -> None:
    found = effects(DEFAULT_SETTING, [], standing(), "tension")
    assert [(e.label, e.now, e.then) for e in found.changes] == [(NAMES["radius_pct"], "100", "125")]
    assert found.call == ("Merci d'ouvrir", 4) and found.planned and not found.problem


def test_what_a_plan_may_not_do_is_said_before_anybody_confirms() -> None:
    found = effects(DEFAULT_SETTING, [], standing("tension"), "crise")
    assert "autorisation" in found.problem and not found.changes
    allowed = effects({**DEFAULT_SETTING, "crisis_allowed": True}, [], standing("tension"), "crise")
    assert not allowed.problem and allowed.borrows and allowed.text == "Point à 14 h"
    assert {e.name for e in allowed.changes} == {"radius_pct", "policy.T3", "crisis"}
    # in a drill nobody's promise is at stake
    assert not effects(DEFAULT_SETTING, [], standing("tension"), "crise", drill=True).problem


def test_coming_back_says_what_comes_back_and_what_stays() -> None:
    was = standing(
        "tension",
        applied={"radius_pct": 125, "urgent_reserve_pct": 20},
        before={"radius_pct": 100, "urgent_reserve_pct": 0},
    )
    # somebody has changed the share that is kept meanwhile: it stays
    found = effects({**DEFAULT_SETTING, "radius_pct": 125, "urgent_reserve_pct": 35}, [], was, "normal")
    assert [(e.name, e.then) for e in found.changes] == [("radius_pct", "100")]
    assert found.kept == (NAMES["urgent_reserve_pct"],) and found.call is None
    bare = effects(DEFAULT_SETTING, [], standing(plan=None), "tension")
    assert not bare.planned and bare.changes == ()


def test_columns_stack_to_their_counts() -> None:
    rows = [{"label": "a", "met": 30, "unmet": 10}, {"label": "b", "met": 0, "unmet": 0}]
    found = columns(rows, ("met", "unmet"))
    assert found.top == 50 and found.ticks == ["a", "b"]
    met, unmet = found.columns[0].parts
    assert (met.top, met.height, unmet.top, unmet.height) == (40, 60, 20, 20)
    assert found.columns[1].parts == ()
    assert columns([], ("met",)).columns == ()


@pytest.mark.parametrize(("value", "top"), [(0.5, 1), (1, 1), (3, 5), (50, 50), (51, 100), (1_001, 2_000)])
def test_scales_can_be_read(value: float, top: int) -> None:
    assert round_up(value) == top


def test_delays_are_drawn_on_what_is_allowed() -> None:
    assert reach("T0", None, None) is None
    assert reach("T1", 60, 120) == (25, 50)
    assert reach("T0", 30, 600) == (50, 100)


def test_numbers_are_written_as_the_french_do() -> None:
    assert [words.number(n) for n in (None, 0, 7, 12.5, 0.25, 1234)] == ["–", "0", "7", "12,5", "0,25", "1\u202f234"]
    assert words.number(90, "%") == "90\u00a0%"
