"""Cost of a decision as the market grows: ``python -m tests.bench.growth``.

One request at a time (candidates, solve, explanation, JSON) against 1 000 to 1 000 000 live places, drawn evenly over a
box the size of France; so the places within everybody's reach grow with the market, which is the hard way to grow.
Bar of Work 1.6: the cost grows at most twofold.
"""

import argparse
from statistics import median
from time import perf_counter
from typing import Final

import numpy as np
import orjson

from sas_matcher.matching.candidates import OpenRequest
from sas_matcher.matching.explain import explain
from sas_matcher.matching.market import Market
from tests.bench.figures import percentile
from tests.bench.matching import LOADED, MAINLAND, NINE, PARIS, TERMS, even_rows, steps_of
from tests.matching_cases import request

SIZES: Final = (1_000, 10_000, 100_000, 1_000_000)
WARM: Final = 100


def asked(count: int) -> list[OpenRequest]:
    """Draw requests over the same box."""
    chance = np.random.default_rng(9)
    lat, lon = chance.uniform(43.5, 49.5, count).tolist(), chance.uniform(-0.5, 6.5, count).tolist()
    return [request(f"r{n}", lat=lat[n], lon=lon[n], landmass=MAINLAND) for n in range(count)]


def times(market: Market, requests: list[OpenRequest]) -> list[float]:
    """Return milliseconds of each decision."""
    found = []
    for one in requests:
        began = perf_counter()
        (pick,), _, _ = steps_of([one], market)
        orjson.dumps(explain(market, pick, NINE, PARIS, TERMS))
        found.append(1e3 * (perf_counter() - began))
    return found[WARM:]


def table(runs: int, count: int) -> list[str]:
    """Return the Markdown table."""
    requests = asked(WARM + count)
    lines = ["| live places | one decision, p50 | p99 | p50 / p50 at 1 000 |", "|---|---|---|---|"]
    first = 0.0
    for size in SIZES:
        market = Market()
        for start in range(0, size, LOADED * 100):
            rows = even_rows(min(LOADED * 100, size - start), seed=start, first=start)
            for at in range(0, len(rows), LOADED):
                market.put(rows[at : at + LOADED])
        seen = [times(market, requests) for _ in range(runs)]
        p50, p99 = (median(percentile(one, share) for one in seen) for share in (0.5, 0.99))
        first = first or p50
        lines.append(f"| {size:,} | {p50:.2f} ms | {p99:.2f} ms | {p50 / first:.2f} |".replace(",", " "))
    return lines


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--requests", type=int, default=1_000)
    wishes = parser.parse_args()
    print("\n".join(table(wishes.runs, wishes.requests)))  # noqa: T201
