"""Consent over many drawn sequences: ``python -m tests.bench.consent [--memory N] [--postgres N] [--first SEED]``.

Plays ``tests.consent_cases`` (rules, quotas, consents to be asked, places, requests, time) on the twin in memory and on
an embedded PostgreSQL, where the national platform searches as well; stops at the first exposure that no rule allows.
"""

import argparse
import asyncio
import sys
import tempfile
from collections import Counter
from pathlib import Path

from adapters.embedded import start_postgres
from adapters.postgres.migrate import migrate
from tests.conftest import execute, with_database
from tests.consent_cases import fresh_memory, fresh_postgres


def main(memory: int, postgres: int, first: int) -> None:
    """Play; write what was judged."""
    judged: Counter[str] = Counter()
    for seed in range(first, first + memory):
        judged += asyncio.run(fresh_memory(seed))
        sys.stderr.write(f"\rmemory {seed - first + 1}")
    sys.stdout.write(f"memory: {memory} sequences, {dict(judged)}, none outside a rule\n")
    if not postgres:
        return
    judged = Counter()
    with tempfile.TemporaryDirectory() as folder:
        server = start_postgres(Path(folder), durable=False)
        try:
            asyncio.run(execute(server.url, "create database consent_template"))
            asyncio.run(migrate(with_database(server.url, "consent_template")))
            for seed in range(first, first + postgres):
                asyncio.run(execute(server.url, "create database consent_game template consent_template"))
                judged += asyncio.run(fresh_postgres(with_database(server.url, "consent_game"), seed))
                asyncio.run(execute(server.url, "drop database consent_game with (force)"))
                sys.stderr.write(f"\rPostgreSQL {seed - first + 1}")
        finally:
            server.stop()
    sys.stdout.write(f"PostgreSQL: {postgres} sequences, {dict(judged)}, none outside a rule\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--memory", type=int, default=2_000)
    parser.add_argument("--postgres", type=int, default=200)
    parser.add_argument("--first", type=int, default=1_000)
    wishes = parser.parse_args()
    main(wishes.memory, wishes.postgres, wishes.first)
