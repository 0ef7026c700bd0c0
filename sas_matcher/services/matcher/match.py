"""The matcher: one process for many territories, deciding whatever is open as soon as something is open.

While a batch is being solved and claimed the next requests queue up and form the next batch: one when quiet, hundreds
in a surge, no timer. A claim is one transaction for the batch; unique rows decide; who lost a seat goes round again.
Memory is only a hint kept by the streams: it is rebuilt from the ledger at start and after a wipe of Redis, while
deciding goes on with what is known.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import tzinfo
from typing import Final, Protocol

import structlog

from sas_matcher.domain.errors import FencedError, UnavailableError
from sas_matcher.faults import again_and_again, attempt, tell_fault
from sas_matcher.matching.candidates import OpenRequest
from sas_matcher.matching.market import Market
from sas_matcher.matching.terms import Terms
from sas_matcher.ports.bus import Bus
from sas_matcher.ports.ledger import Announcement, Ledger, Publisher
from sas_matcher.ports.world import Clock, Ids
from sas_matcher.services.matcher.claiming import Scribe
from sas_matcher.services.matcher.deciding import Decider, SolverProcess, Watch
from sas_matcher.services.matcher.desks import PlannerProcess, Recorded
from sas_matcher.services.matcher.following import Follower
from sas_matcher.services.matcher.holding import AGAIN_S, History, Holding, until_there
from sas_matcher.services.matcher.known import Known
from sas_matcher.services.matcher.rounds import Rounds
from sas_matcher.services.matcher.rules import Rules

RENEW_S: Final = 3.0  # three tries within a lease (`holding.LEASE_S`)
HOUR_S: Final = 3600.0  # the longest sleep when no plan is due
_log = structlog.get_logger(__name__)


class Elsewhere(SolverProcess, PlannerProcess, Protocol):
    """Solves large problems, and makes plans, in processes of their own."""


class Matcher:
    """Decides for the territories whose leases it holds; sees the places of all.

    Attributes:
        known: its memory.
        ready: set while it decides.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        bus: Bus,
        clock: Clock,
        ids: Ids,
        holder: str,
        territories: Sequence[str],
        zone_of: Callable[[str], tzinfo],
        landmass_of: Callable[[str], int],
        solver: Elsewhere | None = None,
        watch: Watch | None = None,
        terms: Terms | None = None,
        policy: str = "firm",
        history: History | None = None,
        seed: int = 0,
        journal: Publisher | None = None,
        radius_of: Callable[[str], float] = lambda _: 0.0,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        """Take the collaborators; ``share`` says which of how many matchers this is (see ``Shares``)."""
        self._clock, self._watch = clock, watch
        self.ready = asyncio.Event()
        rules = Rules(terms, policy)
        self.known = Known(clock, rules, landmass_of, solver, watch.late if watch else lambda _: None)
        self._holding = Holding(
            self.known, ledger, clock, holder, territories, zone_of, share=share, history=history, seed=seed
        )
        self._follower = Follower(self.known, self._holding, ledger, bus, clock)
        decider = Decider(
            clock=clock, rules=rules, zone_of=zone_of, radius_of=radius_of, solver=solver, watch=watch, seed=seed
        )
        scribe, heard = Scribe(rules, zone_of, ids), lambda: self._follower.heard
        self._rounds = Rounds(self.known, ledger, clock, decider, scribe, watch=watch, journal=journal, heard=heard)

    @property
    def market(self) -> Market:
        """The live places."""
        return self.known.market

    async def run(self) -> None:
        """Load, then read, decide and renew until cancelled; gives the leases back at a clean stop."""
        try:
            await until_there(self._learn)
            async with asyncio.TaskGroup() as group:
                group.create_task(again_and_again("matcher.renew", self._holding.renew, RENEW_S))
                await until_there(self._holding.refresh)
                group.create_task(self._follower.follow_forever())
                group.create_task(self._decide_forever())
                group.create_task(self._keep_forever())
                group.create_task(self._holding.refresh_forever())
                group.create_task(self._holding.foresee_forever())
                self.ready.set()
                _log.info("matcher.ready", places=len(self.market), territories=len(self.known.fences))
        finally:
            self.ready.clear()
            try:
                async with asyncio.timeout(2):
                    await self._holding.drop()
            except (UnavailableError, TimeoutError):
                _log.warning("matcher.leases_left_to_expire")

    async def load(self) -> None:
        """Take the leases and learn from the ledger what is open and what is live.

        Raises:
            UnavailableError: the ledger or the bus is away.
        """
        await self._learn()
        await self._holding.refresh()

    async def _learn(self) -> None:
        await self._holding.drop()
        await self._follower.load()
        await self._holding.learn_rules()
        await self._holding.renew()

    async def refresh(self) -> None:
        """Take up what the territories have set; ``run`` does so as soon as it is announced, and every few seconds.

        Raises:
            UnavailableError: the ledger is away.
        """
        await self._holding.refresh()

    def hear(self, said: Iterable[Announcement]) -> None:
        """Take in what was announced, where no stream lies between it and us (a replay)."""
        self.known.hear(said)

    async def step(self) -> int:
        """Decide all that is open now, without waiting for more; returns how many requests were looked at.

        What ``run`` does between two pieces of news, for whoever keeps time himself (a replay).

        Raises:
            UnavailableError: the ledger is away.
            FencedError: another matcher decides now.
        """
        self.known.tidy()
        decided = 0
        while (batch := self.known.next_batch()) or self.known.has_work():
            decided += len(batch)
            await self.decide_batch(batch)
        return decided

    def due(self) -> float:
        """When the matcher wants to decide next though nothing happens: epoch seconds, infinite for never."""
        return self.known.due()

    def batch_of(self, request_ids: Iterable[str], promised: Mapping[str, int]) -> list[OpenRequest]:
        """Take these of the open requests to be decided together, as ``OpenRequests.take`` (a recorded batch)."""
        return self.known.open.take(request_ids, promised)

    async def open_desks_anew(self) -> None:
        """Replace the desks that there are; whom they had goes round again (a recorded day)."""
        await self._holding.open_desks(anew=self.known.desks)

    async def foresee(self) -> None:
        """Let a desk learn what is expected where too few days were recorded; ``run`` does so every few seconds.

        Raises:
            UnavailableError: the ledger is away.
        """
        await self._holding.foresee()

    def is_open(self, request_id: str) -> bool:
        """Whether a request may still be decided."""
        return any(request.id == request_id for request in self.known.open)

    async def decide_batch(self, batch: Sequence[OpenRequest], recorded: Recorded | None = None) -> None:
        """Decide a batch and commit it, whatever else is open; errors as ``Rounds.decide``."""
        await self._rounds.decide(batch, recorded)

    async def _keep_forever(self) -> None:
        while True:
            await asyncio.sleep(RENEW_S)
            await attempt("matcher.keep", self._keep)

    async def _keep(self) -> None:
        self.known.tidy()
        await self.refresh()
        await self._holding.catch_up()
        if self.known.has_work() or self.known.due() <= self.known.now():
            self.known.work.set()  # the clock was put forward while it waited for a plan to be due
        if self._watch:
            self._watch.state(len(self.known.market), len(self.known.open))

    async def _decide_forever(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, min(HOUR_S, self.due() - self.known.now()))):
                    await self.known.work.wait()
            self.known.work.clear()
            while (batch := self.known.next_batch()) or self.known.has_work():
                try:
                    await self.decide_batch(batch)
                except UnavailableError as away:
                    _log.warning("matcher.ledger_away", detail=away.detail, batch=len(batch))
                    await asyncio.sleep(AGAIN_S)
                except FencedError:
                    # another matcher decides now; what we may still decide shows at the next renewal
                    _log.warning("matcher.fenced", batch=len(batch))
                    await self._holding.lose()
                except Exception as unforeseen:
                    # those of the batch are decided one by one now (``OpenRequests.put_off``)
                    tell_fault("matcher.decide", unforeseen, batch=len(batch))
                    await asyncio.sleep(AGAIN_S)
