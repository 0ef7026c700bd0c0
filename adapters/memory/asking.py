"""Consents, questions and ladders in memory (port ``AskingBook``), beside the ledger in memory."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import orjson

from adapters.memory import questions as twin
from adapters.memory.ledger import MemoryLedger
from sas_matcher.ports.asking import Advance, Due, QuestionRecord
from sas_matcher.ports.ledger import Idempotency, Outcome


class MemoryAsking:
    """The meaning of ``adapters.postgres.asking``, without a server."""

    def __init__(self, ledger: MemoryLedger) -> None:
        self._ledger = ledger

    @property
    def _on(self) -> twin.AskingTables:
        return self._ledger.asking

    async def due(self, now: datetime, limit: int) -> list[Due]:
        """Return requests whose next step is due, with who may be asked."""
        found = []
        for request in self._ledger.tables.waiting.values():
            ladder, asking = self._on.ladders.get(request.territory), self._on.askings.get(request.id)
            none = None if request.decision is None else orjson.loads(request.decision).get("none")
            placeless = none is not None and none["reason"] != "KEPT_FOR_OTHERS"
            is_due = asking is None or (asking.next_at is not None and asking.next_at <= now)
            if ladder and ladder["steps"] and placeless and is_due and request.deadline > now:
                at = 0.0 if asking is None or asking.next_at is None else asking.next_at.timestamp()
                found.append((at, request, asking, ladder))
        found.sort(key=lambda entry: (entry[0], entry[1].deadline))
        return [
            Due(
                orjson.loads(self._ledger.tables.request_json(request)),
                None if asking is None else orjson.loads(self._on.asking_json(asking)),
                ladder["steps"],
                self._on.candidates(now, request),
            )
            for _, request, asking, ladder in found[:limit]
        ]

    async def advance(self, now: datetime, move: Advance) -> str:
        """Take a step for a request; words as in the port."""
        word = twin.advance_asking(self._on, now, move)
        self._ledger.publish()
        return word

    async def settle(self, now: datetime) -> int:
        """Close what is over; returns the number of announcements."""
        twin.settle_questions(self._on, now)
        return len(self._ledger.publish())

    async def put_overflow(self, now: datetime, row: Mapping[str, Any]) -> str:
        """Set or change a consent; returns its document."""
        return self._on.overflow_json(twin.put_overflow(self._on, row))

    async def remove_overflow(self, now: datetime, source: str, name: str) -> bool:
        """Take a consent back; False when there is none of that name."""
        known = self._on.named.get((source, name))
        if known is None or known.removed:
            return False
        known.removed = True
        return True

    async def overflows(self, source: str) -> list[str]:
        """Return the consents that a source has given, by name."""
        mine = [o for (of, _), o in sorted(self._on.named.items()) if of == source and not o.removed]
        return [self._on.overflow_json(overflow) for overflow in mine]

    async def question(self, question_id: str) -> QuestionRecord | None:
        """Return a question with its request and consent."""
        question = self._on.questions.get(question_id)
        if question is None:
            return None
        request = self._ledger.tables.requests[question.request_id]
        return QuestionRecord(
            self._on.question_json(question),
            orjson.loads(self._ledger.tables.request_json(request)),
            dict(self._on.overflows[question.overflow_id].row),
        )

    async def questions(
        self,
        source: str | None,
        professionals: Sequence[str],
        structures: Sequence[str],
        state: str | None,
        limit: int,
    ) -> list[str]:
        """Return the questions put to a practice, newest first."""
        mine = [
            q
            for q in self._on.questions.values()
            if state in (None, q.state)
            and (
                (row := self._on.overflows[q.overflow_id].row)["source"] == source
                or row["professional"] in professionals
                or row["structure"] in structures
            )
        ]
        mine.sort(key=lambda q: (-q.asked_at.timestamp(), q.id))
        return [self._on.question_json(q) for q in mine[:limit]]

    async def asking(self, request_id: str, key_id: str | None) -> str | None:
        """Return how far a request has climbed, as its key sees it (any key when None)."""
        asking = self._on.askings.get(request_id)
        if asking is None or key_id not in (None, self._ledger.tables.requests[request_id].key_id):
            return None
        return self._on.asking_json(asking)

    async def ladder(self, territory: str) -> str | None:
        """Return the ladder of a territory that has set one."""
        found = self._on.ladders.get(territory)
        return None if found is None else orjson.dumps(found).decode()

    async def change_ladder(
        self,
        now: datetime,
        territory: str,
        steps: Sequence[Mapping[str, Any]],
        why: str,
        version: int | None,
        once: Idempotency,
    ) -> Outcome:
        """Change a territory's ladder once for its Idempotency-Key; words as in the port."""

        def change(_tables: Any, at: datetime) -> tuple[str, str | None]:
            return twin.change_ladder(self._on, at, once.key_id, territory, steps, why, version)

        return self._ledger.change_once(change, now, (), once)

    async def ladder_changes(self, territory: str, before: int | None, limit: int) -> list[str]:
        """Return a page of the changes of a territory's ladder, newest first."""
        older = self._on.ladder_log.get(territory, [])[: None if before is None else max(0, before - 1)]
        return older[::-1][:limit]
