"""Whom a practice speaks for when it sets something by name: a limit, a rule of consent, a subscription."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from sas_matcher.domain.errors import InvalidInputError
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
