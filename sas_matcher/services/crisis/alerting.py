"""Detection in the running service: looks at the figures of territories, régions and the nation, and proposes levels.

A person decides. Runs beside the matcher. What it remembers is lost with the process: signs must then hold anew before
it proposes.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Final

import structlog

from sas_matcher.domain.alert import QUIET_S, Figures, Watched, detect, pooled
from sas_matcher.domain.crisis import NATION, highest
from sas_matcher.faults import again_and_again
from sas_matcher.ports.world import Clock, Ids
from sas_matcher.services.crisis.book import CrisisBook, Proposed

_EVERY_S: Final = 60.0  # signs must hold for ten minutes: looking more often finds nothing more
_log = structlog.get_logger(__name__)


class Alerting:
    """Proposes levels for some territories, and for wider scopes (``wider``: name and territories) that lie in them."""

    def __init__(
        self,
        book: CrisisBook,
        clock: Clock,
        ids: Ids,
        territories: Sequence[str],
        wider: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self._book, self._clock, self._ids, self._territories = book, clock, ids, list(territories)
        self._wider = wider or {}
        self._watched: dict[str, Watched] = {}

    async def run(self) -> None:
        """Look until cancelled."""
        await again_and_again("alerting.step", self.step, _EVERY_S)

    async def step(self) -> int:
        """Look once; returns how many levels were proposed.

        Raises:
            UnavailableError: the ledger is away.
        """
        now = self._clock.now()
        proposed = 0
        known = await self._book.figures(now, self._territories)
        looks: list[tuple[str, tuple[str, ...], Figures, str]]
        looks = [(code, (code,), figures, standing) for code, (figures, standing) in known.items()]
        scopes = await self._book.scopes([*self._wider, NATION])
        levels = {row["scope"]: row["level"] for row in scopes if not row["drill"]}
        for scope, members in self._wider.items():
            figures = pooled([known[code][0] for code in members])
            # what is declared for the nation holds in its régions
            holds = highest(levels[over] for over in {scope, NATION} & levels.keys())
            looks.append((scope, tuple(members), figures, holds))
        for scope, members, figures, standing in looks:
            watched, wanted = detect(figures, self._watched.get(scope), standing, now.timestamp())
            if watched is None:
                self._watched.pop(scope, None)
            else:
                self._watched[scope] = watched
            if wanted is not None:
                said = Proposed(self._ids.uuid(), scope, members, standing, wanted.level, figures, wanted.reasons)
                word = await self._book.propose(now, said, now - timedelta(seconds=QUIET_S))
                proposed += word == "proposed"
        return proposed
