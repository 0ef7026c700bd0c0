"""All live places at once, from one snapshot: what a matcher begins with."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from itertools import count
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from adapters.postgres.queries import QUERIES
from adapters.postgres.transactions import Transactions, answering
from sas_matcher.ports.ledger import PLACE_NUMBERS, PlacesPage

_LOAD_PAGE: Final = 1_000  # sites or kinds loaded between two breaths: about 5 ms
_LOAD_PLACES: Final = 5_000  # places: less than a megabyte
# what ``array_send`` of PostgreSQL (arrayfuncs.c) makes of an array: dimensions and type, then size and value of each
_PACK: Final = np.dtype([("head", "V20"), ("values", [("size", ">i4"), ("value", ">i8")], len(PLACE_NUMBERS))])
# All places at once are planned afresh, by size, and joined as sets: before the first statistics the planner takes
# 40 000 places for one, and by nested loops loading them took 9 s instead of 0.5. But they are found by index alone, as
# elsewhere: the tables grow with every day.
_AS_SETS: Final = (
    "set local plan_cache_mode = force_custom_plan; "
    "set local enable_hashjoin = on; set local enable_mergejoin = on; set local enable_nestloop = off"
)


def _all_differ(pages: Sequence[Sequence[Any]]) -> bool:
    """Whether no two rows have the same first column."""
    return len({row[0] for page in pages for row in page}) == sum(map(len, pages))


def _place_numbers(rows: Sequence[Sequence[bytes]]) -> npt.NDArray[np.int64]:
    """Read rows of the query ``live_places``: int64[n, 10]."""
    return np.frombuffer(b"".join([row[0] for row in rows]), _PACK)["values"]["value"].astype(np.int64)


class Loading(Transactions):
    """Reads all places."""

    async def live_places(self, now: datetime, territories: Sequence[str] | None) -> AsyncIterator[PlacesPage]:
        """Yield the live places in pages, from one snapshot: what they share first, then numbers only.

        Two connections read at once, since it takes the server as long to find them as it takes us to take them in.
        """
        with answering():
            async with self._snapshot() as (one, other):

                async def pages(connection: Any, name: str, seed: int, rows: int) -> AsyncIterator[list[Any]]:
                    cursor = await connection.cursor(QUERIES[name], now, territories, seed)
                    while page := await cursor.fetch(rows, timeout=60):
                        yield page

                async def numbers(seed: int) -> list[npt.NDArray[np.int64]]:
                    return [_place_numbers(page) async for page in pages(other, "live_places", seed, _LOAD_PLACES)]

                for seed in count():
                    reading = asyncio.create_task(numbers(seed))
                    try:
                        sites = [page async for page in pages(one, "live_sites", seed, _LOAD_PAGE)]
                        kinds = [page async for page in pages(one, "live_kinds", seed, _LOAD_PAGE)]
                        # numbers are hashes: should two of 58 000 be equal (once in 10¹⁰ times) another seed parts them
                        if not (_all_differ(sites) and _all_differ(kinds)):
                            await reading  # cut short, its transaction would be of no more use
                            continue
                        nothing = _place_numbers([])
                        for page in sites:
                            yield PlacesPage(page, (), nothing)
                        for page in kinds:
                            yield PlacesPage((), page, nothing)
                        for places in await reading:
                            yield PlacesPage((), (), places)
                        return
                    finally:
                        reading.cancel()
                        await asyncio.wait([reading])

    @asynccontextmanager
    async def _snapshot(self) -> AsyncIterator[tuple[Any, Any]]:
        """Two connections that see the same instant."""
        same: Any = {"isolation": "repeatable_read", "readonly": True}
        async with (
            self._connections.one() as one,
            self._connections.one() as other,
            one.transaction(**same),
            other.transaction(**same),
        ):
            # an id of hexadecimal digits and hyphens, quoted by the server: a parameter is not allowed there
            seen = await one.fetchval("select quote_literal(pg_export_snapshot())")
            await other.execute(f"set transaction snapshot {seen}")
            for connection in (one, other):
                await connection.execute(_AS_SETS)
            yield one, other
