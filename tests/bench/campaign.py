"""All policies on fresh days of the study: ``python -m tests.bench.campaign [--kinds …] [--policies …] [--days N]``.

Replays each day through the live matcher with ten earlier days of the same territory as history, lets the independent
scorer judge, and prints a table of means with the worst and the best day: welfare in % of hindsight · callers told
within two minutes; T0 and T1 served in % of hindsight; broken promises a day; what was proven of the batches. ``--out``
keeps days, results and figures, for ``sas-matcher compare``.
"""

import argparse
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from statistics import mean
from typing import Any

import orjson

from sas_matcher.matching.candidates import OpenRequest
from sas_matcher.replay.daylog_file import write_day
from sas_matcher.replay.hindsight import hindsight
from sas_matcher.replay.run import POLICIES, replay_day
from sas_matcher.replay.score import score
from sas_matcher.replay.study import KINDS, study

HISTORY = 10
"""Earlier days, as many as the matching study had; their seeds are never those of a day that is judged."""


class Proofs:
    """Port ``Watch``: counts what is proven of the batches."""

    def __init__(self) -> None:
        self.gaps: list[int] = []

    def late(self, what: str) -> None:
        """Said by the proofs as well."""

    def batch(self, size: int, arcs: int, seconds: float, method: str, gap: int) -> None:
        self.gaps.append(gap)

    def decided(self, request: OpenRequest, verdict: str, seconds: float) -> None:
        """Nothing."""

    def state(self, places: int, waiting: int) -> None:
        """Nothing."""


def cell(kind: str, seed: int, policy: str, out: Path | None) -> dict[str, Any]:
    """One day under one policy."""
    day = study(kind, seed)
    history = [study(kind, 1000 + 100 * seed + n) for n in range(HISTORY)]
    proofs = Proofs()
    began = time.process_time()
    lines, figures = replay_day(day, policy, history=history, seed=seed, watch=proofs)
    took = time.process_time() - began
    judged = score(day, lines, policy)
    if judged.violations:  # a ScoreError does not travel between processes
        raise ValueError(f"{kind} {seed} {policy}: {judged.violations[:5]}")
    most = hindsight(day)
    if out is not None:
        write_day(out / f"{kind}-{seed}.jsonl", day)
        (out / f"{kind}-{seed}.{policy}.result").write_bytes(b"\n".join(lines) + b"\n")
    urgent = sum(judged.served[t] for t in ("T0", "T1")) / max(1, sum(most.served[t] for t in ("T0", "T1")))
    return {
        "kind": kind,
        "seed": seed,
        "policy": policy,
        "welfare": 100 * judged.welfare / most.welfare,
        "told": 100 * (judged.told_within_2_min or 0.0),
        "urgent": 100 * urgent,
        "broken": judged.broken_promises,
        "moves": figures["moves"],
        "requests": sum(judged.requests.values()),
        "seconds": took,
        "decision_ms": figures["decision_ms"],
        "batches": len(proofs.gaps),
        "proven": sum(gap == 0 for gap in proofs.gaps),
        "unstated": sum(gap < 0 for gap in proofs.gaps),
    }


def row(rows: Sequence[dict[str, Any]]) -> str:
    """One line of the table."""
    of = {name: [r[name] for r in rows] for name in ("welfare", "told", "urgent", "broken", "seconds")}
    batches, proven = sum(r["batches"] for r in rows), sum(r["proven"] for r in rows)
    spread = f"[{min(of['welfare']):.1f}..{max(of['welfare']):.1f}]"
    told = f"[{min(of['told']):.0f}..{max(of['told']):.0f}]"
    proof = "no plan" if rows[0]["policy"] in ("fcfs-nearest", "official") else f"{proven} of {batches}"
    both = f"{mean(of['welfare']):.1f} {spread} · {mean(of['told']):.0f} {told}"
    broken = f"{mean(of['broken']):.0f} (≤ {max(of['broken'])})"
    cells = (rows[0]["kind"], rows[0]["policy"], both, f"{mean(of['urgent']):.1f}", broken, proof)
    return "| " + " | ".join((*cells, f"{mean(of['seconds']):.0f}", str(len(rows)))) + " |"


def main() -> None:
    """Print the table, a line when all days of a kind and policy are there."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.campaign", description=__doc__)
    parser.add_argument("--kinds", nargs="*", default=list(KINDS))
    parser.add_argument("--policies", nargs="*", default=list(POLICIES))
    parser.add_argument("--days", type=int, default=10)
    parser.add_argument("--first", type=int, default=60)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path)
    wishes = parser.parse_args()
    if wishes.out is not None:
        wishes.out.mkdir(parents=True, exist_ok=True)
    done: dict[tuple[str, str], list[dict[str, Any]]] = {}
    print("| kind | policy | welfare · told | T0+T1 | broken a day | batches proven | CPU s | days |")  # noqa: T201
    print("|---|---|---|---|---|---|---|---|")  # noqa: T201
    with ProcessPoolExecutor(wishes.jobs) as pool:
        work = [
            pool.submit(cell, kind, seed, policy, wishes.out)
            for policy in wishes.policies
            for kind in wishes.kinds
            for seed in range(wishes.first, wishes.first + wishes.days)
        ]
        for ended in as_completed(work):
            one = ended.result()
            if wishes.out is not None:
                with (wishes.out / "figures.jsonl").open("ab") as file:
                    file.write(orjson.dumps(one) + b"\n")
            rows = done.setdefault((one["kind"], one["policy"]), [])
            rows.append(one)
            if len(rows) == wishes.days:
                print(row(rows), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
