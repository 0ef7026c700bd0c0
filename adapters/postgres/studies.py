"""Studies of recorded days, what came of them (port ``StudyBook`` of ``services.studies``), over the ledger's pool."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from importlib.resources import files
from typing import Any, Final

import orjson

from adapters.postgres.ledger import PostgresLedger
from adapters.postgres.queries import load_queries
from sas_matcher.services.studies import Cell, Study, Taken

_QUERIES: Final = load_queries(files("adapters.postgres").joinpath("studies.sql").read_text(encoding="utf-8"))


class PostgresStudies:
    """The tables ``study`` and ``study_cell``."""

    def __init__(self, ledger: PostgresLedger) -> None:
        self._ledger = ledger

    async def _run(self, name: str, *args: Any) -> list[Any]:
        return await self._ledger.fetch(_QUERIES[name], *args)

    async def ask(
        self, study_id: str, territory: str, days: Sequence[date], ways: Sequence[str], key_id: str, now: datetime
    ) -> None:
        """Queue a study."""
        await self._run("ask", study_id, territory, list(days), list(ways), key_id, now)

    async def open_ones(self, territory: str) -> int:
        """Return how many studies of a territory wait or run."""
        return int((await self._run("open_ones", territory))[0]["number"])

    async def take(self, now: datetime, until: datetime) -> Taken | None:
        """Take the study that has waited longest; it is the caller's until an instant."""
        rows = await self._run("take", now, until)
        return Taken(*rows[0].values()) if rows else None

    async def advance(self, taken: Taken, done: int, part: float, until: datetime) -> bool:
        """Say how far a study is; False when it was stopped, or is another worker's now."""
        return bool(await self._run("advance", taken.id, taken.claims, done, part, until))

    async def finish(self, taken: Taken, state: str, failure: str | None, now: datetime, done: int) -> None:
        """Close a study."""
        await self._run("finish", taken.id, taken.claims, state, failure, now, done)

    async def stop(self, study_id: str, territory: str, now: datetime) -> bool:
        """Stop a study; False when it is over already."""
        return bool(await self._run("stop", study_id, territory, now))

    async def recent(self, territory: str, limit: int) -> list[Study]:
        """Return the studies of a territory, newest first."""
        return [Study(*row.values()) for row in await self._run("recent", territory, limit)]

    async def study(self, study_id: str, territory: str) -> Study | None:
        """Return a study of a territory."""
        rows = await self._run("study", study_id, territory)
        return Study(*rows[0].values()) if rows else None

    async def cells(self, territory: str, days: Sequence[date], ways: Sequence[str]) -> list[Cell]:
        """Return what is known of some days in some ways."""
        rows = await self._run("cells", territory, list(days), list(ways))
        return [Cell(row["day"], row["way"], row["digest"], orjson.loads(row["figures"])) for row in rows]

    async def keep(self, territory: str, cell: Cell, now: datetime) -> None:
        """Keep what came of a day in one way."""
        figures: Mapping[str, Any] = cell.figures
        await self._run("keep_cell", territory, cell.day, cell.way, cell.digest, orjson.dumps(figures).decode(), now)
