"""The solver's own process: a late one is left to finish, a dead one is replaced."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator

import numpy as np
import pytest

from adapters.solving import ProcessSolver
from sas_matcher.services.match import SolveTimeoutError
from solver import Problem, solve


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


@pytest.fixture
async def elsewhere() -> AsyncIterator[ProcessSolver]:
    """A warm solver."""
    solver = ProcessSolver()
    await solver.warm()
    yield solver
    solver.close()


def worker(solver: ProcessSolver) -> int:
    """Return the process id of the worker."""
    return next(iter(solver._pool._processes))


async def test_a_late_worker_is_left_to_finish(elsewhere: ProcessSolver) -> None:
    before = worker(elsewhere)
    with pytest.raises(SolveTimeoutError):
        await elsewhere.solve(problem(300), 0.0)
    # while it is busy the next batch does not wait for it
    with pytest.raises(SolveTimeoutError):
        await elsewhere.solve(problem(3), 10.0)
    assert elsewhere._late is not None
    await asyncio.wait({elsewhere._late}, timeout=30)
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
    elsewhere._stuck_at = 0.0  # five seconds later
    with pytest.raises(SolveTimeoutError):
        await elsewhere.solve(problem(3), 0.05)
    assert (await elsewhere.solve(problem(3), 20.0)).objective == solve(problem(3)).objective
    assert worker(elsewhere) != before
