"""Agendas in the ledger (port ``AgendaStore`` of ``services.agenda.show``): the tables of ``007_agenda.sql``."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib.resources import files
from typing import Any, Final

import orjson

from adapters.postgres.ledger import PostgresLedger
from adapters.postgres.queries import load_queries
from sas_matcher.ports.ledger import TakenPlage
from sas_matcher.ports.practice import AgendaRecord

_QUERIES: Final = load_queries(files("adapters.postgres").joinpath("agenda.sql").read_text(encoding="utf-8"))


class PostgresAgendas:
    """One method, one transaction, over the ledger's pool."""

    def __init__(self, ledger: PostgresLedger) -> None:
        self._ledger = ledger

    async def _run(self, name: str, *args: Any) -> list[Any]:
        return await self._ledger.fetch(_QUERIES[name], *args)

    async def agenda(self, source: str, name: str) -> AgendaRecord | None:
        """Return an agenda."""
        return next((AgendaRecord(*row.values()) for row in await self._run("agenda", source, name)), None)

    async def agendas(
        self, source: str, owners: tuple[Sequence[str], Sequence[str]] | None, limit: int
    ) -> list[AgendaRecord]:
        """Return the agendas of a source, by name; owners limit to (professionals, structures)."""
        professionals, structures = owners or (None, None)
        return [
            AgendaRecord(*row.values()) for row in await self._run("agendas", source, professionals, structures, limit)
        ]

    async def put(
        self,
        now: datetime,
        key_id: str,
        source: str,
        name: str,
        owner: tuple[str | None, str | None],
        document: Mapping[str, Any],
        version: int,
    ) -> bool:
        """Write an agenda whose version is the one given (0: none yet); False when it is another."""
        text = orjson.dumps(document).decode()
        sql = "select put_agenda($1, $2, $3, $4, $5, $6, $7, $8) as word"
        rows = await self._ledger.fetch(sql, now, key_id, source, name, *owner, text, version)
        return bool(rows[0]["word"] == "written")

    async def show(
        self,
        now: datetime,
        record: AgendaRecord,
        until: datetime,
        rows: Sequence[Mapping[str, Any]],
        away: Sequence[tuple[datetime, datetime]],
    ) -> dict[str, int] | None:
        """Publish a version of an agenda; returns what that changed, None when another version is in force."""
        begins, stops = [begin for begin, _ in away], [stop for _, stop in away]
        done = await self._ledger.change(
            "select * from sync_agenda($1, $2, $3, $4, $5, $6, $7, $8)",
            now,
            record.source,
            record.name,
            record.version,
            until,
            orjson.dumps(rows).decode(),
            begins,
            stops,
        )
        report: dict[str, int] | None = orjson.loads(done["report"]) if done["outcome"] == "shown" else None
        return report

    async def put_back(self, source: str, name: str, spans: Sequence[tuple[datetime, datetime]]) -> None:
        """Let the hours of an agenda within some spans be offered again in which its practice refused a patient."""
        await self._run("put_back", source, name, [begin for begin, _ in spans], [stop for _, stop in spans])

    async def due(self, now: datetime, until: datetime, limit: int) -> list[tuple[str, str]]:
        """Return (source, name) of agendas that are not published as they stand, or not until an instant."""
        return [(row["source"], row["name"]) for row in await self._run("due", now, until, limit)]

    async def failed(self, record: AgendaRecord, why: str, again_at: datetime) -> None:
        """Write why a version could not be published, and when to try again."""
        await self._run("failed", record.source, record.name, record.version, why, again_at)

    async def forget(self, record: AgendaRecord) -> None:
        """Drop an agenda of which nothing is published any more, if it is still the version given."""
        await self._run("forget", record.source, record.name, record.version)

    async def taken(self, record: AgendaRecord, now: datetime) -> list[TakenPlage]:
        """Return the coming plages of an agenda that have patients, and how many."""
        return [TakenPlage(*row.values()) for row in await self._run("taken", record.source, record.name, now)]

    async def feeds_due(self, now: datetime, until: datetime, limit: int) -> list[tuple[str, str]]:
        """Take (source, name) of agendas whose calendar is to be read; others leave them alone until an instant."""
        return [(row["source"], row["name"]) for row in await self._run("feeds_due", now, until, limit)]

    async def feed_told(
        self, record: AgendaRecord, feed: Mapping[str, Any], now: datetime, next_at: datetime, failed: str | None
    ) -> None:
        """Write what became of reading a calendar, unless the agenda subscribes to another one by now."""
        text = orjson.dumps(feed).decode()
        await self._run("feed_told", record.source, record.name, text, next_at, failed, now)
