"""The two regimes of time: hours of the SAS, and permanence des soins (PDSA); with public holidays, overseas ones too.

Sources: weekdays 8–20 h and Saturday 8–12 h are the SAS's, nights, Sundays, public holidays and Saturday from noon the
PDSA's (facts of the field, §2); public holidays of code du travail art. L3133-1, of art. L3422-2 with décret 83-1003
overseas (abolition of slavery), and of Alsace-Moselle's local law. "Ponts" that an ARS declares are not known here.
"""

from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import Final, Literal
from zoneinfo import ZoneInfo

Hours = tuple[int, int]

WEEKDAY_HOURS: Final[Hours] = (8, 20)
SATURDAY_HOURS: Final[Hours] = (8, 12)
_NATIONAL: Final = frozenset({(1, 1), (5, 1), (5, 8), (7, 14), (8, 15), (11, 1), (11, 11), (12, 25)})
_AFTER_EASTER: Final = frozenset({1, 39, 50})  # days: Easter Monday, Ascension, Whit Monday
_ABOLITION: Final[Mapping[str, tuple[int, int]]] = {
    "971": (5, 27),
    "972": (5, 22),
    "973": (6, 10),
    "974": (12, 20),
    "976": (4, 27),
    "977": (10, 9),
    "978": (5, 28),
}
"""Month and day by the first three digits of a commune's code."""
_ALSACE_MOSELLE: Final = frozenset({"57", "67", "68"})


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


def is_public_holiday(day: date, insee: str = "") -> bool:
    """Whether a day is a public holiday: one of the eleven national ones, or one of a commune's part of the country."""
    after_easter = (day - easter(day.year)).days
    local = _ABOLITION.get(insee[:3]) == (day.month, day.day)
    if insee[:2] in _ALSACE_MOSELLE:
        local |= after_easter == -2 or (day.month, day.day) == (12, 26)
    return (day.month, day.day) in _NATIONAL or after_easter in _AFTER_EASTER or local


def sas_hours(day: date, insee: str = "") -> Hours | None:
    """SAS hours of a day as local (opening, closing) hours; ``None`` on Sundays and public holidays."""
    if day.weekday() == 6 or is_public_holiday(day, insee):
        return None
    return SATURDAY_HOURS if day.weekday() == 5 else WEEKDAY_HOURS


def regime(instant: datetime, zone: str, insee: str) -> Literal["sas", "pdsa"]:
    """Return in which regime an instant lies, on the clock of ``zone`` (IANA name), in a commune (INSEE code)."""
    local = instant.astimezone(ZoneInfo(zone))
    hours = sas_hours(local.date(), insee)
    return "sas" if hours is not None and hours[0] <= local.hour < hours[1] else "pdsa"


def week_of(instant: datetime, zone: str) -> tuple[str, date]:
    """Return the ISO week of an instant, as text (``2026-W48``), and its Monday, on the clock of a zone."""
    day = instant.astimezone(ZoneInfo(zone)).date()
    year, week, weekday = day.isocalendar()
    return f"{year}-W{week:02}", day - timedelta(days=weekday - 1)
