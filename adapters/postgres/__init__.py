"""The ledger in PostgreSQL: tables and functions in ``migrations/sql``, one Python method for each transaction."""

from adapters.postgres.ledger import PostgresLedger
from adapters.postgres.migrate import migrate

__all__ = ["PostgresLedger", "migrate"]
