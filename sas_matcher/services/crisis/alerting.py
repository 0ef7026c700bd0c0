"""Detection in the running service: looks at the figures of each territory and proposes a level; a person decides.

Runs beside the matcher. What it remembers is lost with the process: signs must then hold anew before it proposes.
"""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

import structlog

from sas_matcher.domain.alert import QUIET_S, Watched, detect
from sas_matcher.domain.errors import UnavailableError
from sas_matcher.ports.world import Clock, Ids
from sas_matcher.services.crisis.book import CrisisBook, Proposed

_EVERY_S: Final = 60.0  # signs must hold for ten minutes: looking more often finds nothing more
_log = structlog.get_logger(__name__)


class Alerting:
    """Proposes levels for some territories."""

    def __init__(self, book: CrisisBook, clock: Clock, ids: Ids, territories: Sequence[str]) -> None:
        self._book, self._clock, self._ids, self._territories = book, clock, ids, list(territories)
        self._watched: dict[str, Watched] = {}

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            try:
                await self.step()
            except UnavailableError as away:
                _log.warning("alerting.store_away", detail=away.detail)
            await asyncio.sleep(_EVERY_S)

    async def step(self) -> int:
        """Look once; returns how many levels were proposed.

        Raises:
            UnavailableError: the ledger is away.
        """
        now = self._clock.now()
        proposed = 0
        for territory, (figures, standing) in (await self._book.figures(now, self._territories)).items():
            watched, wanted = detect(figures, self._watched.get(territory), standing, now.timestamp())
            if watched is None:
                self._watched.pop(territory, None)
            else:
                self._watched[territory] = watched
            if wanted is not None:
                said = Proposed(self._ids.uuid(), territory, standing, wanted.level, figures, wanted.reasons)
                word = await self._book.propose(now, said, now - timedelta(seconds=QUIET_S))
                proposed += word == "proposed"
        return proposed
