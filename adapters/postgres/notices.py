"""Subscriptions and what is told to them (ports of ``services.notices``), over the ledger's pool."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from importlib.resources import files
from math import ceil
from typing import Any, Final

from adapters.postgres.ledger import PostgresLedger
from adapters.postgres.queries import load_queries
from sas_matcher.ports.sending import Delivery, MessageState, Notice, Subscription

_QUERIES: Final = load_queries(files("adapters.postgres").joinpath("notices.sql").read_text(encoding="utf-8"))
_REMINDED: Final = 200  # reminders, and subscriptions looked at, in one transaction


class PostgresNotices:
    """The tables of ``010_notices.sql``."""

    def __init__(self, ledger: PostgresLedger, patience: timedelta) -> None:
        """Take the ledger, and for how long a subscription may fail before it is disabled."""
        self._ledger = ledger
        self._patience = patience

    async def _run(self, name: str, *args: Any) -> list[Any]:
        return await self._ledger.fetch(_QUERIES[name], *args)

    # -- subscriptions

    async def put(
        self, now: datetime, wish: Subscription, secret: bytes, code: str, most: tuple[int, int]
    ) -> tuple[str, bool] | int:
        """Set or change a subscription; returns its document, and whether the secret is the one given, or a wait."""
        row = wish._replace(kinds=list(wish.kinds), members=list(wish.members))
        (done,) = await self._run("put", now, *row, secret, code, *most)
        return (done["document"], done["fresh"]) if done["document"] is not None else ceil(done["wait"])

    async def confirm(self, now: datetime, source: str, name: str, code: str) -> tuple[str, str | None]:
        """Answer with the code that an address was sent; returns the word and the document."""
        (done,) = await self._run("confirm", now, source, name, code)
        return done["outcome"], done["document"]

    async def remove(self, source: str, name: str) -> bool:
        """Drop a subscription and what waits for it; False when there is none of that name."""
        return bool(await self._run("remove", source, name))

    async def subscriptions(self, source: str) -> list[str]:
        """Return the subscriptions of a source, by name."""
        return [row["document"] for row in await self._run("subscriptions", source)]

    async def rotate(self, now: datetime, source: str, name: str, secret: bytes, until: datetime) -> str | None:
        """Sign with another secret, until an instant with the one before as well; None: no such webhook."""
        rows = await self._run("rotate", source, name, secret, until, now)
        return rows[0]["document"] if rows else None

    async def test(self, now: datetime, source: str, name: str, once: str, most: int) -> int | None:
        """Queue a notice that tells nothing; None: not active, or so many were within a minute."""
        rows = await self._run("test", source, name, now, once, most)
        return rows[0]["id"] if rows else None

    async def deliveries(
        self, source: str, names: Sequence[str], state: str | None, before: int | None, limit: int
    ) -> list[str]:
        """Return what was told to some subscriptions of a source, or is to be; newest first."""
        return [row["document"] for row in await self._run("deliveries", source, list(names), state, before, limit)]

    # -- the queue

    async def claim(self, now: datetime, until: datetime, limit: int) -> list[Notice]:
        """Take notices that are due, the oldest of each matter."""
        rows = await self._run("claim", now, until, limit)
        return [
            Notice(**{**row, "secrets": tuple(row["secrets"]), "members": tuple(row["members"])})
            for row in map(dict, rows)
        ]

    async def settle(
        self, notice: Notice, now: datetime, state: MessageState, next_at: datetime | None, told: Delivery
    ) -> bool:
        """Write what came of a notice; False when another sender has it now."""
        row = await self._ledger.change(
            _QUERIES["settle"],
            now,
            notice.id,
            notice.tries,
            state,
            next_at,
            told.detail,
            told.gone,
            self._patience,
            bulk=False,
        )
        return bool(row["settled"])

    async def remind(self, now: datetime) -> int:
        """Queue the reminders that are due; returns how many."""
        (row,) = await self._run("remind", now, _REMINDED)
        count: int = row["count"]
        return count

    async def counts(self, now: datetime) -> dict[str, tuple[int, float]]:
        """Return {state: (notices, age in seconds of the oldest that waits)}, of those not sent."""
        rows = await self._run("counts", now)
        return {row["state"]: (row["count"], float(row["oldest"] or 0)) for row in rows}

    async def forget(self, before: datetime) -> None:
        """Drop what was settled before an instant."""
        await self._run("forget", before)
