"""What the FHIR adapter reads and writes in the ledger: shown places, regulators' accounts."""

from collections.abc import Sequence
from datetime import datetime
from importlib.resources import files
from typing import Any, Final

from adapters.postgres.ledger import PostgresLedger
from adapters.postgres.queries import QUERIES, load_queries

_QUERIES: Final = load_queries(files("adapters.postgres").joinpath("fhir.sql").read_text(encoding="utf-8"))
MOST_PLACES: Final = 5_000  # of one answer: 25 practitioners with 200 places each; all of them fit on one page


class PostgresFhir:
    """The tables of ``005_fhir.sql`` and free places, over the ledger's pool."""

    def __init__(self, ledger: PostgresLedger) -> None:
        self._ledger = ledger

    async def places_of_practitioners(
        self, now: datetime, rpps: Sequence[str], window: tuple[datetime, datetime], visibilities: Sequence[str]
    ) -> list[Any]:
        """Return the free places of practitioners (bare RPPS) that start in a window, by start."""
        return await self._places("places_of_practitioners", rpps, now, *window, visibilities, MOST_PLACES)

    async def places_of_sos(
        self, now: datetime, structures: Sequence[str], window: tuple[datetime, datetime], visibilities: Sequence[str]
    ) -> list[Any]:
        """Return the free places of SOS Médecins sites (bare FINESS) that start in a window, by start."""
        return await self._places("places_of_sos", structures, now, *window, visibilities, MOST_PLACES)

    async def place(self, slot_id: int, now: datetime, visibilities: Sequence[str]) -> Any | None:
        """Return one free place."""
        return next(iter(await self._places("place", slot_id, now, visibilities)), None)

    async def _places(self, name: str, *args: Any) -> list[Any]:
        rows: list[Any] = await self._ledger.fetch(_QUERIES[name], *args)
        if rows:
            # what leaves is written down before it does: the practices can trace it
            now = next(arg for arg in args if isinstance(arg, datetime))
            shown = [row["id"] for row in rows]
            await self._ledger.fetch(QUERIES["note_exposure"], now, "platform", None, shown)
        return rows

    async def save_account(
        self, now: datetime, new_id: str, search: tuple[str | None, str | None] | None, account: Sequence[Any]
    ) -> tuple[str, str | None]:
        """Create (``search`` None) or conditionally change an account; returns (outcome, id).

        Args:
            now: when.
            new_id: UUID if it is new.
            search: (national, technical) of the address, one of them None.
            account: national, technical, family, given, email, active.
        """
        (row,) = await self._ledger.fetch(_QUERIES["save_account"], now, new_id, search, *account)
        return row["outcome"], None if row["account"] is None else str(row["account"])

    async def account(self, account_id: str) -> Any | None:
        """Return an account by its id (a UUID)."""
        return next(iter(await self._ledger.fetch(_QUERIES["account"], account_id)), None)

    async def account_meant(self, national: str | None, technical: str | None) -> Any | None:
        """Return the account that holds an identifier."""
        return next(iter(await self._ledger.fetch(_QUERIES["account_meant"], national, technical)), None)
