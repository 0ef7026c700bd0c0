"""Times of the solver, build included: ``python -m tests.bench.solver``.

Median of five, microseconds, one thread. Towns of ``tests.solver_cases``, k = 32 candidates at random per request. A
small case is repeated within one measurement, as a single call is shorter than the clock is exact.
"""

from collections.abc import Callable
from statistics import median
from timeit import timeit

import numpy as np

from solver import (
    OmittedArcs,
    Problem,
    certify,
    check,
    slot_prices,
    solve,
    solve_flow,
    solve_greedy,
    spread_selection,
)
from tests.solver_cases import town

SIZES = ((1, 32), (1, 10_000), (10, 1_000), (100, 2_000), (1_000, 10_000), (1_000, 1_200))
CANDIDATES = 32


def micros(call: Callable[[], object], repeat: int) -> float:
    """Median of five measurements of ``repeat`` calls each, in microseconds per call."""
    call()
    return median(timeit(call, number=repeat) for _ in range(5)) / repeat * 1e6


def rebuilt(problem: Problem) -> Problem:
    """The same problem, checked and ordered again."""
    return Problem(
        problem.arc_request,
        problem.arc_slot,
        problem.arc_cost,
        problem.penalty,
        problem.rank,
        problem.capacity,
        problem.request_key,
        problem.slot_key,
    )


def row(requests: int, slots: int) -> list[float]:
    """Microseconds of each step at one size."""
    problem = town(requests, slots, CANDIDATES, seed=1)
    plan = solve(problem)
    random = np.random.default_rng(2)
    omitted = OmittedArcs(
        random.integers(0, requests, problem.arc_cost.size),
        random.integers(0, slots, problem.arc_cost.size),
        random.permutation(problem.arc_cost),
    )
    repeat = max(1, 1_000 // requests**2)
    steps: tuple[Callable[[], object], ...] = (
        lambda: rebuilt(problem),
        lambda: solve(problem),
        lambda: solve(rebuilt(problem)),
        lambda: solve_flow(problem),
        lambda: solve_greedy(problem),
        lambda: check(problem, plan),
        lambda: slot_prices(problem, plan),
        lambda: certify(problem, plan, omitted),
    )
    return [micros(step, repeat) for step in steps]


def main() -> None:
    """Print the tables."""
    heads = ("size", "Problem", "solve", "both", "flow", "greedy", "check", "prices", "certify")
    print("".join(f"{head:>11}" for head in heads))  # noqa: T201
    for requests, slots in SIZES:
        cells = "".join(f"{value:>11,.0f}" for value in row(requests, slots))
        print(f"{f'{requests}x{slots}':>11}{cells}")  # noqa: T201
    print("\nspread_selection")  # noqa: T201
    for size in (20, 100, 1_000, 10_000):
        costs = np.random.default_rng(3).integers(0, 40_000, size)
        print(f"{size:>11}{micros(lambda costs=costs: spread_selection(costs), 500):>11,.1f}")  # type: ignore[misc]  # noqa: T201


if __name__ == "__main__":
    main()
