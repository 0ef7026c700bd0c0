"""The editors' places in the ledger (port ``EditorStore`` of ``services.editors.view``), over the ledger's pool."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from importlib.resources import files
from typing import Any, Final

import orjson

from adapters.postgres.ledger import PostgresLedger
from adapters.postgres.queries import load_queries
from sas_matcher.ports.editors import EditorFigures

_QUERIES: Final = load_queries(files("adapters.postgres").joinpath("editors.sql").read_text(encoding="utf-8"))
PHANTOM_KEPT: Final = timedelta(minutes=30)  # G: then the editor may have it free again (somebody cancelled)


class PostgresEditors:
    """Places whose source is ``fhir:<editor>``, and where they are booked (``007_editors.sql``)."""

    def __init__(self, ledger: PostgresLedger) -> None:
        self._ledger = ledger

    async def _run(self, name: str, *args: Any) -> list[Any]:
        return await self._ledger.fetch(_QUERIES[name], *args)

    async def hidden(self, source: str, slots: Sequence[Mapping[str, Any]], now: datetime) -> set[str]:
        """Return external ids not to be shown: shown already by another source, or found to be phantoms."""
        rows = [
            {
                "external_id": slot["external_id"],
                "professional": slot["professional"] and slot["professional"]["rpps"],
                "starts": slot["start"],
                "insee": slot["location"]["insee"],
                "mode": slot["mode"],
            }
            for slot in slots
        ]
        found = await self._run("hidden", source, orjson.dumps(rows).decode(), now - PHANTOM_KEPT)
        return {row["external_id"] for row in found}

    async def touch(self, source: str, external_ids: Sequence[str], now: datetime) -> set[str]:
        """Note that places are as they were; returns those that are live."""
        return {row["external_id"] for row in await self._run("touch", source, external_ids, now)}

    async def vanished(
        self, source: str, owners: Sequence[str], window: tuple[datetime, datetime], shown: Sequence[str]
    ) -> list[str]:
        """Return live places of some owners that are shown no more and that nobody here holds."""
        return [row["external_id"] for row in await self._run("vanished", source, owners, *window, shown)]

    async def stale(self, before: datetime, now: datetime) -> dict[str, list[str]]:
        """Return {source: external ids} of editors' live places that nobody holds and nobody checked since a time."""
        found: dict[str, list[str]] = {}
        for row in await self._run("stale", before, now):
            found.setdefault(row["source"], []).append(row["external_id"])
        return found

    async def take_appointment(self, now: datetime, sources: Sequence[str], new_id: str, told: Sequence[Any]) -> Any:
        """Take in what an editor tells of a booking (INT_R03); returns outcome and id of our record of it.

        Args:
            now: when.
            sources: of the editor that speaks.
            new_id: UUID if it is new.
            told: identifier's system and value, status, bare professional, start, end.
        """
        return await self._ledger.change(_QUERIES["take_appointment"], now, list(sources), new_id, *told)

    async def figures(self, sources: Sequence[str], since: datetime, now: datetime) -> dict[str, EditorFigures]:
        """Return what the ledger says of editors."""
        rows = await self._run("figures", sources, since, now)
        return {
            row["source"]: EditorFigures(row["places"], row["tried"], row["phantoms"], row["oldest"]) for row in rows
        }
