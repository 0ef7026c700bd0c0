"""The recorder on the twins in memory, with the real matcher: whole files whatever happens, and nobody in them."""

import asyncio
import itertools
import os
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import orjson
import pytest

from adapters.geo import Gazetteer
from adapters.memory import MemoryBus, MemoryLedger
from sas_matcher.matching.terms import Terms
from sas_matcher.ports.bus import ARRIVAL, BATCHES_STREAM, PLACES_STREAM, REQUESTS_STREAM, Entry, told_order
from sas_matcher.ports.ledger import Announcement, Idempotency, KeyRecord, SettingChange
from sas_matcher.ports.ledger import request_row as row_of
from sas_matcher.replay.again import Again, decide_again
from sas_matcher.replay.batches import Batch, Mark, Seats, read_batches, read_marks
from sas_matcher.replay.daylog import DayLog, RequestCancelled, RequestCreated
from sas_matcher.replay.daylog_file import DayLogError, read_day
from sas_matcher.replay.expected import EXPECTED, ExpectedDays
from sas_matcher.replay.history import KnownDays, one_landmass
from sas_matcher.replay.recorder import KEY, MARK, Recorder, meta_of, open_folder
from sas_matcher.replay.recording import specialty_of
from sas_matcher.replay.run import replay_day
from sas_matcher.services.matcher.holding import History
from sas_matcher.services.matcher.match import Matcher
from tests.ledger_cases import NOW, SOURCE, StillClock, minutes, new_id, request_row, slot_row
from tests.recorded_days import differences

Json = dict[str, Any]
PARIS = ZoneInfo("Europe/Paris")
TERRITORY = "69"
SECRET = b"k" * 32


class Ids:
    def uuid(self) -> str:
        return new_id()


class Live:
    """Ledger, bus and matcher in one process, on a clock that is moved by hand."""

    def __init__(self, policy: str = "firm", history: History | None = None) -> None:
        self.clock = StillClock(NOW)
        self.passed_s = 0.0
        self.arrives = False  # whether requests are written with their decision
        self.said: list[Announcement] = []
        self.ledger = MemoryLedger(self, self.clock)
        self.bus = MemoryBus(self.clock)
        # ids that tell the time, as those of Redis do
        self.bus._numbers = itertools.count(int(1000 * NOW.timestamp()) + 1)
        self.matcher = Matcher(
            ledger=self.ledger,
            bus=self.bus,
            clock=self.clock,
            ids=Ids(),
            holder="live",
            territories=[TERRITORY, "01"],
            zone_of=lambda _: PARIS,
            landmass_of=lambda _: 0,
            journal=self,
            policy=policy,
            history=history,
        )

    def announce(self, announcements: Sequence[Announcement]) -> None:
        self.said.extend(announcements)

    async def open(self) -> "Live":
        for name in ("regulator", SOURCE):
            await self.ledger.add_key(KeyRecord(name, b"", name, "regulator", (), (), (), name, None, None), NOW)
        await self.matcher.load()
        return self

    async def tell(self) -> None:
        """Publish what was announced; the matcher hears it, one after the other, and knows how far it has heard."""
        said, self.said = self.said, []
        await self.bus.publish(said)
        follower = self.matcher._follower
        for entry in told_order(await self.bus.read(follower._positions, block_ms=1)):
            follower.take_in([entry])
            follower._positions[entry.stream] = entry.id

    async def tell_others(self) -> None:
        """Publish what was announced; the matcher has not heard it yet."""
        said, self.said = self.said, []
        await self.bus.publish(said)

    async def decide(self) -> None:
        while await self.matcher.step():
            await self.tell()

    async def publish(self, *rows: Json) -> None:
        await self.ledger.upsert_slots(
            self.clock.now(), SOURCE, [{**row, "valid_at": self.clock.now()} for row in rows]
        )
        await self.tell()

    async def withdraw(self, name: str, *, unheard: bool = False) -> None:
        """Withdraw a slot; ``unheard``: the matcher decides for whom it sends away before it hears of that."""
        await self.ledger.withdraw_slots(self.clock.now(), SOURCE, [name], None, None, "ill")
        if unheard:
            gone = [a for a in self.said if a.type == "gone"]
            self.said = [a for a in self.said if a.type != "gone"]
            await self.tell()
            await self.decide()
            self.said += gone
        await self.tell()

    async def ask(self, *rows: Json, confirm: bool = True) -> list[str]:
        """Ask, let the matcher decide all of it together, confirm what it holds."""
        for row in rows:
            once = Idempotency("regulator", new_id(), b"")
            if self.arrives:
                self.send(row, once)
            else:
                await self.ledger.create_request(self.clock.now(), row, once)
        await self.tell()
        await self.decide()
        names = [str(row["id"]) for row in rows]
        if confirm:
            for name in names:
                await self.act("confirm", name, None)
        return names

    def send(self, row: Json, once: Idempotency) -> None:
        """Send a request to the matcher, to be written with its decision."""
        now, data = self.clock.now(), orjson.dumps(row_of(self.clock.now(), row, once)).decode()
        self.said.append(
            Announcement(0, now, row["territory"], "requests", ARRIVAL, row["id"], 1, "regulator", (), data)
        )

    async def act(self, action: str, name: str, *arguments: Any) -> str:
        once = Idempotency("regulator", new_id(), b"")
        outcome = await self.ledger.change_request(action, self.clock.now(), name, arguments, once)
        await self.tell()
        return outcome.word

    def recorder(self, folder: Path, *territories: str) -> Recorder:
        folder.mkdir(exist_ok=True)
        return Recorder(
            ledger=self.ledger,
            bus=self.bus,
            clock=self.clock,
            folder=folder,
            key=SECRET,
            territories=territories or (TERRITORY,),
            zone_of=lambda _: PARIS,
            stopwatch=lambda: self.passed_s,
        )

    async def pass_time(self, number: float = 1) -> None:
        self.clock.instant += minutes(number)
        self.passed_s += 60 * number


async def read_all(live: Live, *recorders: Recorder) -> None:
    """Let recorders read what there is, and save: time passes, so that what was heard counts as heard."""
    for recorder in recorders:
        await recorder.step()
    await live.pass_time()
    for recorder in recorders:
        await recorder.step()


def recorded(folder: Path, day: str = "2026-11-23", territory: str = TERRITORY) -> tuple[DayLog, list[Mark]]:
    path = folder / territory / f"{day}.jsonl"
    log = read_day(path)
    return log, read_batches(path.with_suffix(".batches.jsonl"), log)


def slot(name: str, at: float = 90, **changes: Any) -> Json:
    return slot_row(name, at=at, **changes)


async def a_busy_hour(live: Live, *recorders: Recorder, stop: Any = None) -> None:
    """Publications, bursts, a cancellation, a withdrawal, a plage that changes; ``stop`` is called between the acts."""

    async def act_done() -> None:
        await read_all(live, *recorders)
        if stop is not None:
            await stop()

    await live.publish(*(slot(f"a{n}", 60 + 20 * n, lat=45.74 + n / 200) for n in range(6)), slot("w", 200, capacity=2))
    await act_done()
    first = await live.ask(*(request_row(tier=f"T{n % 4}", lat=45.75 + n / 300) for n in range(9)))
    await act_done()
    await live.act("cancel", first[0], "cancelled")
    await live.withdraw("a2")
    await live.decide()
    await act_done()
    await live.publish(slot("w", 200, capacity=4))
    await live.decide()
    await act_done()
    await live.ask(*(request_row(deadline=NOW + timedelta(hours=5)) for _ in range(3)))
    await act_done()


@pytest.mark.parametrize("arrives", [False, True])
async def test_a_day_is_recorded_and_decided_again_the_same(tmp_path: Path, arrives: bool) -> None:
    live = await Live().open()
    live.arrives = arrives
    recorder = live.recorder(tmp_path)
    await recorder.start()
    await a_busy_hour(live, recorder)
    day, marks = recorded(tmp_path)
    assert {type(event).__name__ for event in day.events} == {
        *("SlotPublished", "SlotCapacity", "SlotWithdrawn", "RequestCreated", "RequestCancelled")
    }
    assert len(next(mark for mark in marks if isinstance(mark, Batch)).requests) == 9
    # all that the seats did follows from the batches
    assert not [mark for mark in marks if isinstance(mark, Seats)]
    _, summary, different = await _again(day, marks)
    assert different == [] and summary["batches"]["decided"] >= 12


@pytest.mark.faults("recorder.news")
async def test_an_entry_that_cannot_be_read_does_not_end_the_recording(tmp_path: Path) -> None:
    """It would be read again after each start: nothing would be recorded any more."""
    live = await Live().open()
    recorder = live.recorder(tmp_path)
    await recorder.start()
    await live.publish(slot("a", 60))
    await read_all(live, recorder)
    place, ours = {b"kind": b"published", b"data": b'[["?"]]'}, {b"territory": TERRITORY.encode()}
    told = [
        (REQUESTS_STREAM, ours | {b"type": b"open", b"request": b"x", b"data": b"?"}),
        (REQUESTS_STREAM, ours | {b"type": b"arrival", b"request": b"x", b"data": b"{}"}),
        (REQUESTS_STREAM, {b"type": b"open", b"request": b"x"}),
        (PLACES_STREAM, ours | place),
        (PLACES_STREAM, place),
        (BATCHES_STREAM, {b"data": b'{"t": "?"}'}),
    ]
    tails, real = await live.bus.tails({stream for stream, _ in told}), live.bus.read
    lame = [Entry(stream, f"{tails[stream]}{number}", fields) for number, (stream, fields) in enumerate(told)]

    async def read(*args: Any, **more: Any) -> list[Entry]:
        found, lame[:] = list(lame), []
        return found or await real(*args, **more)

    live.bus.read = read  # type: ignore[method-assign]
    await read_all(live, recorder)
    live.bus.read = real  # type: ignore[method-assign]
    (request,) = await live.ask(request_row())
    await read_all(live, recorder)
    day, marks = recorded(tmp_path)
    assert [event.request.id for event in day.events if isinstance(event, RequestCreated)] == [request]
    assert [len(mark.requests) for mark in marks if isinstance(mark, Batch)] == [1]


async def test_of_what_arrives_elsewhere_or_is_known_the_ledger_is_not_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = await Live().open()
    recorder = live.recorder(tmp_path)
    await recorder.start()
    asked: list[str] = []

    async def look(name: str, _: str | None) -> str | None:
        asked.append(name)
        return "{}"

    monkeypatch.setattr(live.ledger, "request_document", look)
    live.send(request_row(territory="01"), Idempotency("regulator", new_id(), b""))
    row, once = request_row(), Idempotency("regulator", new_id(), b"")
    await live.ledger.create_request(live.clock.now(), row, once)
    live.send(row, once)
    await live.tell_others()
    for _ in range(3):
        await read_all(live, recorder)
    assert asked == [] and recorder._told == deque()
    day, _ = recorded(tmp_path)
    assert [event.request.id for event in day.events if isinstance(event, RequestCreated)] == [row["id"]]
    # known already, it does not count as one that waits again
    assert recorder._open[TERRITORY].recording._waits_again == set()


async def test_one_that_arrived_is_recorded_once_whoever_wrote_it(tmp_path: Path) -> None:
    live = await Live().open()
    recorder = live.recorder(tmp_path)
    await recorder.start()
    await live.publish(slot("a", 60), slot("b", 90))
    # its sender writes it too; a repeated call is no other request; and of one nobody told what was decided
    row, once = request_row(), Idempotency("regulator", new_id(), b"")
    live.send(row, once)
    await live.tell()
    await live.ledger.create_request(live.clock.now(), row, once)
    await live.tell()
    await live.decide()
    live.send(request_row(), once)
    live.send(lost := request_row(), Idempotency("regulator", new_id(), b""))
    await live.tell_others()
    await live.matcher._follower.load()  # it was started again, and has not heard of them
    await live.ledger.create_request(live.clock.now(), lost, Idempotency("regulator", new_id(), b""))
    live.said.clear()
    await read_all(live, recorder)
    await read_all(live, recorder)
    day, _ = recorded(tmp_path)
    asked = [event.request.id for event in day.events if isinstance(event, RequestCreated)]
    assert sorted(asked) == sorted([row["id"], lost["id"]])


@pytest.mark.parametrize("policy", ["firm", "promise"])
async def test_one_that_arrived_under_a_key_that_came_before_never_was(tmp_path: Path, policy: str) -> None:
    live = await Live(policy).open()
    recorder = live.recorder(tmp_path)
    await recorder.start()
    await live.publish(slot("a", 60), slot("b", 90))
    once = Idempotency("regulator", new_id(), b"")
    live.send(first := request_row(), once)
    await live.tell()
    await live.decide()
    live.send(again := request_row(), once)
    await live.tell()
    await live.decide()
    await read_all(live, recorder)
    await read_all(live, recorder)
    day, marks = recorded(tmp_path)
    asked = [event.request.id for event in day.events if isinstance(event, RequestCreated)]
    gone = [event.request_id for event in day.events if isinstance(event, RequestCancelled)]
    assert len(live.matcher.known.open) == int(policy == "promise")  # the first may still move
    # the matcher had it for a moment
    assert asked == [first["id"], again["id"]] and gone == [again["id"]]
    _, _, different = await asyncio.to_thread(decide_again, day, policy, marks)
    assert different == []


async def _again(day: DayLog, marks: Sequence[Mark]) -> Any:
    return await asyncio.to_thread(decide_again, day, "firm", marks)


async def test_what_a_day_log_cannot_say_is_beside_it(tmp_path: Path) -> None:
    """Declined and lapsed holds, one professional's overlapping slots: others are decided on what was left."""
    live = await Live().open()
    recorder = live.recorder(tmp_path)
    await recorder.start()
    await live.publish(
        *(slot(f"o{n}", 100 + 5 * n, professional="both") for n in range(2)),
        *(slot(f"s{n}", 60 + 20 * n) for n in range(6)),
    )
    names = await live.ask(request_row(), request_row(), confirm=False)
    assert await live.act("decline", names[0], None, "slot") == "declined"
    await live.decide()
    await live.ask(request_row())
    await live.pass_time(4)
    await live.ledger.lapse_holds(live.clock.now())
    await live.tell()
    await read_all(live, recorder)
    for _ in range(4):
        await live.ask(request_row())
        await read_all(live, recorder)
    day, marks = recorded(tmp_path)
    assert [mark for mark in marks if isinstance(mark, Seats)]
    assert {type(event).__name__ for event in day.events} == {"SlotPublished", "RequestCreated"}
    _, summary, different = await _again(day, marks)
    assert different == [] and summary["batches"]["decided"] >= 6


async def test_what_a_crisis_opened_and_kept_is_decided_again_as_it_was(tmp_path: Path) -> None:
    """Wider radii, places kept for urgent requests: beside each batch stands what was in force for it."""
    live = await Live().open()
    recorder = live.recorder(tmp_path)
    await recorder.start()
    await live.publish(*(slot(f"far{n}", 150 + 15 * n, lat=45.87) for n in range(6)))  # 13 km, of 10 asked
    nobody = await live.ask(request_row(), confirm=False)
    assert "NO_SLOT_IN_RADIUS" in (await live.ledger.request_document(nobody[0], None) or "")
    await read_all(live, recorder)
    measures = {"radius_pct": 150, "urgent_reserve_pct": 60}
    change = SettingChange(TERRITORY, measures, "crise")
    await live.ledger.change_setting(live.clock.now(), change, Idempotency("regulator", new_id(), b""))
    await live.matcher.refresh()
    await live.tell()
    await live.ask(*(request_row(tier=tier, deadline=NOW + timedelta(hours=8)) for tier in ("T1", "T2", "T2")))
    await read_all(live, recorder)
    day, marks = recorded(tmp_path)
    batches = [mark for mark in marks if isinstance(mark, Batch)]
    assert (batches[0].measures, batches[-1].measures) == ({}, measures)
    assert sum(slot is not None for batch in batches for slot in batch.slots) >= 2
    assert (await _again(day, marks))[2] == []
    # without them it would come out differently
    assert (await _again(day, [replace(m, measures={}) if isinstance(m, Batch) else m for m in marks]))[2] != []


@pytest.mark.parametrize("policy", ["firm", "promise"])
async def test_a_recorded_day_is_a_day_log_like_any_other(tmp_path: Path, policy: str) -> None:
    """Whatever the service decided it by, any policy can replay it, within its rules."""
    live = await Live(policy).open()
    recorder = live.recorder(tmp_path)
    await recorder.start()
    await a_busy_hour(live, recorder)
    day, marks = recorded(tmp_path)
    assert {mark.policy for mark in marks if isinstance(mark, Batch)} == {policy}
    assert len(day.requests) == 12 and len(day.slots) == 7
    for other in ("fcfs-nearest", "official", "firm", "auto"):
        _, summary = await asyncio.to_thread(replay_day, day, other)
        assert sum(summary["served"].values()) > 0


async def test_a_specialty_is_a_need_and_an_offer(tmp_path: Path) -> None:
    live = await Live().open()
    recorder = live.recorder(tmp_path)
    await recorder.start()
    await live.publish(slot("skin", 90, specialty="SM15"), slot("plain", 60))
    await live.ask(request_row(specialty="SM15"))
    await read_all(live, recorder)
    day, marks = recorded(tmp_path)
    assert day.requests[0].request.needs == ("specialty:SM15",)
    assert specialty_of(day.slots[1].slot.offers) == ("SM15", ())
    _, summary, different = await _again(day, marks)
    assert different == [] and summary["served"]["T1"] == 1


async def test_who_cancelled_before_the_recorder_looked_was_in_the_batch_all_the_same(tmp_path: Path) -> None:
    """He had the nearer place, which the other one did not get."""
    live = await Live().open()
    recorder = live.recorder(tmp_path)
    await recorder.start()
    await live.publish(slot("near", 60), slot("far", 60, lat=45.70))
    first, second = await live.ask(request_row(tier="T0"), request_row(lat=45.76, lon=4.84))
    await live.act("cancel", first, "cancelled")
    await read_all(live, recorder)
    day, marks = recorded(tmp_path)
    (batch,) = (mark for mark in marks if isinstance(mark, Batch))
    assert set(batch.requests) == {first, second} and set(batch.slots) == {"s0000000001", "s0000000002"}
    _, summary, different = await _again(day, marks)
    assert different == [] and summary["batches"]["decided"] == 2


async def test_a_plan_for_a_seat_that_went_and_came_back_is_made_again(tmp_path: Path) -> None:
    """Of who cancels a promise the desk hears before it hears of his seat: between the two it seems to be gone."""
    live = await Live("promise").open()
    recorder = live.recorder(tmp_path)
    await recorder.start()
    await live.publish(slot("near", 120), slot("later", 240))
    hours = {"tier": "T2", "deadline": NOW + timedelta(hours=8)}
    first, second = [(await live.ask(request_row(**hours), confirm=False))[0] for _ in range(2)]
    await read_all(live, recorder)
    await live.act("cancel", first, "cancelled")
    await live.decide()
    await live.tell()
    await read_all(live, recorder)
    day, marks = recorded(tmp_path)
    planned = [mark for mark in marks if isinstance(mark, Batch) and mark.step is not None][-1]
    assert (planned.requests, planned.said, planned.planned) == ((second,), ("moved",), ("MG",))
    _, _, different = await asyncio.to_thread(decide_again, day, "promise", marks)
    assert not different, differences(day, marks, different)
    # what was planned is not found again without being told
    untold = [replace(mark, planned=None) if isinstance(mark, Batch) else mark for mark in marks]
    assert (await asyncio.to_thread(decide_again, day, "promise", untold))[2] != []


async def test_what_a_desk_expected_is_expected_again(tmp_path: Path) -> None:
    """For want of recorded days a desk learned from drawn ones in the midst of the morning: the batches say so."""
    geography = Gazetteer.load()
    nothing = KnownDays([], {})
    live = await Live(
        "promise", ExpectedDays(nothing, geography.communes_of, geography.territories, one_landmass)
    ).open()
    recorder = live.recorder(tmp_path)
    await recorder.start()
    await live.publish(slot("only", 150))
    await live.ask(*(request_row(profession="DENT") for _ in range(100)), confirm=False)
    await read_all(live, recorder)
    await live.matcher.foresee()
    await live.decide()
    await read_all(live, recorder)
    await live.ask(request_row(tier="T2", deadline=NOW + timedelta(hours=12)), confirm=False)
    await live.ask(request_row(), confirm=False)
    await read_all(live, recorder)
    day, marks = recorded(tmp_path)
    opened = [mark.expected for mark in marks if isinstance(mark, Batch) and mark.opened]
    assert opened == [0, EXPECTED]
    _, _, different = await asyncio.to_thread(decide_again, day, "promise", marks)
    assert not different, differences(day, marks, different)
    # who waited for what was expected is promised the place where nothing is
    untold = [replace(mark, expected=0) if isinstance(mark, Batch) else mark for mark in marks]
    assert (await asyncio.to_thread(decide_again, day, "promise", untold))[2] != []


async def test_a_place_that_a_busy_matcher_heard_seconds_late_is_written_after_what_it_decided(tmp_path: Path) -> None:
    live = await Live().open()
    recorder = live.recorder(tmp_path)
    await recorder.start()
    await live.publish(slot("far", lat=45.79))
    await live.ledger.create_request(live.clock.now(), request_row(), Idempotency("regulator", new_id(), b""))
    await live.tell()
    await live.ledger.upsert_slots(live.clock.now(), SOURCE, [slot("near") | {"valid_at": live.clock.now()}])
    await live.tell_others()
    await recorder.step()
    await live.pass_time(5 / 60)
    # whatever becomes of the clock meanwhile
    live.clock.instant += minutes(30)
    await recorder.step()
    await live.decide()
    await read_all(live, recorder)
    day, marks = recorded(tmp_path)
    assert len(day.slots) == 2
    _, _, different = await _again(day, marks)
    assert not different, differences(day, marks, different)


async def test_who_cancelled_before_a_busy_matcher_heard_of_it_was_in_what_it_decided(tmp_path: Path) -> None:
    """An urgent caller has the place that was promised to him; he would move, had he not cancelled a minute ago."""
    live = await Live("promise").open()
    recorder = live.recorder(tmp_path)
    await recorder.start()
    await live.publish(slot("near", 60), slot("later", 240))
    first, *_ = await live.ask(request_row(tier="T2", deadline=NOW + timedelta(hours=8)), confirm=False)
    urgent = request_row(tier="T0", deadline=NOW + timedelta(minutes=75))
    await live.ledger.create_request(live.clock.now(), urgent, Idempotency("regulator", new_id(), b""))
    await live.tell()
    once = Idempotency("regulator", new_id(), b"")
    await live.ledger.change_request("cancel", live.clock.now(), first, ("cancelled",), once)
    await live.tell_others()
    await recorder.step()
    await live.pass_time(5 / 60)
    await live.decide()
    await read_all(live, recorder)
    day, marks = recorded(tmp_path)
    batch = next(mark for mark in marks if isinstance(mark, Batch) and urgent["id"] in mark.asked)
    assert dict(zip(batch.requests, batch.said, strict=True)) == {first: "not_waiting", urgent["id"]: "promised"}
    assert list(day.cancelled_at) == [first] and batch.after == len(day.events) - 1
    _, _, different = await asyncio.to_thread(decide_again, day, "promise", marks)
    assert not different, differences(day, marks, different)


async def test_who_was_given_another_place_while_it_was_heard_that_his_was_taken_back_asks_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """He moves to make room for an urgent caller, and is then heard to have no place: the desk takes him in anew."""
    live = await Live("promise").open()
    recorder = live.recorder(tmp_path)
    await recorder.start()
    await live.publish(slot("near", 60), slot("later", 240), slot("last", 300))
    (first,) = await live.ask(request_row(tier="T2", deadline=NOW + timedelta(hours=8)), confirm=False)
    urgent = request_row(tier="T0", deadline=NOW + timedelta(minutes=75))
    await live.ledger.create_request(live.clock.now(), urgent, Idempotency("regulator", new_id(), b""))
    await live.tell()
    await live.ledger.withdraw_slots(live.clock.now(), SOURCE, ["near"], None, None, "ill")
    claim = live.ledger.claim

    async def late_claim(*arguments: Any) -> Any:
        await live.tell()
        return await claim(*arguments)

    monkeypatch.setattr(live.ledger, "claim", late_claim)
    await live.matcher.decide_batch(live.matcher.known.next_batch())
    monkeypatch.undo()
    await live.tell()
    await live.decide()
    await live.tell()
    await read_all(live, recorder)
    day, marks = recorded(tmp_path)
    batches = [mark for mark in marks if isinstance(mark, Batch)]
    assert [first in batch.asked for batch in batches].count(True) == 2
    _, _, different = await asyncio.to_thread(decide_again, day, "promise", marks)
    assert not different, differences(day, marks, different)


async def test_what_a_matcher_decided_while_it_was_stopped_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = await Live().open()
    recorder = live.recorder(tmp_path)
    await recorder.start()
    await live.publish(slot("near"))
    row = request_row()
    await live.ledger.create_request(live.clock.now(), row, Idempotency("regulator", new_id(), b""))
    await live.tell()
    claim, asked, go = live.ledger.claim, asyncio.Event(), asyncio.Event()

    async def slow_claim(*arguments: Any) -> Any:
        asked.set()
        await go.wait()
        return await claim(*arguments)

    monkeypatch.setattr(live.ledger, "claim", slow_claim)
    deciding = asyncio.create_task(live.matcher.step())
    await asked.wait()
    deciding.cancel()
    await asyncio.sleep(0)
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await deciding
    await live.tell()
    await read_all(live, recorder)
    _, marks = recorded(tmp_path)
    assert [mark.said for mark in marks if isinstance(mark, Batch)] == [("held",)]


async def test_places_kept_for_urgent_requests_are_released_when_they_were(tmp_path: Path) -> None:
    live = await Live("promise").open()
    recorder = live.recorder(tmp_path)
    await recorder.start()
    promised = dict.fromkeys(("T0", "T1", "T2", "T3"), "promise")
    change = SettingChange(TERRITORY, {"urgent_reserve_pct": 60, "policy": promised}, "crise")
    await live.ledger.change_setting(live.clock.now(), change, Idempotency("regulator", new_id(), b""))
    await live.matcher.refresh()
    await live.tell()
    await live.publish(*(slot(f"s{n}", 100) for n in range(6)))
    row = request_row(tier="T2", deadline=NOW + timedelta(hours=8))
    await live.ask(*(row | {"id": new_id()} for _ in range(6)), confirm=False)
    await live.tell()
    waiting = set(live.matcher.known.open.told)
    assert 0 < len(waiting) < 6
    await live.pass_time(69.8)  # of 70, half an hour before they begin
    live.matcher.known.tidy()
    await live.decide()
    await live.tell()
    await read_all(live, recorder)
    day, marks = recorded(tmp_path)
    last = [mark for mark in marks if isinstance(mark, Batch)][-1]
    assert waiting <= set(last.requests) and last.released == live.matcher.known.released
    _, _, different = await asyncio.to_thread(decide_again, day, "promise", marks)
    assert not different, differences(day, marks, different)


async def test_who_waits_urgently_is_answered_again_in_a_round_that_nobody_called(tmp_path: Path) -> None:
    live = await Live("promise").open()
    recorder = live.recorder(tmp_path)
    await recorder.start()
    await live.publish(slot("elsewhere", lat=44.0))
    urgent = request_row(tier="T1", deadline=NOW + timedelta(hours=4))
    await live.ask(urgent, confirm=False)
    await live.publish(slot("near", 120))
    await live.decide()
    await live.tell()
    await read_all(live, recorder)
    day, marks = recorded(tmp_path)
    last = [mark for mark in marks if isinstance(mark, Batch)][-1]
    assert (last.asked, last.answered, last.said) == ((), (urgent["id"],), ("promised",))
    _, summary, different = await asyncio.to_thread(decide_again, day, "promise", marks)
    assert not different, differences(day, marks, different)
    assert summary["batches"]["decided"] == 2


async def test_who_called_before_what_was_heard_first_called_when_he_did(tmp_path: Path) -> None:
    """Lines are in the order of what was heard; what a place costs hangs on the instant of the call."""
    live = await Live().open()
    recorder = live.recorder(tmp_path)
    await recorder.start()
    await live.publish(slot("near"))
    await live.pass_time(20)
    await live.ask(request_row(created_at=live.clock.now()))
    early = request_row(created_at=NOW + timedelta(minutes=5))
    await live.ledger.create_request(NOW + timedelta(minutes=5), early, Idempotency("regulator", new_id(), b""))
    await live.tell()
    await live.decide()
    await live.tell()
    await read_all(live, recorder)
    day, marks = recorded(tmp_path)
    last = [mark for mark in marks if isinstance(mark, Batch)][-1]
    assert dict(last.made) == {early["id"]: (NOW + timedelta(minutes=5)).timestamp()}
    assert [event.t for event in day.requests] == sorted(event.t for event in day.requests)
    run = Again(day, "firm", marks, stopwatch=lambda: 0.0)
    await run.run()
    document = orjson.loads(await run._ledger.request_document(early["id"], None) or "{}")
    assert datetime.fromisoformat(document["created_at"]) == NOW + timedelta(minutes=5)


async def test_a_slot_whose_withdrawal_was_not_heard_yet_was_still_dealt_out(tmp_path: Path) -> None:
    """Whom it sent away asks again before it is known to be gone: who has a later place would have moved to it."""
    live = await Live("promise").open()
    recorder = live.recorder(tmp_path)
    await recorder.start()
    await live.publish(slot("near", 120, capacity=2), slot("later", 240), slot("last", 300))
    hours = {"tier": "T2", "deadline": NOW + timedelta(hours=8)}
    first, _, third = [(await live.ask(request_row(**hours), confirm=False))[0] for _ in range(3)]
    await live.act("cancel", first, "cancelled")
    await live.withdraw("near", unheard=True)
    await live.decide()
    await live.tell()
    await read_all(live, recorder)
    day, marks = recorded(tmp_path)
    heard_late = [mark for mark in marks if isinstance(mark, Batch) and mark.unheard]
    assert third in heard_late[0].lost
    assert {name for batch in heard_late for name in batch.unheard} == {
        min(day.slots, key=lambda event: event.slot.start).slot.id
    }
    _, _, different = await asyncio.to_thread(decide_again, day, "promise", marks)
    assert not different, differences(day, marks, different)


async def test_a_slot_that_comes_back_is_the_same_slot(tmp_path: Path) -> None:
    """Whom it sent away never gets it again, also who was decided before the withdrawal was heard."""
    live = await Live().open()
    recorder = live.recorder(tmp_path)
    await recorder.start()
    near, far = slot("near", 60), slot("far", 150, lat=45.72)
    await live.publish(near, far, slot("wide", 200, lat=45.70, capacity=5))
    (name,) = await live.ask(request_row())
    await live.withdraw("near", unheard=True)
    await live.act("confirm", name, None)
    await read_all(live, recorder)
    await live.publish(near)
    await live.withdraw("far", unheard=True)
    await live.act("confirm", name, None)
    await live.ask(request_row())
    await read_all(live, recorder)
    day, marks = recorded(tmp_path)
    assert [event.slot.id for event in day.slots].count("s0000000002.1") == 1
    decided = [(b.slots, b.requests == (name,)) for b in marks if isinstance(b, Batch)]
    assert decided == [
        *((("s0000000002",), True), (("s0000000001",), True)),
        *((("s0000000003",), True), (("s0000000002.1",), False)),
    ]
    _, summary, different = await _again(day, marks)
    assert different == [] and summary["batches"]["decided"] == 4


async def test_seats_that_were_there_before_are_hidden_and_open_requests_known(tmp_path: Path) -> None:
    live = await Live().open()
    await live.publish(slot("one", 60), slot("two", 80, capacity=2))
    before = await live.ask(request_row(), request_row(profession="DENT"))
    recorder = live.recorder(tmp_path)
    await recorder.start()
    await live.ask(request_row(), request_row())
    await read_all(live, recorder)
    day, marks = recorded(tmp_path)
    assert [(event.slot.capacity) for event in day.slots] == [1, 2]
    # the first is full; the format knows no slot without a place
    assert [steps[-1][1] for steps in day.capacities.values()] == [0, 2]
    assert before[1] in {made.request.id for made in day.requests}
    assert before[0] not in {made.request.id for made in day.requests}
    _, _, different = await _again(day, marks)
    assert different == []


async def test_nobody_is_in_the_files(tmp_path: Path) -> None:
    live = await Live().open()
    recorder = live.recorder(tmp_path)
    await recorder.start()
    who = {"professional": "10003456789", "professional_name": "Dr Olive", "structure": "690012345", "phone": "0472"}
    await live.publish(slot("a", 90, structure_name="Centre Bellecour", label="3 rue du Lac", **who))
    await live.ask(request_row(mt="10003456789", age_band="enfant", case_ref="dossier-77", lat=45.751, lon=4.853))
    await read_all(live, recorder)
    text = b"".join(path.read_bytes() for path in (tmp_path / TERRITORY).iterdir()).decode()
    for word in (
        "10003456789",
        "Olive",
        "690012345",
        "0472",
        "Bellecour",
        "rue du Lac",
        "dossier-77",
        "enfant",
        "regulator",
    ):
        assert word not in text
    day, _ = recorded(tmp_path)
    # the médecin traitant is still known by the same name as his slot
    assert day.requests[0].request.mt == day.slots[0].slot.professional
    assert day.slots[0].slot.structure != day.slots[0].slot.professional
    assert (day.requests[0].request.lat, day.requests[0].request.lon) == (45.751, 4.853)


async def test_a_killed_recorder_goes_on_without_losing_or_repeating(tmp_path: Path) -> None:
    """Killed after each act, in the midst of a line: the files are those of one that was never disturbed."""
    live = await Live().open()
    calm, killed = live.recorder(tmp_path / "calm"), live.recorder(tmp_path / "killed")
    await calm.start()
    await killed.start()
    current = [killed]

    class Latest:
        async def step(self) -> None:
            await current[0].step()

    async def kill() -> None:
        for path in (tmp_path / "killed" / TERRITORY).iterdir():
            read_day(path) if "batches" not in path.name else None  # whole lines, whenever it dies
            with path.open("ab") as file:
                file.write(b'{"type":"slot.publ')
        current[0] = live.recorder(tmp_path / "killed")
        await current[0].start()

    await a_busy_hour(live, calm, Latest(), stop=kill)  # type: ignore[arg-type]
    for name in ("2026-11-23.jsonl", "2026-11-23.batches.jsonl"):
        assert (tmp_path / "killed" / TERRITORY / name).read_bytes() == (
            tmp_path / "calm" / TERRITORY / name
        ).read_bytes()


async def test_what_was_read_but_not_saved_is_read_again(tmp_path: Path) -> None:
    live = await Live().open()
    recorder = live.recorder(tmp_path)
    await recorder.start()
    await live.publish(slot("a"), slot("b", 120))
    (name,) = await live.ask(request_row())
    await recorder.step()  # read, and lost with the process: a second has not passed
    assert not recorded(tmp_path)[0].events
    again = live.recorder(tmp_path)
    await again.start()
    await read_all(live, again)
    day, marks = recorded(tmp_path)
    assert [made.request.id for made in day.requests] == [name]
    assert len(day.slots) == 2 and len([m for m in marks if isinstance(m, Batch)]) == 1


async def test_after_a_gap_the_ledger_says_what_has_changed(tmp_path: Path) -> None:
    live = await Live().open()
    recorder = live.recorder(tmp_path)
    await recorder.start()
    await live.publish(slot("a"), slot("b", 120), slot("c", 150, capacity=3))
    first, second = await live.ask(request_row(), request_row(profession="DENT"))
    await read_all(live, recorder)
    await live.publish(slot("d", 180), slot("c", 150, capacity=2))
    await live.withdraw("b")
    await live.act("cancel", first, "cancelled")
    (third,) = await live.ask(request_row(profession="PED"))
    live.bus.wipe()
    await read_all(live, recorder)
    await live.ask(request_row())
    await read_all(live, recorder)
    day, marks = recorded(tmp_path)
    assert len(day.slots) == 4
    assert len(day.withdrawn_at) == 1 and set(day.cancelled_at) == {first}
    assert [steps[-1][1] for steps in day.capacities.values()] == [1, 1, 2, 1]
    assert {first, second, third} < {made.request.id for made in day.requests}
    _, _, different = await _again(day, marks)
    assert different == []


async def test_at_midnight_another_file_begins_with_what_is_there(tmp_path: Path) -> None:
    live = await Live().open()
    recorder = live.recorder(tmp_path)
    await recorder.start()
    await live.publish(slot("tomorrow", 60 * 20, capacity=2))
    deadline = NOW + timedelta(hours=40)
    await live.ask(request_row(deadline=deadline))
    (open_still,) = await live.ask(request_row(profession="DENT", deadline=deadline))
    await read_all(live, recorder)
    await live.pass_time(60 * 15)  # 23:00 UTC is midnight in Paris
    await read_all(live, recorder)
    await live.ask(request_row(deadline=deadline))
    await read_all(live, recorder)
    day, marks = recorded(tmp_path, "2026-11-24")
    assert day.meta.start.iso() == "2026-11-24T00:00:00+01:00"
    assert [event.slot.capacity for event in day.slots] == [1]
    assert day.requests[0].request.id == open_still
    _, summary, different = await _again(day, marks)
    assert different == [] and summary["batches"]["decided"] == 1
    assert recorded(tmp_path)[0].requests


async def test_a_place_across_the_border_is_in_the_log_of_who_got_it(tmp_path: Path) -> None:
    live = await Live().open()
    recorder = live.recorder(tmp_path, TERRITORY, "01")
    await recorder.start()
    await live.publish(slot("there", 90, territory="01", capacity=5))
    await live.ask(request_row(), request_row())
    await read_all(live, recorder)
    day, marks = recorded(tmp_path)
    assert [steps[-1][1] for steps in day.capacities.values()] == [2]
    _, summary, different = await _again(day, marks)
    assert different == [] and summary["batches"]["decided"] == 2
    assert [event.slot.capacity for event in recorded(tmp_path, territory="01")[0].slots] == [5]


@pytest.mark.parametrize(("policy", "more", "word"), [("promise", 1, "moved"), ("crisis", 0, "displaced")])
async def test_a_seat_that_a_desk_ceded_to_another_territory_is_ceded_again(
    tmp_path: Path, policy: str, more: int, word: str
) -> None:
    """Who had it moves, or is displaced: the day of his territory says so, that of the other has the seat."""
    live = await Live(policy).open()
    recorder = live.recorder(tmp_path, TERRITORY, "01")
    await recorder.start()
    await live.publish(slot("near", 60), *(slot(f"later{n}", 200) for n in range(more)))
    (first,) = await live.ask(request_row(tier="T3", deadline=NOW + timedelta(hours=8)), confirm=False)
    await read_all(live, recorder)
    urgent = request_row(tier="T0", territory="01", deadline=NOW + timedelta(minutes=75), created_at=live.clock.now())
    (second,) = await live.ask(urgent, confirm=False)
    assert orjson.loads(await live.ledger.request_document(second, None) or "{}")["status"] == "promised"
    await read_all(live, recorder)
    for territory, request in ((TERRITORY, first), ("01", second)):
        day, marks = recorded(tmp_path, territory=territory)
        batch = next(mark for mark in reversed(marks) if isinstance(mark, Batch) and request in mark.requests)
        near = min(day.slots, key=lambda event: event.slot.start).slot.id
        loser = first if word == "displaced" else None
        assert batch.ceded == (((near, loser),) if territory == TERRITORY else ())
        assert batch.said == ((word,) if territory == TERRITORY else ("promised",))
        _, summary, different = await asyncio.to_thread(decide_again, day, policy, marks)
        assert different == [] and summary["batches"]["decided"] >= 1


async def test_files_that_were_shortened_or_are_not_known_are_not_written_over(tmp_path: Path) -> None:
    live = await Live().open()
    recorder = live.recorder(tmp_path)
    await recorder.start()
    await live.publish(slot("a"))
    await read_all(live, recorder)
    path = tmp_path / TERRITORY / "2026-11-23.jsonl"
    os.truncate(path, 20)
    with pytest.raises(OSError, match="raccourci"):
        await live.recorder(tmp_path).start()
    (tmp_path / MARK).unlink()
    with pytest.raises(FileExistsError, match="existe déjà"):
        await live.recorder(tmp_path).start()


def test_a_folder_has_one_recorder_and_one_key_that_only_its_owner_reads(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "journaux"
    key, lock = open_folder(folder)
    assert len(key) == 32
    assert (folder / KEY).stat().st_mode & 0o777 == 0o600
    with pytest.raises(BlockingIOError):
        open_folder(folder)
    os.close(lock)
    again, lock = open_folder(folder)
    assert again == key
    os.close(lock)


def test_the_first_line_says_the_terms_of_the_service() -> None:
    meta = meta_of("974", ZoneInfo("Indian/Reunion"), datetime(2026, 11, 23, tzinfo=UTC).date(), Terms())
    assert (meta.start.iso(), meta.end.iso()) == ("2026-11-23T00:00:00+04:00", "2026-11-24T00:00:00+04:00")
    assert [(t.tier, t.max_delay_min, t.value) for t in meta.tiers] == [
        ("T0", 60, 40_000),
        ("T1", 240, 20_000),
        ("T2", 1440, 10_000),
        ("T3", 2880, 5_000),
    ]


# -- reading the batches -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "change", "problem"),
    [
        (1, {"format": "sas-batches/2"}, "première ligne"),
        (1, {"start": "2026-11-22T00:00:00+01:00"}, "autre journal"),
        (1, {"territory": "01"}, "autre journal"),
        (2, {"type": "lot"}, "type « lot » inconnu"),
        (2, {"after": 99}, "« after »"),
        (2, {"after": -1}, "entier positif"),
        (2, {"t": "demain"}, "valeur incorrecte"),
        (2, {"requests": ["nobody"], "slots": [None]}, "« nobody »"),
        (2, {"slots": []}, "même longueur"),
        (2, {"slots": ["nowhere"]}, "« nowhere »"),
        (2, {"ceded": [["nowhere", None]]}, "« nowhere »"),
        (2, {"ceded": [["s0000000001", "nobody"]]}, "« nobody »"),
        (2, {"ceded": ["s0000000001"]}, "valeur incorrecte"),
        (2, {"expected": -1}, "entier positif"),
        (2, {"policy": ...}, "clé « policy » manquante"),
        (2, {"measures": {"hold_seconds": 60}}, "hold_seconds"),
    ],
)
async def test_bad_batches_are_refused_with_their_line(tmp_path: Path, number: int, change: Json, problem: str) -> None:
    live = await Live().open()
    recorder = live.recorder(tmp_path)
    await recorder.start()
    await live.publish(slot("a"))
    await live.ask(request_row())
    await read_all(live, recorder)
    day, _ = recorded(tmp_path)
    lines = (tmp_path / TERRITORY / "2026-11-23.batches.jsonl").read_bytes().splitlines()
    record = {k: v for k, v in {**orjson.loads(lines[number - 1]), **change}.items() if v is not ...}
    lines[number - 1] = orjson.dumps(record)
    with pytest.raises(DayLogError, match=problem) as wrong:
        list(read_marks(lines, day))
    assert wrong.value.line == number
