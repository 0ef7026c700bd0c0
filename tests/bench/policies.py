"""Policies on the study's days: ``python -m tests.bench.policies [--kinds …] [--policies …] [--days N]``.

Plays each day through the desk of ``matching.commitment`` on virtual time, with forecasts from earlier days of the same
territory only, and lets the independent scorer judge. Prints welfare in % of the hindsight optimum, told, urgent calls
served in % of hindsight, broken promises, seconds.
"""

import argparse
import ast
import heapq
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from typing import Any

import orjson

from sas_matcher.matching.commitment import PRESETS, Desk, Policy
from sas_matcher.matching.pairs import MODE_BITS, Codes
from sas_matcher.matching.planning import Planner
from sas_matcher.matching.terms import TIER_RANK
from sas_matcher.replay.daylog import (
    DayLog,
    Instant,
    Request,
    RequestCancelled,
    RequestCreated,
    Slot,
    SlotCapacity,
    SlotPublished,
    SlotWithdrawn,
)
from sas_matcher.replay.hindsight import hindsight
from sas_matcher.replay.history import history_day
from sas_matcher.replay.score import possible_reasons, score
from sas_matcher.replay.study import KINDS, study
from sas_matcher.replay.terms import terms_of

HISTORY = 10


class Player:
    """Plays one day through a desk."""

    def __init__(self, day: DayLog, policy: Policy, history: Sequence[DayLog] = (), seed: int = 0) -> None:
        self.day, self.policy = day, policy
        self.codes = Codes()
        self.terms, self.tier_of = terms_of(day.meta)
        learned = [history_day(d, self.tier_of, self.terms, self.codes) for d in history]
        self.planner = Planner.learned(learned, self.terms, seed, weekday_of(day))
        self.desk = Desk(self.terms, self.codes, policy, learned)
        self.row_of_slot: dict[str, int] = {}
        self.row: dict[str, int] = {}
        self.made: list[RequestCreated] = []
        self.slots: list[Slot] = []
        self.lines: list[dict[str, Any]] = []
        self.on: dict[int, int] = {}
        self.total: list[int] = []
        self.gone: set[int] = set()
        self.refusals: list[tuple[float, int, int]] = []
        self.verdicts: list[tuple[float, str, int, int]] = []

    def seconds(self, t: float) -> float:
        return float(t) - float(self.day.meta.start)

    def slot_columns(self, slot: Slot, day: DayLog) -> dict[str, float]:
        c = self.codes
        return {
            "lat": slot.lat, "lon": slot.lon, "start": float(slot.start) - float(day.meta.start),
            "profession": c.name(slot.profession), "mode": MODE_BITS[slot.mode], "offer": c.offer(slot.offers),
            "professional": c.name(slot.professional),
        }  # fmt: skip

    def request_columns(self, r: Request, day: DayLog) -> dict[str, float]:
        c, tier = self.codes, self.tier_of[r.tier]
        line = self.terms.tiers[tier]
        return {
            "lat": r.lat, "lon": r.lon, "deadline": float(r.deadline) - float(day.meta.start),
            "radius_km": r.radius_km, "value": line.value, "wait_weight": line.wait_weight,
            "profession": c.name(r.profession), "modes": sum(MODE_BITS[m] for m in set(r.modes)),
            "need": c.need(r.needs), "mt": c.name(r.mt), "tier": TIER_RANK[tier],
        }  # fmt: skip

    def play(self) -> list[bytes]:
        events = sorted(((self.seconds(e.t), n, e) for n, e in enumerate(self.day.events)), key=lambda item: item[:2])
        at, end = 0, self.seconds(self.day.meta.end)
        while True:
            upcoming = [self.desk.due()]
            if at < len(events):
                upcoming.append(events[at][0])
            if self.refusals:
                upcoming.append(self.refusals[0][0])
            now = min(x for x in upcoming if x > -1e18) if at or self.row_of_slot else events[0][0]
            if now > end or (at >= len(events) and now > end):
                break
            while self.refusals and self.refusals[0][0] <= now:
                _, request, slot = heapq.heappop(self.refusals)
                self.refuse(request, slot)
            while at < len(events) and events[at][0] <= now:
                self.happen(events[at][2], now)
                at += 1
            for verdict in self.desk.decide(now, self.planner):
                self.obey(verdict.what, verdict.request, verdict.slot, now)
        return self.result()

    def happen(self, e: Any, now: float) -> None:
        desk = self.desk
        if isinstance(e, SlotPublished):
            row = desk.publish(now, capacity=e.slot.capacity, **self.slot_columns(e.slot, self.day))
            self.row_of_slot[e.slot.id] = row
            self.slots.append(e.slot)
            self.total.append(e.slot.capacity)
        elif isinstance(e, RequestCreated):
            row = desk.call(now, **self.request_columns(e.request, self.day))
            self.row[e.request.id] = row
            self.made.append(e)
            self.lines.append(
                {"request_id": e.request.id, "status": "unserved", "slot_id": None, "firm_at": None,
                 "first_promised_at": None, "moves": 0, "broken_promises": 0, "refusals": 0, "reason": None}
            )  # fmt: skip
        elif isinstance(e, RequestCancelled):
            row = self.row[e.request_id]
            desk.close(row)
            slot = self.on.pop(row, None)
            if slot is not None:
                desk.free(slot, 1)
            self.lines[row] |= {"status": "cancelled", "slot_id": None, "firm_at": None}
        elif isinstance(e, SlotCapacity):
            slot = self.row_of_slot[e.slot_id]
            desk.free(slot, e.capacity - self.total[slot])
            self.total[slot] = e.capacity
        elif isinstance(e, SlotWithdrawn):
            self.vanish(self.row_of_slot[e.slot_id], everyone=True)

    def vanish(self, slot: int, *, everyone: bool) -> None:
        if slot in self.gone:
            return
        self.gone.add(slot)
        self.desk.gone(slot)
        if everyone:
            for row in [r for r, s in self.on.items() if s == slot]:
                self.reopen(row)

    def reopen(self, row: int) -> None:
        self.on.pop(row, None)
        self.lines[row] |= {"status": "unserved", "slot_id": None, "firm_at": None}
        self.desk.reopen(row, self.lines[row]["first_promised_at"] is not None)

    def refuse(self, row: int, slot: int) -> None:
        if self.on.get(row) != slot:
            return
        self.lines[row]["refusals"] += 1
        self.reopen(row)
        self.vanish(slot, everyone=False)

    def obey(self, what: str, row: int, slot: int, now: float) -> None:
        self.verdicts.append((now, what, row, slot))
        line = self.lines[row]
        at = Instant(float(self.day.meta.start) + now, self.day.meta.start.offset_s).iso()
        if what == "firm":
            line |= {"status": "served", "slot_id": self.slots[slot].id, "firm_at": at}
            self.on[row] = slot
            after = self.slots[slot].refused_after_min
            if after is not None:
                heapq.heappush(self.refusals, (now + 60 * after, row, slot))
        elif what == "promise":
            line["first_promised_at"] = line["first_promised_at"] or at
        elif what == "move":
            line["moves"] += 1
        else:
            line["broken_promises"] += 1

    def result(self) -> list[bytes]:
        for line, made in zip(self.lines, self.made, strict=True):
            if line["status"] == "unserved":
                line["reason"] = min(possible_reasons(self.day, made))
        return [orjson.dumps(line) for line in self.lines]


def weekday_of(day: DayLog) -> int:
    return int((float(day.meta.start) + day.meta.start.offset_s) // 86400 + 3) % 7


def cell(kind: str, seed: int, name: str, policy: Policy) -> tuple[float, float, float, int, float]:
    """One day: welfare and urgent served in % of hindsight, told in %, broken promises, seconds."""
    history = [study(kind, 1000 + 100 * seed + n) for n in range(HISTORY)]
    day = study(kind, seed)
    began = time.perf_counter()
    lines = Player(day, policy, history, seed).play()
    took = time.perf_counter() - began
    judged = score(day, lines, name)
    if judged.violations:  # a ScoreError does not travel between processes
        raise ValueError(f"{kind} {seed} {name}: {judged.violations[:5]}")
    most = hindsight(day)
    urgent = sum(judged.served[t] for t in ("T0", "T1")) / max(1, sum(most.served[t] for t in ("T0", "T1")))
    return (
        100 * judged.welfare / most.welfare,
        100 * (judged.told_within_2_min or 0),
        100 * urgent,
        judged.broken_promises,
        took,
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.policies", description=__doc__)
    parser.add_argument("--kinds", nargs="*", default=list(KINDS))
    parser.add_argument("--policies", nargs="*", default=["promise"])
    parser.add_argument("--days", type=int, default=3)
    parser.add_argument("--first", type=int, default=50)
    parser.add_argument("--set", nargs="*", default=[], help="name=value of Policy")
    parser.add_argument("--jobs", type=int, default=1)
    wishes = parser.parse_args()
    with ProcessPoolExecutor(wishes.jobs) as pool:
        for name in wishes.policies:
            policy = replace(
                PRESETS[name], **{k: ast.literal_eval(v) for k, v in (s.split("=", 1) for s in wishes.set)}
            )
            for kind in wishes.kinds:
                seeds = range(wishes.first, wishes.first + wishes.days)
                rows = list(pool.map(cell, [kind] * len(seeds), seeds, [name] * len(seeds), [policy] * len(seeds)))
                means = [sum(c) / len(rows) for c in zip(*rows, strict=True)]
                spread = f"[{min(r[0] for r in rows):.1f}..{max(r[0] for r in rows):.1f}]"
                print(  # noqa: T201
                    f"{name:8} {kind:9} welfare {means[0]:5.1f} {spread} told {means[1]:5.1f} urgent {means[2]:5.1f} "
                    f"broken {means[3]:5.1f} {means[4]:.1f} s",
                    flush=True,
                )


if __name__ == "__main__":
    main()
