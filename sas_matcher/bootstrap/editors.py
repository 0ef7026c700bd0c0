"""Wires what has to do with the editors of agendas: polling them, hearing of bookings, showing how they do."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import structlog

from adapters.fhir.editors import EditorsError, FhirEditor, ReadEditor, read_editors
from adapters.fhir.inbound import AppointmentServer
from adapters.fhir.placing import Placing
from adapters.fhir.platform import tls_context
from adapters.fhir.server import FhirServer
from adapters.geo import Gazetteer
from adapters.postgres import PostgresLedger
from adapters.postgres.editors import PostgresEditors
from adapters.redis import RedisBus
from adapters.redis.editors import RedisEditors
from sas_matcher import metrics
from sas_matcher.bootstrap.national import directory_of
from sas_matcher.bootstrap.stores import PATIENCE_S, Stores, open_stores
from sas_matcher.config import ConfigError, Settings
from sas_matcher.domain.errors import UnavailableError
from sas_matcher.matching.doubts import doubt_min
from sas_matcher.ports.world import Clock
from sas_matcher.services.editors.polling import Polling
from sas_matcher.services.editors.view import FIGURES_SPAN, SOURCE_PREFIX, Editors, Named
from sas_matcher.services.matcher.match import Matcher
from sas_matcher.services.publish import Publishing

_DOUBT_S: Final = 60.0  # a share over 30 days changes slowly; a market that was loaded afresh knows none until then


class PollingMeter:
    """Port ``PollingWatch``: the metrics of the editors."""

    def asked(self, editor: str, word: str, seconds: float) -> None:
        """Count a call."""
        metrics.EDITORS.labels(editor, word).observe(seconds)

    def mute(self, editor: str, seconds: float) -> None:
        """Show how long an editor has been silent."""
        metrics.EDITOR_MUTE.labels(editor).set(seconds)


def editors_of(settings: Settings) -> list[ReadEditor]:
    """Return the editors that are polled, none where no file is set.

    Raises:
        ConfigError: the file cannot be used.
    """
    try:
        return read_editors(Path(settings.editors)) if settings.editors else []
    except EditorsError as wrong:
        raise ConfigError(f"SAS_EDITORS : {wrong}") from wrong


def check_editors(settings: Settings) -> None:
    """Check the file of editors, its lists and certificates before anything starts.

    Raises:
        ConfigError: in French, what is wrong with which editor.
    """
    for read in editors_of(settings):
        try:
            tls_context(read.certificate)
        except OSError as wrong:
            raise ConfigError(f"SAS_EDITORS : éditeur {read.config.name}, certificat : {wrong}") from wrong


@asynccontextmanager
async def editor_polling(
    settings: Settings, ledger: PostgresLedger, bus: RedisBus, clock: Clock, geography: Gazetteer
) -> AsyncIterator[Polling]:
    """Open what polls the editors.

    Raises:
        ConfigError: the file of editors, a certificate or the directory cannot be used.
    """
    placing, turn = Placing(geography, directory_of(settings)), asyncio.Semaphore(1)
    try:
        editors = [FhirEditor(read, placing, turn) for read in editors_of(settings)]
    except EditorsError as wrong:
        raise ConfigError(f"SAS_EDITORS : {wrong}") from wrong
    reader = RedisBus.connect(settings.redis_url)
    publishing = Publishing(ledger, clock, geography)
    store, board = PostgresEditors(ledger), RedisEditors(bus)
    try:
        yield Polling(editors, store, board, reader, publishing, clock, geography, PollingMeter())
    finally:
        await reader.close()
        for editor in editors:
            await editor.close()


def appointment_server(settings: Settings, server: FhirServer) -> AppointmentServer:
    """Return the routes through which editors tell us of bookings (INT_R03).

    Raises:
        ConfigError: the file of editors cannot be used.
    """
    sources: dict[str, list[str]] = {}
    for read in editors_of(settings):
        for client in read.config.clients:
            sources.setdefault(client, []).append(SOURCE_PREFIX + read.config.name)
    return AppointmentServer(server, sources)


def editors_view(settings: Settings, ledger: PostgresLedger, bus: RedisBus, clock: Clock) -> Editors:
    """Return what people may see of the editors.

    Raises:
        ConfigError: the file of editors cannot be used.
    """
    named = [Named(read.config.name, read.config.label, len(read.batches)) for read in editors_of(settings)]
    return Editors(named, PostgresEditors(ledger), RedisEditors(bus), clock)


async def poll_editors(settings: Settings) -> None:
    """Poll the editors of agendas until cancelled; a process of its own, so that reading long answers delays nobody.

    Raises:
        ConfigError: the file of editors, a certificate or the directory cannot be used.
    """
    geography = Gazetteer.load()
    async with (
        open_stores(settings, PATIENCE_S) as stores,
        editor_polling(settings, stores.ledger, stores.bus, stores.clock, geography) as polling,
    ):
        await polling.run()


async def doubt_editors(settings: Settings, stores: Stores, matcher: Matcher) -> None:
    """Tell the matcher what places of editors are worth less for their phantoms, again and again until cancelled."""
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
