"""Overload: ``python -m tests.bench.overload [--seconds 120] [--slots 60000]`` asks for more than can be decided.

First the sustained rate (64 clients, closed loop) and a third of it, what is normal here; then 1.5 times the sustained
rate as an open loop, whatever comes back, then the third again. Latency counts from the instant at which a call was
meant to be sent. Bars: urgent tiers' p99 ≤ 1 s; whoever is refused is told so (503 ``overloaded`` with
``retry_after``); back to normal ≤ 30 s after; every request that was acknowledged is in the ledger. The client is a
process of its own on the same cores and does next to nothing (no websocket: the answer carries the decision).
"""

import argparse
import asyncio
import gc
import json
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

import asyncpg
import uvloop

from sas_matcher.bootstrap.access import issue_key
from sas_matcher.bootstrap.stores import open_stores
from sas_matcher.config import Settings
from sas_matcher.domain.vocabulary import Delay, Role, Tier, tier_of
from sas_matcher.ports.ledger import Idempotency, SettingChange
from sas_matcher.services.keys import KeyWish
from tests.bench.figures import percentile, schedule
from tests.bench.live import fill
from tests.bench.load import Plan, Product
from tests.bench.market import france, live_slots, request_bodies
from tests.bench.sides import HOST, ProductSide, product

CLIENTS: Final = 64
REGULATORS: Final = 8
FACTOR: Final = 1.5
CALM: Final = 1 / 3  # of the sustained rate, afterwards
WARM_S: Final = 20.0
PATIENCE_S: Final = 20.0
WINDOW_S: Final = 5.0
URGENT: Final = (Tier.T0, Tier.T1)


class Seen(NamedTuple):
    """One call: when it was meant to go (seconds from the start), its tier, what came back, how long that took."""

    at: float
    tier: str
    status: int
    ms: float
    code: str
    name: str


# -- the client --------------------------------------------------------------------------------------------------


async def _one(side: Product, tiers: Sequence[str], name: str, number: int, began: float, at: float) -> Seen:
    loop = asyncio.get_running_loop()
    call = side.call(name, number)
    intended = min(began + at, loop.time())
    status, code = 0, "broken"
    try:
        async with asyncio.timeout(PATIENCE_S):
            try:
                status, body = await side.pool.call(call)
            except ConnectionResetError:
                # an idle connection that the server was closing: what clients send again, under the same key
                status, body = await side.pool.call(call)
        code = ""
        if status >= 400:
            document = json.loads(body)
            code = document["code"] if document.get("retry_after", 0) >= 1 else "no_retry_after"
    except (TimeoutError, OSError, ValueError, KeyError) as broken:
        code = type(broken).__name__
    return Seen(at, tiers[number % len(tiers)], status, (loop.time() - intended) * 1e3, code, name)


async def _closed(side: Product, tiers: Sequence[str], plan: Plan) -> list[Seen]:
    loop = asyncio.get_running_loop()
    began, seen = loop.time(), list[Seen]()
    numbers = iter(range(10**9))

    async def client() -> None:
        while (at := loop.time() - began) < plan.seconds:
            number = next(numbers)
            seen.append(await _one(side, tiers, f"{plan.run}-{number:07d}", number, began, at))

    await asyncio.gather(*(client() for _ in range(plan.clients)))
    return seen


async def _open(side: Product, tiers: Sequence[str], plan: Plan) -> list[Seen]:
    loop = asyncio.get_running_loop()
    tasks: list[asyncio.Task[Seen]] = []
    began = loop.time() + 0.1
    for number, at in enumerate(schedule(plan.rate, plan.seconds, plan.seed)):
        if (wait := began + at - loop.time()) > 0:
            await asyncio.sleep(wait)
        tasks.append(asyncio.create_task(_one(side, tiers, f"{plan.run}-{number:07d}", number, began, at)))
    return list(await asyncio.gather(*tasks))


async def _client(plan: Plan) -> list[Seen]:
    side = Product(plan)
    tiers = [str(tier_of(Delay(json.loads(body)["delay"]))) for body in side._bodies]
    gc.freeze()
    gc.disable()
    try:
        return await (_open if plan.rate else _closed)(side, tiers, plan)
    finally:
        side.close()


def client(path: str) -> None:
    """Run a plan; what was seen goes to stdout as JSON."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        seen = runner.run(_client(Plan(**json.loads(Path(path).read_text("utf-8")))))
    sys.stdout.write(json.dumps(seen))


# -- the measurement ---------------------------------------------------------------------------------------------


def _run(ours: ProductSide, folder: Path, name: str, *, rate: float, seconds: float) -> list[Seen]:
    plan = Plan(
        side="product",
        host=HOST,
        port=ours.port,
        seconds=seconds,
        rate=rate,
        clients=0 if rate else CLIENTS,
        seed=len(name) + round(seconds),
        run=name,
        keys=list(ours.regulators),
        bodies=str(folder / "bodies"),
    )
    file = folder / "overload.json"
    file.write_text(json.dumps(asdict(plan)), "utf-8")
    command = [sys.executable, "-m", "tests.bench.overload", "--client", str(file)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return [Seen(*entry) for entry in json.loads(done.stdout)]


def _acknowledged(seen: Sequence[Seen]) -> set[str]:
    return {one.name for one in seen if one.status in (201, 202)}


async def _kept(url: str, runs: Sequence[str]) -> set[str]:
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch(
            "select case_ref from request where split_part(case_ref, '-', 1) = any($1)", list(runs)
        )
        return {row["case_ref"] for row in rows}
    finally:
        await connection.close()


async def _take_their_time(settings: Settings) -> None:
    """Let holds last half an hour, the longest there is.

    Nobody confirms here. Holds that ran out after two minutes would be decided again, five hundred a second, beside the
    calls that are to show how the service comes back: no regulator leaves all his patients hanging.
    """
    async with open_stores(settings) as stores:
        key = (await issue_key(stores, KeyWish(Role.ADMIN, "Mesure", territories=["*"])))[0].id
        for territory in settings.territories:
            change = SettingChange(territory, {"hold_seconds": 1800}, "mesure de surcharge")
            await stores.ledger.change_setting(datetime.now(UTC), change, Idempotency(key, territory, b""))


def recovered_s(before: Sequence[Seen], calm: Sequence[Seen]) -> float:
    """Return after how many seconds of the calm run all is as before.

    Nobody is refused any more, and in each 5 s that follow 95 of 100 have their answer within twice what 95 of 100 had
    before.
    """
    normal = 2 * percentile([one.ms for one in before], 0.95)
    over = max((one.at for one in calm if one.status != 201), default=0.0)
    slow = [WINDOW_S * (n + 1) for n, ms in enumerate(windows(calm)) if ms > normal]
    return max(over, *slow, 0.0)


def windows(calm: Sequence[Seen]) -> list[float]:
    """Return what 95 of 100 had their answer within, in each 5 s (ms); 0 where nobody called."""
    of: dict[int, list[float]] = {}
    for one in calm:
        of.setdefault(int(one.at // WINDOW_S), []).append(one.ms)
    return [percentile(of[n], 0.95) if n in of else 0.0 for n in range(max(of, default=-1) + 1)]


def lines(
    sustained: float, before: Sequence[Seen], overload: Sequence[Seen], calm: Sequence[Seen], lost: int
) -> list[str]:
    """Return the table."""
    rows = [
        "| tier | asked | decided | p50 | p99 | refused (503, told when to come back) | anything else |",
        "|---|---|---|---|---|---|---|",
    ]
    for tier in Tier:
        mine = [one for one in overload if one.tier == tier]
        decided = [one.ms for one in mine if one.status in (201, 202)]
        refused = sum(one.status == 503 and one.code == "overloaded" for one in mine)
        other = Counter(f"{one.status} {one.code}" for one in mine if one.status not in (201, 202)) - Counter(
            {"503 overloaded": refused}
        )
        cells = [str(tier), str(len(mine)), f"{len(decided)} ({100 * len(decided) / max(1, len(mine)):.0f} %)"]
        cells += [f"{percentile(decided, share):.0f} ms" if decided else "–" for share in (0.5, 0.99)]
        cells += [str(refused), ", ".join(f"{n} × {what}" for what, n in other.items()) or "none"]
        rows.append("| " + " | ".join(cells) + " |")
    urgent = [one.ms for one in overload if one.tier in URGENT and one.status in (201, 202)]
    return [
        f"Sustained {sustained:.0f}/s; asked {len(overload)} at {FACTOR} times that.",
        "",
        *rows,
        "",
        f"Urgent tiers: p99 {percentile(urgent, 0.99):.0f} ms (bar 1000). p95 before: "
        f"{percentile([one.ms for one in before], 0.95):.0f} ms; as before again after "
        f"{recovered_s(before, calm):.1f} s (bar 30). Acknowledged and not in the ledger: {lost} (bar 0).",
        f"p95 of each {WINDOW_S:.0f} s afterwards, ms: {', '.join(f'{ms:.0f}' for ms in windows(calm))}.",
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Overload at 1.5 times the sustained rate.")
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--slots", type=int, default=60_000)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--client", help="a plan: run as the client")
    wishes = parser.parse_args()
    if wishes.client:
        client(wishes.client)
        return
    folder = Path(tempfile.mkdtemp(prefix="sas-overload-"))
    folder.chmod(0o755)  # PostgreSQL may have to run as another user
    try:
        _, world = france()
        (folder / "bodies").write_bytes(b"\n".join(request_bodies(world)))
        with product(folder / "product", REGULATORS, wishes.workers) as ours:
            asyncio.run(_take_their_time(ours.service.settings))
            fill(ours, live_slots(world, wishes.slots, datetime.now(UTC)))
            _run(ours, folder, "warm", rate=0, seconds=WARM_S / 2)
            steady = _run(ours, folder, "steady", rate=0, seconds=WARM_S)
            sustained = sum(one.status == 201 for one in steady) / max(one.at for one in steady)
            before = _run(ours, folder, "before", rate=CALM * sustained, seconds=20.0)
            overload = _run(ours, folder, "overload", rate=FACTOR * sustained, seconds=wishes.seconds)
            calm = _run(ours, folder, "calm", rate=CALM * sustained, seconds=60.0)
            kept = asyncio.run(_kept(ours.service.settings.database_url, ("steady", "overload", "calm")))
            lost = len((_acknowledged(steady) | _acknowledged(overload) | _acknowledged(calm)) - kept)
            print("\n".join(lines(sustained, before, overload, calm, lost)))  # noqa: T201
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
