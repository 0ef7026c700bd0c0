"""A day log played through the real services in virtual time: what this policy would have done.

The world of the day log (practices, regulators, patients) acts on the ledger's twin in memory; the live matcher hears
of it, decides each instant's batch and claims, as in the live service. Solving takes no time, the regulator confirms at
once. A slot of a day log stands for itself, also where two of one professional overlap: the twin is told so
(``day_log=True``), the professional stays known (he may be somebody's médecin traitant).

Pure but for the stopwatch: same day, history, seed and policy give the same lines.
"""

import asyncio
import heapq
import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import groupby
from typing import Any, Final
from zoneinfo import ZoneInfo

import numpy as np
import orjson

from adapters.geo import Gazetteer
from adapters.memory import MemoryBus, MemoryLedger
from sas_matcher import __version__
from sas_matcher.domain.errors import InvalidInputError
from sas_matcher.domain.vocabulary import Tier
from sas_matcher.ports.ledger import Announcement, Idempotency, KeyRecord, Publisher, SettingChange
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
from sas_matcher.replay.history import KnownDays
from sas_matcher.replay.reasons import Reasons
from sas_matcher.replay.score import score
from sas_matcher.replay.terms import terms_of
from sas_matcher.services.matcher.deciding import Watch
from sas_matcher.services.matcher.match import Matcher

POLICIES: Final = ("fcfs-nearest", "official", "firm", "promise", "auto", "crisis")
"""Policies that the live matcher has."""

REGULATOR: Final = "regulation"
PRACTICE: Final = "practices"
_BATCH_PERCENTILES: Final = (50, 95)


class PolicyMissingError(InvalidInputError):
    """The live matcher does not have this policy, so that there is nothing to replay."""

    def __init__(self, policy: str) -> None:
        known = ", ".join(POLICIES)
        super().__init__(f"le service n'applique pas encore la politique « {policy} » ; rejouables : {known}")


def platform_radius_km(territory: str) -> float:
    """Return the circle that the national platform draws in a territory; 0 where it sets none, or knows none such."""
    known = Gazetteer.load().territories.get(territory)
    return 0.0 if known is None else known.default_radius_km


class CrisisError(InvalidInputError):
    """Only ``auto`` changes when a crisis is declared."""

    def __init__(self, policy: str) -> None:
        super().__init__(f"une crise déclarée ne change que la politique « auto », pas « {policy} »")


class VirtualClock:
    """Shows the instant that it is set to (epoch seconds)."""

    def __init__(self, instant: float) -> None:
        self.seconds = instant

    def now(self) -> datetime:
        """Return the instant, in UTC."""
        return utc(self.seconds)


class _CountedIds:
    """Ids in order: the same run gives the same."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)

    def uuid(self) -> str:
        return f"{next(self._numbers):012d}"


class Inbox:
    """A publisher that keeps what was announced until somebody looks."""

    def __init__(self) -> None:
        self._said: list[Announcement] = []

    def announce(self, announcements: Sequence[Announcement]) -> None:
        """Keep them."""
        self._said.extend(announcements)

    def take(self) -> list[Announcement]:
        """Return what was announced since the last look."""
        said, self._said = self._said, []
        return said


def utc(seconds: float) -> datetime:
    """Return epoch seconds as an instant."""
    return datetime.fromtimestamp(seconds, UTC)


class Replay:
    """One run of one day.

    Args:
        day: the day log.
        policy: one of ``POLICIES``.
        history: earlier days, to learn from; ``expected``: days drawn for want of them.
        seed: of the futures drawn.
        crisis_from: when a crisis is declared, for ``auto``.
        mt_first: the territory lets a place at the médecin traitant's come first; else it has the day's bonus.
        stopwatch: seconds of real time, for the figures on decisions.
        advance: hears how many of the day's events have happened since it was last told.
        journal: hears what the matcher decides together.
    """

    def __init__(
        self,
        day: DayLog,
        policy: str,
        *,
        history: Sequence[DayLog] = (),
        expected: Sequence[DayLog] = (),
        seed: int = 0,
        crisis_from: Instant | None = None,
        mt_first: bool = False,
        stopwatch: Callable[[], float],
        advance: Callable[[int], object] = lambda _: None,
        journal: Publisher | None = None,
        watch: Watch | None = None,
    ) -> None:
        if policy not in POLICIES:
            raise PolicyMissingError(policy)
        if crisis_from is not None and policy != "auto":
            raise CrisisError(policy)
        self._crisis_from = float("inf") if crisis_from is None else float(crisis_from)
        self._day, self._zone = day, ZoneInfo(day.meta.timezone)
        self._stopwatch, self._advance = stopwatch, advance
        terms, self._tiers = terms_of(day.meta)
        self._clock, self._inbox, self._ids = VirtualClock(day.meta.start), Inbox(), _CountedIds()
        self._ledger = self._new_ledger()
        self._days = KnownDays(history, self._tiers, expected)
        self._matcher = Matcher(
            ledger=self._ledger,
            bus=MemoryBus(self._clock),
            clock=self._clock,
            ids=self._ids,
            holder="replay",
            territories=[day.meta.territory],
            zone_of=lambda _: self._zone,
            landmass_of=lambda _: 0,  # a day log knows distances, no seas
            terms=replace(terms, mt_first=mt_first),
            policy=policy,
            history=self._days,
            seed=seed,
            journal=journal,
            watch=watch,
            radius_of=platform_radius_km,
        )
        self._slots = {event.slot.id: event.slot for event in day.slots}
        # places may begin after the file ends: whoever is promised one is told all the same
        self._last = max((float(event.slot.start) for event in day.slots), default=float(day.meta.end))
        self._slot_ids: dict[str, int] = {}
        self._refusals_due: list[tuple[float, str]] = []  # (instant, booking)
        self._whose: dict[str, str] = {}  # request of a booking: the practice is not told
        self._refused: dict[str, int] = {}
        self.decision_ms: list[float] = []

    def _new_ledger(self) -> MemoryLedger:
        return MemoryLedger(self._inbox, self._clock, day_log=True)

    async def run(self) -> list[bytes]:
        """Play the day; returns the lines of its result, in order of creation."""
        for name, role in ((REGULATOR, "regulator"), (PRACTICE, "practice")):
            record = KeyRecord(name, b"", name, role, (self._day.meta.territory,), (), (), PRACTICE, None, None)
            await self._ledger.add_key(record, self._clock.now())
        await self._matcher.load()
        await self._play()
        reasons = Reasons(self._day)
        return [orjson.dumps(await self._line(made, reasons)) for made in self._day.requests]

    async def _play(self) -> None:
        """Let the day happen, instant after instant."""
        for t, events in groupby(self._day.events, key=lambda event: float(event.t)):
            await self._pass_until(t)
            happened = list(events)
            await self._instant(t, happened)
            self._advance(len(happened))
        await self._pass_until(float("inf"))

    async def _pass_until(self, t: float) -> None:
        """Let happen what falls before an instant: refusals, and the plans that the matcher wants to make."""
        while True:
            refusal = self._refusals_due[0][0] if self._refusals_due else float("inf")
            plan = self._matcher.due()
            if not self._clock.seconds < plan <= self._last:
                plan = float("inf")
            then = min(refusal, plan, self._crisis_from)
            if then >= t:
                return
            if then == self._crisis_from:
                await self._declare_crisis()
            await self._instant(then, [])

    async def _declare_crisis(self) -> None:
        """The territory's coordinator declares the crisis."""
        self._clock.seconds, self._crisis_from = self._crisis_from, float("inf")
        changes = {"policy": dict.fromkeys(map(str, Tier), "auto"), "crisis_allowed": True, "crisis": True}
        change = SettingChange(self._day.meta.territory, changes, "whatif")
        await self._ledger.change_setting(self._clock.now(), change, self._once(REGULATOR))
        await self._hear()
        await self._matcher.refresh()

    async def _instant(self, t: float, events: Sequence[Event]) -> None:
        """Let an instant happen: refusals first, then the day's events; decide; confirm."""
        self._clock.seconds = t
        await self._ledger.close_unserved(utc(t))
        while self._refusals_due and self._refusals_due[0][0] <= t:
            await self._refuse(heapq.heappop(self._refusals_due)[1])
        for kind, same in groupby(events, key=type):
            await self._happen(kind, list(same))
        await self._hear()
        while await self._decide():
            pass

    async def _hear(self) -> list[Announcement]:
        """Let the matcher hear what was announced, and return it."""
        said = self._inbox.take()
        self._matcher.hear(said)
        await self._ledger.mark_published([a.id for a in said])
        return said

    async def _decide(self) -> bool:
        """Let the matcher decide, and the regulators confirm; False when there was nothing to confirm."""
        began = self._stopwatch()
        if await self._matcher.step():
            self.decision_ms.append(1000 * (self._stopwatch() - began))
        return await self._confirm()

    async def _confirm(self) -> bool:
        """Let the regulators confirm what is held; False when there was nothing."""
        said = await self._hear()
        held = [a.aggregate for a in said if a.type == "request.held"]
        for a in said:
            if a.type in ("request.held", "request.told"):
                self._whose[orjson.loads(a.data)["booking"]["booking_id"]] = a.aggregate
        for request in held:
            await self._act("confirm", request, None)
        for a in said + await self._hear():
            if a.type == "booking.firm":
                self._told(orjson.loads(a.data))
        return bool(held)

    def _told(self, booking: dict[str, Any]) -> None:
        """A practice hears of a booking; where its slot was not really free, it will refuse."""
        after = self._slots[booking["external_id"]].refused_after_min
        if after is not None:
            due = (self._clock.seconds + 60 * after, booking["booking_id"])
            heapq.heappush(self._refusals_due, due)

    # -- the world -----------------------------------------------------------------------------------------------

    def _once(self, key_id: str) -> Idempotency:
        return Idempotency(key_id, self._ids.uuid(), b"")

    async def _act(self, action: str, request_id: str, *arguments: Any) -> str:
        """A regulator changes a request; returns the word."""
        now = self._clock.now()
        return (await self._ledger.change_request(action, now, request_id, arguments, self._once(REGULATOR))).word

    async def _happen(self, kind: type, events: list[Any]) -> None:
        """Let events of one kind and one instant happen, in their order."""
        now = self._clock.now()
        if kind is SlotPublished:
            await self._publish([self._slot_row(event.slot, event.slot.capacity) for event in events])
            return
        for event in events:
            match event:
                case SlotCapacity(slot_id=name, capacity=capacity):
                    record = await self._ledger.slot_record(self._slot_ids[name])
                    # a slot that is gone does not come back by a new count of its places
                    if record is not None and record["status"] == "open":
                        await self._publish([self._slot_row(self._slots[name], capacity)])
                case SlotWithdrawn(slot_id=name):
                    await self._ledger.withdraw_slots(now, PRACTICE, [name], None, None, "withdrawn")
                case RequestCreated(request=request):
                    await self._ledger.create_request(now, self._request_row(request), self._once(REGULATOR))
                case RequestCancelled(request_id=name):
                    await self._act("cancel", name, "cancelled")

    async def _publish(self, rows: list[dict[str, Any]]) -> None:
        verdicts = await self._ledger.upsert_slots(self._clock.now(), PRACTICE, rows)
        for row, verdict in zip(rows, verdicts, strict=True):
            self._slot_ids[row["external_id"]] = verdict["slot_id"]

    async def _refuse(self, booking_id: str) -> None:
        """A practice refuses a booking on a slot that was not really free; what is left of the slot vanishes."""
        arguments = ("not really free", False)
        outcome = await self._ledger.change_booking(
            "refuse", self._clock.now(), booking_id, arguments, self._once(PRACTICE)
        )
        if outcome.word == "refused":
            request_id = self._whose[booking_id]
            self._refused[request_id] = self._refused.get(request_id, 0) + 1

    def _slot_row(self, slot: Slot, capacity: int) -> dict[str, Any]:
        return {
            "external_id": slot.id,
            "territory": self._day.meta.territory,
            "professional": slot.professional,
            "structure": slot.structure,
            "source_kind": slot.source,
            "lat": slot.lat,
            "lon": slot.lon,
            "landmass": 0,
            "insee": "",
            "starts": utc(slot.start),
            "ends": utc(slot.end),
            "capacity": capacity,
            "mode": slot.mode,
            "booking_kind": "routine",
            "profession": slot.profession,
            "offers": list(slot.offers),
            "visibility": "snp",
            "valid_at": self._clock.now(),
        }

    def _request_row(self, request: Request) -> dict[str, Any]:
        return {
            "id": request.id,
            "territory": self._day.meta.territory,
            "lat": request.lat,
            "lon": request.lon,
            "insee": "",
            "profession": request.profession,
            "modes": list(request.modes),
            "tier": self._tiers[request.tier],
            "delay": "",
            "deadline": utc(request.deadline),
            "radius_km": request.radius_km,
            "needs": list(request.needs),
            "mt": request.mt,
            "priority": "",
            "on_phone": request.on_phone,
        }

    # -- the result ----------------------------------------------------------------------------------------------

    async def _line(self, made: RequestCreated, reasons: Reasons) -> dict[str, Any]:
        """What became of a request, as the ledger has it."""
        name = made.request.id
        document = orjson.loads(await self._ledger.request_document(name, REGULATOR) or "{}")
        promise = document["promise"] or {"since": None, "moves": 0, "broken": 0}
        firm = document["status"] == "firm"
        status = "cancelled" if name in self._day.cancelled_at else "served" if firm else "unserved"
        booking = document["booking"] if firm else {"slot_id": None, "firm_at": None}
        slot = None if booking["slot_id"] is None else await self._ledger.slot_record(booking["slot_id"])
        # a seat chosen and changed within the instant of the call, for who called in the same, is one decision
        at_once = booking["firm_at"] is not None and datetime.fromisoformat(booking["firm_at"]).timestamp() == made.t
        return {
            "request_id": name,
            "status": status,
            "slot_id": slot and orjson.loads(slot["record"])["external_id"],
            "firm_at": self._local(booking["firm_at"]),
            "first_promised_at": self._local(promise["since"]),
            "moves": 0 if at_once else promise["moves"],
            "broken_promises": promise["broken"],
            "refusals": self._refused.get(name, 0),
            "reason": reasons.of(made) if status == "unserved" else None,
        }

    def _local(self, text: str | None) -> str | None:
        """Return an instant of the ledger in the day's own time zone."""
        if text is None:
            return None
        moment = datetime.fromisoformat(text)
        offset = moment.astimezone(self._zone).utcoffset()
        return Instant(moment.timestamp(), 0 if offset is None else int(offset.total_seconds())).iso()


def summary_of(
    day: DayLog,
    policy: str,
    seed: int,
    lines: Sequence[bytes],
    wall_s: float,
    decision_ms: Sequence[float],
    *,
    lawful: bool = True,
) -> dict[str, Any]:
    """Return the figures of a result (day log, *Command*), as the independent scorer counts them.

    Raises:
        ScoreError: The result breaks a rule of its policy, and has to be ``lawful``.
    """
    judged = score(day, lines, policy)
    if lawful:
        judged.require_legal()
    figures = judged.figures()
    del figures["refusals"]
    took = list(decision_ms) or [0.0]
    p50, p95 = np.percentile(took, _BATCH_PERCENTILES).tolist()
    return {
        "policy": policy,
        "seed": seed,
        "version": __version__,
        "wall_s": round(wall_s, 3),
        "requests": judged.requests,
        **figures,
        "decision_ms": {"p50": round(p50, 3), "p95": round(p95, 3), "max": round(max(took), 3)},
    }


def replay_day(
    day: DayLog,
    policy: str,
    *,
    history: Sequence[DayLog] = (),
    expected: Sequence[DayLog] = (),
    seed: int = 0,
    crisis_from: Instant | None = None,
    mt_first: bool = False,
    stopwatch: Callable[[], float] = time.perf_counter,
    advance: Callable[[int], object] = lambda _: None,
    watch: Watch | None = None,
) -> tuple[list[bytes], dict[str, Any]]:
    """Play a day through the live matching.

    Args:
        day: The day log.
        policy: One of ``POLICIES``.
        history: Earlier days, to learn from; without any, nothing is forecast and nothing priced.
        expected: Days drawn for want of these, learned from beside them (``replay.expected``).
        seed: Of the futures drawn.
        crisis_from: When a crisis is declared, for ``auto``.
        mt_first: The territory lets a place at the médecin traitant's come first.
        stopwatch: Seconds of real time; it measures, and decides nothing.
        advance: Hears how many of the day's events have happened since it was last told.
        watch: Hears of every batch.

    Returns:
        The lines of RESULT.jsonl without line feeds, and SUMMARY.json; ``wall_s`` and ``decision_ms`` of the latter
        are measured, all else is the same for the same input.

    Raises:
        PolicyMissingError: The live matcher does not have the policy.
        CrisisError: A crisis is declared under a policy that knows none.
        InvalidInputError: The day has more tiers than the service.
        ScoreError: The result breaks a rule of the policy: a fault of the engine.
    """
    began = stopwatch()
    run = Replay(
        day,
        policy,
        history=history,
        expected=expected,
        seed=seed,
        crisis_from=crisis_from,
        mt_first=mt_first,
        stopwatch=stopwatch,
        advance=advance,
        watch=watch,
    )
    lines = asyncio.run(run.run())
    took = stopwatch() - began
    # under a crisis declared in the midst of the day two policies took turns: no rule book is for both
    return lines, summary_of(day, policy, seed, lines, took, run.decision_ms, lawful=crisis_from is None)
