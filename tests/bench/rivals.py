"""Our solver beside others on the same instances: ``python -m tests.bench.rivals``.

Towns of ``tests.solver_cases`` with 32 candidates a request; build of each solver's own model included, median of the
runs, least and most; the gap is to the optimum (all but VROOM must reach it: the assignment is checked by our
verifier). scipy and pyvroom are no dependencies of ours: where they are not installed, that is said.
"""

import argparse
import importlib
import importlib.metadata
import sys
from collections.abc import Callable
from statistics import median
from time import perf_counter
from typing import Any, Final

import numpy as np
from ortools.sat.python import cp_model

from solver import Problem, solve
from tests.bench.solver import rebuilt
from tests.solver_cases import town

SIZES: Final = ((100, 2_000), (300, 2_000), (1_000, 10_000))
CANDIDATES: Final = 32
VROOM_MOST: Final = 100
"""Requests up to which VROOM is asked: it is made for routes, and wants a matrix of all places with all requests."""
CPSAT_S: Final = 30.0

Assigned = np.ndarray[Any, np.dtype[np.intp]]
"""Arc of each request, −1 for none."""


def installed(name: str) -> Any:
    """Import a package that may not be there; says so loudly when it is not."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        sys.stderr.write(f"\n!!! NOT COMPARED WITH {name}: it is not installed\n")
        return None


def useful(problem: Problem) -> np.ndarray[Any, np.dtype[np.intp]]:
    """Arcs that are worth more than leaving the request."""
    return np.flatnonzero(problem.arc_cost < problem.penalty[problem.arc_request])


def objective(problem: Problem, arcs: Assigned) -> int:
    """Return the cost of an assignment; raises when a slot has more than its seats."""
    used = arcs[arcs >= 0]
    taken = np.bincount(problem.arc_slot[used], minlength=len(problem.capacity))
    if (taken > problem.capacity).any() or (problem.arc_request[used] != np.flatnonzero(arcs >= 0)).any():
        raise ValueError("not an assignment")
    return int(problem.arc_cost[used].sum() + problem.penalty[arcs < 0].sum())


def ours(problem: Problem) -> Assigned:
    return np.asarray(solve(rebuilt(problem)).arc, np.intp)


def dense(problem: Problem) -> Assigned:
    """scipy.optimize.linear_sum_assignment: a column a seat, and one a request for being left."""
    from scipy.optimize import linear_sum_assignment

    arcs, count = useful(problem), len(problem.penalty)
    slots = np.unique(problem.arc_slot[arcs])
    seats = np.minimum(problem.capacity[slots], count)
    first = np.concatenate(([0], np.cumsum(seats)))
    matrix = np.full((count, int(first[-1]) + count), 1e12)
    which = np.full((count, int(first[-1])), -1, np.intp)
    at = np.searchsorted(slots, problem.arc_slot[arcs])
    for arc, slot in zip(arcs.tolist(), at.tolist(), strict=True):
        span = slice(int(first[slot]), int(first[slot + 1]))
        matrix[problem.arc_request[arc], span] = problem.arc_cost[arc]
        which[problem.arc_request[arc], span] = arc
    matrix[:, int(first[-1]) :] = problem.penalty[:, None]
    rows, columns = linear_sum_assignment(matrix)
    found = np.full(count, -1, np.intp)
    inside = columns < first[-1]
    found[rows[inside]] = which[rows[inside], columns[inside]]
    return found


def milp(problem: Problem) -> Assigned:
    """scipy.optimize.milp (HiGHS)."""
    from scipy.optimize import Bounds, LinearConstraint
    from scipy.optimize import milp as solve_milp
    from scipy.sparse import csr_array

    arcs, count = useful(problem), len(problem.penalty)
    ones, columns = np.ones(arcs.size), np.arange(arcs.size)
    requests = csr_array((ones, (problem.arc_request[arcs], columns)), shape=(count, arcs.size))
    slots = csr_array((ones, (problem.arc_slot[arcs], columns)), shape=(len(problem.capacity), arcs.size))
    gain = problem.arc_cost[arcs] - problem.penalty[problem.arc_request[arcs]]
    limits = [LinearConstraint(requests, -np.inf, 1), LinearConstraint(slots, -np.inf, problem.capacity)]
    done = solve_milp(gain, constraints=limits, integrality=np.ones(arcs.size), bounds=Bounds(0, 1))
    found = np.full(count, -1, np.intp)
    chosen = arcs[done.x > 0.5]
    found[problem.arc_request[chosen]] = chosen
    return found


def cpsat(problem: Problem) -> Assigned:
    """CP-SAT of OR-Tools, one worker."""
    arcs, count = useful(problem).tolist(), len(problem.penalty)
    model = cp_model.CpModel()
    takes = {arc: model.new_bool_var("") for arc in arcs}
    of_request: dict[int, list[Any]] = {}
    of_slot: dict[int, list[Any]] = {}
    for arc in arcs:
        of_request.setdefault(int(problem.arc_request[arc]), []).append(takes[arc])
        of_slot.setdefault(int(problem.arc_slot[arc]), []).append(takes[arc])
    for literals in of_request.values():
        model.add_at_most_one(literals)
    for slot, literals in of_slot.items():
        model.add(sum(literals) <= int(problem.capacity[slot]))
    gains = [int(problem.arc_cost[arc] - problem.penalty[problem.arc_request[arc]]) for arc in arcs]
    model.minimize(cp_model.LinearExpr.weighted_sum([takes[arc] for arc in arcs], gains))
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.max_time_in_seconds = CPSAT_S
    solver.solve(model)
    found = np.full(count, -1, np.intp)
    for arc in arcs:
        if solver.boolean_value(takes[arc]):
            found[problem.arc_request[arc]] = arc
    return found


def vroom(problem: Problem) -> Assigned:
    """VROOM through pyvroom: a vehicle a seat, one task at most; skills say who may go where."""
    import vroom as engine

    arcs, count = useful(problem), len(problem.penalty)
    slots = np.unique(problem.arc_slot[arcs])
    row = {int(slot): count + number for number, slot in enumerate(slots.tolist())}
    least = min(0, int(problem.arc_cost[arcs].min()))
    matrix = np.zeros((count + slots.size, count + slots.size), np.uint32)
    skills: dict[int, set[int]] = {}
    arc_of = {}
    for arc in arcs.tolist():
        request, slot = int(problem.arc_request[arc]), int(problem.arc_slot[arc])
        matrix[row[slot], request] = int(problem.arc_cost[arc]) - least
        skills.setdefault(slot, set()).add(request + 1)
        arc_of[request, slot] = arc
    task = engine.Input()
    task.set_durations_matrix(profile="car", matrix_input=matrix)
    vehicles: list[int] = []
    for slot in slots.tolist():
        for _ in range(min(int(problem.capacity[slot]), len(skills[slot]))):
            task.add_vehicle(engine.Vehicle(len(vehicles), start=row[slot], skills=skills[slot], max_tasks=1))
            vehicles.append(slot)
    for request in sorted({int(r) for r in problem.arc_request[arcs]}):
        task.add_job(engine.Job(request + 1, location=request, skills={request + 1}))
    routes = task.solve(exploration_level=0, nb_threads=1).routes
    found = np.full(count, -1, np.intp)
    for vehicle, kind, job in zip(routes["vehicle_id"], routes["type"], routes["id"], strict=True):
        if kind == "job":
            request = int(job) - 1
            found[request] = arc_of[request, vehicles[int(vehicle)]]
    return found


def solvers() -> dict[str, tuple[Callable[[Problem], Assigned], int]]:
    """Return the solvers that are here, by name and version, with the most requests each is asked for."""
    found: dict[str, tuple[Callable[[Problem], Assigned], int]] = {"ours (min-cost flow)": (ours, 10**9)}
    if (scipy := installed("scipy")) is not None:
        found[f"scipy {scipy.__version__} linear_sum_assignment"] = (dense, 10**9)
        found[f"scipy {scipy.__version__} milp (HiGHS)"] = (milp, 10**9)
    if installed("vroom") is not None:
        found[f"VROOM (pyvroom {importlib.metadata.version('pyvroom')})"] = (vroom, VROOM_MOST)
    found[f"CP-SAT (OR-Tools {importlib.metadata.version('ortools')}), 1 worker"] = (cpsat, 10**9)
    return found


def table(runs: int) -> list[str]:
    """Return the Markdown table."""
    lines = ["| requests × slots | solver | time | of ours | gap |", "|---|---|---|---|---|"]
    known = solvers()
    for requests, slots in SIZES:
        problem = town(requests, slots, CANDIDATES, seed=1)
        best, reference = objective(problem, ours(problem)), 0.0
        for name, (call, most) in known.items():
            if requests > most:
                lines.append(f"| {requests} × {slots} | {name} | not asked | | |")
                continue
            times, worth = [], 0
            for _ in range(runs):
                began = perf_counter()
                arcs = call(problem)
                times.append(1e3 * (perf_counter() - began))
                worth = objective(problem, arcs)
            if worth < best:
                raise ValueError(f"{name} is better than our optimum: {worth} < {best}")
            reference = reference or median(times)
            spread = f"{median(times):.1f} ms ({min(times):.1f} to {max(times):.1f})"
            ratio, gap = f"{median(times) / reference:.1f}", f"{100 * (worth - best) / best:.2f} %"
            lines.append(f"| {requests} × {slots} | {name} | {spread} | {ratio} | {gap} |")
    return lines


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=5)
    print("\n".join(table(parser.parse_args().runs)))  # noqa: T201
