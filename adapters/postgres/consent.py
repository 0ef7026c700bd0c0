"""What practices let leave, and who was shown it, in PostgreSQL (port ``ConsentBook``), over the ledger's pool."""

from collections.abc import Sequence
from datetime import datetime

import orjson

from adapters.postgres.ledger import PostgresLedger
from adapters.postgres.queries import QUERIES
from sas_matcher.ports.practice import Exposure, ShareRule


class PostgresConsent:
    """The tables of ``009_share.sql``."""

    def __init__(self, ledger: PostgresLedger) -> None:
        self._ledger = ledger

    async def put_rule(self, now: datetime, rule: ShareRule) -> str:
        """Set or change a rule; returns its document."""
        row = rule._asdict()
        members = list(row.pop("members"))
        sql = "select document::text as document, published from put_share_rule($1, $2, $3)"
        done = await self._ledger.change(sql, now, orjson.dumps(row).decode(), members, bulk=True)
        document: str = done["document"]
        return document

    async def remove_rule(self, now: datetime, source: str, name: str) -> bool:
        """Take a rule back; False when there is none of that name."""
        sql = "select * from remove_share_rule($1, $2, $3)"
        return bool((await self._ledger.change(sql, now, source, name, bulk=True))["outcome"] == "removed")

    async def rules(self, source: str) -> list[str]:
        """Return the documents of a source's rules, by name."""
        return [row["document"] for row in await self._ledger.fetch(QUERIES["share_rules_of_source"], source)]

    async def note(self, now: datetime, channel: str, key_id: str | None, slots: Sequence[int]) -> None:
        """Write that a key was shown some places."""
        await self._ledger.fetch(QUERIES["note_exposure"], now, channel, key_id, list(slots))

    async def exposures(
        self,
        source: str | None,
        professionals: Sequence[str],
        structures: Sequence[str],
        window: tuple[datetime, datetime],
        limit: int,
    ) -> list[Exposure]:
        """Return what became known of a practice's places in a window, newest first."""
        rows = await self._ledger.fetch(
            QUERIES["exposures_of"], source, list(professionals), list(structures), *window, limit
        )
        return [Exposure(*row.values()) for row in rows]
