"""The instant that the service under test lives in, put forward for a rehearsal of another day; when to come again."""

import os
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

VARIABLE: Final = "SAS_TEST_CLOCK_AHEAD_S"
"""Seconds that the service and its load are ahead of the machine; may be negative."""


def now() -> float:
    """Return the service's present, in epoch seconds."""
    return time.time() + float(os.environ.get(VARIABLE, "0"))


def utc() -> datetime:
    """Return the service's present."""
    return datetime.fromtimestamp(now(), UTC)


def told_to_wait(status: int, headers: Mapping[str, str] | None) -> float:
    """Return the seconds after which a refused call may come again; 0 when it was not refused, or not told when."""
    said = (headers or {}).get("retry-after", "") if status in (429, 503) else ""
    return max(0.1, float(said)) if said.isdigit() else 0.0
