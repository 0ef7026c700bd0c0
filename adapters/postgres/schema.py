"""Is the schema the newest? Asked at every start, so without Alembic, whose import takes longer than all the rest."""

import asyncio
import re
from importlib.resources import files
from typing import Any

import asyncpg


def newest() -> str:
    """Return the revision of the newest migration in the package."""
    names = (entry.name for entry in files("adapters.postgres").joinpath("migrations/versions").iterdir())
    return max(match[1] for name in names if (match := re.fullmatch(r"v(\d{4})_\w+\.py", name)))


async def revision(dsn: str) -> str | None:
    """Return the revision of a database; None when it has no schema of ours yet.

    Raises:
        OSError, asyncpg.PostgresError: the server is not there or refuses.
    """
    connection: Any = await asyncpg.connect(dsn)
    try:
        found: str | None = await connection.fetchval("select version_num from alembic_version")
        return found
    except asyncpg.UndefinedTableError:
        return None
    finally:
        await connection.close()


def migrate_now(dsn: str) -> None:
    """Bring a database to the newest schema, from synchronous code; does nothing when it is there already."""
    if asyncio.run(revision(dsn)) == newest():
        return
    from adapters.postgres.migrate import migrate  # noqa: PLC0415 - see the module: only when it is needed

    asyncio.run(migrate(dsn))
