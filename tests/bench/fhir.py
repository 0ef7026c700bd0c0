"""``GET /fhir/Slot`` with 25 practitioners while the matcher works: ``python -m tests.bench.fhir [--slots N]``.

285 000 live places of the invented open market of France, published through the API; 50 requests a second are matched
meanwhile (the load client of ``tests.bench``). The platform's searches come at five a second: six times the mean of
what the guide expects of one editor (3 067 an hour), each for 25 other practitioners who have places, over 72 hours.
Bar of Work 1.3: p99 ≤ 150 ms (the test kit of the ANS wants 1 s). Client and servers share the cores.
"""

import argparse
import asyncio
import json
import random
import shutil
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from adapters.fhir import names
from adapters.fhir.instants import written
from sas_matcher.bootstrap.access import issue_key
from sas_matcher.bootstrap.stores import open_stores
from sas_matcher.config import Settings
from sas_matcher.domain.vocabulary import Role
from sas_matcher.services.keys import KeyWish
from tests.bench.figures import percentile
from tests.bench.live import fill
from tests.bench.load import Plan
from tests.bench.market import OPEN_MARKET_SLOTS, france, live_slots, request_bodies
from tests.bench.sides import HOST, ProductSide, measure, product
from tests.bench.wire import Pool, message

RATE: Final = 50.0
SEARCHES: Final = 5.0  # a second
REGULATORS: Final = 8
SEED: Final = 69


@dataclass
class Answers:
    """What the platform measured: milliseconds, slots and bytes of each answer."""

    ms: list[float]
    slots: list[int]
    size: list[int]


async def _key(settings: Settings) -> str:
    async with open_stores(settings) as stores:
        _, token = await issue_key(stores, KeyWish(Role.FHIR, "plateforme fictive"))
        return token


def _search(people: list[str], now: datetime) -> str:
    who = ",".join(f"{names.NATIONAL_PERSON}|8{rpps}" for rpps in people)
    bounds = (f"ge{written(now)}", f"le{written(now + timedelta(hours=72))}")
    query = [("_include", "Slot:schedule"), ("_include:iterate", "Schedule:actor"), ("status", "free")]
    query += [("start", bound) for bound in bounds]
    query += [("schedule.actor:Practitioner.identifier", who)]
    return "/fhir/Slot?" + "&".join(f"{quote(name)}={quote(value)}" for name, value in query)


async def _ask(side: ProductSide, token: str, people: list[str], until: float) -> Answers:
    rng = random.Random(SEED)
    pool = Pool(HOST, side.port)
    loop = asyncio.get_running_loop()
    found = Answers([], [], [])
    headers = f"authorization: Bearer {token}\r\n".encode()

    async def one() -> None:
        path = _search(rng.sample(people, 25), datetime.now(UTC))
        began = loop.time()
        status, body = await pool.call(message("GET", path, pool.host, headers))
        found.ms.append((loop.time() - began) * 1e3)
        if status != 200:
            raise ConnectionError(f"{status} {body[:300]!r}")
        found.slots.append(json.loads(body)["total"])
        found.size.append(len(body))

    calls: list[asyncio.Task[None]] = []
    try:
        while loop.time() < until:
            # open loop: a slow answer delays no other call
            calls.append(asyncio.create_task(one()))
            await asyncio.sleep(1 / SEARCHES)
        await asyncio.gather(*calls)
    finally:
        pool.close()
    return found


async def _both(side: ProductSide, token: str, people: list[str], plan: Plan, folder: Path) -> tuple[Answers, Any]:
    matching = asyncio.create_task(asyncio.to_thread(measure, asdict(plan), folder))
    await asyncio.sleep(2)  # the load client starts
    until = asyncio.get_running_loop().time() + plan.seconds - 2
    found = await _ask(side, token, people, until)
    return found, await matching


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slots", type=int, default=OPEN_MARKET_SLOTS)
    parser.add_argument("--seconds", type=float, default=40.0)
    wishes = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="sas-bench-fhir-"))
    folder.chmod(0o755)  # PostgreSQL may have to run as another user
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        _, world = france()
        (folder / "bodies").write_bytes(b"\n".join(request_bodies(world)))
        side = stack.enter_context(product(folder / "product", REGULATORS, 1))
        slots = live_slots(world, wishes.slots, datetime.now(UTC))
        seconds = fill(side, slots)
        people = sorted({slot["professional"]["rpps"] for slot in slots if slot["professional"]})
        token = asyncio.run(_key(side.service.settings))
        keys = list(side.regulators)
        bodies = str(folder / "bodies")
        plan = Plan("product", HOST, side.port, wishes.seconds, RATE, 0, SEED, "fhir-bench", REGULATORS, keys, bodies)
        began = time.perf_counter()
        found, matched = asyncio.run(_both(side, token, people, plan, folder))
        shares = [percentile(found.ms, share) for share in (0.5, 0.95, 0.99)]
        many = len(found.ms)
        pushed = [percentile(matched["pushed"], share) for share in (0.5, 0.99)] if matched["pushed"] else []
        print(  # noqa: T201
            f"{len(slots)} places of {len(people)} practitioners published in {seconds:.0f} s; "
            f"{many} searches of 25 practitioners in {time.perf_counter() - began:.0f} s: "
            f"p50 {shares[0]:.0f}, p95 {shares[1]:.0f}, p99 {shares[2]:.0f}, most {max(found.ms):.0f} ms; "
            f"an answer has {sum(found.slots) / many:.0f} slots in {sum(found.size) / many / 1024:.0f} KiB; "
            f"meanwhile {len(matched['pushed'])} requests matched at {RATE:.0f}/s, ms p50/p99 {pushed}"
        )


if __name__ == "__main__":
    main()
