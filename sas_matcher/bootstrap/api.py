"""Wires an API worker: its services, routes, pages and the hub that feeds its sockets."""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import cache, partial
from pathlib import Path
from typing import Final, TypeVar

import structlog
from fastapi import FastAPI
from starlette.requests import Request

from adapters.agenda.csv_lines import read_csv
from adapters.fhir.booking import BookingEntry, Client
from adapters.fhir.server import FhirServer, error_response
from adapters.geo import Gazetteer
from adapters.geo.zones import zones
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
from adapters.system import SystemClock, SystemIds
from sas_matcher.api.admission import Admission, Bulk
from sas_matcher.api.app import create_app
from sas_matcher.api.auth import Gate, Rate, Tickets
from sas_matcher.api.hub import Hub
from sas_matcher.api.wire import Wire, peer_of
from sas_matcher.api.ws import Sockets
from sas_matcher.bootstrap.access import accounts_of
from sas_matcher.bootstrap.editors import appointment_server, editors_view
from sas_matcher.bootstrap.national import fhir_services
from sas_matcher.bootstrap.notices import notices_of
from sas_matcher.bootstrap.stores import PATIENCE_S, open_stores, territories_of, vital
from sas_matcher.config import ConfigError, Settings
from sas_matcher.console.workplaces import console_routes
from sas_matcher.domain.errors import SasError
from sas_matcher.faults import tell_fault
from sas_matcher.replay.studies import RecordedShelf
from sas_matcher.services.agenda.agendas import Agendas
from sas_matcher.services.agenda.show import AgendaShow
from sas_matcher.services.arrivals import Arrivals
from sas_matcher.services.bookings import Bookings
from sas_matcher.services.consent import Consenting
from sas_matcher.services.crisis.crises import Crises
from sas_matcher.services.crisis.review import Reviews
from sas_matcher.services.figures.figures import Figures
from sas_matcher.services.figures.moments import Moments
from sas_matcher.services.figures.public import PublicFigures
from sas_matcher.services.limits import Limiting
from sas_matcher.services.overflow import EnSus
from sas_matcher.services.publish import Publishing
from sas_matcher.services.regulate import Regulating
from sas_matcher.services.screens import Screens
from sas_matcher.services.settings import Steering
from sas_matcher.services.statement import Statements
from sas_matcher.services.studies import Studies

_OPEN_RATE, _OPEN_BURST = 20.0, 100.0  # calls of one address to what needs no account (see ``peer_of``)
# openings of one address, of which each is kept for a quarter of an hour: no centre takes a call a second (guess), and
# there are 930 at the most in each worker's count
_KEPT_RATE, _KEPT_BURST = 1.0, 30.0
_BUS_PATIENCE_S: Final = 2.0  # what a caller waits for a decision (``WAIT_S``): calls wait while a worker starts
_OPEN_REFUSAL: Final = "Trop d'appels depuis cette adresse ; réessayez dans un instant."

_log = structlog.get_logger(__name__)
T = TypeVar("T")


@asynccontextmanager
async def _saying_why(open_wire: Callable[[], AbstractAsyncContextManager[T]]) -> AsyncIterator[T]:
    """Log why a worker does not start: what the server tells of it has the error's words, and is left out."""
    try:
        async with open_wire() as wired:
            yield wired
    except (ConfigError, SasError) as known:
        _log.error("api.failed", detail=str(known))  # in our own words, for whoever operates it
        raise
    except Exception as failure:
        tell_fault("api", failure)
        raise


def api(settings: Settings) -> FastAPI:
    """Build the app of one API worker."""
    geography = Gazetteer.load()
    ids = SystemIds()
    shelf = RecordedShelf(Path(settings.history_dir)) if settings.history_dir else None
    fhir = FhirServer(f"{settings.public_url}/fhir" if settings.public_url else "")
    appointments = appointment_server(settings, fhir)
    sign_in = Client(settings.psc_authorize, settings.psc_client, settings.psc_redirect)
    booking = BookingEntry(frozenset(settings.sso_origins), sign_in, ids.secret)

    @asynccontextmanager
    async def open_wire() -> AsyncIterator[tuple[Wire, Sockets]]:
        async with open_stores(settings, PATIENCE_S) as stores:
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
                arrivals=Arrivals(stores.relay, stores.clock),
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
                openings=Rate(stores.clock, rate=_KEPT_RATE, burst=_KEPT_BURST, refusal=_OPEN_REFUSAL),
                proxies=frozenset(settings.fhir_proxies),
                studies=Studies(PostgresStudies(stores.ledger), shelf, stores.clock, stores.ids),
                zones=cache(partial(zones, geography)),
                screens=Screens(counts, stores.clock, stores.ids, stores.ids.uuid),
            )

            async def keep(request: Request, name: str, value: str, seconds: int) -> None:
                wire.openings.spend(peer_of(request))
                await stores.bus.keep_once(name, value, seconds)

            booking.keep = keep
            fhir.services = fhir_services(settings, stores.ledger, stores.clock, stores.ids, gate, geography)
            appointments.store = PostgresEditors(stores.ledger)
            following = vital(hub.run())
            try:
                try:
                    async with asyncio.timeout(_BUS_PATIENCE_S):
                        await hub.started.wait()
                except TimeoutError:
                    # requests are committed without it; decisions are told from when it comes
                    _log.warning("api.bus_away")
                # the gazetteer and the app stay: walking through them again and again is a pause on the live path
                gc.freeze()
                yield wire, Sockets(hub, gate, tickets, stores.clock, settings.origins, settings.sockets)
            finally:
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)
                await reader.close()

    pages = console_routes(settings.public_url, SystemClock(), ids.uuid, settings.demo, settings.lrm_origins)
    others = [*booking.routes(), *appointments.routes(), *fhir.routes(), *pages]
    return create_app(
        partial(_saying_why, open_wire), ids.uuid, others, {"/fhir": error_response}, drill=settings.drill
    )
