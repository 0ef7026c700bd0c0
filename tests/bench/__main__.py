"""Measure the service beside the floor (the least that the live path can do): ``./sas bench [--quick] [--json FILE]``.

Both run on embedded servers of their own in a temporary folder. They are loaded in turn, floor, product, floor, …, so
that each pair of runs shares the machine's mood; the one that is not measured is idle (the floor is even stopped, the
service has nothing left to do: every request of a run is cancelled at its end). The load client is a process of its
own on the same cores. 285 000 places of the invented open market of all France are live, published through the API.

Beside both runs a nearest-first service on GEOSEARCH and a Lua claim (``nearest_app``); then what it decides on whole
days (``quality``), other solvers on the same instances (``rivals``), how a decision's cost grows (``growth``), ten
thousand websockets on one worker (``many_sockets``).

The floor is the program ``../shared/bench/floor_app.py`` (or ``--floor``); without it the service is measured alone.
"""

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, Final

from tests.bench import growth, many_sockets, quality, rivals
from tests.bench.figures import percentile, ratio
from tests.bench.live import Restart, Visible, fill, restart, visible
from tests.bench.load import Plan
from tests.bench.market import OPEN_MARKET_SLOTS, SPOTS, france, live_slots, request_bodies
from tests.bench.sides import (
    FLOOR,
    HOST,
    FloorSide,
    NearestSide,
    ProductSide,
    floor,
    measure,
    nearest,
    product,
    resident_mb,
)

RATES: Final = (5.0, 50.0, 200.0)
"""Calls a second: a crisis minute of all France, ten times it, forty times it."""
CLIENTS: Final = 64
SHARES: Final = (0.5, 0.95, 0.99)
REGULATORS: Final = 8


class Bench:
    """One measurement: both sides in turn, everything remembered for the JSON file."""

    def __init__(
        self,
        wishes: argparse.Namespace,
        folder: Path,
        ours: ProductSide,
        theirs: FloorSide | None,
        beside: NearestSide | None = None,
    ) -> None:
        self._beside = beside
        self._wishes = wishes
        self._folder = folder
        self._ours = ours
        self._theirs = theirs
        self._bodies = str(folder / "bodies")
        self.runs: list[dict[str, Any]] = []
        self.nearest: dict[float, list[dict[str, Any]]] = {}

    def _run(self, side: str, port: int, rate: float, number: int, processes: dict[str, list[int]]) -> dict[str, Any]:
        plan = Plan(
            side=side,
            host=HOST,
            port=port,
            seconds=self._wishes.seconds,
            rate=rate,
            clients=0 if rate else CLIENTS,
            seed=1_000 * number + round(rate),
            run=f"{side}-{rate:.0f}-{number}",
            sockets=REGULATORS,
            keys=list(self._ours.regulators),
            bodies=self._bodies,
            processes=processes,
        )
        result = measure(asdict(plan), self._folder)
        pushed = result.pop("pushed")
        late, answered = result.pop("late"), result.pop("answered")
        result |= {"side": side, "rate": rate, "run": number}
        result["per_second"] = len(pushed) / result["seconds"]
        result["pushed_ms"] = [percentile(pushed, share) for share in SHARES] if pushed else []
        result["answered_ms"] = [percentile(answered, share) for share in SHARES] if answered else []
        result["late_ms"] = [percentile(late, share) for share in SHARES] if late else []
        self.runs.append(result)
        shown = " ".join(f"{value:.1f}" for value in result["pushed_ms"])
        cpu = " ".join(f"{name} {spent / result['sent']:.2f}" for name, spent in result["cpu_ms"].items())
        what = f"{side:<8} {rate:>4.0f}/s run {number}: {result['per_second']:.0f}/s, ms {shown}; cpu {cpu}"
        say(f"  {what} {result['errors'] or ''}")
        return result

    def in_turn(self, rate: float) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Measure floor, nearest-first service and product in turn at a rate (0: closed loop).

        Returns the runs of floor and product; those of the nearest-first service are in ``nearest``, by rate.
        """
        theirs, ours = [], []
        for number in range(self._wishes.runs):
            if self._theirs is not None:
                with self._theirs.serving() as port:
                    theirs.append(self._run("floor", port, rate, number, self._theirs.processes))
            if self._beside is not None:
                with self._beside.serving() as port:
                    self.nearest.setdefault(rate, []).append(self._run("nearest", port, rate, number, {}))
            self._ours.service.look()
            self._ours.until_ready()
            ours.append(self._run("product", self._ours.port, rate, number, self._ours.processes))
        return theirs, ours


def say(text: str) -> None:
    """Tell how far it is, beside the table."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201


def _failures(runs: Sequence[dict[str, Any]]) -> str:
    counts: dict[str, int] = {}
    for run in runs:
        for name, count in run["errors"].items():
            counts[name] = counts.get(name, 0) + count
    return ", ".join(f"{count} × {name}" for name, count in counts.items()) or "none"


def latency_lines(rate: float, theirs: Sequence[dict[str, Any]], ours: Sequence[dict[str, Any]]) -> list[str]:
    """Return the table's lines of one rate."""
    lines = []
    for index, share in enumerate(SHARES):
        mine = [run["pushed_ms"][index] for run in ours if run["pushed_ms"]]
        floor_ms = [run["pushed_ms"][index] for run in theirs if run["pushed_ms"]]
        cells = [f"{rate:.0f}/s", f"p{100 * share:.0f}"]
        cells.append(f"{median(floor_ms):.1f} ms" if floor_ms else "–")
        cells.append(f"{median(mine):.1f} ms" if mine else "–")
        cells.append(str(ratio(mine, floor_ms)) if floor_ms and len(mine) == len(floor_ms) else "–")
        cells.append(_failures([*theirs, *ours]) if index == 0 else "")
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def throughput_line(theirs: Sequence[dict[str, Any]], ours: Sequence[dict[str, Any]]) -> str:
    """Return the table's line of the closed loop: requests a second."""
    mine = [run["per_second"] for run in ours]
    floor_s = [run["per_second"] for run in theirs]
    cells = [f"{CLIENTS} clients", "sustained"]
    cells.append(f"{median(floor_s):.0f}/s" if floor_s else "–")
    cells.append(f"{median(mine):.0f}/s")
    cells.append(str(ratio(mine, floor_s)) if floor_s else "–")
    cells.append(_failures([*theirs, *ours]))
    return "| " + " | ".join(cells) + " |"


def cpu_lines(runs: Sequence[dict[str, Any]]) -> list[str]:
    """Return the table of what a call costs in processor time, by side, load and part; median of the runs."""
    lines = ["| side | load | processor time of a call | by part |", "|---|---|---|---|"]
    kinds = sorted({(run["side"], run["rate"]) for run in runs if len(run["cpu_ms"]) > 1})
    for side, rate in kinds:
        each = [
            {part: spent / run["sent"] for part, spent in run["cpu_ms"].items()}
            for run in runs
            if (run["side"], run["rate"]) == (side, rate)
        ]
        parts = {part: median(run[part] for run in each) for part in each[0]}
        by_part = ", ".join(f"{part} {spent:.2f}" for part, spent in parts.items())
        load = f"{rate:.0f}/s" if rate else f"{CLIENTS} clients"
        lines.append(f"| {side} | {load} | {median(sum(run.values()) for run in each):.2f} ms | {by_part} |")
    return lines


def nearest_lines(bench: Bench) -> list[str]:
    """Return the table of the nearest-first service beside ours, of the same turns."""
    lines = ["| load | | GEOSEARCH + Lua | service | service / it |", "|---|---|---|---|---|"]
    for rate, beside in bench.nearest.items():
        ours = [run for run in bench.runs if run["side"] == "product" and run["rate"] == rate]
        rows: list[tuple[str, str, list[float], list[float]]] = []
        for index, share in enumerate(SHARES if rate else ()):
            them, us = ([run["pushed_ms"][index] for run in runs if run["pushed_ms"]] for runs in (beside, ours))
            rows.append((f"p{100 * share:.0f}", "ms", them, us))
        if not rate:
            them, us = ([run["per_second"] for run in runs] for runs in (beside, ours))
            rows.append(("sustained", "/s", them, us))
        for what, unit, them, us in rows:
            paired = str(ratio(us, them)) if them and len(them) == len(us) else "–"
            them_text, us_text = (f"{median(values):.1f} {unit}" if values else "–" for values in (them, us))
            lines.append(
                f"| {f'{rate:.0f}/s' if rate else f'{CLIENTS} clients'} | {what} | {them_text} | {us_text} | {paired} |"
            )
    return lines


def live_lines(setup_s: float, places: int, seen: Visible, restarts: Sequence[Restart]) -> list[str]:
    """Return the second table."""

    def span(values: Sequence[float], digits: int) -> str:
        return f"{median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"

    return [
        "| measure | value |",
        "|---|---|",
        f"| {places:,} places published through the API, bulks of 10 000 | {setup_s:.1f} s |",
        f"| bulk of 10 000, committed and answered | {span(seen.answer_s, 2)} s |",
        f"| bulk of 10 000, sent → a place of its last pages assigned to who waits | {span(seen.alone_s, 2)} s |",
        f"| bulk of 10 000, sent → assigned to {SPOTS} who wait, all pushed | {span(seen.bulk_s, 2)} s |",
        f"| one place, sent → assigned to who waits and pushed, p50 | {percentile(seen.single_ms, 0.5):.1f} ms |",
        f"| the same, p99 of {len(seen.single_ms)} | {percentile(seen.single_ms, 0.99):.1f} ms |",
        f"| matcher killed → /readyz ready for good | {span([r.ready_s for r in restarts], 1)} s |",
        f"| matcher killed → a request sent at that instant is served | {span([r.decided_s for r in restarts], 1)} s |",
        f"| places in the new matcher's memory | {restarts[-1].places:,} |",
        f"| resident memory of the matcher's process | {max(r.core_mb for r in restarts):.0f} MiB |",
        f"| resident memory of an API worker | {restarts[-1].api_mb:.0f} MiB |",
    ]


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="sas bench", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seconds", type=float, default=60.0, help="length of a run (60)")
    parser.add_argument("--runs", type=int, default=5, help="runs of each side at each rate (5)")
    parser.add_argument("--quick", action="store_true", help="10 s, 2 runs: to see that it works, not to be quoted")
    parser.add_argument("--rates", type=float, nargs="*", default=list(RATES), help="calls a second (5 50 200)")
    parser.add_argument("--slots", type=int, default=OPEN_MARKET_SLOTS, help="live places (285000)")
    parser.add_argument("--workers", type=int, default=1, help="API workers (1, as the floor has)")
    parser.add_argument("--floor", type=Path, default=FLOOR, help="the floor's program")
    only = "a part of the measures; peers: other services' decisions, other solvers, growth, ten thousand websockets"
    parser.add_argument("--only", choices=("rates", "live", "peers"), help=only)
    parser.add_argument("--json", type=Path, help="write every run to this file")
    wishes = parser.parse_args()
    if wishes.quick:
        wishes.seconds, wishes.runs = 10.0, 2
    if wishes.runs < 1 or wishes.seconds <= 0:
        parser.error("at least one run of some length")
    return wishes


def machine() -> str:
    """Say what it was measured on."""
    return (
        f"{os.cpu_count()} cores ({platform.machine()}), Python {platform.python_version()}, {platform.system()} "
        f"{platform.release()}, {datetime.now(UTC):%Y-%m-%d}"
    )


def peers(wishes: argparse.Namespace) -> list[str]:
    """Measure what others decide and solve, how we grow, how many sockets we hold; returns the lines."""
    lines = [""]
    say("decisions of the nearest-first service…")
    lines += [*quality.table(2 if wishes.quick else 5), ""]
    say("other solvers…")
    lines += [*rivals.table(2 if wishes.quick else 5), ""]
    say("growth…")
    lines += [*growth.table(wishes.runs, 200 if wishes.quick else 1_000), ""]
    say("websockets…")
    return lines + many_sockets.table(1_000 if wishes.quick else 10_000)


def main() -> None:
    """Measure, print a Markdown table, write the JSON file."""
    wishes = arguments()
    if wishes.only == "peers":
        print("\n".join([f"Measured on {machine()}.", *peers(wishes)]))  # noqa: T201
        return
    folder = Path(tempfile.mkdtemp(prefix="sas-bench-"))
    folder.chmod(0o755)  # PostgreSQL may have to run as another user
    document: dict[str, Any] = {"machine": machine(), "seconds": wishes.seconds, "slots": wishes.slots}
    lines = [f"Measured on {machine()}; load client on the same cores; {wishes.runs} runs of {wishes.seconds:.0f} s."]
    try:
        with ExitStack() as stack:
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            theirs = None
            if wishes.only == "live":
                pass
            elif wishes.floor.is_file():
                theirs = stack.enter_context(floor(folder / "floor", wishes.floor))
            else:
                say(f"\n!!! NO FLOOR: {wishes.floor} is missing. Only the service is measured; there are no ratios.\n")
                lines.append("**No floor**: its program is missing, the service was measured alone.")
            say("world…")
            geography, world = france()
            bodies = request_bodies(world)
            (folder / "bodies").write_bytes(b"\n".join(bodies))
            ours = stack.enter_context(product(folder / "product", REGULATORS, wishes.workers))
            say(f"publishing {wishes.slots} places through the API…")
            setup_s = fill(ours, live_slots(world, wishes.slots, datetime.now(UTC)))
            beside = None
            if wishes.only != "live":
                places = live_slots(world, wishes.slots, datetime.now(UTC))
                beside = stack.enter_context(nearest(folder / "nearest", places))
            bench = Bench(wishes, folder, ours, theirs, beside)
            document |= {"setup_s": setup_s, "runs": bench.runs}
            if wishes.only != "live":
                lines += ["", "| load | | floor | service | service / floor | errors |", "|---|---|---|---|---|---|"]
                for rate in wishes.rates:
                    lines += latency_lines(rate, *bench.in_turn(rate))
                lines.append(throughput_line(*bench.in_turn(0)))
                lines += ["", *nearest_lines(bench), "", *cpu_lines(bench.runs)]
            if wishes.only != "rates":
                say("published → visible…")
                seen = visible(ours, geography, world, wishes.runs, 40 if wishes.quick else 300)
                say("restart of the matcher…")
                restarts = [restart(ours, body) for body in bodies[: wishes.runs]]
                lines += ["", *live_lines(setup_s, wishes.slots, seen, restarts)]
                document |= {"visible": seen._asdict(), "restarts": [r._asdict() for r in restarts]}
            pid = ours.core.process.pid if ours.core.process is not None else 0
            document |= {"core_mb": resident_mb(pid)}
    finally:
        if wishes.json is not None:
            wishes.json.write_text(json.dumps(document, indent=1), "utf-8")
        print("\n".join(lines))  # noqa: T201
    if wishes.only is None:
        print("\n".join(peers(wishes)))  # noqa: T201


if __name__ == "__main__":
    main()
