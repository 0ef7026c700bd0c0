"""Processes of their own for large solves: the solver holds the GIL and knows no time limit, a process can be ended.

One solves batches, for which a caller waits; the other makes the plans of the desks, for which nobody does.
"""

import asyncio
import multiprocessing
import os
import signal
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Final

from adapters.system import end_with_parent
from sas_matcher.matching.planning import FieldPlan, Planner, Task
from sas_matcher.services.matcher.deciding import SolveTimeoutError
from sas_matcher.services.matcher.desks import PlanLateError
from solver import Plan, Problem, solve

SEARCH_S: Final = 0.15  # of CP-SAT's own deterministic seconds, about those of a clock: within what a batch may wait
STUCK_S: Final = 5.0  # no batch of ours takes that long to solve, on any load
PLAN_S: Final = 60.0  # all territories share the one that plans; the busiest day of the study takes 0.3 s a plan
_planners: dict[str, Planner] = {}  # in the process that plans: one of each territory


def _search(problem: Problem) -> Plan:
    """Search in a process that nobody else waits for: to load CP-SAT takes a second and 51 MB."""
    from solver.limited import search  # noqa: PLC0415 - only where packing rows are broken

    return search(problem, SEARCH_S)


class _NotLearnedError(Exception):
    """The process that plans does not know this planner: it was replaced."""


def _plan(key: str, planner: Planner | None, task: Task) -> list[FieldPlan]:
    """Make a plan in the process that plans; a territory has one planner, the newest."""
    if planner is not None:
        territory = key.split(maxsplit=1)[0]
        for old in [known for known in _planners if known.split()[0] == territory]:
            del _planners[old]
        _planners[key] = planner
    if key not in _planners:
        raise _NotLearnedError(key)
    return _planners[key].plan(task)


def _begin(parent: int) -> None:
    """Prepare the worker: it ends with the core, and Ctrl-C is the parent's to answer."""
    end_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class ProcessSolver:
    """Port ``SolverProcess``: workers that solve, plan and search; replaced when they are late or die."""

    def __init__(self) -> None:
        self._solving = _Worker()
        self._searching: _Worker | None = None
        self._planning: ProcessPoolExecutor | None = None
        self._learned: set[str] = set()

    async def warm(self) -> None:
        """Start the worker that solves before it is needed."""
        await asyncio.get_running_loop().run_in_executor(self._solving.pool, abs, 0)

    async def solve(self, problem: Problem, seconds: float) -> Plan:
        """Solve elsewhere. A worker that is late is left to finish: starting one takes longer than any solve.

        Raises:
            SolveTimeoutError: late, still busy with a late one, or dead; a dead or stuck worker has been replaced.
        """
        return await self._solving.run(solve, problem, seconds)

    async def search(self, problem: Problem, seconds: float) -> Plan:
        """Search elsewhere, in a process of its own that starts when it is first needed.

        Raises:
            SolveTimeoutError: late (the first time it always is), still busy with a late one, or dead.
        """
        if self._searching is None:
            self._searching = _Worker()
        return await self._searching.run(_search, problem, seconds)

    async def plan(self, key: str, planner: Planner, task: Task) -> list[FieldPlan]:
        """Plan elsewhere; the planner travels once, with what it learned of earlier days.

        Raises:
            PlanLateError: late, or its process died; it has been replaced.
        """
        if self._planning is None:
            self._planning, self._learned = _fresh(), set()
        loop, pool = asyncio.get_running_loop(), self._planning
        try:
            async with asyncio.timeout(PLAN_S):
                try:
                    known = key in self._learned
                    plan = await loop.run_in_executor(pool, _plan, key, None if known else planner, task)
                except _NotLearnedError:
                    plan = await loop.run_in_executor(pool, _plan, key, planner, task)
        except (BrokenProcessPool, TimeoutError) as gone:
            if self._planning is pool:
                self._planning = None
                _end(pool)
            raise PlanLateError(key) from gone
        self._learned.add(key)
        return plan

    def close(self) -> None:
        """End the workers at once."""
        searching = None if self._searching is None else self._searching.pool
        for pool in (self._solving.pool, searching, self._planning):
            if pool is not None:
                _end(pool)


class _Worker:
    """A process that solves one problem at a time."""

    def __init__(self) -> None:
        self.pool = _fresh()
        self.late: asyncio.Future[Plan] | None = None
        self._stuck_at = 0.0

    async def run(self, work: Callable[[Problem], Plan], problem: Problem, seconds: float) -> Plan:
        """Solve a problem there.

        Raises:
            SolveTimeoutError: late, still busy with a late one, or dead; a dead or stuck process has been replaced.
        """
        loop = asyncio.get_running_loop()
        if self.late is not None and not self.late.done():
            if loop.time() > self._stuck_at:
                self._replace()
            raise SolveTimeoutError
        try:
            answer = loop.run_in_executor(self.pool, work, problem)
            # not wait_for: it would cancel what cannot be cancelled
            done, _ = await asyncio.wait({answer}, timeout=seconds)
            if not done:
                self.late, self._stuck_at = answer, loop.time() + STUCK_S
                answer.add_done_callback(lambda late: late.cancelled() or late.exception())
                raise SolveTimeoutError
            return answer.result()
        except BrokenProcessPool as dead:
            self._replace()
            raise SolveTimeoutError from dead

    def _replace(self) -> None:
        _end(self.pool)
        self.pool = _fresh()
        self.late = None


def _fresh() -> ProcessPoolExecutor:
    # it holds the pipe it waits on, so without this it would wait for ever when the core is killed
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(1, mp_context=context, initializer=_begin, initargs=(os.getpid(),))


def _end(pool: ProcessPoolExecutor) -> None:
    for process in list((pool._processes or {}).values()):
        process.kill()
    pool.shutdown(wait=False, cancel_futures=True)
