"""Who may come in: keys, the Redis users of practices' streams, accounts of the pages."""

from adapters.geo import Gazetteer
from adapters.postgres import PostgresLedger
from adapters.postgres.accounts import PostgresAccounts
from adapters.redis.ingest import user_of
from adapters.system import SystemClock, SystemIds
from sas_matcher.api.auth import hash_secret, token
from sas_matcher.bootstrap.stores import Stores
from sas_matcher.config import ConfigError
from sas_matcher.ports.ledger import KeyRecord
from sas_matcher.services.accounts import Accounts
from sas_matcher.services.keys import KeyWish, binding_problem, new_key


def checked(wish: KeyWish, geography: Gazetteer) -> KeyWish:
    """Check that a key is bound as its scope demands.

    Raises:
        ConfigError: in French, what is missing.
    """
    problem = binding_problem(wish, geography.territories)
    if problem is not None:
        raise ConfigError(problem)
    return wish


async def issue_key(stores: Stores, wish: KeyWish) -> tuple[KeyRecord, str]:
    """Store a new key; returns its record and the key itself, which is shown this once."""
    checked(wish, Gazetteer.load())
    key_id, secret = stores.ids.key_id(), stores.ids.secret()
    record = new_key(wish, key_id, hash_secret(secret))
    await stores.ledger.add_key(record, stores.clock.now())
    return record, token(key_id, secret)


async def allow_ingest(stores: Stores, key_id: str) -> tuple[str, str]:
    """Let a key publish through Redis; returns its Redis user and password, which is shown this once.

    Raises:
        ConfigError: there is no such key in force.
    """
    password = stores.ids.secret()
    if not await stores.ledger.allow_ingest(key_id, hash_secret(password).hex()):
        raise ConfigError(f"La clé {key_id} n'existe pas ou est révoquée.")
    return user_of(key_id), password


def accounts_of(ledger: PostgresLedger, clock: SystemClock, ids: SystemIds) -> Accounts:
    """Return the accounts of the pages."""
    return Accounts(PostgresAccounts(ledger), clock, ids)


async def add_account(stores: Stores, login: str, password: str, wish: KeyWish) -> None:
    """Create an account with the rights of a new key.

    Raises:
        ConfigError: the key is not bound as its role demands.
        InvalidInputError, ConflictError: see ``Accounts.add``.
    """
    checked(wish, Gazetteer.load())
    await accounts_of(stores.ledger, stores.clock, stores.ids).add(login, password, wish)
