"""A process of its own for large solves: the solver holds the GIL and knows no time limit, a process can be ended."""

import asyncio
import multiprocessing
import os
import signal
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from adapters.system import end_with_parent
from sas_matcher.services.match import SolveTimeoutError
from solver import Plan, Problem, solve


def _begin(parent: int) -> None:
    """Prepare the worker: it ends with the core, and Ctrl-C is the parent's to answer."""
    end_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class ProcessSolver:
    """Port ``SolverProcess``: one worker, replaced when it is late or dies."""

    def __init__(self) -> None:
        self._pool = self._fresh()

    @staticmethod
    def _fresh() -> ProcessPoolExecutor:
        # it holds the pipe it waits on, so without this it would wait for ever when the core is killed
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(1, mp_context=context, initializer=_begin, initargs=(os.getpid(),))

    async def warm(self) -> None:
        """Start the worker before it is needed."""
        await asyncio.get_running_loop().run_in_executor(self._pool, abs, 0)

    async def solve(self, problem: Problem, seconds: float) -> Plan:
        """Solve elsewhere.

        Raises:
            SolveTimeoutError: late, or the worker died; it has been replaced.
        """
        work = asyncio.get_running_loop().run_in_executor(self._pool, solve, problem)
        try:
            return await asyncio.wait_for(work, seconds)
        except (TimeoutError, BrokenProcessPool) as late:
            self.close()
            self._pool = self._fresh()
            raise SolveTimeoutError from late

    def close(self) -> None:
        """End the worker at once."""
        for process in list((self._pool._processes or {}).values()):
            process.kill()
        self._pool.shutdown(wait=False, cancel_futures=True)
