"""The machine: the one place where time and randomness enter the service, and how its processes end together."""

import ctypes
import os
import secrets
import signal
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import Final

CLOCK_AHEAD: Final = "SAS_TEST_CLOCK_AHEAD_S"
_PR_SET_PDEATHSIG: Final = 1  # <linux/prctl.h>


def end_with_parent(parent: int, number: signal.Signals = signal.SIGKILL) -> None:
    """Get a signal when the parent dies (Linux): a killed service leaves no process behind.

    To be called first, before anything that takes long. SIGKILL by default: what is acknowledged is committed, and the
    embedded servers end at the same time, so there is nothing to say goodbye to.

    Args:
        parent: process number of the parent as whoever starts this process knows it; the parent may be dead by now.
        number: the signal.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)
        if os.getppid() != parent:
            os.kill(os.getpid(), number)


class SystemClock:
    """Port ``Clock``: the machine's, put forward or back where a rehearsal plays another day.

    Attributes:
        ahead: how far, from ``SAS_TEST_CLOCK_AHEAD_S`` (seconds, negative for the past); nothing in ordinary service.
    """

    def __init__(self) -> None:
        self.ahead = timedelta(seconds=float(os.environ.get(CLOCK_AHEAD, "0")))

    def now(self) -> datetime:
        """Return the present instant."""
        return datetime.now(UTC) + self.ahead


class SystemIds:
    """Port ``Ids``: UUID version 7 (RFC 9562), made here so that every PostgreSQL from 15 on will do."""

    def uuid(self) -> str:
        """Return a new UUID: 48 bits of milliseconds, then 74 random bits."""
        value = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10))
        value = value & ~(0xF << 76) | 0x7 << 76
        value = value & ~(0x3 << 62) | 0x2 << 62
        text = f"{value:032x}"
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"

    def secret(self) -> str:
        """Return 256 random bits as 43 URL-safe characters."""
        return secrets.token_urlsafe(32)

    def key_id(self) -> str:
        """Return the public id of a new API key."""
        return secrets.token_hex(6)
