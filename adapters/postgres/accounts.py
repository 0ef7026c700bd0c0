"""Accounts and sessions of the pages in PostgreSQL (port ``AccountStore`` of ``services.accounts``)."""

from collections.abc import Sequence
from datetime import datetime
from importlib.resources import files
from typing import Any, Final

from adapters.postgres.ledger import PostgresLedger
from adapters.postgres.queries import load_queries
from sas_matcher.ports.ledger import KeyRecord
from sas_matcher.services.accounts import Account, Session

_QUERIES: Final = load_queries(files("adapters.postgres").joinpath("accounts.sql").read_text(encoding="utf-8"))


def _account(values: Sequence[Any]) -> Account:
    fields: list[Any] = [tuple(value) if isinstance(value, list) else value for value in values]
    login, password, failures, failed_at, *key = fields
    return Account(login, KeyRecord(*key), password, failures, failed_at)


class PostgresAccounts:
    """The tables of ``009_accounts.sql``; one method, one transaction, over the ledger's pool."""

    def __init__(self, ledger: PostgresLedger) -> None:
        self._ledger = ledger

    async def _run(self, name: str, *args: Any) -> list[Any]:
        return await self._ledger.fetch(_QUERIES[name], *args)

    async def account(self, login: str, browser: bytes | None) -> Account | None:
        """Return an account, with the wrong passwords that count for this browser."""
        return next((_account(tuple(row.values())) for row in await self._run("account", login, browser)), None)

    async def account_of_subject(self, subject: str) -> Account | None:
        """Return the account that a person of an OpenID provider holds."""
        return next((_account(tuple(row.values())) for row in await self._run("account_of_subject", subject)), None)

    async def accounts(self) -> list[Account]:
        """Return all accounts, by login."""
        return [_account(tuple(row.values())) for row in await self._run("accounts")]

    async def add(self, now: datetime, login: str, password: str | None, subject: str | None, key: KeyRecord) -> bool:
        """Write an account and its key; False when the login is taken."""
        rights = (key.name, key.role, list(key.territories), list(key.structures), list(key.professionals), key.source)
        return bool(await self._run("add_account", login, password, subject, now, key.id, key.secret_hash, *rights))

    async def set_password(self, login: str, password: str) -> bool:
        """Change a password and end the account's sessions; False when there is no such account."""
        return bool(await self._run("set_password", login, password))

    async def failed(self, login: str, now: datetime, browser: bytes | None) -> None:
        """Count a wrong password, for the browser where it is known to the account."""
        await self._run("failed", login, now, browser)

    async def passed(self, login: str, now: datetime, browser: bytes | None, most: int) -> None:
        """Forget wrong passwords where they were counted; know this browser from now on, among ``most``."""
        await self._run("passed", login, now, browser, most)

    async def close(self, login: str, now: datetime) -> bool:
        """Revoke an account's key and end its sessions; False when it is closed already."""
        return bool(await self._run("close_account", login, now))

    async def open_session(self, token_hash: bytes, login: str, now: datetime, ends_at: datetime) -> bool:
        """Write a session, and drop those that have ended; False when there is no such account."""
        return bool(await self._run("open_session", token_hash, login, now, ends_at))

    async def session(self, token_hash: bytes) -> Session | None:
        """Return a session with its account."""
        for row in await self._run("session", token_hash):
            opened_at, seen_at, ends_at, *account = row.values()
            return Session(_account(account), opened_at, seen_at, ends_at)
        return None

    async def touch_session(self, token_hash: bytes, now: datetime) -> None:
        """Write that a person is there."""
        await self._run("touch_session", token_hash, now)

    async def close_session(self, token_hash: bytes) -> None:
        """End a session."""
        await self._run("close_session", token_hash)
