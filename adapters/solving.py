"""Processes of their own for large solves: the solver holds the GIL and knows no time limit, a process can be ended.

One solves batches, for which a caller waits; the other makes the plans of the desks, for which nobody does.
"""

import asyncio
import multiprocessing
import os
import signal
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Final

from adapters.system import end_with_parent
from sas_matcher.matching.planning import FieldPlan, Planner, Task
from sas_matcher.services.desks import PlanLateError
from sas_matcher.services.match import SolveTimeoutError
from solver import Plan, Problem, solve

STUCK_S: Final = 5.0  # no batch of ours takes that long to solve, on any load
PLAN_S: Final = 60.0  # all territories share the one that plans; the busiest day of the study takes 0.3 s a plan
_planners: dict[str, Planner] = {}  # in the process that plans: one of each territory


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
    """Port ``SolverProcess``: one worker that solves, one that plans; replaced when it is late or dies."""

    def __init__(self) -> None:
        self._pool = self._fresh()
        self._planning: ProcessPoolExecutor | None = None
        self._learned: set[str] = set()
        self._late: asyncio.Future[Plan] | None = None
        self._stuck_at = 0.0

    @staticmethod
    def _fresh() -> ProcessPoolExecutor:
        # it holds the pipe it waits on, so without this it would wait for ever when the core is killed
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(1, mp_context=context, initializer=_begin, initargs=(os.getpid(),))

    async def warm(self) -> None:
        """Start the worker before it is needed."""
        await asyncio.get_running_loop().run_in_executor(self._pool, abs, 0)

    async def solve(self, problem: Problem, seconds: float) -> Plan:
        """Solve elsewhere. A worker that is late is left to finish: starting one takes longer than any solve.

        Raises:
            SolveTimeoutError: late, still busy with a late one, or dead; a dead or stuck worker has been replaced.
        """
        loop = asyncio.get_running_loop()
        if self._late is not None and not self._late.done():
            if loop.time() > self._stuck_at:
                self._replace()
            raise SolveTimeoutError
        try:
            work = loop.run_in_executor(self._pool, solve, problem)
            # not wait_for: it would cancel what cannot be cancelled
            done, _ = await asyncio.wait({work}, timeout=seconds)
            if not done:
                self._late, self._stuck_at = work, loop.time() + STUCK_S
                work.add_done_callback(lambda late: late.cancelled() or late.exception())
                raise SolveTimeoutError
            return work.result()
        except BrokenProcessPool as dead:
            self._replace()
            raise SolveTimeoutError from dead

    async def plan(self, key: str, planner: Planner, task: Task) -> list[FieldPlan]:
        """Plan elsewhere; the planner travels once, with what it learned of earlier days.

        Raises:
            PlanLateError: late, or its process died; it has been replaced.
        """
        if self._planning is None:
            self._planning, self._learned = self._fresh(), set()
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

    def _replace(self) -> None:
        _end(self._pool)
        self._pool = self._fresh()
        self._late = None

    def close(self) -> None:
        """End the workers at once."""
        _end(self._pool)
        if self._planning is not None:
            _end(self._planning)


def _end(pool: ProcessPoolExecutor) -> None:
    for process in list((pool._processes or {}).values()):
        process.kill()
    pool.shutdown(wait=False, cancel_futures=True)
