"""En sus: consents, questions, what was asked for a request, ladders of territories."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sas_matcher.client._calls import Calls
from sas_matcher.client._documents import Json, _instant


@dataclass(frozen=True, slots=True)
class Question:
    """A question whether one more patient can be received.

    Attributes:
        state: ``asked``, ``accepted``, ``refused``, ``closed`` (somebody else, or no longer needed) or ``released``
            (accepted, but the place was not taken in the end).
        overflow: Name of the consent that it was put under.
        modes: Those that would do.
        km: How far the patient is, in whole kilometres.
        deadline: By when the patient must be received.
        booking_id: Of a yes.
    """

    question_id: str
    state: str
    reason: str | None
    overflow: str
    modes: tuple[str, ...]
    profession: str
    tier: str
    km: int
    minutes: int
    deadline: datetime
    asked_at: datetime
    answered_at: datetime | None
    booking_id: str | None
    raw: Json

    @classmethod
    def of(cls, document: Json) -> "Question":
        """Read a document."""
        return cls(
            document["question_id"],
            document["state"],
            document["reason"],
            document["overflow"],
            tuple(document["modes"]),
            document["profession"],
            document["tier"],
            document["km"],
            document["minutes"],
            datetime.fromisoformat(document["deadline"]),
            datetime.fromisoformat(document["asked_at"]),
            _instant(document["answered_at"]),
            document["booking_id"],
            document,
        )


class AskingCalls(Calls):
    """The calls about en sus; part of ``SasClient``."""

    async def put_overflow(self, name: str, consent: Mapping[str, Any]) -> Json:
        """Let a professional or a structure be asked, or change how (body of ``PUT /v1/overflow/{name}``)."""
        document: Json = await self.call("PUT", f"/v1/overflow/{name}", body=dict(consent), repeatable=True)
        return document

    async def overflow(self) -> list[Json]:
        """Return the consents that this key may change."""
        found: list[Json] = (await self.call("GET", "/v1/overflow"))["overflow"]
        return found

    async def remove_overflow(self, name: str) -> None:
        """Take a consent back: no further question comes."""
        await self.call("DELETE", f"/v1/overflow/{name}")

    async def questions(self, *, state: str | None = None, limit: int = 50) -> list[Question]:
        """Return the questions put to this key's professionals, newest first."""
        found = await self.call("GET", "/v1/questions", query={"state": state, "limit": limit})
        return [Question.of(item) for item in found["questions"]]

    async def accept_question(
        self, question_id: str, start: datetime, *, mode: str | None = None, idempotency_key: str | None = None
    ) -> Question:
        """Say yes: the patient is received at ``start``; ``ApiError`` ``too_late`` when somebody else was quicker."""
        body = {"start": start.isoformat()} | ({} if mode is None else {"mode": mode})
        return Question.of(await self._act(f"/v1/questions/{question_id}/accept", body, idempotency_key))

    async def refuse_question(
        self, question_id: str, *, reason: str | None = None, idempotency_key: str | None = None
    ) -> Question:
        """Say no; when nobody is left to answer, the next are asked at once."""
        body = {} if reason is None else {"reason": reason}
        return Question.of(await self._act(f"/v1/questions/{question_id}/refuse", body, idempotency_key))

    async def asking(self, request_id: str) -> Json:
        """Return what was asked for a request, of how many, what was answered, and when the next step comes."""
        document: Json = await self.call("GET", f"/v1/requests/{request_id}/asking")
        return document

    async def ladder(self, territory: str) -> Json:
        """Return the ladder of a territory, with a French sentence a step."""
        document: Json = await self.call("GET", f"/v1/territories/{territory}/ladder")
        return document

    async def change_ladder(
        self,
        territory: str,
        steps: Sequence[Mapping[str, Any]],
        why: str,
        *,
        version: int | None = None,
        idempotency_key: str | None = None,
    ) -> Json:
        """Replace the ladder of a territory; no step: nobody is asked there."""
        body = {"steps": list(steps), "why": why} | ({} if version is None else {"version": version})
        path = f"/v1/territories/{territory}/ladder"
        document: Json = await self._act(path, body, idempotency_key, method="PUT")
        return document
