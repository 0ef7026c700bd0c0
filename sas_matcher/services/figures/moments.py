"""A territory at this moment, all that a page or a wall says of it: one look a second, however many look."""

from collections.abc import Sequence
from datetime import datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from sas_matcher.ports.world import Clock, Geography
from sas_matcher.services.crisis.crises import Crises
from sas_matcher.services.editors.view import Editors
from sas_matcher.services.figures.figures import NOW_S, Figures, Kept


class Moments:
    """What is open, free and said now, and how today went."""

    def __init__(self, figures: Figures, crises: Crises, editors: Editors, clock: Clock, geography: Geography) -> None:
        self._figures, self._crises, self._editors = figures, crises, editors
        self._clock, self._geography = clock, geography
        self._kept = Kept(clock, NOW_S)

    async def of(self, territory: str, structures: Sequence[str] | None) -> dict[str, Any]:
        """Return a territory at this moment, at most a second old.

        ``present``: see ``Figures.now``; ``today``: ``Figures.totals`` since midnight; ``editors``, ``standing``
        (level, plan, proposal), ``record`` and ``zone`` of the territory, ``at``.
        """
        key = (territory, tuple(structures or ()))
        found: dict[str, Any] = await self._kept.get(key, lambda: self._look(territory, structures))
        return found

    async def _look(self, territory: str, structures: Sequence[str] | None) -> dict[str, Any]:
        now, record = self._clock.now(), self._geography.territories[territory]
        zone = ZoneInfo(record.timezone)
        midnight = datetime.combine(now.astimezone(zone).date(), time(), zone)
        # in the first second of a day there is no day yet to count
        today = self._figures.span(territory, min(midnight, now - timedelta(seconds=1)), now, structures)
        present = await self._figures.now([territory], structures)
        return {
            "present": present["territories"][0],
            "at": present["at"],
            "today": await self._figures.totals(today),
            "editors": await self._editors.all(),
            "standing": await self._crises.territory(territory),
            "record": record,
            "zone": zone,
        }
