"""Race campaigns at will: ``python -m tests.race [--long] [--attempts N] [--seed N] [--kills N]``."""

import argparse
import asyncio
import importlib.util
import logging
import shutil
import sys
import tempfile
from pathlib import Path

import structlog

from adapters.embedded import EmbeddedServers
from adapters.postgres.schema import migrate_now
from tests.race.crowd import Report, campaign

MEDIUM = 30_000
LONG = 100_000
ROUND = 10_000  # attempts after which a campaign starts again with other chances


def main() -> int:
    """Run the campaigns; returns 1 if anything was ever booked twice."""
    parser = argparse.ArgumentParser(prog="python -m tests.race", description=__doc__)
    parser.add_argument("--long", action="store_true", help=f"{LONG} attempts instead of {MEDIUM}")
    parser.add_argument("--attempts", type=int, help="so many attempts")
    parser.add_argument("--seed", type=int, default=1, help="where the chances begin")
    parser.add_argument("--kills", type=int, metavar="N", help="a campaign that kills N processes under load")
    chosen = parser.parse_args()
    if chosen.kills is not None:
        if importlib.util.find_spec("tests.race.kills") is None:
            parser.error("there is no campaign of kills here")
        return int(importlib.import_module("tests.race.kills").main(chosen.kills, chosen.seed))
    attempts = chosen.attempts or (LONG if chosen.long else MEDIUM)
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
                        seed=chosen.seed + number,
                    )
                )
        finally:
            shutil.rmtree(folder)
        total.add(report)
        sys.stdout.write(f"seed {chosen.seed + number}\n{report.table()}\n\n")
        sys.stdout.flush()
    sys.stdout.write(f"all campaigns\n{total.table()}\n")
    return 1 if total.wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
