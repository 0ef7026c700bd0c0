"""What a key may be: the rights of a caller of the API, or of an account of the pages."""

from collections.abc import Container, Sequence
from typing import NamedTuple

from sas_matcher.domain.vocabulary import SCOPE_OF_ROLE, Role, Scope
from sas_matcher.ports.ledger import KeyRecord


class KeyWish(NamedTuple):
    """What a new key shall be; ``source`` empty means the key's own id."""

    role: Role
    name: str
    territories: Sequence[str] = ()
    structures: Sequence[str] = ()
    professionals: Sequence[str] = ()
    source: str = ""


def binding_problem(wish: KeyWish, territories: Container[str]) -> str | None:
    """Return in French what a key lacks of the binding that its scope demands; None when it may be issued.

    Args:
        wish: the key.
        territories: codes that exist.
    """
    scope = SCOPE_OF_ROLE[wish.role]
    if scope in (Scope.REGULATOR, Scope.COORDINATOR) and not wish.territories:
        return f"Une clé « {wish.role} » doit être rattachée à un territoire (ou « * »)."
    if scope is Scope.PRACTICE and not (wish.structures or wish.professionals):
        return "Une clé de cabinet doit être rattachée à une structure ou à un professionnel (ou « * »)."
    # who an event is for is told by these names, with a space between them
    names = (wish.source, *wish.structures, *wish.professionals)
    if bad := next((name for name in names if not name.isprintable() or " " in name), None):
        return f"« {bad} » contient une espace ou un caractère invisible : donnez un nom d'un seul mot (tirets permis)."
    wrong = next((code for code in wish.territories if code != "*" and code not in territories), None)
    return None if wrong is None else f"« {wrong} » n'est pas un département."


def new_key(wish: KeyWish, key_id: str, secret_hash: bytes) -> KeyRecord:
    """Return the record of a new key."""
    return KeyRecord(
        id=key_id,
        secret_hash=secret_hash,
        name=wish.name,
        role=wish.role,
        territories=tuple(wish.territories),
        structures=tuple(wish.structures),
        professionals=tuple(wish.professionals),
        source=wish.source or key_id,
        expires_at=None,
        revoked_at=None,
    )
