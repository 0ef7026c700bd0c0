"""En sus for people: practices consent, say yes or no; regulators see what was asked; territories set their ladder."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

import orjson

from sas_matcher.domain.errors import ConflictError, InvalidInputError, NotFoundError, SlotFullError
from sas_matcher.ports.asking import AskingBook
from sas_matcher.ports.ledger import Idempotency, Ledger
from sas_matcher.ports.world import Clock, Geography, Ids
from sas_matcher.services.asking import steps_in_french
from sas_matcher.services.chosen import explain_chosen
from sas_matcher.services.members import Named
from sas_matcher.services.publish import Publisher, site_row, wrong_site
from sas_matcher.services.regulate import accepted

MOST_CONSENTS: Final = (
    1_000  # of one source: all professionals of a large editor's client; more is a program gone wrong
)
# the longest hold that a territory may set: the regulator has hung up long since, and calls the patient back
HOLD: Final = timedelta(seconds=1800)

Owns = Callable[[str, str | None, str | None], bool]
"""Whether a key speaks for (source, professional, structure)."""


class EnSus:
    """What practices, regulators and those who steer a territory do about en sus."""

    def __init__(self, ledger: Ledger, book: AskingBook, clock: Clock, ids: Ids, geography: Geography) -> None:
        self._ledger, self._book, self._clock, self._ids, self._geography = ledger, book, clock, ids, geography
        self._named = Named(("un", "accord"), MOST_CONSENTS, book.overflows, _speaks)

    # -- consents

    async def put(self, publisher: Publisher, name: str, wish: Mapping[str, Any]) -> Mapping[str, Any]:
        """Let a professional or a structure be asked, or change how; in force when this returns.

        Args:
            publisher: who speaks.
            name: the practice's own name of the consent.
            wish: plain mapping in the shape of the API's consent.

        Raises:
            InvalidInputError: names each wrong field.
            NotFoundError: a consent of that name is of others of the same source.
            ConflictError: the source has too many.
        """
        problems = [
            {"field": field, "message": message} for field, message in wrong_site(wish, publisher, self._geography)
        ]
        if problems:
            first = problems[0]
            raise InvalidInputError(f"{first['field']} : {first['message']}.", errors=problems)
        await self._named.check_put(publisher, name)
        site = site_row(wish, self._geography)
        row = {
            "source": publisher.source,
            "name": name,
            **site,
            "modes": list(dict.fromkeys(wish["modes"])),
            "cpts": wish["cpts"],
            "zone": self._geography.territories[site["territory"]].timezone,
            "from_minute": minute_of(wish["ask_from"]),
            "to_minute": minute_of(wish["ask_to"]),
            "days": sorted(set(wish["days"])),
            "most_a_day": wish["most_a_day"],
            "minutes": wish["minutes"],
            "crisis_calls": wish["crisis_calls"],
        }
        return _shown(orjson.loads(await self._book.put_overflow(self._clock.now(), row)))

    async def all(self, publisher: Publisher) -> list[Mapping[str, Any]]:
        """Return the consents that this key may change, by name."""
        return [_shown(consent) for consent in await self._named.all(publisher)]

    async def one(self, publisher: Publisher, name: str) -> Mapping[str, Any]:
        """Return a consent.

        Raises:
            NotFoundError: there is none of that name that this key may change.
        """
        return _shown(await self._named.one(publisher, name))

    async def remove(self, publisher: Publisher, name: str) -> None:
        """Take a consent back: no further question comes; one that was put may still be answered.

        Raises:
            NotFoundError: there is none of that name that this key may change.
        """
        await self.one(publisher, name)
        if not await self._book.remove_overflow(self._clock.now(), publisher.source, name):
            raise self._named.missing()

    # -- questions

    async def questions(self, publisher: Publisher, state: str | None, limit: int) -> list[str]:
        """Return the questions put to a practice, newest first."""
        source = publisher.source if "*" in publisher.professionals else None
        return await self._book.questions(
            source, sorted(publisher.professionals), sorted(publisher.structures), state, limit
        )

    async def question(self, question_id: str, owns: Owns) -> str:
        """Return a question put to this practice.

        Raises:
            NotFoundError: unknown, or put to somebody else.
        """
        return (await self._own(question_id, owns))[0]

    async def _own(self, question_id: str, owns: Owns) -> tuple[str, dict[str, Any], dict[str, Any]]:
        found = await self._book.question(question_id)
        if found is None or not owns(*(found.overflow[name] for name in ("source", "professional", "structure"))):
            raise NotFoundError("Question introuvable pour cette clé.")
        return found

    async def accept(self, question_id: str, start: datetime, mode: str | None, owns: Owns, once: Idempotency) -> str:
        """Say yes: the patient is received at ``start``. The first yes gets it; returns the question's document.

        Raises:
            NotFoundError: unknown, or put to somebody else.
            InvalidInputError: the hour is past or after the request's deadline, or the mode does not suit it.
            TooLateError: somebody else was quicker, or the request is closed.
            SlotFullError: a patient at that hour already, or the patient could not be there in time.
            LimitReachedError, ConflictError: see ``accepted``.
        """
        document, request, overflow = await self._own(question_id, owns)
        question = orjson.loads(document)
        now = self._clock.now()
        modes = question["modes"]
        decision = "{}"
        if question["state"] == "asked":
            # otherwise the ledger says what came of it, or what was answered under this Idempotency-Key
            if mode is None and len(modes) > 1:
                raise InvalidInputError.of("mode", f"choisissez : {', '.join(modes)}")
            if mode is not None and mode not in modes:
                raise InvalidInputError.of("mode", f"cette demande se fait en : {', '.join(modes)}")
            if start <= now:
                raise InvalidInputError.of("start", "est déjà passé ; proposez une heure à venir")
            deadline = datetime.fromisoformat(request["deadline"]).astimezone(self._zone(request["territory"]))
            if start > deadline:
                raise InvalidInputError.of(
                    "start", f"au plus tard le {deadline:%d/%m à %H h %M}, échéance de la demande"
                )
            decision = self._priced(request, overflow, start, mode or modes[0], now)
        arguments = (start, mode or modes[0], self._ids.uuid(), min(now + HOLD, start), decision)
        return accepted(await self._ledger.change_booking("accept_question", now, question_id, arguments, once))

    def _priced(
        self, request: Mapping[str, Any], overflow: Mapping[str, Any], start: datetime, mode: str, now: datetime
    ) -> str:
        """Return the decision document of a yes.

        Raises:
            SlotFullError: the patient could not be there in time.
        """
        row = {
            **request,
            "id": request["request_id"],
            **{name: datetime.fromisoformat(request[name]) for name in ("created_at", "deadline")},
        }
        own = {"slot_id": 0, "capacity": 1, "mode": mode, "booking_kind": "routine", "version": 0}
        began = int(start.timestamp())
        zone = self._zone(request["territory"])
        try:
            span = (began, began + 60 * overflow["minutes"])
            return explain_chosen(row, {**overflow, **own}, span, now, zone, ("asked", "EN_SUS"))
        except SlotFullError as late:
            raise SlotFullError("Le patient ne peut pas y être à temps : proposez une heure plus tardive.") from late

    def _zone(self, territory: str) -> ZoneInfo:
        return ZoneInfo(self._geography.territories[territory].timezone)

    async def refuse(self, question_id: str, reason: str, owns: Owns, once: Idempotency) -> str:
        """Say no; when nobody is left to answer, the next are asked at once. Returns the question's document.

        Raises:
            NotFoundError: unknown, or put to somebody else.
            TooLateError: the request is closed.
            ConflictError: it was accepted.
        """
        await self._own(question_id, owns)
        now = self._clock.now()
        return accepted(await self._ledger.change_booking("refuse_question", now, question_id, (reason,), once))

    # -- regulators

    async def asking(self, request_id: str, key_id: str) -> str:
        """Return what was asked for a request of this key, of how many, and when the next step comes.

        Raises:
            NotFoundError: unknown, or nobody was asked.
        """
        document = await self._book.asking(request_id, key_id)
        if document is None:
            raise NotFoundError("Aucune sollicitation pour cette demande.")
        return document

    # -- territories

    async def ladder(self, territory: str) -> dict[str, Any]:
        """Return the ladder of a territory; nobody is asked while it has no step."""
        found = await self._book.ladder(territory)
        if found is None:
            return {"territory": territory, "steps": [], "version": 0, "changed_at": None, "sentences": []}
        return _told(orjson.loads(found))

    async def change_ladder(
        self, territory: str, steps: Sequence[Mapping[str, Any]], why: str, version: int | None, once: Idempotency
    ) -> dict[str, Any]:
        """Replace a territory's ladder; who, when and why is written down.

        Raises:
            ConflictError: it has another version than the one that was read.
        """
        done = await self._book.change_ladder(self._clock.now(), territory, steps, why, version, once)
        ladder: dict[str, Any] = orjson.loads(done.document or "{}")
        if done.word == "conflict":
            raise ConflictError(
                f"Cette échelle a changé entre-temps (version {ladder['version']}) : relisez-la, puis recommencez."
            )
        return _told(ladder)

    async def ladder_changes(self, territory: str, before: int | None, limit: int) -> list[dict[str, Any]]:
        """Return a page of the changes of a territory's ladder, newest first."""
        return [orjson.loads(change) for change in await self._book.ladder_changes(territory, before, limit)]


def _told(ladder: dict[str, Any]) -> dict[str, Any]:
    return {**ladder, "sentences": steps_in_french(ladder["steps"])}


def _speaks(publisher: Publisher, consent: Mapping[str, Any]) -> bool:
    return publisher.may_publish(consent["professional"], consent["structure"])


def minute_of(text: str) -> int:
    """Return the minute of the day of a time as text: « 09:30 » is 570."""
    hours, _, minutes = text.partition(":")
    return 60 * int(hours) + int(minutes)


def clock_text(minute: int) -> str:
    """Return a minute of the day as text."""
    return f"{minute // 60:02}:{minute % 60:02}"


def _shown(consent: Mapping[str, Any]) -> dict[str, Any]:
    """Return a consent as it was put: hours as text."""
    hidden = ("from_minute", "to_minute")
    hours = {
        name: clock_text(consent[column]) for name, column in (("ask_from", "from_minute"), ("ask_to", "to_minute"))
    }
    return {**{name: value for name, value in consent.items() if name not in hidden}, **hours}
