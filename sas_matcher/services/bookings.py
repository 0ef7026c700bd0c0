"""What a practice does with its bookings: accept, refuse, call off, move, say what became of them, count a plage."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import orjson

from sas_matcher.domain.errors import InvalidInputError, NotFoundError
from sas_matcher.ports.ledger import Idempotency, Ledger
from sas_matcher.ports.world import Clock
from sas_matcher.services.publish import Publisher
from sas_matcher.services.regulate import accepted

Owns = Callable[[str, str | None, str | None], bool]
"""Whether a key speaks for (source, professional, structure)."""


class Bookings:
    """The practice's use cases once a patient has a place."""

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        self._ledger = ledger
        self._clock = clock

    async def page(self, publisher: Publisher, window: tuple[datetime, datetime], limit: int) -> list[str]:
        """Return the bookings of slots that start in a window."""
        source = publisher.source if "*" in publisher.professionals else None
        professionals, structures = sorted(publisher.professionals), sorted(publisher.structures)
        return await self._ledger.bookings_of_practice(source, professionals, structures, window, limit)

    async def one(self, booking_id: str, owns: Owns) -> str:
        """Return the document of a booking of this practice.

        Raises:
            NotFoundError: unknown, someone else's, or still a hold (which the regulator may yet decline).
        """
        found = await self._ledger.booking_document(booking_id)
        if found is None:
            raise NotFoundError("Réservation introuvable pour cette clé.")
        document, *owner = found
        if not owns(*owner) or orjson.loads(document)["firm_at"] is None:
            raise NotFoundError("Réservation introuvable pour cette clé.")
        text: str = document
        return text

    async def act(self, action: str, booking_id: str, arguments: Sequence[Any], owns: Owns, once: Idempotency) -> str:
        """Accept, refuse or cancel a booking, or say its outcome; returns its document.

        Raises:
            NotFoundError: see ``one``.
            AcceptEndedError, ConflictError: see ``accepted``.
        """
        await self.one(booking_id, owns)
        now = self._clock.now()
        return accepted(await self._ledger.change_booking(action, now, booking_id, arguments, once))

    async def move(self, booking_id: str, slot_id: int, owns: Owns, once: Idempotency) -> str:
        """Move a patient, with his consent, to another open hour of this practice; returns the booking's document.

        Raises:
            NotFoundError: see ``one``.
            InvalidInputError: the slot is not this practice's, or after the request's deadline.
            SlotFullError, LimitReachedError, ConflictError: see ``accepted``; the patient keeps his place.
        """
        await self.one(booking_id, owns)
        await self._own_slot(slot_id, owns)
        return await self.act("move", booking_id, (slot_id,), owns, once)

    async def count(self, slot_id: int, arrived: int, over: bool, owns: Owns, once: Idempotency) -> str:
        """Say how many patients of a plage have come (``over``: the others did not); returns what is counted.

        Raises:
            NotFoundError: unknown, or someone else's.
            InvalidInputError: more than are expected.
            ConflictError: it has not begun.
        """
        await self._own_slot(slot_id, owns)
        done = await self._ledger.count_plage(self._clock.now(), slot_id, arrived, over, once)
        if done.word == "too_many":
            taken = orjson.loads(done.document or "{}")["taken"]
            raise InvalidInputError.of("arrived", f"{taken} patient(s) attendu(s) dans cette plage, pas {arrived}")
        return accepted(done)

    async def _own_slot(self, slot_id: int, owns: Owns) -> None:
        slot = await self._ledger.slot_record(slot_id)
        record = {} if slot is None else orjson.loads(slot["record"])
        if slot is None or not owns(record["source"], record["professional"], record["structure"]):
            raise NotFoundError("Créneau introuvable pour cette clé.")
