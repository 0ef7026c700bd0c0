"""The connections of one process: asyncpg's pool, and the connection that was used last kept ready before it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import asyncpg

_PATIENCE_S: Final = 10.0


class Connections:
    """Hands connections out, each to one at a time.

    asyncpg's pool makes a task for each connection that it hands out and another when it takes it back: twice the cost
    of a short statement. Most statements of a process come one after the other, and find the connection of the last.
    """

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._ready: Any = None
        self._queueing = 0
        self._closing = False

    @asynccontextmanager
    async def one(self) -> AsyncIterator[Any]:
        """Give a connection for the length of a block.

        Raises:
            TimeoutError: all are in use, and stay so.
        """
        connection = await self._take()
        try:
            yield connection
        except BaseException:
            await self._pool.release(connection)  # which looks what has become of it
            raise
        if self._ready is None and not self._queueing and not self._closing:
            self._ready = connection
        else:
            await self._pool.release(connection)

    async def _take(self) -> Any:
        ready, self._ready = self._ready, None
        if ready is not None:
            with suppress(asyncpg.InterfaceError):  # it was ended, and the pool has taken it back by itself
                if not ready.is_closed():
                    return ready
                await self._pool.release(ready)
        self._queueing += 1
        try:
            return await self._pool.acquire(timeout=_PATIENCE_S)
        finally:
            self._queueing -= 1

    async def close(self) -> None:
        """Close all, when they are free."""
        self._closing = True
        ready, self._ready = self._ready, None
        if ready is not None:
            await self._pool.release(ready)
        await self._pool.close()
