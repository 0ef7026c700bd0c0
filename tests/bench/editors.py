"""Polling 40 editors with 14 000 practitioners, one slow, one down, one lying: ``python -m tests.bench.editors``.

The editors are mock editors in one process of their own, each under its path; ledger and Redis are embedded servers;
this process polls, so its processor time is what polling costs. Bars of Work 1.3: a round within 60 s on one core,
the other editors unaffected, freshness (now − ``checked_at`` of live places) p95 ≤ 90 s.

It is measured cold (nothing known: every place is published) and then for ``--seconds`` in its own rhythm.
"""

import argparse
import asyncio
import json
import multiprocessing
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount

from adapters.directory import FileDirectory
from adapters.embedded import EmbeddedServers
from adapters.fhir.editors import FhirEditor, read_editors
from adapters.fhir.mock import Manners, MockEditor
from adapters.fhir.placing import Placing
from adapters.fhir.searchsets import Place, Site
from adapters.geo import Gazetteer
from adapters.postgres.editors import PostgresEditors
from adapters.postgres.schema import migrate_now
from adapters.redis import RedisBus
from adapters.redis.editors import RedisEditors
from sas_matcher.bootstrap.stores import open_stores
from sas_matcher.config import Settings
from sas_matcher.services.editors.polling import Polling
from sas_matcher.services.publish import Publishing
from tests.bench.figures import percentile

EDITORS: Final = 40
PRACTITIONERS: Final = 14_000
PLACES_EACH: Final = 5
PORT: Final = 18_970
SLOW, DOWN, LYING = "e0", "e1", "e2"
MANNERS: Final = {
    SLOW: Manners(latency_s=20.0),
    DOWN: Manners(outage_every_s=1.0, outage_s=1.0),
    LYING: Manners(lies=1.0),
}
_PARIS: Final = ZoneInfo("Europe/Paris")


def people_of(editor: int) -> list[str]:
    """Return the RPPS of an editor's practitioners."""
    each = PRACTITIONERS // EDITORS
    return [f"10{editor * each + number:09d}" for number in range(each)]


def places_of(editor: int, now: datetime) -> list[Place]:
    """Draw what an editor may show in three days; the same for the same editor and minute."""
    chance = random.Random(editor)
    communes = [commune for commune in Gazetteer.load() if commune.population > 2_000 and commune.postcodes]
    begin = now.replace(second=0, microsecond=0) + timedelta(minutes=30)
    places = []
    for rpps in people_of(editor):
        commune = chance.choice(communes)
        site = Site(
            rpps, "https://x.example", "Cabinet", "1 rue Fictive", commune.name, commune.postcodes[0], None, None
        )
        for number, slot in enumerate(chance.sample(range(200), PLACES_EACH)):
            start = begin + timedelta(minutes=20 * slot)
            places.append(
                Place(f"{rpps}-{number}", rpps, "FICTIF", "Anne", site, start, start + timedelta(minutes=20), _PARIS,
                      ["cabinet"], ["SNP"], "routine", "SM54", "Médecine générale", "")
            )  # fmt: skip
    return places


def serve_editors(now: datetime) -> None:
    """Serve all editors until killed."""
    mounts = []
    for number in range(EDITORS):
        name = f"e{number}"
        base = f"http://127.0.0.1:{PORT}/{name}"
        editor = MockEditor(
            places_of(number, now), MANNERS.get(name, Manners()), lambda: datetime.now(UTC), asyncio.sleep, base
        )
        mounts.append(Mount(f"/{name}", editor.app()))
    uvicorn.run(Starlette(routes=mounts), host="127.0.0.1", port=PORT, log_level="error", access_log=False)


@dataclass
class Watch:
    """Calls by editor and word, their seconds, and when each was."""

    calls: Counter[tuple[str, str]] = field(default_factory=Counter)
    seconds: dict[str, list[float]] = field(default_factory=dict)

    def asked(self, editor: str, word: str, seconds: float) -> None:
        """Count a call."""
        self.calls[editor, word] += 1
        self.seconds.setdefault(editor, []).append(seconds)

    def mute(self, editor: str, seconds: float) -> None:
        """Say nothing: it is looked at in the end."""


class Board(RedisEditors):
    """The board; counts why calls failed."""

    def __init__(self, bus: RedisBus) -> None:
        super().__init__(bus)
        self.errors: Counter[tuple[str, str]] = Counter()

    async def failed(self, editor: str, now: datetime, error: str) -> None:
        """Count a failure and its reason."""
        self.errors[editor, error] += 1
        await super().failed(editor, now, error)


def write_file(folder: Path) -> Path:
    """Write the file of editors."""
    text = ""
    for number in range(EDITORS):
        name = f"e{number}"
        (folder / f"{name}.txt").write_text("\n".join(people_of(number)), encoding="utf-8")
        text += f'[[editor]]\nname = "{name}"\nlabel = "{name}"\nurl = "http://127.0.0.1:{PORT}/{name}/fhir"\n'
        text += f'flows = ["ps"]\npeople = "{name}.txt"\n'
    target = folder / "editors.toml"
    target.write_text(text, encoding="utf-8")
    return target


async def poll(settings: Settings, seconds: float) -> dict[str, Any]:
    """Poll cold until every healthy editor has been heard in full, then for some seconds; returns the figures."""
    geography, watch = Gazetteer.load(), Watch()
    async with open_stores(settings) as stores:
        placing, turn = Placing(geography, FileDirectory()), asyncio.Semaphore(1)
        editors = [FhirEditor(read, placing, turn) for read in read_editors(Path(settings.editors))]
        healthy = [editor for editor in editors if editor.name not in MANNERS]
        reader = RedisBus.connect(settings.redis_url)
        publishing = Publishing(stores.ledger, stores.clock, geography)
        store, board = PostgresEditors(stores.ledger), Board(stores.bus)
        polling = Polling(editors, store, board, reader, publishing, stores.clock, geography, watch)
        began, used = time.perf_counter(), time.process_time()
        work = asyncio.create_task(polling.run())
        limit = began + 300
        while any(watch.calls[e.name, "ok"] < len(e.batches) for e in healthy) and time.perf_counter() < limit:  # noqa: ASYNC110
            await asyncio.sleep(0.2)
        cold, cold_used = time.perf_counter() - began, time.process_time() - used
        before, used, began = watch.calls.copy(), time.process_time(), time.perf_counter()
        worst: list[float] = []
        while time.perf_counter() - began < seconds:
            await asyncio.sleep(10)
            worst.append(await _freshness(stores.ledger, [e.name for e in healthy]))
        spent, wall = time.process_time() - used, time.perf_counter() - began
        calls = sum(watch.calls[e.name, "ok"] - before[e.name, "ok"] for e in healthy)
        states = {state.name: state for state in await board.states([SLOW, DOWN, LYING])}
        figures = await store.figures([f"fhir:{e.name}" for e in editors], stores.clock.now(), stores.clock.now())
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        await reader.close()
        rounds = calls / sum(len(e.batches) for e in healthy)
        return {
            "cold_round_s": round(cold, 1),
            "cold_cpu_s": round(cold_used, 1),
            "places": sum(figure.places for figure in figures.values()),
            "seconds": round(wall, 1),
            "round_s": round(wall / rounds, 1) if rounds else None,
            "cpu_s_per_round": round(spent / rounds, 2) if rounds else None,
            "cpu_share": round(spent / wall, 3),
            "freshness_p95_s": round(max(worst), 1),
            "answer_p99_s": round(percentile([s for e in healthy for s in watch.seconds[e.name]], 0.99), 2),
            "calls_of_healthy": sum(watch.calls[e.name, word] for e in healthy for word in ("ok", "failed")),
            "failed_calls_of_healthy": _reasons(board),
            "others": {
                name: {"error": state.error, "failures": state.failures, "failed": watch.calls[name, "failed"]}
                for name, state in states.items()
            },
        }


def _reasons(board: Board) -> dict[str, int]:
    """Return why calls to healthy editors failed, and how often."""
    found: Counter[str] = Counter()
    for (name, error), count in board.errors.items():
        if name not in MANNERS:
            found[error] += count
    return dict(found)


async def _freshness(ledger: Any, names: Sequence[str]) -> float:
    """Return the 95th percentile of the age of the healthy editors' live places, in seconds."""
    rows = await ledger.fetch(
        "select percentile_cont(0.95) within group (order by extract(epoch from $2 - checked_at)) as age from slot "
        "where source = any($1) and status = 'open' and starts > $2",
        [f"fhir:{name}" for name in names],
        datetime.now(UTC),
    )
    return float(rows[0]["age"] or 0.0)


def main() -> None:
    """Measure and print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=180.0)
    wishes = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="sas-editors-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        editors = multiprocessing.get_context("spawn").Process(
            target=serve_editors, args=(datetime.now(UTC),), daemon=True
        )
        editors.start()
        stack.callback(editors.join, 5)
        stack.callback(editors.kill)
        servers = stack.enter_context(EmbeddedServers(folder / "data"))
        migrate_now(servers.database_url)
        settings = Settings(
            database_url=servers.database_url, redis_url=servers.redis_url, editors=str(write_file(folder))
        )
        time.sleep(10)  # the editors draw their places
        sys.stdout.write(json.dumps(asyncio.run(poll(settings, wishes.seconds)), indent=1) + "\n")


if __name__ == "__main__":
    main()
