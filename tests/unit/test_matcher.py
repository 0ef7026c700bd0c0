"""The matcher as a process, on small fakes of ledger and bus: batches, losers, wakes, fences, reloads."""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from typing import Any, cast
from zoneinfo import ZoneInfo

import numpy as np
import orjson
import pytest

from sas_matcher.domain.errors import FencedError, UnavailableError
from sas_matcher.domain.policy import DEFAULT_SETTING
from sas_matcher.domain.vocabulary import Tier
from sas_matcher.matching.candidates import Asking, Candidates, OpenRequest
from sas_matcher.matching.candidates import find_all as find_all_places
from sas_matcher.matching.explain import MT_TEXT
from sas_matcher.matching.places import SITE_FIELDS
from sas_matcher.matching.planning import FieldPlan, Planner, Task
from sas_matcher.matching.sharing import lots
from sas_matcher.ports.bus import PLACES_STREAM, REQUESTS_STREAM, Bus, Entry, entry_order
from sas_matcher.ports.ledger import Announcement, Claim, Ledger, PlacesPage
from sas_matcher.services.matcher import deciding, following, match, open_requests, rounds
from sas_matcher.services.matcher.deciding import SolveTimeoutError
from sas_matcher.services.matcher.desks import PlanLateError
from sas_matcher.services.matcher.holding import History
from sas_matcher.services.matcher.match import Matcher
from sas_matcher.services.matcher.shares import Shares
from solver import Plan, Problem, solve
from tests.matching_cases import LYON, NOW, request

ALL = ("69", "38")


class RunningClock:
    """Starts at NOW and runs."""

    def __init__(self) -> None:
        self.ahead = 0.0
        self._began = time.monotonic()

    def now(self) -> datetime:
        return datetime.fromtimestamp(NOW + self.ahead + time.monotonic() - self._began, UTC)


class CountedIds:
    def __init__(self) -> None:
        self._numbers = itertools.count(1)

    def uuid(self) -> str:
        return f"00000000-0000-7000-8000-{next(self._numbers):012d}"


class FakeBus:
    """Two streams in lists; ``wipe`` loses them, as a restarted Redis does."""

    def __init__(self) -> None:
        self.streams: dict[str, list[Entry]] = {PLACES_STREAM: [], REQUESTS_STREAM: []}
        self.era: str | None = "first"
        self.complete = True
        self.away = False
        self.held = asyncio.Event()
        self.held.set()
        self._numbers = itertools.count(1)

    def add(self, stream: str, **fields: str) -> None:
        entry = Entry(stream, f"{next(self._numbers)}-0", {k.encode(): v.encode() for k, v in fields.items()})
        self.streams[stream].append(entry)

    def publish(self, announcements: Sequence[Announcement]) -> None:
        for a in announcements:
            if a.stream == "places":
                self.add(PLACES_STREAM, territory=a.territory, kind=a.type, data=a.data)
            elif a.stream == "requests":
                self.add(REQUESTS_STREAM, territory=a.territory, type=a.type, request=a.aggregate, data=a.data)

    def wipe(self, era: str | None) -> None:
        self.streams = {PLACES_STREAM: [], REQUESTS_STREAM: []}
        self.era = era

    def _check(self) -> None:
        if self.away:
            raise UnavailableError("Redis ne répond pas.")

    async def epoch(self) -> str | None:
        self._check()
        return self.era

    async def tails(self, streams: Iterable[str]) -> dict[str, str]:
        return {name: self.streams[name][-1].id if self.streams[name] else "0-0" for name in streams}

    async def has_all_since(self, stream: str, after: str) -> bool:
        return self.complete

    async def read(self, positions: Mapping[str, str], block_ms: int, count: int = 500) -> list[Entry]:
        for _ in range(max(1, block_ms // 2)):
            self._check()
            await self.held.wait()
            found = [
                entry
                for stream, after in positions.items()
                for entry in self.streams[stream]
                if entry_order(entry.id) > entry_order(after)
            ]
            if found:
                return found[:count]
            await asyncio.sleep(0.002)
        return []


class FakeLedger:
    """Slots and requests in dicts. One claim is one transaction; ``gate`` holds claims back, ``rivals`` take seats."""

    def __init__(self, bus: FakeBus, clock: RunningClock) -> None:
        self.bus, self.clock = bus, clock
        self.slots: dict[int, dict[str, Any]] = {}
        self.requests: dict[str, dict[str, Any]] = {}
        self.fences = dict.fromkeys(ALL, 1)
        self.rules: dict[str, dict[str, Any]] = {}
        self.gate = asyncio.Event()
        self.gate.set()
        self.loading = asyncio.Event()
        self.loading.set()
        self.rivals: set[int] = set()
        self.batches: list[list[str]] = []
        self.told: list[str] = []
        self.decisions: dict[str, dict[str, Any]] = {}
        self.failures = 0
        self.failing: set[int] = set()  # the numbers of claims that fail
        self.leases_taken = 0
        self.asked = 0
        self.dropped: list[str] = []
        self.moved: dict[str, int] = {}
        self.left_to_others: list[str] = []
        self._versions = itertools.count(1)
        self.limit_rows: list[tuple[str, str]] = []
        self.untold: list[Announcement] = []

    async def leftovers(self, before: datetime, limit: int) -> list[Announcement]:
        return [a for a in self.untold if a.at < before][:limit]

    async def limits(self, now: datetime) -> list[tuple[str, str]]:
        return self.limit_rows

    # -- what the world does

    def announce(self, *rows: tuple[str, str, str, Any]) -> list[Announcement]:
        now = self.clock.now()
        announced = [
            Announcement(0, now, "69", stream, kind, aggregate, 0, "", (), orjson.dumps(data).decode())
            for stream, kind, aggregate, data in rows
        ]
        self.bus.publish(announced)
        return announced

    def publish_place(self, slot_id: int, minutes: float = 60, *, quiet: bool = False, **fields: Any) -> None:
        start = datetime.fromtimestamp(int(NOW + 60 * minutes), UTC)
        record = {
            "slot_id": slot_id, "territory": "69", "professional": f"99{slot_id:09d}", "professional_name": "Dr Fictif",
            "structure": None, "structure_name": None, "source_kind": "liberal", "lat": LYON[0], "lon": LYON[1],
            "insee": "69123", "label": "Cabinet", "phone": None, "source": "agenda", "offers": ["pmr"], "capacity": 1,
            "specialty": None,
            "profession": "MG", "mode": "cabinet", "booking_kind": "routine", "landmass": 1,
            "version": next(self._versions), "start": start.isoformat(),
            "end": (start + timedelta(minutes=15)).isoformat(), **fields,
        }  # fmt: skip
        self.slots[slot_id] = {**record, "taken": self.slots.get(slot_id, {}).get("taken", 0)}
        if not quiet:
            self.announce(("places", "published", "", [[record, self.left(slot_id)]]))

    def withdraw(self, slot_id: int) -> None:
        del self.slots[slot_id]
        self.announce(("places", "gone", "", [[slot_id, next(self._versions)]]))

    def free(self, slot_id: int) -> None:
        self.slots[slot_id]["taken"] -= 1
        self.announce(self.state(slot_id))

    def state(self, slot_id: int) -> tuple[str, str, str, Any]:
        return ("places", "state", "", [[slot_id, self.left(slot_id), next(self._versions)]])

    def left(self, slot_id: int) -> int:
        slot = self.slots[slot_id]
        return int(slot["capacity"] - slot["taken"])

    def ask(self, name: str, *, quiet: bool = False, minutes: float = 240, **fields: Any) -> None:
        now = self.clock.now()
        self.requests[name] = {
            "request_id": name, "territory": "69", "status": "waiting", "version": 1, "tier": "T1", "lat": LYON[0],
            "lon": LYON[1], "insee": "69123", "profession": "MG", "specialty": None, "modes": ["cabinet"],
            "created_at": now.isoformat(), "deadline": (now + timedelta(minutes=minutes)).isoformat(),
            "radius_km": 30.0, "needs": [], "age_band": None, "mt": None, "excluded": [], "promise": None, **fields,
        }  # fmt: skip
        if not quiet:
            self.announce(("requests", "open", name, self.requests[name]))

    def decline(self, name: str) -> None:
        """Give the held place back for good."""
        document = self.requests[name]
        slot_id = document.pop("slot_id")
        self.slots[slot_id]["taken"] -= 1
        document |= {"status": "waiting", "version": document["version"] + 1}
        document["excluded"] = [*document["excluded"], f"s{slot_id}"]
        self.announce(("requests", "open", name, document), self.state(slot_id))

    def close(self, name: str) -> None:
        self.requests[name]["status"] = "cancelled"
        self.announce(("requests", "closed", name, ""))

    def held(self, name: str) -> int | None:
        return self.requests[name].get("slot_id")

    # -- what the matcher asks

    async def claim(
        self, now: datetime, fences: Mapping[str, int], claims: Sequence[Claim]
    ) -> tuple[list[str], list[Announcement]]:
        self.batches.append([claim.request_id for claim in claims])
        await self.gate.wait()
        if self.failures or len(self.batches) in self.failing:
            self.failures = max(0, self.failures - 1)
            raise UnavailableError("PostgreSQL ne répond pas.")
        if any(self.fences.get(territory) != fence for territory, fence in fences.items()):
            raise FencedError("Bail perdu.")
        verdicts, rows = [], []
        for claim in claims:
            document = self.requests[claim.request_id]
            slot_id = claim.slot_id
            if document["status"] != "waiting":
                verdicts.append("not_waiting")
                continue
            if slot_id is None:
                document["version"] += 1
                self.told.append(claim.request_id)
                verdicts.append("told")
            elif slot_id not in self.slots:
                verdicts.append("seat_lost")
                rows.append(("places", "gone", "", [[slot_id, next(self._versions)]]))
                continue
            elif slot_id in self.rivals or self.left(slot_id) == 0:
                if slot_id in self.rivals:
                    self.rivals.discard(slot_id)
                    self.slots[slot_id]["taken"] += 1
                verdicts.append("seat_lost")
                rows.append(self.state(slot_id))
                continue
            else:
                document |= {"status": "held", "version": document["version"] + 1, "slot_id": slot_id}
                self.slots[slot_id]["taken"] += 1
                rows.append(self.state(slot_id))
                verdicts.append("held")
            self.decisions[claim.request_id] = orjson.loads(claim.decision)
        return verdicts, self.announce(*rows)

    async def live_places(self, now: datetime, territories: Sequence[str] | None) -> AsyncIterator[PlacesPage]:
        page = PlacesPage.of(
            (
                (
                    slot["slot_id"],
                    *(int(datetime.fromisoformat(slot[n]).timestamp()) for n in ("start", "end")),
                    *(self.left(slot["slot_id"]), slot["capacity"], slot["landmass"], slot["version"], 0),
                ),
                tuple(slot[name] for name in SITE_FIELDS),
                (
                    tuple(slot["offers"]),
                    *(slot[n] for n in ("specialty", "profession", "mode", "booking_kind", "source")),
                ),
            )
            for slot in self.slots.values()
        )
        await self.loading.wait()
        yield PlacesPage(page.sites, page.kinds, page.places[:0])
        for first in range(0, len(page.places), 3):
            yield PlacesPage((), (), page.places[first : first + 3])

    async def waiting_requests(self, now: datetime, territories: Sequence[str]) -> list[str]:
        self.asked += 1
        return [
            orjson.dumps(document).decode()
            for document in self.requests.values()
            if document["status"] == "waiting" and document["territory"] in territories
        ]

    async def settings(self) -> dict[str, dict[str, Any]]:
        return {territory: {**DEFAULT_SETTING, **rules} for territory, rules in self.rules.items()}

    async def take_leases(self, holder: str, territories: Sequence[str], seconds: float) -> dict[str, int]:
        self.leases_taken += 1
        return {name: self.fences[name] for name in territories if name in self.fences}

    async def drop_leases(self, holder: str) -> None:
        self.dropped.append(holder)

    async def matched_territories(self) -> list[str]:
        return sorted(self.fences)

    async def shares(self) -> dict[str, int]:
        return dict(self.moved)

    async def leave_territories(self, holder: str, territories: Sequence[str]) -> None:
        self.left_to_others += territories


class LateSolver:
    """A solver process that never answers in time."""

    def __init__(self) -> None:
        self.asked = 0

    async def solve(self, problem: Problem, seconds: float) -> Plan:
        self.asked += 1
        await asyncio.sleep(0)
        raise SolveTimeoutError

    async def plan(self, key: str, planner: Planner, task: Task) -> list[FieldPlan]:
        raise PlanLateError(key)

    async def search(self, problem: Problem, seconds: float) -> Plan:
        raise SolveTimeoutError


class OtherProcess(LateSolver):
    """A solver process that answers."""

    async def solve(self, problem: Problem, seconds: float) -> Plan:
        self.asked += 1
        await asyncio.sleep(0.01)
        return solve(problem)


class Counts:
    """A watch that keeps what it was told."""

    def __init__(self) -> None:
        self.batches: list[tuple[int, int, str, int]] = []
        self.late_ones: list[str] = []
        self.verdicts: list[str] = []
        self.states: list[tuple[int, int]] = []

    def late(self, what: str) -> None:
        self.late_ones.append(what)

    def batch(self, size: int, arcs: int, seconds: float, method: str, gap: int) -> None:
        assert seconds >= 0
        self.batches.append((size, arcs, method, gap))

    def decided(self, request: OpenRequest, verdict: str, seconds: float) -> None:
        assert seconds >= 0
        self.verdicts.append(verdict)

    def state(self, places: int, waiting: int) -> None:
        self.states.append((places, waiting))


class Journal:
    """Keeps what is told of batches."""

    def __init__(self) -> None:
        self.batches: list[dict[str, Any]] = []

    def announce(self, announcements: Sequence[Announcement]) -> None:
        self.batches += [orjson.loads(a.data) for a in announcements if a.stream == "batches"]


class Stage:
    """A matcher among its fakes."""

    def __init__(self) -> None:
        self.journal = Journal()
        self.clock, self.bus = RunningClock(), FakeBus()
        self.ledger = FakeLedger(self.bus, self.clock)
        self.watch = Counts()
        self.matcher = self.new_matcher()

    def new_matcher(self, solver: LateSolver | None = None) -> Matcher:
        return Matcher(
            ledger=cast(Ledger, self.ledger),
            bus=cast(Bus, self.bus),
            clock=self.clock,
            ids=CountedIds(),
            holder="test",
            territories=ALL,
            zone_of=lambda territory: ZoneInfo("Europe/Paris"),
            landmass_of=lambda insee: 1,
            solver=solver,
            watch=self.watch,
            journal=self.journal,
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[FakeLedger]:
        work = asyncio.create_task(self.matcher.run())
        ready = asyncio.create_task(self.matcher.ready.wait())
        await asyncio.wait((work, ready), timeout=5, return_when=asyncio.FIRST_COMPLETED)
        assert ready.done(), work
        yield self.ledger
        assert not work.done(), work  # nothing that happened may end it
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)


@pytest.fixture
async def stage() -> Stage:
    return Stage()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - conditions are about the fakes, which set no events
            await asyncio.sleep(0.002)


async def settled() -> None:
    """Long enough for anything under way."""
    await asyncio.sleep(0.05)


# -- batches and losers ------------------------------------------------------------------------------------------


async def test_requests_that_come_while_a_batch_is_claimed_form_the_next_one(stage: Stage) -> None:
    async with stage.running() as ledger:
        for slot_id in range(1, 10):
            ledger.publish_place(slot_id)
        await until(lambda: len(stage.matcher.market) == 9)
        ledger.gate.clear()
        ledger.ask("first")
        await until(lambda: ledger.batches == [["first"]])
        for n in range(5):
            ledger.ask(f"r{n}")
        await until(lambda: len(stage.matcher.known.open.new) == 5)
        assert len(ledger.batches) == 1
        ledger.gate.set()
        await until(lambda: all(d["status"] == "held" for d in ledger.requests.values()))
        assert [sorted(batch) for batch in ledger.batches] == [["first"], [f"r{n}" for n in range(5)]]
        assert len({ledger.held(name) for name in ledger.requests}) == 6
        assert stage.watch.batches[0][0] == 1 and stage.watch.batches[1][0] == 5
        assert stage.watch.batches[1][2:] == ("flow", 0) and stage.watch.verdicts == ["held"] * 6


async def test_order_of_arrival_within_a_batch_does_not_matter() -> None:
    results = []
    names = [(f"r{n}", f"T{n % 4}") for n in range(12)]
    for order in (names, names[::-1]):
        stage = Stage()
        for slot_id in range(1, 9):
            stage.ledger.publish_place(slot_id, 20 + 10 * (slot_id % 3), quiet=True)
        created = stage.clock.now().isoformat()
        for name, tier in order:
            stage.ledger.ask(name, quiet=True, tier=tier, created_at=created)
        async with stage.running() as ledger:
            await until(lambda ledger=ledger: len(ledger.decisions) == 12)  # type: ignore[misc]
            results.append({name: ledger.held(name) for name, _ in names})
            assert len(ledger.batches) == 1
    assert results[0] == results[1]
    assert sum(slot is None for slot in results[0].values()) == 4


def a_crowd(stage: Stage, places: int) -> None:
    """Forty requests, the last who called the most urgent, and some places."""
    for slot_id in range(1, places + 1):
        stage.ledger.publish_place(slot_id, 20 + slot_id, quiet=True)
    for n in range(40):
        stage.ledger.ask(f"r{n:02d}", quiet=True, tier=f"T{3 - n // 10}", created_at=stage.clock.now().isoformat())


async def test_a_crowd_is_decided_as_a_whole_and_claimed_in_parts_the_most_urgent_first(stage: Stage) -> None:
    a_crowd(stage, places=30)
    async with stage.running() as ledger:
        await until(lambda: len(ledger.decisions) == 40)
        assert [len(part) for part in ledger.batches] == [16, 16, 8]
        assert [(size, gap) for size, _, _, gap in stage.watch.batches] == [(40, 0)]
        tiers = [ledger.requests[name]["tier"] for part in ledger.batches for name in part]
        assert tiers == sorted(tiers)
        without = {name for name in ledger.requests if ledger.held(name) is None}
        assert without == {f"r{n:02d}" for n in range(10)}, "the least urgent, though they called first"
        # and it is told as one
        (told,) = stage.journal.batches
        assert len(told["asked"]) == 40
        assert sorted(name for name, _, _, _ in told["requests"]) == sorted(ledger.requests)


async def test_a_part_that_cannot_be_claimed_goes_round_again_and_what_was_claimed_stands(stage: Stage) -> None:
    a_crowd(stage, places=40)
    stage.ledger.failing = {2}
    async with stage.running() as ledger:
        await until(lambda: all(ledger.held(name) for name in ledger.requests))
        times = Counter(name for part in ledger.batches for name in part)
        assert {times[name] for name in ledger.batches[0]} == {1}
        assert {times[name] for name in ledger.batches[1]} == {2}
        assert len(set(map(ledger.held, ledger.requests))) == 40
        # whoever records hears that the others had nothing of that plan
        first, *_ = stage.journal.batches
        assert Counter(verdict for _, _, verdict, _ in first["requests"]) == {"held": 16, "seat_lost": 24}
        assert len(first["asked"]) == 40


async def test_who_loses_a_seat_gets_another(stage: Stage) -> None:
    stage.ledger.publish_place(1, 10, quiet=True)
    stage.ledger.publish_place(2, 20, quiet=True)
    stage.ledger.rivals = {1}
    async with stage.running() as ledger:
        ledger.ask("r")
        await until(lambda: ledger.held("r") == 2)
        assert ledger.batches == [["r"], ["r"]] and stage.watch.verdicts == ["seat_lost", "held"]


async def test_a_seat_lost_again_and_again_waits_for_a_change(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ledger that refuses for a reason that memory does not know must not be asked in a circle."""
    monkeypatch.setattr(stage.ledger, "left", lambda slot_id: 1)
    stage.ledger.publish_place(1, quiet=True)
    real = stage.ledger.claim

    async def always_lost(*args: Any) -> tuple[list[str], list[Announcement]]:
        stage.ledger.rivals = {1}
        return await real(*args)

    monkeypatch.setattr(stage.ledger, "claim", always_lost)
    async with stage.running() as ledger:
        ledger.ask("r")
        await until(lambda: len(ledger.batches) == open_requests.LOSSES)
        await settled()
        assert len(ledger.batches) == open_requests.LOSSES
        monkeypatch.setattr(ledger, "claim", real)
        ledger.rivals = set()
        ledger.publish_place(2, 5)
        await until(lambda: ledger.held("r") == 2)


async def test_the_batch_limit_keeps_the_most_urgent(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_requests, "BATCH", 3)
    for n, tier in enumerate(("T3", "T2", "T0", "T1", "T3", "T0")):
        stage.ledger.ask(f"{tier}-{n}", quiet=True, tier=tier)
    async with stage.running() as ledger:
        await until(lambda: len(ledger.told) == 6)
        assert [sorted(batch) for batch in ledger.batches] == [["T0-2", "T0-5", "T1-3"], ["T2-1", "T3-0", "T3-4"]]


def test_a_crisis_in_one_territory_does_not_make_the_others_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Territories take turns within a tier, each by age; tiers still come first."""
    monkeypatch.setattr(open_requests, "BATCH", 5)
    waiting = open_requests.OpenRequests(asyncio.Event())
    for number in range(20):
        waiting.add(request(f"crisis{number}", tier=Tier.T2, created_at=NOW - 100 + number))
    waiting.add(request("urgent", tier=Tier.T1, created_at=NOW))
    for number in range(2):
        waiting.add(request(f"calm{number}", territory="38", tier=Tier.T2, created_at=NOW + number))
    taken = [r.id for r in waiting.next_batch(ALL, ())]
    assert taken == ["urgent", "crisis0", "calm0", "crisis1", "calm1"]
    assert [r.id for r in waiting.next_batch(ALL, ())] == [f"crisis{n}" for n in range(2, 7)]


async def test_a_request_past_its_deadline_is_dropped_and_does_not_hold_up_others(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_requests, "BATCH", 2)
    for n in range(4):
        stage.ledger.ask(f"late{n}", quiet=True, tier="T0", minutes=-1)
    stage.ledger.ask("r", quiet=True)
    async with stage.running() as ledger:
        await until(lambda: ledger.told == ["r"])
        assert ledger.batches == [["r"]]


# -- no place, and what changes that -----------------------------------------------------------------------------


async def test_none_is_told_once_and_not_at_every_change(stage: Stage) -> None:
    async with stage.running() as ledger:
        ledger.ask("r", needs=["pmr"])
        await until(lambda: ledger.told == ["r"])
        assert ledger.decisions["r"]["none"]["reason"] == "NO_SLOT_FOR_PROFESSION"
        for slot_id in range(1, 5):
            ledger.publish_place(slot_id, offers=[])
        await settled()
        assert ledger.told == ["r"] and len(ledger.batches) == 1
        ledger.publish_place(9)
        await until(lambda: ledger.held("r") == 9)


@pytest.mark.parametrize("event", ["published", "freed", "capacity"])
async def test_whoever_has_no_place_is_retried_when_one_may_help(stage: Stage, event: str) -> None:
    stage.ledger.publish_place(1, quiet=True)
    stage.ledger.slots[1]["taken"] = 1
    async with stage.running() as ledger:
        ledger.ask("r")
        await until(lambda: ledger.told == ["r"])
        assert ledger.decisions["r"]["none"]["reason"] == "ALL_TAKEN"
        if event == "published":
            ledger.publish_place(2)
        elif event == "freed":
            ledger.free(1)
        else:
            ledger.publish_place(1, capacity=2)
        await until(lambda: ledger.held("r") == (2 if event == "published" else 1))


@pytest.mark.parametrize("event", ["published", "freed"])
async def test_a_place_freed_while_none_is_being_told_is_not_missed(stage: Stage, event: str) -> None:
    stage.ledger.publish_place(1, quiet=True)
    stage.ledger.slots[1]["taken"] = 1
    async with stage.running() as ledger:
        ledger.gate.clear()
        ledger.ask("r")
        await until(lambda: ledger.batches == [["r"]])
        if event == "published":
            ledger.publish_place(2)
            await until(lambda: 2 in stage.matcher.market)
        else:
            ledger.free(1)
            await until(lambda: stage.matcher.market.left_of(1) == 1)
        ledger.gate.set()
        await until(lambda: ledger.held("r") is not None)


async def test_only_places_that_might_help_wake(stage: Stage) -> None:
    async with stage.running() as ledger:
        ledger.ask("r", minutes=60)
        await until(lambda: ledger.told == ["r"])
        useless: list[dict[str, Any]] = [{"profession": "PED"}, {"mode": "tele"}, {"lat": 47.0}, {"minutes": 70}]
        for slot_id, fields in enumerate(useless):
            ledger.publish_place(slot_id, **fields)
        await until(lambda: len(stage.matcher.market) == 4)
        await settled()
        assert stage.watch.batches == [(1, 0, "single", 0)]


async def test_a_tele_place_wakes_at_any_distance(stage: Stage) -> None:
    async with stage.running() as ledger:
        ledger.ask("r", modes=["tele"])
        await until(lambda: ledger.told == ["r"])
        ledger.publish_place(1, mode="tele", lat=-21.0, lon=55.5, landmass=9)
        await until(lambda: ledger.held("r") == 1)


# -- decline, close ----------------------------------------------------------------------------------------------


async def test_a_declined_place_never_comes_back(stage: Stage) -> None:
    for slot_id in (1, 2):
        stage.ledger.publish_place(slot_id, 10 * slot_id, quiet=True)
    async with stage.running() as ledger:
        ledger.ask("r")
        await until(lambda: ledger.held("r") == 1)
        ledger.decline("r")
        await until(lambda: ledger.held("r") == 2)
        ledger.decline("r")
        await until(lambda: ledger.told == ["r"])
        assert ledger.decisions["r"]["none"]["reason"] == "ALL_TAKEN"
        assert "déclinées" in ledger.decisions["r"]["sentence"]
        ledger.ask("s")
        await until(lambda: ledger.held("s") == 1)


async def test_a_closed_request_is_forgotten(stage: Stage) -> None:
    async with stage.running() as ledger:
        ledger.ask("r")
        await until(lambda: ledger.told == ["r"])
        ledger.close("r")
        await until(lambda: not stage.matcher.known.open.waiting)
        ledger.publish_place(1)
        await settled()
        assert ledger.batches == [["r"]] and not stage.matcher.known.open.waiting and not stage.matcher.known.open.told


async def test_a_request_closed_while_it_is_decided_is_forgotten(stage: Stage) -> None:
    async with stage.running() as ledger:
        ledger.ask("r")
        await until(lambda: ledger.told == ["r"])
        ledger.gate.clear()
        ledger.ask("s")
        await until(lambda: len(ledger.batches) == 2)
        ledger.announce(("requests", "closed", "s", ""))
        await until(lambda: not stage.matcher.known.open.batch)
        ledger.gate.set()
        await until(lambda: "s" in ledger.told)
        assert set(stage.matcher.known.open.waiting) == stage.matcher.known.open.told == {"r"}


async def test_a_request_changed_while_it_is_decided_is_decided_as_it_is_now(stage: Stage) -> None:
    async with stage.running() as ledger:
        ledger.gate.clear()
        ledger.ask("r")
        await until(lambda: len(ledger.batches) == 1)
        ledger.requests["r"] |= {"version": 5, "modes": ["tele"]}
        ledger.announce(("requests", "open", "r", ledger.requests["r"]))
        await until(lambda: "r" in stage.matcher.known.open.new)
        ledger.gate.set()
        await until(lambda: len(ledger.told) == 2)
        assert stage.matcher.known.open.waiting["r"].modes == ("tele",)
        ledger.publish_place(1, mode="tele")
        await until(lambda: ledger.held("r") == 1)


async def test_requests_of_other_territories_are_not_ours(stage: Stage) -> None:
    del stage.ledger.fences["38"]
    async with stage.running() as ledger:
        ledger.bus.add(REQUESTS_STREAM, territory="38", type="open", request="x", data="{}")
        ledger.ask("r")
        await until(lambda: ledger.told == ["r"])
        assert ledger.batches == [["r"]]


# -- what vanishes under a batch -----------------------------------------------------------------------------------


class Withdrawing(OtherProcess):
    """While it solves, a practice withdraws the cheapest place."""

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self._stage = stage

    async def solve(self, problem: Problem, seconds: float) -> Plan:
        if self.asked == 0:
            self._stage.ledger.withdraw(1)
            await until(lambda: 1 not in self._stage.matcher.market)
        return await super().solve(problem, seconds)


async def test_a_place_withdrawn_while_the_batch_is_solved_goes_to_nobody(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deciding, "INLINE_ARCS", 0)
    stage.matcher = stage.new_matcher(Withdrawing(stage))
    for slot_id in range(1, 5):
        stage.ledger.publish_place(slot_id, 10 * slot_id, quiet=True)
    for name in ("a", "b"):
        stage.ledger.ask(name, quiet=True)
    async with stage.running() as ledger:
        await until(lambda: sorted((ledger.held("a") or 0, ledger.held("b") or 0)) == [2, 3])


async def test_a_place_withdrawn_unheard_is_lost_and_forgotten(stage: Stage) -> None:
    for slot_id in (1, 2):
        stage.ledger.publish_place(slot_id, 10 * slot_id, quiet=True)
    async with stage.running() as ledger:
        del ledger.slots[1]
        ledger.ask("r")
        await until(lambda: ledger.held("r") == 2)
        assert 1 not in stage.matcher.market


# -- the solver ----------------------------------------------------------------------------------------------------


async def test_a_late_solver_means_tier_greedy_and_says_so(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deciding, "INLINE_ARCS", 0)
    solver = LateSolver()
    stage.matcher = stage.new_matcher(solver)
    stage.ledger.publish_place(1, 10, quiet=True)
    stage.ledger.publish_place(2, 20, quiet=True)
    for tier in ("T2", "T0", "T1"):
        stage.ledger.ask(tier, quiet=True, tier=tier)
    async with stage.running() as ledger:
        await until(lambda: len(ledger.decisions) == 3)
        assert {name: ledger.held(name) for name in ledger.requests} == {"T0": 1, "T1": 2, "T2": None}
        assert {(d["method"], d["gap_min"]) for d in ledger.decisions.values()} == {("greedy", None)}
        assert solver.asked == 1 and stage.watch.batches[0][2:] == ("greedy", -1)
        assert stage.watch.late_ones == ["solve"]


async def test_a_batch_out_of_time_keeps_what_it_has_and_says_what_that_may_miss(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deciding, "DECIDE_S", 0.0)
    for slot_id in range(1, 101):
        stage.ledger.publish_place(slot_id, 20 + slot_id, quiet=True)
    for n in range(60):
        stage.ledger.ask(f"r{n}", quiet=True)
    async with stage.running() as ledger:
        await until(lambda: len(ledger.decisions) == 60)
        assert len({ledger.held(name) for name in ledger.requests}) == 60  # 32 places were listed
        assert {(d["method"], d["gap_min"] > 0) for d in ledger.decisions.values()} == {("flow", True)}


async def test_large_problems_are_solved_elsewhere_and_small_ones_here(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deciding, "INLINE_ARCS", 4)
    solver = OtherProcess()
    stage.matcher = stage.new_matcher(solver)
    for slot_id in range(1, 4):
        stage.ledger.publish_place(slot_id, 10 * slot_id, quiet=True)
    async with stage.running() as ledger:
        ledger.ask("alone")
        await until(lambda: ledger.held("alone") is not None)
        assert solver.asked == 0
        ledger.gate.clear()
        ledger.ask("first", profession="PED")
        await until(lambda: len(ledger.batches) == 2)
        for name in "abc":
            ledger.ask(name)
        await until(lambda: len(stage.matcher.known.open.new) == 3)
        ledger.gate.set()
        await until(lambda: len(ledger.decisions) == 5)
        assert solver.asked == 1 and ledger.decisions["a"]["method"] == "flow"
        ledger.gate.clear()
        ledger.ask("second", profession="PED")
        await until(lambda: ledger.batches[-1] == ["second"])
        for name in "de":
            ledger.ask(name, profession="PED")
        await until(lambda: len(stage.matcher.known.open.new) == 2)
        ledger.gate.set()
        await until(lambda: len(ledger.decisions) == 8)
        assert ledger.decisions["d"]["batch_size"] == 2 and solver.asked == 1


# -- stores that fail ------------------------------------------------------------------------------------------------


async def test_a_ledger_that_is_away_is_asked_again(stage: Stage) -> None:
    stage.ledger.publish_place(1, quiet=True)
    stage.ledger.failures = 2
    async with stage.running() as ledger:
        ledger.ask("r")
        await until(lambda: ledger.held("r") == 1)
        assert ledger.batches == [["r"]] * 3


async def test_deciding_goes_on_from_the_ledger_while_redis_is_away(stage: Stage) -> None:
    stage.ledger.publish_place(1, quiet=True)
    async with stage.running() as ledger:
        stage.bus.away = True
        ledger.ask("r", quiet=True)
        await until(lambda: ledger.held("r") == 1)
        stage.bus.away = False
        ledger.ask("s")
        await until(lambda: "s" in ledger.told)


async def test_none_is_not_told_again_when_the_request_is_read_again(stage: Stage) -> None:
    async with stage.running() as ledger:
        ledger.ask("r")
        await until(lambda: ledger.told == ["r"])
        stage.bus.away = True
        asked = ledger.asked
        await until(lambda: ledger.asked > asked + 1)
        await settled()
        assert ledger.told == ["r"] and len(ledger.batches) == 1


async def test_a_request_read_again_while_it_is_decided_is_decided_once(stage: Stage) -> None:
    async with stage.running() as ledger:
        ledger.gate.clear()
        ledger.ask("r")
        await until(lambda: ledger.batches == [["r"]])
        stage.bus.away = True  # the open requests are read from the ledger now, over and over
        asked = ledger.asked
        await until(lambda: ledger.asked > asked + 1)
        stage.bus.away = False
        ledger.gate.set()
        await until(lambda: ledger.told == ["r"])
        await settled()
        assert len(stage.watch.batches) == 1


async def test_whoever_is_fenced_off_stops_and_takes_its_leases_again_at_once(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(match, "RENEW_S", 60)
    stage.ledger.publish_place(1, quiet=True)
    async with stage.running() as ledger:
        taken = ledger.leases_taken
        ledger.fences = {"69": 7}
        ledger.ask("r")
        await until(lambda: ledger.held("r") == 1)
        assert ledger.leases_taken == taken + 1 and ledger.batches == [["r"], ["r"]]


async def test_a_fenced_matcher_without_leases_decides_nothing(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(match, "RENEW_S", 0.02)
    stage.ledger.publish_place(1, quiet=True)
    async with stage.running() as ledger:
        ledger.fences = {}
        ledger.ask("r")
        await until(lambda: ledger.batches == [["r"]])
        await settled()
        ledger.ask("s")
        await settled()
        assert ledger.batches == [["r"]] and ledger.held("r") is None
        ledger.fences = {"69": 8, "38": 8}
        await until(lambda: ledger.held("r") is not None or ledger.held("s") is not None)


async def test_a_territory_that_went_to_another_matcher_is_left_alone(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(match, "RENEW_S", 0.02)
    async with stage.running() as ledger:
        ledger.ask("r")
        await until(lambda: ledger.told == ["r"])
        ledger.fences = {"38": 1}
        await until(lambda: set(stage.matcher.known.fences) == {"38"})
        ledger.publish_place(1)
        await until(lambda: 1 in stage.matcher.market)
        await settled()
        assert ledger.batches == [["r"]]
        ledger.fences["69"] = 2
        await until(lambda: ledger.held("r") == 1)


async def test_leases_are_given_back_at_the_end(stage: Stage) -> None:
    async with stage.running() as ledger:
        before = len(ledger.dropped)
    assert ledger.dropped[before:] == ["test"] and not stage.matcher.ready.is_set()


# -- what nobody foresaw -----------------------------------------------------------------------------------------------


@pytest.mark.faults("matcher.news")
async def test_news_that_cannot_be_read_does_not_end_the_matcher(stage: Stage) -> None:
    """An entry of another version of this service: those after it are taken in, whatever stream it was on."""
    async with stage.running() as ledger:
        stage.bus.add(REQUESTS_STREAM, territory="69", type="arrival", request="x", data='{"request_id": "x"}')
        stage.bus.add(PLACES_STREAM, territory="69", kind="published", data='[[{"slot_id": 7}, 1]]')
        stage.bus.add(PLACES_STREAM, territory="69")
        ledger.publish_place(1)
        ledger.ask("r")
        await until(lambda: ledger.held("r") == 1)


@pytest.mark.faults("matcher.news")
async def test_a_place_whose_news_cannot_be_read_is_learned_from_the_ledger(stage: Stage) -> None:
    async with stage.running() as ledger:
        ledger.publish_place(1, quiet=True)
        stage.bus.add(PLACES_STREAM, territory="69", kind="published", data='[["?"]]')
        await until(lambda: 1 in stage.matcher.market)


@pytest.mark.faults("matcher.follow")
async def test_a_bus_that_fails_in_a_new_way_is_read_again(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    async with stage.running() as ledger:
        real, failures = stage.bus.read, iter([True])

        async def read(*args: Any, **more: Any) -> list[Entry]:
            if next(failures, False):
                raise RuntimeError("unexpected")
            return await real(*args, **more)

        monkeypatch.setattr(stage.bus, "read", read)
        ledger.publish_place(1)
        ledger.ask("r")
        await until(lambda: ledger.held("r") == 1)


async def test_who_is_open_is_learned_from_the_ledger_while_announcements_stay_unpublished(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis answers who reads and refuses who writes: no error here, and no news."""
    monkeypatch.setattr(match, "RENEW_S", 0.02)
    async with stage.running() as ledger:
        ledger.publish_place(1)
        ledger.ask("r", quiet=True)
        await settled()
        assert ledger.held("r") is None, "nothing says that the streams are not complete"
        ledger.untold = [Announcement(1, stage.clock.now(), "69", "requests", "open", "r", 1, "", (), "")]
        await settled()
        assert ledger.held("r") is None, "its writer still has time to publish it"
        stage.clock.ahead += 5
        await until(lambda: ledger.held("r") == 1)


@pytest.mark.faults("matcher.request")
async def test_a_request_of_the_ledger_that_cannot_be_read_does_not_hide_the_others(stage: Stage) -> None:
    stage.ledger.publish_place(1, quiet=True)
    stage.ledger.ask("bad", quiet=True, tier="T9")
    stage.ledger.ask("good", quiet=True)
    async with stage.running() as ledger:
        await until(lambda: ledger.held("good") == 1)


@pytest.mark.faults("matcher.decide")
async def test_a_request_that_cannot_be_decided_does_not_hold_up_the_others(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of its batch is decided by itself then; it waits, and is tried again when places change."""
    real, broken = find_all_places, ["bad"]

    def find_all(market: Any, asked: Sequence[Asking], now: float) -> list[Candidates]:
        if any(one.request.id in broken for one in asked):
            raise RuntimeError("unexpected")
        return real(market, asked, now)

    monkeypatch.setattr(rounds, "find_all", find_all)
    monkeypatch.setattr(match, "AGAIN_S", 0.01)
    async with stage.running() as ledger:
        for slot_id in (1, 2):
            ledger.publish_place(slot_id, 30 + slot_id)
        async with stage.matcher.known.deciding:  # so that they form one batch
            for name in ("a", "bad", "b"):
                ledger.ask(name)
            await settled()
        await until(lambda: {ledger.held("a"), ledger.held("b")} == {1, 2})
        await until(lambda: "bad" in stage.matcher.known.open.waiting)
        broken.clear()
        ledger.publish_place(3, 50)
        await until(lambda: ledger.held("bad") == 3)


async def test_leases_are_renewed_while_the_desks_of_a_country_open(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Learning from earlier days may take longer than a lease lasts, at the start too."""
    monkeypatch.setattr(match, "RENEW_S", 0.02)
    taken: list[int] = []

    class Slow:
        def count(self, territory: str, before: date) -> int:
            began = stage.ledger.leases_taken
            time.sleep(0.2)
            taken.append(stage.ledger.leases_taken - began)
            return 0

    stage.matcher._holding._history = cast(History, Slow())
    async with stage.running():
        assert len(taken) == len(ALL) and min(taken) >= 2


@pytest.mark.faults("matcher.open_desk")
async def test_a_desk_that_cannot_be_opened_leaves_the_others_theirs(stage: Stage) -> None:
    class Broken:
        def count(self, territory: str, before: date) -> int:
            looked.append(territory)
            if territory == ALL[0]:
                raise RuntimeError("unexpected")
            return 0

    looked: list[str] = []
    stage.matcher._holding._history = cast(History, Broken())
    async with stage.running() as ledger:
        assert set(looked) == set(ALL)
        ledger.publish_place(1)
        ledger.ask("r")
        await until(lambda: ledger.held("r") == 1)


# -- reload ------------------------------------------------------------------------------------------------------------


async def test_after_a_wipe_memory_is_rebuilt_with_what_came_meanwhile(stage: Stage) -> None:
    for slot_id in (1, 2, 3):
        stage.ledger.publish_place(slot_id, 10 * slot_id, quiet=True)
    async with stage.running() as ledger:
        ledger.loading.clear()
        stage.bus.wipe(None)  # nobody has begun a new epoch yet: nothing to load for
        await asyncio.sleep(2 * following.EPOCH_S)
        assert stage.matcher._follower._reloading is None
        del ledger.slots[3]  # lost with the old streams: only the ledger knows
        stage.bus.wipe("second")
        await until(lambda: stage.matcher._follower._reloading is not None)
        # the snapshot is taken; these come after it, and are decided on all the while
        ledger.publish_place(4, 5)
        ledger.withdraw(1)
        ledger.slots[2]["taken"] = 1
        ledger.announce(ledger.state(2))
        ledger.ask("meanwhile")
        await until(lambda: ledger.held("meanwhile") == 4)
        ledger.loading.set()
        await until(lambda: stage.matcher._follower._reloading is None)
        market = stage.matcher.market
        assert [n for n in range(1, 6) if n in market] == [2, 4]
        assert (market.left_of(2), market.left_of(4)) == (0, 0)
        ledger.ask("after")
        await until(lambda: ledger.told == ["after"])


@pytest.mark.faults("matcher.reload")
async def test_a_reload_that_fails_is_begun_anew(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it fails of: else no wipe would be seen ever again, and all news kept for it."""
    monkeypatch.setattr(following, "RETRY_S", 0.02)
    async with stage.running() as ledger:
        real, failures = ledger.live_places, iter([RuntimeError("unexpected"), UnavailableError("PostgreSQL")])

        def live_places(now: datetime, territories: Sequence[str] | None) -> AsyncIterator[PlacesPage]:
            if failure := next(failures, None):
                raise failure
            return real(now, territories)

        monkeypatch.setattr(ledger, "live_places", live_places)
        ledger.publish_place(1, quiet=True)
        stage.bus.wipe("second")
        await until(lambda: 1 in stage.matcher.market)
        assert stage.matcher._follower._reloading is None
        ledger.publish_place(2)
        await until(lambda: 2 in stage.matcher.market)


async def test_who_waits_for_a_place_hears_of_one_that_came_while_nobody_told(stage: Stage) -> None:
    """Published while Redis was away, and its news wiped: only the ledger knows, when memory is rebuilt."""
    async with stage.running() as ledger:
        ledger.ask("r")
        await until(lambda: ledger.told == ["r"])
        ledger.publish_place(1, quiet=True)
        stage.bus.wipe("second")
        await until(lambda: ledger.held("r") == 1)


async def test_a_wipe_is_seen_though_the_clock_was_put_back(stage: Stage) -> None:
    async with stage.running() as ledger:
        await asyncio.sleep(2 * following.EPOCH_S)  # it has looked, by the clock as it was
        stage.clock.ahead -= 12 * 3600
        ledger.publish_place(1, 24 * 60, quiet=True)
        stage.bus.wipe("second")
        await until(lambda: 1 in stage.matcher.market)


async def test_a_territory_that_was_moved_is_left_to_its_new_matcher(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(match, "RENEW_S", 0.02)
    stage.matcher._holding._shares = Shares(ALL, 0, 2)
    stage.ledger.moved = dict.fromkeys(ALL, 0)
    async with stage.running() as ledger:
        ledger.ask("r")
        await until(lambda: ledger.told == ["r"])
        ledger.moved[ALL[0]] = 1
        await until(lambda: ledger.left_to_others == [ALL[0]])
        assert all(request.territory != ALL[0] for request in stage.matcher.known.open)


async def test_after_a_pause_that_outran_the_log_memory_is_rebuilt(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "EPOCH_S", 0.02)
    async with stage.running() as ledger:
        ledger.publish_place(1, quiet=True)  # this news was cut off the log
        stage.bus.complete = False
        ledger.ask("r")
        await until(lambda: ledger.told == ["r"])
        await settled()
        assert ledger.held("r") is None  # no pause, no question
        stage.clock.ahead += following.PAUSE_S + 1
        await until(lambda: 1 in stage.matcher.market)
        stage.bus.complete = True
        ledger.ask("s")
        await until(lambda: ledger.held("s") == 1 or ledger.held("r") == 1)


async def test_all_pages_of_places_are_loaded(stage: Stage) -> None:
    for slot_id in range(1, 9):
        stage.ledger.publish_place(slot_id, quiet=True)
    async with stage.running():
        assert all(slot_id in stage.matcher.market for slot_id in range(1, 9)) and len(stage.matcher.market) == 8


async def test_what_has_started_is_dropped_and_counted(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(match, "RENEW_S", 0.02)
    stage.ledger.publish_place(1, 1, quiet=True)
    stage.ledger.publish_place(2, 100, quiet=True)
    async with stage.running() as ledger:
        ledger.ask("r", profession="PED")
        await until(lambda: stage.watch.states[-1:] == [(2, 1)])
        stage.clock.ahead += 120
        await until(lambda: stage.watch.states[-1] == (1, 1))


async def test_settings_of_a_territory_are_followed(stage: Stage) -> None:
    stage.ledger.rules = {"69": {"mt_rule": "first", "hold_seconds": 33}}
    stage.ledger.publish_place(1, 10, quiet=True)
    stage.ledger.publish_place(2, 200, professional="MT", quiet=True)
    async with stage.running() as ledger:
        ledger.ask("r", mt="MT")
        await until(lambda: ledger.held("r") == 2)


async def test_what_a_territory_sets_is_in_force_as_soon_as_it_is_announced(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not only at the next look; and who waits for a place within the radius is looked at again."""
    monkeypatch.setattr(match, "RENEW_S", 600)
    stage.ledger.publish_place(1, 200, lat=LYON[0] + 0.36, quiet=True)  # 40 km
    async with stage.running() as ledger:
        ledger.ask("r")
        await until(lambda: ledger.told == ["r"])
        ledger.rules = {"69": {"radius_pct": 150}}
        ledger.announce(("requests", "settings", "settings:69", {}))
        await until(lambda: ledger.held("r") == 1)


async def test_a_place_kept_for_urgent_requests_is_everybodys_an_hour_before(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(match, "RENEW_S", 0.02)
    kept = next(n for n in range(1, 100) if lots(np.array([n]))[0] < 30)
    stage.ledger.rules = {"69": {"urgent_reserve_pct": 30}}
    stage.ledger.publish_place(kept, 90, quiet=True)
    async with stage.running() as ledger:
        ledger.ask("r", tier="T2")
        await until(lambda: ledger.told == ["r"])
        assert ledger.decisions["r"]["none"]["reason"] == "KEPT_FOR_URGENT"
        stage.clock.ahead = 31 * 60
        await until(lambda: ledger.held("r") == kept)


async def test_a_territory_that_changes_hands_is_loaded(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """What another matcher left open is taken over with the lease."""
    monkeypatch.setattr(match, "RENEW_S", 0.02)
    del stage.ledger.fences["38"]
    stage.ledger.publish_place(1, quiet=True)
    stage.ledger.ask("theirs", quiet=True, territory="38")
    async with stage.running() as ledger:
        await settled()
        assert ledger.batches == []
        ledger.fences["38"] = 3
        await until(lambda: ledger.held("theirs") == 1)


def waits_for_mt(stage: Stage, said: str = "asked", minutes: float = 3) -> dict[str, Any]:
    until = (stage.clock.now() + timedelta(minutes=minutes)).isoformat()
    return {"mt": "MT", "mt_first": {"said": said, "until": until}}


async def test_nothing_else_is_taken_while_the_medecin_traitant_has_time_to_answer(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(match, "RENEW_S", 0.02)
    stage.ledger.publish_place(1, 60, quiet=True)
    async with stage.running() as ledger:
        ledger.ask("r", **waits_for_mt(stage))
        ledger.ask("gone", **waits_for_mt(stage))
        ledger.ask("other", modes=["tele"])
        await until(lambda: ledger.told == ["other"])
        ledger.close("gone")
        await settled()
        assert ledger.held("r") is None
        assert len(stage.matcher.known.open) == 2
        stage.clock.ahead += 181
        await until(lambda: ledger.held("r") == 1)
        assert ledger.decisions["r"]["mt"]["said"] == "silent"
        assert ledger.held("gone") is None


async def test_a_no_of_the_medecin_traitant_ends_the_waiting(stage: Stage) -> None:
    stage.ledger.publish_place(1, 60, quiet=True)
    async with stage.running() as ledger:
        waits = waits_for_mt(stage)
        ledger.ask("r", **waits)
        ledger.ask("r", **{**waits_for_mt(stage, "refused", 0), "version": 2})
        await until(lambda: ledger.held("r") == 1)
        assert ledger.decisions["r"]["mt"]["said"] == "refused"


async def test_a_place_that_would_not_wait_is_taken_though_the_medecin_traitant_is_asked(stage: Stage) -> None:
    stage.ledger.publish_place(1, 4, lat=LYON[0], lon=LYON[1], quiet=True)  # the way takes three minutes
    async with stage.running() as ledger:
        ledger.ask("r", **waits_for_mt(stage))
        await until(lambda: ledger.held("r") == 1)
        assert ledger.decisions["r"]["mt"]["said"] == "not_waited"


@pytest.mark.parametrize("said", ["place", "too_short", "not_askable"])
async def test_who_is_not_asked_does_not_wait_and_the_decision_says_why(stage: Stage, said: str) -> None:
    stage.ledger.publish_place(1, 60, quiet=True)
    async with stage.running() as ledger:
        ledger.ask("r", mt="MT", mt_first={"said": said, "until": None})
        await until(lambda: ledger.held("r") == 1)
        assert ledger.decisions["r"]["mt"] == {"said": said, "sentence": MT_TEXT[said]}
