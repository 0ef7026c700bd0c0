"""What agendas show: the next days of each, cut into slots and published, rolling.

All of it goes through ``Publishing``'s checks and one transaction that also takes back what is shown no longer. A
version that cannot be published leaves what is published as it is.
"""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

import orjson
import structlog

from sas_matcher.domain.agenda import SHOWN, Piece
from sas_matcher.domain.errors import InvalidInputError, UnavailableError
from sas_matcher.faults import attempt, tell_fault
from sas_matcher.ports.ledger import TakenPlage
from sas_matcher.ports.practice import AgendaRecord
from sas_matcher.ports.world import Clock, Geography
from sas_matcher.recurrence import closed
from sas_matcher.services.agenda.week import (
    all_closures,
    all_hours,
    closure_of,
    pieces_of,
    slot_name,
    week_of,
    without_taken,
)
from sas_matcher.services.publish import Publisher, Publishing

_log = structlog.get_logger(__name__)
ROLL: Final = timedelta(hours=1)  # how much of the days that are shown may be missing at their end
AGAIN: Final = timedelta(minutes=15)  # a version that could not be published
INTERNAL: Final = "Erreur interne : elle est consignée, et l'agenda est repris plus tard."
_ROLL_S: Final = 5.0  # between two looks for agendas whose days must roll on
_PAGE: Final = 50  # agendas taken at a time


class AgendaStore(Protocol):
    """Where agendas are kept; every method is one transaction."""

    async def agenda(self, source: str, name: str) -> AgendaRecord | None:
        """Return an agenda."""
        ...

    async def agendas(
        self, source: str, owners: tuple[Sequence[str], Sequence[str]] | None, limit: int
    ) -> list[AgendaRecord]:
        """Return the agendas of a source, by name; owners limit to (professionals, structures)."""
        ...

    async def put(
        self,
        now: datetime,
        key_id: str,
        source: str,
        name: str,
        owner: tuple[str | None, str | None],
        document: Mapping[str, Any],
        version: int,
    ) -> bool:
        """Write an agenda whose version is the one given (0: none yet); False when it is another."""
        ...

    async def show(
        self,
        now: datetime,
        record: AgendaRecord,
        until: datetime,
        rows: Sequence[Mapping[str, Any]],
        away: Sequence[tuple[datetime, datetime]],
    ) -> dict[str, int] | None:
        """Publish a version and take back what it shows no longer; None when another version is in force.

        Bookings on what is taken back stay, but for those that lie in ``away``: their requests wait again.
        """
        ...

    async def put_back(self, source: str, name: str, spans: Sequence[tuple[datetime, datetime]]) -> None:
        """Let the hours of an agenda within some spans be offered again in which its practice refused a patient."""
        ...

    async def due(self, now: datetime, until: datetime, limit: int) -> list[tuple[str, str]]:
        """Return (source, name) of agendas that are not published as they stand, or not until an instant."""
        ...

    async def failed(self, record: AgendaRecord, why: str, again_at: datetime) -> None:
        """Write why a version could not be published, and when to try again."""
        ...

    async def forget(self, record: AgendaRecord) -> None:
        """Drop an agenda of which nothing is published any more, if it is still the version given."""
        ...

    async def taken(self, record: AgendaRecord, now: datetime) -> list[TakenPlage]:
        """Return the coming plages of an agenda that have patients, and how many."""
        ...

    async def feeds_due(self, now: datetime, until: datetime, limit: int) -> list[tuple[str, str]]:
        """Take (source, name) of agendas whose calendar is to be read; others leave them alone until an instant."""
        ...

    async def feed_told(
        self, record: AgendaRecord, feed: Mapping[str, Any], now: datetime, next_at: datetime, failed: str | None
    ) -> None:
        """Write what became of reading a calendar, unless the agenda subscribes to another one by now."""
        ...


class AgendaShow:
    """Publishes agendas; ``roll_for_ever`` keeps all of them published."""

    def __init__(self, store: AgendaStore, publishing: Publishing, clock: Clock, geography: Geography) -> None:
        self._store = store
        self._publishing = publishing
        self._clock = clock
        self._geography = geography

    def zone_of(self, document: Mapping[str, Any]) -> str:
        """Return the zone of the place: whoever says half past eight means it there."""
        insee = document["location"]["insee"]
        commune = self._geography.by_code(insee)
        if commune is None:
            message = f"la commune {insee} est inconnue du code officiel géographique"
            raise InvalidInputError.of("location.insee", message)
        return self._geography.territories[commune.territory].timezone

    async def show(self, record: AgendaRecord) -> dict[str, int] | None:
        """Publish an agenda as it stands; None when it was changed meanwhile.

        Raises:
            InvalidInputError: it cannot be published; nothing was changed of what is.
        """
        now = self._clock.now()
        document = orjson.loads(record.document)
        zone = self.zone_of(document)
        week = week_of(document, zone)
        pieces = without_taken(pieces_of(week, now), record.name, await self._store.taken(record, now))
        # whom the key could speak for was asked when the agenda was written
        writer = Publisher(record.source, frozenset("*"), frozenset())
        rows = self.rows(writer, record.name, document, pieces, now)
        away = [closed(closure_of(one), zone) for one in all_closures(document) if one["booked"] == "refuse"]
        return await self._store.show(now, record, now + SHOWN, rows, away)

    async def roll(self) -> int:
        """Publish the agendas that are due, a page of them; returns how many there were."""
        now = self._clock.now()
        due = await self._store.due(now, now + SHOWN - ROLL, _PAGE)
        for source, name in due:
            record = await self._store.agenda(source, name)
            if record is None:
                continue
            try:
                await self.show(record)
            except InvalidInputError as wrong:
                _log.warning("agenda.not_published", source=source, agenda=name, detail=wrong.detail)
                await self._store.failed(record, wrong.detail, now + AGAIN)
            except UnavailableError:
                raise
            except Exception as unforeseen:
                # one agenda must not keep those after it from being published, and come back at once for ever
                tell_fault("agenda.show", unforeseen, source=source, agenda=name)
                await self._store.failed(record, INTERNAL, now + AGAIN)
        return len(due)

    async def roll_for_ever(self) -> None:
        """Keep all agendas published until cancelled; several may run, each step being safe to repeat."""
        while True:
            while await attempt("agenda.roll", self.roll) == _PAGE:
                pass
            await asyncio.sleep(_ROLL_S)

    def rows(
        self, publisher: Publisher, name: str, document: Mapping[str, Any], pieces: Sequence[Piece], now: datetime
    ) -> list[dict[str, Any]]:
        """Return pieces as the ledger's rows, checked as whatever is published.

        Raises:
            InvalidInputError: names fields of the agenda, not of the many slots.
        """
        hours = {one["id"]: one for one in all_hours(document)}
        common = {
            field: document[field] for field in ("professional", "structure", "source_kind", "profession", "specialty")
        }
        slots = []
        for piece in pieces:
            own = hours.get(piece.hours, {})
            offers, visibility = own.get("offers"), own.get("visibility")
            acceptance = own.get("acceptance") or document["acceptance"]
            back = own.get("hand_back_min")
            told = document["location"]["label"], own.get("info") or document["info"]
            slots.append(
                {
                    **common,
                    # what regulators see of the place; as long as a label may be
                    "location": {**document["location"], "label": " · ".join(filter(None, told))[:160] or None},
                    "external_id": slot_name(name, piece),
                    "start": piece.starts,
                    "end": piece.ends,
                    "capacity": piece.capacity,
                    "mode": own.get("mode", "cabinet"),
                    "booking_kind": own.get("booking_kind", "routine"),
                    "offers": document["offers"] if offers is None else offers,
                    "visibility": visibility or document["visibility"],
                    "acceptance": None if acceptance == "none" else acceptance,
                    "accept_min": own.get("accept_min") or document["accept_min"],
                    "hand_back_min": document["hand_back_min"] if back is None else back,
                }
            )
        try:
            return self._publishing.checked(publisher, slots, now)
        except InvalidInputError as wrong:
            errors: dict[tuple[str, str], dict[str, str]] = {}
            for error in wrong.extra["errors"]:
                _, number, field = error["field"].split(".", 2)
                place = f"hours.{pieces[int(number)].hours}" if field in ("start", "end") else field
                errors.setdefault((place, error["message"]), {"field": place, "message": error["message"]})
            first = next(iter(errors.values()))
            raise InvalidInputError(f"{first['field']} : {first['message']}.", errors=list(errors.values())) from wrong
