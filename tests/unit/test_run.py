"""The replay: a day of the log acts on the live matcher and the ledger's twin, and its result is lawful."""

import itertools
from dataclasses import replace
from typing import Any

import orjson
import pytest

from sas_matcher import __version__
from sas_matcher.domain.errors import InvalidInputError
from sas_matcher.domain.vocabulary import Tier
from sas_matcher.replay.daylog import DayLog, Event, Instant, RequestCancelled, RequestCreated
from sas_matcher.replay.daylog_file import DayLogError, day_lines, parse_day
from sas_matcher.replay.hindsight import hindsight
from sas_matcher.replay.lawful import POLICIES as NAMED
from sas_matcher.replay.lawful import possible_reasons
from sas_matcher.replay.run import POLICIES, CrisisError, PolicyMissingError, replay_day
from sas_matcher.replay.score import score
from sas_matcher.replay.study import study
from sas_matcher.replay.terms import terms_of
from tests.daylog_cases import (
    META,
    at,
    cancelled,
    capacity,
    created,
    day_of,
    published,
    sample_day,
    sample_rows,
    withdrawn,
)
from tests.fcfs_nearest import fcfs_nearest

Json = dict[str, Any]


def rows(day: DayLog, policy: str = "firm") -> dict[str, Json]:
    """Replay a day; returns the lines of its result by request."""
    lines, _ = replay_day(day, policy)
    return {row["request_id"]: row for row in map(orjson.loads, lines)}


def _until(day: DayLog, hour: int) -> DayLog:
    """Return a day without the calls from an hour of its first date on."""
    late = {r.request.id for r in day.requests if float(r.t) >= float(day.meta.start) + 3600 * hour}

    def kept(event: Event) -> bool:
        if isinstance(event, RequestCreated):
            return event.request.id not in late
        return not isinstance(event, RequestCancelled) or event.request_id not in late

    return replace(day, events=tuple(filter(kept, day.events)))


def places(day: DayLog) -> dict[str, str | None]:
    """Which slot each request got under ``firm``."""
    return {name: row["slot_id"] for name, row in rows(day).items()}


# -- whole days --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", POLICIES)
def test_the_sample_is_replayed_lawfully_and_byte_for_byte_again(policy: str) -> None:
    day = sample_day()
    lines, summary = replay_day(day, policy, seed=3)
    judged = score(day, lines, policy, strict_reasons=True)
    assert judged.violations == ()
    assert 0.5 * hindsight(day).welfare < judged.welfare <= hindsight(day).welfare
    again, figures = replay_day(day, policy, seed=3)
    assert again == lines
    measured = ("wall_s", "decision_ms")
    assert {k: v for k, v in figures.items() if k not in measured} == {
        k: v for k, v in summary.items() if k not in measured
    }


@pytest.mark.parametrize("policy", POLICIES)
def test_a_day_of_the_study_is_replayed_lawfully(policy: str) -> None:
    """With phantoms, withdrawals and cancellations; those who call before eleven."""
    day = _until(study("noise", 3), 11)
    lines, _ = replay_day(day, policy)
    judged = score(day, lines, policy, strict_reasons=True)
    assert judged.violations == ()
    assert judged.refusals > 0 and judged.welfare < hindsight(day).welfare


@pytest.mark.parametrize("policy", ["promise", "crisis", "auto"])
def test_a_promise_of_a_place_that_begins_after_the_file_ends_is_told(policy: str) -> None:
    """Recorded days end at midnight, the places that they know do not."""
    day = day_of(
        published(at("07:00"), "tomorrow", "2026-01-13T10:00:00+01:00"),
        created(at("20:00"), "r", "2026-01-14T20:00:00+01:00", tier="T3"),
        end="2026-01-13T00:00:00+01:00",
    )
    (row,) = rows(day, policy).values()
    assert (row["status"], row["slot_id"], row["firm_at"][:10]) == ("served", "tomorrow", "2026-01-13")
    assert row["first_promised_at"] == at("20:00")


def _is_lost_to_its_practice(day: DayLog, policy: str) -> None:
    lines, _ = replay_day(day, policy)
    assert orjson.loads(lines[0])["status"] == "unserved"
    judged = score(day, lines, policy)
    assert (judged.violations, judged.broken_promises) == ((), 0)
    assert judged.figures()["lost_to_practices"] == 1


@pytest.mark.parametrize("policy", ["promise", "crisis", "auto"])
def test_a_promise_is_not_told_late_on_a_place_that_its_practice_took_back(policy: str) -> None:
    day = day_of(
        published(at("08:00"), "s", at("08:36")),
        created(at("08:00"), "r", at("09:00"), tier="T0"),
        capacity(at("08:01"), "s", 0),
    )
    _is_lost_to_its_practice(day, policy)


@pytest.mark.parametrize("policy", ["promise", "crisis", "auto"])
def test_a_seat_that_its_practice_gives_back_too_late_is_not_told(policy: str) -> None:
    """Less than the notice before it begins nobody can be called back; the word was broken by the practice."""
    day = day_of(
        published(at("08:00"), "s", at("09:30")),
        created(at("08:00"), "r", at("12:00"), tier="T1"),
        capacity(at("08:10"), "s", 0),
        capacity(at("09:10"), "s", 1),
    )
    _is_lost_to_its_practice(day, policy)


@pytest.mark.parametrize("policy", ["promise", "crisis", "auto"])
def test_a_seat_that_comes_back_in_time_is_the_promised_one_again(policy: str) -> None:
    day = day_of(
        published(at("08:00"), "s", at("09:30")),
        created(at("08:00"), "r", at("12:00"), tier="T1"),
        capacity(at("08:10"), "s", 0),
        capacity(at("08:40"), "s", 1),
    )
    (row,) = rows(day, policy).values()
    assert (row["status"], row["slot_id"], row["moves"], row["broken_promises"]) == ("served", "s", 0, 0)
    assert row["first_promised_at"] == at("08:00") < at("08:58") < row["firm_at"] < at("09:00")


@pytest.mark.parametrize("policy", POLICIES)
def test_of_two_who_call_at_one_instant_the_order_of_their_lines_chooses_nobody(policy: str) -> None:
    place = published(at("08:00"), "s", at("11:00"))
    calls = [created(at("09:00"), name, at("12:00"), tier="T1") for name in ("one", "two")]
    result = rows(day_of(place, *calls), policy)
    assert result == rows(day_of(place, *reversed(calls)), policy)
    assert sorted(row["status"] for row in result.values()) == ["served", "unserved"]


def test_the_summary_is_the_scorers_with_what_the_stopwatch_says() -> None:
    day = sample_day()
    ticks = itertools.count()
    lines, summary = replay_day(day, "firm", seed=7, stopwatch=lambda: float(next(ticks)))
    figures = score(day, lines, "firm").figures()
    for name in ("welfare", "served", "mean_travel_min", "mean_wait_min", "told_within_2_min", "moves"):
        assert summary[name] == figures[name]
    assert (summary["policy"], summary["seed"], summary["version"]) == ("firm", 7, __version__)
    assert summary["requests"] == score(day, lines, "firm").requests
    # every decision was between two looks at the stopwatch
    assert summary["decision_ms"] == {"p50": 1000.0, "p95": 1000.0, "max": 1000.0}
    assert summary["wall_s"] == next(ticks) - 1


def test_progress_counts_every_event() -> None:
    told: list[int] = []
    day = sample_day()
    replay_day(day, "firm", advance=told.append)
    assert sum(told) == len(day.events)


def test_a_policy_that_the_service_lacks_is_refused() -> None:
    assert set(POLICIES) == NAMED
    with pytest.raises(PolicyMissingError, match="« best »"):
        replay_day(sample_day(), "best")


# -- the peers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["city-x1", "flash", "rural", "two", "noise"])
def test_the_human_peer_is_the_one_of_the_tests_line_for_line(kind: str) -> None:
    """An independent implementation: places, instants, refusals; with phantoms, withdrawals and cancellations."""
    day = study(kind, 72)
    result = rows(day, "fcfs-nearest")
    told = ("status", "slot_id", "firm_at", "refusals")
    for row in fcfs_nearest(day):
        assert [result[row["request_id"]][name] for name in told] == [row[name] for name in told]


def test_the_human_peer_decides_the_sample_as_the_format_shows() -> None:
    told = ("status", "slot_id", "firm_at", "refusals")
    result = rows(sample_day(), "fcfs-nearest")
    for row in sample_rows("fcfs-nearest"):
        assert [result[row["request_id"]][name] for name in told] == [row[name] for name in told]


def test_official_has_no_waiting_list_but_searches_again_for_who_was_sent_back() -> None:
    day = day_of(
        created(at("08:00"), "early", at("12:00")),
        published(at("08:30"), "ghost", at("10:00"), phantom={"refused_after_min": 5}),
        published(at("08:30"), "gone", at("10:30"), lat=44.51),
        created(at("09:00"), "r", at("12:00")),
        withdrawn(at("09:10"), "gone"),
        published(at("09:20"), "late", at("11:00")),
        created(at("09:30"), "next", at("12:00")),
    )
    result = rows(day, "official")
    assert (result["early"]["status"], result["early"]["reason"]) == ("unserved", "ALL_TAKEN")
    # refused at 09:05, given the next, which is withdrawn when nothing else is there
    assert (result["r"]["status"], result["r"]["refusals"]) == ("unserved", 1)
    assert (result["next"]["slot_id"], result["next"]["firm_at"]) == ("late", at("09:30"))
    waiting = rows(day, "fcfs-nearest")
    assert (waiting["early"]["slot_id"], waiting["r"]["slot_id"], waiting["next"]["slot_id"]) == ("late", None, None)


def test_official_reads_the_circle_of_its_territory_first() -> None:
    """48 has 50 km, 69 has 5: beyond it, order is drawn by the seed."""
    slots = [published(at("07:00"), f"s{n}", at("10:00"), professional=f"p{n}", lat=44.6 + n / 100) for n in range(9)]
    asked = created(at("08:00"), "r", at("12:00"), radius_km=40)
    assert rows(day_of(*slots, asked), "official")["r"]["slot_id"] == "s0"

    def drawn(seed: int) -> Any:
        lines, _ = replay_day(day_of(*slots, asked, territory="69"), "official", seed=seed)
        return orjson.loads(lines[0])["slot_id"]

    assert len({drawn(seed) for seed in range(6)}) > 1
    assert drawn(3) == drawn(3)


def test_a_crisis_is_refused_where_the_policy_knows_none() -> None:
    with pytest.raises(CrisisError, match="« firm »"):
        replay_day(sample_day(), "firm", crisis_from=sample_day().meta.start)


def test_a_crisis_changes_what_comes_after_it_and_nothing_before() -> None:
    day = study("noise", 3)
    calm = rows(_until(day, 12), "auto")  # who calls later was told nothing before noon
    noon = Instant(float(day.meta.start) + 12 * 3600, day.meta.start.offset_s)
    lines, figures = replay_day(day, "auto", crisis_from=noon)
    after = {row["request_id"]: row for row in map(orjson.loads, lines)}
    assert figures["broken_promises"] > 0
    early = {
        name: (before["slot_id"], before["firm_at"])
        for name, before in calm.items()
        if before["firm_at"] and before["firm_at"] < noon.iso()
        if not before["refusals"] and before["status"] != "cancelled"
    }
    assert len(early) > 50
    assert {name: (after[name]["slot_id"], after[name]["firm_at"]) for name in early} == early


# -- one thing at a time -----------------------------------------------------------------------------------------


def test_the_cheapest_place_is_firm_at_once() -> None:
    day = day_of(
        published(at("07:00"), "far", at("10:00"), lat=44.6),
        published(at("07:00"), "near", at("10:00")),
        created(at("08:00"), "r", at("12:00")),
    )
    row = rows(day)["r"]
    assert (row["status"], row["slot_id"], row["firm_at"], row["reason"]) == ("served", "near", at("08:00"), None)


def test_who_finds_no_place_waits_and_gets_one_that_is_published_later() -> None:
    day = day_of(created(at("08:00"), "r", at("12:00")), published(at("09:30:07"), "s", at("11:00")))
    assert rows(day)["r"]["firm_at"] == at("09:30:07")


def test_the_events_of_one_instant_are_one_batch() -> None:
    """The urgent one gets the place that both want, though it came second."""
    day = day_of(
        published(at("07:00"), "s", at("08:50")),
        created(at("08:00"), "r1", at("12:00"), tier="T3"),
        created(at("08:00"), "r2", at("09:00"), tier="T0"),
    )
    assert places(day) == {"r1": None, "r2": "s"}


def test_a_cancelled_request_gives_its_place_to_who_waits() -> None:
    day = day_of(
        published(at("07:00"), "s", at("11:00")),
        created(at("08:00"), "r1", at("12:00")),
        created(at("08:10"), "r2", at("12:00")),
        cancelled(at("09:00"), "r1"),
    )
    result = rows(day)
    assert (result["r1"]["status"], result["r1"]["slot_id"], result["r1"]["reason"]) == ("cancelled", None, None)
    assert (result["r2"]["slot_id"], result["r2"]["firm_at"]) == ("s", at("09:00"))


def test_a_request_cancelled_after_its_deadline_counts_as_cancelled() -> None:
    day = day_of(created(at("08:00"), "r", at("09:00")), cancelled(at("10:00"), "r"))
    assert rows(day)["r"]["status"] == "cancelled"


def test_a_request_cancelled_in_its_own_instant_takes_no_place() -> None:
    day = day_of(
        published(at("07:00"), "s", at("11:00")),
        created(at("08:00"), "r1", at("12:00"), tier="T0"),
        cancelled(at("08:00"), "r1"),
        created(at("08:00"), "r2", at("12:00")),
    )
    assert places(day) == {"r1": None, "r2": "s"}


def test_a_phantom_is_refused_later_and_what_is_left_of_it_vanishes() -> None:
    phantom = published(at("07:00"), "ghost", at("10:00"), capacity=2, phantom={"refused_after_min": 5})
    day = day_of(
        phantom,
        published(at("07:00"), "real", at("11:00"), lat=44.55),
        created(at("08:00"), "r1", at("12:00")),
        created(at("08:06"), "r2", at("12:00")),
    )
    result = rows(day)
    assert (result["r1"]["slot_id"], result["r1"]["firm_at"], result["r1"]["refusals"]) == ("real", at("08:05"), 1)
    assert (result["r2"]["slot_id"], result["r2"]["refusals"]) == (None, 0)


def test_the_engine_does_not_see_what_makes_a_phantom() -> None:
    """Until the first refusal, all is decided as if the slots were real."""
    day = study("noise", 5)
    ghosts = [event for event in day.slots if event.slot.refused_after_min is not None]
    assert ghosts
    shown = parse_day(_without_phantoms(day))
    first = min(float(event.t) + 60 * (event.slot.refused_after_min or 0) for event in ghosts)
    real, seen = rows(shown), rows(day)
    early = [made.request.id for made in day.requests if made.t < first and made.request.id not in day.cancelled_at]
    assert early
    assert [seen[name] for name in early if seen[name]["refusals"] == 0] == [
        real[name] for name in early if seen[name]["refusals"] == 0
    ]


def _without_phantoms(day: DayLog) -> list[bytes]:
    lines = [orjson.loads(line) for line in day_lines(day)]
    for line in lines:
        line.get("slot", {}).pop("phantom", None)
    return [orjson.dumps(line) for line in lines]


def test_a_phantom_whose_patient_cancelled_first_is_not_refused() -> None:
    day = day_of(
        published(at("07:00"), "ghost", at("10:00"), phantom={"refused_after_min": 30}),
        created(at("08:00"), "r1", at("12:00")),
        cancelled(at("08:10"), "r1"),
    )
    assert rows(day)["r1"]["refusals"] == 0


def test_a_refusal_after_the_last_event_still_comes() -> None:
    day = day_of(
        published(at("07:00"), "ghost", at("10:00"), phantom={"refused_after_min": 5}),
        published(at("07:00"), "real", at("11:00"), lat=44.55),
        created(at("08:00"), "r1", at("12:00")),
    )
    assert rows(day)["r1"]["slot_id"] == "real"


def test_a_withdrawn_slot_loses_its_bookings_and_does_not_come_back() -> None:
    day = day_of(
        published(at("07:00"), "gone", at("10:00")),
        published(at("07:00"), "other", at("11:00"), lat=44.55),
        created(at("08:00"), "r", at("12:00")),
        withdrawn(at("08:30"), "gone"),
        created(at("08:31"), "late", at("12:00")),
        capacity(at("08:40"), "gone", 3),
    )
    result = rows(day)
    assert (result["r"]["slot_id"], result["r"]["firm_at"], result["r"]["refusals"]) == ("other", at("08:30"), 0)
    assert result["late"]["slot_id"] is None


def test_a_lowered_capacity_breaks_nothing_and_a_raised_one_helps() -> None:
    day = day_of(
        published(at("07:00"), "s", at("11:00"), capacity=3),
        created(at("08:00"), "r1", at("12:00")),
        created(at("08:01"), "r2", at("12:00")),
        capacity(at("08:02"), "s", 0),
        created(at("08:03"), "r3", at("12:00")),
        capacity(at("09:00"), "s", 3),
    )
    result = rows(day)
    assert [result[name]["firm_at"] for name in ("r1", "r2", "r3")] == [at("08:00"), at("08:01"), at("09:00")]


def test_each_slot_stands_for_itself_also_where_two_of_one_professional_overlap() -> None:
    day = day_of(
        published(at("07:00"), "a", at("10:00"), at("10:30")),
        published(at("07:00"), "b", at("10:15"), at("10:45")),
        created(at("08:00"), "r1", at("12:00")),
        created(at("08:01"), "r2", at("12:00")),
    )
    assert set(places(day).values()) == {"a", "b"}


def test_the_medecin_traitant_is_known_by_the_days_own_names() -> None:
    day = day_of(
        published(at("07:00"), "a", at("10:00"), professional="dr-a"),
        published(at("07:00"), "b", at("10:00"), professional="dr-b", lat=44.51),
        created(at("08:00"), "r", at("12:00"), mt="dr-b"),
        mt_bonus_min=10,
    )
    assert places(day) == {"r": "b"}


def test_costs_and_travel_are_those_of_the_days_first_line() -> None:
    events = (
        published(at("07:00"), "soon", at("08:30"), lat=44.58),
        published(at("07:00"), "near", at("10:00")),
        created(at("08:00"), "r", at("12:00")),
    )
    assert places(day_of(*events)) == {"r": "near"}
    waiting_hurts = [tier | {"wait_weight": 5} for tier in META["tiers"]]
    assert places(day_of(*events, tiers=waiting_hurts)) == {"r": "soon"}
    slow = {"base_min": 30.0, "min_per_km": 1.95}
    assert places(day_of(*events, tiers=waiting_hurts, travel=slow)) == {"r": "near"}


def test_professions_needs_and_offers_are_any_words_and_any_number_of_them() -> None:
    wanted = [f"besoin n° {n}" for n in range(200)]
    day = day_of(
        *(published(at("07:00"), f"s{n}", at("10:00"), profession="ostéo", offers=[w]) for n, w in enumerate(wanted)),
        *(created(at("08:00"), f"r{n}", at("12:00"), profession="ostéo", needs=[w]) for n, w in enumerate(wanted)),
        created(at("08:00"), "none", at("12:00"), profession="magnétiseur"),
    )
    result = rows(day)
    assert [result[f"r{n}"]["slot_id"] for n in range(200)] == [f"s{n}" for n in range(200)]
    assert result["none"]["reason"] == "NO_SLOT_FOR_PROFESSION"


def test_instants_are_told_in_local_time_on_the_day_the_clocks_change() -> None:
    night = {"start": "2026-03-28T12:00:00+01:00", "end": "2026-03-30T00:00:00+02:00"}
    day = day_of(
        published("2026-03-28T12:00:00+01:00", "s", "2026-03-29T09:00:00+02:00"),
        created("2026-03-29T03:10:00+02:00", "r", "2026-03-29T12:00:00+02:00"),
        **night,
    )
    assert rows(day)["r"]["firm_at"] == "2026-03-29T03:10:00+02:00"


# -- tiers and reasons -------------------------------------------------------------------------------------------


def test_tiers_of_other_names_are_taken_by_urgency() -> None:
    tiers = [
        {"tier": "calm", "max_delay_min": 1440, "value": 5000, "wait_weight": 0.05},
        {"tier": "red", "max_delay_min": 60, "value": 40000, "wait_weight": 1.0},
    ]
    day = day_of(
        published(at("07:00"), "s", at("08:50")),
        created(at("08:00"), "r1", at("09:00"), tier="calm"),
        created(at("08:00"), "r2", at("09:00"), tier="red"),
        tiers=tiers,
    )
    terms, names = terms_of(day.meta)
    assert names == {"red": Tier.T0, "calm": Tier.T1}
    assert (terms.tiers[Tier.T0].value, terms.tiers[Tier.T1].wait_weight) == (40000, 0.05)
    assert places(day) == {"r1": None, "r2": "s"}


def test_more_tiers_than_the_service_has_are_refused() -> None:
    tiers = [{"tier": f"n{n}", "max_delay_min": n + 1, "value": 10, "wait_weight": 1.0} for n in range(5)]
    with pytest.raises(InvalidInputError, match="5 niveaux"):
        replay_day(day_of(tiers=tiers), "firm")
    with pytest.raises(DayLogError):
        day_of(created(at("08:00"), "r", at("09:00"), tier="unknown"))


def _asked(**changes: Any) -> Json:
    return created(at("08:00"), "r", at("12:00"), **changes)


@pytest.mark.parametrize(
    ("reason", "request_line", "slot"),
    [
        ("NO_SLOT_FOR_PROFESSION", _asked(profession="PED"), {}),
        ("NO_SLOT_FOR_PROFESSION", _asked(), {"t": at("13:00"), "start": at("14:00")}),
        ("MODE_NOT_OFFERED", _asked(modes=["visite"]), {}),
        ("NEED_NOT_OFFERED", _asked(needs=["enfant", "pmr"]), {}),
        ("NO_SLOT_IN_RADIUS", _asked(lat=45.0), {}),
        ("NO_SLOT_BEFORE_DEADLINE", _asked(), {"start": at("12:01")}),
        ("NO_SLOT_BEFORE_DEADLINE", _asked(lat=44.6), {"start": at("08:05")}),
        ("ALL_TAKEN", _asked(), {"capacity_cut": True}),
    ],
)
def test_the_reason_is_the_first_that_is_true(reason: str, request_line: Json, slot: Json) -> None:
    cut = slot.pop("capacity_cut", False) if (slot := dict(slot)) else False
    start = slot.pop("start", at("10:00"))
    shown = published(slot.pop("t", at("07:00")), "s", start)
    events = [shown, request_line, *([capacity(at("07:00"), "s", 0)] if cut else [])]
    day = day_of(*sorted(events, key=lambda event: event["t"]))
    row = rows(day)["r"]
    assert (row["status"], row["reason"]) == ("unserved", reason)
    assert reason in possible_reasons(day, day.requests[0])


@pytest.mark.parametrize("policy", POLICIES)
def test_a_place_that_begins_in_the_instant_of_the_call_keeps_nobody_from_the_next(policy: str) -> None:
    day = day_of(
        *(published(at("07:00"), f"now{n}", at("08:00"), mode="tele") for n in range(3)),
        published(at("07:00"), "soon", at("08:01"), mode="tele"),
        created(at("08:00"), "r", at("09:00"), modes=["tele"], tier="T0"),
    )
    assert rows(day, policy)["r"]["slot_id"] == "soon"
