"""Connections are handed out one by one, the last one at once; nobody waits for one that is free."""

import asyncio

import asyncpg
import pytest

from adapters.postgres.pool import Connections
from adapters.postgres.transactions import answering
from sas_matcher.domain.errors import UnavailableError


@pytest.fixture
async def only_one(database_url: str) -> Connections:
    return Connections(await asyncpg.create_pool(database_url, min_size=1, max_size=1))


async def backend(connections: Connections) -> int:
    async with connections.one() as connection:
        await asyncio.sleep(0)  # others come meanwhile
        number: int = await connection.fetchval("select pg_backend_pid()")
        return number


async def test_the_same_connection_serves_one_after_the_other_and_who_waits(only_one: Connections) -> None:
    async with asyncio.timeout(10):
        first = await backend(only_one)
        assert set(await asyncio.gather(*(backend(only_one) for _ in range(20)))) == {first}
        await only_one.close()


async def test_a_connection_that_was_ended_is_replaced(only_one: Connections, database_url: str) -> None:
    number = await backend(only_one)
    other = await asyncpg.connect(database_url)
    await other.execute("select pg_terminate_backend($1, 5000)", number)
    await other.close()
    async with asyncio.timeout(10):
        # the news of it may come with the next statement only
        for _ in range(2):
            try:
                again = await backend(only_one)
            except (asyncpg.PostgresError, OSError):
                continue
            break
        assert again != number
        await only_one.close()


async def test_a_failed_statement_leaves_its_connection_to_the_others(only_one: Connections) -> None:
    with pytest.raises(asyncpg.PostgresError):
        async with only_one.one() as connection:
            await connection.execute("select 1 / 0")
    async with asyncio.timeout(10):
        assert await backend(only_one)
        await only_one.close()


async def test_closing_waits_for_who_still_has_one(only_one: Connections) -> None:
    taken = asyncio.create_task(backend(only_one))
    await asyncio.sleep(0.01)
    async with asyncio.timeout(10):
        await asyncio.gather(only_one.close(), taken)


async def test_a_value_that_cannot_be_sent_is_nobodys_absence(only_one: Connections) -> None:
    """Whoever is told to come back later would do so for ever: it is a fault of ours, and named as one."""
    for sql, value in (("select $1::uuid", "zz"), ("select $1::int", 2**40), ("select $1::text", "a\x00")):
        with pytest.raises(asyncpg.DataError), answering():
            async with only_one.one() as connection:
                await connection.fetchval(sql, value)
    with pytest.raises(UnavailableError), answering():
        raise asyncpg.InterfaceError("connection is closed")
    await only_one.close()
