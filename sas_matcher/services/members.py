"""Whom a practice speaks for when it sets something by name: a limit, a rule of consent, a subscription."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final

import orjson

from sas_matcher.domain.errors import ConflictError, InvalidInputError, NotFoundError
from sas_matcher.ports.world import Geography
from sas_matcher.services.publish import Publisher

MAINLAND: Final = "Europe/Paris"


def check_members(publisher: Publisher, wish: Mapping[str, Any]) -> None:
    """Check that a key may speak for all that a wish names in ``professionals`` and ``structures``.

    Raises:
        InvalidInputError: names the first for whom it may not.
    """
    for field in ("professionals", "structures"):
        for number, member in enumerate(wish[field]):
            if not (publisher.may_publish(member, None) or publisher.may_publish(None, member)):
                raise InvalidInputError.of(f"{field}.{number}", "cette clé ne publie pas pour ce membre")


def member_names(professionals: Iterable[str], structures: Iterable[str]) -> tuple[str, ...]:
    """Return members as the ledger names them: ``p:`` RPPS, ``s:`` FINESS."""
    return (*(f"p:{rpps}" for rpps in professionals), *(f"s:{finess}" for finess in structures))


def may_change(publisher: Publisher, known: Mapping[str, Any]) -> bool:
    """Tell whether all members of what is set already are the publisher's."""
    return "*" in publisher.professionals or (
        publisher.professionals.issuperset(known["professionals"])
        and publisher.structures.issuperset(known["structures"])
    )


def zone_of(geography: Geography, territory: str | None) -> str:
    """Return the time zone in which a practice's days begin; without a territory the mainland's.

    Raises:
        InvalidInputError: no such territory.
    """
    if territory is None:
        return MAINLAND
    found = geography.territories.get(territory)
    if found is None:
        raise InvalidInputError.of("territory", f"{territory} n'est pas un département")
    return found.timezone


class Named:
    """What practices of a source have set by names of their own, each for whoever speaks for all of its members."""

    def __init__(
        self,
        word: tuple[str, str],
        most: int,
        listed: Callable[[str], Awaitable[Iterable[str]]],
        mine: Callable[[Publisher, Mapping[str, Any]], bool] = may_change,
    ) -> None:
        """Take what they are.

        Args:
            word: what people call one of them, with its article, such as ``("une", "limite")``.
            most: how many a source may have.
            listed: returns the documents of a source, by name.
            mine: tells whether a publisher speaks for all that a document is about.
        """
        self._article, self._word = word
        self._most, self._listed, self._mine = most, listed, mine

    async def check_put(self, publisher: Publisher, name: str) -> None:
        """Check that one may be set under a name.

        Raises:
            NotFoundError: that name is of members that this key may not speak for.
            ConflictError: the source has too many.
        """
        known = await self._known(publisher)
        if name in known and not self._mine(publisher, known[name]):
            raise NotFoundError(f"Ce nom est celui d'{self._article} {self._word} d'autres membres de la même source.")
        if name not in known and len(known) >= self._most:
            raise ConflictError(f"{self._most} {self._word}s au plus pour une source ; supprimez-en {self._article}.")

    async def all(self, publisher: Publisher) -> list[dict[str, Any]]:
        """Return those that this key may change, by name."""
        return [one for one in (await self._known(publisher)).values() if self._mine(publisher, one)]

    async def one(self, publisher: Publisher, name: str) -> dict[str, Any]:
        """Return one.

        Raises:
            NotFoundError: there is none of that name that this key may change.
        """
        found = (await self._known(publisher)).get(name)
        if found is None or not self._mine(publisher, found):
            raise self.missing()
        return found

    def missing(self) -> NotFoundError:
        """Return what says that there is none of a name that this key may change."""
        return NotFoundError(f"{self._word.capitalize()} introuvable pour cette clé.")

    async def _known(self, publisher: Publisher) -> dict[str, dict[str, Any]]:
        return {one["name"]: one for one in map(orjson.loads, await self._listed(publisher.source))}
