"""Admission of requests for a place when more come than can be decided: by clinical tier and age, never by chance.

A worker works on so many at once; the others wait in front of it, the most urgent first, of equals the oldest.
The room is bounded: when it is full the least urgent and youngest leaves with 503 and ``Retry-After``, whoever that is.
Who comes back with the same Idempotency-Key is as old as the first try. Nothing was written for whoever is refused.
Confirmations, cancellations and everything else that ends work is never held up here.
"""

import asyncio
import heapq
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from math import ceil
from typing import Final

from sas_matcher import metrics
from sas_matcher.domain.errors import OverloadedError
from sas_matcher.domain.vocabulary import Tier

AT_ONCE: Final = 64
"""Requests in the works of one worker at the most, as in the closed loop of ``./sas bench`` (110 ms each)."""

FEWEST: Final = 16
"""Never fewer at once: the matcher decides together whatever is there, so that few in the works take about as long as
many (reasoned; 4 and 16 were not compared by themselves)."""

TARGET_S: Final = 0.2
"""Fewer are let in at once while they take longer than this: on a slower machine, or beside a busy one, the same number
in the works is a longer wait for everybody, and urgent requests shall have their answer within a second (p99)."""

CUT: Final = 0.8
"""What is left of the number when they take too long, once for each time that one takes; it grows by one in that time
(additive increase, multiplicative decrease: Chiu and Jain 1989)."""

URGENT_EXTRA: Final = 32
"""So many more for T0 and T1: they do not wait behind those that take long (a matcher that is started again)."""

ROOM: Final = 128
"""Requests that wait: a third of a second at 400 decisions a second."""

PATIENCE_S: Final = 2.0
"""Who waits longer is told: a regulator has somebody on the line, and 2 s is what a call waits for its decision."""

LONGEST_RETRY_S: Final = 30
REMEMBERED: Final = 10_000  # first tries of those who were refused: 20 s at 500 refusals a second
_RATE_SHARE: Final = 0.1  # weight of the newest gap between two departures
_URGENT: Final = frozenset({Tier.T0, Tier.T1})
_RANK: Final = {tier: rank for rank, tier in enumerate(Tier)}


@dataclass(order=True, slots=True)
class _Waiter:
    """Who waits; the smallest goes first."""

    rank: int
    since: float
    number: int
    # None: its turn; or why it is refused
    gate: asyncio.Future[OverloadedError | None] = field(compare=False)


class Admission:
    """The waiting room of one worker."""

    def __init__(self, at_once: int = AT_ONCE, room: int = ROOM, urgent_extra: int = URGENT_EXTRA) -> None:
        self._at_once, self._room, self._extra = at_once, room, urgent_extra
        self._working = 0
        self._waiting: list[_Waiter] = []
        self._first_try: OrderedDict[tuple[str, str], float] = OrderedDict()
        self._numbers = 0
        self._gap_s = 1.0 / 400
        self._left_at: float | None = None
        self._limit, self._cut_at = float(at_once), 0.0

    @property
    def working(self) -> int:
        """How many are in the works."""
        return self._working

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    @asynccontextmanager
    async def admit(self, tier: str, once: tuple[str, str]) -> AsyncIterator[None]:
        """Let a request in for the length of a block, when its turn comes.

        Args:
            tier: how urgent it is.
            once: key and Idempotency-Key, which tell a repeated call.

        Raises:
            OverloadedError: too many that go first; ``retry_after`` in seconds.
        """
        now = asyncio.get_running_loop().time()
        since = self._first_try.get(once, now)
        if not self._may_enter(tier):
            await self._wait(Tier(tier), since, once)
        else:
            self._working += 1
        self._first_try.pop(once, None)
        metrics.ADMITTED.labels(tier, "admitted").inc()
        began = asyncio.get_running_loop().time()
        try:
            yield
        finally:
            self._learn(began, asyncio.get_running_loop().time())
            self._leave()

    def _learn(self, began: float, now: float) -> None:
        """Let fewer in at once when they take too long, more when all that may are in and they do not."""
        if now - began > TARGET_S:
            if began >= self._cut_at:  # whoever came before the last cut says nothing about it
                self._limit = max(float(min(FEWEST, self._at_once)), self._limit * CUT)
                self._cut_at = now
        elif self._working >= self._limit - 1:
            self._limit = min(float(self._at_once), self._limit + 1 / self._limit)

    def _may_enter(self, tier: str) -> bool:
        if tier in _URGENT:
            # nobody less urgent is ahead of them; others as urgent are, where any wait
            ahead = bool(self._waiting) and self._waiting[0].rank <= _RANK[Tier(tier)]
            return self._working < self._most(urgent=True) and not ahead
        return self._working < self._most(urgent=False) and not self._waiting

    def _most(self, *, urgent: bool) -> int:
        limit = int(self._limit)
        # as large a share of what is let in now as of what may be let in at the most
        return limit + -(-self._extra * limit // self._at_once) if urgent else limit

    async def _wait(self, tier: Tier, since: float, once: tuple[str, str]) -> None:
        self._numbers += 1
        gate: asyncio.Future[OverloadedError | None] = asyncio.get_running_loop().create_future()
        mine = _Waiter(_RANK[tier], since, self._numbers, gate)
        heapq.heappush(self._waiting, mine)
        if len(self._waiting) > self._room:
            last = max(self._waiting)
            self._remove(last)
            if not last.gate.done():  # else it has hung up, or has waited long enough
                last.gate.set_result(self._refusal(last))
        try:
            async with asyncio.timeout(PATIENCE_S):
                refusal = await gate
        except TimeoutError:
            # a turn that came in the same instant counts
            refusal = gate.result() if gate.done() and not gate.cancelled() else self._refusal(mine)
            self._remove(mine)
        except asyncio.CancelledError:
            # the caller hung up: a turn that was given meanwhile goes to the next
            self._remove(mine)
            if gate.done() and not gate.cancelled() and gate.result() is None:
                self._leave()
            raise
        if refusal is not None:
            self._refused(tier, once, since)
            raise refusal

    def _refused(self, tier: Tier, once: tuple[str, str], since: float) -> None:
        metrics.ADMITTED.labels(tier, "refused").inc()
        self._first_try[once] = since
        self._first_try.move_to_end(once)
        if len(self._first_try) > REMEMBERED:
            self._first_try.popitem(last=False)

    def _remove(self, waiter: _Waiter) -> None:
        if waiter in self._waiting:
            self._waiting.remove(waiter)
            heapq.heapify(self._waiting)

    def _refusal(self, waiter: _Waiter) -> OverloadedError:
        ahead = sum(other < waiter for other in self._waiting) + self._working
        seconds = min(LONGEST_RETRY_S, max(1 + waiter.rank, ceil(ahead * self._gap_s)))
        return OverloadedError(
            f"Le service est saturé : les demandes plus urgentes ou plus anciennes passent d'abord. "
            f"Rien n'a été enregistré ; renvoyez la même demande (même Idempotency-Key) dans {seconds} s.",
            retry_after=seconds,
        )

    def _leave(self) -> None:
        self._working -= 1
        now = asyncio.get_running_loop().time()
        if self._left_at is not None:
            self._gap_s += _RATE_SHARE * (min(1.0, now - self._left_at) - self._gap_s)
        # a pause in which nobody waits says how many call, not how fast they are served
        self._left_at = now if self._waiting else None
        while self._waiting and self._fits(self._waiting[0]):
            first = heapq.heappop(self._waiting)
            if not first.gate.done():
                self._working += 1
                first.gate.set_result(None)

    def _fits(self, waiter: _Waiter) -> bool:
        return self._working < self._most(urgent=waiter.rank <= _RANK[Tier.T1])


class Bulk:
    """Large bodies of one worker: so many at once are read and written, so many more wait, the others come back later.

    Each may hold 8 MiB: without a bound a burst of publications would take the memory of those who are on the phone.
    """

    AT_ONCE: Final = 4
    ROOM: Final = 32
    RETRY_S: Final = 2

    def __init__(self) -> None:
        self._turns = asyncio.Semaphore(self.AT_ONCE)
        self._here = 0

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn, and have it for the length of a block.

        Raises:
            OverloadedError: too many wait already.
        """
        if self._here >= self.AT_ONCE + self.ROOM:
            detail = f"Trop de publications à la fois : renvoyez celle-ci dans {self.RETRY_S} s, rien n'en a été lu."
            raise OverloadedError(detail, retry_after=self.RETRY_S)
        self._here += 1
        try:
            async with self._turns:
                yield
        finally:
            self._here -= 1
