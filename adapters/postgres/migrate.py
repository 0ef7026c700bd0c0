"""Bring a database to the newest schema with Alembic; safe to run from several processes at once."""

from importlib.resources import files
from typing import Any, Final

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

# any constant will do: whoever migrates holds this advisory lock
_LOCK: Final = 0x5A5_0001


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(files("adapters.postgres").joinpath("migrations")))
    config.attributes["connection"] = connection
    return config


def _upgrade(connection: Connection) -> None:
    connection.execute(text("select pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    command.upgrade(_config(connection), "head")


def run_script(connection: Connection, script: str) -> None:
    """Run a whole .sql file in the migration's own transaction (asyncpg prepares only single statements)."""
    raw: Any = connection.connection.dbapi_connection
    raw.run_async(lambda driver: driver.execute(script))


async def migrate(dsn: str) -> None:
    """Upgrade to head. ``dsn`` is a PostgreSQL URL as asyncpg takes it.

    Raises:
        OSError, asyncpg.PostgresError: the server is not there or refuses.
    """
    engine = create_async_engine(
        URL.create("postgresql+asyncpg"), poolclass=NullPool, async_creator=lambda: _connect(dsn)
    )
    try:
        async with engine.begin() as connection:
            await connection.run_sync(_upgrade)
    finally:
        await engine.dispose()


async def _connect(dsn: str) -> Any:
    import asyncpg  # noqa: PLC0415 - only needed here; keeps the import of this module light

    return await asyncpg.connect(dsn)
