"""The ledger in PostgreSQL: tables and functions in ``migrations/sql``, one Python method for each transaction.

``migrate`` is imported by who migrates: Alembic would add a third to the time in which a killed worker comes back.
"""

from adapters.postgres.ledger import PostgresLedger

__all__ = ["PostgresLedger"]
