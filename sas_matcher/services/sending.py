"""Sending what waits in the ledger to others: in order a matter, again until it is taken, whoever is killed meanwhile.

The ledger queues each message in the transaction of the change. Senders take the oldest message of each matter (a
booking…), one at a time, so that what is told of one arrives in order whoever sends; what a killed sender had in hand
is due again after its lease. So each message arrives at least once, under an id of its own.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Final, Generic, Protocol, TypeVar

import structlog

from sas_matcher.faults import again_and_again, attempt, tell_fault
from sas_matcher.ports.sending import Delivery, MessageState
from sas_matcher.ports.world import Clock

# far over the time-out of a call: nobody takes over what may still be under way
LEASE: Final = timedelta(seconds=60)
AT_ONCE: Final = 16  # calls at a time; the platform takes 16 000 appointments a day from all of France
_IDLE_S: Final = 0.5  # when nothing waited: what is queued now leaves within this
_WATCH_S: Final = 10.0  # between two looks at the queue, for the metrics
_FORGET_S: Final = 3600.0  # between two rounds of forgetting what was told long ago
_log = structlog.get_logger(__name__)


class Sendable(Protocol):
    """What every message has: its number, and how often it was taken to be sent, this time included."""

    @property
    def id(self) -> int: ...  # noqa: D102
    @property
    def tries(self) -> int: ...  # noqa: D102


M = TypeVar("M", bound=Sendable)


class Queue(Protocol[M]):
    """Where the messages wait (the ledger)."""

    async def claim(self, now: datetime, until: datetime, limit: int) -> list[M]:
        """Take messages that are due, the oldest of each matter; they are the caller's until an instant."""
        ...

    async def settle(
        self, message: M, now: datetime, state: MessageState, next_at: datetime | None, told: Delivery
    ) -> bool:
        """Write what came of a message; False when another sender has it now."""
        ...

    async def counts(self, now: datetime) -> dict[str, tuple[int, float]]:
        """Return {state: (messages, age in seconds of the oldest that waits)}."""
        ...

    async def forget(self, before: datetime) -> None:
        """Drop what was settled before an instant."""
        ...


class Watch(Protocol):
    """Counts what a sender does (metrics)."""

    def told(self, word: str) -> None:
        """One message was sent, and this came of it."""
        ...

    def queue(self, counts: dict[str, tuple[int, float]]) -> None:
        """What is in the queue."""
        ...


def back_off(message: Sendable, waits: tuple[int, ...]) -> timedelta:
    """Return how long a message waits after it failed; spread, so that an outage does not end in a rush.

    Args:
        message: that failed.
        waits: seconds after each try, the last one for ever.
    """
    seconds = waits[min(message.tries, len(waits)) - 1]
    return timedelta(seconds=seconds * (1 + message.id % 16 / 32))


class Sender(ABC, Generic[M]):
    """Sends what is queued, until cancelled; several may run."""

    def __init__(
        self, name: str, queue: Queue[M], clock: Clock, watch: Watch, *, waits: tuple[int, ...], kept: timedelta
    ) -> None:
        """Take the parts.

        Args:
            name: in logs.
            queue: where messages wait.
            clock: what they are due by.
            watch: who counts.
            waits: seconds after each try that failed, the last one for ever.
            kept: for how long what is settled stays visible.
        """
        self._name = name
        self._queue = queue
        self._clock = clock
        self._watch = watch
        self._waits = waits
        self._kept = kept

    @abstractmethod
    async def tell(self, message: M) -> Delivery:
        """Send a message and say what came of it."""

    async def run(self) -> None:
        """Send and count until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._send_forever())
            for seconds, step in self.chores():
                group.create_task(again_and_again(f"{self._name}.{step.__name__}", step, seconds))

    def chores(self) -> list[tuple[float, Callable[[], Awaitable[object]]]]:
        """Return what is done beside sending: (every so many seconds, step)."""
        return [(_WATCH_S, self.count), (_FORGET_S, self.forget_old)]

    async def _send_forever(self) -> None:
        """Keep ``AT_ONCE`` under way: one that takes its time makes nobody wait but those of its own matter."""
        under_way: set[asyncio.Task[None]] = set()
        try:
            while True:
                taken = await attempt(f"{self._name}.take", partial(self.take, AT_ONCE - len(under_way)))
                under_way |= {asyncio.create_task(self.see_through(message)) for message in taken or ()}
                if under_way:
                    patience = None if len(under_way) == AT_ONCE else _IDLE_S
                    _, under_way = await asyncio.wait(under_way, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
                else:
                    await asyncio.sleep(_IDLE_S)
        finally:
            for task in under_way:
                task.cancel()

    async def count(self) -> None:
        """Show the queue."""
        self._watch.queue(await self._queue.counts(self._clock.now()))

    async def forget_old(self) -> None:
        """Drop messages that are of no use any more."""
        await self._queue.forget(self._clock.now() - self._kept)

    async def take(self, room: int) -> list[M]:
        """Take what is due now in hand, so many at the most.

        Raises:
            UnavailableError: the ledger is away.
        """
        now = self._clock.now()
        return await self._queue.claim(now, now + LEASE, room)

    async def see_through(self, message: M) -> None:
        """Send a message that was taken in hand and write what came of it; if that fails it is due after its lease."""
        await attempt(f"{self._name}.settle", lambda: self._send(message))

    async def _send(self, message: M) -> None:
        try:
            told = await self.tell(message)
        except Exception as unforeseen:
            # the matcher is in this process: one message that cannot be sent ends neither it nor the others
            tell_fault(f"{self._name}.message", unforeseen, id=message.id)
            told = Delivery("again", f"unforeseen {type(unforeseen).__name__}")
        now = self._clock.now()
        if told.later is not None:
            await self._queue.settle(message, now, "waiting", now + told.later, told)
            return
        self._watch.told(told.word)
        if told.word == "again":
            await self._queue.settle(message, now, "waiting", now + back_off(message, self._waits), told)
            return
        if told.word == "refused":
            _log.warning(f"{self._name}.refused", id=message.id, detail=told.detail)
        state: MessageState = "sent" if told.word == "taken" else "refused"
        await self._queue.settle(message, now, state, None, told)
