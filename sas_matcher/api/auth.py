"""API keys: who calls, what they may do, how fast. Only hashes are stored; a key is shown once, when issued."""

import hashlib
import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol

from sas_matcher.domain.errors import NotAllowedError, NotAuthenticatedError, TooManyError
from sas_matcher.domain.vocabulary import SCOPE_LABELS, SCOPE_OF_ROLE, Role, Scope
from sas_matcher.ports.ledger import KeyRecord, Ledger
from sas_matcher.ports.world import Clock
from sas_matcher.services.publish import Publisher

_TOKEN = re.compile(r"sas_([a-z0-9]{8,16})_([A-Za-z0-9_-]{43})")
CACHE: Final = timedelta(seconds=2)  # a revoked key is refused everywhere after this at the latest
_CACHED: Final = 20_000  # keys remembered, then all are looked up again: a bound on memory, far off


def hash_secret(secret: str) -> bytes:
    """Hash a key's secret. It has 256 random bits, so a fast hash is enough (nothing can be guessed)."""
    return hashlib.sha256(secret.encode()).digest()


def token(key_id: str, secret: str) -> str:
    """Return the key as its holder sends it."""
    return f"sas_{key_id}_{secret}"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, with the binding of the key."""

    key_id: str
    name: str
    role: Role
    territories: frozenset[str]
    structures: frozenset[str]
    professionals: frozenset[str]
    source: str

    @property
    def scope(self) -> Scope:
        """What the role may do."""
        return SCOPE_OF_ROLE[self.role]

    @property
    def publisher(self) -> Publisher:
        """The caller as a publisher."""
        return Publisher(self.source, self.professionals, self.structures)

    def need(self, *scopes: Scope) -> "Caller":
        """Return the caller if one of the scopes is theirs.

        Raises:
            NotAllowedError: names the scope that is missing.
        """
        if self.scope not in scopes:
            wanted = " ou ".join(SCOPE_LABELS[scope] for scope in scopes)
            raise NotAllowedError(f"Il faut une clé {wanted} ; celle-ci est une clé {SCOPE_LABELS[self.scope]}.")
        return self

    @property
    def sees_all(self) -> bool:
        """Whether no territory is closed to the key: that of an administrator, or one that is bound to all."""
        return self.scope is Scope.ADMIN or "*" in self.territories

    def sees_territory(self, territory: str) -> bool:
        """Tell whether the key may see a territory."""
        return self.sees_all or territory in self.territories

    def owns(self, source: str, professional: str | None, structure: str | None) -> bool:
        """Tell whether a slot is this practice's own."""
        if self.source == source and "*" in self.professionals:
            return True
        return professional in self.professionals or structure in self.structures


def caller_of(record: KeyRecord) -> Caller:
    """Build the caller of a stored key."""
    return Caller(
        key_id=record.id,
        name=record.name,
        role=Role(record.role),
        territories=frozenset(record.territories),
        structures=frozenset(record.structures),
        professionals=frozenset(record.professionals),
        source=record.source,
    )


@dataclass(slots=True)
class _Bucket:
    """Token bucket of one name."""

    tokens: float
    at: float


class Rate:
    """A bounded rate for each name (a key, an address): token buckets of one worker."""

    def __init__(self, clock: Clock, *, rate: float, burst: float, refusal: str) -> None:
        """Take the bounds.

        Args:
            clock: the time.
            rate: calls a second.
            burst: calls at once.
            refusal: what whoever goes over them is told, in French.
        """
        self._clock = clock
        self._rate = rate
        self._burst = burst
        self._refusal = refusal
        self._buckets: dict[str, _Bucket] = {}

    def spend(self, name: str) -> None:
        """Count one call.

        Raises:
            TooManyError: the name calls faster than its rate; ``retry_after`` in seconds.
        """
        now = self._clock.now().timestamp()
        bucket = self._buckets.get(name)
        if bucket is None:
            if len(self._buckets) >= _CACHED:
                self._buckets.clear()
            bucket = self._buckets[name] = _Bucket(self._burst, now)
        # the clock may have been put back: nothing is taken for that
        bucket.tokens = min(self._burst, bucket.tokens + max(0.0, now - bucket.at) * self._rate)
        bucket.at = now
        if bucket.tokens < 1:
            raise TooManyError(self._refusal, retry_after=max(1, round((1 - bucket.tokens) / self._rate)))
        bucket.tokens -= 1

    def give_back(self, name: str) -> None:
        """Take back the count of a call of this name that was as it should be, where only others are to be bounded."""
        bucket = self._buckets.get(name)
        if bucket is not None:
            bucket.tokens = min(self._burst, bucket.tokens + 1)


class Gate:
    """Turns an Authorization header into a caller, at a bounded rate."""

    def __init__(self, ledger: Ledger, clock: Clock, *, rate: float, burst: float) -> None:
        self._ledger = ledger
        self._clock = clock
        refusal = f"Plus de {rate:.0f} appels par seconde pour cette clé ; réessayez dans un instant."
        self._calls = Rate(clock, rate=rate, burst=burst, refusal=refusal)
        self._known: dict[str, tuple[datetime, KeyRecord, Caller]] = {}

    async def caller(self, header: str | None) -> Caller:
        """Return who calls.

        Raises:
            NotAuthenticatedError: no key, or one that is unknown, revoked or expired.
            TooManyError: the key calls faster than its rate; ``retry_after`` in seconds.
        """
        kind, _, text = (header or "").partition(" ")
        match = _TOKEN.fullmatch(text.strip()) if kind.lower() == "bearer" else None
        if match is None:
            raise NotAuthenticatedError("Envoyez l'en-tête Authorization: Bearer sas_…")
        caller = await self._check(match[1], match[2])
        self.spend(caller.key_id)
        return caller

    async def _check(self, key_id: str, secret: str) -> Caller:
        now = self._clock.now()
        known = self._known.get(key_id)
        # the clock may have been put back: what was known then is not known for longer
        if known is None or not timedelta(0) <= now - known[0] <= CACHE:
            record = await self._ledger.key(key_id)
            if record is None:
                self._known.pop(key_id, None)
                raise NotAuthenticatedError("Clé inconnue, expirée ou révoquée.")
            if len(self._known) >= _CACHED:
                self._known.clear()
            known = self._known[key_id] = (now, record, caller_of(record))
        _, record, caller = known
        good = hmac.compare_digest(record.secret_hash, hash_secret(secret))
        over = record.expires_at is not None and record.expires_at <= now
        # one answer for all: which part was wrong helps only who guesses
        if not good or over or record.revoked_at is not None:
            raise NotAuthenticatedError("Clé inconnue, expirée ou révoquée.")
        return caller

    async def of_key(self, key_id: str) -> Caller:
        """Return the caller of a key that proved itself before, as it stands now.

        Raises:
            NotAuthenticatedError: revoked or expired meanwhile.
        """
        record = await self._ledger.key(key_id)
        over = record is not None and record.expires_at is not None and record.expires_at <= self._clock.now()
        if record is None or over or record.revoked_at is not None:
            raise NotAuthenticatedError("Clé inconnue, expirée ou révoquée.")
        return caller_of(record)

    async def still_valid(self, key_id: str) -> bool:
        """Tell whether a key that was accepted earlier is still in force (long-lived sockets ask again)."""
        try:
            await self.of_key(key_id)
        except NotAuthenticatedError:
            return False
        return True

    def spend(self, key_id: str) -> None:
        """Count one call of a key, or of whoever else has a name here.

        Raises:
            TooManyError: it calls faster than its rate; ``retry_after`` in seconds.
        """
        self._calls.spend(key_id)


class OneTime(Protocol):
    """Keeps small values that may be taken once, by whichever process asks first (the bus, so that workers share)."""

    async def keep_once(self, name: str, value: str, seconds: int) -> None:
        """Keep a value for some seconds."""
        ...

    async def take_once(self, name: str) -> str | None:
        """Return a value and forget it; None when it was taken, has expired or never was."""
        ...


class Tickets:
    """One-time websocket tickets: 30 s, single use, never in a URL (OWASP ASVS 5.0 V4.4).

    They are kept on the bus, as hashes: the worker that gets the websocket is often not the one that gave the ticket.
    """

    LIFE_S: Final = 30

    def __init__(self, kept: OneTime, gate: Gate, clock: Clock, secret: Callable[[], str]) -> None:
        self._kept = kept
        self._gate = gate
        self._clock = clock
        self._secret = secret

    async def issue(self, caller: Caller) -> str:
        """Return a new ticket for a caller.

        Raises:
            UnavailableError: Redis is away.
        """
        ticket = self._secret()
        ends = self._clock.now().timestamp() + self.LIFE_S
        await self._kept.keep_once(_ticket_name(ticket), f"{caller.key_id} {ends}", self.LIFE_S)
        return ticket

    async def redeem(self, ticket: str) -> Caller:
        """Return whose ticket it is; it is used up.

        Raises:
            NotAuthenticatedError: unknown, used or too old, or its key is no longer in force.
            UnavailableError: Redis or the ledger is away.
        """
        entry = await self._kept.take_once(_ticket_name(ticket))
        key_id, _, ends = (entry or "").partition(" ")
        if entry is None or float(ends) <= self._clock.now().timestamp():
            raise NotAuthenticatedError("Ticket inconnu, déjà utilisé ou expiré.")
        return await self._gate.of_key(key_id)


def _ticket_name(ticket: str) -> str:
    return f"ticket:{hash_secret(ticket).hex()}"
