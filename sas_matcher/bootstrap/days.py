"""Wires what has to do with recorded days: the recorder, and the process that studies them."""

import os
from functools import cache
from pathlib import Path
from zoneinfo import ZoneInfo

from adapters.geo import Gazetteer
from adapters.postgres.studies import PostgresStudies
from adapters.redis import RedisBus
from sas_matcher.bootstrap.stores import PATIENCE_S, open_stores, territories_of
from sas_matcher.config import Settings
from sas_matcher.replay.recorder import Recorder, open_folder
from sas_matcher.replay.studies import RecordedShelf
from sas_matcher.services.studies import StudyRoom


async def studies(settings: Settings) -> None:
    """Work through the studies of recorded days until cancelled."""
    async with open_stores(settings, PATIENCE_S) as stores:
        await StudyRoom(PostgresStudies(stores.ledger), RecordedShelf(Path(settings.history_dir)), stores.clock).run()


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
        async with open_stores(settings, PATIENCE_S) as stores:
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
