"""The surges of the load test, its figures, verdict and page."""

import random
from statistics import fmean
from typing import Any

import pytest

from loadtests.report import judge, kinds, markdown, page, percentile, tiers, urgent
from loadtests.scenarios import BATCHES, SCENARIOS, ZONE_SPAN, Surge, draw_mood, within

TEN_MIN = 600.0


def surge(name: str, **changes: Any) -> Surge:
    return Surge(SCENARIOS[name], **({"territories": 101, "times": 20.0, "seconds": TEN_MIN} | changes))


def test_an_ordinary_peak_hour_is_that_of_the_fact_sheet() -> None:
    """0.21 requests a second in all of France."""
    assert surge("S0", times=1.0).base == pytest.approx(0.21, abs=0.005)
    assert surge("S3").base == pytest.approx(4 * surge("S0").base)


@pytest.mark.parametrize("name", SCENARIOS)
def test_as_many_call_as_expected_and_nobody_after_the_end(name: str) -> None:
    of = surge(name)
    calls = [call for desk in range(8) for call in of.calls(random.Random(desk), 1 / 8, zone=desk == 0)]
    # those of the last round of call-backs fall behind the end
    assert len(calls) == pytest.approx(of.expected, rel=0.12)
    assert 0 <= min(calls) <= max(calls) < TEN_MIN
    assert of.calls(random.Random(1), 0.1, zone=False) == of.calls(random.Random(1), 0.1, zone=False)


def test_places_are_as_scarce_as_the_story_says() -> None:
    ratio = {name: surge(name).places / surge(name).expected for name in SCENARIOS}
    assert ratio["S2"] == pytest.approx(ratio["S0"] * 0.4 / 1.6, rel=0.01)
    assert ratio["S3"] == pytest.approx(ratio["S0"] * 0.7 / 4, rel=0.01)
    # nobody who opens places knows how many will call today
    assert surge("S1", mood=2.0).places == surge("S1").places


def test_covid_calls_come_in_rounds_and_in_a_burst() -> None:
    calls = surge("S3").calls(random.Random(1), 1.0, zone=False)
    step = TEN_MIN / BATCHES
    soon = [call for call in calls if call % step < 5]
    assert len(soon) > 0.5 * len(calls)
    assert surge("S3").rate(330) == pytest.approx(3 * surge("S3").rate(100))


def test_calls_of_the_closed_zone_are_deferred_and_come_together() -> None:
    begin, end = (share * TEN_MIN for share in ZONE_SPAN)
    here, elsewhere = (surge("S5").calls(random.Random(1), 0.5, zone=zone) for zone in (True, False))

    def between(calls: list[float], since: float, until: float) -> int:
        return sum(since <= call < until for call in calls)

    assert between(here, begin, end) < 0.35 * between(elsewhere, begin, end)
    assert between(here, end, end + 30) > 5 * between(elsewhere, end, end + 30)
    assert within(ZONE_SPAN, 300, TEN_MIN)
    assert not within(ZONE_SPAN, 500, TEN_MIN)


def test_the_mood_of_a_day_has_mean_one() -> None:
    moods = [draw_mood(SCENARIOS["S1"], random.Random(seed)) for seed in range(400)]
    assert fmean(moods) == pytest.approx(1.0, abs=0.05)
    assert min(moods) < 0.6 < 1.5 < max(moods)


# -- the report ------------------------------------------------------------------------------------------------------


def run(**changes: Any) -> dict[str, Any]:
    name = "demande → décision poussée"
    return {
        "scenario": "S1", "title": "lundi de grippe", "seconds": 60.0, "times": 20.0, "seed": 1, "policy": "auto",
        "territories": ["69"], "mood": 1.0, "rate": 2.0, "places": 9, "faults": [], "gaps": 0, "breaks": 0,
        "events": 40, "heard": {"request.held": 3}, "repeated": 0, "refused": 0,
        "counts": {"slots": 8, "bookings": 3, "confirmed": 2, "promised": 1}, "phase": {},
        "requests": {
            "a": {"tier": "T0", "status": "firm", "served": True},
            "b": {"tier": "T1", "status": "waiting", "served": False},
            "c": {"tier": "T2", "status": "cancelled", "served": False},
        },
        "samples": [[1.0, name, 10.0, True], [2.0, name, 30.0, True], [3.0, "POST /v1/slots", 5.0, True]],
        "states": [[1.0, 0, 1], [2.0, 1, 2]],
    } | changes  # fmt: skip


def hindsight(*names: str) -> dict[str, Any]:
    return {"69/2026-01-12.jsonl": {"welfare": 1.0, "served": {}, "slot_of": {name: "s" for name in names}}}


def test_a_run_passes_when_nothing_stands_against_it() -> None:
    assert judge(run(), urgent(run(), hindsight("a", "c")), {"seat": 0}).good


@pytest.mark.parametrize(
    ("changes", "ledger", "possible", "said"),
    [
        ({"faults": ["slot 1: 2 bookings at once on 1 seats"]}, {}, "a", "slot 1"),
        ({"samples": [[1.0, "POST /v1/slots", 5.0, False]]}, {}, "a", "POST /v1/slots: 1 failure(s) of 1"),
        ({}, {"seat": 2}, "a", "ledger: 2"),
        ({}, {}, "ab", "urgent: 1 of 2"),
        ({"requests": {}}, {}, "", "nobody asked"),
    ],
)
def test_what_stands_against_a_run(changes: dict[str, Any], ledger: dict[str, int], possible: str, said: str) -> None:
    seen = run(**changes)
    (fault,) = judge(seen, urgent(seen, hindsight(*possible)), ledger).faults
    assert said in fault


def test_hindsight_counts_only_urgent_people_and_only_where_its_bar_was_set() -> None:
    compared = urgent(run(), hindsight("a", "b", "c", "never asked here"))
    assert compared == (2, 1)
    assert judge(run(scenario="S0"), compared, {}).good
    assert urgent(run(), None) is None


def test_figures() -> None:
    assert percentile([], 0.5) == 0.0
    assert percentile(list(range(100)), 0.99) == 99
    assert [(k.name, k.times, k.failures, k.ms[0]) for k in kinds(run())] == [
        ("POST /v1/slots", 1, 0, 5.0),
        ("demande → décision poussée", 2, 0, 30.0),
    ]
    assert tiers(run()) == {"T0": (1, 1), "T1": (1, 0)}


def test_the_page_says_it_all_and_loads_nothing() -> None:
    wrong = run(faults=["<b>slot 1</b>"])
    verdict = judge(wrong, None, {"seat": 0})
    text = page(wrong, verdict, urgent(wrong, hindsight("a", "b")), {"seat": 0}, {"machine": "2 cœurs"})
    assert text.count("<svg") == 4
    assert "Échoué" in text
    assert "<b>" not in text
    assert "http" not in text
    for said in ("50.0 %", "demande → décision poussée", "lundi de grippe", "2 cœurs", "registre, « seat »"):
        assert said in text
    assert "FAUTE : <b>slot 1</b>" in markdown(wrong, verdict, None, {})
    good = judge(run(), None, {})
    assert "Réussi" in page(run(), good, None, {}, {})
    assert "aucune promesse rompue" in markdown(run(), good, None, {})
