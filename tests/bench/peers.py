"""The peers through the live matcher: ``python -m tests.bench.peers [--kinds …] [--days N] [--first SEED]``.

Replays days of the study under ``fcfs-nearest`` and ``official`` and lets the independent scorer judge: welfare in % of
hindsight (mean, worst and best day), callers told within two minutes, seconds a day; beside them ``fcfs-nearest`` of
the matching study on its own generator.
"""

import argparse
import time
from statistics import mean

from sas_matcher.matching.peers import PEERS
from sas_matcher.replay.hindsight import hindsight
from sas_matcher.replay.run import replay_day
from sas_matcher.replay.score import score
from sas_matcher.replay.study import KINDS, study
from tests.bench.study import STUDY


def main(kinds: list[str], days: int, first: int) -> None:
    """Print a row for each kind of day and peer."""
    for kind in kinds:
        drawn = [study(kind, seed) for seed in range(first, first + days)]
        most = [hindsight(day).welfare for day in drawn]
        for policy in PEERS:
            began = time.perf_counter()
            judged = [score(day, replay_day(day, policy)[0], policy) for day in drawn]
            took = (time.perf_counter() - began) / days
            shares = [100 * one.welfare / best for one, best in zip(judged, most, strict=True)]
            told = mean(100 * (one.told_within_2_min or 0.0) for one in judged)
            spread = f"[{min(shares):.1f}..{max(shares):.1f}]"
            there = f"study {STUDY[kind][0]} · {STUDY[kind][1]}" if policy == PEERS[0] else ""
            line = f"{kind:9} {policy:12} {mean(shares):5.1f} {spread:>14} · {told:3.0f}  {took:5.1f} s  {there}"
            print(line, flush=True)  # noqa: T201


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--kinds", nargs="*", default=list(KINDS))
    parser.add_argument("--days", type=int, default=10)
    parser.add_argument("--first", type=int, default=60)
    wishes = parser.parse_args()
    main(wishes.kinds, wishes.days, wishes.first)
