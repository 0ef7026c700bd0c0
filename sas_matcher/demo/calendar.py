"""Opening hours of the invented world, in each territory's own clock."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

Hours = tuple[int, int]

WEEKDAY_HOURS: Hours = (8, 20)
SATURDAY_HOURS: Hours = (8, 12)
"""SAS hours (local): weekdays 8-20 h, Saturday 8-12 h; the rest is permanence des soins (PDSA)."""


def easter(year: int) -> date:
    """Easter Sunday of the Gregorian calendar (Meeus, Jones and Butcher)."""
    a, (b, c) = year % 19, divmod(year, 100)
    d, e = divmod(b, 4)
    g = (8 * b + 13) // 25
    h = (19 * a + b - d - g + 15) % 30
    i, k = divmod(c, 4)
    m = (32 + 2 * e + 2 * i - h - k) % 7
    n = (a + 11 * h + 22 * m) // 451
    month, day = divmod(h + m - 7 * n + 114, 31)
    return date(year, month, day + 1)


def is_public_holiday(day: date) -> bool:
    """Whether ``day`` is one of the eleven national public holidays (code du travail, art. L3133-1)."""
    fixed = {(1, 1), (5, 1), (5, 8), (7, 14), (8, 15), (11, 1), (11, 11), (12, 25)}
    return (day.month, day.day) in fixed or (day - easter(day.year)).days in {1, 39, 50}


def sas_hours(day: date) -> Hours | None:
    """SAS hours of a day as local (opening, closing) hours; ``None`` on Sundays and public holidays."""
    if day.weekday() == 6 or is_public_holiday(day):
        return None
    return SATURDAY_HOURS if day.weekday() == 5 else WEEKDAY_HOURS


def opening(day: date, hours: Hours, timezone: str) -> tuple[datetime, int]:
    """Opening instant (UTC) and real length in minutes of local ``hours``; 24 is the next midnight.

    On a day of clock change the length counts the hour that is missing or comes twice.
    """
    zone = ZoneInfo(timezone)
    start, end = (
        datetime.combine(day + timedelta(days=hour // 24), time(hour % 24), zone).astimezone(UTC) for hour in hours
    )
    return start, int((end - start).total_seconds()) // 60


def local_texts(start: datetime, minutes: int, step: int, timezone: str) -> Sequence[str]:
    """ISO 8601 texts with the local offset for ``start`` and each ``step`` minutes after it, end included."""
    zone = ZoneInfo(timezone)
    return [
        (start + timedelta(minutes=m)).astimezone(zone).isoformat(timespec="seconds")
        for m in range(0, minutes + 1, step)
    ]
