"""Race campaigns: ``./sas race [--long] [--attempts N] [--kills N] [--cuts N] [--asking N]
[--seed N]``.

Without options a crowd of 30 000 attempts; ``--long`` is what the service promises, in a quarter of an hour: 100 000
attempts on few places, 50 kills of its processes under load, 1 000 cut websockets, and 1 000 questions en
sus answered at once over 10 kills.
"""

import argparse
import asyncio
import logging
import shutil
import sys
import tempfile
from pathlib import Path

import structlog

from adapters.embedded import EmbeddedServers
from adapters.postgres.schema import migrate_now
from tests.api import ws_cuts
from tests.race import asking_kills, kills
from tests.race.crowd import Report, campaign

MEDIUM = 30_000
LONG = 100_000
LONG_KILLS = 50
LONG_CUTS = 1_000
LONG_ASKING = 10
ROUND = 10_000  # attempts after which a campaign starts again with other chances


def main() -> int:
    """Run the campaigns; returns 1 if anything was booked twice, lost, or seen twice."""
    parser = argparse.ArgumentParser(prog="sas race", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--long", action="store_true", help=f"{LONG} attempts, {LONG_KILLS} kills, {LONG_CUTS} cuts")
    parser.add_argument("--attempts", type=int, help=f"so many attempts instead of {MEDIUM}")
    parser.add_argument("--seed", type=int, default=1, help="where the chances begin")
    parser.add_argument("--kills", type=int, metavar="N", help="kill N processes under load")
    parser.add_argument("--cuts", type=int, metavar="N", help="cut N websockets while confirmations flow")
    parser.add_argument("--asking", type=int, metavar="N", help="kill N processes while 200 doctors answer at once")
    chosen = parser.parse_args()
    every = chosen.long or (chosen.kills is None and chosen.cuts is None and chosen.asking is None)
    attempts = chosen.attempts or (LONG if chosen.long else MEDIUM if every else 0)
    failed = 0
    if attempts:
        failed |= crowd(attempts, chosen.seed)
    if number := chosen.cuts or (LONG_CUTS if chosen.long else 0):
        failed |= cuts(number)
    if number := chosen.kills or (LONG_KILLS if chosen.long else 0):
        failed |= int(kills.main(number, chosen.seed))
    if number := chosen.asking or (LONG_ASKING if chosen.long else 0):
        failed |= asking_kills.main(number, chosen.seed)
    return failed


def cuts(number: int) -> int:
    """Cut websockets; each confirmation is seen exactly once after the resume, or a gap is told."""
    found = ws_cuts.run(number)
    told = f"{found.confirmed} confirmed, {found.events} events, {found.gaps} gaps told"
    wrong = f"{len(found.missing)} missing, {len(found.repeated)} delivered twice"
    sys.stdout.write(f"{found.cuts} websockets cut: {told}; {wrong}\n\n")
    sys.stdout.flush()
    return 1 if found.missing or found.repeated else 0


def crowd(attempts: int, seed: int) -> int:
    """Let a crowd fight for few places; nothing may be booked twice."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    total = Report()
    for number, first in enumerate(range(0, attempts, ROUND)):
        folder = Path(tempfile.mkdtemp(prefix="sas-race-"))
        folder.chmod(0o755)
        try:
            with EmbeddedServers(folder, durable=False) as servers:
                migrate_now(servers.database_url)
                report = asyncio.run(
                    campaign(
                        servers.database_url,
                        servers.redis_url,
                        attempts=min(ROUND, attempts - first),
                        seed=seed + number,
                    )
                )
        finally:
            shutil.rmtree(folder)
        total.add(report)
        sys.stdout.write(f"seed {seed + number}\n{report.table()}\n\n")
        sys.stdout.flush()
    sys.stdout.write(f"all campaigns\n{total.table()}\n")
    return 1 if total.wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
