"""Fixtures with real servers: one PostgreSQL and one Valkey a session, a fresh database and a flushed Redis a test.

``SAS_TEST_DATABASE_URL`` and ``SAS_TEST_REDIS_URL`` name servers to be used instead of the embedded ones. The role
must be allowed to create databases; of Redis only the numbers 1 to 15 are used, and flushed.
"""

import asyncio
import gc
import itertools
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import asyncpg
import pytest
from redis import Redis

from adapters.embedded import start_postgres, start_valkey
from adapters.embedded.postgres import ROLE, SUPERUSER
from adapters.postgres.ledger import PostgresLedger
from adapters.postgres.migrate import migrate
from adapters.redis import RedisBus
from sas_matcher.metrics import FAULTS
from sas_matcher.ports.ledger import Announcement
from tests.ledger_cases import Desk

_NUMBERS = itertools.count()
_REDIS_NUMBERS = itertools.count()
_REDIS_DATABASES = 4_096  # more than a session needs: none is flushed under a service that still runs on it


# What takes longest begins first, so that nobody waits at the end for one long file (see ``./sas test``).
_FIRST = ("tests/unit/test_run.py", "tests/browser/", "tests/e2e/", "tests/race/", "tests/property/", "tests/api/")


def _faults() -> dict[str, float]:
    (family,) = FAULTS.collect()
    return {sample.labels["what"]: sample.value for sample in family.samples if sample.name.endswith("_total")}


@pytest.fixture(autouse=True)
def no_faults(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test in whose process a step failed in a way nobody foresaw: a service outlasts it, a test must not."""
    before = _faults()
    yield
    marker = request.node.get_closest_marker("faults")
    expected = set(marker.args) if marker else set()
    assert {what for what, count in _faults().items() if count > before.get(what, 0)} == expected


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Look for tests without looking for garbage: what is made now stays (a sixth of the time that it takes)."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put files in the order in which they should begin."""

    def place(item: pytest.Item) -> int:
        path = item.nodeid.partition("::")[0]
        return next((n for n, begin in enumerate(_FIRST) if path.startswith(begin)), len(_FIRST))

    items.sort(key=place)


def blocking(work: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine to its end on a loop of its own, from synchronous code (the tests' loop stays as it is)."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


def with_database(url: str, name: str) -> str:
    """Return the URL of another database of the same server."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


def with_number(url: str, number: int) -> str:
    """Return the URL of another numbered database of the same Redis."""
    place, _, query = url.partition("?")
    return f"{place}?{urlencode(dict(parse_qsl(query)) | {'db': str(number)}, safe='/')}"


async def execute(url: str, *statements: str) -> None:
    """Run statements, each on its own, outside of any transaction."""
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


_SHAPE = """
select md5(string_agg(part, ',' order by part)) from (
    select 'r' || oid || relname || coalesce(reloptions::text, '') || coalesce(relacl::text, '')
        || case relkind when 'r' then reltuples else 0 end
        from pg_class where oid >= 16384 and relkind <> 't'
    union all select 'a' || attrelid || '.' || attnum || attname || attnotnull
        from pg_attribute where attrelid >= 16384 and attnum > 0
    union all select 'd' || oid from pg_attrdef
    union all select 'i' || indexrelid || indisvalid || indisunique from pg_index where indexrelid >= 16384
    union all select 'c' || oid || convalidated || coalesce(conbin::text, '') from pg_constraint
    union all select 't' || oid || tgenabled::text from pg_trigger
    union all select 'p' || oid || md5(prosrc) from pg_proc where oid >= 16384
    union all select 's' || starelid || '.' || staattnum from pg_statistic where starelid >= 16384
    union all select 'o' || setconfig::text from pg_db_role_setting join pg_database on setdatabase = pg_database.oid
        where datname = current_database()
) as parts(part)
"""
"""What a test may change beside rows: the schema, rights, settings, planner's statistics (a copy keeps all oids)."""
_VACUUMED_NOW = """
select exists (select from pg_stat_activity where datname = current_database() and backend_type = 'autovacuum worker')
"""
_OTHERS_LEFT = """
select count(*) filter (where not pg_terminate_backend(pid, 10000)) from pg_stat_activity
where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'
"""
_FILLED = """
select oid::regclass::text as name, pg_relation_size(oid) as size from pg_class
where relkind = 'r' and relnamespace = 'public'::regnamespace and relname <> 'alembic_version'
    and pg_relation_size(oid) > 0
"""
_MOST_LEFT = 2**21  # bytes of deleted rows above which a new database is cheaper than what reads over them


async def shape(url: str) -> str:
    """Return a hash of what a database is beside its rows."""
    connection = await asyncpg.connect(url)
    try:
        return str(await connection.fetchval(_SHAPE))
    finally:
        await connection.close()


async def empty(url: str, wanted: str) -> bool:
    """Make a database as good as new, as a superuser; returns False if it is no longer of the wanted shape."""
    connection = await asyncpg.connect(url)
    try:
        left = await connection.fetchval(_OTHERS_LEFT)
        filled = await connection.fetch(_FILLED)
        full = sum(row["size"] for row in filled) > _MOST_LEFT
        if left or full or await connection.fetchval(_VACUUMED_NOW) or await connection.fetchval(_SHAPE) != wanted:
            return False
        # without triggers: neither references nor logs that refuse to be rewritten stand in the way
        work = ["set session_replication_role = replica", *(f"delete from {row['name']}" for row in filled)]
        await connection.execute(";".join([*work, "select setval(seqrelid, seqstart, false) from pg_sequence"]))
        # what was deleted brings no vacuum: after one, plans are made for the empty tables that it saw
        await connection.execute("select pg_stat_force_next_flush()")
        await connection.execute("select pg_stat_reset()")
        return True
    finally:
        await connection.close()


@dataclass
class Servers:
    """The session's servers.

    Attributes:
        database_url, redis_url: theirs.
        template: a migrated database to be copied, never connected to.
        superuser: who may empty databases; nobody on a server that is not ours alone.
        shape: of the template.
        left: URLs of emptied databases.
    """

    database_url: str
    redis_url: str
    template: str
    superuser: str | None
    shape: str
    left: list[str] = field(default_factory=list)

    def new_database(self) -> str:
        """Return the URL of a fresh, migrated database."""
        if self.left:
            return self.left.pop()
        name = f"sas_test_{os.getpid()}_{next(_NUMBERS)}"
        # copying files takes half the time of logging pages (measured: 60 against 100 ms)
        blocking(execute(self.database_url, f"create database {name} template {self.template} strategy file_copy"))
        return with_database(self.database_url, name)

    def drop_database(self, url: str) -> None:
        """Take back a database that ``new_database`` gave, from whoever is still connected.

        It is emptied and given again, which costs a fifth of making another; where a test changed more than rows, it
        is dropped.
        """
        name = urlsplit(url).path[1:]
        if self.superuser and blocking(empty(with_database(self.superuser, name), self.shape)):
            self.left.append(url)
            return
        for left in reversed(range(50)):
            try:
                blocking(execute(self.database_url, f"drop database if exists {name} with (force)"))
                break
            except asyncpg.InsufficientPrivilegeError:
                # autovacuum is at work in it, and its process is not ours to end: it is soon done
                if not left:
                    raise
                time.sleep(0.2)

    def new_redis(self) -> str:
        """Return the URL of a flushed numbered database; 0 is left to whoever uses it, the others come round again."""
        with Redis.from_url(self.redis_url) as redis:
            databases = int(redis.config_get("databases")["databases"])
        url = with_number(self.redis_url, 1 + next(_REDIS_NUMBERS) % (databases - 1))
        with Redis.from_url(url) as redis:
            redis.flushdb()
        return url


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """Real servers for the whole session."""
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="sas-test-"))
        stack.callback(shutil.rmtree, folder)
        folder.chmod(0o755)  # PostgreSQL may have to run as another user
        database_url, superuser = os.environ.get("SAS_TEST_DATABASE_URL"), None
        if database_url is None:
            postgres = start_postgres(folder / "postgres", durable=False)
            stack.callback(postgres.stop)
            database_url = postgres.url
            superuser = database_url.replace(f"//{ROLE}@", f"//{SUPERUSER}@")
        redis_url = os.environ.get("SAS_TEST_REDIS_URL")
        if redis_url is None:
            valkey = start_valkey(folder / "valkey", durable=False, settings={"databases": _REDIS_DATABASES})
            stack.callback(valkey.stop)
            redis_url = valkey.url
        template = f"sas_template_{os.getpid()}"
        blocking(execute(database_url, f"create database {template}"))
        stack.callback(lambda: blocking(execute(database_url, f"drop database {template} with (force)")))
        blocking(migrate(with_database(database_url, template)))
        as_made = blocking(shape(with_database(superuser, template))) if superuser else ""
        yield Servers(database_url, redis_url, template, superuser, as_made)


@pytest.fixture
def database_url(servers: Servers) -> Iterator[str]:
    """A fresh, migrated database of this test's own."""
    url = servers.new_database()
    yield url
    servers.drop_database(url)


@pytest.fixture
def redis_url(servers: Servers) -> str:
    """A flushed Redis of this test's own."""
    return servers.new_redis()


@dataclass
class Recorder:
    """A publisher that keeps what was announced, in order."""

    heard: list[Announcement] = field(default_factory=list)

    def announce(self, announcements: Sequence[Announcement]) -> None:
        """Keep them."""
        self.heard.extend(announcements)

    def take(self) -> list[Announcement]:
        """Return what was announced since the last look."""
        heard, self.heard = self.heard, []
        return heard


@pytest.fixture
def recorder() -> Recorder:
    """The publisher of the fixture ``ledger``."""
    return Recorder()


@pytest.fixture
async def ledger(database_url: str, recorder: Recorder) -> AsyncIterator[PostgresLedger]:
    """A ledger on a fresh database; ``recorder`` hears what it announces."""
    opened = await PostgresLedger.connect(database_url, recorder)
    yield opened
    await opened.close()


@pytest.fixture
async def desk(ledger: PostgresLedger, database_url: str) -> Desk:
    """A regulator, a practice and a matcher at the fixture's ledger."""
    return await Desk(ledger, database_url).open()


@pytest.fixture
async def bus(redis_url: str) -> AsyncIterator[RedisBus]:
    """A bus on a flushed Redis."""
    opened = RedisBus.connect(redis_url)
    yield opened
    await opened.close()
