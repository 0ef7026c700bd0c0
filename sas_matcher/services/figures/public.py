"""What everybody may know: seven whole days, to the nearest ten, nothing that is small; counted every ten minutes."""

from collections.abc import Mapping, Sequence
from datetime import datetime, time, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from sas_matcher.domain.disclosure import LEAST, ROUND_TO, rounded, share
from sas_matcher.ports.world import Clock, Geography
from sas_matcher.services.figures.figures import FiguresBook, Kept

DAYS: Final = 7  # a whole week: each weekday once
KEPT_S: Final = 600.0  # as long as whoever stands between may keep them (`api.routes.figures.PUBLIC`)
PARIS: Final = ZoneInfo("Europe/Paris")  # of what is told of all of France together
_MINUTES_TO: Final = 5  # to the nearest five: no median of a few can be told from it


class PublicFigures:
    """The figures of the page that needs no account.

    Args:
        territories: those that this service decides for.
    """

    def __init__(self, book: FiguresBook, clock: Clock, geography: Geography, territories: Sequence[str]) -> None:
        self._book, self._clock, self._geography = book, clock, geography
        self._territories = sorted(territories)
        self._kept = Kept(clock, KEPT_S)

    async def week(self) -> dict[str, Any]:
        """Return the last seven whole days: ``all`` and ``territories``, each with counts to the nearest ten.

        None: fewer than ten, or a share or delay of fewer than fifty people.
        """
        today = datetime.combine(self._clock.now().astimezone(PARIS).date(), time(), PARIS)
        since = datetime.combine((today - timedelta(days=DAYS)).date(), time(), PARIS)
        found: dict[str, Any] = await self._kept.get(today, lambda: self._count(since, today))
        return found

    async def _count(self, since: datetime, until: datetime) -> dict[str, Any]:
        asked = {r["territory"]: r for r in await self._book.public_outcomes(self._territories, since, until)}
        places = {r["territory"]: r["offered"] for r in await self._book.public_places(self._territories, since, until)}
        names = self._geography.territories
        return {
            "from": since.date(),
            "to": (until - timedelta(days=1)).date(),
            "all": _told(asked.get(None), places.get(None)),
            "territories": [
                {"territory": code, "name": names[code].name, **_told(asked.get(code), places.get(code))}
                for code in self._territories
                if code in asked or code in places
            ],
        }


def _told(row: Mapping[str, Any] | None, offered: int | None) -> dict[str, int | None]:
    asked, met, unmet = (row[name] if row else 0 for name in ("asked", "met", "unmet"))
    enough = met >= ROUND_TO * LEAST
    return {
        "asked": rounded(asked),
        "met": rounded(met),
        "met_pct": share(met, met + unmet),
        "told_min": _minutes(row["told"]) if row and enough else None,
        "seen_min": _minutes(row["seen"]) if row and enough else None,
        "places": rounded(offered or 0),
    }


def _minutes(value: float | None) -> int | None:
    return None if value is None else round(value / _MINUTES_TO) * _MINUTES_TO
