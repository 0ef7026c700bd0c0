"""The load client, a process of its own: ``python -m tests.bench.load PLAN RESULT`` measures one run of one side.

The plan is a JSON file (``Plan``), the result is written as JSON (``Result``). Latency counts from the instant at
which a call was meant to be sent to the arrival of the push on the websocket, so that a stall is paid by everyone who
should have been served meanwhile. Nothing of the floor is behind authentication; the product is asked as its users ask.
"""

import asyncio
import gc
import json
import os
import random
import re
import sys
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Final

import uvloop

from tests.bench.cpu import used_ms
from tests.bench.figures import schedule
from tests.bench.wire import JSON, Pool, Socket, listen, message

PATIENCE_S: Final = 10.0  # a push that is not there by then counts as an error
WARM_UP: Final = 40  # calls that open connections and fill caches, not counted
SHOWN: Final = 3  # refusals shown in full
SETTLERS: Final = 16  # clients that give the places back afterwards


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do.

    Attributes:
        side: "floor", "nearest" or "product".
        host, port: where it listens.
        seconds: length of the measurement.
        rate: calls a second of an open loop; 0 for a closed loop.
        clients: clients of a closed loop, each sending as soon as it has its answer.
        seed: of the schedule and the places asked for; the same for both sides of a pair.
        run: name of the run, part of every id.
        sockets: websockets of the floor.
        keys: regulators' keys of the product, one websocket each.
        bodies: file with one request body a line, for the product and the nearest-first service.
        processes: whose processor time is counted meanwhile: process numbers by name of their group.
    """

    side: str
    host: str
    port: int
    seconds: float
    rate: float
    clients: int
    seed: int
    run: str
    sockets: int = 8
    keys: list[str] = field(default_factory=list)
    bodies: str = ""
    processes: dict[str, list[int]] = field(default_factory=dict)


@dataclass(slots=True)
class Result:
    """What was seen; times in milliseconds.

    Attributes:
        pushed: from the intended instant to the push, one for each call.
        answered: from the intended instant to the answer of the call.
        late: from the intended instant to the sending: the client's own share.
        sent: calls made.
        seconds: from the first intended instant to the last answer.
        held: calls for which a place was held (the others were told that there is none).
        errors: what went wrong, by name.
        cpu_ms: processor time of the groups of processes, and of this client, from the first call to the last answer.
    """

    pushed: list[float] = field(default_factory=list)
    answered: list[float] = field(default_factory=list)
    late: list[float] = field(default_factory=list)
    sent: int = 0
    seconds: float = 0.0
    held: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    cpu_ms: dict[str, float] = field(default_factory=dict)


class Side(ABC):
    """How one side is asked and what it pushes."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.pool = Pool(plan.host, plan.port)
        self.sockets: list[Socket] = []
        self.arrived: dict[bytes, asyncio.Future[tuple[float, bool]]] = {}

    @abstractmethod
    async def start(self) -> None:
        """Open the websockets."""

    @abstractmethod
    def call(self, name: str, number: int) -> bytes:
        """Build the n-th call."""

    @abstractmethod
    def heard(self, text: bytes) -> tuple[bytes, bool] | None:
        """Return the name that a push is about and whether a place is held; None for anything else."""

    async def settle(self) -> int:
        """Give back what was taken, so that the next run meets the same market; returns how many calls failed."""
        return 0

    def expect(self, name: str) -> asyncio.Future[tuple[float, bool]]:
        """Return a future of the first push about a name."""
        future: asyncio.Future[tuple[float, bool]] = asyncio.get_running_loop().create_future()
        self.arrived[name.encode()] = future
        return future

    def hear(self, text: bytes) -> None:
        """Note a push."""
        now = asyncio.get_running_loop().time()
        about = self.heard(text)
        if about is not None:
            future = self.arrived.pop(about[0], None)
            if future is not None and not future.done():
                future.set_result((now, about[1]))

    def close(self) -> None:
        """Hang up."""
        self.pool.close()
        for socket in self.sockets:
            socket.close()


class Floor(Side):
    """The bare handler: a point in a square, an id, a socket."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self._random = random.Random(plan.seed)

    async def start(self) -> None:
        for number in range(self.plan.sockets):
            self.sockets.append(await listen(self.plan.host, self.plan.port, f"/ws/w{number}", self.hear))

    def call(self, name: str, number: int) -> bytes:
        x, y = self._random.uniform(0, 50), self._random.uniform(0, 50)
        body = b'{"x":%.3f,"y":%.3f,"id":"%s","who":"w%d"}' % (x, y, name.encode(), number % self.plan.sockets)
        return message("POST", "/request", self.plan.host, JSON, body)

    def heard(self, text: bytes) -> tuple[bytes, bool] | None:
        return json.loads(text)["id"].encode(), True


class Nearest(Floor):
    """The nearest-first service: the product's requests, the floor's sockets."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self._bodies = Path(plan.bodies).read_bytes().splitlines()
        self._random.shuffle(self._bodies)

    def call(self, name: str, number: int) -> bytes:
        wish = self._bodies[number % len(self._bodies)][:-1]
        body = b'%s,"case_ref":"%s","who":"w%d"}' % (wish, name.encode(), number % self.plan.sockets)
        return message("POST", "/request", self.plan.host, JSON, body)

    def heard(self, text: bytes) -> tuple[bytes, bool] | None:
        told = json.loads(text)
        return told["id"].encode(), told["slot"] is not None


class Product(Side):
    """The service: regulators of all France, each with a key and a websocket."""

    _EVENT = re.compile(rb'"event":"request\.(held|waiting)"')
    _NAME = re.compile(rb'"case_ref"\s*:\s*"([^"]+)"')
    _REQUEST = re.compile(rb'"request_id"\s*:\s*"([^"]+)"')

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self._bodies = Path(plan.bodies).read_bytes().splitlines() if plan.bodies else []
        random.Random(plan.seed).shuffle(self._bodies)
        self._headers = [JSON + f"authorization: Bearer {key}\r\n".encode() for key in plan.keys]
        self._open: list[tuple[int, bytes]] = []

    async def start(self) -> None:
        for headers in self._headers:
            call = message("POST", "/v1/ws-tickets", self.plan.host, headers, b"{}")
            status, body = await self.pool.call(call)
            if status != 201:
                raise ConnectionError(f"no ticket: {status} {body!r}")
            welcome = asyncio.get_running_loop().create_future()
            socket = await listen(self.plan.host, self.plan.port, "/v1/ws", self._greeting(welcome))
            self.sockets.append(socket)
            hello = {"type": "hello", "ticket": json.loads(body)["ticket"], "resume": None}
            socket.send(json.dumps(hello).encode())
            await asyncio.wait_for(welcome, PATIENCE_S)

    def _greeting(self, welcome: asyncio.Future[None]) -> Callable[[bytes], None]:
        number = len(self.sockets)

        def hear(text: bytes) -> None:
            if text.startswith(b'{"type":"ping"'):
                self.sockets[number].send(b'{"type":"pong"}')
            elif not welcome.done():
                welcome.set_result(None)
            else:
                self.hear(text)

        return hear

    def call(self, name: str, number: int) -> bytes:
        body = b'%s,"case_ref":"%s"}' % (self._bodies[number % len(self._bodies)][:-1], name.encode())
        return self.request(name, number, body)

    def request(self, name: str, number: int, body: bytes) -> bytes:
        """Build the n-th regulator's call with a whole body; ``name`` ends in ``-n``."""
        headers = self._headers[number % len(self._headers)] + f"idempotency-key: {name}\r\n".encode()
        return message("POST", "/v1/requests", self.plan.host, headers, body)

    def heard(self, text: bytes) -> tuple[bytes, bool] | None:
        event = self._EVENT.search(text, 0, 200)
        name = self._NAME.search(text) if event else None
        if event is None or name is None:
            return None
        self._open.append((self._key_of(name[1]), self._REQUEST.search(text)[1]))  # type: ignore[index]
        return name[1], event[1] == b"held"

    def _key_of(self, name: bytes) -> int:
        return int(name.rsplit(b"-", 1)[1]) % len(self._headers)

    async def settle(self) -> int:
        """Cancel every request: its place is free again at once, and nothing lapses while the other side runs."""
        failed = 0
        opened, self._open = list(dict.fromkeys(self._open)), []

        async def work() -> None:
            nonlocal failed
            while opened:
                key, request = opened.pop()
                headers = self._headers[key] + b"idempotency-key: cancel-" + request + b"\r\n"
                path = f"/v1/requests/{request.decode()}/cancel"
                call = message("POST", path, self.plan.host, headers, b'{"reason":"bench"}')
                status, _ = await self.pool.call(call)
                failed += status != 200

        await asyncio.gather(*(work() for _ in range(SETTLERS)))
        return failed


async def _one(side: Side, name: str, number: int, intended: float, result: Result, errors: Counter[str]) -> None:
    """Make one call and wait for answer and push."""
    loop = asyncio.get_running_loop()
    push = side.expect(name)
    call = side.call(name, number)
    sent = loop.time()
    # the timer's resolution is a millisecond: what went out early counts from when it went out
    since = min(intended, sent)
    result.late.append((sent - since) * 1e3)
    try:
        async with asyncio.timeout(PATIENCE_S):
            status, body = await side.pool.call(call)
            answered = loop.time()
            if status != 201:
                errors[f"status {status}"] += 1
                if status != 202:
                    side.arrived.pop(name.encode(), None)
                    if errors.total() <= SHOWN:
                        sys.stderr.write(f"{status} {body[:300]!r}\n")
                    return
            at, held = await push
    except TimeoutError:
        errors["no push in time"] += 1
    except OSError as broken:
        errors[type(broken).__name__] += 1
    else:
        result.answered.append((answered - since) * 1e3)
        result.pushed.append((at - since) * 1e3)
        result.held += held


async def open_loop(side: Side, plan: Plan, numbers: Iterator[int]) -> Result:
    """Send at the instants of a Poisson stream, however the server fares."""
    loop = asyncio.get_running_loop()
    result, errors = Result(), Counter[str]()
    instants = schedule(plan.rate, plan.seconds, plan.seed)
    tasks: list[asyncio.Task[None]] = []
    began = loop.time() + 0.1
    for instant in instants:
        wait = began + instant - loop.time()
        if wait > 0:
            await asyncio.sleep(wait)
        number = next(numbers)
        name = f"{plan.run}-{number}"
        tasks.append(asyncio.create_task(_one(side, name, number, began + instant, result, errors)))
    await asyncio.gather(*tasks)
    result.sent, result.seconds, result.errors = len(instants), loop.time() - began, dict(errors)
    return result


async def closed_loop(side: Side, plan: Plan, numbers: Iterator[int]) -> Result:
    """Send from each client as soon as it has its answer and its push."""
    loop = asyncio.get_running_loop()
    result, errors = Result(), Counter[str]()
    began = loop.time()

    async def client() -> None:
        while (now := loop.time()) < began + plan.seconds:
            number = next(numbers)
            result.sent += 1
            await _one(side, f"{plan.run}-{number}", number, now, result, errors)

    await asyncio.gather(*(client() for _ in range(plan.clients)))
    result.seconds, result.errors = loop.time() - began, dict(errors)
    return result


async def run(plan: Plan) -> Result:
    """Measure one run."""
    side: Side = {"floor": Floor, "nearest": Nearest, "product": Product}[plan.side](plan)
    try:
        await side.start()
        numbers = count()
        warm = Result(), Counter[str]()
        for number in range(WARM_UP):
            await _one(side, f"{plan.run}-warm-{number}", number, asyncio.get_running_loop().time(), *warm)
        # a collection in the middle of a run would be taken for the server's
        gc.collect()
        gc.freeze()
        gc.disable()
        groups = {**plan.processes, "client": [os.getpid()]}
        before = used_ms(groups)
        result = await (open_loop if plan.rate else closed_loop)(side, plan, numbers)
        result.cpu_ms = {name: spent - before[name] for name, spent in used_ms(groups).items()}
        for socket in side.sockets:
            if socket.broken:
                result.errors[f"websocket {socket.broken}"] = result.errors.get(f"websocket {socket.broken}", 0) + 1
        failed = await side.settle()
        if failed:
            result.errors["not given back"] = failed
        return result
    finally:
        side.close()


def main(arguments: list[str]) -> None:
    """Run a plan (first argument), write the result into a file (second)."""
    document: dict[str, Any] = json.loads(Path(arguments[0]).read_text("utf-8"))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        result = runner.run(run(Plan(**document)))
    # into a file: of what went through a pipe the end was missing, twice in some hundred runs
    Path(arguments[1]).write_text(json.dumps(asdict(result)), "utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
