"""Consents, questions and ladders in PostgreSQL (port ``AskingBook``), over the ledger's pool."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib.resources import files
from typing import Any, Final

import orjson

from adapters.postgres.ledger import PostgresLedger
from adapters.postgres.queries import load_queries
from sas_matcher.ports.asking import Advance, Due, QuestionRecord
from sas_matcher.ports.ledger import Idempotency, Outcome

_QUERIES: Final = load_queries(files("adapters.postgres").joinpath("asking.sql").read_text(encoding="utf-8"))


class PostgresAsking:
    """The tables of ``008_overflow.sql``; accepting and refusing are changes of bookings (``PostgresLedger``)."""

    def __init__(self, ledger: PostgresLedger) -> None:
        self._ledger = ledger

    async def _run(self, name: str, *args: Any) -> list[Any]:
        return await self._ledger.fetch(_QUERIES[name], *args)

    async def _first(self, name: str, *args: Any) -> str | None:
        rows = await self._run(name, *args)
        return rows[0]["document"] if rows else None

    async def due(self, now: datetime, limit: int) -> list[Due]:
        """Return requests whose next step is due, with who may be asked."""
        return [
            Due(
                orjson.loads(row["request"]),
                None if row["asking"] is None else orjson.loads(row["asking"]),
                orjson.loads(row["steps"]),
                orjson.loads(row["persons"]),
            )
            for row in await self._run("due", now, limit)
        ]

    async def advance(self, now: datetime, move: Advance) -> str:
        """Take a step for a request; words as in the port."""
        entry, questions = (orjson.dumps(part).decode() for part in (move.entry, move.questions))
        fixed = (move.request_id, move.was, move.step, move.wave, move.next_at)
        word: str = (await self._ledger.change(_QUERIES["advance"], now, *fixed, entry, questions, bulk=False))[
            "outcome"
        ]
        return word

    async def settle(self, now: datetime) -> int:
        """Close what is over; returns the number of announcements."""
        return int((await self._ledger.change(_QUERIES["settle"], now, 500, bulk=False))["count"])

    async def put_overflow(self, now: datetime, row: Mapping[str, Any]) -> str:
        """Set or change a consent; returns its document."""
        rows = await self._run("put_overflow", now, orjson.dumps(row).decode())
        document: str = rows[0]["document"]
        return document

    async def remove_overflow(self, now: datetime, source: str, name: str) -> bool:
        """Take a consent back; False when there is none of that name."""
        return bool(await self._run("remove_overflow", now, source, name))

    async def overflows(self, source: str) -> list[str]:
        """Return the consents that a source has given, by name."""
        return [row["document"] for row in await self._run("overflows", source)]

    async def question(self, question_id: str) -> QuestionRecord | None:
        """Return a question with its request and consent."""
        rows = await self._run("question", question_id)
        if not rows:
            return None
        document, request, overflow, landmass = rows[0].values()
        return QuestionRecord(document, orjson.loads(request), {**orjson.loads(overflow), "landmass": landmass})

    async def questions(
        self,
        source: str | None,
        professionals: Sequence[str],
        structures: Sequence[str],
        state: str | None,
        limit: int,
    ) -> list[str]:
        """Return the questions put to a practice, newest first."""
        rows = await self._run("questions", source, list(professionals), list(structures), state, limit)
        return [row["document"] for row in rows]

    async def asking(self, request_id: str, key_id: str | None) -> str | None:
        """Return how far a request has climbed, as its key sees it (any key when None)."""
        return await self._first("asking", request_id, key_id)

    async def ladder(self, territory: str) -> str | None:
        """Return the ladder of a territory that has set one."""
        return await self._first("ladder", territory)

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
        args = (territory, once.key_id, orjson.dumps(steps).decode(), why, version)
        return await self._ledger.change_once(_QUERIES["change_ladder"], now, args, once)

    async def ladder_changes(self, territory: str, before: int | None, limit: int) -> list[str]:
        """Return a page of the changes of a territory's ladder, newest first."""
        return [row["document"] for row in await self._run("ladder_changes", territory, before, limit)]
