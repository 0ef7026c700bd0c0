"""A batch of requests that no desk has: decided together, as long as that takes and no longer.

While a batch is decided others are let in where the work pauses; large problems are solved in a process of their own.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, tzinfo
from typing import Final, Protocol

import structlog

from sas_matcher.matching.candidates import Candidates, OpenRequest
from sas_matcher.matching.engine import Pick, decide
from sas_matcher.matching.market import Market
from sas_matcher.matching.peers import OFFICIAL, PEERS, Search, choose
from sas_matcher.ports.world import Clock
from sas_matcher.services.matcher.rules import Rules
from solver import Plan, Problem, solve

INLINE_ARCS: Final = 4_000  # about 4 ms of solving; more goes to a process of its own (the solver holds the GIL)
SOLVE_S: Final = 0.25  # for one solve; then the plan before it, or tier-greedy on all candidates, marked as such
DECIDE_S: Final = (
    0.45  # for a batch: 1 000 requests on 10 000 places are proven optimal in 0.3 s; then as far as it got
)
_log = structlog.get_logger(__name__)


class SolveTimeoutError(Exception):
    """The exact solve did not end in time."""


class SolverProcess(Protocol):
    """Solves a large problem elsewhere and within a deadline."""

    async def solve(self, problem: Problem, seconds: float) -> Plan:
        """Return the exact plan.

        Raises:
            SolveTimeoutError: no answer in time; the work was stopped.
        """
        ...

    async def search(self, problem: Problem, seconds: float) -> Plan:
        """Return a plan of a problem with packing rows that is searched for (CP-SAT), with its proven gap.

        Raises:
            SolveTimeoutError: no answer in time.
        """
        ...


class Watch(Protocol):
    """Counts what the matcher does (metrics)."""

    def batch(self, size: int, arcs: int, seconds: float, method: str, gap: int) -> None:
        """One batch was solved; ``gap`` as in ``Pick``: 0 proven optimal, else a bound, −1 when unknown."""
        ...

    def late(self, what: str) -> None:
        """A solve or a plan did not come in time; the fallback decides."""
        ...

    def decided(self, request: OpenRequest, verdict: str, seconds: float) -> None:
        """One request got its verdict, so long after it was created."""
        ...

    def state(self, places: int, waiting: int) -> None:
        """How much is in memory."""
        ...


class Decider:
    """Decides batches.

    Args:
        clock: for the time that a batch may take.
        rules: of the territories.
        zone_of: clock of a territory.
        radius_of: the national platform's circle, for the policy that imitates it.
        solver: the process for large problems; none in a replay, in which solving takes no time.
        watch: hears of every batch.
        seed: of the order in which the national platform shows equal cards.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        rules: Rules,
        zone_of: Callable[[str], tzinfo],
        radius_of: Callable[[str], float],
        solver: SolverProcess | None,
        watch: Watch | None,
        seed: int,
    ) -> None:
        self._clock, self._rules, self._zone_of, self._radius_of = clock, rules, zone_of, radius_of
        self._solver, self._watch, self._seed = solver, watch, seed

    async def picks(
        self, market: Market, batch: Sequence[OpenRequest], found: Sequence[Candidates], began: datetime
    ) -> list[Pick]:
        """Decide requests together; those of a territory that is matched by a peer, for comparison, by its rules."""
        groups: dict[tuple[str, str] | None, list[int]] = {}
        for number, request in enumerate(batch):
            policy = self._rules.policies(request.territory)[request.tier]
            groups.setdefault((policy, request.territory) if policy in PEERS else None, []).append(number)
        picks: list[Pick] = []
        for group, members in groups.items():
            asked, places = [batch[n] for n in members], [found[n] for n in members]
            if group is None:
                picks += await self._optimum(asked, places, began)
            else:
                policy, territory = group
                radius = self._radius_of(territory) if policy == OFFICIAL else 0.0
                search = Search(market, began.timestamp(), self._zone_of(territory), radius, self._seed)
                picks += choose(policy, asked, places, search)
        return picks

    async def _optimum(self, batch: Sequence[OpenRequest], found: list[Candidates], began: datetime) -> list[Pick]:
        """Run the decision of a batch, letting others in where it pauses; large problems are solved elsewhere."""

        def spent() -> float:
            return (self._clock.now() - began).total_seconds()

        work = decide(batch, found, self._rules.terms(batch[0].territory), lambda: spent() > DECIDE_S)
        arcs, plan = 0, None
        while True:
            try:
                problem = work.send(plan)
            except StopIteration as done:
                picks: list[Pick] = done.value
                break
            plan = None
            if problem is None:
                await asyncio.sleep(0)
            else:
                arcs = len(problem.arc_cost)
                plan = await self._solve(problem)
        if self._watch:
            self._watch.batch(len(batch), arcs, spent(), picks[0].method, picks[0].gap)
        return picks

    async def _solve(self, problem: Problem) -> Plan | None:
        if len(problem.arc_cost) <= INLINE_ARCS or self._solver is None:
            plan = solve(problem)
            if plan.gap and self._solver is not None:
                # limits that the flow cannot keep, and repairing it may have cost something
                with suppress(SolveTimeoutError):
                    plan = await self._solver.search(problem, SOLVE_S)
            return plan
        try:
            return await self._solver.solve(problem, SOLVE_S)
        except SolveTimeoutError:
            _log.warning("matcher.solver_late", requests=len(problem.penalty), arcs=len(problem.arc_cost))
            if self._watch:
                self._watch.late("solve")
            return None
