"""A process of its own for large solves: the solver holds the GIL and knows no time limit, a process can be ended."""

import asyncio
import multiprocessing
import os
import signal
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Final

from adapters.system import end_with_parent
from sas_matcher.services.match import SolveTimeoutError
from solver import Plan, Problem, solve

STUCK_S: Final = 5.0  # no batch of ours takes that long to solve, on any load


def _begin(parent: int) -> None:
    """Prepare the worker: it ends with the core, and Ctrl-C is the parent's to answer."""
    end_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class ProcessSolver:
    """Port ``SolverProcess``: one worker, replaced when it is late or dies."""

    def __init__(self) -> None:
        self._pool = self._fresh()
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

    def _replace(self) -> None:
        self.close()
        self._pool = self._fresh()
        self._late = None

    def close(self) -> None:
        """End the worker at once."""
        for process in list((self._pool._processes or {}).values()):
            process.kill()
        self._pool.shutdown(wait=False, cancel_futures=True)
