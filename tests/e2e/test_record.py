"""A live day is recorded, and decided again: real servers, the real matcher, every decision the same."""

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import orjson
import pytest

from adapters.geo.gazetteer import Commune
from sas_matcher.bootstrap.days import record
from sas_matcher.matching.terms import Terms
from sas_matcher.ports.bus import BATCHES_STREAM, entry_order
from sas_matcher.replay.again import decide_again
from sas_matcher.replay.batches import Batch, Mark, read_batches
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
from sas_matcher.replay.daylog_file import read_day, write_day
from sas_matcher.replay.recorder import MARK, meta_of
from sas_matcher.services.matcher.desks import Step
from tests.api.conftest import settings_for
from tests.api.running import Caller, Running, eventually, run_service, slot, wish
from tests.e2e.test_demo import START_S, environment, gone, left_behind
from tests.e2e.test_serve import free_port, wait_for
from tests.recorded_days import differences

TERRITORY = "69"
Json = dict[str, Any]


def away_from_midnight(service: Running) -> None:
    """Let midnight be past where it is near: what a test records lies in one day's file."""
    here = service.clock.now().astimezone(ZoneInfo(service.geography.territories[TERRITORY].timezone))
    if here.hour >= 21:  # a test moves the clock by an hour, and a busy machine needs minutes
        service.clock.ahead += (here + timedelta(days=1)).replace(hour=0, minute=1) - here


@pytest.fixture
async def service(database_url: str, redis_url: str) -> AsyncIterator[Running]:
    async with run_service(settings_for(database_url, redis_url, territories=(TERRITORY,))) as running:
        away_from_midnight(running)
        yield running


@asynccontextmanager
async def recording(service: Running, folder: Path) -> AsyncIterator[None]:
    """Record for the length of a block; at its end nobody decides any more, and what was decided is on disk."""
    task = asyncio.create_task(record(service.settings, folder))
    mark = folder / MARK
    before = mark.stat().st_mtime_ns if mark.exists() else 0
    await eventually(lambda: task.done() or (mark.exists() and mark.stat().st_mtime_ns > before))
    yield
    # a matcher that ends has told what it decided; what was heard after that hangs on until the next recorder
    await service.stop_core()
    last = (await service.stores.bus.tails([BATCHES_STREAM]))[BATCHES_STREAM]

    def written() -> bool:
        return entry_order(orjson.loads(mark.read_bytes())["positions"][BATCHES_STREAM]) >= entry_order(last)

    await eventually(lambda: task.done() or written())
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def recorded(folder: Path) -> tuple[DayLog, list[Mark]]:
    (path,) = (folder / TERRITORY).glob("????-??-??.jsonl")
    day = read_day(path)
    return day, read_batches(path.with_suffix(".batches.jsonl"), day)


def batches(marks: Iterable[Mark]) -> list[Batch]:
    return [mark for mark in marks if isinstance(mark, Batch)]


class Scene:
    """A commune of Lyon with a regulator who confirms at once, and a practice."""

    def __init__(self, service: Running, regulator: Caller, practice: Caller) -> None:
        self.service, self.regulator, self.practice = service, regulator, practice
        self.slots: list[Json] = []
        self.requests: list[str] = []
        found = service.geography.by_code("69123")
        assert found is not None
        self.spot: Commune = found

    @classmethod
    async def of(cls, service: Running) -> "Scene":
        return cls(service, await service.regulator(TERRITORY), await service.practice())

    def slot(self, minutes: float, km_north: float = 0.0, **changes: Any) -> Json:
        start = self.service.clock.now().replace(microsecond=0)
        return slot(self.spot, start + timedelta(minutes=minutes), km_north=km_north, **changes)

    async def publish(self, *slots: Json) -> None:
        await self.practice.publish(*slots)

    async def burst(self, *wishes: Json) -> list[str]:
        """Ask for many while no matcher decides, then let it decide them together; confirm what is held."""
        await self.service.stop_core()
        answers = await asyncio.gather(*(self.regulator.post("/v1/requests", each) for each in wishes))
        names = [str(answer.json()["request_id"]) for answer in answers]
        await self.service.start_core()
        await asyncio.gather(*(self.settled(name) for name in names))
        return names

    async def ask(self, **changes: Any) -> str:
        document = await self.regulator.ask(wish(self.spot, **changes))
        await self.settled(document["request_id"])
        return str(document["request_id"])

    async def settled(self, name: str) -> None:
        """Wait for the decision; confirm a hold."""
        self.requests.append(name)
        document = await self.regulator.until(name, lambda d: d["decision"] is not None)
        if document["status"] == "held":
            await self.regulator.act("confirm", name)

    async def booked(self, slots: list[Json]) -> str:
        """Return which of these slots is booked, by its external id."""
        rows = await self.service.rows(
            "select s.external_id from booking b join slot s on s.id = b.slot_id where b.ended_at is null"
        )
        taken = {row["external_id"] for row in rows}
        return next(str(s["external_id"]) for s in slots if s["external_id"] in taken)

    async def places(self) -> dict[str, str | None]:
        """The slot that each request has in the end, by its number in the ledger."""
        rows = await self.service.rows(
            "select r.id::text as id, b.slot_id from request r left join booking b on b.id = r.booking_id"
            " and b.ended_at is null"
        )
        return {row["id"]: None if row["slot_id"] is None else f"s{row['slot_id']:010d}" for row in rows}


async def test_a_recorded_day_decides_the_same(service: Running, tmp_path: Path) -> None:
    scene = await Scene.of(service)
    before = [scene.slot(60 + 15 * n, km_north=n % 3) for n in range(6)]
    await scene.publish(*before)
    early = await scene.ask()
    async with recording(service, tmp_path):
        wide = scene.slot(200, capacity=3)
        later = [scene.slot(90 + 10 * n, km_north=0.8 * n, offers=["pmr", "enfant"]) for n in range(5)]
        await scene.publish(wide, *later)
        first = await scene.burst(
            *(wish(scene.spot, delay=delay) for delay in ("24H", "4H", "1H", "24H", "4H", "48H")),
            *(wish(scene.spot, needs=["enfant"]) for _ in range(7)),
            wish(scene.spot, profession="DENT"),
        )
        # one gives his place back, one whose practice withdraws needs another, a plage shrinks and grows
        places = await scene.places()
        held = [name for name in first if places[name] is not None]
        assert len(held) >= 10
        await scene.regulator.act("cancel", held[0], {"reason": "cancelled"})
        gone = await scene.booked(later)
        answer = await scene.practice.post("/v1/slots/withdraw", {"external_ids": [gone]})
        assert answer.json()["results"] == [{"external_id": gone, "outcome": "withdrawn"}]
        for name in first:
            await scene.settled(name)
        await scene.publish({**wide, "capacity": 2})
        await scene.ask(delay="48H")
        await scene.publish({**wide, "capacity": 4})
        await scene.burst(*(wish(scene.spot, delay="48H") for _ in range(4)))
        await scene.regulator.act("cancel", first[-1], {"reason": "cancelled"})
        await scene.ask(profession="DENT")
    day, marks = recorded(tmp_path)
    kinds = {type(event) for event in day.events}
    assert {RequestCancelled, SlotCapacity, SlotWithdrawn} <= kinds
    assert max(len(batch.requests) for batch in batches(marks)) == 14
    lines, summary, different = await asyncio.to_thread(decide_again, day, "firm", marks)
    assert not different, differences(day, marks, different)
    assert summary["batches"]["decided"] >= 20
    again = {row["request_id"]: row["slot_id"] for row in map(orjson.loads, lines)}
    places = await scene.places()
    assert early not in again
    assert again == {name: place for name, place in places.items() if name != early}


def an_earlier_day(folder: Path, service: Running) -> DayLog:
    """Record a day of last week: at each half hour somebody calls, and a place comes up for two hours later."""
    territory = service.geography.territories[TERRITORY]
    zone = ZoneInfo(territory.timezone)
    date = (service.clock.now().astimezone(zone) - timedelta(days=7)).date()
    meta = meta_of(TERRITORY, zone, date, Terms())
    spot = service.geography.by_code("69123")
    assert spot is not None
    events: list[Event] = []
    for n in range(44):
        t = Instant(meta.start + 1800 * n, meta.start.offset_s)
        start = Instant(t + 7200, t.offset_s)
        end = Instant(start + 900, t.offset_s)
        place = (spot.lat, spot.lon)
        offer = Slot(f"s{n}", f"p{n}", None, "liberal", *place, start, end, 1, "cabinet", "MG", ("pmr",))
        tier = ("T0", "T1", "T2", "T3")[n % 4]
        deadline = Instant(min(t + 3600 * 3, meta.end), t.offset_s)
        asked = Request(f"r{n}", *place, "MG", ("cabinet",), tier, deadline, 5.0, (), None, True)
        events += [SlotPublished(t, offer), RequestCreated(t, asked)]
    day = DayLog(meta, tuple(events))
    (folder / TERRITORY).mkdir(parents=True)
    write_day(folder / TERRITORY / f"{date}.jsonl", day)
    return day


async def test_a_recorded_day_of_promises_decides_the_same(database_url: str, redis_url: str, tmp_path: Path) -> None:
    """Plans that are made elsewhere while calls are answered, with a forecast: each decision, and its word, again."""
    past, folder = tmp_path / "past", tmp_path / "today"
    settings = settings_for(database_url, redis_url, territories=(TERRITORY,), history_dir=str(past))
    async with run_service(settings) as service:
        away_from_midnight(service)
        earlier = an_earlier_day(past, service)
        coordinator = await service.key("cpts", territories=(TERRITORY,))
        body = {"policy": dict.fromkeys(("T0", "T1", "T2", "T3"), "promise"), "why": "essai"}
        answer = await coordinator.patch(f"/v1/territories/{TERRITORY}/settings", body)
        assert answer.status_code == 200, answer.text
        await service.stop_core()
        await service.start_core()
        scene = await Scene.of(service)

        async def firm() -> int:
            return sum([(await scene.regulator.request(name))["status"] == "firm" for name in first + crowd])

        async def one_more(before: int) -> bool:
            return await firm() > before

        async with recording(service, folder):
            slots = [scene.slot(45 + 10 * n, km_north=n % 4) for n in range(9)]
            await scene.publish(*slots)
            first = [await scene.ask(delay=delay) for delay in ("4H", "24H", "1H", "48H", "4H")]
            crowd = await scene.burst(*(wish(scene.spot, delay=delay) for delay in ("24H", "4H", "1H", "48H", "4H")))
            documents = [await scene.regulator.request(name) for name in first + crowd]
            promised = [d["request_id"] for d in documents if d["status"] == "promised"]
            assert promised
            await scene.regulator.act("cancel", promised[-1], {"reason": "cancelled"})
            answer = await scene.practice.post("/v1/slots/withdraw", {"external_ids": [slots[6]["external_id"]]})
            assert answer.status_code == 200
            await scene.publish(scene.slot(70), scene.slot(75, capacity=2))
            # time passes: at half an hour before their places begin those who were promised one are told
            before = await firm()
            service.clock.ahead += timedelta(minutes=20)
            await eventually(lambda: one_more(before))
            # and when nobody has decided for a while, nobody is sent to a place that has begun meanwhile
            service.clock.ahead += timedelta(minutes=40)
            await eventually(lambda: one_more(before + 1))
            for name in first + crowd:
                await scene.settled(name)
        day, marks = recorded(folder)
        places = await scene.places()
    steps = {batch.step for batch in batches(marks)}
    assert {Step.BEGUN, Step.TAKEN} <= steps
    assert {"promised", "told_firm"} <= {word for batch in batches(marks) for word in batch.said}
    lines, summary, different = await asyncio.to_thread(decide_again, day, "promise", marks, history=[earlier])
    assert not different, differences(day, marks, different)
    assert summary["batches"]["decided"] >= len(first + crowd)
    rows = [orjson.loads(line) for line in lines]
    served = {row["request_id"]: row["slot_id"] for row in rows if row["status"] == "served"}
    assert served and served.items() <= places.items()
    assert any(batch.step is Step.TAKEN and set(batch.requests) - set(batch.asked) for batch in batches(marks))


async def test_what_a_crowd_does_at_once_is_decided_the_same(service: Running, tmp_path: Path) -> None:
    """Nobody waits for anybody: publications, changes, withdrawals and cancellations between and during batches."""
    random = Random(5)
    scene = await Scene.of(service)
    slots = [
        scene.slot(60 + 4 * n, km_north=random.uniform(-3, 3), capacity=random.choice((1, 1, 1, 3))) for n in range(40)
    ]

    async def caller() -> None:
        for _ in range(12):
            asked = wish(scene.spot, delay=random.choice(("1H", "4H", "24H", "48H")))
            document = (await scene.regulator.post("/v1/requests", asked)).json()
            name = document["request_id"]
            if document["status"] == "held":
                await scene.regulator.post(f"/v1/requests/{name}/confirm", {})
                if random.random() < 0.3:
                    await scene.regulator.post(f"/v1/requests/{name}/cancel", {"reason": "cancelled"})

    async def practice() -> None:
        for n in range(40):
            await asyncio.sleep(0.1 * random.random())
            # one after the other: some withdraw what another publishes again
            if n % 3 == 0:
                gone = {"external_ids": [random.choice(slots)["external_id"]]}
                await scene.practice.post("/v1/slots/withdraw", gone)
            elif n % 3 == 1:
                wide = random.choice([one for one in slots if one["capacity"] > 1])
                wide["capacity"] = random.choice((2, 3, 4))
                await scene.publish(wide)
            else:
                slots.append(scene.slot(60 + 5 * n, km_north=random.uniform(-3, 3), capacity=1))
                await scene.publish(slots[-1])

    async with recording(service, tmp_path):
        await scene.publish(*slots)
        await asyncio.gather(*(caller() for _ in range(5)), practice(), practice())
    day, marks = recorded(tmp_path)
    assert len(day.requests) == 60 and len(batches(marks)) > 20
    assert max(len(batch.requests) for batch in batches(marks)) > 1
    # also who cancelled so soon that the recorder read of both at once
    assert {name for batch in batches(marks) for name in batch.requests} == {e.request.id for e in day.requests}
    assert len(day.cancelled_at) > 3
    # a slot that was withdrawn and published again is there twice
    assert any("." in event.slot.id for event in day.slots)
    _, summary, different = await asyncio.to_thread(decide_again, day, "firm", marks)
    assert not different, differences(day, marks, different)
    assert summary["batches"]["decided"] >= len(day.requests)


@pytest.mark.timeout(400)
def test_the_command_records_beside_a_running_service(tmp_path: Path) -> None:
    """On the same embedded servers; refused where another one writes, killed and gone on with, ended by a signal."""
    tmp_path.chmod(0o755)
    data, out, port = tmp_path / "data", tmp_path / "journaux", free_port()
    python = [sys.executable, "-m", "sas_matcher.cli"]
    quiet: Any = {"env": environment(data), "stderr": subprocess.DEVNULL, "start_new_session": True}
    serve = [*python, "serve", "--data", str(data), "--port", str(port), "--territories", "48"]
    record = [*python, "record", "--data", str(data), "--out", str(out), "--territories", "48"]
    running: list[subprocess.Popen[bytes]] = []

    def end(process: subprocess.Popen[bytes]) -> int:
        process.send_signal(signal.SIGTERM)
        return process.wait(30)

    def days() -> list[Path]:
        found = sorted((out / "48").glob("????-??-??.jsonl"))
        assert 1 <= len(found) <= 2, "of a run through midnight there are two"
        return found

    def until_marked(after: int = 0) -> None:
        deadline = time.monotonic() + START_S
        while not (mark.exists() and mark.stat().st_mtime_ns > after):
            assert time.monotonic() < deadline and recording.poll() is None
            time.sleep(0.1)

    mark = out / ".reprise.json"
    try:
        running.append(subprocess.Popen(serve, **quiet))
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as http:
            wait_for(http, "/readyz", 200)
        running.append(recording := subprocess.Popen(record, **quiet))
        until_marked()
        second = subprocess.run(record, capture_output=True, text=True, timeout=START_S, env=quiet["env"], check=False)
        assert second.returncode == 1 and "un autre enregistrement écrit déjà" in second.stderr
        recording.kill()
        recording.wait()
        for started in days():
            read_day(started)
        marked = mark.stat().st_mtime_ns
        running.append(recording := subprocess.Popen(record, **quiet))
        until_marked(marked)
        assert end(recording) == 0
        assert running[0].poll() is None, "recording must not stop the service"
        assert end(running[0]) == 0
    finally:
        for process in running:
            if process.poll() is None:
                process.kill()
                process.wait()
    for path in days():
        assert read_batches(path.with_suffix(".batches.jsonl"), read_day(path)) == []
    assert gone(data), left_behind(data)
