"""Wires what polls the editors of agendas, and what shows how they do."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

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
from sas_matcher.config import ConfigError, Settings
from sas_matcher.linking import directory_of
from sas_matcher.ports.world import Clock
from sas_matcher.services.aggregate import Polling
from sas_matcher.services.editors import SOURCE_PREFIX, Editors, Named
from sas_matcher.services.publish import Publishing


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
