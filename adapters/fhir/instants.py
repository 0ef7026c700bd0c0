"""Instants on the wire: how we write them, and the ways they come in (contract, section 5.1).

Written: milliseconds and an explicit offset, never ``Z``. Read: with offset, literally; without, Europe/Paris; with a
space where a query string lost its ``+``; with or without milliseconds; with ``Z``.
"""

import re
from datetime import UTC, datetime, tzinfo
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from adapters.fhir.names import PARIS

WRITTEN: Final = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d"
"""The only form of a slot's instants (test kit of the ANS)."""

_READ = re.compile(
    r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d)(:\d\d)?(\.\d{1,9})?\s*(?:([zZ])|([+-]?)\s*(\d\d):?(\d\d))?", re.ASCII
)
_PARIS = ZoneInfo(PARIS)
_NONE: Final = "ce n'est pas un instant, par exemple 2026-01-12T09:00:00.000+01:00"
PREFIXES: Final = ("ge", "le")


class Bound(NamedTuple):
    """One bound of a search, inclusive."""

    prefix: str
    instant: datetime


def written(instant: datetime, zone: tzinfo = _PARIS) -> str:
    """Return an aware instant as a slot's ``start`` and ``end`` are written, in the local time of a place."""
    return instant.astimezone(zone).isoformat(timespec="milliseconds")


def read_instant(text: str) -> datetime:
    """Read an instant in any form seen on this wire; returns it in UTC.

    Raises:
        ValueError: it is none, or a date alone.
    """
    match = _READ.fullmatch(text.strip())
    if match is None:
        raise ValueError(_NONE)
    try:
        return _instant(match)
    except (ValueError, OverflowError):
        # month 13, hour 25, or a year that UTC pushes out of the calendar
        raise ValueError(_NONE) from None


def _instant(match: re.Match[str]) -> datetime:
    day, minute, second, fraction, zulu, sign, hours, minutes = match.groups()
    # Python reads six digits of a fraction at the most
    plain = f"{day}T{minute}{second or ':00'}{(fraction or '')[:7]}"
    if zulu:
        return datetime.fromisoformat(f"{plain}+00:00")
    if hours is None:
        return datetime.fromisoformat(plain).replace(tzinfo=_PARIS).astimezone(UTC)
    # a bare "+" in a query string decodes to a space
    return datetime.fromisoformat(f"{plain}{sign or '+'}{hours}:{minutes}").astimezone(UTC)


def read_bound(text: str) -> Bound:
    """Read a bound such as ``ge2026-01-12T09:00:00.000+01:00``.

    Raises:
        ValueError: another prefix than ``ge`` and ``le``, or no instant.
    """
    prefix, rest = text.strip()[:2], text.strip()[2:]
    if prefix not in PREFIXES:
        raise ValueError("la borne commence par ge (à partir de) ou le (jusqu'à)")
    return Bound(prefix, read_instant(rest))
