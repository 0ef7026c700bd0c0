"""Sixty-four clients on two hundred places: regulators, practices, two matchers and one whose lease was taken.

Everybody acts on hints that are mostly wrong, holds run out in a fraction of a second, Redis is flushed all the time.
What the clients were told is kept, to be compared with what the ledger then says.
"""

import asyncio
import itertools
import random
import time
import uuid
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

import asyncpg
import orjson

from adapters.postgres.ledger import PostgresLedger
from adapters.redis import RedisBus, keys
from adapters.redis.bus import answering
from sas_matcher.domain.errors import FencedError
from sas_matcher.domain.lifecycle import ClaimKind
from sas_matcher.ports.ledger import Announcement, Claim, Idempotency, Outcome, PracticeLimit
from sas_matcher.services.keeper import Keeper
from sas_matcher.services.relay import Relay
from tests.ledger_cases import KEY, NOW, SOURCE, add_regulator, minutes, request_row, slot_row
from tests.race.history import SQL, judge, record

CLIENTS: Final = 64
PRACTICES: Final = 3
FLUSH_S: Final = 0.5
HOLD_S: Final = 0.12  # about twice what an act takes in this crowd, so that confirmations come in time and too late
PAUSE_S: Final = 0.2  # how long 15 % of the regulators think
BATCH: Final = 50
TERRITORIES: Final = ("69", "01")
CENTRE: Final = "1690000001"  # of every place of ``slot_row``


class ScaledClock:
    """Runs from ``NOW`` at the pace of real time."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    def now(self) -> datetime:
        """Return the present instant."""
        return NOW + timedelta(seconds=time.monotonic() - self._start)


class SeededIds:
    """Ids that a seed repeats."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def uuid(self) -> str:
        """Return a new one."""
        return str(uuid.UUID(int=self._random.getrandbits(128), version=4))


def places() -> list[dict[str, Any]]:
    """Return 200 seats: ten plages of 8, a hundred single slots, twenty slots of one professional that overlap."""
    rows = [slot_row(f"plage{n}", at=600 + n, lasts=180, capacity=8) for n in range(10)]
    rows += [slot_row(f"single{n}", at=600 + n) for n in range(100)]
    rows += [slot_row(f"overlap{n}", at=600 + 5 * n, lasts=20, professional="8overlap") for n in range(20)]
    return rows


@dataclass
class Report:
    """What was tried, what was won, what the judge found."""

    attempts: Counter[str] = field(default_factory=Counter)
    wins: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    takes: int = 0
    flushes: int = 0
    deadlocks: int = 0
    limited: int = 0
    seconds: float = 0.0

    def add(self, other: "Report") -> None:
        """Take in the figures of another campaign."""
        self.attempts += other.attempts
        self.wins += other.wins
        self.wrong += other.wrong
        self.takes += other.takes
        self.flushes += other.flushes
        self.deadlocks += other.deadlocks
        self.seconds += other.seconds

    def table(self) -> str:
        """Return the table that is printed at the end."""
        lines = [f"{'':<10}{'attempts':>10}{'wins':>10}{'conflicts':>10}"]
        rows = [(name, self.attempts[name], self.wins[name]) for name in sorted(self.attempts)]
        rows.append(("all", self.attempts.total(), self.wins.total()))
        lines += [f"{name:<10}{tried:>10}{won:>10}{tried - won:>10}" for name, tried, won in rows]
        lines.append(f"seats taken {self.takes}, Redis flushed {self.flushes} times, deadlocks {self.deadlocks}")
        lines.append(f"doubles {len(self.wrong)}, seconds {self.seconds:.1f}")
        return "\n".join(lines + self.wrong[:20])


class Crowd:
    """One campaign on one scratch database and one Redis."""

    def __init__(
        self,
        ledger: PostgresLedger,
        bus: RedisBus,
        relay: Relay,
        url: str,
        seed: int,
        clock: ScaledClock,
        *,
        flushes: bool = True,
        cap: int | None = None,
    ) -> None:
        self.report = Report()
        self._flushes = flushes
        self._cap = cap
        self._ledger = ledger
        self._bus = bus
        self._relay = relay
        self._url = url
        self._random = random.Random(seed)
        self._clock = clock
        self._ids = SeededIds(seed + 1)
        self._keeper = Keeper(ledger, bus, relay, clock, SeededIds(seed + 2))
        self._slots: list[int] = []
        self._rows = places()
        self._pool: dict[str, dict[str, dict[str, Any]]] = {name: {} for name in TERRITORIES}
        self._requests: list[str] = []
        self._territory: dict[str, str] = {}
        self._numbers = itertools.count()
        self._told_firm: dict[str, str] = {}  # booking → request, as answered to a regulator
        self._fenced_bookings: set[str] = set()
        self._plenty = 0

    def announce(self, announcements: Sequence[Announcement]) -> None:
        """Be the ledger's publisher: matchers hear of open requests, the rest goes to Redis."""
        for a in announcements:
            if a.stream == "requests":
                pool = self._pool[a.territory]
                if a.type == "open":
                    document = orjson.loads(a.data)
                    if a.version >= pool.get(a.aggregate, document)["version"]:
                        pool[a.aggregate] = document
                else:
                    pool.pop(a.aggregate, None)
        self._relay.announce(announcements)

    # -- the campaign --------------------------------------------------------------------------------------------

    async def run(self, attempts: int) -> Report:
        """Let everybody loose until so many things were tried; then judge."""
        await record(self._url)
        await add_regulator(self._url)
        self._plenty = attempts
        verdicts = await self._ledger.upsert_slots(self._clock.now(), SOURCE, self._rows)
        self._slots = [verdict["slot_id"] for verdict in verdicts]
        if self._cap is not None:
            centre = PracticeLimit(
                SOURCE, "cap", "patients", "day", self._cap, None, "UTC", own_only=False, members=(f"s:{CENTRE}",)
            )
            await self._ledger.put_limit(self._clock.now(), centre)
        old = await self._ledger.take_leases("old", TERRITORIES[:1], 600)
        await self._execute("update lease set until = clock_timestamp()")
        fences = await self._ledger.take_leases("new", TERRITORIES, 600)
        began = time.monotonic()
        for _ in range(CLIENTS * 2):
            await self._ask()
        background = [asyncio.create_task(work) for work in (self._relay.run(), self._keeper.run())]
        if self._flushes:
            background.append(asyncio.create_task(self._flush()))
        crowd: list[Coroutine[Any, Any, None]] = [self._matcher({name: fences[name]}, name) for name in TERRITORIES]
        crowd.append(self._old_matcher(old))
        crowd += [self._practice() for _ in range(PRACTICES)]
        crowd += [self._regulator() for _ in range(CLIENTS - len(crowd))]
        try:
            async with asyncio.TaskGroup() as group:
                for work in crowd:
                    group.create_task(work)
            self.report.seconds = time.monotonic() - began
        finally:
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)
        await self._judge()
        return self.report

    def _going(self) -> bool:
        return self.report.attempts.total() < self._plenty

    def _count(self, what: str, *, won: bool) -> bool:
        self.report.attempts[what] += 1
        self.report.wins[what] += won
        return won

    async def _execute(self, sql: str) -> None:
        connection = await asyncpg.connect(self._url)
        try:
            await connection.execute(sql)
        finally:
            await connection.close()

    # -- regulators ----------------------------------------------------------------------------------------------

    def _once(self) -> Idempotency:
        return Idempotency(KEY, f"k{next(self._numbers)}", b"body")

    async def _ask(self) -> str:
        row = request_row(
            id=self._ids.uuid(),
            territory=self._random.choice(TERRITORIES),
            deadline=self._clock.now() + timedelta(hours=24),
        )
        await self._ledger.create_request(self._clock.now(), row, self._once())
        request: str = row["id"]
        self._requests.append(request)
        self._territory[request] = row["territory"]
        return request

    async def _act(self, action: str, request: str, *arguments: Any, win: str) -> Outcome | None:
        outcome = await self._ledger.change_request(action, self._clock.now(), request, arguments, self._once())
        return outcome if self._count(action, won=outcome.word == win) else None

    async def _take(self, request: str) -> bool:
        until = self._clock.now() + timedelta(seconds=HOLD_S)
        arguments = (self._random.choice(self._slots), self._ids.uuid(), until, "{}")
        return await self._act("take", request, *arguments, win="held") is not None

    async def _regulator(self) -> None:
        """Work on one's own and sometimes on another's request, confirm in time or too late, change one's mind."""
        chance = self._random
        mine = await self._ask()
        while self._going():
            if chance.random() < 0.2:
                mine = chance.choice(self._requests)
            deed = chance.random()
            if deed < 0.30:
                if await self._take(mine) and chance.random() < 0.15:
                    await asyncio.sleep(PAUSE_S)
            elif deed < 0.65:
                confirmed = await self._act("confirm", mine, None, win="firm")
                if confirmed is not None:
                    document = orjson.loads(confirmed.document or "")
                    self._told_firm[document["booking"]["booking_id"]] = mine
                    if chance.random() < 0.5:
                        mine = await self._ask()
            elif deed < 0.75:
                await self._act("decline", mine, None, chance.choice(("slot", "slot", "professional")), win="declined")
            elif deed < 0.85:
                await self._act("cancel", mine, "changed", win="cancelled")
                mine = await self._ask()
            elif deed < 0.95:
                await self._act("resume", mine, win="waiting")
            else:
                await asyncio.sleep(chance.random() * HOLD_S)

    # -- matchers ------------------------------------------------------------------------------------------------

    def _batch(self, territory: str) -> list[Claim]:
        """Claim whatever: the same slot several times, slots that were declined, for requests that wait no more."""
        pool = self._pool[territory]
        picked = set(self._random.sample(sorted(pool), min(BATCH // 2, len(pool))))
        picked |= {name for name in self._random.choices(self._requests, k=BATCH) if self._territory[name] == territory}
        now = self._clock.now()
        until = now + timedelta(seconds=HOLD_S)
        few = self._random.sample(self._slots, 40)
        return [
            Claim(name, self._random.choice(few), self._ids.uuid(), until, "{}", ClaimKind.HOLD)
            for name in sorted(picked)
        ]

    async def _matcher(self, fences: dict[str, int], territory: str) -> None:
        while self._going():
            claims = self._batch(territory)
            if not claims:
                await asyncio.sleep(0.002)
                continue
            pool = self._pool[territory]
            known = {claim.request_id: pool.get(claim.request_id) for claim in claims}
            verdicts, _ = await self._ledger.claim(self._clock.now(), fences, claims)
            for claim, verdict in zip(claims, verdicts, strict=True):
                before = known[claim.request_id]
                if self._count("claim", won=verdict == "held") and before and f"s{claim.slot_id}" in before["excluded"]:
                    self.report.wrong.append(f"request {claim.request_id} got slot {claim.slot_id} again")
                self.report.limited += verdict == "limit_reached"
                if verdict not in ("seat_lost", "limit_reached") and pool.get(claim.request_id) is before:
                    pool.pop(claim.request_id, None)

    async def _old_matcher(self, fences: dict[str, int]) -> None:
        """A matcher that slept through the loss of its lease: nothing it writes may stay."""
        while self._going():
            claims = self._batch(TERRITORIES[0])
            self._fenced_bookings |= {claim.booking_id for claim in claims}
            if claims:
                try:
                    await self._ledger.claim(self._clock.now(), fences, claims)
                except FencedError:
                    self._count("fenced", won=False)
                else:
                    self.report.wrong.append("an old fence was let through")
            await asyncio.sleep(0.02)

    # -- practices -----------------------------------------------------------------------------------------------

    async def _practice(self) -> None:
        """Withdraw and publish again, change capacities and times, refuse bookings."""
        chance = self._random
        while self._going():
            row = chance.choice(self._rows)
            deed = chance.random()
            now = self._clock.now()
            if deed < 0.15:
                verdicts = await self._ledger.withdraw_slots(now, SOURCE, [row["external_id"]], None, None, "absence")
                self._count("withdraw", won=verdicts[0]["outcome"] == "withdrawn")
            elif deed < 0.55:
                await self._publish(dict(row), now)
            elif deed < 0.75:
                row = chance.choice(self._rows[:10])
                await self._publish(row | {"capacity": chance.randint(2, 8)}, now)
            elif self._told_firm:
                booking = chance.choice(list(self._told_firm))
                once = Idempotency(SOURCE, f"k{next(self._numbers)}", b"body")
                outcome = await self._ledger.change_booking(
                    "refuse", now, booking, ("full", chance.random() < 0.7), once
                )
                self._count("refuse", won=outcome.word == "refused")
            await asyncio.sleep(0.005)

    async def _publish(self, row: dict[str, Any], now: datetime) -> None:
        if self._random.random() < 0.3:
            # a new time: not while it is booked
            shift = minutes(self._random.randint(-5, 5))
            row |= {"starts": row["starts"] + shift, "ends": row["ends"] + shift}
        late = timedelta(seconds=self._random.choice((0, 0, 0, 0.05)))
        (verdict,) = await self._ledger.upsert_slots(now, SOURCE, [row | {"valid_at": now - late}])
        self._count("publish", won=verdict["outcome"] == "updated")

    # -- what happens besides ------------------------------------------------------------------------------------

    async def _flush(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_S)
            with answering():
                await self._bus.redis.flushdb()
            self.report.flushes += 1

    # -- judging -------------------------------------------------------------------------------------------------

    async def _judge(self) -> None:
        wrong = self.report.wrong
        wrong += await judge(self._url)
        wrong += [f"own auditor: {what} {count}" for what, count in (await self._ledger.doubles()).items() if count]
        connection = await asyncpg.connect(self._url)
        try:
            self.report.takes = await connection.fetchval("select count(*) from history where what = 'take'")
            confirmed = {row["id"]: row["request_id"] for row in await connection.fetch(SQL["firm"])}
            lost = [booking for booking, request in self._told_firm.items() if confirmed.get(booking) != request]
            wrong += [f"booking {booking} was confirmed to a regulator and is not there" for booking in lost]
            ids = [uuid.UUID(booking) for booking in self._fenced_bookings]
            stray = await connection.fetchval("select count(*) from booking where id = any($1)", ids)
            if stray:
                wrong.append(f"{stray} bookings of a matcher without lease")
            await self._settle()
            truth = {
                row["id"]: 0 if row["blocked"] else min(row["free"], 0) if row["closed"] else row["free"]
                for row in await connection.fetch(SQL["seats"])
            }
            left = await connection.fetchval("select count(*) from outbox")
        finally:
            await connection.close()
        wrong += [f"mirror: slot {slot}: {text}" for slot, text in (await self._mirror_errors(truth)).items()]
        if left:
            wrong.append(f"{left} announcements were never published")

    async def _settle(self) -> None:
        """Publish what the end of the relay left behind, and let the mirror be complete."""
        while late := await self._ledger.leftovers(self._clock.now(), 500):
            await self._bus.publish(late)
            await self._ledger.mark_published([a.id for a in late])
        await self._keeper.keep_epoch()

    async def _mirror_errors(self, truth: dict[int, int]) -> dict[int, str]:
        places_of = await self._bus.redis.hgetall(keys.places("69"))
        seats_of = await self._bus.redis.hgetall(keys.left("69"))
        shown = {int(slot): int(seats_of[slot].split()[0]) for slot in places_of}
        return {
            slot: f"shows {shown.get(slot)}, is {truth.get(slot)}"
            for slot in shown.keys() | truth.keys()
            if shown.get(slot) != truth.get(slot)
        }


async def campaign(
    database_url: str,
    redis_url: str,
    *,
    attempts: int,
    seed: int = 1,
    size: int = 24,
    flushes: bool = True,
    cap: int | None = None,
) -> Report:
    """Run one campaign on a migrated scratch database and a Redis database.

    ``flushes`` wipes that all the time; ``cap``: how many patients the centre of all places takes in a day.
    """
    clock = ScaledClock()
    bus = RedisBus.connect(redis_url)
    relay = Relay(bus, clock)
    holder: list[Callable[[Sequence[Announcement]], None]] = []

    class Tee:
        def announce(self, announcements: Sequence[Announcement]) -> None:
            holder[0](announcements)

    ledger = await PostgresLedger.connect(database_url, Tee(), size=size)
    relay.ledger = ledger
    crowd = Crowd(ledger, bus, relay, database_url, seed, clock, flushes=flushes, cap=cap)
    holder.append(crowd.announce)
    try:
        report = await crowd.run(attempts)
    finally:
        await ledger.close()
        await bus.close()
    connection = await asyncpg.connect(database_url)
    try:
        # counted when a backend ends: now they all have
        report.deadlocks = await connection.fetchval(
            "select deadlocks from pg_stat_database where datname = current_database()"
        )
    finally:
        await connection.close()
    return report
