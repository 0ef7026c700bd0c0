"""Calendars and manifests of places that agendas follow: read every ten minutes, taken over whole or not at all.

A calendar that cannot be had or read leaves what was taken over last; the agenda says since when and why.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import date, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

import orjson
import structlog

from sas_matcher.domain.agenda import FEED_DAYS, FeedError, Import
from sas_matcher.domain.errors import SasError, UnavailableError
from sas_matcher.faults import attempt, tell_fault
from sas_matcher.ports.practice import AgendaRecord
from sas_matcher.ports.world import Clock
from sas_matcher.services.agenda.agendas import FEED, Agendas
from sas_matcher.services.agenda.show import INTERNAL, AgendaShow, AgendaStore
from sas_matcher.services.publish import Publisher

_log = structlog.get_logger(__name__)
EVERY: Final = timedelta(minutes=10)  # more often would burden servers that give files to many
_LEASE: Final = timedelta(minutes=5)  # of whoever has taken one, and may have died
_LOOK_S: Final = 5.0  # between two looks for calendars that are due
_PAGE: Final = 4  # read side by side

Read = Callable[[Mapping[str, Any], str, date, int], Awaitable[Import]]
"""(feed of the document, zone, first local day, days) → what it says; raises FeedError when it cannot be had."""


class AgendaFeeds:
    """Keeps agendas at what their calendars say."""

    def __init__(self, store: AgendaStore, agendas: Agendas, showing: AgendaShow, clock: Clock, read: Read) -> None:
        self._store = store
        self._agendas = agendas
        self._showing = showing
        self._clock = clock
        self._read = read

    async def look(self) -> int:
        """Read the calendars that are due, a few; returns how many there were."""
        now = self._clock.now()
        due = await self._store.feeds_due(now, now + _LEASE, _PAGE)
        await asyncio.gather(*(self._one(source, name, now) for source, name in due))
        return len(due)

    async def _one(self, source: str, name: str, now: datetime) -> None:
        record = await self._store.agenda(source, name)
        feed = orjson.loads(record.document)["feed"] if record else None
        if record is None or feed is None:
            return
        failed = None
        try:
            await self._take(record, feed, now)
        except UnavailableError:
            raise
        except (FeedError, SasError) as wrong:
            failed = str(wrong)
            # what is wrong may quote the calendar, which is nobody else's
            _log.warning("agenda.feed_failed", source=source, agenda=name)
        except Exception as unforeseen:
            # strangers write it: one feed must not stop the process that reads all, and come back for ever
            failed = INTERNAL
            tell_fault("agenda.feed", unforeseen, source=source, agenda=name)
        await self._store.feed_told(record, feed, now, now + EVERY, failed)

    async def _take(self, record: AgendaRecord, feed: Mapping[str, Any], now: datetime) -> None:
        zone = self._showing.zone_of(orjson.loads(record.document))
        today = now.astimezone(ZoneInfo(zone)).date()
        read = await self._read(feed, zone, today, FEED_DAYS)
        # whom the key could speak for was asked when the agenda was written
        writer = Publisher(record.source, frozenset("*"), frozenset())
        await self._agendas.take_in(writer, record.changed_by, record.name, FEED, read, feed=feed)

    async def look_for_ever(self) -> None:
        """Keep all agendas at what their calendars say until cancelled; several may run, each takes its own."""
        while True:
            while await attempt("agenda.look", self.look) == _PAGE:
                pass
            await asyncio.sleep(_LOOK_S)
