"""Agendas: a practice says its week once, changes it, adds places, stops everything; ``agenda_show`` publishes it."""

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, time, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

import orjson

from sas_matcher.domain.agenda import QUICK, SHOWN, Import, Piece
from sas_matcher.domain.errors import ConflictError, IdempotencyError, InvalidInputError, NotFoundError
from sas_matcher.ports.practice import AgendaRecord
from sas_matcher.ports.world import Clock
from sas_matcher.services.agenda.show import AgendaShow, AgendaStore
from sas_matcher.services.agenda.week import (
    MOST_QUICK,
    NO_EXTRAS,
    pieces_of,
    pruned,
    quick_hours,
    text_of,
    week_of,
    with_single,
)
from sas_matcher.services.publish import Publisher

FEED: Final = "feed"  # origin of what an agenda follows
MOST_AGENDAS: Final = 500  # of one source: a gestionnaire with forty centres and a dozen professionals each
_TRIES: Final = 4  # writers of one agenda at the same time
_AT_ONCE: Final = 4  # agendas that one stop changes side by side: a third of the ledger's connections
_SOON: Final = timedelta(minutes=5)  # any time that may be published

Change = Callable[[dict[str, Any] | None], dict[str, Any]]


class Agendas:
    """The practice's use cases."""

    def __init__(self, store: AgendaStore, showing: AgendaShow, clock: Clock) -> None:
        self._store = store
        self._showing = showing
        self._clock = clock

    # -- what is kept ----------------------------------------------------------------------------------------------

    async def put(self, publisher: Publisher, key_id: str, name: str, wish: Mapping[str, Any]) -> dict[str, Any]:
        """Set or change an agenda and publish it; what the quick actions added stays.

        Args:
            publisher: who speaks.
            key_id: their key, for the trace.
            name: the practice's own name of the agenda.
            wish: plain mapping in the shape of the API's agenda; ``version``, if not None, is the one that was read.

        Returns:
            The agenda's document, with ``report``: what that changed.

        Raises:
            InvalidInputError: names the field; nothing was changed.
            NotFoundError: an agenda of that name is of people that this key may not speak for.
            ConflictError: another version is in force, or the source has too many agendas.
        """
        document = {field: value for field, value in wish.items() if field != "version"}
        self.preview(publisher, name, document)

        def change(known: dict[str, Any] | None) -> dict[str, Any]:
            extras = {part: (known or NO_EXTRAS)[part] for part in NO_EXTRAS}
            if document["feed"] is None and extras["imported"]["origin"] == FEED:
                extras["imported"] = NO_EXTRAS["imported"]  # it follows its calendar no longer
            return {**document, **extras}

        return await self._change(publisher, key_id, name, change, create=True, version=wish["version"])

    def preview(self, publisher: Publisher, name: str, document: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the slots that an agenda would have within the days that are shown; nothing is written.

        Raises:
            InvalidInputError: names the field.
        """
        now = self._clock.now()
        document = {**NO_EXTRAS, **document}
        self._owner(publisher, document)
        zone = self._showing.zone_of(document)
        pieces = pieces_of(week_of(document, zone), now)
        # the first piece stands for all where there is none: place and person are checked even of an empty week
        probe = [Piece("", "probe", now + _SOON, now + 2 * _SOON, 1)] if not pieces else []
        self._showing.rows(publisher, name, document, [*pieces, *probe], now)
        tz = ZoneInfo(zone)
        return [
            {
                "hours": piece.hours,
                "start": piece.starts.astimezone(tz).isoformat(),
                "end": piece.ends.astimezone(tz).isoformat(),
                "capacity": piece.capacity,
            }
            for piece in pieces
        ]

    async def all(self, publisher: Publisher) -> list[dict[str, Any]]:
        """Return the agendas that this key may change, by name."""
        found = await self._store.agendas(publisher.source, publisher.owners, MOST_AGENDAS)
        return [self._seen(record) for record in found]

    async def one(self, publisher: Publisher, name: str) -> dict[str, Any]:
        """Return an agenda.

        Raises:
            NotFoundError: there is none of that name that this key may change.
        """
        return self._seen(await self._known(publisher, name))

    async def remove(self, publisher: Publisher, key_id: str, name: str) -> dict[str, Any]:
        """Take an agenda back: its free places go, who has one keeps it.

        Raises:
            NotFoundError: there is none of that name that this key may change.
            ConflictError: somebody else has put something into it meanwhile.
        """

        def empty(known: dict[str, Any] | None) -> dict[str, Any]:
            return {**(known or {}), "hours": [], "closures": [], "feed": None, **NO_EXTRAS}

        done = await self._change(publisher, key_id, name, empty)
        left = await self._known(publisher, name)
        document = orjson.loads(left.document)
        if document != empty(document):
            raise ConflictError("L'agenda vient d'être changé par un autre ; relisez-le.")
        await self._store.forget(left)
        return {"removed": name, "report": done["report"]}

    # -- what comes from a file ------------------------------------------------------------------------------------

    async def take_in(
        self,
        publisher: Publisher,
        key_id: str,
        name: str,
        origin: str,
        read: Import,
        *,
        feed: Mapping[str, Any] | None = None,
        preview: bool = False,
    ) -> dict[str, Any]:
        """Put what a file says in the place of what an earlier one said; the rest of the agenda stays.

        Args:
            publisher: who speaks.
            key_id: their key, for the trace.
            name: of the agenda.
            origin: ``csv``…
            read: the file, as its reader understood it.
            feed: where it was read, for what an agenda follows.
            preview: say what would come of it, with all that is wrong, and write nothing.

        Returns:
            For a preview ``lines``, ``errors`` and ``slots`` (of the days that are shown); else the agenda's document.

        Raises:
            InvalidInputError: names line, column and fix; nothing was changed.
            NotFoundError: there is no such agenda.
            ConflictError: it follows something else than ``feed``.
        """
        errors = [
            {"field": f"ligne {one.line}{one.column and f', colonne {one.column}'}", **one._asdict()}
            for one in read.errors
        ]
        if preview:
            record = await self._known(publisher, name)
            document = {**orjson.loads(record.document), "imported": _imported(origin, None, read)}
            slots = self.preview(publisher, name, document)
            return {"lines": read.lines, "errors": errors, "slots": slots}
        if errors:
            more = f" (et {len(errors) - 1} autres)" if len(errors) > 1 else ""
            raise InvalidInputError(
                f"Rien n'a changé. {errors[0]['field']} : {errors[0]['message']}{more}.", errors=errors
            )
        now = self._clock.now()

        def change(known: dict[str, Any] | None) -> dict[str, Any]:
            document = known or {}
            before = document["imported"]
            if document["feed"] != feed:  # while the one was read, the practice may have named another
                raise ConflictError("Cet agenda suit un calendrier (feed) ; ôtez-le, ou faites un autre agenda.")
            imported = _imported(origin, before["at"], read)
            return {**document, "imported": before if imported == before else _imported(origin, now.isoformat(), read)}

        return await self._change(publisher, key_id, name, change)

    # -- quick actions ---------------------------------------------------------------------------------------------

    async def add_places(
        self, publisher: Publisher, key_id: str, name: str, wish: Mapping[str, Any], once: str
    ) -> dict[str, Any]:
        """Add so many places in a range of one day: a plage, or one individual time.

        Args:
            publisher: who speaks.
            key_id: their key, for the trace.
            name: of the agenda.
            wish: plain mapping in the shape of the API's places.
            once: Idempotency-Key; the same again within 48 h adds nothing.

        Raises:
            InvalidInputError: the range is over, or wrong.
            NotFoundError: there is no such agenda.
            IdempotencyError: the key came before with other places.
        """
        now = self._clock.now()
        quick_id = QUICK + hashlib.sha256(f"{key_id} {once}".encode()).hexdigest()[:16]

        def change(known: dict[str, Any] | None) -> dict[str, Any]:
            document = pruned(known or {}, self._local(known or {}, now))
            asked = {**wish, "id": quick_id}
            for hours in document["quick"]["hours"]:
                if hours["id"] == quick_id:
                    if hours["asked"] != asked:
                        raise IdempotencyError
                    return document
            if len(document["quick"]["hours"]) >= MOST_QUICK:
                raise ConflictError(f"{MOST_QUICK} ajouts au plus à la fois ; passez par les plages de l'agenda.")
            document["quick"]["hours"].append(
                {**quick_hours(quick_id, wish, self._local(document, now)), "asked": asked}
            )
            return document

        return await self._change(publisher, key_id, name, change)

    async def remove_places(self, publisher: Publisher, key_id: str, name: str, quick_id: str) -> dict[str, Any]:
        """Take quick places back: free ones go, who has one keeps it.

        Raises:
            NotFoundError: no such agenda, or no such places.
        """

        def change(known: dict[str, Any] | None) -> dict[str, Any]:
            document = dict(known or {})
            left = [hours for hours in document["quick"]["hours"] if hours["id"] != quick_id]
            if len(left) == len(document["quick"]["hours"]):
                raise NotFoundError("Aucun ajout de ce nom dans cet agenda.")
            document["quick"] = {**document["quick"], "hours": left}
            return document

        return await self._change(publisher, key_id, name, change)

    async def stop(
        self, publisher: Publisher, key_id: str, names: Sequence[str] | None, until: datetime | None, booked: str
    ) -> list[dict[str, Any]]:
        """Stop everything now, until an instant (None: midnight where it is); again does no harm.

        Args:
            publisher: who speaks.
            key_id: their key, for the trace.
            names: of agendas; None: all that the key may change.
            until: end of the stop.
            booked: ``keep`` those who have a place, or ``refuse`` them, so that they get another.

        Raises:
            InvalidInputError: the end is over, or more than a week away.
            NotFoundError: one of the names.
        """
        now = self._clock.now()
        if until is not None and not now < until <= now + SHOWN:
            days = SHOWN.days
            raise InvalidInputError.of("until", f"entre maintenant et {days} jours ; au-delà, ajoutez une fermeture")

        def change(known: dict[str, Any] | None) -> dict[str, Any]:
            here = self._local(known or {}, now)
            document = pruned(known or {}, here)
            midnight = datetime.combine(here.date() + timedelta(days=1), time())
            end = midnight if until is None else self._local(document, until + timedelta(seconds=59))
            stop = {"from": text_of(here), "to": text_of(end), "booked": booked}
            stops = document["quick"]["stops"]
            if not any(
                one["from"] <= stop["from"] and one["to"] >= stop["to"] and one["booked"] in (booked, "refuse")
                for one in stops
            ):
                document["quick"]["stops"] = [*stops[-MOST_QUICK + 1 :], stop]
            return document

        return await self._each(publisher, key_id, names, change)

    async def go_on(self, publisher: Publisher, key_id: str, names: Sequence[str] | None) -> list[dict[str, Any]]:
        """End the stops of some agendas (None: of all); their places are back at once.

        Raises:
            NotFoundError: one of the names.
        """

        def change(known: dict[str, Any] | None) -> dict[str, Any]:
            document = known or {}
            single = [one for one in document["quick"]["stops"] if one.get("single")]
            return {**document, "quick": {**document["quick"], "stops": single}}

        return await self._each(publisher, key_id, names, change)

    async def take_off(
        self, publisher: Publisher, key_id: str, name: str, spans: Sequence[tuple[datetime, datetime]], *, back: bool
    ) -> dict[str, Any]:
        """Take single slots of an agenda off, or put them ``back``; who has a place keeps it, ``go_on`` leaves them.

        Args:
            publisher: who speaks.
            key_id: their key, for the trace.
            name: of the agenda.
            spans: when they start and end; all that the agenda publishes in that time goes.
            back: put back what was taken off so, or with the refusal of a patient.

        Raises:
            NotFoundError: there is no such agenda.
            ConflictError: too many at a time.
        """
        now = self._clock.now()

        def change(known: dict[str, Any] | None) -> dict[str, Any]:
            document = pruned(known or {}, self._local(known or {}, now))
            return with_single(document, [(self._local(document, a), self._local(document, b)) for a, b in spans], back)

        if back:
            await self._known(publisher, name)  # whose it is comes before any change
            await self._store.put_back(publisher.source, name, spans)
        return await self._change(publisher, key_id, name, change)

    async def _each(
        self,
        publisher: Publisher,
        key_id: str,
        names: Sequence[str] | None,
        change: Change,
    ) -> list[dict[str, Any]]:
        if names is None:
            found = await self._store.agendas(publisher.source, publisher.owners, MOST_AGENDAS)
        else:  # all are looked for before any is changed
            found = [await self._known(publisher, name) for name in dict.fromkeys(names)]
        done: list[dict[str, Any]] = []
        for at in range(0, len(found), _AT_ONCE):
            some = (self._change(publisher, key_id, record.name, change) for record in found[at : at + _AT_ONCE])
            done += await asyncio.gather(*some)
        return done

    # -- writing and publishing ------------------------------------------------------------------------------------

    async def _change(
        self,
        publisher: Publisher,
        key_id: str,
        name: str,
        change: Change,
        *,
        create: bool = False,
        version: int | None = None,
    ) -> dict[str, Any]:
        """Change an agenda as it stands and publish it; again when somebody else changed it meanwhile."""
        for _ in range(_TRIES):
            record = await self._store.agenda(publisher.source, name)
            if record is None and not create:
                raise NotFoundError("Agenda introuvable pour cette clé.")
            if record is not None:
                self._may(publisher, record)
            elif len(await self._store.agendas(publisher.source, None, MOST_AGENDAS)) >= MOST_AGENDAS:
                raise ConflictError(f"{MOST_AGENDAS} agendas au plus pour une source ; supprimez-en un.")
            stands = record.version if record else 0
            if version is not None and version != stands:
                raise ConflictError(f"La version en vigueur est {stands}, pas {version} ; relisez l'agenda.")
            known = orjson.loads(record.document) if record else None
            document = change(orjson.loads(record.document) if record else None)
            now = self._clock.now()
            if document != known:
                pieces_of(week_of(document, self._showing.zone_of(document)), now)
                owner = self._owner(publisher, document)
                if not await self._store.put(now, key_id, publisher.source, name, owner, document, stands):
                    continue
            record = await self._known(publisher, name)
            report = await self._showing.show(record)
            if report is not None:
                return {**self._seen(await self._known(publisher, name)), "report": report}
        raise ConflictError("L'agenda change sans cesse ; réessayez.")

    # -- reading ---------------------------------------------------------------------------------------------------

    async def _known(self, publisher: Publisher, name: str) -> AgendaRecord:
        record = await self._store.agenda(publisher.source, name)
        if record is None:
            raise NotFoundError("Agenda introuvable pour cette clé.")
        self._may(publisher, record)
        return record

    def _may(self, publisher: Publisher, record: AgendaRecord) -> None:
        if not publisher.may_publish(record.professional, record.structure):
            raise NotFoundError("Agenda introuvable pour cette clé.")

    def _owner(self, publisher: Publisher, document: Mapping[str, Any]) -> tuple[str | None, str | None]:
        professional = document["professional"] and document["professional"]["rpps"]
        structure = document["structure"] and document["structure"]["finess"]
        if professional is None and structure is None:
            raise InvalidInputError.of("professional", "indiquez un professionnel, une structure, ou les deux")
        if not publisher.may_publish(professional, structure):
            message = "cette clé ne peut publier ni pour ce professionnel ni pour cette structure"
            raise InvalidInputError.of("professional", message)
        return professional, structure

    def _local(self, document: Mapping[str, Any], now: datetime) -> datetime:
        """Return the wall-clock time of a place, to the minute."""
        return now.astimezone(ZoneInfo(self._showing.zone_of(document))).replace(tzinfo=None, second=0, microsecond=0)

    def _seen(self, record: AgendaRecord) -> dict[str, Any]:
        document = orjson.loads(record.document)
        imported = document["imported"]
        shown = {
            "version": record.shown_version,
            "until": record.shown_until,
            "at": record.shown_at,
            "report": record.report and orjson.loads(record.report),
            "failed": record.failed,
        }
        return {
            "name": record.name,
            "version": record.version,
            "changed_at": record.changed_at,
            "zone": self._showing.zone_of(document),
            **document,
            "imported": {**imported, **{part: len(imported[part]) for part in ("hours", "closures")}},
            "feed_state": {"good_at": record.feed_good_at, "failed": record.feed_failed},
            "shown": shown,
        }


def _imported(origin: str, at: str | None, read: Import) -> dict[str, Any]:
    return {"origin": origin, "at": at, "hours": read.hours, "closures": list(read.closures)}
