"""Consents, questions and a territory's ladder on a ledger: shared by the tests about en sus."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from adapters.memory import MemoryLedger
from adapters.memory.asking import MemoryAsking
from adapters.postgres.asking import PostgresAsking
from sas_matcher.ports.asking import Advance, AskingBook
from sas_matcher.ports.ledger import Idempotency, Outcome
from tests.ledger_cases import KEY, NOW, SOURCE, TERRITORY, Desk, minutes, new_id

HOLD = timedelta(minutes=30)


def book_of(desk: Desk) -> AskingBook:
    """Return the part of the desk's ledger that is about en sus."""
    ledger: Any = desk.ledger
    return MemoryAsking(ledger) if isinstance(ledger, MemoryLedger) else PostgresAsking(ledger)


def overflow_row(name: str, **columns: Any) -> dict[str, Any]:
    """Return the consent of a doctor: weekdays from 8 to 20 h in Paris, two questions a day."""
    return {
        "source": SOURCE,
        "name": name,
        "territory": TERRITORY,
        "professional": f"8{name}",
        "professional_name": None,
        "structure": None,
        "structure_name": None,
        "source_kind": "liberal",
        "lat": 45.76,
        "lon": 4.84,
        "landmass": 0,
        "insee": "69123",
        "label": None,
        "phone": None,
        "modes": ["cabinet"],
        "profession": "MG",
        "specialty": None,
        "offers": [],
        "cpts": None,
        "zone": "Europe/Paris",
        "from_minute": 8 * 60,
        "to_minute": 20 * 60,
        "days": [1, 2, 3, 4, 5],
        "most_a_day": 2,
        "minutes": 15,
        "crisis_calls": False,
        **columns,
    }


STEP = {"kind": "ask", "name": "Cabinets proches", "waves": 2, "at_once": 3, "sure_pct": 80, "wait_min": 5}


class Asker:
    """Who asks, and who answers, at one ledger."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.book = book_of(desk)

    async def ladder(self, *steps: dict[str, Any], version: int | None = None, why: str = "essai") -> Outcome:
        """Set the territory's ladder."""
        once = Idempotency(KEY, new_id(), b"body")
        return await self.book.change_ladder(NOW, TERRITORY, steps or [STEP], why, version, once)

    async def consent(self, *names: str, **columns: Any) -> None:
        """Let doctors be asked."""
        for name in names:
            await self.book.put_overflow(NOW, overflow_row(name, **columns))

    async def waits(self, **columns: Any) -> str:
        """Return a request that was told that there is no place."""
        request_id = await self.desk.ask(**columns)
        reason = '{"none": {"reason": "NO_SLOT_IN_RADIUS"}, "place": null}'
        await self.desk.no_place(request_id, reason)
        return request_id

    async def ids(self, request_id: str, now: datetime = NOW) -> list[int]:
        """Return the consents that may be asked for a request."""
        due = await self.book.due(now, 100)
        return [p["id"] for d in due if d.request["request_id"] == request_id for p in d.persons]

    async def put(
        self, request_id: str, overflows: Sequence[int], was: int = 0, now: datetime = NOW, wait: float = 5
    ) -> tuple[str, list[str]]:
        """Ask some for a request; returns the word and the ids of the questions."""
        until = now + minutes(wait)
        questions = [{"id": new_id(), "overflow_id": o, "km": 2, "answer_by": until} for o in overflows]
        move = Advance(request_id, was, 0, was + 1, until, {"name": "Cabinets proches", "of": 9}, questions)
        return await self.book.advance(now, move), [str(q["id"]) for q in questions]

    async def accept(
        self, question_id: str, *, at: float = 60, now: datetime = NOW, mode: str = "cabinet", desk: Desk | None = None
    ) -> str:
        """Say yes for an hour ``at`` minutes from ``NOW``; returns the word."""
        arguments = (NOW + minutes(at), mode, new_id(), now + HOLD, '{"place": {"slot_id": 0}, "none": null}')
        return (await (desk or self.desk).of_booking("accept_question", question_id, *arguments, now=now)).word

    async def refuse(self, question_id: str, now: datetime = NOW) -> str:
        """Say no; returns the word."""
        return (await self.desk.of_booking("refuse_question", question_id, "complet", now=now)).word
