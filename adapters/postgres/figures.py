"""Figures for those who steer (port ``FiguresBook`` of ``services.figures``), and screens on walls (``Screens``)."""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from importlib.resources import files
from typing import Any, Final

from adapters.postgres.ledger import PostgresLedger
from adapters.postgres.queries import load_queries
from sas_matcher.ports.steering import Screen, Span

_QUERIES: Final = load_queries(files("adapters.postgres").joinpath("figures.sql").read_text(encoding="utf-8"))


class PostgresFigures:
    """Everything is counted in PostgreSQL, one question of a process at a time: the live path keeps its connections."""

    def __init__(self, ledger: PostgresLedger) -> None:
        self._ledger = ledger
        self._turn = asyncio.Semaphore(1)

    async def _rows(self, name: str, *args: Any) -> list[dict[str, Any]]:
        async with self._turn:
            return [dict(row) for row in await self._ledger.survey(_QUERIES[name], *args)]

    async def open_requests(self, territories: Sequence[str], now: datetime) -> list[dict[str, Any]]:
        """Return open requests by territory, tier and status, and how old they are."""
        return await self._rows("open_requests", list(territories), now)

    async def free_places(
        self, territories: Sequence[str], now: datetime, structures: Sequence[str] | None
    ) -> list[dict[str, Any]]:
        """Return seats that are free in the next hours by territory, profession and mode."""
        return await self._rows("free_places", list(territories), now, structures)

    async def matched(self, territories: Sequence[str]) -> set[str]:
        """Return those of some territories that a matcher decides for now."""
        return {row["territory"] for row in await self._rows("matched", list(territories))}

    async def outcomes(self, span: Span) -> list[dict[str, Any]]:
        """Return what was asked and what came of it, by tier."""
        return await self._rows("outcomes", span.territory, span.since, span.until)

    async def unmet(self, span: Span) -> list[dict[str, Any]]:
        """Return unmet requests by reason, profession and hour."""
        return await self._rows("unmet", span.territory, span.since, span.until, span.zone)

    async def communes_need(self, span: Span) -> list[dict[str, Any]]:
        """Return what was asked from each commune."""
        return await self._rows("communes_need", span.territory, span.since, span.until)

    async def communes_supply(self, span: Span) -> list[dict[str, Any]]:
        """Return what was offered in each commune."""
        return await self._rows("communes_supply", span.territory, span.since, span.until, span.structures)

    async def supply(self, span: Span) -> list[dict[str, Any]]:
        """Return what was offered by profession and kind of practice."""
        return await self._rows("supply", span.territory, span.since, span.until, span.structures)

    async def practices(self, span: Span) -> list[dict[str, Any]]:
        """Return what was offered by practice, the fullest first."""
        return await self._rows("practices", span.territory, span.since, span.until, span.structures)

    async def course(self, span: Span, step: str) -> list[dict[str, Any]]:
        """Return requests by ``hour`` or ``day`` of the territory's clock."""
        return await self._rows("course", span.territory, span.since, span.until, span.zone, step)

    async def public_outcomes(
        self, territories: Sequence[str], since: datetime, until: datetime
    ) -> list[dict[str, Any]]:
        """Return what was asked in territories and what came of it; territory None: in all of them."""
        return await self._rows("public_outcomes", list(territories), since, until)

    async def public_places(self, territories: Sequence[str], since: datetime, until: datetime) -> list[dict[str, Any]]:
        """Return how many places began in territories; territory None: in all of them."""
        return await self._rows("public_places", list(territories), since, until)

    # -- screens

    async def open_screen(self, screen: Screen, token_hash: bytes, now: datetime) -> None:
        """Keep a new screen; those that have ended go."""
        await self._ledger.fetch(
            _QUERIES["open_screen"],
            token_hash,
            screen.id,
            screen.territory,
            screen.name,
            screen.key_id,
            now,
            screen.ends_at,
        )

    async def screen(self, token_hash: bytes, now: datetime) -> Screen | None:
        """Return the screen of a token while it and its key are in force."""
        rows = await self._ledger.fetch(_QUERIES["screen"], token_hash, now)
        return _screen(rows[0]) if rows else None

    async def screens(self, territory: str, now: datetime) -> list[Screen]:
        """Return the screens of a territory, newest first."""
        return [_screen(row) for row in await self._ledger.fetch(_QUERIES["screens"], territory, now)]

    async def close_screen(self, screen_id: str, territory: str) -> bool:
        """Close a screen; False when the territory has none of that id."""
        return bool(await self._ledger.fetch(_QUERIES["close_screen"], screen_id, territory))


def _screen(row: Any) -> Screen:
    return Screen(str(row["id"]), row["territory"], row["name"], row["key_id"], row["opened_at"], row["ends_at"])
