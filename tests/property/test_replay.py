"""Laws of the replay's foundation on random small days."""

import json
from collections.abc import Iterator
from itertools import groupby
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sas_matcher.replay.daylog import (
    DayLog,
    Event,
    Instant,
    Request,
    RequestCancelled,
    RequestCreated,
    Slot,
    SlotCapacity,
    SlotPublished,
    SlotWithdrawn,
)
from sas_matcher.replay.daylog_file import DayLogError, day_lines, parse_day
from sas_matcher.replay.hindsight import hindsight
from sas_matcher.replay.run import POLICIES, replay_day
from sas_matcher.replay.score import score
from tests.daylog_cases import META, SAMPLE, day_of, lines_of
from tests.fcfs_nearest import fcfs_nearest

TIERS = {tier["tier"]: tier for tier in META["tiers"]}
START = day_of().meta.start
SAMPLE_LINES = (SAMPLE / "day.jsonl").read_bytes().splitlines()


@st.composite
def days(draw: st.DrawFn, slots: int = 5, requests: int = 6, faults: bool = True) -> DayLog:
    """A few slots and requests within two hours and some kilometres, with everything a log can hold."""

    def minute(low: int, high: int) -> Instant:
        return Instant(START + 8 * 3600 + 60 * draw(st.integers(low, high)), 3600)

    def place() -> float:
        return draw(st.integers(0, 8)) / 100

    events: list[Event] = []
    for n in range(draw(st.integers(1, slots))):
        start = minute(10, 120)
        opened = min(minute(0, 100), start)
        mode, profession = (
            draw(st.sampled_from(["cabinet", "cabinet", "tele"])),
            draw(st.sampled_from(["MG", "MG", "PED"])),
        )
        offers = draw(st.sampled_from([(), ("enfant",)]))
        refused = draw(st.sampled_from([None, None, None, 5])) if faults else None
        events.append(
            SlotPublished(
                opened,
                Slot(
                    f"s{n}", f"p{n % 2}", None, "cds", 44 + place(), 3.0, start, Instant(start + 900, 3600),
                    draw(st.integers(1, 3)), mode, profession, offers, refused,
                ),
            )
        )  # fmt: skip
        for _ in range(draw(st.integers(0, 3)) if faults else 0):
            events.append(SlotCapacity(max(opened, minute(0, 110)), f"s{n}", draw(st.integers(0, 3))))
        if faults and draw(st.integers(0, 9)) == 0:
            events.append(SlotWithdrawn(max(opened, minute(0, 110)), f"s{n}"))
    for n in range(draw(st.integers(0, requests))):
        t, tier = minute(0, 100), draw(st.sampled_from(sorted(TIERS)))
        modes = draw(st.sampled_from([("cabinet",), ("cabinet", "tele")]))
        needs = draw(st.sampled_from([(), ("enfant",)]))
        events.append(
            RequestCreated(
                t,
                Request(
                    f"r{n}", 44 + place(), 3.0, "MG", modes, tier, Instant(t + 60 * TIERS[tier]["max_delay_min"], 3600),
                    draw(st.sampled_from([2.0, 6.0, 20.0])), needs, draw(st.sampled_from([None, "p0"])), True,
                ),
            )
        )  # fmt: skip
        if faults and draw(st.integers(0, 5)) == 0:
            events.append(RequestCancelled(max(t, minute(0, 120)), f"r{n}"))
    return DayLog(day_of().meta, tuple(sorted(events, key=lambda event: event.t)))


# --- reading and writing

texts = st.text(min_size=1, max_size=8)
instants = st.builds(
    lambda micros, quarter: Instant(micros / 1e6, quarter * 900),
    st.integers(0, 4 * 10**15),
    st.integers(-48, 56),
)
degrees = st.floats(-90, 90)


@given(
    st.builds(
        Slot, texts, texts, st.none() | texts, st.sampled_from(["cds", "sos"]), degrees, degrees, instants, instants,
        st.integers(1, 10**6), st.sampled_from(["cabinet", "tele", "visite"]), texts, st.lists(texts).map(tuple),
        st.none() | st.floats(0, 1e6),
    ).filter(lambda slot: slot.start <= slot.end),
    st.builds(
        Request, texts, degrees, degrees, texts,
        st.lists(st.sampled_from(["cabinet", "tele", "visite"]), min_size=1).map(tuple),
        st.sampled_from(sorted(TIERS)), instants, st.floats(0, 1e6), st.lists(texts).map(tuple), st.none() | texts,
        st.booleans(),
    ),
    instants,
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_whatever_is_written_is_read_back(slot: Slot, request: Request, t: Instant) -> None:
    """Values, order, and the offset of every instant."""
    events: tuple[Event, ...] = (
        SlotPublished(t, slot),
        RequestCreated(t, request),
        SlotCapacity(t, slot.id, 0),
        SlotWithdrawn(t, slot.id),
        RequestCancelled(t, request.id),
    )
    day = DayLog(day_of().meta, events)
    lines = list(day_lines(day))
    again = parse_day(lines)
    assert again == day
    assert list(day_lines(again)) == lines


@given(st.integers(0, len(SAMPLE_LINES) - 1), st.data())
@settings(max_examples=80, deadline=None)
def test_a_damaged_line_is_an_error_with_its_number_or_still_a_line(number: int, data: st.DataObject) -> None:
    """Never another exception, whatever the bytes."""
    line = SAMPLE_LINES[number]
    at = data.draw(st.integers(0, len(line)))
    damaged = line[:at] + data.draw(st.binary(max_size=3)) + line[at + data.draw(st.integers(0, 3)) :]
    try:
        parse_day([*SAMPLE_LINES[:number], damaged, *SAMPLE_LINES[number + 1 :]])
    except DayLogError as error:
        # a changed id or instant may first be missed further down
        assert error.line >= number + 1


# --- hindsight


def _travel(request: Request, slot: Slot) -> float:
    return 0.0 if slot.mode == "tele" else 3.0 + 1.95 * 6371.0088 * abs(slot.lat - request.lat) * 0.017453292519943295


def _options(day: DayLog, made: RequestCreated) -> Iterator[tuple[tuple[str, int], float]]:
    """Every (slot, number of the seat) with what it wins, tried instant by instant."""
    request = made.request
    for event in day.slots:
        slot, travel = event.slot, _travel(request, event.slot)
        if slot.refused_after_min is not None or slot.id in day.withdrawn_at or slot.profession != request.profession:
            continue
        if slot.mode not in request.modes or not set(request.needs) <= set(slot.offers):
            continue
        near = slot.mode == "tele" or 3.0 + 1.95 * request.radius_km >= travel - 1e-9
        if not near or not made.t <= slot.start <= request.deadline:
            continue
        steps = day.capacities[slot.id]
        tier = TIERS[request.tier]
        won = tier["value"] - 10 * travel - 10 * tier["wait_weight"] * (slot.start - made.t) / 60
        won += 60 * (slot.professional == request.mt)
        for seat in range(1, 4):
            for t in {max(made.t, since) for since, _ in steps}:
                places = [count for since, count in steps if since <= t][-1]
                if places >= seat and slot.start - t >= 60 * travel:
                    yield (slot.id, seat), won
                    break


def _brute(
    options: list[list[tuple[tuple[str, int], float]]], taken: frozenset[tuple[str, int]] = frozenset()
) -> float:
    if not options:
        return 0.0
    best = _brute(options[1:], taken)
    for seat, won in options[0]:
        if seat not in taken:
            best = max(best, won + _brute(options[1:], taken | {seat}))
    return best


@given(days(slots=3, requests=4))
@settings(max_examples=60, deadline=None)
def test_hindsight_equals_trying_everything(day: DayLog) -> None:
    options = [list(_options(day, made)) for made in day.requests if made.request.id not in day.cancelled_at]
    found = hindsight(day)
    assert found.welfare == pytest.approx(_brute(options), abs=0.01)
    assert sum(found.served.values()) == len(found.slot_of)


# --- the peer, the scorer and hindsight together


@given(days())
@settings(max_examples=80, deadline=None)
def test_the_peer_is_never_convicted_and_never_beats_hindsight(day: DayLog) -> None:
    """It is innocent under its own policy and every laxer one; with faults, phantoms, cuts and all."""
    result = lines_of(fcfs_nearest(day))
    for policy in ("fcfs-nearest", "firm", "auto"):
        found = score(day, result, policy)
        assert found.violations == ()
        assert found.welfare <= hindsight(day).welfare + 0.01


@given(days(faults=False))
@settings(max_examples=60, deadline=None)
def test_hindsight_is_a_lawful_outcome(day: DayLog) -> None:
    """Told on publication or call, whichever is later: ``firm`` is not broken, and the scorer values it alike."""
    best = hindsight(day)
    opened = {event.slot.id: event.t for event in day.slots}
    rows = fcfs_nearest(day)
    for made, row in zip(day.requests, rows, strict=True):
        slot_id = best.slot_of.get(made.request.id)
        row.update(
            status="unserved" if slot_id is None else "served",
            slot_id=slot_id,
            firm_at=None if slot_id is None else max(made.t, opened[slot_id]).iso(),
            reason="ALL_TAKEN" if slot_id is None else None,
        )
    found = score(day, lines_of(rows), "firm")
    assert found.violations == ()
    assert found.welfare == pytest.approx(best.welfare, abs=0.01)
    assert found.served == best.served


@given(days(), st.data())
@settings(max_examples=60, deadline=None)
def test_whoever_gets_an_impossible_place_is_convicted(day: DayLog, data: st.DataObject) -> None:
    """Any request on any slot that does not fit it, or that is not real, or made firm too late."""
    rows = fcfs_nearest(day)
    open_rows = [row for row in rows if row["status"] != "cancelled"]
    if not open_rows:
        return
    row: dict[str, Any] = data.draw(st.sampled_from(open_rows))
    made = next(event for event in day.requests if event.request.id == row["request_id"])
    event = data.draw(st.sampled_from(day.slots))
    possible = {slot_id for (slot_id, _), _ in _options(day, made)}
    firm = max(made.t, event.t)
    if event.slot.id in possible:
        firm = Instant(event.slot.start - 60 * _travel(made.request, event.slot) + 2, 3600)
    row.update(status="served", slot_id=event.slot.id, firm_at=firm.iso(), reason=None)
    names = {v.request_id for v in score(day, lines_of(rows), "firm").violations}
    assert row["request_id"] in names


@given(days())
@settings(max_examples=50, deadline=None)
def test_the_order_of_keys_is_nothing_to_the_scorer(day: DayLog) -> None:
    rows = fcfs_nearest(day)
    turned = [json.dumps(dict(reversed(row.items()))).encode() for row in rows]
    assert score(day, turned, "fcfs-nearest") == score(day, lines_of(rows), "fcfs-nearest")


# --- replays


@pytest.mark.parametrize("policy", POLICIES)
@given(day=days(), chance=st.randoms(use_true_random=False))
@settings(max_examples=15, deadline=None)
def test_a_replay_is_lawful_and_the_same_again_whatever_the_order_within_an_instant(
    policy: str, day: DayLog, chance: Random
) -> None:
    lines, summary = replay_day(day, policy)
    judged = score(day, lines, policy, strict_reasons=True)
    assert judged.violations == ()
    assert judged.welfare <= hindsight(day).welfare + 0.01
    assert summary["served"] == judged.served
    assert replay_day(day, policy)[0] == lines
    assert sorted(replay_day(_shuffled(day, chance), policy)[0]) == sorted(lines)


def _shuffled(day: DayLog, chance: Random) -> DayLog:
    """The same day, with the slots and the requests of each instant in another order, before what happens to them."""
    events: list[Event] = []
    for _, same in groupby(day.events, key=lambda event: event.t):
        instant = list(same)
        for kind in (SlotPublished, RequestCreated):
            these = [event for event in instant if isinstance(event, kind)]
            events += chance.sample(these, len(these))
        events += [event for event in instant if not isinstance(event, SlotPublished | RequestCreated)]
    return DayLog(day.meta, tuple(events))
