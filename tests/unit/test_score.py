"""The scorer agrees with the format's sample, and refuses it once any rule is broken in it."""

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from sas_matcher.replay.lawful import POLICIES, REASONS, Row, possible_reasons
from sas_matcher.replay.score import Score, ScoreError, score
from tests.daylog_cases import (
    SAMPLE,
    SCORES,
    Json,
    at,
    cancelled,
    capacity,
    created,
    day_of,
    lines_of,
    published,
    row,
    sample_day,
    sample_rows,
    served,
    withdrawn,
)
from tests.fcfs_nearest import fcfs_nearest

Rows = list[Json]


def judge(rows: Rows, policy: str, **options: Any) -> Score:
    return score(sample_day(), lines_of(rows), policy, **options)


@pytest.mark.parametrize("policy", SCORES["results"])
def test_the_sample_is_lawful_and_scores_as_the_format_says(policy: str) -> None:
    found = score(sample_day(), (SAMPLE / f"result-{policy}.jsonl").read_bytes().splitlines(), policy)
    assert found.violations == ()
    found.require_legal()
    assert found.requests == SCORES["requests"]
    assert found.figures() == SCORES["results"][policy]


def test_the_peer_of_the_tests_is_that_of_the_sample() -> None:
    assert fcfs_nearest(sample_day()) == sample_rows("fcfs-nearest")


# --- mutations of the sample: each breaks one rule and must be refused under that rule


def of(rows: Rows, name: str) -> Json:
    return next(r for r in rows if r["request_id"] == name)


def first(rows: Rows, **wanted: Any) -> Json:
    """The first row with these values; ``...`` stands for anything but null."""
    return next(r for r in rows if all((r[k] is not None) if v is ... else r[k] == v for k, v in wanted.items()))


def setting(name: str, **values: Any) -> Callable[[Rows], None]:
    return lambda rows: of(rows, name).update(values)


def first_setting(wanted: Json, **values: Any) -> Callable[[Rows], None]:
    return lambda rows: first(rows, **wanted).update(values)


def swap(rows: Rows) -> None:
    rows[3], rows[4] = rows[4], rows[3]


def unserve(name: str) -> Callable[[Rows], None]:
    return setting(name, status="unserved", slot_id=None, firm_at=None, reason="ALL_TAKEN")


def second_on_one_place(rows: Rows) -> None:
    """r00257 and r00259 both fit s00278, which has one place."""
    of(rows, "r00257").update(slot_id="s00278", firm_at="2026-02-02T13:35:00+01:00")


SERVED, UNSERVED, CANCELLED = {"status": "served"}, {"status": "unserved"}, {"status": "cancelled"}
DAY, NEXT = "2026-02-02T{}+01:00", "2026-02-03T{}+01:00"


def _take(rows: Rows, what: str) -> None:
    """Give some unserved or served request a slot that is wrong in exactly this way."""
    day = sample_day()
    tests: dict[str, Callable[[Any, Any], bool]] = {
        "profession": lambda m, s: s.profession == m.request.profession,
        "mode": lambda m, s: s.mode in m.request.modes,
        "need": lambda m, s: set(m.request.needs) <= set(s.offers),
        "past": lambda m, s: s.start >= m.t,
        "late": lambda m, s: s.start <= m.request.deadline,
        "far": lambda m, s: s.mode == "tele" or _km(m.request, s) <= m.request.radius_km,
        "phantom": lambda m, s: s.refused_after_min is None,
    }
    for made in day.requests:
        for slot in (event.slot for event in day.slots):
            if made.request.id not in day.cancelled_at and [k for k, ok in tests.items() if not ok(made, slot)] == [
                what
            ]:
                firm = (made.t if what in ("late", "phantom") else min(made.t, slot.start)).iso()
                of(rows, made.request.id).update(served(made.request.id, slot.id, firm))
                return
    raise LookupError(what)


def _km(request: Any, slot: Any) -> float:
    """Flat-earth distance: good to some metres here, and not the scorer's own."""
    import math

    north = (slot.lat - request.lat) * 111.195
    east = (slot.lon - request.lon) * 111.195 * math.cos(math.radians(request.lat))
    return math.hypot(north, east)


def _early(rows: Rows) -> None:
    day = sample_day()
    opened = {event.slot.id: event.t for event in day.slots}
    called = {event.request.id: event.t for event in day.requests}
    late = next(r for r in rows if r["slot_id"] and opened[r["slot_id"]] > called[r["request_id"]] + 60)
    late.update(firm_at=called[late["request_id"]].iso(), first_promised_at=None, moves=0)


def _late(rows: Rows) -> None:
    """One minute before the start, for a place that is some way off."""
    day = sample_day()
    slots = {event.slot.id: event.slot for event in day.slots}
    held = next(r for r in rows if r["slot_id"] and slots[r["slot_id"]].mode == "cabinet")
    held["firm_at"] = type(slots[held["slot_id"]].start)(slots[held["slot_id"]].start - 60, 3600).iso()


def _both(rows: Rows, clock: str) -> None:
    """r00376 and r00392 share s00304, whose second place came at 15:48:17."""
    for name in ("r00376", "r00392"):
        of(rows, name)["firm_at"] = DAY.format(clock)


def _fitting(held: Json) -> list[Any]:
    day = sample_day()
    made = next(event for event in day.requests if event.request.id == held["request_id"])
    request = made.request
    return [
        event
        for event in day.slots
        if event.slot.profession == request.profession
        and event.slot.mode in request.modes
        and set(request.needs) <= set(event.slot.offers)
        and made.t <= event.slot.start <= request.deadline
        and (event.slot.mode == "tele" or _km(request, event.slot) <= request.radius_km)
    ]


def _moved(rows: Rows) -> Json:
    """Promised before its slot was published, and no slot that it fits was ever taken back."""
    day = sample_day()
    opened = {event.slot.id: event.t for event in day.slots}
    promised = {r["request_id"]: r for r in rows if r["first_promised_at"] and r["slot_id"] and r["moves"]}
    unsteady = {event.slot.id for event in day.slots if event.slot.refused_after_min is not None}
    unsteady |= {*day.withdrawn_at, "s00115", "s00258"}
    for held in promised.values():
        first_promise = type(opened[held["slot_id"]]).parse(held["first_promised_at"])
        steady = not unsteady & {event.slot.id for event in _fitting(held)}
        if opened[held["slot_id"]] > first_promise and steady:
            return held
    raise LookupError("moved")


def _drop(rows: Rows) -> None:
    """A dentist's patient: no dentist took a place back after the first morning."""
    day = sample_day()
    dental = [event.request.id for event in day.requests if event.request.profession == "DENT"]
    name = next(r["request_id"] for r in rows if r["request_id"] in dental and r["slot_id"] and r["first_promised_at"])
    unserve(name)(rows)


def _refused(rows: Rows) -> None:
    of(rows, "r00186").update(firm_at=DAY.format("09:57:00"), slot_id="s00270", moves=1)


def _further(rows: Rows) -> None:
    """The furthest fitting slot instead of the nearest, at the instant of the call."""
    day = sample_day()
    called = {event.request.id: event for event in day.requests}
    for held in rows:
        if not held["slot_id"] or held["firm_at"] != called[held["request_id"]].t.iso():
            continue
        taken = {r["slot_id"] for r in rows}
        made = called[held["request_id"]]
        others = [
            e.slot
            for e in _fitting(held)
            if e.slot.mode == "cabinet"
            and e.slot.id not in taken
            and e.t <= made.t
            and e.slot.start - made.t > 7200
            and e.slot.refused_after_min is None
            and e.slot.id not in ("s00115", "s00258", "s00273")
        ]
        near = next(event.slot for event in day.slots if event.slot.id == held["slot_id"])
        others = [s for s in others if near.mode == "cabinet" and _km(made.request, s) > _km(made.request, near) + 1]
        if others and not any(e.slot.id == "s00273" for e in _fitting(held)):
            held["slot_id"] = others[0].id
            return
    raise LookupError("further")


MUTATIONS: dict[str, tuple[str, str, Callable[[Rows], Any]]] = {
    # lines
    "a line is missing": ("promise", "MISSING", lambda rows: rows.pop(7)),
    "the last line is missing": ("crisis", "MISSING", lambda rows: rows.pop()),
    "a line comes twice": ("promise", "TWICE", lambda rows: rows.insert(8, dict(rows[7]))),
    "a request has two places": (
        "promise",
        "TWICE",
        lambda rows: rows.append(served("r00257", "s00277", DAY.format("13:00:00"))),
    ),
    "two lines are swapped": ("promise", "ORDER", swap),
    "a request nobody made": ("promise", "UNKNOWN_REQUEST", lambda rows: rows.append(row("r99999"))),
    # status
    "an unknown status": ("promise", "STATUS", first_setting(UNSERVED, status="booked")),
    "served, but the log cancels it": (
        "promise",
        "CANCELLED",
        first_setting(CANCELLED, status="served", slot_id="s00360", firm_at=DAY.format("12:00:00")),
    ),
    "unserved, but the log cancels it": (
        "promise",
        "CANCELLED",
        first_setting(CANCELLED, status="unserved", reason="ALL_TAKEN"),
    ),
    "cancelled to hide an unserved request": (
        "promise",
        "CANCELLED",
        first_setting(UNSERVED, status="cancelled", reason=None),
    ),
    "served without a slot": ("promise", "STATUS", first_setting(SERVED, slot_id=None)),
    "served without an instant": ("promise", "STATUS", first_setting(SERVED, firm_at=None)),
    "unserved with a slot": ("promise", "STATUS", first_setting(UNSERVED, slot_id="s00360")),
    "unserved with an instant": ("promise", "STATUS", first_setting(UNSERVED, firm_at=DAY.format("12:00:00"))),
    "cancelled with a slot": ("promise", "STATUS", first_setting(CANCELLED, slot_id="s00360")),
    # reasons
    "served with a reason": ("promise", "REASON", first_setting(SERVED, reason="ALL_TAKEN")),
    "unserved without a reason": ("promise", "REASON", first_setting(UNSERVED, reason=None)),
    "a misspelt reason": ("promise", "REASON", first_setting(UNSERVED, reason="all_taken")),
    "cancelled with a reason": ("promise", "REASON", first_setting(CANCELLED, reason="ALL_TAKEN")),
    # the place
    "a slot that does not exist": ("promise", "UNKNOWN_SLOT", setting("r00257", slot_id="s99999")),
    "a slot of another profession": ("promise", "MISFIT", setting("r00257", slot_id="s00258")),
    "a mode not asked for": ("promise", "MISFIT", setting("r00257", slot_id="s00115")),
    "a need not offered": ("promise", "MISFIT", lambda rows: _take(rows, "need")),
    "a slot that began before the call": ("promise", "MISFIT", lambda rows: _take(rows, "past")),
    "a slot after the deadline": ("promise", "MISFIT", lambda rows: _take(rows, "late")),
    "a slot out of the radius": ("promise", "MISFIT", lambda rows: _take(rows, "far")),
    "a phantom slot": ("promise", "PHANTOM", lambda rows: _take(rows, "phantom")),
    "a withdrawn slot": (
        "fcfs-nearest",
        "WITHDRAWN",
        setting("r00257", slot_id="s00273", firm_at=DAY.format("12:28:07")),
    ),
    # instants
    "firm before the call": (
        "promise",
        "TOO_EARLY",
        setting("r00257", firm_at=DAY.format("12:28:06"), first_promised_at=None, moves=0),
    ),
    "firm before the slot is published": ("promise", "NOT_PUBLISHED", _early),
    "firm too late to travel": ("fcfs-nearest", "TRAVEL", _late),
    "firm after the start": ("fcfs-nearest", "TRAVEL", setting("r00257", firm_at=DAY.format("18:00:00"))),
    "firm without notice": ("promise", "NOTICE", setting("r00259", firm_at=DAY.format("13:40:00"))),
    "firm without notice in a crisis": ("crisis", "NOTICE", setting("r00259", firm_at=DAY.format("13:40:00"))),
    # places over time
    "two on one place": ("promise", "CAPACITY", second_on_one_place),
    "a place before it is added": ("promise", "CAPACITY", lambda rows: _both(rows, "15:48:10")),
    # promises
    "promised before the call": ("promise", "PROMISE", setting("r00257", first_promised_at=DAY.format("12:28:06"))),
    "promised after it was firm": ("promise", "PROMISE", setting("r00257", first_promised_at=DAY.format("17:10:30"))),
    "promised after its cancellation": (
        "promise",
        "PROMISE",
        setting("r00006", first_promised_at=DAY.format("03:31:30")),
    ),
    "promised without any seat": ("promise", "PROMISE", setting("r00000", first_promised_at=DAY.format("00:05:51"))),
    "promised by a policy that cannot": (
        "fcfs-nearest",
        "POLICY",
        setting("r00211", first_promised_at=DAY.format("10:28:09")),
    ),
    "moved without a promise": ("promise", "PROMISE", first_setting(UNSERVED, moves=1)),
    "moved by a policy that cannot": ("fcfs-nearest", "PROMISE", first_setting(SERVED, moves=1)),
    "moved in no time": ("promise", "MOVES", setting("r00392", moves=1)),
    "not moved, yet the slot came later": ("promise", "MOVES", lambda rows: _moved(rows).update(moves=0)),
    "promised and dropped without a word": ("promise", "BROKEN", _drop),
    "displaced without a word in a crisis": (
        "crisis",
        "BROKEN",
        lambda rows: of(rows, "r00211").update(broken_promises=0),
    ),
    "broken though never promised": ("crisis", "PROMISE", first_setting(UNSERVED, broken_promises=1)),
    "broken by a policy that may not": ("promise", "BROKEN", setting("r00257", broken_promises=1)),
    "broken for the most urgent": ("crisis", "BROKEN", setting("r00392", broken_promises=1)),
    # refusals
    "refused where there is no phantom": ("promise", "REFUSALS", setting("r00259", refusals=9)),
    "firm before the refusal could come": ("promise", "REFUSALS", _refused),
    # the policy's own rules
    "left waiting beside a free place": ("fcfs-nearest", "POLICY", unserve("r00211")),
    "kept waiting beside a free place": ("fcfs-nearest", "POLICY", setting("r00211", firm_at=DAY.format("10:40:00"))),
    "sent further than needed": ("fcfs-nearest", "POLICY", _further),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_every_planted_violation_is_refused(name: str) -> None:
    policy, rule, mutate = MUTATIONS[name]
    rows = sample_rows(policy)
    mutate(rows)
    found = judge(rows, policy)
    assert rule in {violation.rule for violation in found.violations}, found.violations
    with pytest.raises(ScoreError, match="infraction"):
        found.require_legal()


def test_there_are_enough_mutations() -> None:
    assert len(MUTATIONS) >= 30
    assert {policy for policy, _, _ in MUTATIONS.values()} == set(SCORES["results"])


@pytest.mark.parametrize("key", Row._fields[1:])
def test_every_key_of_a_line_is_needed(key: str) -> None:
    rows = sample_rows("promise")
    del rows[20][key]
    assert ("FIELD", 21) in {(v.rule, v.line) for v in judge(rows, "promise").violations}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("request_id", None),
        ("request_id", 7),
        ("status", None),
        ("slot_id", 7),
        ("firm_at", "2026-02-02T12:00:00"),
        ("firm_at", "noon"),
        ("firm_at", 1770030000),
        ("first_promised_at", "2026-02-02"),
        ("moves", -1),
        ("moves", True),
        ("moves", 1.0),
        ("moves", None),
        ("broken_promises", "0"),
        ("refusals", None),
        ("reason", 0),
    ],
)
def test_every_field_of_a_line_has_its_type(key: str, value: Any) -> None:
    rows = sample_rows("promise")
    rows[20][key] = value
    assert ("FIELD", 21) in {(v.rule, v.line) for v in judge(rows, "promise").violations}


@pytest.mark.parametrize(
    ("junk", "rule"), [(b"{", "UNREADABLE"), (b"", "UNREADABLE"), (b"[]", "FIELD"), (b"7", "FIELD")]
)
def test_lines_that_are_no_objects_are_refused(junk: bytes, rule: str) -> None:
    lines = lines_of(sample_rows("promise"))
    lines[4] = junk
    found = score(sample_day(), lines, "promise")
    assert [(v.rule, v.line) for v in found.violations] == [(rule, 5), ("MISSING", 89)]


@pytest.mark.parametrize(
    ("result", "claimed", "rule"),
    [
        ("promise", "fcfs-nearest", "POLICY"),
        ("promise", "firm", "POLICY"),
        ("promise", "official", "POLICY"),
        ("crisis", "promise", "BROKEN"),
        ("crisis", "auto", "BROKEN"),
        ("fcfs-nearest", "promise", "NOTICE"),
        ("fcfs-nearest", "official", "POLICY"),
    ],
)
def test_a_result_is_judged_by_the_rules_of_its_policy(result: str, claimed: str, rule: str) -> None:
    assert rule in {v.rule for v in judge(sample_rows(result), claimed).violations}


@pytest.mark.parametrize(
    ("result", "claimed"),
    [("promise", "crisis"), ("promise", "auto"), ("fcfs-nearest", "firm"), ("fcfs-nearest", "auto")],
)
def test_a_result_may_be_lawful_under_a_laxer_policy(result: str, claimed: str) -> None:
    """``crisis`` and ``auto`` may do all that ``promise`` may; a firm answer at once is always allowed."""
    assert judge(sample_rows(result), claimed).violations == ()


LAWFUL: dict[str, tuple[str, Callable[[Rows], Any]]] = {
    # a promise may be kept silent: the caller is told later, and the figure "told" falls
    "a promise is not told": ("promise", setting("r00259", first_promised_at=None, moves=0)),
    # nothing in a result tells how often the seat changed, so one move more is possible
    "one move more": ("promise", setting("r00257", moves=4)),
    # a place may be made firm at any time since it was promised
    "firm earlier": ("promise", setting("r00257", firm_at=DAY.format("16:00:00"))),
    # nothing obliges an engine to serve whom it has not promised anything
    "unserved, never promised": (
        "promise",
        lambda rows: (unserve("r00392")(rows), of(rows, "r00392").update(first_promised_at=None)),
    ),
    # a refusal that led to nothing leaves no trace but this number
    "a refusal left out": ("promise", setting("r00186", refusals=0)),
    # the sample's own results name one reason throughout, so by default the spelling is all that counts
    "another reason": ("promise", first_setting(UNSERVED, reason="MODE_NOT_OFFERED")),
    # keys that the format does not know are ignored
    "a key more": ("promise", first_setting(UNSERVED, comment="x")),
    # the same instant in another offset is the same instant
    "another offset": ("promise", setting("r00257", firm_at="2026-02-02T16:10:00+00:00")),
}


@pytest.mark.parametrize("name", LAWFUL)
def test_mutations_that_break_no_rule_are_accepted(name: str) -> None:
    policy, mutate = LAWFUL[name]
    rows = sample_rows(policy)
    mutate(rows)
    assert rows != sample_rows(policy)
    assert judge(rows, policy).violations == ()


def test_a_violation_names_request_and_line_in_french() -> None:
    rows = sample_rows("promise")
    unserve("r00211")(rows)
    of(rows, "r00211")["reason"] = "FULL"
    number = rows.index(of(rows, "r00211")) + 1
    found = next(v for v in judge(rows, "promise").violations if v.rule == "REASON")
    assert (found.request_id, found.line, found.text) == ("r00211", number, "motif « FULL » inconnu")


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(ValueError, match="fastest"):
        judge(sample_rows("promise"), "fastest")
    assert len(POLICIES) == 6


# --- rules that the sample has no case for


def rules(day: Any, rows: Rows, policy: str) -> set[str]:
    return {v.rule for v in score(day, lines_of(rows), policy).violations}


def test_capacity_is_that_of_the_instant() -> None:
    """Below the number already firm: no further booking, none is broken."""
    day = day_of(
        published(at("08:00"), "s1", at("12:00"), capacity=2),
        created(at("08:01"), "r1", at("18:00")),
        created(at("08:02"), "r2", at("18:00")),
        capacity(at("08:30"), "s1", 0),
        created(at("08:40"), "r3", at("18:00")),
        capacity(at("09:00"), "s1", 3),
    )
    both = [served("r1", "s1", at("08:01")), served("r2", "s1", at("08:02"))]
    assert rules(day, [*both, row("r3")], "firm") == set()
    assert rules(day, [*both, served("r3", "s1", at("08:40"))], "firm") == {"CAPACITY"}
    assert rules(day, [*both, served("r3", "s1", at("08:59:59"))], "firm") == {"CAPACITY"}
    assert rules(day, [*both, served("r3", "s1", at("09:00"))], "firm") == set()


def test_a_cut_in_the_batch_of_the_booking_counts() -> None:
    day = day_of(
        published(at("08:00"), "s1", at("12:00")),
        created(at("08:30"), "r1", at("18:00")),
        capacity(at("08:30"), "s1", 0),
    )
    assert rules(day, [served("r1", "s1", at("08:30"))], "firm") == {"CAPACITY"}


def test_auto_needs_notice_only_where_it_promised() -> None:
    day = day_of(created(at("08:00"), "r1", at("18:00")), published(at("08:10"), "s1", at("08:30")))
    late = served("r1", "s1", at("08:20"))
    assert rules(day, [late], "auto") == set()
    assert rules(day, [late], "promise") == {"NOTICE"}
    assert rules(day, [late | {"first_promised_at": at("08:20")}], "auto") == {"PROMISE"}
    day = day_of(published(at("08:00"), "s1", at("09:00")), created(at("08:00"), "r1", at("18:00")))
    promised = served("r1", "s1", at("08:40"), first_promised_at=at("08:00"))
    assert rules(day, [promised], "auto") == {"NOTICE"}
    assert rules(day, [promised | {"firm_at": at("08:30")}], "auto") == set()


def test_a_second_after_the_call_counts_as_its_instant() -> None:
    day = day_of(published(at("07:00"), "s1", at("08:20")), created(at("08:00"), "r1", at("18:00")))
    assert rules(day, [served("r1", "s1", at("08:00:01"))], "promise") == set()
    assert rules(day, [served("r1", "s1", at("08:00:02"))], "promise") == {"NOTICE"}


def test_a_withdrawal_excuses_as_many_promises_as_it_took_places() -> None:
    day = day_of(
        published(at("07:00"), "s1", at("12:00")),
        published(at("07:00"), "s2", at("12:00")),
        created(at("08:00"), "r1", at("18:00")),
        created(at("08:01"), "r2", at("18:00")),
        withdrawn(at("09:00"), "s1"),
    )
    lost = [row(f"r{n}", first_promised_at=at(f"08:0{n - 1}")) for n in (1, 2)]
    kept = served("r2", "s2", at("11:00"), first_promised_at=at("08:01"))
    assert rules(day, [lost[0], kept], "promise") == set()
    assert rules(day, lost, "promise") == {"BROKEN"}
    assert score(day, lines_of([lost[0], kept]), "promise").lost_to_practices == 1


def test_a_withdrawal_before_the_promise_excuses_nothing() -> None:
    day = day_of(
        published(at("07:00"), "s1", at("12:00")),
        published(at("07:00"), "s2", at("12:00")),
        withdrawn(at("07:30"), "s1"),
        created(at("08:00"), "r1", at("18:00")),
    )
    assert rules(day, [row("r1", first_promised_at=at("08:00"))], "promise") == {"BROKEN"}


def test_a_refusal_excuses_a_lost_promise() -> None:
    day = day_of(
        published(at("07:00"), "s1", at("12:00"), phantom={"refused_after_min": 5}),
        created(at("08:00"), "r1", at("18:00")),
    )
    lost = row("r1", first_promised_at=at("08:00"))
    assert rules(day, [lost], "promise") == {"BROKEN"}
    assert rules(day, [lost | {"refusals": 1}], "promise") == set()
    assert rules(day, [lost | {"refusals": 2}], "promise") == {"REFUSALS"}


def test_a_cut_excuses_a_lost_promise() -> None:
    day = day_of(
        published(at("07:00"), "s1", at("12:00")),
        created(at("08:00"), "r1", at("18:00")),
        capacity(at("09:00"), "s1", 0),
    )
    assert rules(day, [row("r1", first_promised_at=at("08:00"))], "promise") == set()


def test_a_withdrawal_after_a_cut_takes_the_bookings_that_the_cut_left() -> None:
    day = day_of(
        published(at("07:00"), "s1", at("12:00"), capacity=2),
        created(at("08:00"), "r1", at("18:00")),
        created(at("08:01"), "r2", at("18:00")),
        capacity(at("11:40"), "s1", 0),
        withdrawn(at("11:50"), "s1"),
    )
    lost = [row("r1", first_promised_at=at("08:00")), row("r2", first_promised_at=at("08:01"))]
    assert rules(day, lost, "promise") == set()


def test_a_cut_within_the_notice_excuses_nothing() -> None:
    """By then the promise was firm, or behind it stood another seat."""
    day = day_of(
        published(at("07:00"), "s1", at("12:00")),
        created(at("08:00"), "r1", at("18:00")),
        capacity(at("11:31"), "s1", 0),
    )
    assert rules(day, [row("r1", first_promised_at=at("08:00"))], "promise") == {"BROKEN"}


def test_a_promise_needs_a_place_that_is_free_at_that_instant() -> None:
    day = day_of(
        created(at("08:00"), "r1", at("18:00")),
        published(at("09:00"), "s1", at("12:00")),
        capacity(at("09:30"), "s1", 0),
        capacity(at("10:00"), "s1", 1),
        withdrawn(at("10:30"), "s1"),
        published(at("11:00"), "s2", at("11:45")),
    )

    def promised(clock: str) -> set[str]:
        return rules(day, [served("r1", "s2", at("11:15"), first_promised_at=at(clock), moves=1)], "promise")

    assert promised("08:59") == promised("09:30") == promised("10:30") == {"PROMISE"}
    assert promised("09:00") == promised("10:00") == promised("11:15") == set()


def test_a_move_needs_two_slots() -> None:
    day = day_of(
        published(at("07:00"), "s1", at("12:00")),
        created(at("08:00"), "r1", at("18:00")),
        published(at("09:00"), "s2", at("09:01")),
    )
    moved = served("r1", "s1", at("11:00"), first_promised_at=at("08:00"), moves=1)
    assert rules(day, [moved], "promise") == {"MOVES"}
    assert rules(day, [moved | {"moves": 0}], "promise") == set()


def test_a_broken_promise_needs_someone_more_urgent() -> None:
    events = [
        published(at("07:00"), "s1", at("12:00")),
        created(at("08:00"), "r1", at("18:00")),
        created(at("08:30"), "r2", at("12:30"), tier="T1"),
    ]
    rows = [
        row("r1", first_promised_at=at("08:00"), broken_promises=1),
        served("r2", "s1", at("11:30"), first_promised_at=at("08:30")),
    ]
    assert rules(day_of(*events), rows, "crisis") == set()
    events[2] = created(at("08:30"), "r2", at("12:30"), tier="T2")
    assert rules(day_of(*events), rows, "crisis") == {"BROKEN"}
    events[2] = created(at("08:30"), "r2", at("12:30"), tier="T1", profession="PED")
    events.append(published(at("09:00"), "s2", at("12:00"), profession="PED"))
    rows[1] = served("r2", "s2", at("11:30"))
    assert rules(day_of(*events), rows, "crisis") == {"BROKEN"}


def test_the_peer_may_have_lost_its_place_to_someone_who_cancelled() -> None:
    """Innocent: the place was held by r0 until 09:00, which the result cannot show."""
    events = [
        published(at("07:00"), "s1", at("12:00")),
        created(at("07:30"), "r0", at("18:00")),
        created(at("08:00"), "r1", at("18:00")),
        cancelled(at("09:00"), "r0"),
    ]
    gone = row("r0", status="cancelled", reason=None)
    assert rules(day_of(*events), [gone, served("r1", "s1", at("09:00"))], "fcfs-nearest") == set()
    events[3] = cancelled(at("07:40"), "r0")
    events[2], events[3] = events[3], events[2]
    assert rules(day_of(*events), [gone, served("r1", "s1", at("09:00"))], "fcfs-nearest") == {"POLICY"}


def test_official_leaves_nobody_without_a_place_that_a_card_shows() -> None:
    """One page holds all cards, so none is lost to chance; the circle holds for télé too; two days after today."""

    def judged(*events: Json, **request: Any) -> set[str]:
        asked = created(at("08:00"), "r1", at("20:00", 15), modes=["cabinet", "tele"], **request)
        lines = sorted((*events, asked), key=lambda event: event["t"])
        return rules(day_of(*lines, end=at("00:00", 16)), [row("r1", reason="ALL_TAKEN")], "official")

    assert judged(published(at("07:00"), "s1", at("12:00"))) == {"POLICY"}
    assert judged(published(at("09:00"), "s1", at("12:00"))) == set()
    assert judged(published(at("07:00"), "s1", at("23:59", 14))) == {"POLICY"}
    assert judged(published(at("07:00"), "s1", at("00:00", 15))) == set()
    assert judged(published(at("07:00"), "s1", at("12:00"), mode="tele", lat=44.6)) == {"POLICY"}
    assert judged(published(at("07:00"), "s1", at("12:00"), mode="tele", lat=44.8)) == set()
    many = [published(at("07:00"), f"s{n}", at("12:00"), professional=f"p{n}") for n in range(101)]
    assert judged(*many) == set()
    assert judged(*many[:100]) == {"POLICY"}


def test_official_searches_once_more_when_a_practice_takes_the_place_back() -> None:
    events = [
        published(at("07:00"), "s1", at("12:00")),
        published(at("07:00"), "s2", at("13:00"), lat=44.55),
        created(at("08:00"), "r1", at("18:00")),
        withdrawn(at("09:00"), "s1"),
    ]
    assert rules(day_of(*events), [served("r1", "s2", at("09:00"))], "official") == set()
    assert rules(day_of(*events), [served("r1", "s2", at("09:10"))], "official") == {"POLICY"}
    assert rules(day_of(*events[:3]), [served("r1", "s2", at("09:00"))], "official") == {"POLICY"}


# --- figures


def test_means_over_nobody_are_null() -> None:
    day = day_of(created(at("08:00"), "r1", at("18:00")))
    figures = score(day, lines_of([row("r1", reason="NO_SLOT_FOR_PROFESSION")]), "firm").figures()
    assert figures["welfare"] == 0
    assert figures["mean_travel_min"] is figures["told_within_2_min"] is None
    assert set(figures["mean_wait_min"].values()) == {None}


def test_the_cost_formula_by_hand() -> None:
    """T1, wait 40 min, at the door (3 min), own doctor: 20000 − 10·3 − 10·0.25·40 + 10·6."""
    day = day_of(published(at("08:00"), "s1", at("08:40")), created(at("08:00"), "r1", at("12:00"), tier="T1", mt="p1"))
    found = score(day, lines_of([served("r1", "s1", at("08:00"))]), "firm")
    assert (found.violations, found.welfare) == ((), 20000 - 30 - 100 + 60)
    assert (found.mean_travel_min, found.mean_wait_min["T1"], found.told_within_2_min) == (3.0, 40.0, 1.0)


def test_teleconsultation_has_no_travel_no_radius_and_no_part_in_the_mean() -> None:
    day = day_of(
        published(at("08:00"), "s1", at("08:05"), mode="tele", lat=48.0),
        created(at("08:00"), "r1", at("12:00"), modes=["tele"]),
    )
    found = score(day, lines_of([served("r1", "s1", at("08:05"))]), "firm")
    assert (found.violations, found.mean_travel_min) == ((), None)
    assert found.welfare == 10000 - 10 * 0.05 * 5


@pytest.mark.parametrize(("firm", "told"), [("08:02", 1.0), ("08:02:01", 0.0)])
def test_told_within_two_minutes(firm: str, told: float) -> None:
    day = day_of(published(at("07:00"), "s1", at("12:00")), created(at("08:00"), "r1", at("18:00")))
    assert score(day, lines_of([served("r1", "s1", at(firm))]), "firm").told_within_2_min == told
    late = served("r1", "s1", at("11:00"), first_promised_at=at(firm))
    assert score(day, lines_of([late]), "promise").told_within_2_min == told


# --- reasons, where they are to be true


@pytest.mark.parametrize(
    ("changes", "right"),
    [
        ({"profession": "DENT"}, {"NO_SLOT_FOR_PROFESSION"}),
        ({"modes": ["tele"]}, {"MODE_NOT_OFFERED"}),
        ({"needs": ["lsf"]}, {"NEED_NOT_OFFERED"}),
        ({"lat": 45.5}, {"NO_SLOT_IN_RADIUS"}),
        ({"deadline": at("11:59")}, {"NO_SLOT_BEFORE_DEADLINE"}),
        ({"deadline": at("07:59")}, {"NO_SLOT_FOR_PROFESSION"}),
        ({}, {"ALL_TAKEN"}),
    ],
)
def test_the_reason_is_the_first_that_is_true(changes: Json, right: set[str]) -> None:
    request = {"deadline": at("18:00")} | changes
    day = day_of(
        created(at("07:00"), "r1", request.pop("deadline"), **request), published(at("08:00"), "s1", at("12:00"))
    )
    assert possible_reasons(day, day.requests[0]) == right
    for reason in REASONS:
        lines = lines_of([row("r1", reason=reason)])
        assert score(day, lines, "firm").violations == ()
        assert bool(score(day, lines, "firm", strict_reasons=True).violations) == (reason not in right)


def test_a_slot_too_close_in_time_has_two_right_reasons() -> None:
    day = day_of(published(at("07:00"), "s1", at("08:02")), created(at("08:00"), "r1", at("18:00")))
    assert possible_reasons(day, day.requests[0]) == {"ALL_TAKEN", "NO_SLOT_BEFORE_DEADLINE"}


def test_scores_are_json() -> None:
    assert json.loads(json.dumps(judge(sample_rows("crisis"), "crisis").figures())) == SCORES["results"]["crisis"]


def test_the_scorer_shares_nothing_with_what_it_judges() -> None:
    """Not even by way of another import."""
    code = "import sys, sas_matcher.replay.score; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "sas_matcher.replay.daylog" in loaded
    assert not {"solver", "numpy", "ortools", "sas_matcher.matching", "sas_matcher.travel"} & set(loaded)
