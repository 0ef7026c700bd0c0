"""Levels of crisis: what a plan wants, how settings go there and come back, and when detection proposes."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sas_matcher.domain.alert import FALL_S, RISE_S, Figures, Suggestion, Watched, detect, pooled
from sas_matcher.domain.crisis import RANK, Level, check_step, flat, highest, nested, shift, wanted_at
from sas_matcher.domain.errors import CrisisNotAllowedError, OneStepError
from sas_matcher.domain.policy import DEFAULT_SETTING

LADDER = [{"kind": "ask", "name": "CPTS voisine"}]
PLAN: dict[str, Any] = {
    "tension": {"settings": {"radius_pct": 125, "urgent_reserve_pct": 20}},
    "crise": {
        "settings": {"radius_pct": 150, "policy": {"T2": "auto", "T3": "auto"}, "borrow_km": 60.0},
        "borrow": True,
        "ladder": LADDER,
    },
}
NORMAL = flat({**DEFAULT_SETTING}, [])


class World:
    """Settings of a territory that goes from level to level."""

    def __init__(self, plan: dict[str, Any] | None = None) -> None:
        self.now = dict(NORMAL)
        self.level: str = "normal"
        self.applied: dict[str, Any] = {}
        self.before: dict[str, Any] = {}
        self.plan = PLAN if plan is None else plan

    def go(self, level: str, *, leave: bool = True) -> tuple[str, ...]:
        wanted = wanted_at(level, self.plan, {"01": 20}, leave=leave)
        done = shift(self.now, self.applied, self.before, wanted, rising=RANK[level] > RANK[self.level])
        self.now |= done.changes
        self.applied, self.before, self.level = done.applied, done.before, level
        return done.kept


def test_a_level_sets_what_its_plan_says_and_normal_restores_exactly() -> None:
    world = World()
    world.go("tension")
    assert world.now == {**NORMAL, "radius_pct": 125, "urgent_reserve_pct": 20}
    world.go("crise")
    assert world.now == {
        **NORMAL,
        "radius_pct": 150,
        # what only tension sets does not outlive it
        "urgent_reserve_pct": 0,
        "policy.T2": "auto",
        "policy.T3": "auto",
        "borrow": {"01": 20},
        "borrow_km": 60.0,
        "ladder": LADDER,
        "crisis": True,
    }
    world.go("tension")
    assert world.now == {**NORMAL, "radius_pct": 125, "urgent_reserve_pct": 20}
    world.go("normal")
    assert (world.now, world.applied, world.before) == (NORMAL, {}, {})


def test_what_a_person_changed_meanwhile_is_left_as_it_is() -> None:
    world = World()
    world.go("crise")
    world.now["radius_pct"] = 200
    world.now["hold_seconds"] = 60
    assert world.go("tension") == ("radius_pct",)
    assert world.go("normal") == ()
    assert world.now == {**NORMAL, "radius_pct": 200, "hold_seconds": 60}


def test_going_up_again_what_a_person_changed_is_what_comes_back() -> None:
    world = World()
    world.go("tension")
    world.now["radius_pct"] = 110
    world.go("crise")
    assert world.now["radius_pct"] == 150
    for level in ("tension", "normal"):
        world.go(level)
    assert world.now == {**NORMAL, "radius_pct": 110}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(list(Level)), max_size=12), st.data())
def test_however_levels_go_up_and_down_everything_comes_back(levels: list[Level], data: st.DataObject) -> None:
    numbers = st.fixed_dictionaries(
        {}, optional={"radius_pct": st.integers(100, 300), "hold_seconds": st.integers(15, 60)}
    )
    plan = {name: {"settings": data.draw(numbers)} for name in ("tension", "crise")}
    world = World(plan)
    for level in (*levels, "crise", "tension", "normal"):
        assert world.go(level) == ()
    assert world.now == NORMAL


def test_no_promise_is_broken_without_leave_and_a_crisis() -> None:
    breaking = {
        "crise": {"settings": {"policy": {"T3": "crisis"}}},
        "tension": {"settings": {"policy": {"T3": "crisis"}}},
    }
    with pytest.raises(CrisisNotAllowedError):
        wanted_at("crise", breaking, {}, leave=False)
    # nor in a tension, leave or not
    with pytest.raises(CrisisNotAllowedError):
        wanted_at("tension", breaking, {}, leave=True)
    assert wanted_at("crise", breaking, {}, leave=True) == {"policy.T3": "crisis", "crisis": True}
    # without leave, `auto` stays what it is: promises are kept
    assert "crisis" not in wanted_at("crise", PLAN, {}, leave=False)
    assert wanted_at("crise", None, {"01": 10}, leave=False) == {}


def test_coming_down_is_step_by_step() -> None:
    with pytest.raises(OneStepError):
        check_step("crise", "normal")
    for was, wanted in (("crise", "tension"), ("tension", "normal"), ("normal", "crise"), ("normal", "tension")):
        check_step(was, wanted)


def test_changes_are_told_apart_as_the_ledger_takes_them() -> None:
    assert nested({"policy.T2": "auto", "radius_pct": 150, "ladder": LADDER}) == (
        {"policy": {"T2": "auto"}, "radius_pct": 150},
        LADDER,
    )
    assert nested({}) == ({}, None)
    assert (highest([]), highest(["tension", "crise", "normal"])) == ("normal", "crise")


# -- detection ---------------------------------------------------------------------------------------------------------

CALM = Figures(arrivals=10, forecast=10.0, oldest_share=0.0, closed=40, unmet=1)


def _held(figures: Figures, standing: str, seconds: float) -> Suggestion | None:
    """Let the same figures stand for so long, a look a minute."""
    watched, wanted = None, None
    for now in range(0, int(seconds) + 1, 60):
        watched, wanted = detect(figures, watched, standing, float(now))
    return wanted


@pytest.mark.parametrize(
    ("figures", "level"),
    [
        (CALM, None),
        (CALM._replace(arrivals=30), "crise"),
        (CALM._replace(forecast=100.0, arrivals=170), "tension"),
        # a small territory: twice two calls is no crisis
        (CALM._replace(forecast=2.0, arrivals=4), None),
        # nothing known of earlier weeks: the other signs speak
        (CALM._replace(forecast=None, arrivals=400), None),
        (CALM._replace(oldest_share=0.3), "tension"),
        (CALM._replace(oldest_share=0.6), "crise"),
        (CALM._replace(unmet=5), "tension"),
        (CALM._replace(unmet=12), "crise"),
        # a share of three says nothing
        (CALM._replace(closed=3, unmet=3), None),
    ],
)
def test_each_sign_proposes_once_it_has_held(figures: Figures, level: str | None) -> None:
    assert _held(figures, "normal", RISE_S - 60) is None
    wanted = _held(figures, "normal", RISE_S)
    assert (None if wanted is None else wanted.level) == level
    if wanted is not None:
        assert len(wanted.reasons) == 1


def test_signs_end_lower_than_they_begin_and_coming_down_takes_longer() -> None:
    between = CALM._replace(forecast=100.0, arrivals=120)
    assert _held(between, "normal", 10 * FALL_S) is None
    assert _held(between, "tension", 10 * FALL_S) is None
    calm = CALM._replace(forecast=100.0, arrivals=105)
    assert _held(calm, "tension", FALL_S - 60) is None
    wanted = _held(calm, "tension", FALL_S)
    assert wanted is not None and wanted.level == "normal"
    # from crise one step, however calm it is
    wanted = _held(calm, "crise", FALL_S)
    assert wanted is not None and wanted.level == "tension"


def test_a_sign_that_pauses_begins_anew_and_one_that_grows_does_not() -> None:
    strong, weak = CALM._replace(oldest_share=0.6), CALM._replace(oldest_share=0.3)
    watched, _ = detect(weak, None, "normal", 0.0)
    assert watched == Watched("tension", 0.0)
    watched, _ = detect(strong, watched, "normal", 300.0)
    assert watched == Watched("crise", 0.0)
    watched, _ = detect(CALM, watched, "normal", 400.0)
    assert watched is None
    assert detect(strong, watched, "normal", RISE_S)[1] is None


def test_a_region_has_what_its_territories_have_together() -> None:
    busy, calm, unknown = Figures(26, 20.0, 0.6, 8, 2), Figures(16, 10.0, 0.0, 4, 0), Figures(3, None, 0.0, 0, 0)
    whole = pooled([busy, calm, calm])
    assert whole == Figures(58, 40.0, 0.0, 16, 2, 3)
    assert pooled([busy, unknown]).forecast is None
    # alone none of them has calls enough to be sure, together they have; of one old request nothing follows for all
    assert all(_held(one, "normal", RISE_S) is None for one in (busy._replace(oldest_share=0.0, unmet=0), calm))
    many = pooled([calm] * 12)
    wanted = _held(many, "normal", RISE_S)
    assert wanted is not None and wanted.level == "tension" and "192 demandes" in wanted.reasons[0]
    assert pooled([busy, busy, calm]).oldest_share == 0.6
    wanted = _held(pooled([busy._replace(forecast=None, unmet=0)] * 2), "normal", RISE_S)
    assert wanted is not None and wanted.reasons[0].startswith("dans la moitié des départements")
