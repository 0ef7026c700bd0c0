"""Group commit: what comes while a commit is under way shares the next one."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from sas_matcher.domain.errors import UnavailableError


class GroupCommit:
    """Commits what has come while the last commit was under way as one transaction: fewer fsyncs in a surge."""

    def __init__(self, flush: Callable[[list[Any]], Awaitable[list[Any]]], most: int) -> None:
        self._flush = flush
        self._most = most
        self._queue: list[tuple[Any, asyncio.Future[Any]]] = []
        self._running: asyncio.Task[None] | None = None

    async def submit(self, item: Any) -> Any:
        """Commit an item with whatever comes meanwhile; returns its result, or raises what became of it."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._queue.append((item, future))
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        return await future

    async def _run(self) -> None:
        try:
            while self._queue:
                batch, self._queue = self._queue[: self._most], self._queue[self._most :]
                try:
                    results = await self._flush([item for item, _ in batch])
                    for (_, future), result in zip(batch, results, strict=True):
                        if not future.done():
                            future.set_result(result)
                except Exception as failure:
                    if len(batch) > 1 and not isinstance(failure, UnavailableError):
                        # one bad item must not fail its neighbours: each again on its own
                        await self._one_by_one(batch)
                    else:
                        self._fail(batch, failure)
        finally:
            self._running = None

    async def _one_by_one(self, batch: list[tuple[Any, asyncio.Future[Any]]]) -> None:
        for item, future in batch:
            try:
                (result,) = await self._flush([item])
                if not future.done():
                    future.set_result(result)
            except Exception as failure:
                self._fail([(item, future)], failure)

    @staticmethod
    def _fail(batch: list[tuple[Any, asyncio.Future[Any]]], failure: Exception) -> None:
        for _, future in batch:
            if not future.done():
                future.set_exception(failure)
