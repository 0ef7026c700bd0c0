"""Wires the core: the matcher, and in the first of several what is done once (sweeps, agendas, ingest, questions)."""

import asyncio
import gc
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

from adapters.agenda.feeds import FeedReader
from adapters.agenda.fetch import Fetcher
from adapters.geo import Gazetteer
from adapters.postgres.agenda import PostgresAgendas
from adapters.postgres.asking import PostgresAsking
from adapters.postgres.crisis import PostgresCrisis
from adapters.redis import RedisBus
from adapters.redis.ingest import RedisIngest
from adapters.solving import ProcessSolver
from sas_matcher import metrics
from sas_matcher.bootstrap.national import national_sender
from sas_matcher.bootstrap.notices import notifying
from sas_matcher.bootstrap.stores import PATIENCE_S, Stores, open_stores, territories_of
from sas_matcher.config import Settings
from sas_matcher.matching.candidates import OpenRequest
from sas_matcher.matching.terms import UNITS_PER_MIN
from sas_matcher.replay.expected import ExpectedDays
from sas_matcher.replay.history import KnownDays, RecordedDays
from sas_matcher.services.agenda.agendas import Agendas
from sas_matcher.services.agenda.feed import AgendaFeeds
from sas_matcher.services.agenda.show import AgendaShow
from sas_matcher.services.asking import Asking
from sas_matcher.services.crisis.alerting import Alerting
from sas_matcher.services.crisis.crises import wider_scopes
from sas_matcher.services.keeper import Keeper
from sas_matcher.services.matcher.holding import History
from sas_matcher.services.matcher.match import Matcher
from sas_matcher.services.publish import Publishing

_GC: Final = gc.get_threshold()
LOADING_GC: Final = 100_000  # objects between two collections while places load: twenty pages of the ledger's rows


class Meter:
    """Port ``Watch``: the matcher's metrics."""

    def batch(self, size: int, arcs: int, seconds: float, method: str, gap: int) -> None:
        """Count a batch, and what is proven of it."""
        metrics.BATCH.observe(size)
        metrics.SOLVE.labels(method).observe(seconds)
        metrics.CERTIFICATES.labels("optimal" if gap == 0 else "gap" if gap > 0 else "fallback").inc()
        if gap > 0:
            metrics.GAP.observe(gap / UNITS_PER_MIN)

    def late(self, what: str) -> None:
        """Count what did not come in time."""
        metrics.LATE.labels(what).inc()

    def decided(self, request: OpenRequest, verdict: str, seconds: float) -> None:
        """Count a decision."""
        metrics.TIME_TO_DECISION.labels(str(request.tier), verdict).observe(seconds)

    def state(self, places: int, waiting: int) -> None:
        """Show what is in memory."""
        metrics.PLACES.set(places)
        metrics.WAITING.set(waiting)


def history_of(settings: Settings, geography: Gazetteer) -> History | None:
    """What forecasts learn from: recorded days, and for want of them what the demand model expects; None: nothing."""
    folder = Path(settings.history_dir) if settings.history_dir else None
    recorded = None if folder is None else RecordedDays(folder, geography.landmass_of)
    if not settings.expected_days:
        return recorded
    where = (geography.communes_of, geography.territories, geography.landmass_of)
    return ExpectedDays(recorded or KnownDays([], {}), *where, enough=settings.expected_days)


async def core(settings: Settings, holder: str) -> None:
    """Run the matcher until cancelled; in the first of several, the sweep, the housekeeping and the ingest too.

    Args:
        settings: as for every process.
        holder: the name its leases are under; whoever had the same name before must be dead.
    """
    geography = Gazetteer.load()
    here = territories_of(settings, geography)
    zone_of = cache(lambda code: ZoneInfo(geography.territories[code].timezone))

    @cache
    def landmass_of(insee: str) -> int:
        commune = geography.by_code(insee)
        return 0 if commune is None else commune.landmass

    async with (
        open_stores(settings, PATIENCE_S) as stores,
        national_sender(settings, stores.ledger, stores.clock, geography) as sending,
    ):
        reader, intake = RedisBus.connect(settings.redis_url), RedisBus.connect(settings.redis_url)
        solver = ProcessSolver()
        matcher = Matcher(
            ledger=stores.ledger,
            bus=reader,
            clock=stores.clock,
            ids=stores.ids,
            holder=holder,
            territories=here,
            zone_of=zone_of,
            landmass_of=landmass_of,
            solver=solver,
            watch=Meter(),
            journal=stores.relay,
            radius_of=lambda code: geography.territories[code].default_radius_km,
            history=history_of(settings, geography),
            share=(settings.share, settings.matchers),
        )
        keeper = Keeper(stores.ledger, stores.bus, stores.relay, stores.clock, stores.ids)
        publishing = Publishing(stores.ledger, stores.clock, geography)
        kept = PostgresAgendas(stores.ledger)
        showing = AgendaShow(kept, publishing, stores.clock, geography)
        agendas, reading = Agendas(kept, showing, stores.clock), FeedReader(Fetcher(settings.feed_hosts))
        feeds = AgendaFeeds(kept, agendas, showing, stores.clock, reading.read)
        telling = notifying(settings, stores.ledger, stores.bus, stores.clock, geography)
        asking = Asking(PostgresAsking(stores.ledger), stores.clock, stores.ids, landmass_of, zone_of)
        wider = wider_scopes(geography, here)
        alerting = Alerting(PostgresCrisis(stores.ledger), stores.clock, stores.ids, here, wider)
        gc.set_threshold(LOADING_GC)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(matcher.run())
                group.create_task(_once_loaded(matcher.ready, solver))
                if settings.share == 0:  # what is done once, whoever else matches
                    for work in (keeper.run(), showing.roll_for_ever(), feeds.look_for_ever()):
                        group.create_task(work)
                    group.create_task(_ingest(matcher.ready, RedisIngest(intake), stores, publishing))
                    for more in (asking.run(), telling.run(), alerting.run()):
                        group.create_task(more)
                    if sending is not None:
                        group.create_task(sending.run())
                if settings.editors:
                    from sas_matcher.bootstrap.editors import doubt_editors  # noqa: PLC0415 - brings httpx and FHIR

                    group.create_task(doubt_editors(settings, stores, matcher))
        finally:
            gc.set_threshold(*_GC)
            solver.close()
            await reader.close()
            await intake.close()


async def _ingest(ready: asyncio.Event, intake: RedisIngest, stores: Stores, publishing: Publishing) -> None:
    """Take in what practices say through Redis, once the matcher decides: its schemas take 0.3 s to import."""
    await ready.wait()
    module = await asyncio.to_thread(import_module, "sas_matcher.api.ingest")
    await module.Ingest(intake, stores.ledger, publishing, stores.clock).run()


async def _once_loaded(ready: asyncio.Event, solver: ProcessSolver) -> None:
    """Do what would have slowed the loading of all places: start the solver's process, collect garbage as usual.

    What was loaded stays: the collector need not walk through it ever again (it took a third of the loading time, and
    then a pause in the midst of the live path now and then).
    """
    await ready.wait()
    gc.freeze()
    gc.set_threshold(*_GC)
    await solver.warm()
