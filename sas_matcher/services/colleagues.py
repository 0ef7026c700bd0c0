"""Who else works for a practice, and giving or taking back such a right: never more than one has oneself."""

from collections.abc import Collection, Mapping
from typing import Final, NamedTuple

from sas_matcher.domain.errors import InvalidInputError, NotAllowedError, NotFoundError
from sas_matcher.domain.vocabulary import Role
from sas_matcher.ports.ledger import KeyRecord
from sas_matcher.services.accounts import Account, Accounts
from sas_matcher.services.keys import KeyWish

MAY_INVITE: Final[Mapping[str, tuple[Role, ...]]] = {
    Role.PROFESSIONAL: (Role.DELEGATE,),
    Role.MANAGER: (Role.DELEGATE, Role.MANAGER),
    Role.GESTIONNAIRE: (Role.DELEGATE, Role.MANAGER),
}
"""Whom each role may let in: a professional a secretary; whoever runs a structure also who runs it with them."""
_HERE: Final = frozenset({Role.PROFESSIONAL, Role.DELEGATE, Role.MANAGER, Role.GESTIONNAIRE})


class Colleague(NamedTuple):
    """Somebody who may act for the same places.

    ``professionals`` and ``structures``: those that the one who looks has too; ``more``: they have others;
    ``mine_to_close``: the one who looks may take the right back.
    """

    login: str
    name: str
    role: str
    professionals: tuple[str, ...]
    structures: tuple[str, ...]
    more: bool
    mine_to_close: bool


class Colleagues:
    """The practice's use cases about its own people."""

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts

    async def seen_by(self, me: KeyRecord) -> list[Colleague]:
        """Return the accounts in force that share places with mine, mine too, by name."""
        found = [
            _as_seen(account, me)
            for account in await self._accounts.all()
            if account.key.revoked_at is None and account.key.role in _HERE and _shares(account.key, me)
        ]
        return sorted(found, key=lambda one: (one.name, one.login))

    async def invite(self, me: KeyRecord, login: str, password: str, wish: KeyWish) -> None:
        """Create an account for a colleague, of my source; nobody gives more than they have.

        Args:
            me: the key of whoever invites.
            login: of the new account.
            password: its first one.
            wish: role, name and what it is bound to; its ``source`` is not asked.

        Raises:
            NotAllowedError: my role lets nobody in, or not as that.
            InvalidInputError: it is bound to nothing, or to what is not mine; see also ``Accounts.add``.
            ConflictError: the login is taken.
        """
        if wish.role not in MAY_INVITE.get(me.role, ()):
            raise NotAllowedError("Votre rôle ne permet pas d'inviter ainsi ; demandez à votre responsable.")
        if not (wish.professionals or wish.structures):
            raise InvalidInputError.of("pour", "indiquez au moins un professionnel ou une structure")
        codes = (*wish.professionals, *wish.structures)
        if "*" in codes or not _within(wish.professionals, wish.structures, me):
            raise InvalidInputError.of("pour", "on ne donne que des droits que l'on a soi-même")
        await self._accounts.add(login, password, wish._replace(source=me.source, territories=()))

    async def take_back(self, me: KeyRecord, login: str) -> None:
        """Close a colleague's account at once.

        Raises:
            NotFoundError: there is no such account, or it is not mine to close.
        """
        if not any(one.login == login and one.mine_to_close for one in await self.seen_by(me)):
            raise NotFoundError("Ce compte n'est pas de ceux que vous pouvez fermer.")
        await self._accounts.close(login)


def _shares(key: KeyRecord, me: KeyRecord) -> bool:
    """Tell whether a key speaks for some of my places."""
    if key.source == me.source and ("*" in key.professionals or "*" in me.professionals):
        return True
    return bool(set(key.professionals) & set(me.professionals) or set(key.structures) & set(me.structures))


def _within(professionals: Collection[str], structures: Collection[str], me: KeyRecord) -> bool:
    """Tell whether all of these are mine to speak for."""
    return set(professionals) <= set(me.professionals) and set(structures) <= set(me.structures)


def _as_seen(account: Account, me: KeyRecord) -> Colleague:
    key = account.key
    everybody = "*" in me.professionals
    professionals = tuple(code for code in key.professionals if everybody or code in me.professionals)
    structures = tuple(code for code in key.structures if everybody or code in me.structures)
    mine = (
        key.id != me.id
        and key.source == me.source
        and key.role in MAY_INVITE.get(me.role, ())
        and "*" not in key.professionals
        and _within(key.professionals, key.structures, me)
    )
    more = len(professionals) + len(structures) < len(key.professionals) + len(key.structures)
    return Colleague(account.login, key.name, key.role, professionals, structures, more, mine)
