"""How hard the study's days are: ``python -m tests.bench.study [days]`` prints a table, ten days of each kind.

Welfare of the fair human peer in % of hindsight (mean, worst and best day), the share of its callers told at once, the
same peer without waiting list, and beside them what the matching study measured on its own generator.
"""

import sys

from sas_matcher.replay.daylog import DayLog
from sas_matcher.replay.hindsight import hindsight
from sas_matcher.replay.score import score
from sas_matcher.replay.study import KINDS, study
from tests.daylog_cases import lines_of
from tests.fcfs_nearest import fcfs_nearest

STUDY = {
    "city-x1": (92, 89, 84),
    "city-x3": (66, 60, 58),
    "city-x10": (44, 52, 42),
    "flash": (71, 61, 60),
    "rural": (76, 72, 65),
    "two": (74, 68, 63),
    "noise": (76, 64, 65),
}
"""Welfare and told of ``fcfs-nearest``, welfare without a waiting list: matching study, second part."""


def peer_share(day: DayLog, most: float, *, waiting_list: bool = True) -> tuple[float, float]:
    """Welfare of the peer in % of the optimum, and its callers told within two minutes in %."""
    policy = "fcfs-nearest" if waiting_list else "firm"
    judged = score(day, lines_of(fcfs_nearest(day, waiting_list=waiting_list)), policy)
    judged.require_legal()
    return 100 * judged.welfare / most, 100 * (judged.told_within_2_min or 0.0)


def main(days: int) -> None:
    """Print the table."""
    print("kind        peer (worst-best)  study    told  study   no list  study")  # noqa: T201
    for kind in KINDS:
        rows = []
        for seed in range(days):
            day = study(kind, seed)
            most = hindsight(day).welfare
            rows.append((*peer_share(day, most), peer_share(day, most, waiting_list=False)[0]))
        peer, told, without = (sum(column) / days for column in zip(*rows, strict=True))
        spread = f"({min(r[0] for r in rows):.0f}-{max(r[0] for r in rows):.0f})"
        there = STUDY[kind]
        line = (
            f"{kind:10} {peer:5.1f} {spread:>12} {there[0]:6}   {told:5.1f} {there[1]:6}   {without:7.1f} {there[2]:6}"
        )
        print(line, flush=True)  # noqa: T201


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10)
