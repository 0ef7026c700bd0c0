"""The solver's own process: a late one is left to finish, a dead one is replaced."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace

import numpy as np
import pytest

from adapters.solving import ProcessSolver
from sas_matcher.services.matcher.deciding import SolveTimeoutError
from solver import Limits, Problem, solve


def problem(requests: int) -> Problem:
    """As many requests as slots, every pair an arc."""
    rows = np.arange(requests, dtype=np.int32)
    cost = (np.arange(requests * requests, dtype=np.int64) * 7919) % 5000
    return Problem(
        arc_request=np.repeat(rows, requests),
        arc_slot=np.tile(rows, requests),
        arc_cost=cost,
        penalty=np.full(requests, 10_000, np.int64),
        rank=np.zeros(requests, np.int64),
        capacity=np.ones(requests, np.int64),
        request_key=rows.astype(np.uint64),
        slot_key=rows.astype(np.uint64),
    )


def limited_problem() -> Problem:
    """Three requests, three slots, and a row that makes the repair of the flow dear."""
    none = np.empty(0, np.int64)
    limits = Limits(
        slot_group=np.full(3, -1, np.int32),
        group_parent=np.empty(0, np.int32),
        group_capacity=none,
        group_step=none,
        group_load=none,
        row_arc=np.array([0, 2, 4, 7], np.int32),
        row_of=np.zeros(4, np.int32),
        row_capacity=np.array([1], np.int64),
    )
    return replace(problem(3), arc_cost=np.array([14, 15, 22, 28, 2, 5, 24, 28, 8], np.int64), limits=limits)


@pytest.fixture
async def elsewhere() -> AsyncIterator[ProcessSolver]:
    """A warm solver."""
    solver = ProcessSolver()
    await solver.warm()
    yield solver
    solver.close()


def worker(solver: ProcessSolver) -> int:
    """Return the process id of the worker."""
    return next(iter(solver._solving.pool._processes))


async def test_a_late_worker_is_left_to_finish(elsewhere: ProcessSolver) -> None:
    before = worker(elsewhere)
    with pytest.raises(SolveTimeoutError):
        await elsewhere.solve(problem(300), 0.0)
    # while it is busy the next batch does not wait for it
    with pytest.raises(SolveTimeoutError):
        await elsewhere.solve(problem(3), 10.0)
    assert elsewhere._solving.late is not None
    await asyncio.wait({elsewhere._solving.late}, timeout=30)
    plan = await elsewhere.solve(problem(40), 20.0)
    assert plan.objective == solve(problem(40)).objective
    assert worker(elsewhere) == before


async def test_a_dead_worker_is_replaced(elsewhere: ProcessSolver) -> None:
    before = worker(elsewhere)
    os.kill(before, signal.SIGKILL)
    with pytest.raises(SolveTimeoutError):
        await elsewhere.solve(problem(3), 20.0)
    assert (await elsewhere.solve(problem(3), 20.0)).objective == solve(problem(3)).objective
    assert worker(elsewhere) != before


async def test_a_stuck_worker_is_replaced(elsewhere: ProcessSolver) -> None:
    before = worker(elsewhere)
    os.kill(before, signal.SIGSTOP)
    with pytest.raises(SolveTimeoutError):
        await elsewhere.solve(problem(3), 0.05)
    elsewhere._solving._stuck_at = 0.0  # five seconds later
    with pytest.raises(SolveTimeoutError):
        await elsewhere.solve(problem(3), 0.05)
    assert (await elsewhere.solve(problem(3), 20.0)).objective == solve(problem(3)).objective
    assert worker(elsewhere) != before


async def test_a_broken_row_is_searched_in_a_process_of_its_own(elsewhere: ProcessSolver) -> None:
    """The first search loads CP-SAT and is late; it finds what the repair misses, and large solves go on meanwhile."""
    posed = limited_problem()
    assert solve(posed).method == "repair" and solve(posed).gap > 0
    before = worker(elsewhere)
    with pytest.raises(SolveTimeoutError):
        await elsewhere.search(posed, 0.0)
    assert (await elsewhere.solve(problem(40), 20.0)).objective == solve(problem(40)).objective
    assert elsewhere._searching is not None and elsewhere._searching.late is not None
    await asyncio.wait({elsewhere._searching.late}, timeout=60)
    plan = await elsewhere.search(posed, 20.0)
    assert (plan.method, plan.gap) == ("cp-sat", 0)
    assert plan.objective < solve(posed).objective
    assert worker(elsewhere) == before


def test_the_core_does_not_load_cp_sat() -> None:
    """It takes a second and 51 MB; the module that has it is imported by the worker that searches."""
    code = "import sys, sas_matcher.bootstrap.core; sys.exit('ortools.sat.python.cp_model' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_core_imports_no_schemas_before_it_decides() -> None:
    """pydantic and its models take 0.4 s: what reads them is imported when the places are loaded."""
    code = "import sys, sas_matcher.bootstrap.core; sys.exit(not {'pydantic', 'fastapi'}.isdisjoint(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
