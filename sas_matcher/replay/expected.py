"""What is expected of a territory of which too few days were recorded: ordinary days drawn from the demand model.

They are the scenario pack's ordinary day on the territory's communes: what is asked, and the places of an invented
world. Nothing of them is known of this territory but where its people live, its clock and its circle; every volume is
the model's (its S, D and G figures), and the forecast brings it to how many call today. Recorded days come first; with
as many recorded as would be drawn, nothing is drawn any more.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from typing import Final, Protocol
from zoneinfo import ZoneInfo

from adapters.geo import Gazetteer
from sas_matcher.demo.world import CommuneRow, TerritoryRow
from sas_matcher.domain.duty import sas_hours
from sas_matcher.matching.forecast import HistoryDay
from sas_matcher.matching.pairs import Codes
from sas_matcher.matching.terms import Terms
from sas_matcher.replay.daylog import DayLog
from sas_matcher.replay.history import LandmassOf, expected_day
from sas_matcher.replay.simulate import simulate

EXPECTED: Final = 4
"""Expected days of a territory: as many as a look ahead has futures (``Commitment.futures``)."""

ELSEWHERE: Final = 7_000
"""Seed of the first day and of its people: no day that ``simulate`` draws by default is one of these."""

CommunesOf = Callable[[str], Sequence[CommuneRow]]
"""The communes of a territory, each inhabitant once; none where it is unknown."""


def expected_days(
    communes: Sequence[CommuneRow], day: date, count: int = EXPECTED, *, territories: Mapping[str, TerritoryRow]
) -> list[DayLog]:
    """Draw ordinary days of some communes; the same arguments give the same days.

    Args:
        communes: Of one territory.
        day: The local date that is expected: its day of the week and hours are theirs.
        count: How many, each with practices of its own: nobody knows who publishes what before he does.
        territories: Time zone and circle of the communes' territory.

    Returns:
        The days; none on a Sunday or a public holiday, of which the model knows nothing.
    """
    if not communes or sas_hours(day, communes[0].code) is None:
        return []
    seeds = range(ELSEWHERE, ELSEWHERE + count)
    return [simulate("S0", communes, seed, territories=territories, day=day, people=seed) for seed in seeds]


def expected_beside(day: DayLog, count: int) -> list[DayLog]:
    """Draw what the service expects on the date of a day log; none where its territory is no département."""
    geography, meta = Gazetteer.load(), day.meta
    date_there = datetime.fromtimestamp(meta.start, ZoneInfo(meta.timezone)).date()
    return expected_days(geography.communes_of(meta.territory), date_there, count, territories=geography.territories)


class Recorded(Protocol):
    """Recorded days (port ``History`` without what is expected)."""

    def count(self, territory: str, before: date) -> int:
        """How many there are."""
        ...

    def learn(self, territory: str, before: date, terms: Terms, codes: Codes) -> Sequence[HistoryDay]:
        """Return them."""
        ...


class ExpectedDays:
    """Port ``History``: recorded days, filled up with expected ones where there are too few.

    Args:
        recorded: the days that were recorded.
        communes_of: where people live.
        territories: time zone and circle of each territory.
        landmass_of: as the places of today are numbered.
        enough: days, recorded and expected together; with as many recorded nothing is drawn.
    """

    def __init__(
        self,
        recorded: Recorded,
        communes_of: CommunesOf,
        territories: Mapping[str, TerritoryRow],
        landmass_of: LandmassOf,
        enough: int = EXPECTED,
    ) -> None:
        self._recorded, self._communes_of, self._territories = recorded, communes_of, territories
        self._landmass_of, self._enough = landmass_of, enough
        self._drawn: dict[str, tuple[date, list[DayLog]]] = {}

    def count(self, territory: str, before: date) -> int:
        """How many days were recorded."""
        return self._recorded.count(territory, before)

    def expect(self, territory: str, today: date) -> bool:
        """Draw what is expected today, where too few days were recorded; whether anything is.

        Takes up to a second (four days of the Nord 0.7 s, of all France 16 s; measured): not for the loop that decides.
        """
        missing = self._enough - self.count(territory, today)
        days: list[DayLog] = []
        if missing > 0:
            communes = self._communes_of(territory)
            days = expected_days(communes, today, missing, territories=self._territories)
        self._drawn[territory] = (today, days)
        return bool(days)

    def learn(self, territory: str, before: date, terms: Terms, codes: Codes) -> list[HistoryDay]:
        """Return the recorded days, then what was drawn for today, once: kept, all of France takes 200 MB."""
        drawn_for, days = self._drawn.pop(territory, (before, []))
        learned = list(self._recorded.learn(territory, before, terms, codes))
        for day in days if drawn_for == before else ():
            learned.append(expected_day(day, terms, codes, self._landmass_of))
        return learned
