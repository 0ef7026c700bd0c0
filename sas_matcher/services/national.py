"""Telling the national platform what became of our bookings (INT_R03): in order a booking, again until it is taken.

A message that may have arrived is sent again in the form of an update, which the platform takes twice without harm.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, Protocol

from sas_matcher.ports.sending import Delivery, Message, Queued
from sas_matcher.ports.world import Clock
from sas_matcher.services.sending import Queue, Sender, Watch

# longer than a place may lie ahead (92 days): whoever was told of a booking is told of its end
KEPT: Final = timedelta(days=120)
BACK_OFF: Final = (1, 2, 5, 15, 30, 60, 120, 300)  # nothing is ever given up
NO_OPERATOR_S: Final = 60  # before a message that can name no regulator is tried again: somebody has to bind the key


class Platform(Protocol):
    """The national platform, as we speak to it: INT_R03 over FHIR, or a fake."""

    async def tell(self, message: Message, *, first: bool) -> Delivery:
        """Send a message: as a creation when it cannot have arrived before, else as an update. Never raises."""
        ...


class NationalView(Protocol):
    """What people may see of the queue."""

    async def counts(self, now: datetime) -> dict[str, tuple[int, float]]:
        """Return {state: (messages, age in seconds of the oldest that waits)}."""
        ...

    async def messages(self, state: str | None, booking_id: str | None, limit: int) -> Sequence[Queued]:
        """Return messages, newest first."""
        ...


class Sending(Sender[Message]):
    """Sends what is queued, until cancelled; several may run."""

    def __init__(
        self,
        queue: Queue[Message],
        platform: Platform,
        clock: Clock,
        watch: Watch,
        operator: tuple[str, str] | None = None,
    ) -> None:
        """Take the parts; ``operator`` (system, value) is named for keys that are bound to none."""
        super().__init__("national", queue, clock, watch, waits=BACK_OFF, kept=KEPT)
        self._operator = operator
        self._platform = platform

    async def tell(self, message: Message) -> Delivery:
        """Send a message; one without a regulator to name waits for one."""
        if message.system is None and self._operator is not None:
            message = message._replace(system=self._operator[0], value=self._operator[1])
        if message.system is None:
            return Delivery("again", "no_operator", later=timedelta(seconds=NO_OPERATOR_S))
        return await self._platform.tell(message, first=message.number == 1 and message.tries == 1)
