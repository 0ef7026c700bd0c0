"""Figures of a territory for those who steer it: now, and over a window of days.

Nothing here reads more than a bounded window, and what was counted a moment ago is not counted again: a hundred pages
that look at the same figures cost one question to the ledger.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

from sas_matcher.domain.disclosure import gini
from sas_matcher.domain.errors import InvalidInputError, NotFoundError
from sas_matcher.ports.steering import Span
from sas_matcher.ports.world import Clock, Geography
from sas_matcher.services.figures.counted import (
    communes_table,
    course_table,
    free_by_profession,
    open_by_tier,
    practices_table,
    supply_table,
    tiers_table,
    unmet_hours_table,
    unmet_professions_table,
    unmet_table,
)
from sas_matcher.services.figures.tables import Table, percent, total

MOST_DAYS: Final = 92  # a quarter, the longest that a CPTS reports on at once; a bound for what a look may cost
NOW_S: Final = 1.0  # figures of now are at most so old
WINDOW_S: Final = 30.0  # of a window of days
FEW: Final = 8  # territories whose present is counted each second; of more, each half minute
HOURLY: Final = timedelta(days=2)  # up to here a course is told hour by hour
_KEPT: Final = 500  # answers at a time: each asks the ledger again soon anyway
_UNMET: Final = {
    "unmet": unmet_table,
    "unmet-professions": unmet_professions_table,
    "unmet-hours": unmet_hours_table,
}


class FiguresBook(Protocol):
    """Counts in the ledger; each row is a dictionary by column."""

    async def open_requests(self, territories: Sequence[str], now: datetime) -> list[dict[str, Any]]:
        """Return open requests by territory, tier and status, and how old they are."""
        ...

    async def free_places(
        self, territories: Sequence[str], now: datetime, structures: Sequence[str] | None
    ) -> list[dict[str, Any]]:
        """Return seats that are free in the next hours by territory, profession and mode."""
        ...

    async def matched(self, territories: Sequence[str]) -> set[str]:
        """Return those of some territories that a matcher decides for now."""
        ...

    async def outcomes(self, span: Span) -> list[dict[str, Any]]:
        """Return what was asked and what came of it, by tier."""
        ...

    async def unmet(self, span: Span) -> list[dict[str, Any]]:
        """Return unmet requests by reason, profession and hour."""
        ...

    async def communes_need(self, span: Span) -> list[dict[str, Any]]:
        """Return what became of the requests from each commune."""
        ...

    async def communes_supply(self, span: Span) -> list[dict[str, Any]]:
        """Return what was offered in each commune."""
        ...

    async def supply(self, span: Span) -> list[dict[str, Any]]:
        """Return what was offered by profession and kind of practice."""
        ...

    async def practices(self, span: Span) -> list[dict[str, Any]]:
        """Return what was offered by practice, the fullest first."""
        ...

    async def course(self, span: Span, step: str) -> list[dict[str, Any]]:
        """Return requests by ``hour`` or ``day`` of the territory's clock."""
        ...

    async def public_outcomes(
        self, territories: Sequence[str], since: datetime, until: datetime
    ) -> list[dict[str, Any]]:
        """Return what was asked in territories and what came of it; territory None: in all of them."""
        ...

    async def public_places(self, territories: Sequence[str], since: datetime, until: datetime) -> list[dict[str, Any]]:
        """Return how many places began in territories; territory None: in all of them."""
        ...


class Kept:
    """Answers of a moment ago; whoever asks while one is being made waits for it instead of asking again."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock, self._life = clock, timedelta(seconds=seconds)
        self._entries: dict[Any, tuple[datetime, asyncio.Task[Any]]] = {}

    async def get(self, key: Any, make: Callable[[], Awaitable[Any]]) -> Any:
        """Return what ``make`` gave a moment ago, else what it gives now."""
        now = self._clock.now()
        known = self._entries.get(key)
        # the clock may have been put back: an answer from later is of no moment ago
        fresh = known is not None and timedelta(0) <= now - known[0] <= self._life
        if known is None or (known[1].done() and (not fresh or _failed(known[1]))):
            if len(self._entries) >= _KEPT:
                self._entries = {k: e for k, e in self._entries.items() if not e[1].done()}
            known = (now, asyncio.ensure_future(make()))
            self._entries[key] = known
        # whoever goes away while others wait takes nothing from them
        return await asyncio.shield(known[1])


def _failed(task: asyncio.Task[Any]) -> bool:
    return task.cancelled() or task.exception() is not None


class Figures:
    """What is asked, offered, met and missed."""

    def __init__(self, book: FiguresBook, clock: Clock, geography: Geography) -> None:
        self._book, self._clock, self._geography = book, clock, geography
        self._now, self._windows = Kept(clock, NOW_S), Kept(clock, WINDOW_S)

    def span(
        self, territory: str, since: datetime | None, until: datetime | None, structures: Sequence[str] | None
    ) -> Span:
        """Return which figures are wanted; without instants the last seven days.

        Raises:
            InvalidInputError: no such territory, or the window is empty or too long.
        """
        known = self._geography.territories.get(territory)
        if known is None:
            raise InvalidInputError.of("territory", "n'est pas un département")
        until = until or self._clock.now()
        since = since or until - timedelta(days=7)
        if since >= until:
            raise InvalidInputError.of("from", "doit précéder to")
        if until - since > timedelta(days=MOST_DAYS):
            raise InvalidInputError.of("from", f"{MOST_DAYS} jours au plus entre from et to")
        return Span(territory, since, until, known.timezone, tuple(structures) if structures else None)

    async def now(self, territories: Sequence[str], structures: Sequence[str] | None) -> dict[str, Any]:
        """Return what is open and free now in some territories.

        By territory: ``open`` (rows of tier: waiting, promised, held, fresh, old, oldest_min), ``places`` (rows of
        profession: seats free within 4, 24 and 72 hours, all modes; ``tele_24`` of them by video), ``matched``.
        """
        key = (tuple(territories), tuple(structures or ()))
        # all of France is a hundred times the work of a département: told less often
        kept = self._now if len(territories) <= FEW else self._windows
        found: dict[str, Any] = await kept.get(key, lambda: self._look(territories, structures))
        return found

    async def _look(self, territories: Sequence[str], structures: Sequence[str] | None) -> dict[str, Any]:
        now = self._clock.now()
        asked = await self._book.open_requests(territories, now)
        free = await self._book.free_places(territories, now, structures)
        matched = await self._book.matched(territories)
        return {
            "at": now,
            "territories": [
                {
                    "territory": code,
                    "name": self._geography.territories[code].name,
                    "matched": code in matched,
                    "open": open_by_tier([row for row in asked if row["territory"] == code], now),
                    "places": free_by_profession([row for row in free if row["territory"] == code]),
                }
                for code in territories
            ],
        }

    async def table(self, name: str, span: Span) -> Table:
        """Return a table by its name (``TABLES``).

        Raises:
            NotFoundError: there is none of that name.
        """
        book = self._book
        if name == "tiers":
            return tiers_table(await self._counted(span, book.outcomes))
        if name in _UNMET:
            return _UNMET[name](await self._counted(span, book.unmet))
        if name == "communes":
            return await self._communes(span)
        if name == "supply":
            return supply_table(await self._counted(span, book.supply))
        if name == "practices":
            return practices_table(await self._counted(span, book.practices), self._name)
        if name == "course":
            table: Table = await self._counted(span, self._course)
            return table
        raise NotFoundError(f"Il n'y a pas de tableau « {name} ».")

    async def totals(self, span: Span) -> dict[str, Any]:
        """Return the sums of a window: what was asked, what came of it, and shares."""
        rows = await self._counted(span, self._book.outcomes)
        names = ("asked", "met", "open", "unmet", "dropped", "cancelled", "noshow", "broken", "lost", "moves", "tele")
        sums = {name: total(rows, name) for name in (*names, "en_sus", "without_mt", "not_own")}
        return {
            **sums,
            "met_pct": percent(sums["met"], sums["met"] + sums["unmet"]),
            "not_own_pct": percent(sums["not_own"], sums["met"]),
            "tele_pct": percent(sums["tele"], sums["met"]),
            "noshow_pct": percent(sums["noshow"], sums["met"]),
        }

    async def fairness(self, span: Span) -> dict[str, Any]:
        """Return how evenly patients are spread: Gini of fill by practice, spread of need met by commune."""
        practices = (await self.table("practices", span)).rows
        communes = [row for row in (await self.table("communes", span)).rows if row["met_pct"] is not None]
        rates = sorted(row["met_pct"] for row in communes)
        loads = [row["filled"] / row["hours"] for row in practices if row["hours"]]
        unequal = gini(loads)
        return {
            "gini": None if unequal is None else round(unequal, 2),
            "practices": len(practices),
            "least_met_pct": rates[0] if rates else None,
            "most_met_pct": rates[-1] if rates else None,
            "communes": len(rates),
        }

    async def _counted(self, span: Span, of: Callable[[Span], Awaitable[Any]]) -> Any:
        # within the same half minute the same window is the same figures
        edges = (int(span.since.timestamp() // WINDOW_S), int(span.until.timestamp() // WINDOW_S))
        key = (of.__name__, span.territory, *edges, span.structures)
        return await self._windows.get(key, lambda: of(span))

    async def _course(self, span: Span) -> Table:
        step = "hour" if span.until - span.since <= HOURLY else "day"
        return course_table(await self._book.course(span, step), step)

    async def _communes(self, span: Span) -> Table:
        need = await self._counted(span, self._book.communes_need)
        return communes_table(need, await self._counted(span, self._book.communes_supply), self._name)

    def _name(self, insee: str) -> str:
        commune = self._geography.by_code(insee)
        return insee if commune is None else commune.name


TABLES: Final = ("tiers", "course", "unmet", "unmet-professions", "unmet-hours", "communes", "supply", "practices")
"""All tables of a window."""
