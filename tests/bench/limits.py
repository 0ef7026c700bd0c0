"""Times of the solver under limits, build included: ``python -m tests.bench.limits``.

Towns of ``tests.solver_cases`` with 16 candidates each (as the study's side constraints had). Five slots to a
professional, ten professionals to a centre; a quota of 3 a day each and 20 a centre, and a cost of load of 30 tenths of
a minute; then at most one child for each professional, a quarter of the requests being children, and slots of which
two of each professional overlap. Median of five; CP-SAT once.
"""

from statistics import median
from time import perf_counter

import numpy as np

from solver import Limits, Problem, check_limits, solve_flow
from solver.limited import solve_limited
from tests.bench.solver import rebuilt
from tests.solver_cases import no_limits, town

SIZES = ((100, 2_000), (300, 2_000), (1_000, 10_000))
CANDIDATES = 16


def tree(problem: Problem, step: int) -> Limits:
    """Professionals of five slots in centres of ten."""
    slots = problem.capacity.size
    people, centres = slots // 5, slots // 50
    return no_limits(
        problem,
        slot_group=(np.arange(slots) // 5).tolist(),
        group_parent=[*(people + np.arange(people) // 10).tolist(), *[-1] * centres],
        group_capacity=[3] * people + [20] * centres,
        group_step=[step] * people + [0] * centres,
        group_load=[0] * (people + centres),
    )


def with_rows(problem: Problem, limits: Limits) -> Limits:
    """The same with one child for each professional, and the first two slots of each as alternatives."""
    people = problem.capacity.size // 5
    arcs, slot = np.arange(problem.arc_cost.size), problem.arc_slot
    child = arcs[problem.arc_request % 4 == 0]
    overlap = arcs[slot % 5 < 2]
    return Limits(
        limits.slot_group,
        limits.group_parent,
        limits.group_capacity,
        limits.group_step,
        limits.group_load,
        np.concatenate((child, overlap)).astype(np.int32),
        np.concatenate((slot[child] // 5, people + slot[overlap] // 5)).astype(np.int32),
        np.ones(2 * people, np.int64),
    )


def ms(problem: Problem, limits: Limits | None) -> float:
    """Median of five builds and solves, in ms."""
    times = []
    for _ in range(5):
        began = perf_counter()
        solve_flow(rebuilt(problem), limits)
        times.append(1e3 * (perf_counter() - began))
    return median(times)


def main() -> None:
    """Print the figures."""
    for requests, slots in SIZES:
        problem = town(requests, slots, CANDIDATES, seed=1)
        fair, unfair = tree(problem, 30), tree(problem, 0)
        plain, quotas, spread = ms(problem, None), ms(problem, unfair), ms(problem, fair)
        loads = [
            limits.loads(np.bincount(plan.slot[plan.slot >= 0], minlength=slots))[: slots // 5]
            for limits in (unfair, fair)
            if (plan := solve_flow(problem, limits))
        ]
        squares = [int((load**2).sum()) for load in loads]
        print(  # noqa: T201
            f"{requests}x{slots}: flow {plain:.1f} ms, quotas and centres {quotas:.1f} ({quotas / plain:.1f}x), "
            f"fair load {spread:.1f} ({spread / plain:.1f}x), sum of squared loads {squares[0]} -> {squares[1]}"
        )
        limits = with_rows(problem, unfair)
        for budget in (0.0, 5.0):
            began = perf_counter()
            found = solve_limited(problem, limits, deterministic_s=budget)
            took = 1e3 * (perf_counter() - began)
            check_limits(problem, limits, found.plan)
            served = int((found.plan.slot >= 0).sum())
            print(  # noqa: T201
                f"  rows, budget {budget:.0f}: {took:.0f} ms, {found.method}, served {served}, searched "
                f"{found.searched}, gap {found.gap} of {found.objective}",
                flush=True,
            )


if __name__ == "__main__":
    main()
