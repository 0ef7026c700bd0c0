"""Databases go from test to test: each is as good as new, or it is not given again."""

import asyncpg
import pytest

from tests.conftest import Servers
from tests.ledger_cases import add_regulator

TABLES = """
select oid::regclass::text from pg_class
where relkind = 'r' and relnamespace = 'public'::regnamespace and relname <> 'alembic_version'
"""


@pytest.fixture
def here(servers: Servers) -> Servers:
    if servers.superuser is None:
        pytest.skip("the databases of a server that is not ours alone are made anew each time")
    servers.left.clear()
    return servers


async def test_a_database_is_given_again_without_a_row_and_with_nobody_in_it(here: Servers) -> None:
    url = here.new_database()
    await add_regulator(url)
    stays = await asyncpg.connect(url)
    await stays.execute(
        "insert into crisis_log (scope, drill, version, at, key_id, role, was, level, why, territories)"
        " select '69', false, 1, now(), id, role, 'normal', 'tension', 'essai', '[]' from api_key"
    )
    here.drop_database(url)
    assert here.new_database() == url
    with pytest.raises(asyncpg.PostgresConnectionError):
        await stays.fetchval("select 1")
    await stays.close()
    connection = await asyncpg.connect(url)
    tables = [row[0] for row in await connection.fetch(TABLES)]
    assert "crisis_log" in tables
    assert [name for name in tables if await connection.fetchval(f"select exists (select from {name})")] == []
    assert await connection.fetch("select sequencename from pg_sequences where last_value is not null") == []
    await connection.close()
    here.drop_database(url)


@pytest.mark.parametrize(
    "change",
    [
        "create table extra (id int)",
        "alter table crisis_log disable trigger append_only",
        "drop trigger append_only on crisis_log",
        "drop index study_of",
        "alter table booking alter column slot_id drop not null",
        "alter table booking rename seat to chair",
        "alter table slot set (fillfactor = 50)",
        "create or replace function refuse_change() returns trigger language plpgsql as 'begin return new; end'",
        "revoke insert on slot from sas",
        "do $$ begin execute format('alter database %I set jit = on', current_database()); end $$",
        "insert into national_link values (true, now()); analyze national_link",
        # more deleted rows than one wants to read over
        "insert into api_key (id, secret_hash, name, role, source, created_at)"
        " select n, '', repeat('x', 500), 'regulator', n, now() from generate_series(1, 5000) n",
    ],
)
async def test_a_database_that_is_not_as_it_was_is_not_given_again(here: Servers, change: str) -> None:
    url = here.new_database()
    connection = await asyncpg.connect(url)
    await connection.execute(change)
    await connection.close()
    here.drop_database(url)
    assert here.left == []
