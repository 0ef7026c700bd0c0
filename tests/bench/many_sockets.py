"""Ten thousand websockets on one worker, each receiving its events: ``python -m tests.bench.many_sockets``.

The whole service on embedded servers, one API worker; a client of its own process opens the sockets (a hundred
regulators' keys), then every regulator asks once, and each of his sockets must hear of it. Bar of Work 1.6: 10 000
open, at most 60 kB of the worker's memory each.
"""

import argparse
import asyncio
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import uvloop

from tests.bench.load import Plan, Product
from tests.bench.sides import HOST, product, resident_mb
from tests.bench.wire import JSON, Socket, listen, message

KEYS: Final = 100
OPENED_S: Final = 600.0
HEARD_S: Final = 60.0
AT_ONCE: Final = 20
BODY: Final = b'{"insee":"69383","profession":"MG","delay":"24H","case_ref":"%s"}'


async def _client(plan: dict[str, Any]) -> dict[str, Any]:
    """Open the sockets, say so, ask once for each key, count who heard."""
    loop, heard = asyncio.get_running_loop(), set[int]()
    side = Product(Plan("product", HOST, plan["port"], 0, 0, 0, 0, "many", keys=plan["keys"]))
    room = asyncio.Semaphore(AT_ONCE)
    sockets: dict[int, Socket] = {}

    async def open_one(number: int) -> None:
        async with room:
            headers = JSON + f"authorization: Bearer {plan['keys'][number % KEYS]}\r\n".encode()
            status, body = await side.pool.call(message("POST", "/v1/ws-tickets", HOST, headers, b"{}"))
            if status != 201:
                raise ConnectionError(f"no ticket: {status} {body!r}")
            welcome: asyncio.Future[None] = loop.create_future()

            def hear(text: bytes) -> None:
                if text.startswith(b'{"type":"ping"'):
                    sockets[number].send(b'{"type":"pong"}')
                elif not welcome.done():
                    welcome.set_result(None)
                else:
                    heard.add(number)

            sockets[number] = await listen(HOST, plan["port"], "/v1/ws", hear)
            ticket = json.loads(body)["ticket"]
            sockets[number].send(json.dumps({"type": "hello", "ticket": ticket, "resume": None}).encode())
            await asyncio.wait_for(welcome, 30)

    began = loop.time()
    for first in range(0, plan["sockets"], 500):
        await asyncio.gather(*(open_one(n) for n in range(first, min(first + 500, plan["sockets"]))))
    opened = loop.time() - began
    sys.stdout.write("open\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.readline)  # the other side reads the worker's memory
    began = loop.time()
    for number in range(KEYS):
        name = f"sockets-{number:06}"
        status, body = await side.pool.call(side.request(name, number, BODY % name.encode()))
        if status not in (201, 202):
            raise ConnectionError(f"request: {status} {body!r}")
    while len(heard) < plan["sockets"] and loop.time() < began + HEARD_S:  # noqa: ASYNC110 - a callback fills the set
        await asyncio.sleep(0.05)
    broken = [socket.broken for socket in sockets.values() if socket.broken]
    return {"opened_s": opened, "heard": len(heard), "heard_s": loop.time() - began, "broken": len(broken)}


def table(sockets: int) -> list[str]:
    """Measure; returns the Markdown table."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < sockets + 500:
        return [f"**Not measured**: {sockets} websockets need as many open files, this machine allows {hard}."]
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 2 * sockets)), hard))
    folder = Path(tempfile.mkdtemp(prefix="sas-bench-"))
    folder.chmod(0o755)  # PostgreSQL may have to run as another user
    try:
        with product(folder / "product", KEYS, 1) as side:
            worker = next(child for child in side.service.children if child.name == "api-0").process
            assert worker is not None
            before = resident_mb(worker.pid)
            plan = json.dumps({"port": side.port, "keys": list(side.regulators), "sockets": sockets})
            command = [sys.executable, "-m", "tests.bench.many_sockets", "--client", plan]
            with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as client:
                assert client.stdout is not None
                assert client.stdin is not None
                if client.stdout.readline() != "open\n":
                    raise ConnectionError("the client did not open its sockets")
                time.sleep(2)
                after = resident_mb(worker.pid)
                client.stdin.write("go\n")
                client.stdin.flush()
                seen = json.loads(client.stdout.readline())
            each = 1024 * (after - before) / sockets
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return [
        "| websockets on one worker | memory of each | opened in | heard their event | after | broken |",
        "|---|---|---|---|---|---|",
        f"| {sockets} | {each:.0f} KiB | {seen['opened_s']:.0f} s | {seen['heard']} | {seen['heard_s']:.1f} s "
        f"| {seen['broken']} |",
    ]


def main() -> None:
    """Measure, or be the client of a measurement."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sockets", type=int, default=10_000)
    parser.add_argument("--client", help=argparse.SUPPRESS)
    wishes = parser.parse_args()
    if wishes.client is None:
        print("\n".join(table(wishes.sockets)))  # noqa: T201
        return
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(_client(json.loads(wishes.client)))))  # noqa: T201


if __name__ == "__main__":
    main()
