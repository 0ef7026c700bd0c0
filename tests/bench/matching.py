"""Times of matching: ``python -m tests.bench.matching [--quick]``.

One request (candidates, solve, explanation, JSON) against the 10 000 places of a territory and the 285 000 of the open
market of all France; a crisis batch of 1 000 requests to the end of its loop, with the longest stretch that keeps the
event loop from others; loading and memory of the market. ``--quick`` draws the 285 000 places evenly instead of
inventing the country's professionals (a few seconds instead of half a minute). One thread; on a busy machine only the
least of several runs says something.
"""

import argparse
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np
import orjson

from sas_matcher.matching.candidates import OpenRequest, find_candidates
from sas_matcher.matching.engine import Pick, decide
from sas_matcher.matching.explain import explain
from sas_matcher.matching.market import Market
from sas_matcher.matching.places import PlaceRow
from sas_matcher.matching.relax import relaxations
from sas_matcher.matching.terms import Terms
from solver import solve
from tests.bench.figures import percentile
from tests.matching_cases import DAY, place, world_requests, world_rows

PARIS: Final = ZoneInfo("Europe/Paris")
NINE: Final = datetime(DAY.year, DAY.month, DAY.day, 9, tzinfo=PARIS).astimezone(UTC).timestamp()
OPEN_MARKET: Final = 285_000
TERRITORY: Final = 10_000
BATCH: Final = 1_000
LOADED: Final = 1_000  # places put in at once
MAINLAND: Final = 0  # the gazetteer's number of continental France
TERMS: Final = Terms()
Step = tuple[str, float]


def say(text: str) -> None:
    print(text, flush=True)  # noqa: T201


def even_rows(count: int, seed: int = 3, first: int = 0) -> list[PlaceRow]:
    """Places drawn evenly over a box the size of France, the shares of modes and professions being the world's."""
    chance = np.random.default_rng(seed)
    lat, lon = chance.uniform(43.0, 50.0, count).tolist(), chance.uniform(-1.0, 7.0, count).tolist()
    minutes = chance.integers(0, 660, count).tolist()
    modes = chance.choice(["cabinet", "visite", "tele"], count, p=[0.88, 0.07, 0.05]).tolist()
    kinds = chance.choice(["MG", "DENT", "PED"], count, p=[0.86, 0.08, 0.06]).tolist()
    begins = place(0).start
    return [
        place(first + n + 1, lat=lat[n], lon=lon[n], mode=modes[n], profession=kinds[n], landmass=MAINLAND)._replace(
            start=int(NINE) + 60 * minutes[n], end=int(NINE) + 60 * minutes[n] + place(0).end - begins
        )
        for n in range(count)
    ]


def resident_mb() -> float:
    """Resident memory of this process (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


def loaded(rows: Sequence[PlaceRow]) -> Market:
    market, before, began = Market(), resident_mb(), perf_counter()
    longest = 0.0
    for first in range(0, len(rows), LOADED):
        page = perf_counter()
        market.put(rows[first : first + LOADED])
        longest = max(longest, perf_counter() - page)
    took = perf_counter() - began
    say(f"  load: {took:.2f} s, longest page {1e3 * longest:.0f} ms, memory +{resident_mb() - before:.0f} MB")
    return market


def steps_of(batch: Sequence[OpenRequest], market: Market) -> tuple[list[Pick], list[Step], int]:
    """Decide a batch; the time of each stretch between two pauses, by what it did, and the rounds of the loop."""
    steps: list[Step] = []
    clock = perf_counter()

    def lap(name: str) -> None:
        nonlocal clock
        now = perf_counter()
        steps.append((name, now - clock))
        clock = now

    found = []
    for request in batch:
        found.append(find_candidates(market, request, NINE, TERMS))
        lap("candidates")
    work, plan, rounds = decide(batch, found, TERMS, lambda: False), None, 0
    while True:
        try:
            problem = work.send(plan)
        except StopIteration as done:
            lap("decide")
            return done.value, steps, rounds
        lap("decide")
        plan = None
        if problem is not None:
            rounds += 1
            plan = solve(problem)
            lap("solve")


def alone(market: Market, requests: Sequence[OpenRequest]) -> None:
    """One request after the other, each decided and explained."""
    times: dict[str, list[float]] = {"candidates": [], "decide, solve": [], "explain": [], "all": []}
    counts = []
    for request in [*requests[:50], *requests]:
        began = perf_counter()
        (pick,), steps, _ = steps_of([request], market)
        decided = perf_counter()
        orjson.dumps(explain(market, pick, NINE, PARIS, TERMS))
        ended = perf_counter()
        candidates = sum(t for name, t in steps if name == "candidates")
        parts = (candidates, decided - began - candidates, ended - decided, ended - began)
        for values, value in zip(times.values(), parts, strict=True):
            values.append(1e3 * value)
        counts.append(len(pick.candidates))
    say(f"  one request ({percentile(counts, 0.5)} candidates, at most {max(counts)}), ms p50 p99:")
    for name, values in times.items():
        say(f"    {name:<14}{percentile(values[50:], 0.5):8.3f}{percentile(values[50:], 0.99):8.3f}")


def together(market: Market, requests: Sequence[OpenRequest], runs: int) -> None:
    """All requests in one batch; the best of some runs."""
    results = [steps_of(requests, market) for _ in range(runs)]
    picks, steps, rounds = min(results, key=lambda result: sum(t for _, t in result[1]))
    parts = {name: 1e3 * sum(t for n, t in steps if n == name) for name in ("candidates", "decide", "solve")}
    stretch = 1e3 * max(t for name, t in steps if name == "decide")
    served = sum(pick.row >= 0 for pick in picks)
    say(f"  batch of {len(requests)}: {sum(parts.values()):.0f} ms, {rounds} rounds")
    say(f"    served {served}, gap {picks[0].gap}")
    say("    " + ", ".join(f"{name} {ms:.0f} ms" for name, ms in parts.items()) + f", longest stretch {stretch:.0f} ms")


def helping(rows: Sequence[PlaceRow], requests: Sequence[OpenRequest]) -> None:
    """What would help who has no place, when nine places of ten are taken, and when all are (the longest search)."""
    for taken in (0.9, 1.0):
        gone = np.random.default_rng(4).random(len(rows)) < taken
        market = Market()
        market.put(row._replace(left=0) if away else row for row, away in zip(rows, gone.tolist(), strict=True))
        times, ways = [], 0
        for number, request in enumerate([*requests[:50], *requests]):
            found = find_candidates(market, request, NINE, TERMS)
            began = perf_counter()
            ways += len(relaxations(market, request, found, NINE, TERMS)) if number >= 50 else 0
            times.append(1e3 * (perf_counter() - began))
        p50, p99 = percentile(times[50:], 0.5), percentile(times[50:], 0.99)
        say(f"  what would help, {taken:.0%} taken: {p50:.2f} ms p50, {p99:.2f} p99, {ways / len(requests):.1f} ways")


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="draw the country evenly")
    parser.add_argument("--runs", type=int, default=5)
    wishes = parser.parse_args()
    say(f"{TERRITORY} places of territory 69")
    market, requests = loaded(world_rows(["69"], TERRITORY)), world_requests(["69"], BATCH, NINE)
    alone(market, requests)
    together(market, requests, wishes.runs)
    if wishes.quick:
        say(f"{OPEN_MARKET} places, evenly")
        rows = even_rows(OPEN_MARKET)
    else:
        say(f"{OPEN_MARKET} places of all France")
        rows, requests = world_rows([], OPEN_MARKET), world_requests([], BATCH, NINE)
    market = loaded(rows)
    alone(market, requests)
    together(market, requests, wishes.runs)
    helping(rows, requests)


if __name__ == "__main__":
    main()
