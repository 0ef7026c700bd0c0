"""A recorded day decided again, with its batches: the same requests together, after the same events, on the same seats.

Between the batches the day happens as in any replay. What was decided is compared with what was recorded.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import groupby
from types import MappingProxyType
from typing import Any

import orjson

from adapters.memory import MemoryLedger
from sas_matcher.domain.errors import InvalidInputError
from sas_matcher.domain.policy import DEFAULT_SETTING, LIVE_POLICIES, WEIGHED
from sas_matcher.domain.vocabulary import Tier
from sas_matcher.ports.ledger import Announcement, Claim, SettingChange
from sas_matcher.replay.batches import Batch, Mark, Seats, base_name, slot_number
from sas_matcher.replay.daylog import (
    DayLog,
    Event,
    RequestCancelled,
    RequestCreated,
    SlotCapacity,
    SlotPublished,
    SlotWithdrawn,
)
from sas_matcher.replay.expected import expected_beside
from sas_matcher.replay.history import LEARNED
from sas_matcher.replay.recording import DISPLACED, LOST, SEATED
from sas_matcher.replay.run import REGULATOR, Inbox, Replay, summary_of
from sas_matcher.services.matcher.desks import Recorded
from sas_matcher.services.matcher.neighbours import Ceded


class LosingLedger(MemoryLedger):
    """A ledger that refuses what the recorded one refused.

    Attributes:
        said: of requests of whom a claim was refused, the words to each of their claims, in order.
    """

    said: Mapping[str, deque[str]] = MappingProxyType({})

    async def claim(
        self, now: datetime, fences: Mapping[str, int], claims: Sequence[Claim]
    ) -> tuple[list[str], list[Announcement]]:
        """Decide a batch, but for who was refused in the recorded day."""
        words = [words.popleft() if (words := self.said.get(claim.request_id)) else "" for claim in claims]
        kept = [claim for claim, word in zip(claims, words, strict=True) if word not in LOST]
        verdicts, announced = await super().claim(now, fences, kept) if kept else ([], [])
        judged = iter(verdicts)
        return [word if word in LOST else next(judged) for word in words], announced


class Again(Replay):
    """One run of a recorded day with its batches.

    Args:
        day, policy, options: as those of ``Replay``.
        marks: the batches, as ``batches.read_batches`` gives them.

    Attributes:
        decided: how many recorded decisions were taken again. Who was decided a second time in the live service, having
            declined or let go of his place, keeps it here and is not asked again.
        different: those in which another slot was chosen: request, slot recorded, slot now.
    """

    def __init__(self, day: DayLog, policy: str, marks: Sequence[Mark], **options: Any) -> None:
        self._journal = Inbox()
        self._losing: LosingLedger
        # a slot that came back under another name is the same slot: who was sent away from it is not sent there again
        events = tuple(_renamed(event) for event in day.events)
        super().__init__(DayLog(day.meta, events), policy, journal=self._journal, **options)
        self._marks, self._policy = [_mark_renamed(mark) for mark in marks], policy
        self._made = {name: at for mark in marks if isinstance(mark, Batch) for name, at in mark.made.items()}
        # by request: the last mark that asked for it
        self._asked_last = {
            name: number for number, mark in enumerate(marks) if isinstance(mark, Batch) for name in mark.asked
        }
        # withdrawals of which the matcher hears later than whom they sent away
        self._unheard: Sequence[str] = ()
        self._late: list[Announcement] = []
        # who had cancelled when the ledger judged a batch that had not heard of it: what is heard at the event
        self._cancelled: dict[str, list[Announcement]] = {}
        self._rules: tuple[bool, Mapping[str, Any]] = (False, {})
        self._latest = float(day.meta.start)
        self.decided = 0
        self.different: list[tuple[str, str | None, str | None]] = []

    def _new_ledger(self) -> MemoryLedger:
        # equal choices go by numbers: those of the live ledger, which the names of recorded slots hold
        numbered = all(slot_number(event.slot.id) is not None for event in self._day.slots)
        number_of = (lambda name: slot_number(name) or 0) if numbered else None
        self._losing = LosingLedger(self._inbox, self._clock, day_log=True, number_of=number_of)
        return self._losing

    async def _play(self) -> None:
        done = 0
        unheard = _unheard(self._marks)
        for number, mark in enumerate(self._marks):
            self._unheard = unheard[number]
            await self._hear()
            await self._pass(self._day.events[done : mark.after])
            done = mark.after
            if isinstance(mark, Seats):
                await self._correct(mark)
            else:
                await self._cancel_early(number, mark)
                await self._decide_again(mark)
        await self._pass(self._day.events[done:])

    async def _pass(self, events: Sequence[Event]) -> None:
        """Let events happen, and the matcher hear of them; when it decides is said by the batches."""
        for (t, kind), same in groupby(events, key=lambda event: (self._instant_of(event), type(event))):
            # costs hang on the instant of the call; a practice's news is never older than the last
            self._clock.seconds = t if kind is RequestCreated else self._not_before(t)
            happened = list(same)
            self._slots |= {event.slot.id: event.slot for event in happened if isinstance(event, SlotPublished)}
            await self._happen(kind, happened)
            for event in happened:
                if isinstance(event, RequestCancelled):
                    self._matcher.hear(self._cancelled.pop(event.request_id, ()))
            await self._hear()
            self._advance(len(happened))

    def _not_before(self, t: float) -> float:
        """An instant, or the last one of practices and batches where that is later."""
        self._latest = max(t, self._latest)
        return self._latest

    def _instant_of(self, event: Event) -> float:
        named = event.request.id if isinstance(event, RequestCreated) else ""
        return float(self._made.get(named, event.t))

    async def _hear(self) -> list[Announcement]:
        """Let the matcher hear what was announced, but for withdrawals that it had not heard of in the recorded day."""
        slots = {self._slot_ids.get(name) for name in self._unheard}
        said = [*self._late, *self._inbox.take()]
        self._late = [a for a in said if a.type == "gone" and {item[0] for item in orjson.loads(a.data)} <= slots]
        told = [a for a in said if a not in self._late]
        self._matcher.hear(told)
        await self._ledger.mark_published([a.id for a in told])
        return told

    async def _correct(self, seats: Seats) -> None:
        """Let a slot have as many free seats as the matcher saw."""
        slot_id = self._slot_ids[seats.slot_id]
        row = await self._ledger.slot_record(slot_id)
        if row is None or row["status"] != "open":
            return
        self._clock.seconds = self._not_before(float(seats.t))
        taken = len(self._losing.tables.seats.get(slot_id, ()))
        await self._publish([self._slot_row(self._slots[seats.slot_id], taken + seats.left)])
        await self._hear()

    async def _decide_again(self, batch: Batch) -> None:
        self._clock.seconds = float(batch.t)
        self._not_before(float(batch.t))
        if (batch.mt_first, batch.measures) != self._rules:
            await self._set_rules(batch)
        if batch.opened:
            self._days.expected = expected_beside(self._day, batch.expected) if batch.expected else ()
            await self._matcher.open_desks_anew()
        if batch.released is not None:
            self._matcher.known.release(float(batch.released))
        again = {name for name in batch.requests if self._matcher.is_open(name)}
        behind = {name: self._slot_ids[slot] for name, slot in batch.promised.items()}
        open_now = self._matcher.batch_of(batch.asked, behind)
        if not (open_now or batch.step or batch.ceded or batch.answered):
            return
        words: dict[str, deque[str]] = {name: deque() for name in batch.lost}
        for name, word in zip(batch.requests, batch.said, strict=True):
            if name in words:
                words[name].append(word or "seat_lost")
        self._losing.said = words
        began = self._stopwatch()
        territory = self._day.meta.territory
        steps = {} if batch.step is None else {territory: batch.step}
        planned = {} if batch.planned is None else {territory: batch.planned}
        answered = {} if batch.answered is None else {territory: batch.answered}
        ceded = [Ceded(territory, self._slot_ids[slot], loser) for slot, loser in batch.ceded]
        await self._matcher.decide_batch(open_now, Recorded(steps, planned, answered, ceded))
        self._losing.said = {}
        self.decision_ms.append(1000 * (self._stopwatch() - began))
        await self._confirm()
        self._compare(batch, again)

    async def _cancel_early(self, number: int, batch: Batch) -> None:
        """Let the ledger know who had cancelled before it judged a batch, though the matcher heard of it afterwards."""
        refused = {name for name, word in zip(batch.requests, batch.said, strict=True) if word == "not_waiting"}
        for name in sorted(refused & self._day.cancelled_at.keys() - self._cancelled.keys()):
            # who is asked for again was closed by nobody: his place had just been taken back by its practice
            if self._asked_last.get(name, -1) <= number:
                self._clock.seconds = self._not_before(float(batch.t))
                await self._act("cancel", name, "cancelled")
                self._cancelled[name] = self._inbox.take()

    async def _set_rules(self, batch: Batch) -> None:
        """Let the territory's setting be what it was when a batch was decided."""
        policy = dict.fromkeys(map(str, Tier), self._policy) if self._policy in LIVE_POLICIES else {}
        rule = "first" if batch.mt_first else "bonus"
        weighed = {name: batch.measures.get(name, DEFAULT_SETTING[name]) for name in WEIGHED}
        changes = {"mt_rule": rule, "policy": policy, "crisis_allowed": True, **weighed}
        change = SettingChange(self._day.meta.territory, changes, "recorded")
        await self._ledger.change_setting(self._clock.now(), change, self._once(REGULATOR))
        await self._matcher.load()
        self._rules = (batch.mt_first, batch.measures)

    def _compare(self, batch: Batch, again: Container[str]) -> None:
        names = {slot_id: name for name, slot_id in self._slot_ids.items()}
        chosen: dict[str, tuple[str | None, str | None]] = {}
        for news in self._journal.take():
            rows = orjson.loads(news.data)["requests"]
            chosen |= {name: (names.get(slot_id), _heard(verdict)) for name, slot_id, verdict, _ in rows}
        for name, slot, said in zip(batch.requests, batch.slots, batch.said, strict=True):
            if name in again:
                self.decided += 1
                now, verdict = chosen.pop(name, (None, None))
                another_word = said is not None and verdict != _heard(said) and name not in batch.lost
                if now != slot or another_word:
                    self.different.append((name, slot, now))
        # whom the live plan let be
        self.different += [(name, None, slot) for name, (slot, verdict) in chosen.items() if verdict is not None]


def _unheard(marks: Sequence[Mark]) -> list[tuple[str, ...]]:
    """Return for each mark what the batch that comes next, or is it, had not heard of."""
    found: list[tuple[str, ...]] = []
    for mark in reversed(marks):
        found.append(mark.unheard if isinstance(mark, Batch) else found[-1] if found else ())
    return found[::-1]


def _heard(verdict: str | None) -> str | None:
    """The ledger's word where something was decided; that there is no place is not told twice in one process.

    Whether it calls a promise moved hangs on what it knew before the matcher did: that a practice has taken it back.
    """
    return "promised" if verdict == "moved" else verdict if verdict in {*SEATED, DISPLACED} else None


def _renamed(event: Event) -> Event:
    if isinstance(event, SlotPublished):
        return replace(event, slot=replace(event.slot, id=base_name(event.slot.id)))
    if isinstance(event, SlotCapacity | SlotWithdrawn):
        return replace(event, slot_id=base_name(event.slot_id))
    return event


def _mark_renamed(mark: Mark) -> Mark:
    if isinstance(mark, Seats):
        return replace(mark, slot_id=base_name(mark.slot_id))
    slots = tuple(None if name is None else base_name(name) for name in mark.slots)
    ceded = tuple((base_name(slot), loser) for slot, loser in mark.ceded)
    promised = {name: base_name(slot) for name, slot in mark.promised.items()}
    return replace(mark, slots=slots, ceded=ceded, unheard=tuple(map(base_name, mark.unheard)), promised=promised)


def decide_again(
    day: DayLog,
    policy: str,
    marks: Sequence[Mark],
    *,
    history: Sequence[DayLog] = (),
    seed: int = 0,
    stopwatch: Callable[[], float] = time.perf_counter,
    advance: Callable[[int], object] = lambda _: None,
) -> tuple[list[bytes], dict[str, Any], list[tuple[str, str | None, str | None]]]:
    """Decide a recorded day again with its recorded batches.

    Args:
        day: as recorded.
        policy: under which it was decided.
        marks: its batches, as ``batches.read_batches`` gives them.
        history: earlier days of the territory: those that the service learned from are found among them.
        seed: of the futures, as the service had it.
        stopwatch: seconds of real time.
        advance: hears how many of the day's events have happened since it was last told.

    Returns:
        Result and summary as ``run.replay_day`` gives them; the latter also says under ``batches`` how many decisions
        were taken again and how many came out differently. And those that did: request, slot recorded, slot now. The
        result need not be lawful for the day log alone: the batches hold what it leaves out.

    Raises:
        InvalidInputError: The batches were decided under another policy, or the service does not have it.
    """
    # of a batch that only opened a desk no policy is said
    others = sorted({mark.policy for mark in marks if isinstance(mark, Batch)} - {policy, ""})
    if others:
        raise InvalidInputError(f"ces lots ont été décidés sous « {others[0]} », pas sous « {policy} »")
    began = stopwatch()
    # as ``RecordedDays`` gives them to the live matcher
    before = sorted((d for d in history if d.meta.start < day.meta.start), key=lambda d: -d.meta.start)[:LEARNED]
    run = Again(day, policy, marks, history=before, seed=seed, stopwatch=stopwatch, advance=advance)
    lines = asyncio.run(run.run())
    summary = summary_of(day, policy, seed, lines, stopwatch() - began, run.decision_ms, lawful=False)
    return lines, {**summary, "batches": {"decided": run.decided, "different": len(run.different)}}, run.different
