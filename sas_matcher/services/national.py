"""Telling the national platform what became of our bookings (INT_R03): in order a booking, again until it is taken.

The ledger queues each change in its own transaction. Senders take the oldest message of each booking, one at a time, so
a booking's changes arrive in order whoever sends; what a killed sender had in hand is due again after its lease.
A message that may have arrived is sent again in the form of an update, which the platform takes twice without harm.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import Final, Protocol

import structlog

from sas_matcher.domain.errors import UnavailableError
from sas_matcher.ports import Clock, Delivery, Message, MessageState, Queued

# far over the time-out of a call: nobody takes over what may still be under way
LEASE: Final = timedelta(seconds=60)
AT_ONCE: Final = 16  # calls at a time; the platform takes 16 000 appointments a day from all of France
_IDLE_S: Final = 0.5
_WATCH_S: Final = 10.0
_FORGET_S: Final = 3600.0
# longer than a place may lie ahead (92 days): whoever was told of a booking is told of its end
KEPT: Final = timedelta(days=120)
_BACK_OFF: Final = (1, 2, 5, 15, 30, 60, 120, 300)  # seconds, the last one for ever: nothing is ever given up
NO_OPERATOR_S: Final = 60
_log = structlog.get_logger(__name__)


class Queue(Protocol):
    """Where the messages wait (the ledger)."""

    async def claim(self, now: datetime, until: datetime, limit: int) -> list[Message]:
        """Take messages that are due, the oldest of each booking; they are the caller's until an instant."""
        ...

    async def settle(
        self,
        message: Message,
        now: datetime,
        state: MessageState,
        next_at: datetime | None,
        error: str | None,
        remote: str | None,
    ) -> bool:
        """Write what came of a message; False when another sender has it now."""
        ...

    async def counts(self, now: datetime) -> dict[str, tuple[int, float]]:
        """Return {state: (messages, age in seconds of the oldest that waits)}."""
        ...

    async def forget(self, before: datetime) -> None:
        """Drop what was settled before an instant."""
        ...


class Platform(Protocol):
    """The other side."""

    async def tell(self, message: Message, *, first: bool) -> Delivery:
        """Send a message: as a creation when it cannot have arrived before, else as an update. Never raises."""
        ...


class Watch(Protocol):
    """Who counts."""

    def told(self, word: str) -> None:
        """One message was sent, and this came of it."""
        ...

    def queue(self, counts: dict[str, tuple[int, float]]) -> None:
        """What is in the queue."""
        ...


class NationalView(Protocol):
    """What people may see of the queue."""

    async def counts(self, now: datetime) -> dict[str, tuple[int, float]]:
        """Return {state: (messages, age in seconds of the oldest that waits)}."""
        ...

    async def messages(self, state: str | None, booking_id: str | None, limit: int) -> Sequence[Queued]:
        """Return messages, newest first."""
        ...


def back_off(message: Message) -> timedelta:
    """Return how long a message waits after it failed; spread, so that an outage does not end in a rush."""
    seconds = _BACK_OFF[min(message.tries, len(_BACK_OFF)) - 1]
    return timedelta(seconds=seconds * (1 + message.id % 16 / 32))


class Sending:
    """Sends what is queued, until cancelled; several may run."""

    def __init__(
        self, queue: Queue, platform: Platform, clock: Clock, watch: Watch, operator: tuple[str, str] | None = None
    ) -> None:
        """Take the parts; ``operator`` (system, value) is named for keys that are bound to none."""
        self._operator = operator
        self._queue = queue
        self._platform = platform
        self._clock = clock
        self._watch = watch

    async def run(self) -> None:
        """Send and count until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._send_forever())
            group.create_task(self._every(_WATCH_S, self.count))
            group.create_task(self._every(_FORGET_S, self.forget_old))

    async def _send_forever(self) -> None:
        while True:
            try:
                sent = await self.send_due()
            except UnavailableError as away:
                _log.warning("national.store_away", detail=away.detail)
                sent = 0
            if not sent:
                await asyncio.sleep(_IDLE_S)

    @staticmethod
    async def _every(seconds: float, step: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await step()
            except UnavailableError as away:
                _log.warning("national.store_away", detail=away.detail)
            await asyncio.sleep(seconds)

    async def count(self) -> None:
        """Show the queue."""
        self._watch.queue(await self._queue.counts(self._clock.now()))

    async def forget_old(self) -> None:
        """Drop messages that are of no use any more."""
        await self._queue.forget(self._clock.now() - KEPT)

    async def send_due(self) -> int:
        """Send what is due now, at most ``AT_ONCE``; returns how many were taken in hand."""
        now = self._clock.now()
        messages = await self._queue.claim(now, now + LEASE, AT_ONCE)
        # no failure of one keeps the others from being settled
        results = await asyncio.gather(*map(self._send, messages), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return len(messages)

    async def _send(self, message: Message) -> None:
        if message.system is None and self._operator is not None:
            message = message._replace(system=self._operator[0], value=self._operator[1])
        if message.system is None:
            later = self._clock.now() + timedelta(seconds=NO_OPERATOR_S)
            await self._queue.settle(message, self._clock.now(), "waiting", later, "no_operator", None)
            return
        try:
            told = await self._platform.tell(message, first=message.number == 1 and message.tries == 1)
        except Exception as unforeseen:
            # the matcher is in this process: one message that cannot be sent ends neither it nor the others
            kind = type(unforeseen).__name__
            _log.error("national.unforeseen", booking_id=message.booking_id, status=message.status, kind=kind)
            told = Delivery("again", f"unforeseen {kind}")
        self._watch.told(told.word)
        now = self._clock.now()
        if told.word == "again":
            await self._queue.settle(message, now, "waiting", now + back_off(message), told.detail, None)
            return
        if told.word == "refused":
            _log.warning("national.refused", booking_id=message.booking_id, status=message.status, detail=told.detail)
        state: MessageState = "sent" if told.word == "taken" else "refused"
        await self._queue.settle(message, now, state, None, told.detail, told.remote)
