"""En sus: whom a request without a place is asked of, and what they answered."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from sas_matcher.ports.ledger import Idempotency, Outcome


class Due(NamedTuple):
    """A request whose next step on the ladder is due, as documents.

    ``asking`` is None before the first step; ``persons``: who may be asked and was not, with their counts.
    """

    request: dict[str, Any]
    asking: dict[str, Any] | None
    steps: list[dict[str, Any]]
    persons: list[dict[str, Any]]


class Advance(NamedTuple):
    """A step on the ladder.

    Attributes:
        was: version of the asking that was read; 0 for none.
        step, wave: where it leads.
        next_at: when the next one is due; None at the end.
        entry: what its regulator is told of it; the ledger adds ``at`` and ``asked``.
        questions: {id, overflow_id, km, answer_by} of each that is asked.
    """

    request_id: str
    was: int
    step: int
    wave: int
    next_at: datetime | None
    entry: Mapping[str, Any]
    questions: Sequence[Mapping[str, Any]]


class QuestionRecord(NamedTuple):
    """A question: its document for the practice, its request, and the consent that it was put under."""

    document: str
    request: dict[str, Any]
    overflow: dict[str, Any]


class AskingBook(Protocol):
    """The ledger's part about en sus. Yes and no are ``change_booking("accept_question" | "refuse_question", …)``."""

    async def due(self, now: datetime, limit: int) -> list[Due]:
        """Return requests that wait without a place, where a ladder is set and its next step is due."""
        ...

    async def advance(self, now: datetime, move: Advance) -> str:
        """Take a step: advanced, conflict (somebody else did) or not_waiting.

        Nobody is asked twice for a request, nor more often a day than they allow, whatever the step wanted.
        """
        ...

    async def settle(self, now: datetime) -> int:
        """Close questions of requests that wait no more; let go of who said yes where the hold was not confirmed."""
        ...

    async def put_overflow(self, now: datetime, row: Mapping[str, Any]) -> str:
        """Set or change a consent; returns its document."""
        ...

    async def remove_overflow(self, now: datetime, source: str, name: str) -> bool:
        """Take a consent back; False when there is none of that name."""
        ...

    async def overflows(self, source: str) -> list[str]:
        """Return the consents of a source, by name."""
        ...

    async def question(self, question_id: str) -> QuestionRecord | None:
        """Return a question."""
        ...

    async def questions(
        self,
        source: str | None,
        professionals: Sequence[str],
        structures: Sequence[str],
        state: str | None,
        limit: int,
    ) -> list[str]:
        """Return the questions put to a practice, newest first."""
        ...

    async def asking(self, request_id: str, key_id: str | None) -> str | None:
        """Return how far a request has climbed."""
        ...

    async def ladder(self, territory: str) -> str | None:
        """Return the ladder of a territory that has set one."""
        ...

    async def change_ladder(
        self,
        now: datetime,
        territory: str,
        steps: Sequence[Mapping[str, Any]],
        why: str,
        version: int | None,
        once: Idempotency,
    ) -> Outcome:
        """Change a ladder: changed (traced and announced), unchanged or conflict (another version)."""
        ...

    async def ladder_changes(self, territory: str, before: int | None, limit: int) -> list[str]:
        """Return the changes of a ladder, newest first."""
        ...
