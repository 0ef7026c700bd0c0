"""The queue of what the national platform is told (port ``Queue`` of ``services.sending``), over the ledger's pool."""

from collections.abc import Sequence
from datetime import datetime
from importlib.resources import files
from typing import Any, Final

from adapters.postgres.ledger import PostgresLedger
from adapters.postgres.queries import load_queries
from sas_matcher.ports.sending import Delivery, Message, MessageState, Queued

_QUERIES: Final = load_queries(files("adapters.postgres").joinpath("national.sql").read_text(encoding="utf-8"))


class PostgresNational:
    """The tables of ``006_national.sql``."""

    def __init__(self, ledger: PostgresLedger) -> None:
        self._ledger = ledger

    async def _run(self, name: str, *args: Any) -> list[Any]:
        return await self._ledger.fetch(_QUERIES[name], *args)

    async def link(self, now: datetime, *, on: bool) -> None:
        """Queue what changes from now on, or no more."""
        await (self._run("link_on", now) if on else self._run("link_off"))

    async def claim(self, now: datetime, until: datetime, limit: int) -> list[Message]:
        """Take messages that are due: the oldest of each booking."""
        return [Message(*row.values()) for row in await self._run("claim", now, until, limit)]

    async def settle(
        self, message: Message, now: datetime, state: MessageState, next_at: datetime | None, told: Delivery
    ) -> bool:
        """Write what came of a message; False when another sender has it now."""
        fence = message.id, message.tries
        return bool(await self._run("settle", *fence, state, next_at, told.detail, told.remote, now))

    async def counts(self, now: datetime) -> dict[str, tuple[int, float]]:
        """Return {state: (messages, age in seconds of the oldest that waits)}, of those not sent."""
        rows = await self._run("counts", now)
        return {row["state"]: (row["count"], float(row["oldest"] or 0)) for row in rows}

    async def forget(self, before: datetime) -> None:
        """Drop what was settled before an instant."""
        await self._run("forget", before)

    async def messages(self, state: str | None, booking_id: str | None, limit: int) -> Sequence[Queued]:
        """Return messages, newest first."""
        return [Queued(*row.values()) for row in await self._run("messages", state, booking_id, limit)]

    async def bind_operator(self, key_id: str, system: str, value: str) -> bool:
        """Say as whom the platform knows the holder of a key; False when there is no such key."""
        return bool(await self._run("bind_operator", key_id, system, value))
