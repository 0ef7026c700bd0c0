"""Sockets cut at random while confirmations flow: after each resume every event came exactly once, or a gap was told.

Judged as a client judges: a (aggregate, version) that is not newer than the last one known is dropped. The history says
what that leaves for each reader; a place in the history (its offset) must never be delivered twice.

``run(cuts)`` brings a service of its own on embedded servers; ``cut(service, cuts)`` uses one that runs.
"""

import asyncio
import random
import tempfile
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import orjson
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from adapters.embedded import EmbeddedServers
from adapters.postgres.migrate import migrate
from adapters.redis.bus import EVENTS_LENGTH
from sas_matcher.config import Settings
from sas_matcher.ports.bus import EVENTS_STREAM
from tests.api.running import Caller, Running, eventually, next_spot, run_service, slot, wish

READERS: Final = 8
SEED: Final = 20261123


@dataclass
class Cuts:
    """What came of it.

    Attributes:
        cuts: sockets that were cut off by their client without a word.
        confirmed: bookings confirmed meanwhile.
        events: different events that the ledger's history holds for the readers.
        gaps: gaps that were told; each forgives its reader what lies before it.
        missing: (reader, aggregate, version) never seen, although no gap was told.
        repeated: (reader, offset) delivered twice.
    """

    cuts: int = 0
    confirmed: int = 0
    events: int = 0
    gaps: int = 0
    missing: list[Any] = field(default_factory=list)
    repeated: list[Any] = field(default_factory=list)


class Reader:
    """A client that remembers its position, is cut off, and comes back."""

    def __init__(self, caller: Caller, chance: random.Random, position: dict[str, str]) -> None:
        self.caller = caller
        self.chance = chance
        self.seen: set[tuple[str, int]] = set()
        self.offsets: Counter[str] = Counter()
        # known before the first connection, which may be cut before its welcome
        self.position = position
        self.cuts = 0
        self.gaps = 0

    async def read(self, wanted: int, done: asyncio.Event) -> None:
        """Be cut ``wanted`` times, then read on until told that all is over."""
        while not (done.is_set() and self.cuts >= wanted):
            await self._once(last=self.cuts >= wanted, done=done)
            self.cuts += self.cuts < wanted

    async def _once(self, *, last: bool, done: asyncio.Event) -> None:
        socket = await connect(self.caller.service.url.replace("http", "ws") + "/v1/ws", ping_interval=None, proxy=None)
        hello = {"type": "hello", "ticket": await self.caller.ticket(), "resume": self.position}
        await socket.send(orjson.dumps(hello).decode())
        # some are cut in the handshake, some in the middle of the history, some in quiet
        life = self.chance.choice((0.0, 0.001, 0.005, 0.02, 0.05, 0.1))
        try:
            async with asyncio.timeout(None if last else life):
                while not done.is_set():
                    await self._one(socket, done)
        except TimeoutError:
            pass
        # no close frame: as when the network goes
        socket.transport.abort()
        await socket.wait_closed()

    async def _one(self, socket: Any, done: asyncio.Event) -> None:
        try:
            async with asyncio.timeout(0.2):  # not wait_for: before 3.12 it may swallow the cut
                message = orjson.loads(await socket.recv())
        except TimeoutError:
            return
        except ConnectionClosed as closed:
            raise AssertionError(f"the service hung up: {closed}") from closed
        if message["type"] in ("gap", "event"):
            self.position = {"epoch": message["epoch"], "offset": message["offset"]}
        if message["type"] == "gap":
            self.gaps += 1
        elif message["type"] == "event":
            self.seen.add((message["aggregate"], message["version"]))
            self.offsets[message["offset"]] += 1


async def cut(service: Running, cuts: int) -> Cuts:
    """Cut sockets of regulators and a practice while requests are asked, confirmed, declined and cancelled."""
    chance = random.Random(SEED)
    spot = next_spot(service.geography)
    practice = await service.practice()
    regulators = [await service.regulator() for _ in range(READERS - 1)]
    done = asyncio.Event()
    result = Cuts()
    stream_start = (await service.stores.bus.tails([EVENTS_STREAM]))[EVENTS_STREAM]
    begin = {"epoch": await service.stores.bus.epoch() or "", "offset": stream_start}
    readers = [Reader(caller, random.Random(SEED + n), begin) for n, caller in enumerate([practice, *regulators])]
    share = -(-cuts // READERS)

    async def work(caller: Caller) -> None:
        while min(reader.cuts for reader in readers) < share:
            held = await caller.ask(wish(spot))
            end = chance.random()
            if held["status"] == "held" and end < 0.7:
                await caller.act("confirm", held["request_id"])
                result.confirmed += 1
            elif held["status"] == "held" and end < 0.85:
                await caller.act("decline", held["request_id"])
            await caller.act("cancel", held["request_id"])
            await asyncio.sleep(chance.uniform(0, 0.05))

    now = service.clock.now()
    await practice.publish(*(slot(spot, now + timedelta(minutes=60 + n), capacity=200, lasting=200) for n in range(3)))
    reading = [asyncio.create_task(reader.read(share, done)) for reader in readers]
    working = [asyncio.create_task(work(caller)) for caller in regulators]
    try:
        while not all(task.done() for task in working):
            await asyncio.wait([*working, *reading], timeout=0.5, return_when=asyncio.FIRST_EXCEPTION)
            for task in (*working, *reading):
                if task.done():
                    task.result()  # whoever failed ends it all
    except BaseException:
        for task in (*working, *reading):
            task.cancel()
        await asyncio.gather(*working, *reading, return_exceptions=True)
        raise
    expected = await _history(service, stream_start, readers)

    def complete() -> bool:
        return all(reader.seen >= expected[reader.caller.key_id] or reader.gaps for reader in readers)

    with suppress(TimeoutError):  # what is still missing then is told by name
        await eventually(complete, 5)
    done.set()
    await asyncio.gather(*reading)
    for reader in readers:
        wanted = expected[reader.caller.key_id]
        result.cuts += reader.cuts
        result.gaps += reader.gaps
        result.events += len(wanted)
        if not reader.gaps:
            result.missing += [(reader.caller.key_id, *name) for name in sorted(wanted - reader.seen)]
        result.repeated += [(reader.caller.key_id, offset) for offset, count in reader.offsets.items() if count > 1]
    return result


async def _history(service: Running, after: str, readers: list[Reader]) -> dict[str, set[tuple[str, int]]]:
    """Return what each reader must have seen, once all is published: (aggregate, version), what was overtaken apart."""

    async def published() -> bool:
        return await service.count("outbox") == 0

    await eventually(published)
    expected: dict[str, set[tuple[str, int]]] = {reader.caller.key_id: set() for reader in readers}
    newest: dict[str, int] = {}
    practice = f"src:{readers[0].caller.key_id}"
    for entry in await service.stores.bus.range(EVENTS_STREAM, after, "+", EVENTS_LENGTH):
        aggregate, version = entry.fields[b"aggregate"].decode(), int(entry.fields[b"version"])
        if version <= newest.get(aggregate, 0):
            continue  # published twice, or later than what came after it
        newest[aggregate] = version
        owner = entry.fields[b"owner"].decode()
        if owner in expected:
            expected[owner].add((aggregate, version))
        if practice in entry.fields[b"audience"].decode().split():
            expected[readers[0].caller.key_id].add((aggregate, version))
    return expected


def run(cuts: int) -> Cuts:
    """Run the campaign on a service and servers of its own."""

    async def campaign(settings: Settings) -> Cuts:
        await migrate(settings.database_url)
        async with run_service(settings) as service:
            return await cut(service, cuts)

    with tempfile.TemporaryDirectory(prefix="sas-cuts-") as folder:
        Path(folder).chmod(0o755)  # PostgreSQL may have to run as another user
        with EmbeddedServers(Path(folder), durable=False) as servers:
            settings = Settings(
                database_url=servers.database_url,
                redis_url=servers.redis_url,
                rate=100_000.0,
                burst=100_000.0,
                log_level="warning",
            )
            return asyncio.run(campaign(settings))
