"""The real clock and real ids: the one place where time and randomness enter the service."""

import os
import secrets
import time
from datetime import UTC, datetime


class SystemClock:
    """Port ``Clock``: the machine's."""

    def now(self) -> datetime:
        """Return the present instant."""
        return datetime.now(UTC)


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
