"""Earlier days, from day logs, in the columns that forecasts learn from."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

import structlog

from sas_matcher.domain.vocabulary import Tier
from sas_matcher.matching.forecast import HistoryDay
from sas_matcher.matching.pairs import MODE_BITS, Codes, Requests, Slots
from sas_matcher.matching.terms import TIER_RANK, Terms
from sas_matcher.ports import Clock
from sas_matcher.replay.daylog import DayLog, DayLogError, read_day
from sas_matcher.replay.recording import specialty_of
from sas_matcher.replay.terms import terms_of

LEARNED: Final = 10
"""Days that are learned from, the newest: as many as in the matching study (§7.1)."""

_log = structlog.get_logger(__name__)

ANYWHERE: Final = 0
"""A day log knows no seas."""


def history_day(day: DayLog, tiers: Mapping[str, Tier], terms: Terms, codes: Codes) -> HistoryDay:
    """One earlier day as it turned out, its times counted from its own first instant.

    Requests that were cancelled and slots that turned out phantoms or were withdrawn are left out: in the end they
    neither took a place nor gave one.

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
        if asked.id in day.cancelled_at:
            continue
        specialty, needs = specialty_of(asked.needs)
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
            need=codes.need(needs),
            mt=codes.name(asked.mt),
            tier=TIER_RANK[tier],
            specialty=_number(specialty, codes),
            landmass=ANYWHERE,
        )
    for shown in day.slots:
        slot = shown.slot
        if slot.refused_after_min is not None or slot.id in day.withdrawn_at:
            continue
        specialty, offers = specialty_of(slot.offers)
        slots.append(
            published=float(shown.t) - began,
            capacity=slot.capacity,
            lat=slot.lat,
            lon=slot.lon,
            start=float(slot.start) - began,
            profession=codes.name(slot.profession),
            mode=MODE_BITS[slot.mode],
            offer=codes.offer(offers),
            professional=codes.name(slot.professional),
            specialty=_number(specialty, codes),
            landmass=ANYWHERE,
        )
    weekday = datetime.fromtimestamp(began, UTC).astimezone(ZoneInfo(day.meta.timezone)).weekday()
    return HistoryDay(requests, slots, weekday)


def _number(specialty: str | None, codes: Codes) -> int:
    """The number of a specialty, the desk's own; a day log has one only where it was recorded."""
    return -1 if specialty is None else codes.name(f"specialty {specialty}")


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


class RecordedDays:
    """Port ``History``: the newest recorded days of each territory, read from ``<folder>/<territory>/<date>.jsonl``.

    The day that is still being written is not learned from; one that cannot be read is left out, and said so.
    """

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._folder, self._clock = folder, clock

    def has(self, territory: str) -> bool:
        """Whether there are any."""
        return next(self._files(territory), None) is not None

    def learn(self, territory: str, terms: Terms, codes: Codes) -> list[HistoryDay]:
        """Return them, the newest first, in the numbers of ``codes``."""
        learned: list[HistoryDay] = []
        for path in self._files(territory):
            if len(learned) == LEARNED:
                break
            try:
                day = read_day(path)
                learned.append(history_day(day, terms_of(day.meta)[1], terms, codes))
            except (DayLogError, OSError) as wrong:
                _log.warning("history.unreadable", file=path.name, territory=territory, detail=str(wrong))
        return learned

    def _files(self, territory: str) -> Iterator[Path]:
        today = self._clock.now().date().isoformat()
        days = (path for path in self._folder.glob(f"{territory}/*.jsonl*") if ".batches." not in path.name)
        yield from (path for path in sorted(days, reverse=True) if path.name[: len(today)] < today)
