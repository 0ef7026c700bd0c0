"""Kill the service's processes again and again under load, and look for anything lost, doubled or stalled.

``python -m tests.race.kills --kills 50 --seed 1`` starts a whole service of its own (embedded servers, a temporary data
folder), drives it (``kills_clients``), sends SIGKILL at random moments to an API worker, the core, Valkey, PostgreSQL,
two of them at once or the same one twice, waits each time until the service is back by itself, and compares in the end
what was acknowledged with the ledger and with what sockets delivered (``kills_audit``). Exits 1 on any finding.

Linux only (``/proc``, pidfd). Only children of the service that this run started are ever killed.
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import asyncpg
import httpx
from rich.console import Console
from rich.table import Table

from sas_matcher.bootstrap.access import issue_key
from sas_matcher.bootstrap.stores import Stores, open_stores
from sas_matcher.config import Settings
from sas_matcher.domain.vocabulary import Role
from sas_matcher.ports.ledger import Idempotency, SettingChange
from sas_matcher.services.keys import KeyWish
from tests.race.kills_audit import Audit
from tests.race.kills_clients import HOLD_S, Caller, Follower, History, Practice, Regulator, StreamPublisher

ROOT: Final = Path(__file__).resolve().parents[2]
BACK_S: Final = 15.0
"""The service must serve again by itself within this (s)."""
PRACTICES: Final = 3
REGULATORS: Final = 4
TERRITORIES: Final = ("69", "01", "38")
WAY_OFF: Final = "2A004"  # Ajaccio: nobody offers anything there, the probe takes no place from anyone

# plan → weight; "a+b" at once, "a,a" the same again as soon as it is back or while it comes back
PLANS: Final = {
    "api": 4,
    "core": 4,
    "valkey": 4,
    "postgres": 4,
    "api+core": 1,
    "postgres+valkey": 1,
    "core+postgres": 1,
    "core+valkey": 1,
    "api+valkey": 1,
    "api,api": 1,
    "core,core": 1,
    "valkey,valkey": 1,
    "postgres,postgres": 1,
}

SERVE: Final = """
import json, signal, sys
from pathlib import Path
from adapters.system import end_with_parent
end_with_parent(int(sys.argv[2]), signal.SIGTERM)
from sas_matcher.bootstrap.logs import set_up_logging
from sas_matcher.config import Settings
from sas_matcher.supervise import Service
set_up_logging("warning")
settings = Settings(port=0, data_dir=Path(sys.argv[1]), territories=tuple(sys.argv[3].split(",")), log_level="warning",
    webhook_hosts=("127.0.0.1",))
with Service(settings) as service:
    now = service.settings
    print(json.dumps([now.port, now.database_url, now.redis_url]), flush=True)
    service.watch()
"""
"""A whole service in a process of its own: it prints where it listens, and ends with whoever started it."""


class ServiceProcess:
    """The service under test, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "service.log"
        command = [sys.executable, "-c", SERVE, str(folder / "data"), str(os.getpid()), ",".join(TERRITORIES)]
        # compiled modules are kept, as where it is installed: compiling them is half of the time to come back
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        self.temporary = folder / "tmp"
        self.temporary.mkdir(exist_ok=True)
        environment.setdefault("PYTHONPYCACHEPREFIX", str(folder / "pycache"))
        environment |= {"PYTHONPATH": str(ROOT), "TMPDIR": str(self.temporary)}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, cwd=ROOT, env=environment)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("the service did not start:\n" + self.log.read_text())
        port, self.database_url, self.redis_url = json.loads(line)
        self.base = f"http://127.0.0.1:{port}"

    def children(self) -> dict[str, int]:
        """Return the process numbers of the service's children by what they are."""
        found: dict[str, int] = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and parent_of(int(entry.name)) == self.process.pid:
                with contextlib.suppress(OSError):
                    kind = _kind((entry / "cmdline").read_bytes())
                    if kind:
                        found[kind] = int(entry.name)
        return found

    def kill(self, kind: str) -> int | None:
        """Send SIGKILL to a child; returns its number, or None when there is none just now."""
        pid = self.children().get(kind)
        if pid is None:
            return None
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            return None
        try:
            # looked at while the handle holds it: the number cannot have become another process's
            if parent_of(pid) != self.process.pid:
                return None
            signal.pidfd_send_signal(handle, signal.SIGKILL)
        except ProcessLookupError:
            return None
        finally:
            os.close(handle)
        return pid

    def stop(self) -> int:
        """Ask it to end; returns its exit code."""
        self.process.terminate()
        try:
            return self.process.wait(30)
        finally:
            self.process.kill()


def parent_of(pid: int) -> int:
    """Return the parent's number; 0 when there is no such process."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _kind(command: bytes) -> str:
    if b"sas_matcher.worker\0core" in command:
        return "core"
    if b"sas_matcher.worker\0api" in command:
        return "api"
    if b"/valkey-server" in command:  # it writes its socket after its name
        return "valkey"
    return "postgres" if b"/bin/postgres\0-D" in command else ""


@dataclass
class Killer:
    """Kills by plan, and measures how long the service takes to serve again."""

    service: ServiceProcess
    probe: Caller
    rng: random.Random
    bound: float
    done: int = 0
    took: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    late: list[str] = field(default_factory=list)

    async def run(self, kills: int) -> None:
        """Kill as often as wanted, at random moments, each time waiting until the service is back."""
        plans = random.Random(self.rng.random()).choices(list(PLANS), list(PLANS.values()), k=kills)
        # each plain kind at least once, in however short a run
        plans[: len(PLANS)] = [*list(PLANS)[:4], *plans[4 : len(PLANS)]]
        for plan in plans:
            if self.done >= kills:
                return
            await asyncio.sleep(self.rng.uniform(0.3, 1.5))
            await self._kill(plan)
            began = time.monotonic()
            if not await self._back():
                self.late.append(f"not back within {self.bound:.0f} s after {plan}")
                return
            self.took[plan].append(time.monotonic() - began)

    async def _kill(self, plan: str) -> None:
        first, _, again = plan.partition(",")
        for kind in first.split("+"):
            self.done += await self._one(kind)
        if again:
            await asyncio.sleep(self.rng.uniform(0.0, 1.2))
            self.done += await self._one(again)

    async def _one(self, kind: str) -> int:
        """Kill a kind, waiting for it to be there when it is just being replaced."""
        deadline = time.monotonic() + self.bound
        while self.service.kill(kind) is None:
            if time.monotonic() > deadline:
                self.late.append(f"no {kind} to kill")
                return 0
            await asyncio.sleep(0.02)
        return 1

    async def _back(self) -> bool:
        """Wait until a new request is committed, decided, and its decision came through Redis."""
        key = {"idempotency-key": str(uuid.uuid4())}
        wish = {"insee": WAY_OFF, "profession": "MG", "delay": "DEL0", "territory": TERRITORIES[0]}
        deadline = time.monotonic() + self.bound
        while time.monotonic() < deadline and self.service.process.poll() is None:
            with contextlib.suppress(httpx.TransportError):
                answer = await self.probe.http.post("/v1/requests", json=wish, headers=key)
                # a 201 is a decision: 202 means that the core has not spoken yet
                if answer.status_code == 201 and len(self.service.children()) == 4:
                    return True
            await asyncio.sleep(0.05)
        return False


@contextlib.contextmanager
def data_folder() -> Iterator[Path]:
    """A temporary folder that PostgreSQL can use as whoever it runs."""
    folder = Path(tempfile.mkdtemp(prefix="sas-kills-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass
class Outcome:
    """What a campaign found."""

    history: History
    killer: Killer
    audit: Audit
    followers: list[Follower]
    seconds: float
    exit_code: int
    fell: list[str]

    @property
    def findings(self) -> list[str]:
        """Everything that must not be."""
        found = self.killer.late + self.audit.found + self.fell
        return found if self.exit_code == 0 else [*found, f"the service ended with code {self.exit_code}"]


async def campaign(kills: int, seed: int, folder: Path, bound: float = BACK_S) -> Outcome:
    """Run a service, load it, kill it, and judge."""
    rng = random.Random(seed)
    history = History()
    began = time.monotonic()
    service = ServiceProcess(folder)
    try:
        async with open_stores(Settings(database_url=service.database_url, redis_url=service.redis_url)) as stores:
            await _short_holds(stores)
            callers = [await _caller(stores, service, history, rng, Role.REGULATOR) for _ in range(REGULATORS + 1)]
            finesses = [f"69000{number:04d}" for number in range(PRACTICES)]
            practices = [await _caller(stores, service, history, rng, Role.MANAGER, finess) for finess in finesses]
        probe, *regulators = callers
        followers = [Follower(caller) for caller in regulators]
        followers += [Follower(caller, finess) for caller, finess in zip(practices, finesses, strict=True)]
        doers = [Practice(follower.caller, follower) for follower in followers[REGULATORS:]]
        stream = StreamPublisher(service.redis_url, practices[0].key_id, doers[0], history)
        killer = Killer(service, probe, rng, bound)
        audit = await _drive(killer, kills, [*map(Regulator, regulators), *doers, stream], history, followers)
        for caller in (*callers, *practices):
            await caller.http.aclose()
    finally:
        code = service.stop()
    return Outcome(history, killer, audit, followers, time.monotonic() - began, code, _fallen(service.log))


async def _short_holds(stores: Stores) -> None:
    admin, _ = await issue_key(stores, KeyWish(Role.ADMIN, "kills"))
    for territory in TERRITORIES:
        once = Idempotency(admin.id, f"hold-{territory}", b"")
        change = SettingChange(territory, {"hold_seconds": HOLD_S}, "holds that lapse within the campaign")
        await stores.ledger.change_setting(stores.clock.now(), change, once)


async def _caller(
    stores: Stores, service: ServiceProcess, history: History, rng: random.Random, role: Role, finess: str = ""
) -> Caller:
    wish = KeyWish(role, "kills", territories=("*",), structures=(finess,) if finess else ())
    record, token = await issue_key(stores, wish)
    return Caller(service.base, record.id, token, history, random.Random(rng.random()))


async def _drive(
    killer: Killer,
    kills: int,
    doers: list[Regulator | Practice | StreamPublisher],
    history: History,
    followers: list[Follower],
) -> Audit:
    """Load and kill; then let everything settle and judge it."""
    stop = asyncio.Event()
    following = [asyncio.create_task(follower.run()) for follower in followers]
    working = [asyncio.create_task(doer.run(stop)) for doer in doers]
    await asyncio.sleep(2)  # some places and bookings first
    await killer.run(kills)
    stop.set()
    for result in await asyncio.gather(*working, return_exceptions=True):
        if isinstance(result, BaseException):
            history.wrong.append(f"a client gave up: {result!r}")
    ledger = await asyncpg.connect(killer.service.database_url)
    audit = Audit(ledger, history, followers)
    await audit.settle()
    await audit.judge()
    await ledger.close()
    for task in following:
        task.cancel()
    for result in await asyncio.gather(*following, return_exceptions=True):
        if not isinstance(result, asyncio.CancelledError):
            history.wrong.append(f"a socket's reader fell: {result!r}")
    return audit


def _fallen(log: Path) -> list[str]:
    """Return what ended in the service without being killed, and what nobody expected."""
    found = []
    for line in log.read_text().splitlines():
        entry = json.loads(line) if line.startswith("{") else {"event": line}
        own_end = entry["event"] == "service.child_ended" and entry["code"] != -signal.SIGKILL
        # a server that is killed while it starts is told as an error and started again: that is what it should do
        unexpected = entry.get("level") == "error" and entry["event"] != "service.server_not_back"
        if own_end or unexpected or line.startswith("Traceback"):
            found.append(f"service log: {line[:600]}")
    return found


def report(outcome: Outcome, console: Console) -> None:
    """Print what happened."""
    table = Table(title=f"{outcome.killer.done} kills in {outcome.seconds:.0f} s")
    for name in ("killed", "times", "back p50", "back max"):
        table.add_column(name, justify="left" if name == "killed" else "right")
    for plan in PLANS:
        took = outcome.killer.took.get(plan)
        if took:
            table.add_row(plan, str(len(took)), f"{statistics.median(took):.1f} s", f"{max(took):.1f} s")
    console.print(table)
    history = outcome.history
    facts: dict[str, object] = {f"acknowledged: {what}": n for what, n in sorted(history.acknowledged.items())}
    facts["calls repeated"] = history.repeated
    facts["socket sessions"] = sum(f.sessions for f in outcome.followers)
    facts["events delivered"] = sum(f.applied.total() for f in outcome.followers)
    facts["events delivered again or late (dropped by version)"] = sum(f.repeats for f in outcome.followers)
    reasons: dict[str, int] = defaultdict(int)
    for follower in outcome.followers:
        for reason, count in follower.gaps.items():
            reasons[reason] += count
    facts["gaps told"] = ", ".join(f"{reason} {count}" for reason, count in reasons.items()) or 0
    facts |= outcome.audit.facts
    for name, value in facts.items():
        console.print(f"{name}: {value}", highlight=False)
    for finding in outcome.findings[:40]:
        console.print(f"FINDING {finding}", style="red", markup=False, highlight=False)
    console.print(f"{len(outcome.findings)} findings")


def main(kills: int, seed: int = 1, bound: float = BACK_S, log: Path | None = None) -> int:
    """Run a campaign and print its table.

    Args:
        kills: SIGKILLs to send.
        seed: of the plans and of the clients' choices (what the scheduler does with them is not repeated).
        bound: seconds within which the service must serve again by itself.
        log: where to keep the service's log.

    Returns:
        0 when nothing was lost, doubled or stalled, else 1.
    """
    with data_folder() as folder:
        outcome = asyncio.run(campaign(kills, seed, folder, bound))
        if log is not None:
            shutil.copyfile(folder / "service.log", log)
    report(outcome, Console(width=120))
    return 1 if outcome.findings else 0


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--kills", type=int, default=50)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--bound", type=float, default=BACK_S, help="seconds to be back within")
    arguments.add_argument("--log", type=Path, default=None, help="keep the service's log here")
    chosen = arguments.parse_args()
    sys.exit(main(chosen.kills, chosen.seed, chosen.bound, chosen.log))
