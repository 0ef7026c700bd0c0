"""Transactions: connections, what is tried again, what a store that is away becomes, and what each change announces."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final, Self

import asyncpg
import orjson
import structlog

from adapters.postgres.pool import Connections
from adapters.postgres.queries import QUERIES
from sas_matcher.domain.errors import FencedError, IdempotencyError, UnavailableError
from sas_matcher.ports.ledger import Announcement, Idempotency, Outcome, Publisher

_log = structlog.get_logger(__name__)
_FENCED: Final = "SAS01"
_TRIES: Final = 5  # a deadlock or a lost seat in a plan is rare; five in a row means something else is wrong
_AWAY: Final = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # what asyncpg says when the connection went away under a statement's preparation
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.InsufficientResourcesError,  # too many connections, disk full: a server that cannot serve now
    asyncpg.ReadOnlySQLTransactionError,  # a standby after a failover
    asyncpg.QueryCanceledError,
    TimeoutError,
)


@contextmanager
def answering() -> Iterator[None]:
    """Turn what a store says that is away, or that another matcher has the lease, into our own errors."""
    try:
        yield
    except asyncpg.PostgresError as failure:
        if failure.sqlstate == _FENCED:
            raise FencedError from failure
        if isinstance(failure, _AWAY):
            raise UnavailableError("La base de données ne répond pas.", retry_after=2) from failure
        raise
    except _AWAY as failure:
        raise UnavailableError("La base de données ne répond pas.", retry_after=2) from failure


# Every statement finds its rows by key, whatever the tables hold: plans are made once (planning cost four times the
# work of a claim, measured), by index and nested loop (a plan made on empty tables would read them whole later).
_SESSION: Final = {
    "timezone": "UTC",
    "jit": "off",
    "application_name": "sas_matcher",
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
}
# Thousands of rows at once, joined with one another, want hash joins: nested loops would compare all with all.
_BULK: Final = "set local plan_cache_mode = auto; set local enable_hashjoin = on; set local enable_mergejoin = on"
# Figures over a window read thousands of rows to give a few: planned afresh, by size; they write nothing, and whoever
# asks for too much is told so before anybody else waits for it.
_SURVEY: Final = (
    "set transaction read only; set local plan_cache_mode = force_custom_plan; set local enable_seqscan = on; "
    "set local enable_hashjoin = on; set local enable_mergejoin = on; set local statement_timeout = '10s'"
)


async def _keep_session(_connection: Any) -> None:
    """Leave a connection as it is when it goes back: we set nothing that outlives a transaction, a reset is a trip."""


def announcements(rows: Sequence[Any] | None) -> list[Announcement]:
    """Turn outbox rows into announcements."""
    return [Announcement(*row.values()) for row in rows or ()]


class Transactions:
    """The transactions of one process, over an asyncpg pool."""

    def __init__(self, pool: asyncpg.Pool, publisher: Publisher) -> None:
        self._connections = Connections(pool)
        self._publisher = publisher

    @classmethod
    async def connect(cls, dsn: str, publisher: Publisher, *, size: int = 12) -> Self:
        """Open a pool; the session speaks UTC and never plans with JIT (our queries are short).

        Raises:
            UnavailableError: the server is not there, or not yet.
        """
        with answering():
            pool = await asyncpg.create_pool(
                dsn,
                min_size=min(2, size),
                max_size=size,
                command_timeout=30,
                server_settings=_SESSION,
                reset=_keep_session,
            )
        return cls(pool, publisher)

    async def close(self) -> None:
        """Close the pool."""
        await self._connections.close()

    async def _retry(self, work: Callable[[Any], Awaitable[Any]]) -> Any:
        """Run one transaction; again on deadlock; a store that is away becomes UnavailableError."""
        for attempt in range(_TRIES):
            try:
                with answering():
                    async with self._connections.one() as connection:
                        return await work(connection)
            except (asyncpg.DeadlockDetectedError, asyncpg.SerializationError) as failure:
                # a second was lost (deadlock_timeout): where, whoever operates it should know
                _log.warning("ledger.deadlock", detail=failure.detail, context=failure.context, attempt=attempt)
                if attempt == _TRIES - 1:
                    raise
                await asyncio.sleep(0.005 * 2**attempt)
        raise AssertionError("unreachable")  # pragma: no cover

    async def _change(self, sql: str, *args: Any, bulk: bool = False) -> Any:
        """Run one changing function and publish what it announced."""

        async def in_bulk(connection: Any) -> Any:
            async with connection.transaction():
                await connection.execute(_BULK)
                return await connection.fetchrow(sql, *args)

        row = await self._retry(in_bulk if bulk else lambda c: c.fetchrow(sql, *args))
        self._publisher.announce(announcements(row["published"]))
        return row

    async def _announced(self, sql: str, *args: Any) -> int:
        rows = announcements(await self._retry(lambda c: c.fetch(sql, *args)))
        self._publisher.announce(rows)
        return len(rows)

    async def _rows(self, name: str, *args: Any) -> list[Any]:
        rows: list[Any] = await self._retry(lambda c: c.fetch(QUERIES[name], *args))
        return rows

    async def fetch(self, sql: str, *args: Any) -> list[Any]:
        """Run one statement of a sibling of this package; again on deadlock.

        Raises:
            UnavailableError: the ledger is away.
        """
        rows: list[Any] = await self._retry(lambda c: c.fetch(sql, *args))
        return rows

    async def survey(self, sql: str, *args: Any) -> list[Any]:
        """Run one reading statement of a sibling of this package that goes over many rows; ten seconds at the most.

        Raises:
            UnavailableError: the ledger is away, or takes longer.
        """

        async def work(connection: Any) -> list[Any]:
            async with connection.transaction():
                await connection.execute(_SURVEY)
                rows: list[Any] = await connection.fetch(sql, *args)
                return rows

        found: list[Any] = await self._retry(work)
        return found

    async def change(self, sql: str, *args: Any, bulk: bool = True) -> Any:
        """Run one changing function of a sibling of this package, by default in bulk, and publish what it announced.

        Raises:
            UnavailableError: the ledger is away.
        """
        return await self._change(sql, *args, bulk=bulk)

    async def change_once(self, sql: str, now: datetime, args: Sequence[Any], once: Idempotency) -> Outcome:
        """Run one changing function of a sibling of this package once for its Idempotency-Key."""
        return await self._once(sql, now, args, once)

    async def _value(self, name: str, *args: Any) -> Any:
        return await self._retry(lambda c: c.fetchval(QUERIES[name], *args))

    async def _once(self, sql: str, now: datetime, args: Sequence[Any], once: Idempotency) -> Outcome:
        async def work(connection: Any) -> tuple[Outcome, list[Announcement]]:
            row = await connection.fetchrow(sql, now, *args)
            return Outcome(row["outcome"], row["document"]), announcements(row["published"])

        return await self.work_once(now, work, once)

    async def work_once(
        self,
        now: datetime,
        work: Callable[[Any], Awaitable[tuple[Outcome, list[Announcement]]]],
        once: Idempotency,
    ) -> Outcome:
        """Do one transaction's work once for its Idempotency-Key, and publish what it announced.

        What ``work`` (given the connection) raises undoes everything, the key included.

        Raises:
            IdempotencyError: the key came before with another body.
            UnavailableError: the ledger is away.
        """

        async def transaction(connection: Any) -> tuple[Outcome, list[Announcement]]:
            async with connection.transaction():
                fresh = await connection.fetchval(
                    "insert into idempotency (key_id, key, body_hash, created_at) values ($1, $2, $3, $4) "
                    "on conflict do nothing returning true",
                    once.key_id,
                    once.key,
                    once.body_hash,
                    now,
                )
                if not fresh:
                    known = await connection.fetchrow("select * from idempotency_of($1, $2)", once.key_id, once.key)
                    if known is None or known["body_hash"] != once.body_hash or known["answer"] is None:
                        raise IdempotencyError
                    answer = orjson.loads(known["answer"])
                    return Outcome(answer["word"], answer["document"], replayed=True), []
                outcome, announced = await work(connection)
                answer = orjson.dumps({"word": outcome.word, "document": outcome.document}).decode()
                await connection.execute(
                    "update idempotency set answer = $3 where key_id = $1 and key = $2",
                    once.key_id,
                    once.key,
                    answer,
                )
                return outcome, announced

        outcome, announced = await self._retry(transaction)
        self._publisher.announce(announced)
        result: Outcome = outcome
        return result
