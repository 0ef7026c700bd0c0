"""Kills on the whole of scale-out while a crisis is played: ``python -m tests.race.failover [--minutes 3]``.

A Valkey cluster of three nodes, a PostgreSQL with its replica, two API workers and two matchers (as ``sas-matcher
cluster`` starts them) serve the story S3 of ``loadtests``, patient clients repeating what broke. One after the other
are killed (SIGKILL) each node, both matchers, and the primary. Bars of Work 1.6: 0 lost, 0 double; decisions resume
within 10 s (node, matcher), 30 s (primary, promoted replica).
"""

import argparse
import asyncio
import itertools
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import asyncpg

from adapters.embedded.cluster import EmbeddedCluster
from sas_matcher.bootstrap.stores import open_stores
from sas_matcher.config import Settings
from sas_matcher.domain.vocabulary import Role
from sas_matcher.services.keys import KeyWish
from sas_matcher.supervise import Service
from tests.bench.sides import ProductSide
from tests.race.kills_audit import IMPOSSIBLE

DESKS: Final = 8
DECIDED: Final = "demande → décision poussée"
WATCHED_S: Final = 40.0
"""Callers who call within so long after a kill are its callers: above the longest bar."""
LONGEST_LOAD_S: Final = 180.0
"""Beside the calls themselves: opening the places, closing the books."""


class Kill(NamedTuple):
    """One kill.

    Attributes:
        what: was killed.
        share: of the run after which.
        bar_s: by when decisions go on.
        do: kills it.
    """

    what: str
    share: float
    bar_s: float
    do: Callable[[Service], None]


def say(text: str) -> None:
    """Tell how far it is, and what came of it."""
    print(text, flush=True)  # noqa: T201


def _node(number: int) -> Callable[[Service], None]:
    def kill(service: Service) -> None:
        _cluster(service).valkey.nodes[number].kill()

    return kill


def _child(name: str) -> Callable[[Service], None]:
    def kill(service: Service) -> None:
        process = next(child for child in service.children if child.name == name).process
        assert process is not None
        process.kill()

    return kill


def _primary(service: Service) -> None:
    _cluster(service).primary.kill()


def _cluster(service: Service) -> EmbeddedCluster:
    assert isinstance(service.servers, EmbeddedCluster)
    return service.servers


def kills() -> list[Kill]:
    """Return what is killed, in order; every node of the three is once."""
    return [
        Kill("Valkey node 0", 0.15, 10, _node(0)),
        Kill("Valkey node 1", 0.28, 10, _node(1)),
        Kill("Valkey node 2", 0.41, 10, _node(2)),
        Kill("matcher 1", 0.54, 10, _child("core-1")),
        Kill("matcher 0", 0.67, 10, _child("core")),
        Kill("PostgreSQL primary", 0.80, 30, _primary),
    ]


async def _keys(settings: Settings) -> tuple[list[str], str, str]:
    async with open_stores(settings) as stores:
        regulators = [
            (await stores_key(stores, KeyWish(Role.REGULATOR, f"Régulation {n}", ["*"]))) for n in range(DESKS)
        ]
        practice = await stores_key(stores, KeyWish(Role.MANAGER, "Éditeur", professionals=["*"]))
        return regulators, practice, await stores_key(stores, KeyWish(Role.ARS, "Pilotage", ["*"]))


async def stores_key(stores: Any, wish: KeyWish) -> str:
    """Issue a key; returns it."""
    from sas_matcher.bootstrap.access import issue_key

    return str((await issue_key(stores, wish))[1])


async def impossible(url: str) -> list[str]:
    """Return what must not exist in the ledger, by SQL of its own."""
    connection = await asyncpg.connect(url)
    try:
        counts = {title: await connection.fetchval(query) for title, query in IMPOSSIBLE.items()}
    finally:
        await connection.close()
    # the service lives at the instant of its story: what compares with the machine's clock says nothing
    counts.pop("hold that did not end")
    # with promises a seat may be behind a request that is neither held nor firm
    counts.pop("request that disagrees with its booking")
    return [f"{title}: {count}" for title, count in counts.items() if count]


def waits(run: dict[str, Any], killed: float) -> tuple[float, float, int]:
    """Return the longest wait of a caller after a kill, the longest silence of all, and how many callers there were."""
    at = killed - run["began"]
    decided = sorted((pushed, pushed - ms / 1000) for pushed, name, ms, _ in run["samples"] if name == DECIDED)
    mine = [(pushed, called) for pushed, called in decided if at - 0.5 <= called <= at + WATCHED_S]
    longest = max((pushed - max(called, at) for pushed, called in mine), default=float("inf"))
    pushes = [at, *(pushed for pushed, _ in decided if at <= pushed <= at + WATCHED_S)]
    silence = max((b - a for a, b in itertools.pairwise(pushes)), default=float("inf"))
    return longest, silence, len(mine)


def play(folder: Path, minutes: float, times: float, territories: str, plan: Sequence[Kill]) -> list[str]:
    """Play and kill; returns what is wrong, printing the table."""
    settings = Settings(
        port=0, data_dir=folder / "data", api_workers=2, matchers=2, rate=1e9, burst=1e9, log_level="error"
    )
    with Service(settings, cluster=True) as service:
        url = f"http://127.0.0.1:{service.settings.port}"
        side = ProductSide(service, service.settings.port, [], "")
        side.until_ready()
        regulators, practice, coordinator = asyncio.run(_keys(service.settings))
        out = folder / "rapport"
        command = [sys.executable, "-m", "loadtests", "--scenario", "S3", "--minutes", str(minutes), "--patient"]
        command += ["--times", str(times), "--url", url, "--out", str(out), "--territories", territories]
        command += ["--key-regulator", ",".join(regulators), "--key-practice", practice]
        command += ["--key-coordinator", coordinator]
        began = time.monotonic()
        load = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        # calls begin once the places are open; the plan of kills needs no more than that to be under way
        killed: list[tuple[Kill, float]] = []
        left = list(plan)
        try:
            opened = 0.0
            while load.poll() is None and time.monotonic() - began < 60 * minutes + LONGEST_LOAD_S:
                service.look()
                opened = opened or (time.monotonic() if side.metric("sas_live_places") > 0 else 0.0)
                if left and opened and time.monotonic() - opened > left[0].share * 60 * minutes + 10:
                    kill = left.pop(0)
                    say(f"  {kill.what}")
                    killed.append((kill, time.time()))
                    kill.do(service)
                time.sleep(0.05)
        finally:
            if load.poll() is None:
                load.terminate()
            load.wait(60)
        run = json.loads((out / "run.json").read_text("utf-8"))
        wrong = list(run["faults"]) + asyncio.run(impossible(service.settings.database_url))
        failed = [name for _, name, _, fine in run["samples"] if not fine]
        wrong += [f"{failed.count(name)} calls failed for good: {name}" for name in sorted(set(failed))]
        say("\n| killed | callers within 40 s | longest wait | longest silence | bar |\n|---|---|---|---|---|")
        for kill, when in killed:
            longest, silence, callers = waits(run, when)
            say(f"| {kill.what} | {callers} | {longest:.1f} s | {silence:.1f} s | {kill.bar_s} s |")
            if longest > kill.bar_s:
                wrong.append(f"{kill.what}: somebody waited {longest:.1f} s, bar {kill.bar_s} s")
        wrong += [f"{kill.what} was never killed" for kill in left]
        counts = run["counts"]
        say(f"\n{len(run['requests'])} requests, {counts}, {run['repeated']} calls repeated, {run['gaps']} gaps told.")
    return wrong


def main(words: Sequence[str]) -> int:
    """Run the campaign; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.race.failover", description=__doc__)
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--times", type=float, default=20.0)
    parser.add_argument("--territories", default="69,42,01,38,73,74,26,07,43,63,03,15")
    wishes = parser.parse_args(words)
    folder = Path(tempfile.mkdtemp(prefix="sas-cluster-"))
    folder.chmod(0o755)  # PostgreSQL may have to run as another user
    try:
        wrong = play(folder, wishes.minutes, wishes.times, wishes.territories, kills())
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    for line in wrong[:40]:
        say(f"WRONG: {line}")
    say("0 lost, 0 double, all bars kept." if not wrong else f"{len(wrong)} findings.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
