"""Earlier days, from day logs, in the columns that forecasts learn from."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from itertools import islice
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import structlog

from sas_matcher.domain.errors import InvalidInputError
from sas_matcher.domain.vocabulary import Tier
from sas_matcher.matching.forecast import HistoryDay
from sas_matcher.matching.pairs import MODE_BITS, Codes, Requests, Slots
from sas_matcher.matching.terms import TIER_RANK, Terms
from sas_matcher.replay.daylog import DayLog
from sas_matcher.replay.daylog_file import DayLogError, read_day
from sas_matcher.replay.recording import specialty_of
from sas_matcher.replay.terms import terms_of

LEARNED: Final = 10
"""Days that are learned from, the newest: as many as in the matching study (§7.1)."""

_log = structlog.get_logger(__name__)

LandmassOf = Callable[[Sequence[float], Sequence[float]], npt.NDArray[np.integer[Any]]]
"""Numbers of what can be reached by road, for points (latitudes, longitudes)."""


def one_landmass(lats: Sequence[float], lons: Sequence[float]) -> npt.NDArray[np.integer[Any]]:
    """No seas: what a day log says for itself."""
    return np.zeros(len(lats), np.int64)


def history_day(
    day: DayLog,
    tiers: Mapping[str, Tier],
    terms: Terms,
    codes: Codes,
    landmass_of: LandmassOf = one_landmass,
) -> HistoryDay:
    """One earlier day as it turned out, its times counted from its own first instant.

    Requests that were cancelled and slots that turned out phantoms or were withdrawn are left out: in the end they
    neither took a place nor gave one.

    Args:
        day: the day log.
        tiers: the service's tier for each of the day's.
        terms: of the territory today.
        codes: numbers for names, those of the desk that learns.
        landmass_of: as the places of today are numbered; a replay knows no seas.
    """
    began = float(day.meta.start)
    requests, slots = Requests(), Slots()
    called = [made for made in day.requests if made.request.id not in day.cancelled_at]
    seas = landmass_of([m.request.lat for m in called], [m.request.lon for m in called])
    for made, landmass in zip(called, seas.tolist(), strict=True):
        asked, tier = made.request, tiers[made.request.tier]
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
            specialty=codes.specialty(specialty),
            landmass=landmass,
        )
    real = [s for s in day.slots if s.slot.refused_after_min is None and s.slot.id not in day.withdrawn_at]
    seas = landmass_of([shown.slot.lat for shown in real], [shown.slot.lon for shown in real])
    for shown, landmass in zip(real, seas.tolist(), strict=True):
        slot = shown.slot
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
            specialty=codes.specialty(specialty),
            landmass=landmass,
        )
    weekday = datetime.fromtimestamp(began, UTC).astimezone(ZoneInfo(day.meta.timezone)).weekday()
    return HistoryDay(requests, slots, weekday)


def expected_day(day: DayLog, terms: Terms, codes: Codes, landmass_of: LandmassOf = one_landmass) -> HistoryDay:
    """A day that was drawn, not recorded (``replay.expected``); arguments as for ``history_day``."""
    return replace(history_day(day, terms_of(day.meta)[1], terms, codes, landmass_of), expected=True)


class KnownDays:
    """Port ``History``: the days of one territory, already read.

    Attributes:
        expected: drawn days (``replay.expected``) beside them; others, where a recorded day says that a desk learned
            from more or fewer.
    """

    def __init__(self, days: Sequence[DayLog], tiers: Mapping[str, Tier], expected: Sequence[DayLog] = ()) -> None:
        self._days, self._tiers, self.expected = list(days), tiers, expected

    def count(self, territory: str, before: date) -> int:
        """How many there are."""
        return len(self._days)

    def expect(self, territory: str, today: date) -> bool:
        """Nothing: what is known here is known from the beginning."""
        return False

    def learn(self, territory: str, before: date, terms: Terms, codes: Codes) -> list[HistoryDay]:
        """Return them, in the numbers of ``codes``."""
        learned = [history_day(day, self._tiers, terms, codes) for day in self._days]
        return learned + [expected_day(day, terms, codes) for day in self.expected]


class RecordedDays:
    """Port ``History``: the newest recorded days of each territory, read from ``<folder>/<territory>/<date>.jsonl``.

    The dates are the territory's own, as ``record`` names its files. One that cannot be read is left out, and said so.
    """

    def __init__(self, folder: Path, landmass_of: LandmassOf) -> None:
        self._folder, self._landmass_of = folder, landmass_of

    def count(self, territory: str, before: date) -> int:
        """How many there are before a day, which may still be written; at most ``LEARNED``."""
        return sum(1 for _ in islice(self._files(territory, before), LEARNED))

    def expect(self, territory: str, today: date) -> bool:
        """Nothing: only what was recorded is known here."""
        return False

    def learn(self, territory: str, before: date, terms: Terms, codes: Codes) -> list[HistoryDay]:
        """Return them, the newest first, in the numbers of ``codes``."""
        learned: list[HistoryDay] = []
        for path in self._files(territory, before):
            if len(learned) == LEARNED:
                break
            try:
                day = read_day(path)
                learned.append(history_day(day, terms_of(day.meta)[1], terms, codes, self._landmass_of))
            except (DayLogError, InvalidInputError, OSError) as wrong:
                _log.warning("history.unreadable", file=path.name, territory=territory, detail=str(wrong))
        return learned

    def _files(self, territory: str, before: date) -> Iterator[Path]:
        end = before.isoformat()
        days = (path for path in self._folder.glob(f"{territory}/*.jsonl*") if ".batches." not in path.name)
        yield from (path for path in sorted(days, reverse=True) if path.name[: len(end)] < end)
