"""The one place that wires adapters to services: an API worker, and the core (matcher, relay, ingest)."""

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TextIO, cast
from zoneinfo import ZoneInfo

import structlog
import uvloop

from adapters.agenda.csv_lines import read_csv
from adapters.agenda.feeds import FeedReader
from adapters.agenda.fetch import Fetcher
from adapters.geo import Gazetteer
from adapters.geo.zones import zones
from adapters.postgres import PostgresLedger
from adapters.postgres.accounts import PostgresAccounts
from adapters.postgres.agenda import PostgresAgendas
from adapters.postgres.asking import PostgresAsking
from adapters.postgres.consent import PostgresConsent
from adapters.postgres.crisis import PostgresCrisis
from adapters.postgres.editors import PostgresEditors
from adapters.postgres.figures import PostgresFigures
from adapters.postgres.national import PostgresNational
from adapters.postgres.statement import PostgresStatement
from adapters.postgres.studies import PostgresStudies
from adapters.redis import RedisBus
from adapters.redis.ingest import RedisIngest, user_of
from adapters.solving import ProcessSolver
from adapters.system import SystemClock, SystemIds
from sas_matcher import metrics
from sas_matcher.api.auth import Gate, Rate, Tickets, hash_secret, token
from sas_matcher.api.ingest import Ingest
from sas_matcher.config import ConfigError, Settings
from sas_matcher.domain.errors import UnavailableError
from sas_matcher.linking import fhir_services, national_sender
from sas_matcher.matching.candidates import OpenRequest
from sas_matcher.matching.doubts import doubt_min
from sas_matcher.matching.terms import UNITS_PER_MIN
from sas_matcher.ports.ledger import KeyRecord
from sas_matcher.replay.history import RecordedDays
from sas_matcher.replay.recorder import Recorder, open_folder
from sas_matcher.services.accounts import Accounts
from sas_matcher.services.agenda import Agendas
from sas_matcher.services.agenda_feed import AgendaFeeds
from sas_matcher.services.agenda_show import AgendaShow
from sas_matcher.services.alerting import Alerting
from sas_matcher.services.asking import Asking
from sas_matcher.services.bookings import Bookings
from sas_matcher.services.consent import Consenting
from sas_matcher.services.crisis import Crises
from sas_matcher.services.crisis_review import Reviews
from sas_matcher.services.editors import FIGURES_SPAN, SOURCE_PREFIX
from sas_matcher.services.figures import Figures
from sas_matcher.services.keeper import Keeper
from sas_matcher.services.keys import KeyWish, binding_problem, new_key
from sas_matcher.services.limits import Limiting
from sas_matcher.services.match import Matcher
from sas_matcher.services.moments import Moments
from sas_matcher.services.overflow import EnSus
from sas_matcher.services.public_figures import PublicFigures
from sas_matcher.services.publish import Publishing
from sas_matcher.services.regulate import Regulating
from sas_matcher.services.relay import Relay
from sas_matcher.services.screens import Screens
from sas_matcher.services.statement import Statements
from sas_matcher.services.steer import Steering
from sas_matcher.services.studies import Studies, StudyRoom
from sas_matcher.telling import notices_of, notifying

if TYPE_CHECKING:
    from fastapi import FastAPI

    from sas_matcher.api.wire import Wire
    from sas_matcher.api.ws import Sockets

_PATIENCE_S: Final = 30.0  # a worker that starts while PostgreSQL recovers waits this long before it gives up
_AGAIN_S: Final = 0.1
_DOUBT_S: Final = 60.0  # a share over 30 days changes slowly; a market that was loaded afresh knows none until then
_OPEN_RATE, _OPEN_BURST = 20.0, 100.0  # calls of one address (or of the proxy before us) to what needs no account
_OPEN_REFUSAL: Final = "Trop d'appels depuis cette adresse ; réessayez dans un instant."
_NICE: Final = 15  # of studies: a machine that is busy answers calls first
_GC: Final = gc.get_threshold()
LOADING_GC: Final = 100_000  # objects between two collections while places load: twenty pages of the ledger's rows
_LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}


class Stores(NamedTuple):
    """What every process opens."""

    ledger: PostgresLedger
    bus: RedisBus
    relay: Relay
    clock: SystemClock
    ids: SystemIds


class _Stderr:
    """The standard error of the moment: loggers outlive a redirection of it."""

    def write(self, text: str) -> int:
        """Write a line."""
        return sys.stderr.write(text)

    def flush(self) -> None:
        """Write through."""
        sys.stderr.flush()


def set_up_logging(level: str) -> None:
    """Write one JSON line an event to stderr, those of libraries too. Nothing ever logs bodies, keys or coordinates."""
    # tracebacks without the values of variables, which hold what was sent
    frames = structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False))
    processors: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        frames,
    ]
    lines = structlog.processors.JSONRenderer()
    handler = logging.StreamHandler(cast(TextIO, _Stderr()))
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processor=lines, foreign_pre_chain=processors))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    structlog.configure(
        processors=[*processors, lines],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(cast(TextIO, _Stderr())),
        cache_logger_on_first_use=True,
    )


def _vital(work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
    """Run beside the rest; a process in which it failed serves nobody well: it ends, and another one starts."""

    def look(task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and (failure := task.exception()) is not None:
            structlog.get_logger(__name__).error("process.task_failed", exc_info=failure)
            os.kill(os.getpid(), signal.SIGTERM)

    task = asyncio.create_task(work)
    task.add_done_callback(look)
    return task


async def _open_ledger(settings: Settings, relay: Relay, patience: float) -> PostgresLedger:
    clock = asyncio.get_running_loop().time
    deadline = clock() + patience
    while True:
        try:
            return await PostgresLedger.connect(settings.database_url, relay, size=settings.pool)
        except UnavailableError:
            if clock() >= deadline:
                raise
            await asyncio.sleep(_AGAIN_S)


@asynccontextmanager
async def open_stores(settings: Settings, patience: float = 0.0) -> AsyncIterator[Stores]:
    """Open ledger, bus and relay; the relay publishes for as long as the context lasts.

    Args:
        settings: name the stores.
        patience: seconds to wait for a ledger that is away.

    Raises:
        ConfigError: an address is missing.
        UnavailableError: the ledger is away.
    """
    if not settings.database_url or not settings.redis_url:
        raise ConfigError("Il manque SAS_DATABASE_URL ou SAS_REDIS_URL.")
    clock, ids = SystemClock(), SystemIds()
    if clock.ahead:
        structlog.get_logger(__name__).warning("clock.rehearsal", ahead_s=clock.ahead.total_seconds())
    bus = RedisBus.connect(settings.redis_url)
    relay = Relay(bus, clock)
    ledger = await _open_ledger(settings, relay, patience)
    relay.ledger = ledger
    if await ledger.is_drill(settings.drill) is not settings.drill:
        await ledger.close()
        await bus.close()
        raise ConfigError(
            "SAS_DRILL : cette base est celle d'un exercice, elle ne sert à rien d'autre."
            if not settings.drill
            else "SAS_DRILL : cette base a des données réelles ; un exercice a la sienne."
        )
    publishing = _vital(relay.run())
    try:
        yield Stores(ledger, bus, relay, clock, ids)
    finally:
        publishing.cancel()
        await asyncio.gather(publishing, return_exceptions=True)
        await relay.forget_published()
        await ledger.close()
        await bus.close()


def territories_of(settings: Settings, geography: Gazetteer) -> list[str]:
    """Return the territories that this service decides for.

    Raises:
        ConfigError: one does not exist.
    """
    wanted = settings.territories or tuple(sorted(geography.territories))
    for code in wanted:
        if code not in geography.territories:
            raise ConfigError(f"SAS_TERRITORIES : « {code} » n'est pas un département.")
    return list(wanted)


def api(settings: Settings) -> "FastAPI":
    """Build the app of one API worker."""
    # the web framework takes 0.8 s to import, which a core that is started again need not wait for
    from adapters.fhir.booking import BookingEntry, Client  # noqa: PLC0415
    from adapters.fhir.server import FhirServer, error_response  # noqa: PLC0415
    from sas_matcher.api.admission import Admission, Bulk  # noqa: PLC0415
    from sas_matcher.api.app import create_app  # noqa: PLC0415
    from sas_matcher.api.hub import Hub  # noqa: PLC0415
    from sas_matcher.api.wire import Wire  # noqa: PLC0415
    from sas_matcher.api.ws import Sockets  # noqa: PLC0415
    from sas_matcher.console.workplaces import console_routes  # noqa: PLC0415
    from sas_matcher.polling import appointment_server, editors_view  # noqa: PLC0415
    from sas_matcher.replay.studies import RecordedShelf  # noqa: PLC0415

    geography = Gazetteer.load()
    ids = SystemIds()
    shelf = RecordedShelf(Path(settings.history_dir)) if settings.history_dir else None
    fhir = FhirServer(f"{settings.public_url}/fhir" if settings.public_url else "")
    appointments = appointment_server(settings, fhir)
    sign_in = Client(settings.psc_authorize, settings.psc_client, settings.psc_redirect)
    booking = BookingEntry(frozenset(settings.sso_origins), sign_in, ids.secret)

    @asynccontextmanager
    async def open_wire() -> "AsyncIterator[tuple[Wire, Sockets]]":
        async with open_stores(settings, _PATIENCE_S) as stores:
            # a bus of its own: the hub's blocking reads must not hold a connection that others wait for
            reader = RedisBus.connect(settings.redis_url)
            hub = Hub(reader, stores.ledger, stores.clock, drill=settings.drill)
            gate = Gate(stores.ledger, stores.clock, rate=settings.rate, burst=settings.burst)
            tickets = Tickets(stores.bus, gate, stores.clock, ids.secret)
            publishing = Publishing(stores.ledger, stores.clock, geography)
            agendas = PostgresAgendas(stores.ledger)
            counts, territories = PostgresFigures(stores.ledger), territories_of(settings, geography)
            figures = Figures(counts, stores.clock, geography)
            editors = editors_view(settings, stores.ledger, stores.bus, stores.clock)
            crises = Crises(PostgresCrisis(stores.ledger), stores.clock, stores.ids, geography)
            wire = Wire(
                ledger=stores.ledger,
                bus=stores.bus,
                clock=stores.clock,
                secrets=stores.ids,
                geography=geography,
                gate=gate,
                accounts=accounts_of(stores.ledger, stores.clock, stores.ids),
                tickets=tickets,
                kept=stores.bus,
                hub=hub,
                publishing=publishing,
                bookings=Bookings(stores.ledger, stores.clock),
                notices=notices_of(settings, stores.ledger, stores.clock, ids),
                read_csv=read_csv,
                agendas=Agendas(agendas, AgendaShow(agendas, publishing, stores.clock, geography), stores.clock),
                limiting=Limiting(stores.ledger, stores.clock, geography),
                regulating=Regulating(
                    stores.ledger, stores.clock, stores.ids, geography, PostgresConsent(stores.ledger)
                ),
                consenting=Consenting(PostgresConsent(stores.ledger), stores.clock, geography),
                steering=Steering(stores.ledger, stores.clock),
                statements=Statements(PostgresStatement(stores.ledger), stores.clock, geography),
                en_sus=EnSus(stores.ledger, PostgresAsking(stores.ledger), stores.clock, stores.ids, geography),
                territories=territories,
                admission=Admission(settings.at_once, settings.waiting_room),
                bulk=Bulk(),
                crises=crises,
                reviews=Reviews(PostgresCrisis(stores.ledger), stores.clock, geography),
                national=PostgresNational(stores.ledger),
                editors=editors,
                figures=figures,
                moments=Moments(figures, crises, editors, stores.clock, geography),
                public=PublicFigures(counts, stores.clock, geography, territories),
                open_door=Rate(stores.clock, rate=_OPEN_RATE, burst=_OPEN_BURST, refusal=_OPEN_REFUSAL),
                studies=Studies(PostgresStudies(stores.ledger), shelf, stores.clock, stores.ids),
                zones=cache(partial(zones, geography)),
                screens=Screens(counts, stores.clock, stores.ids, stores.ids.uuid),
            )
            booking.keep = stores.bus.keep_once
            fhir.services = fhir_services(settings, stores.ledger, stores.clock, stores.ids, gate, geography)
            appointments.store = PostgresEditors(stores.ledger)
            following = _vital(hub.run())
            try:
                async with asyncio.timeout(_PATIENCE_S):
                    await hub.started.wait()
                # the gazetteer and the app stay: walking through them again and again is a pause on the live path
                gc.freeze()
                yield wire, Sockets(hub, gate, tickets, stores.clock, settings.origins, settings.sockets)
            finally:
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)
                await reader.close()

    pages = console_routes(settings.public_url, SystemClock(), ids.uuid, settings.demo, settings.lrm_origins)
    others = [*booking.routes(), *appointments.routes(), *fhir.routes(), *pages]
    return create_app(open_wire, ids.uuid, others, {"/fhir": error_response}, drill=settings.drill)


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


async def _doubt_editors(settings: Settings, stores: Stores, matcher: Matcher) -> None:
    """Tell the matcher what places of editors are worth less for their phantoms, again and again until cancelled."""
    from sas_matcher.polling import editors_of  # noqa: PLC0415 - as in ``poll_editors``

    sources = [SOURCE_PREFIX + read.config.name for read in editors_of(settings)]
    store = PostgresEditors(stores.ledger)
    while True:
        try:
            now = stores.clock.now()
            figures = await store.figures(sources, now - FIGURES_SPAN, now)
            matcher.market.doubt({source: doubt_min(f.tried, f.phantoms) for source, f in figures.items()})
        except UnavailableError as away:
            structlog.get_logger(__name__).warning("editors.store_away", detail=away.detail)
        await asyncio.sleep(_DOUBT_S)


async def poll_editors(settings: Settings) -> None:
    """Poll the editors of agendas until cancelled; a process of its own, so that reading long answers delays nobody.

    Raises:
        ConfigError: the file of editors, a certificate or the directory cannot be used.
    """
    from sas_matcher.polling import editor_polling  # noqa: PLC0415 - httpx and FHIR, which no other process needs

    geography = Gazetteer.load()
    async with (
        open_stores(settings, _PATIENCE_S) as stores,
        editor_polling(settings, stores.ledger, stores.bus, stores.clock, geography) as polling,
    ):
        await polling.run()


async def studies(settings: Settings) -> None:
    """Work through the studies of recorded days until cancelled."""
    from sas_matcher.replay.studies import RecordedShelf  # noqa: PLC0415 - the replay, which the other processes do not need

    async with open_stores(settings, _PATIENCE_S) as stores:
        await StudyRoom(PostgresStudies(stores.ledger), RecordedShelf(Path(settings.history_dir)), stores.clock).run()


async def core(settings: Settings, holder: str) -> None:
    """Run the matcher until cancelled; in the first of several, the sweep, the housekeeping and the ingest too.

    Args:
        settings: as for every process.
        holder: the name its leases are under; whoever had the same name before must be dead.
    """
    geography = Gazetteer.load()

    @cache
    def landmass_of(insee: str) -> int:
        commune = geography.by_code(insee)
        return 0 if commune is None else commune.landmass

    async with (
        open_stores(settings, _PATIENCE_S) as stores,
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
            territories=territories_of(settings, geography),
            zone_of=cache(lambda code: ZoneInfo(geography.territories[code].timezone)),
            landmass_of=landmass_of,
            solver=solver,
            watch=Meter(),
            journal=stores.relay,
            radius_of=lambda code: geography.territories[code].default_radius_km,
            history=RecordedDays(Path(settings.history_dir), geography.landmass_of) if settings.history_dir else None,
            share=(settings.share, settings.matchers),
        )
        keeper = Keeper(stores.ledger, stores.bus, stores.relay, stores.clock, stores.ids)
        publishing = Publishing(stores.ledger, stores.clock, geography)
        kept = PostgresAgendas(stores.ledger)
        showing = AgendaShow(kept, publishing, stores.clock, geography)
        agendas, reading = Agendas(kept, showing, stores.clock), FeedReader(Fetcher(settings.feed_hosts))
        feeds = AgendaFeeds(kept, agendas, showing, stores.clock, reading.read)
        ingest = Ingest(RedisIngest(intake), stores.ledger, publishing, stores.clock)
        zone_of = cache(lambda code: ZoneInfo(geography.territories[code].timezone))
        telling = notifying(settings, stores.ledger, stores.bus, stores.clock, geography)
        asking = Asking(PostgresAsking(stores.ledger), stores.clock, stores.ids, landmass_of, zone_of)
        here = territories_of(settings, geography)
        alerting = Alerting(PostgresCrisis(stores.ledger), stores.clock, stores.ids, here)
        gc.set_threshold(LOADING_GC)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(matcher.run())
                group.create_task(_once_loaded(matcher.ready, solver))
                if settings.share == 0:  # what is done once, whoever else matches
                    for work in (keeper.run(), ingest.run(), showing.roll_for_ever(), feeds.look_for_ever()):
                        group.create_task(work)
                    for more in (asking.run(), telling.run(), alerting.run()):
                        group.create_task(more)
                    if sending is not None:
                        group.create_task(sending.run())
                if settings.editors:
                    group.create_task(_doubt_editors(settings, stores, matcher))
        finally:
            gc.set_threshold(*_GC)
            solver.close()
            await reader.close()
            await intake.close()


async def _once_loaded(ready: asyncio.Event, solver: ProcessSolver) -> None:
    """Do what would have slowed the loading of all places: start the solver's process, collect garbage as usual.

    What was loaded stays: the collector need not walk through it ever again (it took a third of the loading time, and
    then a pause in the midst of the live path now and then).
    """
    await ready.wait()
    gc.freeze()
    gc.set_threshold(*_GC)
    await solver.warm()


async def record(settings: Settings, folder: Path) -> None:
    """Record what a running service announces, until cancelled (see ``replay.recorder``).

    Raises:
        BlockingIOError: another recorder writes into the folder.
        OSError: the folder cannot be written, or a file in it was shortened.
        DayLogError: a file to be gone on with is damaged.
    """
    geography = Gazetteer.load()
    key, lock = open_folder(folder)
    try:
        async with open_stores(settings, _PATIENCE_S) as stores:
            reader = RedisBus.connect(settings.redis_url)
            recorder = Recorder(
                ledger=stores.ledger,
                bus=reader,
                clock=stores.clock,
                folder=folder,
                key=key,
                territories=territories_of(settings, geography),
                zone_of=cache(lambda code: ZoneInfo(geography.territories[code].timezone)),
                ahead=stores.clock.ahead.total_seconds(),
                drill=settings.drill,
            )
            try:
                await recorder.run()
            finally:
                await reader.close()
    finally:
        os.close(lock)


# -- processes ---------------------------------------------------------------------------------------------------


def run_api(settings: Settings, listening: socket.socket | None) -> None:
    """Serve the API in this process until a signal, on a socket that may come from the parent."""
    import uvicorn  # noqa: PLC0415 - see ``api``

    config = uvicorn.Config(
        api(settings),
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http="httptools",
        ws="websockets-sansio",
        ws_max_size=64 * 1024,
        ws_ping_interval=None,
        # no compression: it costs memory for each socket and invites CRIME-like attacks (OWASP)
        ws_per_message_deflate=False,
        lifespan="on",
        access_log=False,
        log_config=None,
        log_level="warning",
        server_header=False,
        # who connects is who connects: what a proxy says of its clients is read by ``adapters.fhir.access`` alone
        proxy_headers=False,
        backlog=4096,
        timeout_graceful_shutdown=3,
    )
    uvicorn.Server(config).run(sockets=[listening] if listening is not None else None)


def run_core(settings: Settings, holder: str) -> None:
    """Run the core in this process until a signal (see ``core``)."""
    _run_until_signal(core(settings, holder), "core.stopped")


def run_editors(settings: Settings) -> None:
    """Poll the editors in this process until a signal (see ``poll_editors``)."""
    _run_until_signal(poll_editors(settings), "editors.stopped")


def run_studies(settings: Settings) -> None:
    """Work through studies in this process until a signal, giving way to all others (see ``StudyRoom``)."""
    os.nice(_NICE)
    _run_until_signal(studies(settings), "studies.stopped")


def _run_until_signal(work: Coroutine[Any, Any, None], stopped: str) -> None:
    async def until_signal() -> None:
        task = asyncio.current_task()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, lambda: task.cancel() if task is not None else None)
        await work

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(until_signal())
    except asyncio.CancelledError:
        structlog.get_logger(__name__).info(stopped)


# -- keys --------------------------------------------------------------------------------------------------------


def checked(wish: KeyWish, geography: Gazetteer) -> KeyWish:
    """Check that a key is bound as its scope demands.

    Raises:
        ConfigError: in French, what is missing.
    """
    problem = binding_problem(wish, geography.territories)
    if problem is not None:
        raise ConfigError(problem)
    return wish


async def issue_key(stores: Stores, wish: KeyWish) -> tuple[KeyRecord, str]:
    """Store a new key; returns its record and the key itself, which is shown this once."""
    checked(wish, Gazetteer.load())
    key_id, secret = stores.ids.key_id(), stores.ids.secret()
    record = new_key(wish, key_id, hash_secret(secret))
    await stores.ledger.add_key(record, stores.clock.now())
    return record, token(key_id, secret)


async def allow_ingest(stores: Stores, key_id: str) -> tuple[str, str]:
    """Let a key publish through Redis; returns its Redis user and password, which is shown this once.

    Raises:
        ConfigError: there is no such key in force.
    """
    password = stores.ids.secret()
    if not await stores.ledger.allow_ingest(key_id, hash_secret(password).hex()):
        raise ConfigError(f"La clé {key_id} n'existe pas ou est révoquée.")
    return user_of(key_id), password


# -- accounts ----------------------------------------------------------------------------------------------------


def accounts_of(ledger: PostgresLedger, clock: SystemClock, ids: SystemIds) -> Accounts:
    """Return the accounts of the pages."""
    return Accounts(PostgresAccounts(ledger), clock, ids)


async def add_account(stores: Stores, login: str, password: str, wish: KeyWish) -> None:
    """Create an account with the rights of a new key.

    Raises:
        ConfigError: the key is not bound as its role demands.
        InvalidInputError, ConflictError: see ``Accounts.add``.
    """
    checked(wish, Gazetteer.load())
    await accounts_of(stores.ledger, stores.clock, stores.ids).add(login, password, wish)
