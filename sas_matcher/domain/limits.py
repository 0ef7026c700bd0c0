"""Limits that practices set on a day or half a day: when periods begin and end, and who counts as a child."""

from collections.abc import Collection
from datetime import datetime, time, timedelta
from enum import StrEnum
from functools import cache
from typing import Final
from zoneinfo import ZoneInfo

from sas_matcher.domain.vocabulary import AgeBand, Offer


class Counts(StrEnum):
    """Whom a limit counts."""

    PATIENTS = "patients"
    VISITS = "visits"
    CHILDREN = "children"


class Period(StrEnum):
    """For how long a limit counts."""

    DAY = "day"
    HALF_DAY = "half_day"


MIDDAY: Final = time(13)  # where the two halves of an agenda meet
_CHILD: Final = frozenset({AgeBand.NOURRISSON, AgeBand.ENFANT})
_FOR_CHILDREN: Final = frozenset({Offer.NOURRISSON, Offer.ENFANT})


def is_child(age_band: str | None, needs: Collection[str]) -> bool:
    """Tell whether a request is for a child: its age band says so, or it needs a place that takes children."""
    return age_band in _CHILD or not _FOR_CHILDREN.isdisjoint(needs)


@cache
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


def period_start(period: str, zone: str, instant: datetime) -> datetime:
    """Return when the day, or the half of it, began that an instant lies in, on the clock of a zone (IANA name)."""
    local = instant.astimezone(_zone(zone))
    begun = MIDDAY if period == Period.HALF_DAY and local.time() >= MIDDAY else time(0)
    return datetime.combine(local.date(), begun, _zone(zone))


def period_end(period: str, zone: str, start: datetime) -> datetime:
    """Return when the period ends that began at ``start``."""
    local = start.astimezone(_zone(zone))
    if period == Period.HALF_DAY and local.time() < MIDDAY:
        return datetime.combine(local.date(), MIDDAY, _zone(zone))
    return datetime.combine(local.date() + timedelta(days=1), time(0), _zone(zone))
