"""Who works on the pages: accounts, sign-in, sessions.

An account holds the rights of one API key whose secret nobody knows, so a page can do what such a key can, no more.
A session is a random token in a cookie; only its hash is stored. It ends after ``IDLE`` without a call by a person and
after ``LONGEST`` in any case (a shift); a closed account or a new password ends it at once.
"""

import asyncio
import hashlib
import re
from datetime import datetime, timedelta
from typing import Final, NamedTuple, Protocol

from sas_matcher.domain.errors import (
    ConflictError,
    InvalidInputError,
    NotAuthenticatedError,
    NotFoundError,
    TooManyError,
)
from sas_matcher.ports.ledger import KeyRecord
from sas_matcher.ports.world import Clock
from sas_matcher.services.keys import KeyWish, new_key
from sas_matcher.services.passwords import LONGEST as LONGEST_PASSWORD
from sas_matcher.services.passwords import SALT_BYTES, SHORTEST, hash_password, is_password

IDLE: Final = timedelta(hours=4)  # half a day at the desk; guess
LONGEST: Final = timedelta(hours=12)  # a shift (OWASP ASVS 5.0 V7.3: both limits are to be set and written down)
_READABLE: Final = "abcdefghjkmnpqrstuvwxyz23456789"  # no letter that is read as another
_TOUCH: Final = timedelta(minutes=1)
FREE_TRIES: Final = 5
"""Wrong passwords before each further try has to wait (doubling from 2 s, 15 minutes at the most)."""
MOST_BROWSERS: Final = 20
"""Browsers that an account knows, those used last: the desks of a call centre at which one person sits (guess)."""
_LONGEST_WAIT: Final = timedelta(minutes=15)
_LOGIN = re.compile(r"[a-z0-9][a-z0-9._@+-]{1,63}")
_DUMMY: Final = "scrypt$15$8$3$AAAAAAAAAAAAAAAAAAAAAA==$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="


class Account(NamedTuple):
    """An account as stored; ``password`` None comes in by another door (OpenID) only.

    ``failures`` and ``failed_at`` count for who asks: those of a browser that the account knows, or of all others.
    """

    login: str
    key: KeyRecord
    password: str | None
    failures: int
    failed_at: datetime | None


class Session(NamedTuple):
    """A session as stored."""

    account: Account
    opened_at: datetime
    seen_at: datetime
    ends_at: datetime


class Secrets(Protocol):
    """Where randomness comes from."""

    def secret(self) -> str:
        """Return 256 random bits as text."""
        ...

    def key_id(self) -> str:
        """Return the public id of a new key."""
        ...


class AccountStore(Protocol):
    """What the ledger keeps of accounts and sessions."""

    async def account(self, login: str, browser: bytes | None) -> Account | None:
        """Return an account, with the wrong passwords that count for this browser."""
        ...

    async def account_of_subject(self, subject: str) -> Account | None:
        """Return the account that a person of an OpenID provider holds."""
        ...

    async def accounts(self) -> list[Account]:
        """Return all accounts, by login."""
        ...

    async def add(self, now: datetime, login: str, password: str | None, subject: str | None, key: KeyRecord) -> bool:
        """Write an account and its key; False when the login is taken."""
        ...

    async def set_password(self, login: str, password: str) -> bool:
        """Change a password and end the account's sessions; False when there is no such account."""
        ...

    async def failed(self, login: str, now: datetime, browser: bytes | None) -> None:
        """Count a wrong password, for the browser where it is known to the account."""
        ...

    async def passed(self, login: str, now: datetime, browser: bytes | None, most: int) -> None:
        """Forget wrong passwords where they were counted; know this browser from now on, among ``most``."""
        ...

    async def close(self, login: str, now: datetime) -> bool:
        """Revoke an account's key and end its sessions; False when it is closed already."""
        ...

    async def open_session(self, token_hash: bytes, login: str, now: datetime, ends_at: datetime) -> bool:
        """Write a session; False when there is no such account."""
        ...

    async def session(self, token_hash: bytes) -> Session | None:
        """Return a session with its account."""
        ...

    async def touch_session(self, token_hash: bytes, now: datetime) -> None:
        """Write that a person is there."""
        ...

    async def close_session(self, token_hash: bytes) -> None:
        """End a session."""
        ...


def wait_before_try(account: Account, now: datetime) -> timedelta:
    """Return how long an account's next try must wait after wrong ones; zero or less: not at all."""
    over = account.failures - FREE_TRIES
    if over < 0 or account.failed_at is None:
        return timedelta()
    pause = min(_LONGEST_WAIT, timedelta(seconds=2.0 ** min(over + 1, 20)))
    return account.failed_at + pause - now


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


class Accounts:
    """Use cases of accounts and sessions."""

    def __init__(self, store: AccountStore, clock: Clock, secrets: Secrets) -> None:
        self._store = store
        self._clock = clock
        self._secrets = secrets
        # each takes 32 MiB and a quarter of a second of a core: calls of the API must not wait behind them
        self._hashing = asyncio.Semaphore(1)

    # -- sign in and out -----------------------------------------------------------------------------------------

    async def sign_in(self, login: str, password: str, browser: str | None = None) -> str:
        """Open a session; returns its token, for the cookie.

        Wrong passwords lock all browsers but those in which somebody has signed in to the account before: these are
        counted each by itself, so whoever knows a login cannot keep its holder out (OWASP, device cookies).

        Args:
            login: as typed.
            password: as typed.
            browser: secret that this browser keeps and has from us; None: none, and it is not known afterwards either.

        Raises:
            NotAuthenticatedError: login or password is wrong, or the account is closed (one answer for all).
            TooManyError: after wrong ones, the next try must wait; ``retry_after`` in seconds.
        """
        login, known = login.strip().lower(), None if browser is None else _hash(browser)
        await self._account_to_try(login, known)
        async with self._hashing:
            # asked again: tries that were before in this queue are counted by now, this one before the next is let on
            account = await self._account_to_try(login, known)
            record = _DUMMY if account is None or account.password is None else account.password
            good = await asyncio.to_thread(is_password, password[:LONGEST_PASSWORD], record)
            now = self._clock.now()
            if account is None or not good or not _in_force(account, now):
                if account is not None:
                    await self._store.failed(account.login, now, known)
                raise NotAuthenticatedError("Identifiant ou mot de passe incorrect.")
        await self._store.passed(account.login, now, known, MOST_BROWSERS)
        return await self.open(account.login)

    async def _account_to_try(self, login: str, browser: bytes | None) -> Account | None:
        """Return an account whose password may be tried now; None: there is none of that login.

        Raises:
            TooManyError: after wrong ones, the next try must wait.
        """
        # what cannot be a login is nobody's, and takes as long to be told so
        account = await self._store.account(login, browser) if _LOGIN.fullmatch(login) else None
        if account is not None and (wait := wait_before_try(account, self._clock.now())) > timedelta():
            seconds = max(1, round(wait.total_seconds()))
            raise TooManyError(f"Trop d'essais pour ce compte : réessayez dans {seconds} s.", retry_after=seconds)
        return account

    async def sign_in_as(self, subject: str) -> str:
        """Open the session of a person whom an OpenID provider vouches for ("issuer subject"); returns its token.

        Raises:
            NotAuthenticatedError: no account in force is that person's.
        """
        account = await self._store.account_of_subject(subject)
        if account is None or not _in_force(account, self._clock.now()):
            raise NotAuthenticatedError("Aucun compte n'est rattaché à cette identité.")
        return await self.open(account.login)

    async def open(self, login: str) -> str:
        """Open a session for somebody who has proved who they are; returns its token.

        Raises:
            NotFoundError: no such account.
        """
        token, now = self._secrets.secret(), self._clock.now()
        if not await self._store.open_session(_hash(token), login, now, now + LONGEST):
            raise NotFoundError(f"Le compte « {login} » n'existe pas.")
        return token

    async def account_of(self, token: str, *, present: bool = True) -> Account:
        """Return whose session it is; ``present`` says that a person made the call (not the page by itself).

        Raises:
            NotAuthenticatedError: unknown, ended, idle for too long, or the account is closed.
        """
        session = await self._store.session(_hash(token))
        now = self._clock.now()
        if (
            session is None
            or session.ends_at <= now
            or session.seen_at + IDLE <= now
            or not _in_force(session.account, now)
        ):
            raise NotAuthenticatedError("Votre session est terminée : connectez-vous de nouveau.")
        if present and now - session.seen_at >= _TOUCH:
            await self._store.touch_session(_hash(token), now)
        return session.account

    async def sign_out(self, token: str) -> None:
        """End a session."""
        await self._store.close_session(_hash(token))

    # -- keeping accounts ----------------------------------------------------------------------------------------

    async def all(self) -> list[Account]:
        """Return all accounts, by login."""
        return await self._store.accounts()

    async def add(self, login: str, password: str | None, wish: KeyWish, subject: str | None = None) -> None:
        """Create an account with the rights of a new key, which the caller has checked (``binding_problem``).

        Args:
            login: how it is called; lower case.
            password: None: it comes in by another door only.
            wish: its rights, and the name that pages show.
            subject: "issuer subject" of its holder at an OpenID provider.

        Raises:
            InvalidInputError: login or password cannot be one.
            ConflictError: the login is taken.
        """
        if _LOGIN.fullmatch(login) is None:
            raise InvalidInputError.of(
                "login", "2 à 64 caractères parmi a-z, 0-9 et . _ @ + - ; commence par a-z ou 0-9"
            )
        record = None if password is None else await self._record(password)
        # the secret is thrown away: nobody calls the API with this key
        key = new_key(wish, self._secrets.key_id(), _hash(self._secrets.secret()))
        if not await self._store.add(self._clock.now(), login, record, subject, key):
            raise ConflictError(f"Le compte « {login} » existe déjà.")

    async def change_password(self, login: str, password: str) -> None:
        """Give an account another password; all its sessions end.

        Raises:
            InvalidInputError: too short or too long.
            NotFoundError: no such account.
        """
        if not await self._store.set_password(login, await self._record(password)):
            raise NotFoundError(f"Le compte « {login} » n'existe pas.")

    async def close(self, login: str) -> None:
        """Close an account: its sessions end at once, its key is revoked, what it did keeps its name.

        Raises:
            NotFoundError: no such account in force.
        """
        if not await self._store.close(login, self._clock.now()):
            raise NotFoundError(f"Aucun compte ouvert ne s'appelle « {login} ».")

    async def _record(self, password: str) -> str:
        if not SHORTEST <= len(password) <= LONGEST_PASSWORD:
            raise InvalidInputError.of("password", f"{SHORTEST} à {LONGEST_PASSWORD} caractères")
        async with self._hashing:
            return await asyncio.to_thread(hash_password, password, _hash(self._secrets.secret())[:SALT_BYTES])


def _in_force(account: Account, now: datetime) -> bool:
    key = account.key
    return key.revoked_at is None and (key.expires_at is None or key.expires_at > now)


def suggest_password(secret: str) -> str:
    """Return a password of 20 letters and figures (99 bits) in groups that can be read out, from random text."""
    digits = hashlib.sha256(secret.encode()).digest()
    letters = "".join(_READABLE[byte % len(_READABLE)] for byte in digits[:20])
    return "-".join(letters[start : start + 5] for start in range(0, 20, 5))
