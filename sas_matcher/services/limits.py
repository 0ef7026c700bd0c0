"""Limits: what a practice may say of how many patients it takes in a day, and taking it back."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sas_matcher.ports.ledger import Ledger, PracticeLimit
from sas_matcher.ports.world import Clock, Geography
from sas_matcher.services.members import Named, check_members, member_names, zone_of
from sas_matcher.services.publish import Publisher

MOST_LIMITS: Final = 200  # of one source: a manager of many centres; more is a program gone wrong


class Limiting:
    """The practice's use cases: set a limit, see its limits, take one back."""

    def __init__(self, ledger: Ledger, clock: Clock, geography: Geography) -> None:
        self._ledger = ledger
        self._clock = clock
        self._geography = geography
        self._named = Named(("une", "limite"), MOST_LIMITS, lambda source: ledger.limits_of_source(clock.now(), source))

    async def put(self, publisher: Publisher, name: str, wish: Mapping[str, Any]) -> str:
        """Set or change a limit; in force when this returns. What is booked already stays.

        Args:
            publisher: who speaks.
            name: the practice's own name of the limit.
            wish: plain mapping in the shape of the API's limit.

        Returns:
            The limit's document.

        Raises:
            InvalidInputError: a member that this key may not speak for, or an unknown territory.
            NotFoundError: a limit of that name is of members that this key may not speak for.
            ConflictError: the source has too many limits.
        """
        check_members(publisher, wish)
        zone = zone_of(self._geography, wish["territory"])
        await self._named.check_put(publisher, name)
        limit = PracticeLimit(
            source=publisher.source,
            name=name,
            counts=wish["counts"],
            period=wish["period"],
            most=wish["most"],
            share=wish["share"],
            zone=zone,
            # who may speak for anybody may not close the places that others publish for them
            own_only="*" in publisher.professionals,
            members=member_names(wish["professionals"], wish["structures"]),
        )
        return await self._ledger.put_limit(self._clock.now(), limit)

    async def remove(self, publisher: Publisher, name: str) -> None:
        """Take a limit back.

        Raises:
            NotFoundError: there is none of that name that this key may change.
        """
        await self.one(publisher, name)
        if not await self._ledger.remove_limit(self._clock.now(), publisher.source, name):
            raise self._named.missing()

    async def one(self, publisher: Publisher, name: str) -> Mapping[str, Any]:
        """Return a limit.

        Raises:
            NotFoundError: there is none of that name that this key may change.
        """
        return await self._named.one(publisher, name)

    async def all(self, publisher: Publisher) -> Sequence[Mapping[str, Any]]:
        """Return the limits that this key may change, by name."""
        return await self._named.all(publisher)
