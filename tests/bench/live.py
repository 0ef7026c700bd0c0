"""Set-up through the API, published → visible, and the restart of the matcher, all through the public face."""

import asyncio
import json
import os
import signal
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, Final, NamedTuple

from adapters.geo import Gazetteer
from sas_matcher.demo.world import World
from sas_matcher.services.matcher.holding import LEASE_S
from sas_matcher.supervise import CALM_S
from tests.bench.load import PATIENCE_S, Plan, Product
from tests.bench.market import SPOTS, Json, Spot, bulks, empty_spots, live_slots, spot_request, spot_slot
from tests.bench.sides import HOST, ProductSide, resident_mb
from tests.bench.wire import JSON, Pool, message

BULK: Final = 10_000
GAUGE_S: Final = 4.0  # the matcher renews its gauge every three seconds
DIGEST_S: Final = 60.0
LATER: Final = timedelta(hours=2)


class Practice:
    """A publisher's calls."""

    def __init__(self, pool: Pool, key: str) -> None:
        self._pool = pool
        self._headers = JSON + f"authorization: Bearer {key}\r\n".encode()

    async def _post(self, path: str, body: bytes) -> Any:
        status, answer = await self._pool.call(message("POST", path, self._pool.host, self._headers, body))
        if status != 200:
            raise ConnectionError(f"{path}: {status} {answer[:500]!r}")
        return json.loads(answer)

    async def publish(self, body: bytes) -> Any:
        """Publish an encoded bulk."""
        return await self._post("/v1/slots", body)

    async def withdraw(self, names: Sequence[str]) -> None:
        """Withdraw by name."""
        for part in (names[at : at + 1_000] for at in range(0, len(names), 1_000)):
            await self._post("/v1/slots/withdraw", json.dumps({"external_ids": list(part)}).encode())


def encoded(slots: Sequence[Json]) -> bytes:
    """Encode a bulk before the clock runs."""
    return json.dumps({"slots": slots}, separators=(",", ":")).encode()


async def _fill(side: ProductSide, slots: Sequence[Json]) -> float:
    pool = Pool(HOST, side.port)
    practice = Practice(pool, side.practice)
    began = time.perf_counter()
    try:
        for bulk in bulks(slots, BULK):
            counts = (await practice.publish(encoded(bulk)))["counts"]
            if counts != {"created": len(bulk)}:
                raise ConnectionError(f"set-up: {counts}")
    finally:
        pool.close()
    return time.perf_counter() - began


def fill(side: ProductSide, slots: Sequence[Json]) -> float:
    """Publish through the API in bulks of 10 000, one after the other; returns seconds until all are committed.

    Waits for the matcher to know them all, so that what is measured next is not in their way.

    Raises:
        TimeoutError: the matcher does not get to know them.
    """
    seconds = asyncio.run(_fill(side, slots))
    deadline = time.monotonic() + DIGEST_S
    while side.metric("sas_live_places") < len(slots):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{side.metric('sas_live_places'):.0f} of {len(slots)} places are known to the matcher")
        time.sleep(0.5)
    return seconds


class Visible(NamedTuple):
    """Published → visible.

    Attributes:
        bulk_s: bulks of 10 000, from sending to the push of the last waiting request that one of them serves.
        alone_s: other bulks, to the push of the only request that waits, which a place on their last pages serves.
        answer_s: all these bulks, from sending to the answer of the call (committed).
        single_ms: one place each, from sending to the push of the request that waits for it.
    """

    bulk_s: list[float]
    alone_s: list[float]
    answer_s: list[float]
    single_ms: list[float]


class _Waiting:
    """Requests that wait at spots of their own."""

    def __init__(self, side: ProductSide) -> None:
        keys = list(side.regulators)
        self.product = Product(Plan("product", HOST, side.port, 0, 0, 0, 0, "spots", keys=keys))
        self._loop = asyncio.get_running_loop()

    async def ask(self, name: str, number: int, spot: Spot) -> asyncio.Future[tuple[float, bool]]:
        """Ask at a spot, make sure that there is nothing yet, return a future of the place."""
        told = self.product.expect(name)
        body = json.dumps(spot_request(spot, name)).encode()
        status, answer = await self.product.pool.call(self.product.request(name, number, body))
        if status not in (201, 202):
            raise ConnectionError(f"request: {status} {answer[:300]!r}")
        try:
            _, held = await asyncio.wait_for(told, PATIENCE_S)
        except TimeoutError as silent:
            broken = [socket.broken for socket in self.product.sockets if socket.broken]
            raise TimeoutError(f"no push; websockets {broken or 'open'}; answer {answer.decode()}") from silent
        if held:
            raise ValueError(f"{spot} is not empty")
        return self.product.expect(name)


async def _visible(side: ProductSide, geography: Gazetteer, world: World, runs: int, singles: int) -> Visible:
    loop = asyncio.get_running_loop()
    spots = empty_spots(geography, world)
    # what a bulk announces comes territory by territory: after the last that has an empty spot comes a page or two.
    # Its place is withdrawn after each bulk, so that the spot is empty again
    last = max(islice(empty_spots(geography, world), SPOTS), key=lambda spot: spot.territory)
    waiting = _Waiting(side)
    await waiting.product.start()
    practice = Practice(waiting.product.pool, side.practice)
    result = Visible([], [], [], [])
    try:
        for run in range(2 * runs):
            alone = run >= runs
            among = [last] if alone else list(islice(spots, SPOTS))
            # the bulk lies a day later, so that the market of the other measurements is not touched
            bulk = live_slots(world, BULK - len(among), datetime.now(UTC) + timedelta(days=1))
            step = BULK // len(among)
            soon = datetime.now(UTC) + LATER
            places = []
            for number, spot in enumerate(among):
                name = f"bulk-{run}-{number}"
                places.append(await waiting.ask(name, number, spot))
                bulk.insert(step * (number + 1) - 1, spot_slot(spot, name, run * SPOTS + number, soon))
            # evenly through the bulk, the last one at its very end
            bulk.append(bulk.pop(step * len(among) - 1))
            for number, slot in enumerate(bulk):
                slot["external_id"] = f"bulk-{run}-{number:05}-{slot['external_id']}"
            body = encoded(bulk)
            began = loop.time()
            await practice.publish(body)
            result.answer_s.append(loop.time() - began)
            arrived = await asyncio.wait_for(asyncio.gather(*places), 60)
            (result.alone_s if alone else result.bulk_s).append(max(at for at, _ in arrived) - began)
            await waiting.product.settle()
            await practice.withdraw([slot["external_id"] for slot in bulk])
            await asyncio.sleep(1)
        for number, spot in enumerate(islice(spots, singles)):
            name = f"single-{number}"
            place = await waiting.ask(name, number, spot)
            body = encoded([spot_slot(spot, name, 50_000 + number, datetime.now(UTC) + LATER)])
            began = loop.time()
            _, (at, _) = await asyncio.gather(practice.publish(body), asyncio.wait_for(place, PATIENCE_S))
            result.single_ms.append((at - began) * 1e3)
        await waiting.product.settle()
        await practice.withdraw([f"single-{number}" for number in range(singles)])
    finally:
        waiting.product.close()
    return result


def visible(side: ProductSide, geography: Gazetteer, world: World, runs: int, singles: int) -> Visible:
    """Measure published → visible on spots where no other place is in reach."""
    return asyncio.run(_visible(side, geography, world, runs, singles))


class Restart(NamedTuple):
    """After SIGKILL of the matcher's process.

    Attributes:
        ready_s: until /readyz says so for good; the same as ``decided_s`` when it never said otherwise.
        decided_s: until a request sent at the instant of the kill has its place.
        places: slots in memory then.
        core_mb: resident memory of the new process.
        api_mb: resident memory of the first API worker.
    """

    ready_s: float
    decided_s: float
    places: int
    core_mb: float
    api_mb: float


async def _restart(side: ProductSide, body: bytes) -> Restart:
    loop = asyncio.get_running_loop()
    waiting = _Waiting(side)
    product = waiting.product
    await product.start()
    core = side.core
    try:
        name = f"restart-{os.getpid()}-{round(loop.time() * 1e3)}-0"
        push = product.expect(name)
        whole = b'%s,"case_ref":"%s"}' % (body[:-1], name.encode())
        assert core.process is not None
        before = core.process.pid
        os.kill(before, signal.SIGKILL)
        began = ended = loop.time()
        asking = asyncio.create_task(product.pool.call(product.request(name, 0, whole)))
        probe = Pool(HOST, side.port)
        away = False
        # /readyz may believe the dead one's leases for as long as they last: look on until they are over
        while loop.time() < began + 60:
            side.service.look()
            status, _ = await probe.call(message("GET", "/readyz", HOST))
            if status != 200:
                away, ended = True, loop.time()
            if push.done() and loop.time() > (ended + 2 if away else began + LEASE_S + 2):
                break
            await asyncio.sleep(0.02)
        probe.close()
        at, _ = await asyncio.wait_for(push, PATIENCE_S)
        await asking
        await product.settle()
        # long enough to count as calm: a core that keeps dying is started again with growing pauses
        await asyncio.sleep(max(GAUGE_S, CALM_S))
        places = round(side.metric("sas_live_places"))
        pid = core.process.pid if core.process is not None else before
        worker = next(child for child in side.service.children if child.name == "api-0").process
        api = resident_mb(worker.pid) if worker is not None else 0.0
        return Restart((ended if away else at) - began, at - began, places, resident_mb(pid), api)
    finally:
        product.close()


def restart(side: ProductSide, body: bytes) -> Restart:
    """Kill the matcher and measure how long it takes until its successor decides."""
    return asyncio.run(_restart(side, body))
