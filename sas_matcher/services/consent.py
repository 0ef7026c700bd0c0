"""Consent: which of their places practices let leave, for whom and when; and who was shown them."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import orjson

from sas_matcher.ports.practice import ConsentBook, ShareRule
from sas_matcher.ports.world import Clock, Geography
from sas_matcher.services.members import Named, check_members, member_names, zone_of
from sas_matcher.services.overflow import clock_text, minute_of
from sas_matcher.services.publish import Publisher

MOST_RULES: Final = 200  # of one source: a gestionnaire of many centres; more is a program gone wrong
WHAT: Final[Mapping[str, str]] = {
    "offers": "montrée dans une liste à un régulateur",
    "platform": "montrée à la plateforme nationale (FHIR)",
    "proposed": "proposée par le service à un régulateur, ou en autre choix",
    "asked": "question « en sus »",
    "booked": "réservée",
}
"""What happened to a place, by ``Exposure.what``, for people."""


class Consenting:
    """The practice's use cases: set a rule, see its rules, take one back, see who was shown what."""

    def __init__(self, book: ConsentBook, clock: Clock, geography: Geography) -> None:
        self._book, self._clock, self._geography = book, clock, geography
        self._named = Named(("une", "règle"), MOST_RULES, book.rules)

    async def put(self, publisher: Publisher, name: str, wish: Mapping[str, Any]) -> dict[str, Any]:
        """Set or change a rule; in force when this returns. What is booked or promised already stays.

        Args:
            publisher: who speaks.
            name: the practice's own name of the rule.
            wish: plain mapping in the shape of the API's rule.

        Returns:
            The rule's document.

        Raises:
            InvalidInputError: a member that this key may not speak for, or an unknown territory.
            NotFoundError: a rule of that name is of members that this key may not speak for.
            ConflictError: the source has too many rules.
        """
        check_members(publisher, wish)
        zone = zone_of(self._geography, wish["territory"])
        await self._named.check_put(publisher, name)
        rule = ShareRule(
            source=publisher.source,
            name=name,
            # who may speak for anybody may not close the places that others publish for them
            own_only="*" in publisher.professionals,
            zone=zone,
            from_minute=minute_of(wish["from"]),
            to_minute=minute_of(wish["to"]),
            days=tuple(sorted(set(wish["days"]))),
            professions=None if wish["professions"] is None else tuple(sorted(set(wish["professions"]))),
            channels=tuple(sorted(set(wish["channels"]))),
            own_first_min=wish["own_first_min"],
            members=member_names(wish["professionals"], wish["structures"]),
        )
        return _shown(orjson.loads(await self._book.put_rule(self._clock.now(), rule)))

    async def remove(self, publisher: Publisher, name: str) -> None:
        """Take a rule back.

        Raises:
            NotFoundError: there is none of that name that this key may change.
        """
        await self.one(publisher, name)
        if not await self._book.remove_rule(self._clock.now(), publisher.source, name):
            raise self._named.missing()

    async def one(self, publisher: Publisher, name: str) -> dict[str, Any]:
        """Return a rule.

        Raises:
            NotFoundError: there is none of that name that this key may change.
        """
        return _shown(await self._named.one(publisher, name))

    async def all(self, publisher: Publisher) -> list[dict[str, Any]]:
        """Return the rules that this key may change, by name."""
        return [_shown(rule) for rule in await self._named.all(publisher)]

    async def exposures(
        self, publisher: Publisher, window: tuple[datetime, datetime], limit: int
    ) -> list[dict[str, Any]]:
        """Return who was shown, proposed, asked or given what of this practice in a window, newest first."""
        source = publisher.source if "*" in publisher.professionals else None
        found = await self._book.exposures(
            source, sorted(publisher.professionals), sorted(publisher.structures), window, limit
        )
        return [{**one._asdict(), "rule": one.rule or "publication", "sentence": WHAT[one.what]} for one in found]


def _shown(rule: Mapping[str, Any]) -> dict[str, Any]:
    """Return a rule as it was put: hours as text."""
    hours = {"from": clock_text(rule["from_minute"]), "to": clock_text(rule["to_minute"])}
    return {**{name: value for name, value in rule.items() if name not in ("from_minute", "to_minute")}, **hours}
