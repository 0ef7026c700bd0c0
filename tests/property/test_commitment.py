"""The desk of policies on day logs: lawful, promises kept, blind to what is still to come; prices by brute force."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sas_matcher.matching import commitment
from sas_matcher.matching.commitment import PRESETS
from sas_matcher.matching.prices import FAR, seat_losses
from sas_matcher.replay.daylog import DayLog
from sas_matcher.replay.daylog_file import read_day
from sas_matcher.replay.run import Inbox, Replay, replay_day
from sas_matcher.replay.score import score
from solver import Problem, solve_flow

SAMPLE = Path(__file__).parents[1] / "data" / "daylog" / "day.jsonl"
NAMES = ("firm", "promise", "auto", "crisis")
# planned less often than in service: the rules hold at any pace, and the suite has only minutes
POLICIES = {name: replace(PRESETS[name], step_s=1800.0, futures=2) for name in NAMES}


@cache
def sample() -> DayLog:
    """The format's sample: phantoms, a withdrawal, capacity changes, cancellations, visits."""
    return read_day(SAMPLE)


def thinned(seed: int) -> DayLog:
    """A day like the sample, with a third of its requests missing: an earlier day to learn from."""
    chance = np.random.default_rng(seed)
    gone = {made.request.id for made in sample().requests if chance.random() < 0.3}

    def kept(event: object) -> bool:
        request = getattr(event, "request", None)
        return getattr(event, "request_id", None) not in gone and (request is None or request.id not in gone)

    return replace(sample(), events=tuple(e for e in sample().events if kept(e)))


@pytest.fixture(autouse=True)
def _seldom_planned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commitment, "PRESETS", POLICIES)


def played(day: DayLog, name: str, history: Sequence[DayLog] = ()) -> list[bytes]:
    """The lines of a result."""
    return replay_day(day, name, history=history)[0]


@pytest.mark.parametrize("learned", [0, 2])
@pytest.mark.parametrize("name", NAMES)
def test_every_policy_is_lawful_and_repeats_itself(name: str, learned: int) -> None:
    """An independent scorer finds no broken rule, with and without history; the same input gives the same bytes."""
    history = [thinned(seed) for seed in range(learned)]
    lines = played(sample(), name, history)
    judged = score(sample(), lines, name)
    judged.require_legal()
    assert sum(judged.served.values()) > 30, "most of the 90 are served"
    assert lines == played(sample(), name, history)
    if name != "crisis":
        assert judged.broken_promises == 0


def test_whoever_was_promised_a_place_gets_one() -> None:
    """Unless a practice took it back: the engine itself never lets a promise go."""
    lines = [orjson.loads(line) for line in played(sample(), "promise", [thinned(1)])]
    promised = [line for line in lines if line["first_promised_at"] and line["status"] != "cancelled"]
    assert len(promised) > 10
    assert all(line["status"] == "served" or line["refusals"] or line["moves"] for line in promised)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("share", [0.3, 0.6])
def test_nothing_is_decided_on_what_is_still_to_come(name: str, share: float) -> None:
    """A day of which the rest is not yet written goes the same way up to there."""
    asked = sample().requests
    until = asked[int(share * len(asked))].t
    cut = replace(sample(), events=tuple(e for e in sample().events if e.t < until))
    before = [batch for batch in batches(cut, name) if batch[0] < float(until)]
    assert len(before) > 10
    assert before == [batch for batch in whole(name) if batch[0] < float(until)]


@cache
def whole(name: str) -> list[tuple[float, str]]:
    """The batches of the whole day."""
    return batches(sample(), name)


def batches(day: DayLog, name: str) -> list[tuple[float, str]]:
    """When the matcher decided what, with an earlier day to learn from."""
    journal = Inbox()
    run = Replay(day, name, history=[thinned(3)], stopwatch=time.perf_counter, journal=journal)
    asyncio.run(run.run())
    return [(said.at.timestamp(), said.data) for said in journal.take()]


def test_whoever_waits_for_nothing_is_told_at_once() -> None:
    """Places for all and no history: no price, so every caller who fits somewhere hears of it in the same instant."""
    lines = [orjson.loads(line) for line in played(sample(), "promise")]
    assert any(line["first_promised_at"] or line["firm_at"] for line in lines[:5])


@settings(deadline=None, max_examples=150)
@given(st.integers(0, 2**32 - 1))
def test_the_loss_of_a_seat_is_what_an_optimal_plan_loses_without_it(seed: int) -> None:
    """Brute force: solve again with one seat less, slot by slot."""
    chance = np.random.default_rng(seed)
    requests, slots = int(chance.integers(1, 7)), int(chance.integers(1, 6))
    pairs = np.argwhere(chance.random((requests, slots)) < 0.6)
    capacity = chance.integers(0, 3, slots)
    penalty = chance.integers(50, 200, requests)
    cost = chance.integers(0, 150, len(pairs))

    def solved(seats: np.ndarray) -> tuple[Problem, float, np.ndarray]:
        problem = Problem(
            arc_request=pairs[:, 0].astype(np.int32),
            arc_slot=pairs[:, 1].astype(np.int32),
            arc_cost=cost.astype(np.int64),
            penalty=penalty.astype(np.int64),
            rank=np.zeros(requests, np.int64),
            capacity=seats.astype(np.int64),
            request_key=np.arange(requests, dtype=np.uint64),
            slot_key=np.arange(slots, dtype=np.uint64),
        )
        arc = solve_flow(problem).arc
        total = sum(int(cost[a]) if a >= 0 else int(penalty[r]) for r, a in enumerate(arc.tolist()))
        return problem, total, arc

    problem, least, arc = solved(capacity)
    losses = seat_losses(
        problem.arc_request, problem.arc_slot, cost.astype(float), penalty.astype(float), problem.capacity, arc
    )
    for slot in range(slots):
        if capacity[slot] == 0:
            assert losses[slot] == FAR
            continue
        fewer = capacity.copy()
        fewer[slot] -= 1
        assert losses[slot] == solved(fewer)[1] - least
