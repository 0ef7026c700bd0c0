"""What all pages of the workplace Pilotage share: which territory, which days, and where else one can go."""

import math
from collections.abc import Iterable, Sequence
from datetime import timedelta
from functools import cached_property
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode

from starlette.responses import Response

from sas_matcher.api.routes.figures import steered, structures_of
from sas_matcher.console.visit import Visit
from sas_matcher.domain.errors import InvalidInputError
from sas_matcher.domain.vocabulary import Scope
from sas_matcher.ports.steering import Span
from sas_matcher.ports.world import TerritoryRecord

WHO: Final = (Scope.COORDINATOR, Scope.ADMIN)
PERIODS: Final[dict[int, str]] = {1: "24 heures", 7: "7 jours", 30: "30 jours", 91: "3 mois"}
_LARGEST: Final = 2**53
"""Up to here every whole number is itself as a float; JSON is written up to 2**63."""


class Place(NamedTuple):
    """A page of the workplace."""

    path: str
    title: str
    dated: bool = True


PLACES: Final = (
    Place("/pilotage", "Maintenant", dated=False),
    Place("/pilotage/crise", "Crise", dated=False),
    Place("/pilotage/carte", "Carte"),
    Place("/pilotage/besoins", "Besoins et délais"),
    Place("/pilotage/offre", "Offre et équité"),
    Place("/pilotage/journees", "Journées rejouées", dated=False),
    Place("/pilotage/aci", "Rapport ACI"),
    Place("/pilotage/reglages", "Réglages", dated=False),
)


class Steering:
    """One look of somebody who steers: the territory and the days that the address names, or the usual ones.

    Args:
        visit: the call.
        more: names of what else this page's address may say.

    Raises:
        InvalidInputError: the address says something unknown.
        NotAllowedError: the territory is not theirs.
    """

    def __init__(self, visit: Visit, *more: str) -> None:
        said = visit.request.query_params
        for name in said:
            if name not in ("territoire", "jours", "again", *more):
                raise InvalidInputError.of(name[:40], "paramètre inconnu dans l'adresse")
        self.visit = visit
        self.choices: Sequence[str] = steered(visit.wire, visit.caller, None)
        wanted = said.get("territoire")
        self.territory = steered(visit.wire, visit.caller, wanted)[0] if wanted else self.choices[0]
        self.days = self._days(said.get("jours", "7"))
        self.structures = structures_of(visit.caller)

    @staticmethod
    def _days(text: str) -> int:
        known = {str(days): days for days in PERIODS}
        if text not in known:
            raise InvalidInputError.of("jours", f"choisissez {', '.join(known)}")
        return known[text]

    @property
    def record(self) -> TerritoryRecord:
        """The territory."""
        return self.visit.wire.geography.territories[self.territory]

    @cached_property
    def span(self) -> Span:
        """The days."""
        now = self.visit.now
        return self.visit.wire.figures.span(self.territory, now - timedelta(days=self.days), now, self.structures)

    def link(self, path: str, **said: str | int) -> str:
        """Return an address that keeps territory and days."""
        kept = {"territoire": self.territory, "jours": self.days}
        return f"{path}?{urlencode(kept | said)}"

    async def names(self, key_ids: Iterable[str]) -> dict[str, str]:
        """Return the names of those who did something, by the keys that they did it with."""
        found = {}
        for key_id in sorted(set(key_ids)):
            record = await self.visit.wire.ledger.key(key_id)
            found[key_id] = key_id if record is None else record.name
        return found

    def show(self, template: str, status: int = 200, **values: Any) -> Response:
        """Answer a page of the workplace."""
        return self.visit.show(
            f"pilotage/{template}", status, look=self, places=PLACES, periods=PERIODS, now=self.visit.now, **values
        )


def number_of(text: str, field: str) -> float | int | None:
    """Return a number that somebody typed, with point or comma; None of nothing.

    Raises:
        InvalidInputError: it is none, or larger than any that is meant.
    """
    if not text:
        return None
    try:
        value = float(text.replace(",", "."))
    except ValueError as wrong:
        raise InvalidInputError.of(field, "doit être un nombre") from wrong
    if not math.isfinite(value):
        raise InvalidInputError.of(field, "doit être un nombre fini")
    if abs(value) > _LARGEST:
        raise InvalidInputError.of(field, "est trop grand")
    return int(value) if value.is_integer() else value
