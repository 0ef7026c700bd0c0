"""What practices get back, read from PostgreSQL (port ``StatementBook``)."""

from importlib.resources import files
from typing import Final

from adapters.postgres.ledger import PostgresLedger
from adapters.postgres.queries import load_queries
from sas_matcher.ports.practice import Act, Offered, Owners, Window

_QUERIES: Final = load_queries(files("adapters.postgres").joinpath("statement.sql").read_text(encoding="utf-8"))


class PostgresStatement:
    """Reads off the live path."""

    def __init__(self, ledger: PostgresLedger) -> None:
        self._ledger = ledger

    async def acts(self, owners: Owners, window: Window, limit: int) -> list[Act]:
        """Return what became a patient's place, by start."""
        source, professionals, structures = owners
        rows = await self._ledger.survey(_QUERIES["acts"], source, professionals, structures, *window, limit)
        return [Act(*row.values()) for row in rows]

    async def offered(self, owners: Owners, window: Window, limit: int) -> list[Offered]:
        """Return what was offered, by start."""
        source, professionals, structures = owners
        rows = await self._ledger.survey(_QUERIES["offered"], source, professionals, structures, *window, limit)
        return [Offered(*row.values()) for row in rows]
