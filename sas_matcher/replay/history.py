"""Earlier days, from day logs, in the columns that forecasts learn from."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from sas_matcher.domain.vocabulary import Tier
from sas_matcher.matching.forecast import HistoryDay
from sas_matcher.matching.pairs import MODE_BITS, Codes, Requests, Slots
from sas_matcher.matching.terms import TIER_RANK, Terms
from sas_matcher.replay.daylog import DayLog

ANYWHERE = {"specialty": -1, "landmass": 0}
"""A day log knows neither specialties nor seas."""


def history_day(day: DayLog, tiers: Mapping[str, Tier], terms: Terms, codes: Codes) -> HistoryDay:
    """One earlier day, its times counted from its own first instant.

    Args:
        day: the day log.
        tiers: the service's tier for each of the day's.
        terms: of the territory today.
        codes: numbers for names, those of the desk that learns.
    """
    began = float(day.meta.start)
    requests, slots = Requests(), Slots()
    for made in day.requests:
        asked, tier = made.request, tiers[made.request.tier]
        requests.append(
            created=float(made.t) - began,
            lat=asked.lat,
            lon=asked.lon,
            deadline=float(asked.deadline) - began,
            radius_km=asked.radius_km,
            value=terms.tiers[tier].value,
            wait_weight=terms.tiers[tier].wait_weight,
            profession=codes.name(asked.profession),
            modes=sum(MODE_BITS[mode] for mode in set(asked.modes)),
            need=codes.need(asked.needs),
            mt=codes.name(asked.mt),
            tier=TIER_RANK[tier],
            **ANYWHERE,
        )
    for shown in day.slots:
        slot = shown.slot
        slots.append(
            published=float(shown.t) - began,
            capacity=slot.capacity,
            lat=slot.lat,
            lon=slot.lon,
            start=float(slot.start) - began,
            profession=codes.name(slot.profession),
            mode=MODE_BITS[slot.mode],
            offer=codes.offer(slot.offers),
            professional=codes.name(slot.professional),
            **ANYWHERE,
        )
    weekday = datetime.fromtimestamp(began, UTC).astimezone(ZoneInfo(day.meta.timezone)).weekday()
    return HistoryDay(requests, slots, weekday)


class KnownDays:
    """Port ``History``: the days of one territory, already read."""

    def __init__(self, days: Sequence[DayLog], tiers: Mapping[str, Tier]) -> None:
        self._days, self._tiers = list(days), tiers

    def has(self, territory: str) -> bool:
        """Whether there are any."""
        return bool(self._days)

    def learn(self, territory: str, terms: Terms, codes: Codes) -> list[HistoryDay]:
        """Return them, in the numbers of ``codes``."""
        return [history_day(day, self._tiers, terms, codes) for day in self._days]
