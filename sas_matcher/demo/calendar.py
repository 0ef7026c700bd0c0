"""Opening hours of the invented world, in each territory's own clock."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from sas_matcher.domain.duty import Hours


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
