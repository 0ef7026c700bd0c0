"""The instant that the service under test lives in: the machine's, put forward for a rehearsal of another day."""

import os
import time
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
